"""The composition root of the control plane: the only place that builds and wires things.

python -m trana.jobs --help
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog

from trana.jobs import logs
from trana.jobs.api.admission import Admission
from trana.jobs.api.bundle_service import BundleService
from trana.jobs.api.job_service import JobService
from trana.jobs.api.server import Server
from trana.jobs.bundles.shelf import Shelf
from trana.jobs.cluster.cluster import Cluster
from trana.jobs.cluster.contract import ClusterSettings, ClusterUnreachable, FolderInUse
from trana.jobs.controller.loop import Controller
from trana.jobs.controller.seams import ControllerSettings
from trana.jobs.domain.changes import Change
from trana.jobs.domain.job import JobRecord
from trana.jobs.metrics.live import Known
from trana.jobs.metrics.metrics import Metrics
from trana.jobs.scheduling.ledger import Node
from trana.jobs.settings import EMBEDDED, Settings, SettingsError
from trana.jobs.store.store import Store
from trana.jobs.tracing.tracing import Tracing, TracingError, open_tracing
from trana.jobs.wakeups import Bell, Wakeups

log = structlog.get_logger("trana.jobs")
FIRST_CONTACT_SECONDS = 30.0


def clock() -> datetime:
    """The time, aware, in UTC."""
    return datetime.now(UTC)


class Capacity:
    """What the cluster has, as it was last seen; None where it never was."""

    def __init__(self, cluster: Cluster, bell: Bell) -> None:
        self._cluster = cluster
        self._bell = bell
        self._seen: Sequence[Node] | None = None
        self._patience = asyncio.get_running_loop().time() + FIRST_CONTACT_SECONDS

    async def nodes(self) -> Sequence[Node] | None:
        """Asks the cluster; where it cannot be reached, tells what it had before.

        A service that has just started waits for its cluster a little, so as not to accept what can never run.
        """
        now = asyncio.get_running_loop().time
        while self._seen is None and not self._cluster.reachable and now() < self._patience:
            await self._bell.wait(self._bell.ticket, seconds=0.5)
        if self._cluster.reachable:
            with suppress(ClusterUnreachable):
                self._seen = await self._cluster.nodes()
        return self._seen


async def _unknown() -> None:
    """What a cluster that grows will have: a job that is too large for it today waits, and is not refused."""


async def serve(settings: Settings, tracing: Tracing) -> None:
    """Runs the service until SIGTERM or SIGINT, then drains it."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _on_signal, stop)
    wakeups = Wakeups()
    jobs_folder, bundles_folder = settings.folder / "jobs", settings.folder / "bundles"
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, tracing.close)
        metrics, store = await _memory(settings, wakeups, tracing, stack)
        cluster = Cluster(_cluster_settings(settings), on_change=wakeups.controller.ring)
        await cluster.start()
        # Whoever joins a cluster leaves the attempts to the process that comes after.
        stack.push_async_callback(cluster.stop, keep_attempts=settings.ray_address != EMBEDDED)
        controller = Controller(
            store=store,
            cluster=cluster,
            bell=wakeups.controller,
            clock=clock,
            observer=metrics,
            settings=ControllerSettings(
                jobs_folder=jobs_folder,
                bundles_folder=bundles_folder,
                check_timeout_seconds=settings.check_timeout_seconds,
                start_timeout_seconds=settings.start_timeout_seconds,
                cancel_grace_seconds=settings.cancel_grace_seconds,
                autoscaling=settings.autoscaling,
            ),
        )
        loop = asyncio.create_task(controller.run())
        stack.push_async_callback(_ended, loop)
        nodes = _unknown if settings.autoscaling else Capacity(cluster, wakeups.controller).nodes
        shelf = Shelf(bundles_folder)
        shelf.tidy()
        admission = Admission(shelf=shelf, jobs_folder=jobs_folder, allow_code=settings.allow_code)
        service = JobService(
            store=store,
            wakeups=wakeups,
            nodes=nodes,
            clock=clock,
            jobs_folder=jobs_folder,
            admission=admission,
            on_delivery=metrics.delivered,
            traceparent=tracing.traceparent,
        )
        bundles = BundleService(shelf=shelf, allow_code=settings.allow_code)
        server = Server(service, bundles, observer=metrics.rpc, listen=settings.listen, tracing=tracing)
        metrics_listen = _serve_metrics(settings, metrics, stack)
        port = await server.start()
        stack.push_async_callback(server.stop, drain_seconds=settings.drain_seconds)
        listen = f"{_host(settings.listen)}:{port}"
        log.info("serving", listen=listen, home=str(settings.folder), ray=settings.ray_address)
        listening = {"listen": listen, "metrics_listen": metrics_listen}
        announced = asyncio.create_task(_announce(settings, listening, cluster=cluster, bell=wakeups.controller))
        stack.push_async_callback(_ended, announced)
        await _first(stop, loop, announced)
        log.info("stopping")
    log.info("stopped")


def _on_signal(stop: asyncio.Event) -> None:
    """The first signal stops in good order; the second at once, for all that matters is in the store."""
    if stop.is_set():
        log.warning("stopped at once")
        os._exit(1)
    stop.set()


async def _memory(
    settings: Settings, wakeups: Wakeups, tracing: Tracing, stack: AsyncExitStack
) -> tuple[Metrics, Store]:
    """The store, and the metrics and traces that follow it."""
    metrics = Metrics(clock, traces=tracing)

    def on_change(change: Change) -> None:
        metrics.changed(change)
        tracing.changed(change)
        wakeups.ring_job(change.record.id)

    try:
        settings.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot use --home {settings.folder}: {error.strerror}") from error
    store = await Store.open(settings.folder / "trana.db", on_change=on_change, observe=metrics.operated)
    stack.push_async_callback(store.close)
    live = [await _known(store, record) for record in await store.live_jobs()]
    metrics.restore(await store.count_by_state(), live)
    return metrics, store


async def _known(store: Store, record: JobRecord) -> Known:
    """What the store has of a job that lives; of one that has not started yet, its row."""
    if not record.attempt:
        return Known(record)
    last = await store.epochs(record.id, after=record.epoch - 1, limit=1)
    attempt = await store.attempt(record.key)
    return Known(record, last[0] if last else None, attempt, await store.checkpoints(record.id))


def _cluster_settings(settings: Settings) -> ClusterSettings:
    return ClusterSettings(
        address=settings.ray_address,
        num_cpus=settings.num_cpus,
        num_gpus=settings.num_gpus,
        folder=settings.folder / "cluster",
        auth_token_path=settings.ray_token_path,
    )


def _serve_metrics(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> str:
    """Serves /metrics until the stack unwinds; returns the address."""
    host, _, port = settings.metrics_listen.rpartition(":")
    try:
        server = metrics.serve(host, int(port))
    except OSError as error:
        raise OSError(f"cannot listen on --metrics-listen {settings.metrics_listen}: {error.strerror}") from error
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    log.info("metrics", url=f"http://{host}:{server.server_port}/metrics")
    return f"{host}:{server.server_port}"


async def _announce(settings: Settings, listening: Mapping[str, str], *, cluster: Cluster, bell: Bell) -> None:
    """Says that all is ready once the cluster has been seen, or has long not been."""
    deadline = asyncio.get_running_loop().time() + FIRST_CONTACT_SECONDS
    while not cluster.reachable and asyncio.get_running_loop().time() < deadline:
        await bell.wait(bell.ticket, seconds=1.0)
    log.info("ready" if cluster.reachable else "ready, but the cluster cannot be reached yet")
    if settings.ready_file is not None:
        _write(settings.ready_file, json.dumps({**listening, "pid": os.getpid()}))


def _write(path: Path, text: str) -> None:
    """Whoever waits for the file never reads half of it."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    aside.write_text(text)
    aside.replace(path)


async def _first(stop: asyncio.Event, loop: asyncio.Task[None], announced: asyncio.Task[None]) -> None:
    """Waits for the signal to stop; what ends before it has failed, and ends the service loudly."""
    asked = asyncio.create_task(stop.wait())
    try:
        watched: set[asyncio.Task[None] | asyncio.Task[bool]] = {asked, loop, announced}
        while not asked.done():
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            watched -= {announced}
            if loop.done():
                raise RuntimeError("the controller has ended")
    finally:
        asked.cancel()


async def _ended(task: asyncio.Task[None]) -> None:
    """Ends a task, however often it must be told: a library may swallow a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
    with suppress(asyncio.CancelledError):
        await task


def _host(listen: str) -> str:
    return listen.rpartition(":")[0]


def main() -> int:
    """The process; returns its exit code: 0 stopped as asked, 1 the service could not go on, 2 wrong usage."""
    try:
        settings = Settings.read()
        tracing = open_tracing(on=settings.tracing)
    except (SettingsError, TracingError) as error:
        sys.stderr.write(f"cannot serve: {error}\n")
        return 2
    logs.configure(style=settings.log_format, level=settings.log_level)
    try:
        asyncio.run(serve(settings, tracing))
    except (OSError, FolderInUse) as error:
        log.error("cannot serve", error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The gRPC server: services, health, reflection, limits, and a stop that drains."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from trana.jobs.api.bundle_service import BundleService
from trana.jobs.api.interceptor import CallTracing, Edge, RpcObserver
from trana.jobs.api.job_service import JobService
from trana.v1 import bundle_service_pb2, bundle_service_pb2_grpc, job_service_pb2, job_service_pb2_grpc

# A network of a million layers must arrive to be refused for what is wrong with it.
MAX_REQUEST_BYTES = 32 * 1024 * 1024
SERVICE = job_service_pb2.DESCRIPTOR.services_by_name["JobService"].full_name
BUNDLE_SERVICE = bundle_service_pb2.DESCRIPTOR.services_by_name["BundleService"].full_name
SERVING = health_pb2.HealthCheckResponse.SERVING


class Server:
    """Serves JobService and BundleService on one address."""

    def __init__(
        self,
        jobs: JobService,
        bundles: BundleService,
        *,
        observer: RpcObserver,
        listen: str,
        tracing: CallTracing | None = None,
    ) -> None:
        self._jobs = jobs
        self._health = HealthServicer()
        # No port is shared: a second service on the same address must fail, not take half of the calls.
        options = [
            ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
            ("grpc.so_reuseport", 0),
            # A watcher whose machine vanished would keep its stream for hours.
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
        ]
        self._server = grpc.aio.server(interceptors=[Edge(observer, tracing)], options=options)
        job_service_pb2_grpc.add_JobServiceServicer_to_server(jobs, self._server)
        bundle_service_pb2_grpc.add_BundleServiceServicer_to_server(bundles, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (
            SERVICE,
            BUNDLE_SERVICE,
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            reflection.SERVICE_NAME,
        )
        reflection.enable_server_reflection(names, self._server)
        self._listen = listen

    async def start(self) -> int:
        """Serves, and returns the port.

        Raises:
            OSError: the address cannot be had.
        """
        try:
            port = self._server.add_insecure_port(self._listen)
        except RuntimeError as error:
            raise OSError(f"cannot listen on --listen {self._listen}: is another service there?") from error
        await self._server.start()
        for name in ("", SERVICE, BUNDLE_SERVICE):
            await self._health.set(name, SERVING)
        return port

    async def stop(self, *, drain_seconds: float) -> None:
        """Says NOT_SERVING, ends the streams, lets running calls finish, and closes."""
        await self._health.enter_graceful_shutdown()
        self._jobs.stop()
        await self._server.stop(drain_seconds)

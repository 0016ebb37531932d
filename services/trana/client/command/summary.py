"""What a job came to, in a few lines."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rich.table import Table
from rich.text import Text

from trana.client.command.verdicts import Rows, verdict_rows, warning_rows
from trana.client.words import (
    STATE_STYLES,
    cause_name,
    duration,
    job_id,
    local_time,
    number,
    of_epochs,
    resources,
    state_name,
    stop_reason,
)
from trana.v1 import checkpoint_pb2, code_pb2, job_pb2, training_pb2

_BUNDLE_CHARACTERS = len("bundles/") + 12


def job_table(job: job_pb2.Job, *, logs: str = "") -> Table:
    """Lays out everything about a job that people ask for.

    Args:
        job: The job.
        logs: How to read its workers' logs; empty where that is not wanted.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    state = state_name(job.state)
    rows: Rows = [
        ("job", Text(job_id(job.name), "bold")),
        ("display name", job.spec.display_name),
        ("state", Text(state, STATE_STYLES.get(state, ""))),
        ("cause", Text(cause_name(job.cause), "red")),
        ("message", Text(job.message)),
        ("network", _network(job)),
        ("dataset", _dataset(job)),
        ("training", _training(job)),
        ("code", _code(job.spec.training.code)),
        ("runs on", resources(job.spec)),
        ("labels", ", ".join(f"{key}={value}" for key, value in sorted(job.spec.labels.items()))),
        ("priority", str(job.spec.priority) if job.spec.HasField("priority") else "50"),
        ("attempt", str(job.attempt or "")),
        ("epochs", of_epochs(job.epoch, job.spec.training.epochs, " of ")),
        *_result_rows(job),
        *verdict_rows(job),
        *warning_rows(job),
        *_times(job),
        ("logs", logs),
    ]
    _fill(table, rows)
    return table


def verdict_table(job: job_pb2.Job) -> Table | None:
    """Lays out what a job that has ended is told of its fit, as short as can be; None where there is no verdict."""
    rows = [*verdict_rows(job, short=True), *warning_rows(job)]
    if not rows:
        return None
    table = Table.grid(padding=(0, 2))
    # As wide as the names of `result_lines`, which stand above.
    widest = max(len(name) for name, _ in [*_result_rows(job), *rows])
    table.add_column(style="dim", no_wrap=True, min_width=widest)
    table.add_column(overflow="fold")
    _fill(table, rows)
    return table


def _fill(table: Table, rows: Rows) -> None:
    for name, value in rows:
        if value:
            table.add_row(name, Text(value) if isinstance(value, str) else value)


def _result_rows(job: job_pb2.Job) -> list[tuple[str, str | Text]]:
    """Returns what the training gave, losses with every digit."""
    rows: list[tuple[str, str | Text]] = []
    if job.HasField("best_val_loss"):
        best = f"{job.best_val_loss!r} (epoch {job.best_epoch})"
        rows.append(("best validation loss", Text(best, "green")))
    for name, value in sorted(job.result.test_metrics.items()):
        rows.append((name.replace("_", " "), Text(repr(value), "green")))
    if job.result.stop_reason:
        rows.append(("ended by", stop_reason(job)))
    return rows


def result_lines(job: job_pb2.Job, checkpoints: Sequence[checkpoint_pb2.Checkpoint]) -> list[Text]:
    """Writes what one wants to know when a job has ended, and where its best checkpoint is.

    Lines, not a table: a table breaks a long path, and a broken path cannot be copied.
    """
    rows = _result_rows(job)
    for checkpoint in checkpoints:
        if checkpoint.kind == checkpoint_pb2.CHECKPOINT_KIND_BEST:
            rows.append(("checkpoint", unquote(urlsplit(checkpoint.uri).path) or checkpoint.uri))
    widest = max((len(name) for name, _ in rows), default=0)
    return [Text.assemble((name.ljust(widest + 2), "dim"), value) for name, value in rows]


def asks_for_logs(job: job_pb2.Job) -> bool:
    """Whether there are logs that one wants to read: what the user's code has printed, or why an attempt failed."""
    return job.attempt > 0 and (job.state == job_pb2.JOB_STATE_FAILED or bool(job.spec.training.code.bundle))


def logs_of(job: job_pb2.Job, checkpoints: Sequence[checkpoint_pb2.Checkpoint]) -> str:
    """Returns the folder of the last attempt's logs, which lies beside the checkpoints; empty where there are none."""
    for checkpoint in checkpoints:
        parts = urlsplit(checkpoint.uri)
        home, found, _ = unquote(parts.path).rpartition(f"/{job.name}/checkpoints/")
        if parts.scheme == "file" and found:
            return logs_below(home, job)
    return ""


def logs_below(home: str, job: job_pb2.Job) -> str:
    """Returns the folder of the last attempt's logs in a service's home."""
    return f"{home}/{job.name}/logs/attempt-{job.attempt}/"


def load_lines(job: job_pb2.Job, checkpoints: Sequence[checkpoint_pb2.Checkpoint]) -> list[str]:
    """Returns lines of Python that load the weights of the best checkpoint, where it lies on this machine."""
    for checkpoint in checkpoints:
        if checkpoint.kind == checkpoint_pb2.CHECKPOINT_KIND_BEST:
            path = Path(unquote(urlsplit(checkpoint.uri).path)) / "network.safetensors"
            return [
                f"Load it into {_network_of(job.spec.training)}:",
                "  from safetensors.torch import load_file",
                f'  network.load_state_dict(load_file("{path}"))',
            ]
    return []


def _network_of(training: training_pb2.TrainingSpec) -> str:
    """Says whose state the weights are."""
    if training.HasField("module"):
        return f"the network that {training.module.entrypoint} makes"
    if training.HasField("network"):
        return "a torch.nn.Sequential of the spec's layers"
    return f"the network of {training.loop.entrypoint}"


def _network(job: job_pb2.Job) -> str:
    parameters = f"; {number(job.num_parameters, 'parameter')}" if job.num_parameters else ""
    training = job.spec.training
    if not training.HasField("network"):
        return (training.module.entrypoint or "the loop's own") + parameters
    layers = training.network.layers
    kinds = [str(layer.WhichOneof("kind")) for layer in layers]
    shown = ", ".join(kinds[:12]) + (", ..." if len(kinds) > 12 else "")
    return f"{number(len(kinds), 'layer')}: {shown}{parameters}"


def _dataset(job: job_pb2.Job) -> str:
    dataset = job.spec.training.dataset
    kind = dataset.WhichOneof("format")
    uri = getattr(dataset, kind).uri if kind else ""
    samples = f"; {number(job.num_train, 'training sample')}" if job.num_train else ""
    others = {"validation": job.num_validation, "test": job.num_test}
    samples += "".join(f", {count:,} {name}" for name, count in others.items() if count)
    target = f", target {dataset.target}" if dataset.target else ""
    return f"{uri}{target}{samples}" if uri else ""


def _training(job: job_pb2.Job) -> str:
    training = job.spec.training
    kind = training.optimizer.WhichOneof("kind")
    parts = [
        f"loop {training.loop.entrypoint}" if training.HasField("loop") else "",
        training.loss.WhichOneof("kind") or "",
        f"{kind} at {getattr(training.optimizer, kind).learning_rate:g}" if kind else "",
        f"batches of {training.global_batch_size}" if training.global_batch_size else "",
    ]
    return ", ".join(filter(None, parts))


def _code(code: code_pb2.Code) -> str:
    """Writes which bundle it is, as far as a person compares, and what is installed beside it."""
    packages = f", with {', '.join(code.pip)}" if code.pip else ""
    return f"{code.bundle[:_BUNDLE_CHARACTERS]}{packages}" if code.bundle else ""


def _times(job: job_pb2.Job) -> list[tuple[str, str | Text]]:
    rows: list[tuple[str, str | Text]] = []
    moments = {"created": job.create_time, "started": job.start_time, "ended": job.end_time}
    for name, moment in moments.items():
        # A moment that has not come is the beginning of 1970.
        if moment.seconds:
            rows.append((name, f"{local_time(moment):%Y-%m-%d %H:%M:%S}"))
    if job.HasField("start_time") and job.HasField("end_time"):
        # Of the moments as they are shown, to the second: else 17.1 to 22.9 would have taken 6 s.
        rows.append(("took", duration(job.end_time.seconds - job.start_time.seconds)))
    return rows

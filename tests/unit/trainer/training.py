"""Trains in the test's own process, with one worker."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from trana.trainer.place import Place
from trana.trainer.train import train
from trana.v1 import checkpoint_pb2, epoch_pb2, report_pb2, training_pb2


@dataclass
class Trained:
    """What a training told, and where it kept its checkpoints."""

    reports: list[report_pb2.Report]
    folder: Path

    @property
    def epochs(self) -> list[epoch_pb2.Epoch]:
        return [report.epoch for report in self.reports if report.HasField("epoch")]

    @property
    def checkpoints(self) -> list[checkpoint_pb2.Checkpoint]:
        return [report.checkpoint for report in self.reports if report.HasField("checkpoint")]

    @property
    def result(self) -> report_pb2.TrainingResult:
        (result,) = [report.result for report in self.reports if report.HasField("result")]
        return result

    @property
    def kinds(self) -> list[str]:
        return [str(report.WhichOneof("payload")) for report in self.reports]

    def file(self, kind: str, name: str) -> bytes:
        return (self.folder / "checkpoints" / kind / name).read_bytes()


class Killed(Exception):
    """Ends a training as a lost process would: between two lines, with nothing tidied up."""


def place(
    folder: Path, *, attempt: int = 1, should_stop: Callable[[], bool] = lambda: False, code: Path | None = None
) -> Place:
    device = torch.device("cpu")
    return Place(
        rank=0, world_size=1, device=device, folder=folder, attempt=attempt, should_stop=should_stop, code=code
    )


def run(
    spec: training_pb2.TrainingSpec,
    folder: Path,
    *,
    attempt: int = 1,
    kill_after: int | None = None,
    stop_after: int | None = None,
    on_last: Callable[[Path], None] = lambda folder: None,
    told: list[report_pb2.Report] | None = None,
) -> Trained:
    """Trains until the end, or until the report of an epoch kills it or asks it to stop.

    What is given as `on_last` is called with the folder of each last checkpoint; `told` takes the reports, for a
    training that raises.
    """
    trained = Trained([] if told is None else told, folder)

    def report(message: report_pb2.Report) -> None:
        trained.reports.append(message)
        if message.checkpoint.kind == checkpoint_pb2.CHECKPOINT_KIND_LAST:
            on_last(Path(message.checkpoint.uri.removeprefix("file://")))
        if kill_after and message.epoch.epoch == kill_after:
            raise Killed

    def should_stop() -> bool:
        return bool(stop_after) and any(epoch.epoch == stop_after for epoch in trained.epochs)

    with contextlib.suppress(Killed):
        train(spec, report, place(folder, attempt=attempt, should_stop=should_stop))
    return trained

"""Trains a job without the service: `torchrun --nproc-per-node 2 -m trana.trainer job.yaml`."""

import argparse
import math
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TextIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

from trana.spec.read import SpecError, read_job
from trana.spec.validate import validate
from trana.spec.violation import Violation
from trana.trainer.errors import OtherSpecError, TrainingError
from trana.v1 import epoch_pb2, fit_pb2, job_pb2, report_pb2

_EXAMPLE = """\
examples:
  torchrun --nproc-per-node 2 -m trana.trainer deploy/examples/iris.yaml
  python -m trana.trainer deploy/examples/iris.yaml --folder /tmp/iris --fresh

One process is one worker; their number is torchrun's, whatever the job's resources say. Ctrl-C stops after the
current step; the same command goes on from the last checkpoint.
"""

# Ctrl-C reaches a worker twice: from the terminal, and from torchrun, which hands on its own.
_SAME_SIGNAL_SECONDS = 2.0

_OTHER_SPEC = ": --fresh removes them, --folder names another one"


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns 0 when the training ended or was stopped, 1 when it failed, 2 for a wrong job."""
    options = _parse(arguments)
    job = _read(options.job)
    if job is None:
        return 2
    code = _find_code(job)
    rank, world_size = _environ("RANK", 0), _environ("WORLD_SIZE", 1)
    # The working directory becomes that of the user's code, where there is any.
    folder = Path(options.folder or Path(".trana", "trainer", _name(options.job))).resolve()
    if rank == 0 and options.fresh:
        _clear(folder)
    stopping = _Stopping()
    attempt = _next_attempt(folder)
    # Imported late: torch takes a second that --help and a wrong job need not wait for.
    from trana.trainer.worker import run

    try:
        run(
            spec=job.training.SerializeToString(),
            rank=rank,
            world_size=world_size,
            local_rank=_environ("LOCAL_RANK", 0),
            master_address=os.environ.get("MASTER_ADDR", "127.0.0.1"),
            master_port=_environ("MASTER_PORT", 29500),
            num_threads=max(job.resources.cpus_per_worker, 1),
            use_gpu=job.resources.gpus_per_worker > 0,
            folder=str(folder),
            attempt=attempt,
            report=Printer(job.training.epochs, folder, attempt),
            should_stop=stopping,
            code=code,
        )
    except TrainingError as error:
        hint = _OTHER_SPEC if isinstance(error, OtherSpecError) else ""
        _say("\n".join([f"worker {rank}: {error}{hint}", *getattr(error, "__notes__", [])]), sys.stderr)
        return 1
    return 0


class _Stopping:
    """Says whether Ctrl-C or SIGTERM came; another one, later, ends the process at once."""

    def __init__(self) -> None:
        self._asked: float | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def __call__(self) -> bool:
        return self._asked is not None

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self._asked is None:
            self._asked = time.monotonic()
        elif time.monotonic() - self._asked > _SAME_SIGNAL_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


class Printer:
    """Writes rank 0's reports as lines for people.

    Args:
        epochs: Those that the job asks for.
        folder: Where its checkpoints are kept.
        attempt: Number of this try at the job.
    """

    def __init__(self, epochs: int, folder: Path, attempt: int) -> None:
        self._epochs = epochs
        self._folder = folder
        self._attempt = attempt
        self._fit = fit_pb2.FitVerdict()

    def __call__(self, message: bytes) -> None:
        """Writes what there is to say of a serialised report."""
        report = report_pb2.Report.FromString(message)
        match report.WhichOneof("payload"):
            case "first_step":
                self._first_step(report.first_step)
            case "epoch":
                self._epoch(report.epoch)
            case "fit":
                self._follow(report.fit)
            case "result":
                self._result(report.result)

    def _first_step(self, first: report_pb2.FirstStep) -> None:
        if first.resumed_from_epoch:
            _say(f"goes on after epoch {first.resumed_from_epoch} of the attempt before (--fresh starts anew)")
        # A loop that brings its own network, or its own data, does not tell their size.
        network = f"{first.num_parameters:,} parameters; " if first.num_parameters else ""
        samples = f"{first.num_train:,} samples train, {first.num_validation:,} validate, {first.num_test:,} test"
        told = network + (samples if first.num_train else "")
        if told:
            _say(told.removesuffix("; "))

    def _epoch(self, epoch: epoch_pb2.Epoch) -> None:
        if epoch.attempt != self._attempt:
            # Told again for a service that may not have heard it; a person has.
            return
        metrics = "".join(f"  {name} {value:.4f}" for name, value in sorted(epoch.metrics.items()))
        _say(
            f"epoch {epoch.epoch:>{len(str(self._epochs))}}/{self._epochs}  train_loss {epoch.train_loss:.6f}  "
            f"val_loss {epoch.val_loss:.6f}{metrics}  {epoch.samples_per_second:,.0f} samples/s"
            f"{'  best' if epoch.best else ''}"
        )

    def _follow(self, fit: fit_pb2.FitVerdict) -> None:
        """Says what the curve tells, when that changes; no word of its beginning, which tells nothing yet."""
        changed = fit.label != (self._fit.label or fit_pb2.FIT_LABEL_UNDETERMINED)
        self._fit = fit
        if changed:
            _say(_describe(fit))

    def _result(self, result: report_pb2.TrainingResult) -> None:
        _say(_REASONS[result.stop_reason])
        if not result.best_epoch:
            _say("no epoch was finished, so there is no checkpoint")
            return
        _say(f"best validation loss: {result.best_val_loss!r} (epoch {result.best_epoch})")
        for name, value in sorted(result.test_metrics.items()):
            _say(f"{name}: {value!r}")
        if self._fit.label:
            _say(" ".join([f"{_describe(self._fit)}.", *self._fit.evidence]))
        for advice in self._fit.advice[:1]:
            _say(f"advice: {advice.text}")
        _say(f"checkpoint: {self._folder.resolve() / 'checkpoints' / 'best'}")


def _describe(fit: fit_pb2.FitVerdict) -> str:
    onset = f" since epoch {fit.onset_epoch}" if fit.onset_epoch else ""
    label = fit_pb2.FitLabel.Name(fit.label).removeprefix("FIT_LABEL_")
    # Rounded down: 0.7499 does not end a training that 0.75 ends.
    confidence = math.floor(100 * fit.confidence + 1e-9) / 100
    return f"fit: {label}{onset} (confidence {confidence:.2f}, as of epoch {fit.epoch})"


_REASONS = {
    report_pb2.STOP_REASON_EPOCHS_DONE: "all epochs are done",
    report_pb2.STOP_REASON_EARLY_STOPPING: "stopped early: the validation loss no longer improves",
    report_pb2.STOP_REASON_VERDICT: "stopped by the verdict: the network overfits",
    report_pb2.STOP_REASON_REQUESTED: "stopped on request; the same command goes on from the last checkpoint",
}


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trana.trainer",
        description="Train a job on this machine, without the service; under torchrun, with several workers.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("job", type=Path, metavar="JOB.yaml", help="the job, as `trana submit` takes it")
    parser.add_argument(
        "--folder",
        type=Path,
        help="where checkpoints are kept; .trana/trainer/<name of the job's file, or of its folder if that is job.yaml>"
        " where unset",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="remove the checkpoints there first, rather than go on from them"
    )
    return parser.parse_args(arguments)


def _read(path: Path) -> job_pb2.JobSpec | None:
    """Reads a job; says what is wrong with it, and returns None, where it is not valid."""
    try:
        job = read_job(path)
    except (SpecError, OSError) as error:
        _say(str(error), sys.stderr)
        return None
    violations = validate(job)
    if job.training.code.bundle.startswith("bundles/"):
        description = f"{job.training.code.bundle} lies with the service; name a folder, a zip or a .py file here"
        violations.append(Violation("training.code.bundle", description, "code.bundle"))
    for violation in violations:
        _say(f"{path}: {violation.field}: {violation.description}", sys.stderr)
    return None if violations else job


def _find_code(job: job_pb2.JobSpec) -> str | None:
    """Returns the path of the job's code; None where it has none."""
    bundle = job.training.code.bundle
    return url2pathname(urlsplit(bundle).path) if bundle else None


def _name(job: Path) -> str:
    """Returns what to call a job: by its file, or by its folder where the files of many have one name."""
    return job.resolve().parent.name if job.stem == "job" else job.stem


def _clear(folder: Path) -> None:
    """Removes what a training leaves in its folder, and nothing else: the folder may be anyone's."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / "attempt").unlink(missing_ok=True)


def _next_attempt(folder: Path) -> int:
    newest = folder / "attempt"
    return int(newest.read_text()) + 1 if newest.exists() else 1


def _environ(name: str, default: int) -> int:
    """Reads what torchrun tells its processes."""
    return int(os.environ.get(name, default))


def _say(text: str, stream: TextIO | None = None) -> None:
    print(text, file=stream, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""`trana evaluate`, `trana predict` and `trana export`: the trainer's own command, on a checkpoint from anywhere."""

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from trana.client.command.endings import ExitCode, fail
from trana.client.command.options import OutputOption, ServerOption, Settings, examples, settings_of

# By name: it is another program, and its packages need not be there where only the client is.
_MODULE = "trana.trainer.scoring"
_SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt", "safetensors": ".safetensors"}
_PREDICTION_SUFFIXES = (".csv", ".parquet")
_OF_A_JOB = re.compile(r"(?:jobs/)?(?P<job>[a-z0-9-]{1,63})(?:/checkpoints/(?P<kind>best|last))?")


class Format(StrEnum):
    """What a network is written as."""

    ONNX = "onnx"
    TORCHSCRIPT = "torchscript"
    SAFETENSORS = "safetensors"


class Device(StrEnum):
    """Where the network computes."""

    CPU = "cpu"
    CUDA = "cuda"


CheckpointArgument = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT", help="A checkpoint's folder; or a job, such as iris or jobs/iris/checkpoints/last."
    ),
]
DataArgument = Annotated[
    str, typer.Argument(metavar="DATA", help="Path or URI: CSV, Parquet, NPZ, safetensors, or a folder of images.")
]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where the network computes.")]
AllowCodeOption = Annotated[
    bool, typer.Option("--allow-code", help="Let the code in the checkpoint run here, with all your rights.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(
        epilog=examples("trana evaluate iris new.csv", "trana evaluate iris-best s3://bucket/new.parquet -o json")
    )(evaluate)
    app.command(
        epilog=examples("trana predict iris raw.csv", "trana predict iris-best raw.parquet --to predictions.parquet")
    )(predict)
    app.command(
        epilog=examples(
            "trana export iris --format onnx", "trana export iris-best --format safetensors --to iris.safetensors"
        )
    )(export)


def evaluate(
    context: typer.Context,
    checkpoint: CheckpointArgument,
    data: DataArgument,
    device: DeviceOption = Device.CPU,
    allow_code: AllowCodeOption = False,
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """Measure a checkpoint on other samples: the loss and the spec's metrics, as the service measures them.

    The data are raw, with the columns of the training and its target; the checkpoint knows how to prepare them.
    """
    settings = settings_of(context, server, output)
    with _found(checkpoint, settings) as found:
        _run("evaluate", found, data, "--device", device, settings=settings, allow_code=allow_code)


def predict(
    context: typer.Context,
    checkpoint: CheckpointArgument,
    data: DataArgument,
    to: Annotated[
        str, typer.Option("--to", metavar="FILE", help="FILE.csv or FILE.parquet; - writes CSV to standard output.")
    ] = "-",
    device: DeviceOption = Device.CPU,
    allow_code: AllowCodeOption = False,
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """Predict raw samples, with no target column needed: a row for each, in the file's order.

    Its columns are row (from 0), prediction, and of a class the probability_CLASS of each.
    """
    if to != "-" and Path(to).suffix.lower() not in _PREDICTION_SUFFIXES:
        message = f"a file must end in {' or '.join(_PREDICTION_SUFFIXES)}, not as {to!r}"
        raise typer.BadParameter(message, param_hint="--to")
    settings = settings_of(context, server, output)
    with _found(checkpoint, settings) as found:
        _run("predict", found, data, "--to", to, "--device", device, settings=settings, allow_code=allow_code)


def export(
    context: typer.Context,
    checkpoint: CheckpointArgument,
    kind: Annotated[Format, typer.Option("--format", help="What to write.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="The file; named after the checkpoint where not given.")
    ] = None,
    allow_code: AllowCodeOption = False,
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """Write a checkpoint's network for other programs, and say what it takes and gives.

    ONNX and TorchScript are the network, with the preprocessing in it where that is arithmetic; safetensors are the
    weights, with the spec, the classes and the preprocessing as JSON in the metadata.

    Where the network does not hold it, as with categories, the file
    FILE.preprocessing.json says in decimals how to make each column, in order:
    "fill" takes the place of a missing value; a "number" becomes
    (value - offset) / divisor, or 0 where the divisor is null; a "category"
    becomes 1 for its value among "values", and 0 for each of the others.
    """
    settings = settings_of(context, server, output)
    with _found(checkpoint, settings) as found:
        path = to or Path(f"{found.folder.name}{_SUFFIXES[kind.value]}")
        _run("export", found, "--format", kind, "--to", str(path), settings=settings, allow_code=allow_code)


@dataclass(frozen=True, slots=True)
class _Found:
    """A checkpoint on this machine.

    Attributes:
        folder: Where it lies.
        job: Whose it is, where it was downloaded for this command alone.
    """

    folder: Path
    job: str = ""


@contextmanager
def _found(checkpoint: str, settings: Settings) -> Iterator[_Found]:
    """Gives a checkpoint: one that is there, or one that a job's checkpoint is downloaded to for a while."""
    _require_trainer()
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        yield _Found(path.absolute())
        return
    found = _OF_A_JOB.fullmatch(checkpoint)
    if found is None:
        raise typer.BadParameter(
            f"there is no folder {checkpoint}, nor can a job be called so", param_hint="CHECKPOINT"
        )
    from trana.client.command.printing import status

    kind = cast(Literal["best", "last"], found["kind"] or "best")
    with tempfile.TemporaryDirectory(prefix="trana-") as place:
        with status(f"fetching {found['job']}"), settings.client() as client:
            folder = client.download(found["job"], kind, Path(place, f"{found['job']}-{kind}"))
        yield _Found(folder, found["job"])


def _require_trainer() -> None:
    if importlib.util.find_spec("torch") is None:
        raise fail("this command needs the trainer's packages: pip install 'trana[trainer]'", ExitCode.WRONG_USAGE)


def _run(command: str, found: _Found, *arguments: str, settings: Settings, allow_code: bool) -> None:
    """Runs the trainer's command, which writes to this one's streams; ends as it does where it fails.

    Raises:
        typer.Exit: If it fails; why has been said.
    """
    options = [option for option, given in (("--allow-code", allow_code), ("--json", settings.is_json)) if given]
    # The folder of a download is gone when the user could look at it: errors name the job.
    options += ["--job", found.job] if found.job else []
    done = subprocess.run(
        [sys.executable, "-m", _MODULE, command, *options, str(found.folder), *arguments], check=False
    )
    if done.returncode:
        raise typer.Exit(done.returncode if done.returncode > 0 else 128 - done.returncode)

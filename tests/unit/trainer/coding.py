"""Trainings with the user's code, in the test's own process, with one worker."""

import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trana.trainer.worker import run as run_worker
from trana.v1 import report_pb2, training_pb2
from unit.trainer.specs import make_spec
from unit.trainer.training import Trained

OWN = ("loss", "optimizer")


def write_code(folder: Path, **modules: str) -> Path:
    """Writes modules into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return folder


def zipped(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    return archive


def module_spec(entrypoint: str, /, args: dict[str, Any] | None = None, **changes: Any) -> training_pb2.TrainingSpec:
    """Makes a training of a network of the user's; with `loss=None` and the like these are left out."""
    return _without(changes, {"module": {"entrypoint": entrypoint, "args": args or {}}, "network": None, "code": _CODE})


def loop_spec(entrypoint: str, /, args: dict[str, Any] | None = None, **changes: Any) -> training_pb2.TrainingSpec:
    """Makes a training with a loop of the user's, over the declared network."""
    loop = {"entrypoint": entrypoint, "args": args or {}, **changes.pop("loop", {})}
    return _without(changes, {"loop": loop, "code": _CODE, "loss": None, "optimizer": None})


_CODE = {"bundle": "file:///code"}


def _without(changes: dict[str, Any], fields: dict[str, Any]) -> training_pb2.TrainingSpec:
    chosen = fields | changes
    spec = make_spec(**{name: value for name, value in chosen.items() if value is not None})
    for name, value in chosen.items():
        if value is None:
            spec.ClearField(name)  # type: ignore[arg-type]  # names are literals to mypy
    return spec


def train(
    spec: training_pb2.TrainingSpec,
    folder: Path,
    code: Path,
    *,
    attempt: int = 1,
    should_stop: Callable[[Trained], bool] = lambda trained: False,
    told: list[report_pb2.Report] | None = None,
) -> Trained:
    """Trains as a worker does that is alone; `told` takes the reports, for a training that raises."""
    trained = Trained([] if told is None else told, folder)
    run_worker(
        spec=spec.SerializeToString(),
        rank=0,
        world_size=1,
        local_rank=0,
        master_address="127.0.0.1",
        master_port=0,
        num_threads=1,
        use_gpu=False,
        folder=str(folder),
        attempt=attempt,
        report=lambda message: trained.reports.append(report_pb2.Report.FromString(message)),
        should_stop=lambda: should_stop(trained),
        code=str(code),
    )
    return trained

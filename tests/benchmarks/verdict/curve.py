"""A run's curve, and how it is kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.verdict.problems.parts import part_of

Floats: TypeAlias = NDArray[np.float32]
COLUMNS = ("train", "val", "val_se", "test", "lr", "seconds")
# The corpus as it was when the figures in the README were taken.
STORED = Path(__file__).with_name("curves.npz")
ABOUT = ("name", "problem", "settings", "num_parameters", "num_train", "num_val", "constant_loss")


@dataclass(frozen=True, slots=True)
class Later:
    """Test losses of the same run, trained on for as many epochs again: ``epochs`` int32 counts from the start."""

    epochs: NDArray[np.int32]
    test: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One run: arrays of float32, a value an epoch; losses are means over samples, in evaluation mode.

    ``val_se`` is the standard error of the difference between this epoch's validation loss and that of the best one
    so far, paired by sample; 0 at a best epoch, NaN where unknown. ``constant_loss`` is the lowest
    test loss without looking at the inputs. Only the oracle may read ``test``, ``later`` and ``constant_loss``.
    """

    name: str
    problem: str
    settings: dict[str, Any]
    num_parameters: int
    num_train: int
    num_val: int
    constant_loss: float
    train: Floats
    val: Floats
    val_se: Floats
    test: Floats
    lr: Floats
    seconds: Floats
    later: Later

    @property
    def family(self) -> str:
        """The kind of problem."""
        return self.problem.partition("/")[0]

    @property
    def part(self) -> str:
        """``tuning`` or ``held-out``."""
        return part_of(self.problem)

    def __len__(self) -> int:
        return len(self.train)


def save(curves: Iterable[Curve], path: Path) -> None:
    """Writes curves end to end in one compressed file, whole or not at all."""
    chosen = list(curves)
    about = [
        {key: getattr(curve, key) for key in ABOUT} | {"epochs": len(curve), "later": len(curve.later.epochs)}
        for curve in chosen
    ]
    arrays: dict[str, Any] = {key: np.concatenate([getattr(curve, key) for curve in chosen]) for key in COLUMNS}
    arrays["later_epochs"] = np.concatenate([curve.later.epochs for curve in chosen])
    arrays["later_test"] = np.concatenate([curve.later.test for curve in chosen])
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    with half.open("wb") as file:
        np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)
    half.replace(path)


def load(path: Path) -> list[Curve]:
    """The curves of a file, or of all files below a folder, by name."""
    files = sorted(path.rglob("*.npz")) if path.is_dir() else [path]
    return sorted((curve for file in files for curve in _curves(file)), key=lambda curve: curve.name)


def _curves(path: Path) -> Iterator[Curve]:
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    start = later = 0
    for about in json.loads(str(arrays["about"])):
        epochs, more = slice(start, start + about.pop("epochs")), slice(later, later + about.pop("later"))
        columns = {key: arrays[key][epochs] for key in COLUMNS}
        yield Curve(**about, **columns, later=Later(arrays["later_epochs"][more], arrays["later_test"][more]))
        start, later = epochs.stop, more.stop

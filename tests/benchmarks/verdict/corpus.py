"""Trains the corpus, two runs at a time, and keeps each curve in a file of its own as it is finished."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.verdict.curve import save
from benchmarks.verdict.problems.parts import part_of

PARTS = ("tuning", "held-out")
PROCESSES = 2


@dataclass(frozen=True, slots=True, order=True)
class Task:
    """One run: the index into its problem's settings comes first, so that all problems are begun early."""

    index: int
    problem: str

    @property
    def name(self) -> str:
        """Unique in the corpus."""
        return f"{self.problem.replace('/', '-')}-{self.index:02d}"

    def path(self, folder: Path) -> Path:
        """Where its curve is kept."""
        return folder / part_of(self.problem) / f"{self.name}.npz"


def tasks(parts: Sequence[str]) -> list[Task]:
    """All runs of these parts, one part after the other."""
    from benchmarks.verdict.problems.catalogue import problems
    from benchmarks.verdict.settings import runs_of

    every = [Task(index, each.id) for each in problems().values() for index in range(len(runs_of(each)))]
    return [task for part in parts for task in sorted(every) if part_of(task.problem) == part]


def train_all(folder: Path, parts: Sequence[str]) -> None:
    """Trains what is not in the folder yet, and shows how far it is."""
    wanted = [task for task in tasks(parts) if not task.path(folder).exists()]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as progress,
        ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"), initializer=_polite) as pool,
    ):
        bar = progress.add_task("training", total=len(wanted))
        for done in as_completed([pool.submit(_trained, task, folder) for task in wanted]):
            progress.update(bar, advance=1, description=done.result())


def _polite() -> None:
    import torch

    os.nice(5)
    torch.set_num_threads(1)


def _trained(task: Task, folder: Path) -> str:
    from benchmarks.verdict.problems.catalogue import problems
    from benchmarks.verdict.settings import runs_of
    from benchmarks.verdict.training import train

    problem = problems()[task.problem]
    save([train(problem, runs_of(problem)[task.index], task.name)], task.path(folder))
    return task.problem

"""Where the verdict's weights of evidence come from: a logistic regression on the tuning part of the corpus.

    PYTHONPATH=services:tests python -m benchmarks.verdict.weighing tests/benchmarks/verdict/curves.npz

prints them, and how they fare on problems that they were not fitted to. Each run weighs the same, its last epoch a
third of it; epochs at which the truth is a matter of taste weigh half, diverged ones nothing.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from trana.trainer.fit.blocks import shorten
from trana.trainer.fit.measures import measure
from trana.trainer.fit.odds import terms
from trana.trainer.fit.soundness import FEWEST_EPOCHS

from benchmarks.verdict.curve import Curve, load
from benchmarks.verdict.oracle import truths

Floats = NDArray[np.float64]
LAST = 0.3
FOLDS = 6
# Holds weights of rare evidence near zero; the constant stays free.
RIDGE = 0.05
BINS = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of one run: a row for each epoch, what is true of it, and how much it weighs."""

    problem: str
    names: tuple[str, ...]
    rows: Floats
    overfits: Floats
    weights: Floats


def evidence(curve: Curve) -> Evidence | None:
    """What the verdict would weigh after each epoch; None for a run too short for one."""
    train, val = (np.asarray(values, dtype=np.float64) for values in (curve.train, curve.val))
    finite = np.isfinite(train) & np.isfinite(val)
    known = len(curve) if finite.all() else int(np.argmin(finite))
    counts = range(FEWEST_EPOCHS, known + 1)
    if not counts:
        return None
    found = [terms(measure(shorten(train[:count], val[:count]))) for count in counts]
    true = [truths_at for count, truths_at in enumerate(truths(curve), 1) if count in counts]
    share = np.full(len(true), (1 - LAST) / len(true))
    share[-1] += LAST
    taste = np.array([0.0 if each.label == "DIVERGED" else 0.5 if each.ambiguous else 1.0 for each in true])
    return Evidence(
        problem=curve.problem,
        names=tuple(found[0]),
        rows=np.array([list(each.values()) for each in found]),
        overfits=np.array([float(each.label == "OVERFITTING") for each in true]),
        weights=share * taste,
    )


def fitted(runs: list[Evidence]) -> Floats:
    """The weights of highest penalised likelihood, by Newton's method."""
    rows, true, share = (np.concatenate([getattr(run, key) for run in runs]) for key in ("rows", "overfits", "weights"))
    ridge = RIDGE * np.eye(rows.shape[1])
    ridge[0, 0] = 1e-6
    weights = np.zeros(rows.shape[1])
    for _ in range(20):
        told = probability(rows, weights)
        slope = rows.T @ (share * (true - told)) - ridge @ weights
        bend = (rows * (share * told * (1 - told))[:, None]).T @ rows + ridge
        step = np.linalg.solve(bend, slope)
        weights += step * min(1.0, 5 / float(np.abs(step).max()))
    return weights


def probability(rows: Floats, weights: Floats) -> Floats:
    """What the weights make of each row."""
    told: Floats = 1 / (1 + np.exp(-np.clip(rows @ weights, -50, 50)))
    return told


def left_out(runs: list[Evidence]) -> tuple[Floats, Floats]:
    """What is told of each whole run by weights fitted without its problem, and what is true of it."""
    problems = sorted({run.problem for run in runs})
    fold = {problem: number % FOLDS for number, problem in enumerate(problems)}
    told, true = [], []
    for number in range(FOLDS):
        weights = fitted([run for run in runs if fold[run.problem] != number])
        for run in (run for run in runs if fold[run.problem] == number and run.weights[-1] > 0):
            told.append(float(probability(run.rows[-1:], weights)[0]))
            true.append(float(run.overfits[-1]))
    return np.array(told), np.array(true)


def main() -> int:
    """Fits and prints; returns the exit code."""
    curves = [curve for curve in load(Path(sys.argv[1])) if curve.part == "tuning"]
    runs = [run for run in map(evidence, curves) if run is not None]
    lines = [f"{name:12} {weight:8.3f}" for name, weight in zip(runs[0].names, fitted(runs), strict=True)]
    told, true = left_out(runs)
    for low, high in pairwise(BINS):
        chosen = (told >= low) & ((told < high) | (high == BINS[-1]))
        if chosen.any():
            lines.append(
                f"told {low:.2f} to {high:.2f}: {chosen.sum():4} runs, {told[chosen].mean():.3f} told, "
                f"{true[chosen].mean():.3f} true"
            )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The runs that the verdict is measured on: honest errors, fresh samples, the same curve each time."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.verdict.corpus import tasks
from benchmarks.verdict.problems.catalogue import problems
from benchmarks.verdict.settings import Settings, runs_of
from benchmarks.verdict.training import FRESH, BestSoFar, factor, train

SMALL = Settings(
    kind="plain", network="poly 3", num_train=8, num_val=8, epochs=5, batch=4, optimizer="sgd", rate=0.05, seed=3
)


def test_the_error_is_that_of_the_difference_to_the_best_epoch_so_far() -> None:
    first, better, worse = np.array([3.0, 5.0, 4.0]), np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 5.0])
    best = BestSoFar()
    assert best.error_of(first) == 0
    assert best.error_of(better) == 0
    assert best.error_of(worse) == pytest.approx(np.std([1, 0, 2], ddof=1) / math.sqrt(3))
    assert math.isnan(best.error_of(np.array([np.inf, 1, 1])))


def test_a_run_is_the_same_each_time() -> None:
    first, second = (train(problems()["polynomials/0"], SMALL, "run") for _ in range(2))
    for column in ("train", "val", "val_se", "test", "lr"):
        np.testing.assert_array_equal(getattr(first, column), getattr(second, column))
    assert len(first) == 5
    assert first.later.epochs.tolist() == [6, 7, 8, 9, 10]
    assert first.num_parameters == 4


def test_a_run_ends_where_its_loss_does() -> None:
    ruined = train(problems()["polynomials/0"], replace(SMALL, rate=1e9, epochs=50), "run")
    assert len(ruined) < 50
    assert not math.isfinite(ruined.train[-1])
    assert np.isfinite(ruined.train[:-1]).all()
    assert ruined.later.test.size == 0


@pytest.mark.parametrize("name", sorted(problems()))
def test_a_problem_draws_samples_without_end(name: str) -> None:
    problem, draw = problems()[name], torch.Generator().manual_seed(1)
    inputs, targets = problem.draw(draw, 64)
    more, _ = problem.draw(draw, 64)
    assert inputs.shape == (64, *problem.inputs)
    assert inputs.isfinite().all()
    assert not torch.equal(inputs, more)
    if problem.classes:
        assert set(targets.tolist()) <= set(range(problem.classes))
    else:
        assert targets.shape == (64,)
        assert targets.is_floating_point()


def test_the_corpus_is_large_and_every_family_and_kind_stands_in_both_parts() -> None:
    assert FRESH >= 20_000
    for part in ("tuning", "held-out"):
        chosen = tasks([part])
        families = Counter(task.problem.partition("/")[0] for task in chosen)
        kinds = {runs_of(problems()[task.problem])[task.index].kind for task in chosen}
        assert len(chosen) >= 225
        assert len({task.problem for task in chosen}) >= 25
        assert len(families) == 10
        assert len(kinds) == 11


def test_learning_rates_follow_their_schedules() -> None:
    assert [factor("step", epoch, 9) for epoch in (0, 3, 6, 20)] == pytest.approx([1, 0.1, 0.01, 0.01])
    assert factor("restarts", 4, 12) == factor("restarts", 0, 12)
    assert factor("cosine", 9, 10) < 0.05 < factor("cosine", 10, 10)
    assert factor("rising", 5, 10) == pytest.approx(10)

"""What the judge makes of a verdict, for it knows what the training is to be and what it does already."""

from __future__ import annotations

import math
from pathlib import Path

from trana.trainer.judge import Judge, Sizes
from trana.v1 import epoch_pb2, fit_pb2, training_pb2
from unit.trainer.training import place


def judged(spec: training_pb2.TrainingSpec, folder: Path, epochs: int, *, rise: float) -> tuple[Judge, set[int]]:
    judge = Judge(spec, place(folder), Sizes())
    for at in range(epochs):
        train, val = math.exp(-at / 20), 0.3 + math.exp(-at / 20) + rise * max(at - 20, 0)
        judge.after(epoch_pb2.Epoch(epoch=at + 1, train_loss=train, val_loss=val))
    assert judge.verdict is not None
    return judge, {piece.remedy for piece in judge.verdict.advice}


def test_early_stopping_is_advised_only_where_the_training_has_none(tmp_path: Path) -> None:
    free, asked = training_pb2.TrainingSpec(), training_pb2.TrainingSpec()
    asked.early_stopping.patience = 500
    assert fit_pb2.FIT_REMEDY_EARLY_STOPPING in judged(free, tmp_path, 60, rise=0.05)[1]
    judge, advised = judged(asked, tmp_path, 60, rise=0.05)
    assert advised
    assert fit_pb2.FIT_REMEDY_EARLY_STOPPING not in advised
    resumed = Judge(asked, place(tmp_path), Sizes())
    resumed.restore(judge.state(), [])
    assert resumed.verdict == judge.verdict


def test_more_epochs_are_advised_only_when_the_planned_ones_are_over(tmp_path: Path) -> None:
    spec = training_pb2.TrainingSpec(epochs=60)
    assert fit_pb2.FIT_REMEDY_LONGER_TRAINING not in judged(spec, tmp_path, 20, rise=0.0)[1]
    spec.epochs = 20
    assert fit_pb2.FIT_REMEDY_LONGER_TRAINING in judged(spec, tmp_path, 20, rise=0.0)[1]


def test_a_ruin_is_judged_by_the_losses_that_were_no_numbers(tmp_path: Path) -> None:
    judge, _ = judged(training_pb2.TrainingSpec(epochs=60), tmp_path, 20, rise=0.0)
    kept = judge.state()
    ruined = judge.diverged(math.nan, math.nan)
    assert ruined.label == fit_pb2.FIT_LABEL_DIVERGED
    assert ruined.evidence == ["Training loss is not a number from epoch 21 on."]
    judge.restore(kept, [])
    assert judge.diverged(0.4, math.inf).evidence == ["Validation loss is not a number from epoch 21 on."]
    judge.restore(kept, [])
    # A NaN among the validation samples ruins no training.
    assert judge.diverged(0.4, math.nan).label == fit_pb2.FIT_LABEL_UNDETERMINED

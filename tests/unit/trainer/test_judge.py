"""What the judge makes of a verdict, for it knows what the training is to be and what it does already."""

from __future__ import annotations

import math
from pathlib import Path

from trana.trainer.fit import why_it_goes_on
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


def by_verdict(epochs: int = 0, *, start: int = 0) -> training_pb2.TrainingSpec:
    spec = training_pb2.TrainingSpec(epochs=epochs)
    spec.early_stopping.by = training_pb2.STOPPING_RULE_VERDICT
    spec.early_stopping.start_from_epoch = start
    return spec


def first_end(spec: training_pb2.TrainingSpec, folder: Path) -> tuple[int, list[fit_pb2.FitVerdict]]:
    """The epoch after which a training that overfits is ended, and the verdicts until then."""
    judge, verdicts = Judge(spec, place(folder), Sizes()), []
    for at in range(200):
        train, val = math.exp(-at / 20), 0.3 + math.exp(-at / 20) + 0.004 * max(at - 20, 0)
        ends = judge.after(epoch_pb2.Epoch(epoch=at + 1, train_loss=train, val_loss=val))
        assert judge.verdict is not None
        verdicts.append(judge.verdict)
        if ends:
            return at + 1, verdicts
    raise AssertionError("no verdict ended it")


def test_overfitting_that_does_not_end_the_training_says_what_it_waits_for(tmp_path: Path) -> None:
    end, verdicts = first_end(by_verdict(), tmp_path)
    waiting = [made for made in verdicts[:-1] if made.label == fit_pb2.FIT_LABEL_OVERFITTING]
    assert waiting
    for made in waiting:
        assert made.evidence[-1].startswith(
            "Early stopping by the verdict ends the training once the probability has reached 0.75 and 12 epochs have "
            "passed since the best one; the probability is 0."
        )
        assert made.evidence[-1].endswith(f", and {made.epochs_since_best} have passed.")
    assert not any("Early stopping by the verdict" in reason for reason in verdicts[-1].evidence)
    last = first_end(by_verdict(end), tmp_path)[1][-1]
    assert last.evidence[-1] == "The verdict became sure enough to end the training with the last of its epochs."
    late = first_end(by_verdict(start=end + 3), tmp_path)[1]
    assert len(late) == end + 4
    assert late[-2].evidence[-1] == f"Early stopping by the verdict begins after epoch {end + 3}, as the job asks."
    free = judged(training_pb2.TrainingSpec(), tmp_path, end - 1, rise=0.004)[0].verdict
    assert free is not None
    assert free.label == fit_pb2.FIT_LABEL_OVERFITTING
    assert "Early stopping by the verdict" not in " ".join(free.evidence)


def test_a_probability_is_rounded_down_so_that_it_never_seems_to_have_reached_the_limit() -> None:
    made = fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_OVERFITTING, confidence=0.74999, epochs_since_best=136)
    assert "the probability is 0.749, and 136 have passed" in why_it_goes_on(made)
    made.confidence = 0.75
    assert why_it_goes_on(made) == ""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from trana.trainer.errors import UserError
from trana.trainer.losses import build_loss
from trana.trainer.measures import Measures, mean_of_logged, results
from unit.trainer.specs import make_spec, regression, write_numbers
from unit.trainer.training import run

GENERATOR = torch.Generator().manual_seed(0)
CLASSES = torch.randint(3, (200,), generator=GENERATOR)
SCORES = torch.randn(200, 3, generator=GENERATOR) + torch.eye(3)[CLASSES]
VALUES = 1000 + torch.randn(200, 1, generator=GENERATOR)
GUESSES = VALUES + 0.3 * torch.randn(200, 1, generator=GENERATOR)


def measure(
    metrics: list[dict[str, Any]], output: Tensor, targets: Tensor, *, loss: str = "crossEntropy", chunk: int = 30
) -> dict[str, float]:
    """Measures outputs that come in chunks."""
    spec = make_spec(loss={loss: {}}, metrics=metrics)
    num_classes = {"crossEntropy": 3, "bce": 2}.get(loss, 0)
    measures = Measures(spec, build_loss(spec.loss), num_classes).begin()
    for some, wanted in zip(torch.split(output, chunk), torch.split(targets, chunk), strict=True):
        for each in measures.values():
            each.update(some, wanted)
    return results(measures, "val")


def area(scores: Tensor, is_positive: Tensor) -> float:
    """Returns the share of pairs that are in the right order."""
    positive, negative = scores[is_positive], scores[~is_positive]
    return float((positive[:, None] > negative).double().mean())


def f1(predicted: Tensor, targets: Tensor, kind: int) -> float:
    right = ((predicted == kind) & (targets == kind)).sum()
    return float(2 * right / ((predicted == kind).sum() + (targets == kind).sum()))


def test_measures_of_classes() -> None:
    found = measure([{"topK": {"k": 2}}, {"macroF1": {}}, {"auroc": {}}], SCORES, CLASSES)
    two_likeliest = SCORES.topk(2).indices
    shares = SCORES.softmax(1)
    assert found == {
        "val_top_2": pytest.approx(float((two_likeliest == CLASSES[:, None]).any(1).double().mean())),
        "val_macro_f1": pytest.approx(sum(f1(SCORES.argmax(1), CLASSES, kind) for kind in range(3)) / 3),
        "val_auroc": pytest.approx(sum(area(shares[:, kind], CLASSES.eq(kind)) for kind in range(3)) / 3),
    }


def test_measures_of_two_classes() -> None:
    targets = (CLASSES > 0).long()
    found = measure([{"macroF1": {}}, {"auroc": {}}], SCORES[:, 1:2], targets, loss="bce")
    predicted = (SCORES[:, 1] > 0).long()
    assert found == {
        "val_macro_f1": pytest.approx((f1(predicted, targets, 0) + f1(predicted, targets, 1)) / 2),
        "val_auroc": pytest.approx(area(SCORES[:, 1], targets > 0)),
    }


@pytest.mark.parametrize("width", [1, 2])
def test_measures_of_values_far_from_zero(width: int) -> None:
    output, targets = GUESSES.reshape(-1, width), VALUES.reshape(-1, width)
    found = measure([{"mae": {}}, {"rmse": {}}, {"r2": {}}], output, targets, loss="mse")
    errors = (output - targets).double().numpy()
    spread = targets.double().numpy() - targets.double().numpy().mean(0)
    assert found == {
        "val_mae": pytest.approx(np.abs(errors).mean()),
        "val_rmse": pytest.approx(np.sqrt((errors**2).mean())),
        # In 32 bits, sums of squares around a million would leave nothing of a variance of one.
        "val_r2": pytest.approx((1 - (errors**2).sum(0) / (spread**2).sum(0)).mean(), rel=1e-9),
    }


def test_area_of_a_single_class_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    ones = torch.ones(5, dtype=torch.int64)
    assert measure([{"auroc": {}}, {"macroF1": {}}], SCORES[:5], ones).keys() == {"val_macro_f1"}
    assert "val_auroc is left out" in caplog.text
    assert measure([{"auroc": {}}], SCORES[:5, :1], ones, loss="bce") == {}


def test_class_that_a_split_has_not_is_left_out_of_the_mean() -> None:
    some = CLASSES < 2
    found = measure([{"auroc": {}}], SCORES[some], CLASSES[some])
    shares = SCORES[some].softmax(1)
    each = [area(shares[:, kind], CLASSES[some].eq(kind)) for kind in range(2)]
    assert found["val_auroc"] == pytest.approx(sum(each) / 2)


def test_r2_of_a_single_sample_is_left_out() -> None:
    assert measure([{"r2": {}}], GUESSES[:1], VALUES[:1], loss="mse") == {}


def test_more_likeliest_classes_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match=r"top_k.k is 3, but the target has 3 classes"):
        measure([{"topK": {"k": 3}}], SCORES, CLASSES)


def test_measures_of_a_network_with_a_loss_of_its_own_are_refused() -> None:
    with pytest.raises(UserError, match=r"training.metrics cannot be measured"):
        Measures(make_spec(metrics=[{"accuracy": {}}]), None, 3)
    assert Measures(make_spec(), None, 3).is_right is None


def test_what_was_logged_is_weighted_by_samples_and_named_by_split() -> None:
    chunks = [(1, 10, {"val_f1": 0.4, "val_loss": 1.0}), (0, 30, {"val_f1": 0.8, "val_loss": 2.0, "best": 1.0})]
    assert mean_of_logged(chunks, "val") == {"val_f1": pytest.approx(0.7), "best": 1.0}
    assert mean_of_logged(chunks, "train") == {"train_f1": pytest.approx(0.7), "train_best": 1.0}


def test_job_tells_the_measures_it_asks_for_and_no_other(tmp_path: Path) -> None:
    trained = run(make_spec(metrics=[{"macroF1": {}}, {"topK": {"k": 2}}], epochs=2), tmp_path / "classes")
    names = {"train_macro_f1", "train_top_2", "val_macro_f1", "val_top_2"}
    assert [set(epoch.metrics) for epoch in trained.epochs] == [names, names]
    assert set(trained.result.test_metrics) == {"test_loss", "test_macro_f1", "test_top_2"}
    numbers = regression(write_numbers(tmp_path / "n.csv", 80), metrics=[{"rmse": {}}], epochs=1)
    (epoch,) = run(numbers, tmp_path / "numbers").epochs
    assert epoch.metrics["val_rmse"] == pytest.approx(epoch.val_loss**0.5)

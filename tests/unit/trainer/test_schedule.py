import math
from typing import Any

import pytest
from trana.trainer.patience import Patience, Plateau, is_used_up, wait
from trana.trainer.progress import Progress
from trana.trainer.schedule import learning_rate
from trana.v1 import epoch_pb2, report_pb2
from unit.trainer.specs import make_spec


def rate(schedule: dict[str, Any], *, epoch: int, step: int = 0, epochs: int = 10, drops: int = 0) -> float:
    spec = make_spec(schedule=schedule, epochs=epochs)
    return learning_rate(spec, 0.1, epoch=epoch, step=step, num_steps=4, drops=drops)


def test_rate_is_constant_where_nothing_is_said() -> None:
    assert {rate({}, epoch=epoch, step=step) for epoch in (1, 5, 10) for step in (0, 3)} == {0.1}


def test_warmup_rises_linearly_to_the_whole_rate() -> None:
    rates = [rate({"warmupEpochs": 2}, epoch=epoch, step=step) for epoch in (1, 2) for step in range(4)]
    assert rates == pytest.approx([0.1 * share / 8 for share in range(1, 9)])
    assert rate({"warmupEpochs": 2}, epoch=3) == 0.1


def test_cosine_falls_from_the_rate_to_the_minimum_after_warmup() -> None:
    schedule = {"warmupEpochs": 2, "cosine": {"minLearningRate": 0.02}}
    assert rate(schedule, epoch=3) == pytest.approx(0.1)
    # Halfway between two steps, of the 32 that are left after warm-up.
    assert (rate(schedule, epoch=6, step=3) + rate(schedule, epoch=7)) / 2 == pytest.approx(0.06)
    assert rate(schedule, epoch=10, step=3) == 0.02
    rates = [rate(schedule, epoch=epoch, step=step) for epoch in range(3, 11) for step in range(4)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(("epochs", "num_steps"), [(1, 2), (2, 1), (3, 1), (7, 9), (100, 6)])
@pytest.mark.parametrize("minimum", [0.0, 0.03])
def test_cosine_begins_at_the_rate_and_its_last_step_is_at_the_minimum(
    epochs: int, num_steps: int, minimum: float
) -> None:
    spec = make_spec(schedule={"cosine": {"minLearningRate": minimum}}, epochs=epochs)
    assert learning_rate(spec, 0.1, epoch=1, step=0, num_steps=num_steps) == 0.1
    assert learning_rate(spec, 0.1, epoch=epochs, step=num_steps - 1, num_steps=num_steps) == minimum


def test_cosine_of_a_single_step_is_made_at_the_whole_rate() -> None:
    spec = make_spec(schedule={"cosine": {}}, epochs=1)
    assert learning_rate(spec, 0.1, epoch=1, step=0, num_steps=1) == 0.1


def test_step_drops_every_few_epochs_after_warmup() -> None:
    schedule = {"warmupEpochs": 1, "step": {"everyEpochs": 3, "gamma": 0.5}}
    rates = [rate(schedule, epoch=epoch) for epoch in range(2, 9)]
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025])


def test_plateau_drops_to_its_minimum_at_most() -> None:
    schedule = {"plateau": {"factor": 0.1, "patience": 2, "minLearningRate": 0.005}}
    assert [rate(schedule, epoch=9, drops=drops) for drops in range(4)] == pytest.approx([0.1, 0.01, 0.005, 0.005])


def drops(losses: list[float], **schedule: Any) -> list[int]:
    spec = make_spec(schedule={"plateau": {"factor": 0.5, "patience": 2}, **schedule})
    plateau, seen = Plateau(), []
    for epoch, loss in enumerate(losses, start=1):
        plateau = plateau.after(spec.schedule, epoch=epoch, val_loss=loss)
        seen.append(plateau.drops)
    return seen


def test_plateau_counts_from_anew_after_a_drop() -> None:
    assert drops([1.0, 1.0, 1.0, 1.0, 1.0, 0.9, 0.9]) == [0, 0, 1, 1, 2, 2, 2]


def test_plateau_does_not_count_the_warmup() -> None:
    assert drops([1.0, 1.0, 1.0, 1.0, 1.0], warmupEpochs=2) == [0, 0, 0, 0, 1]


def stopped_after(losses: list[float], **rule: Any) -> int | None:
    """Returns the epoch after which early stopping ends the training."""
    spec = make_spec(earlyStopping={"patience": 2, **rule})
    patience = Patience()
    for epoch, loss in enumerate(losses, start=1):
        patience = wait(spec.early_stopping, patience, epoch=epoch, val_loss=loss)
        if is_used_up(spec, patience):
            return epoch
    return None


@pytest.mark.parametrize(
    ("losses", "rule", "epoch"),
    [
        pytest.param([5, 4, 3, 2, 1], {}, None, id="falls"),
        pytest.param([3, 2, 2, 2, 1], {}, 4, id="an equal loss is no improvement"),
        pytest.param([3, 2, 4, 1.9, 4, 4], {}, 6, id="an improvement starts the count anew"),
        pytest.param([3, 2.9, 2.8, 2.7], {"minDelta": 0.5}, 3, id="too small an improvement"),
        pytest.param([3, 2.9, 2.4, 2.7, 2.7], {"minDelta": 0.5}, 5, id="small ones add up"),
        pytest.param([1, 2, 2, 2, 2, 2, 2], {"startFromEpoch": 3}, 6, id="the first epochs do not count"),
        pytest.param([2, 3], {"patience": 1}, 2, id="patience of one"),
    ],
)
def test_early_stopping_counts_as_keras_does(losses: list[float], rule: dict[str, Any], epoch: int | None) -> None:
    assert stopped_after(losses, **rule) == epoch


def test_nothing_stops_early_where_no_rule_says_so() -> None:
    assert not is_used_up(make_spec(), Patience(waited=10**9))
    assert math.isinf(Patience().best)


def test_stop_by_the_verdict_has_no_patience_to_use_up() -> None:
    spec = make_spec(earlyStopping={"by": "STOPPING_RULE_VERDICT"}, epochs=9)
    assert not is_used_up(spec, Patience(waited=10**9))
    epoch = epoch_pb2.Epoch(epoch=5, train_loss=1.0, val_loss=1.0)
    assert not Progress().after(spec, epoch, None).has_ended
    assert Progress().after(spec, epoch, None, overfits=True).stop_reason == report_pb2.STOP_REASON_VERDICT
    epoch.epoch = 9
    assert Progress().after(spec, epoch, None, overfits=True).stop_reason == report_pb2.STOP_REASON_EPOCHS_DONE

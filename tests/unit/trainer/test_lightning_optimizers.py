"""What configure_optimizers may return; Lightning itself is not needed for it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, MultiStepLR, OneCycleLR, ReduceLROnPlateau, StepLR
from trana.trainer.errors import UserError
from trana.trainer.objective.lightning_optimizers import LightningSchedule, Optimizers, read_optimizers


def make_optimizer() -> SGD:
    return SGD([nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)


def schedule_of(read: Optimizers) -> LightningSchedule:
    return LightningSchedule(
        read.optimizer, read.scheduler, before_step=lambda epoch, step: None, after_epoch=lambda: None
    )


def rates(schedule: LightningSchedule, optimizer: Optimizer, *, losses: list[float]) -> list[float]:
    """Returns the learning rate of each of two steps an epoch."""
    seen = []
    for epoch, loss in enumerate(losses, start=1):
        for step in range(2):
            seen.append(schedule.before_step(epoch=epoch, step=step, num_steps=2, drops=0))
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(val_loss=loss)
    return seen


@pytest.mark.parametrize(
    "form",
    [
        lambda optimizer, scheduler: ([optimizer], [scheduler]),
        lambda optimizer, scheduler: ((optimizer,), [{"scheduler": scheduler}]),
        lambda optimizer, scheduler: {"optimizer": optimizer, "lr_scheduler": scheduler},
        lambda optimizer, scheduler: {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler}},
        lambda optimizer, scheduler: ({"optimizer": optimizer, "lr_scheduler": scheduler},),
    ],
)
def test_all_forms_are_read(form: Callable[[Any, Any], Any]) -> None:
    optimizer = make_optimizer()
    read = read_optimizers("lit:Net", form(optimizer, StepLR(optimizer, 1, gamma=0.5)))
    assert read.optimizer is optimizer
    assert rates(schedule_of(read), optimizer, losses=[1, 1, 1]) == [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]


@pytest.mark.parametrize("form", [lambda optimizer: optimizer, lambda optimizer: [optimizer]])
def test_rate_stays_without_a_scheduler(form: Callable[[Any], Any]) -> None:
    optimizer = make_optimizer()
    read = read_optimizers("lit:Net", form(optimizer))
    assert rates(schedule_of(read), optimizer, losses=[1, 1]) == [0.1] * 4


def test_scheduler_may_follow_steps_or_the_validation_loss() -> None:
    optimizer = make_optimizer()
    by_step = {"scheduler": StepLR(optimizer, 1, gamma=0.5), "interval": "step", "frequency": 2}
    read = read_optimizers("lit:Net", {"optimizer": optimizer, "lr_scheduler": by_step})
    assert rates(schedule_of(read), optimizer, losses=[1, 1]) == [0.1, 0.1, 0.05, 0.05]
    optimizer = make_optimizer()
    plateau = {"scheduler": ReduceLROnPlateau(optimizer, factor=0.5, patience=0), "monitor": "val_loss"}
    read = read_optimizers("lit:Net", {"optimizer": optimizer, "lr_scheduler": plateau})
    assert rates(schedule_of(read), optimizer, losses=[1, 2, 1]) == [0.1, 0.1, 0.1, 0.1, 0.05, 0.05]


@pytest.mark.parametrize(
    "build",
    [
        lambda optimizer: OneCycleLR(optimizer, 0.3, total_steps=20),
        lambda optimizer: MultiStepLR(optimizer, [3, 5]),
        lambda optimizer: CyclicLR(optimizer, 0.01, 0.1, step_size_up=3),
    ],
)
def test_schedule_goes_on_exactly_from_its_state(build: Callable[[Optimizer], LRScheduler]) -> None:
    def make() -> tuple[LightningSchedule, Optimizer]:
        optimizer = make_optimizer()
        chosen = {"scheduler": build(optimizer), "interval": "step"}
        return schedule_of(read_optimizers("lit:Net", {"optimizer": optimizer, "lr_scheduler": chosen})), optimizer

    whole, optimizer = make()
    expected = rates(whole, optimizer, losses=[1] * 5)
    first, optimizer = make()
    begun = rates(first, optimizer, losses=[1] * 2)
    state = json.loads(json.dumps(first.state()))
    second, optimizer = make()
    second.load(state)
    assert begun + rates(second, optimizer, losses=[1] * 3) == expected


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "gave None"),
        ([make_optimizer(), make_optimizer()], "gave 2 optimisers, and exactly one"),
        ({"optim": 1}, "without the key optimizer"),
        ({"optimizer": 3}, "gave a int for an optimiser"),
        ({"optimizer": make_optimizer(), "lr_scheduler": 3}, "gave a int for a scheduler"),
        (
            {"optimizer": (one := make_optimizer()), "lr_scheduler": {"scheduler": StepLR(one, 1), "interval": "day"}},
            "interval 'day'",
        ),
        (
            {
                "optimizer": (two := make_optimizer()),
                "lr_scheduler": {"scheduler": ReduceLROnPlateau(two), "monitor": "val_acc"},
            },
            "can follow val_loss",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(returned: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_optimizers("lit:Net", returned)

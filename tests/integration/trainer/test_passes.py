"""Networks of the user's whose passes differ: layers that are left out, or that cannot be cut."""

import re
from pathlib import Path
from typing import Any

import pytest
from integration.trainer.ranks import Group, run_ranks
from integration.trainer.test_group import assert_good, curve, losses
from trana.trainer.errors import UserError
from trana.v1 import report_pb2, training_pb2
from unit.trainer.specs import make_spec

MODEL = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(4, 3), nn.Linear(5, 5)

    def forward(self, features):
        return self.used(features)
"""


@pytest.mark.parametrize("strategy", ["STRATEGY_DDP", "STRATEGY_FSDP"])
def test_layer_that_no_pass_uses_is_not_waited_for(tmp_path: Path, strategy: str) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    bundle = {"bundle": f"bundles/{'0' * 64}"}
    spec = make_spec(module={"entrypoint": "model:Net"}, code=bundle, strategy=strategy, clipNorm=1.0)
    spec.ClearField("network")
    alone, group = (
        assert_good(run_ranks(spec, tmp_path / str(size), world_size=size, code=tmp_path / "model.py"))
        for size in (1, 2)
    )
    assert losses(group) == pytest.approx(losses(alone), rel=1e-5)
    again = assert_good(run_ranks(spec, tmp_path / "2", world_size=2, attempt=2, code=tmp_path / "model.py"))
    assert again.result == group.result


DEPTH = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.first, self.maybe = nn.Linear(4, 3), nn.ModuleList([nn.Linear(3, 3) for _ in range(3)])
        self.how, self.passes = how, 0

    def forward(self, features):
        hidden = self.first(features)
        self.passes += self.training
        for number, layer in enumerate(self.maybe):
            in_turn = self.how == "in turn" and (self.passes + number) % 3
            if not self.training or in_turn or (self.how == "at random" and torch.rand(()) < 0.5):
                hidden = hidden + layer(hidden)
        return hidden
"""


def depth(folder: Path, how: str, **changes: Any) -> training_pb2.TrainingSpec:
    (folder / "model.py").write_text(DEPTH)
    bundle = {"bundle": f"bundles/{'0' * 64}"}
    spec = make_spec(module={"entrypoint": "model:Net", "args": {"how": how}}, code=bundle, **changes)
    spec.ClearField("network")
    return spec


def test_layers_may_be_left_out_of_some_passes(tmp_path: Path) -> None:
    spec = depth(tmp_path, "in turn", clipNorm=1.0)
    alone, group = (
        assert_good(run_ranks(spec, tmp_path / str(size), world_size=size, code=tmp_path / "model.py"))
        for size in (1, 2)
    )
    assert losses(group) == pytest.approx(losses(alone), rel=1e-5)


def test_training_with_layers_left_out_at_random_goes_on_bit_by_bit(tmp_path: Path) -> None:
    spec = depth(tmp_path, "at random", checkpointing={"everySteps": 4})
    whole = assert_good(run_ranks(spec, tmp_path / "whole", world_size=3, code=tmp_path / "model.py"))

    def kill(report: report_pb2.Report, group: Group) -> None:
        if report.checkpoint.step == 8:
            group.kill(rank=1)

    run_ranks(spec, tmp_path / "cut", world_size=3, code=tmp_path / "model.py", on_report=kill)
    resumed = assert_good(run_ranks(spec, tmp_path / "cut", world_size=3, attempt=2, code=tmp_path / "model.py"))
    assert curve(resumed) == curve(whole)


UNFIT = """
import torch
from torch import nn
from torch.nn import functional

class Net(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.first, self.last = how, nn.Linear(4, 4), nn.Linear(4, 3)
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        if how == "shared":
            self.first.weight = self.inner[0].weight
        if how == "shared within a layer":
            self.inner[1].weight = self.inner[0].weight
        if how == "scalar":
            self.factor = nn.Parameter(torch.ones(()))

    def forward(self, features):
        hidden = self.inner(self.first(features))
        if self.how == "weights":
            hidden = functional.linear(hidden, self.inner[0].weight)
        return self.last(hidden)
"""


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("shared", "cannot cut first.weight and inner.0.weight, which are one parameter"),
        ("scalar", "cannot cut factor, which is a scalar"),
        ("weights", r"computes with the weights of a layer.* at model.py:21, in forward; call the layer, or use DDP"),
        ("shared within a layer", ""),
    ],
)
def test_network_that_cannot_be_cut_is_told_so(tmp_path: Path, how: str, message: str) -> None:
    (tmp_path / "model.py").write_text(UNFIT)
    bundle, module = {"bundle": f"bundles/{'0' * 64}"}, {"entrypoint": "model:Net", "args": {"how": how}}
    spec = make_spec(module=module, code=bundle, strategy="STRATEGY_FSDP", epochs=1)
    spec.ClearField("network")
    ended = run_ranks(spec, tmp_path / "job", world_size=2, code=tmp_path / "model.py")
    if not message:
        assert_good(ended)
        return
    assert {type(error) for error in ended.errors.values()} == {UserError}
    assert re.search(message, str(ended.errors[0]))

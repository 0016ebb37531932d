"""Loops of the user's over several ranks: exact, and never left waiting in vain."""

import time
from pathlib import Path

import pytest
from integration.trainer.ranks import Group, Outcome, run_ranks
from trana.trainer.errors import PeerLostError, TrainingError, UserCodeError, UserError
from trana.v1 import report_pb2
from unit.trainer.coding import loop_spec, write_code

LOOP = """
import os
import sys
import time

import torch
from torch import nn
from torch.nn import functional

def train(context):
    trick = context.args.get("trick", "")
    network = context.network()
    replica = network if trick == "averages" else context.replicate(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    noise = []
    done = context.restore(network=network, optimizer=optimizer, noise=noise)
    for epoch in range(done + 1, context.spec.epochs + 1):
        # Each rank's own, from where the epoch before has left the generators: it shows whether those of all were kept.
        noise.append(float(torch.rand(())))
        for batch in context.train.batches(epoch):
            features, targets = batch
            optimizer.zero_grad()
            loss = functional.cross_entropy(replica(features), targets)
            if trick == "averages":
                loss.backward()
                context.average_gradients(network, num_samples=len(batch))
            else:
                (loss * batch.weight).backward()
            optimizer.step()
        act(trick, context, epoch)
        if trick == "leaves" and context.rank == 1:
            return
        losses = []
        for shard in (context.train, context.validation):
            part = shard.all()
            with torch.no_grad():
                loss = functional.cross_entropy(network(part.features), part.targets)
            losses.append(context.mean(loss, num_samples=len(part)))
        if trick == "differs":
            losses[1] = 0.31 + 0.04 * context.rank
        context.save(network=network, optimizer=optimizer, noise=noise)
        spread = context.mean(noise[-1], num_samples=1)
        context.report(epoch=epoch, train_loss=losses[0], val_loss=losses[1], metrics={"val_noise": spread})
        if context.should_stop():
            break
        if trick == "one goes on alone" and epoch == 2:
            time.sleep(0 if context.rank else 6)
            return

def act(trick, context, epoch):
    if context.rank == 1:
        if trick == "raises":
            raise ValueError("rank one has had enough")
        if trick == "exits":
            sys.exit(0)
        if trick == "hangs":
            time.sleep(100)
        if trick == "asks something else":
            context.should_stop()
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return write_code(tmp_path / "code", own=LOOP)


def curve(outcome: Outcome) -> list[tuple[float, float]]:
    assert not outcome.errors
    assert set(outcome.exit_codes) == {0}
    return [(epoch.train_loss, epoch.val_loss) for epoch in outcome.epochs]


@pytest.mark.parametrize("trick", ["", "averages"])
def test_curve_does_not_depend_on_the_number_of_workers(code: Path, tmp_path: Path, trick: str) -> None:
    spec = loop_spec("own:train", {"trick": trick})
    curves = [
        curve(run_ranks(spec, tmp_path / str(world_size), world_size=world_size, code=code)) for world_size in (1, 2, 3)
    ]
    for other in curves[1:]:
        for mine, theirs in zip(curves[0], other, strict=True):
            assert theirs == pytest.approx(mine, abs=1e-5)


DEPTH = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.maybe = nn.Linear(4, 3), nn.Linear(3, 3)

    def forward(self, features):
        hidden = self.first(features)
        return hidden + self.maybe(hidden) if not self.training or torch.rand(()) < 0.5 else hidden
"""


def test_replica_may_leave_layers_out_of_some_passes(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", own=LOOP, model=DEPTH)
    spec = loop_spec("own:train", network=None, module={"entrypoint": "model:Net"})
    assert len(curve(run_ranks(spec, tmp_path / "job", world_size=2, code=code))) == 3


def test_interrupted_loop_ends_with_the_same_bits(code: Path, tmp_path: Path) -> None:
    def stop(report: report_pb2.Report, group: Group) -> None:
        if report.epoch.epoch == 2:
            group.stop()

    spec = loop_spec("own:train", epochs=5)
    whole = run_ranks(spec, tmp_path / "whole", world_size=2, code=code)
    cut = run_ranks(spec, tmp_path / "cut", world_size=2, code=code, on_report=stop)
    assert len(cut.epochs) < 5
    rest = run_ranks(spec, tmp_path / "cut", world_size=2, code=code, attempt=2)
    assert curve(rest) == curve(whole)
    # The mean of the ranks' own noise.
    assert [epoch.metrics["val_noise"] for epoch in rest.epochs] == [
        epoch.metrics["val_noise"] for epoch in whole.epochs
    ]
    for name in ("network.safetensors", "random.safetensors"):
        kept = [(tmp_path / job / "checkpoints" / "last" / name).read_bytes() for job in ("whole", "cut")]
        assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("trick", "error", "message"),
    [
        ("raises", UserCodeError, "ValueError: rank one has had enough, in act at line"),
        ("exits", UserCodeError, r"called sys.exit\(0\) in act"),
        ("differs", UserError, "rank 0 reported val_loss 0.31, rank 1 0.35 in epoch 1; bring them together with"),
        (
            "asks something else",
            UserError,
            "rank 1 called context.should_stop while rank 0 called context.mean",
        ),
        ("leaves", UserError, r"rank 1 has returned from own:train while rank 0 still waits, at own.py:\d+, in train"),
        ("hangs", UserError, r"no report for 3 s; rank 1, it was at own.py:\d+, in act"),
    ],
)
def test_rank_that_errs_ends_the_loop_of_all(
    code: Path, tmp_path: Path, trick: str, error: type[TrainingError], message: str
) -> None:
    started = time.monotonic()
    limit = {"reportTimeoutSeconds": 3} if trick == "hangs" else {}
    outcome = run_ranks(loop_spec("own:train", {"trick": trick}, loop=limit), tmp_path / "job", world_size=2, code=code)
    assert set(outcome.errors) == {0, 1}
    # What the others say about it is never told: they lost a worker, or waited.
    roots = [found for found in outcome.errors.values() if not isinstance(found, PeerLostError)]
    assert any(type(root) is error for root in roots)
    with pytest.raises(error, match=message):
        raise next(root for root in (outcome.errors[1], *roots) if not isinstance(root, PeerLostError))
    assert time.monotonic() - started < 40


def test_rank_that_is_done_does_not_end_one_that_needs_nobody(code: Path, tmp_path: Path) -> None:
    spec = loop_spec("own:train", {"trick": "one goes on alone"})
    outcome = run_ranks(spec, tmp_path / "job", world_size=2, code=code)
    assert len(curve(outcome)) == 2
    assert outcome.result.stop_reason == report_pb2.STOP_REASON_EPOCHS_DONE

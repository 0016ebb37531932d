"""Loops of the user's, with one worker; several are tried in test_loops.py."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from trana.trainer import reporting
from trana.trainer.errors import NotFiniteError, TrainingError, UserCodeError, UserError
from trana.v1 import report_pb2
from unit.trainer.coding import loop_spec, train, write_code, zipped
from unit.trainer.specs import make_spec
from unit.trainer.training import Trained
from unit.trainer.training import run as run_service_loop

LOOP = """
import math
import time

import torch
from torch import nn
from torch.nn import functional

def train(context):
    args = {"epochs": 4, "rate": 0.02, "trick": ""} | context.args
    network = context.network()
    network.add_module("drop", nn.Dropout(0.3))
    optimizer = torch.optim.Adam(network.parameters(), lr=args["rate"])
    seen = {"losses": []}
    done = context.restore(network=network, optimizer=optimizer, seen=seen)
    for epoch in range(done + 1, args["epochs"] + 1):
        network.train()
        for features, targets in context.train.batches(epoch):
            optimizer.zero_grad()
            functional.cross_entropy(network(features), targets).backward()
            optimizer.step()
        if args["trick"] == "silent":
            continue
        if args["trick"] == "hangs":
            time.sleep(60)
        network.eval()
        losses = []
        for shard in (context.train, context.validation):
            features, targets = shard.all()
            with torch.no_grad():
                losses.append(functional.cross_entropy(network(features), targets))
        seen["losses"].append(float(losses[1]))
        if args["trick"] == "saves nothing":
            context.save()
        elif args["trick"] != "saves once" or epoch == 1:
            context.save(network=network, optimizer=optimizer, seen=seen)
        trick = args["trick"]
        if trick == "raises":
            raise RuntimeError("out of ideas")
        if trick == "nan":
            losses[1] = math.nan
        if trick == "text":
            losses[1] = "low"
        if trick == "vector":
            losses[1] = torch.ones(2)
        if trick == "worse":
            losses[1] = epoch + 0.0
        context.report(
            epoch=epoch + 1 if trick == "skips" else epoch,
            train_loss=losses[0],
            val_loss=losses[1],
            metrics={"val_seen": len(seen["losses"])},
        )
        if context.should_stop():
            break

def changed(context):
    network = nn.Linear(4, 3)
    optimizer = torch.optim.Adam(network.parameters())
    if context.attempt == 1:
        context.save(network=network, weights={"w": torch.ones(2)})
        context.report(epoch=1, train_loss=1.0, val_loss=1.0)
    elif context.args["how"] == "shape":
        context.restore(network=nn.Linear(5, 3))
    else:
        context.restore(net=network)

def saves(context):
    what = {"number": 0.3, "object": {"a": object()}}.get(context.args["what"], torch.ones(1))
    context.save(**{context.args.get("name", "thing"): what})

def raw(context):
    weights = [torch.randn(3, requires_grad=True), torch.zeros(2)]
    values = {"w": torch.randn(2)}
    count = []
    done = context.restore(weights=weights, network=values, count=count)
    for epoch in range(done + 1, 4):
        weights[0].data += torch.randn(3)
        values["w"] += torch.randn(2)
        count.append(epoch)
        context.save(weights=weights, network=values, count=count)
        context.report(epoch=epoch, train_loss=1.0, val_loss=1.0 / epoch, learning_rate=0.5)
        if context.should_stop():
            break
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return write_code(tmp_path / "code", own=LOOP)


def best(trained: Trained) -> dict[str, torch.Tensor]:
    return load_file(trained.folder / "checkpoints" / "best" / "network.safetensors")


def losses(trained: Trained) -> list[float]:
    return [epoch.val_loss for epoch in trained.epochs]


def test_loop_reports_and_publishes_as_the_services_does(code: Path, tmp_path: Path) -> None:
    trained = train(loop_spec("own:train", epochs=0), tmp_path / "job", code)
    epoch = ["checkpoint", "checkpoint", "epoch", "fit"]
    assert trained.kinds == ["first_step", *epoch * 4, "result"]
    first = trained.reports[0].first_step
    assert (first.num_parameters, first.num_train, first.num_validation, first.num_test) == (67, 90, 30, 30)
    assert [point.epoch for point in trained.epochs] == [1, 2, 3, 4]
    assert [point.step for point in trained.epochs] == [6, 12, 18, 24]
    assert all(point.learning_rate == 0.02 for point in trained.epochs)
    assert all(point.samples_per_second > 0 and point.duration_seconds > 0 for point in trained.epochs)
    assert trained.epochs[-1].metrics["val_seen"] == 4
    assert trained.result.stop_reason == report_pb2.STOP_REASON_EPOCHS_DONE
    assert trained.result.best_val_loss == min(losses(trained))
    state = json.loads(trained.file("best", "state.json"))
    assert state["classes"] == ["setosa", "versicolor", "virginica"]
    assert set(best(trained)) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_batches_that_are_taken_are_told_as_steps(monkeypatch: pytest.MonkeyPatch, code: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(reporting, "_SILENCE_SECONDS", 0.0)
    trained = train(loop_spec("own:train", epochs=2), tmp_path / "job", code)
    told = [report.step_progress for report in trained.reports if report.HasField("step_progress")]
    last = [epoch.step for epoch in trained.epochs]
    # Those that are done when the next batch is taken.
    assert [(each.epoch, each.step) for each in told] == [(1 + step // last[0], step) for step in range(last[1])]


def test_network_begins_with_the_weights_of_the_services_loop(tmp_path: Path) -> None:
    network = write_code(
        tmp_path / "code",
        own="""
        def train(context):
            context.save(network=context.network())
            context.report(epoch=1, train_loss=1, val_loss=1)
        """,
    )
    mine = train(loop_spec("own:train"), tmp_path / "mine", network)
    still = make_spec(optimizer={"sgd": {"learningRate": 1e-30}}, epochs=1)
    theirs = run_service_loop(still, tmp_path / "theirs")
    assert all(torch.equal(value, best(theirs)[name]) for name, value in best(mine).items())


@pytest.mark.parametrize("entrypoint", ["own:train", "own:raw"])
def test_loop_goes_on_bit_by_bit_after_an_interruption(code: Path, tmp_path: Path, entrypoint: str) -> None:
    spec = loop_spec(entrypoint)
    whole = train(spec, tmp_path / "whole", code)
    cut = train(spec, tmp_path / "cut", code, should_stop=lambda trained: len(trained.epochs) == 2)
    assert cut.result.stop_reason == report_pb2.STOP_REASON_REQUESTED
    assert len(cut.epochs) == 2
    rest = train(spec, tmp_path / "cut", code, attempt=2)
    # What was saved is told again, for it may never have been heard.
    assert losses(rest) == losses(whole)
    assert [epoch.attempt for epoch in rest.epochs[:3]] == [1, 1, 2]
    assert rest.result.best_val_loss == whole.result.best_val_loss
    for name in ("network.safetensors", "random.safetensors"):
        assert rest.file("last", name) == whole.file("last", name)


def test_early_stopping_ends_the_loop_and_keeps_the_best(code: Path, tmp_path: Path) -> None:
    spec = loop_spec("own:train", {"trick": "worse"}, epochs=4, earlyStopping={"patience": 2})
    trained = train(spec, tmp_path / "job", code)
    assert len(trained.epochs) == 3
    assert trained.result.stop_reason == report_pb2.STOP_REASON_EARLY_STOPPING
    assert trained.result.best_epoch == 1


def test_number_of_epochs_of_the_spec_ends_the_loop(code: Path, tmp_path: Path) -> None:
    assert len(train(loop_spec("own:train", epochs=2), tmp_path / "job", code).epochs) == 2


def test_checkpoints_come_as_often_as_the_spec_says(code: Path, tmp_path: Path) -> None:
    spec = loop_spec("own:train", epochs=3, checkpointing={"everyEpochs": 2})
    trained = train(spec, tmp_path / "job", code)
    lasts = [point.epoch for point in trained.checkpoints if point.uri.endswith("last-attempt-1")]
    assert lasts == [2, 3]
    stopped = train(spec, tmp_path / "stopped", code, should_stop=lambda trained: bool(trained.epochs))
    # What was held back is published when the loop is asked to stop.
    assert [point.epoch for point in stopped.checkpoints if point.uri.endswith("last-attempt-1")] == [1]


def test_what_was_not_saved_is_no_best(code: Path, tmp_path: Path) -> None:
    trained = train(loop_spec("own:train", {"trick": "saves once"}, epochs=2), tmp_path / "job", code)
    assert trained.kinds == ["first_step", "checkpoint", "checkpoint", "epoch", "fit", "epoch", "fit", "result"]
    assert [epoch.best for epoch in trained.epochs] == [True, False]
    assert trained.result.best_epoch == 1


@pytest.mark.parametrize(
    ("trick", "error", "message"),
    [
        ("silent", UserError, r"own:train returned without a report.*\n.*context.save\(network=network\)\n.*report\("),
        ("saves nothing", UserError, r"nothing was saved yet.* call context.save\(network=network\) before .* empty"),
        ("raises", UserCodeError, "RuntimeError: out of ideas, in train at line 39 of own.py"),
        ("nan", NotFiniteError, "reported val_loss nan in epoch 1"),
        ("text", UserError, "val_loss must be one number, and is 'low'"),
        ("vector", UserError, r"val_loss must be one number, and is a tensor of shape \(2,\)"),
        ("skips", UserError, "epoch 2 was reported, and the next one is 1"),
    ],
)
def test_loop_that_errs_is_told_how(
    code: Path, tmp_path: Path, trick: str, error: type[TrainingError], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(loop_spec("own:train", {"trick": trick}), tmp_path / "job", code)


def test_loop_that_hangs_is_given_up(code: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spec = loop_spec("own:train", {"trick": "hangs"}, loop={"reportTimeoutSeconds": 0.3})
    with pytest.raises(UserError, match=r"no report for 0.3 s; it was at own.py:25, in train; call context.report"):
        train(spec, tmp_path / "job", code)
    assert "time.sleep(60)" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("shape", r"network .* weight has shape \(3, 4\) there, and \(3, 5\)"),
        ("name", "nothing was saved as net; saved were: network, weights"),
    ],
)
def test_restoring_something_else_is_refused(code: Path, tmp_path: Path, how: str, message: str) -> None:
    spec = loop_spec("own:changed", {"how": how})
    train(spec, tmp_path / "job", code)
    with pytest.raises(UserError, match=message):
        train(spec, tmp_path / "job", code, attempt=2)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"what": "number"}, "thing is a float, which could not be set back in place"),
        ({"what": "object"}, "thing hold .*which cannot be restored safely"),
        ({"what": "tensor", "name": "random"}, "the name random is taken"),
        ({"what": "tensor", "name": "a/b"}, "'a/b' is no name for a file"),
    ],
)
def test_what_cannot_be_restored_cannot_be_saved(
    code: Path, tmp_path: Path, args: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(loop_spec("own:saves", args), tmp_path / "job", code)


def test_loop_may_bring_its_own_data(tmp_path: Path) -> None:
    own = """
        import torch
        def train(context):
            assert context.train is None and context.classes == ()
            context.save(network={"w": torch.zeros(1)})
            context.report(epoch=1, train_loss=1, val_loss=context.mean(2.0, num_samples=3))
        """
    code = write_code(tmp_path / "code", own=own)
    spec = loop_spec("own:train", dataset=None, network=None)
    assert losses(train(spec, tmp_path / "job", code)) == [2.0]


def test_initial_checkpoint_that_the_loop_does_not_use_is_told(code: Path, tmp_path: Path) -> None:
    spec = loop_spec("own:raw", initialCheckpoint="jobs/other/checkpoints/best")
    with pytest.raises(UserError, match=r"initial_checkpoint is set, but .* call context.network\(\)"):
        train(spec, tmp_path / "job", code)


def test_loop_may_begin_with_the_weights_of_another_training(tmp_path: Path) -> None:
    own = """
        def train(context):
            context.save(network=context.network())
            context.report(epoch=1, train_loss=1, val_loss=1)
        """
    code = write_code(tmp_path / "code", own=own)
    before = run_service_loop(make_spec(epochs=1), tmp_path / "before")
    start = (before.folder / "checkpoints" / "best").resolve().as_uri()
    mine = train(loop_spec("own:train", initialCheckpoint=start), tmp_path / "mine", code)
    assert all(torch.equal(value, best(before)[name]) for name, value in best(mine).items())


def test_an_epoch_draws_alike_whenever_it_is_run(tmp_path: Path) -> None:
    own = """
        import torch
        def draw(context, epoch):
            features, _ = next(context.train.batches(epoch))
            return features.sum().item(), torch.rand(()).item()
        def train(context):
            first, second, again = (draw(context, epoch) for epoch in (1, 2, 1))
            assert first == again and first[0] != second[0] and first[1] != second[1]
            graph = torch.ones((), requires_grad=True)
            assert context.mean(graph, num_samples=2) == 1
            context.save(network={"w": graph})
            context.report(epoch=1, train_loss=graph, val_loss=1)
            context.train.batches(0)
        """
    code = write_code(tmp_path / "code", own=own)
    with pytest.raises(UserError, match="count from 1"):
        train(loop_spec("own:train"), tmp_path / "job", code)


def test_targets_of_another_shape_than_the_output_are_an_error(tmp_path: Path) -> None:
    own = """
        import torch
        def train(context):
            features, targets = torch.ones(8, 4), torch.ones(8, 1)
            torch.nn.functional.mse_loss(features.sum(1), targets)
        """
    code = write_code(tmp_path / "code", own=own)
    message = r"Using a target size .*numbers have shape \(samples, values\), here \(samples, 1\); .* line 5 of own.py"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = list(warnings.filters)
        with pytest.raises(UserCodeError, match=message):
            train(loop_spec("own:train"), tmp_path / "job", code)
        assert warnings.filters == before


def test_an_error_of_the_context_is_told_with_the_users_lines_alone(tmp_path: Path) -> None:
    own = """
        def train(context):
            context.report(epoch=1, train_loss=1, val_loss=1)
        """
    archive = zipped(write_code(tmp_path / "code", own=own), tmp_path / "code.zip")
    with pytest.raises(UserError) as caught:
        train(loop_spec("own:train"), tmp_path / "job", archive)
    line = "    context.report(epoch=1, train_loss=1, val_loss=1)\n"
    assert caught.value.__notes__ == [f'in your code:\n  File "own.py", line 3, in train\n{line}']


def test_gradients_weigh_samples_alike(tmp_path: Path) -> None:
    own = """
        import torch
        def train(context):
            weights = torch.ones(2, requires_grad=True)
            idle = torch.ones(3, requires_grad=True)
            (2 * weights).sum().backward()
            context.average_gradients([weights, idle], num_samples=4)
            assert weights.grad.tolist() == [2, 2] and idle.grad.tolist() == [0, 0, 0]
            context.save(weights=[weights])
            context.report(epoch=1, train_loss=1, val_loss=1)
        """
    assert losses(train(loop_spec("own:train"), tmp_path / "job", write_code(tmp_path / "code", own=own))) == [1]

"""The verdict on the fit of real trainings: alike on any number of workers, kept over a kill, and acted on."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from integration.trainer.ranks import Outcome, run_ranks
from safetensors.torch import load as load_tensors
from torch.nn import functional
from trana.trainer import evaluation, fit
from trana.trainer.data.dataset import load as read_dataset
from trana.trainer.errors import NotFiniteError
from trana.trainer.judge import CURVE, Judge, Sizes
from trana.trainer.network import build_network
from trana.v1 import epoch_pb2, fit_pb2, report_pb2, training_pb2
from unit.trainer.coding import loop_spec, module_spec, train, write_code
from unit.trainer.specs import held, regression, write_csv, write_numbers
from unit.trainer.training import Trained, place, run

pytestmark = pytest.mark.usefixtures("one_thread")

WIDE = [
    {"linear": {"outFeatures": 64}},
    {"tanh": {}},
    {"linear": {"outFeatures": 64}},
    {"tanh": {}},
    {"linear": {"outFeatures": 1}},
]
# What a clock decides, and sentences that tell of it.
CLOCK = ("wasted_seconds", "wasted_share", "evidence", "advice")


def overfitting(folder: Path, **changes: Any) -> training_pb2.TrainingSpec:
    """Makes a training of 24 noisy samples by a wide network; 36 validate."""
    draw = np.random.default_rng(3)
    features = draw.normal(size=(60, 3))
    target = features[:, 0] + draw.normal(size=60)
    rows = [",".join(f"{value:.6f}" for value in (*row, y)) for row, y in zip(features, target, strict=True)]
    fields: dict[str, Any] = {
        "network": {"layers": WIDE},
        "globalBatchSize": 8,
        "optimizer": {"adam": {"learningRate": 0.01}},
    }
    spec = regression(write_csv(folder / "noisy.csv", "a,b,c,y", *rows), **(fields | changes))
    spec.dataset.split.fractions.validation = 0.6
    return spec


def verdicts(told: Trained | Outcome) -> list[fit_pb2.FitVerdict]:
    return [report.fit for report in told.reports if report.HasField("fit")]


def without_clock(verdict: fit_pb2.FitVerdict) -> fit_pb2.FitVerdict:
    copy = fit_pb2.FitVerdict()
    copy.CopyFrom(verdict)
    for name in CLOCK:
        copy.ClearField(name)  # type: ignore[arg-type]  # names are literals to mypy
    return copy


def judged_again(epochs: list[epoch_pb2.Epoch], first: report_pb2.FirstStep, *, num_epochs: int) -> fit_pb2.FitVerdict:
    """Judges the curve that was reported, from scratch."""
    return fit.verdict(
        [epoch.train_loss for epoch in epochs],
        [epoch.val_loss for epoch in epochs],
        val_loss_se=[epoch.val_loss_se if epoch.HasField("val_loss_se") else math.nan for epoch in epochs],
        lr=[epoch.learning_rate for epoch in epochs],
        epoch_seconds=[epoch.duration_seconds for epoch in epochs],
        num_epochs=num_epochs,
        num_parameters=first.num_parameters,
        num_train=first.num_train,
        num_val=first.num_validation,
    )


def same(verdict: fit_pb2.FitVerdict) -> bytes:
    # As bytes, for NaN is not equal to itself.
    return verdict.SerializeToString(deterministic=True)


def test_overfitting_is_stopped_alike_on_any_number_of_workers(tmp_path: Path) -> None:
    # A step of a single sample is one rank's alone, so that the weights have the same bits with one rank and with two.
    rule = {"by": "STOPPING_RULE_VERDICT", "startFromEpoch": 3}
    spec = overfitting(tmp_path, globalBatchSize=1, epochs=200, earlyStopping=rule)
    one, two = (run_ranks(spec, tmp_path / str(size), world_size=size) for size in (1, 2))
    assert not one.errors
    assert not two.errors
    assert 3 < len(two.epochs) < 200
    assert two.result.stop_reason == report_pb2.STOP_REASON_VERDICT
    assert verdicts(two)[-1].label == fit_pb2.FIT_LABEL_OVERFITTING
    assert not any(map(fit.should_stop, verdicts(two)[3:-1]))
    assert one.result == two.result
    for name in ("train_loss", "val_loss", "val_loss_se"):
        assert [getattr(each, name) for each in one.epochs] == [getattr(each, name) for each in two.epochs], name
    assert [same(without_clock(each)) for each in verdicts(one)] == [
        same(without_clock(each)) for each in verdicts(two)
    ]
    assert two.result.best_val_loss == min(epoch.val_loss for epoch in two.epochs)
    best = tmp_path / "2" / "checkpoints" / "best" / "network.safetensors"
    assert (tmp_path / "1" / "checkpoints" / "best" / "network.safetensors").read_bytes() == best.read_bytes()


def test_paired_error_is_that_of_the_samples_losses(tmp_path: Path) -> None:
    trained = run(overfitting(tmp_path, epochs=20), tmp_path / "job")
    spec = overfitting(tmp_path)
    samples = held(read_dataset(spec).validation)
    network = build_network(spec.network, (3,), seed=0).eval()
    losses = []
    for kind in ("best", "last"):
        network.load_state_dict(load_tensors(trained.file(kind, "network.safetensors")))
        output = network(torch.as_tensor(samples.features))
        losses.append(functional.mse_loss(output, torch.as_tensor(samples.targets), reduction="none").mean(1))
    rise = (losses[1] - losses[0]).detach().double()
    last = trained.epochs[-1]
    assert not last.best
    assert last.val_loss_se == pytest.approx(float(rise.std() / len(rise) ** 0.5), rel=1e-4)
    assert all(epoch.HasField("val_loss_se") and (epoch.val_loss_se == 0) == epoch.best for epoch in trained.epochs)


def test_very_many_samples_are_paired_by_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_MAX_PAIRED", 35)
    trained = run(overfitting(tmp_path, epochs=1), tmp_path / "job")
    # 36 samples in chunks of 8.
    assert load_tensors(trained.file("last", f"{CURVE}.safetensors"))["best_losses"].shape == (5,)
    assert trained.epochs[0].val_loss_se == 0


def test_killed_training_goes_on_with_the_same_verdicts(tmp_path: Path) -> None:
    spec = overfitting(tmp_path, epochs=24)
    whole = run(spec, tmp_path / "whole")
    cut = run(spec, tmp_path / "cut", kill_after=16)
    resumed = run(spec, tmp_path / "cut", attempt=2)
    # Told again before the first step: of the last checkpoint's epoch, which the killed attempt had no time to tell.
    kinds = resumed.kinds
    assert kinds[kinds.index("first_step") - 1] == "fit"
    (first,) = [report.first_step for report in resumed.reports if report.HasField("first_step")]
    again, *new = verdicts(resumed)
    assert [verdict.epoch for verdict in verdicts(cut)] == list(range(1, 16))
    assert [verdict.epoch for verdict in (again, *new)] == list(range(16, 25))
    for verdict in (again, *new):
        assert same(verdict) == same(judged_again(resumed.epochs[: verdict.epoch], first, num_epochs=24))
    assert [epoch.val_loss_se for epoch in resumed.epochs] == [epoch.val_loss_se for epoch in whole.epochs]
    assert [same(without_clock(verdict)) for verdict in (again, *new)] == [
        same(without_clock(verdict)) for verdict in verdicts(whole)[15:]
    ]


def test_checkpoint_without_a_curve_goes_on_from_its_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = overfitting(tmp_path, epochs=12)
    with monkeypatch.context() as before:
        before.setattr(Judge, "state", lambda self: {})
        cut = run(spec, tmp_path / "job", kill_after=9)
    assert not any(epoch.best for epoch in cut.epochs[-2:])
    resumed = run(spec, tmp_path / "job", attempt=2)
    (first,) = [report.first_step for report in resumed.reports if report.HasField("first_step")]
    assert same(verdicts(resumed)[0]) == same(judged_again(resumed.epochs[:9], first, num_epochs=12))
    assert [verdict.epoch for verdict in verdicts(resumed)] == [9, 10, 11, 12]
    # The losses of the best epoch are gone: what cannot be paired is not told.
    assert not any(epoch.HasField("val_loss_se") for epoch in resumed.epochs[9:] if not epoch.best)


def test_curve_that_outgrew_its_history_keeps_its_epochs(tmp_path: Path) -> None:
    history = [epoch_pb2.Epoch(epoch=epoch, train_loss=1.0, val_loss=1.0) for epoch in (5, 6, 7)]
    judge = Judge(overfitting(tmp_path), place(tmp_path), Sizes())
    judge.restore({}, history)
    assert judge.verdict is not None
    assert judge.verdict.epoch == 7
    assert judge.state()["epochs"][:4].isnan().all()


@pytest.mark.parametrize("rate", [1e6, 1e30])
def test_training_whose_loss_is_no_number_is_told_to_have_diverged(tmp_path: Path, rate: float) -> None:
    """In the evaluation after an epoch, or within one."""
    path = write_numbers(tmp_path / "n.csv", 64)
    spec = regression(path, optimizer={"sgd": {"learningRate": rate}}, globalBatchSize=64 if rate == 1e6 else 8)
    spec.epochs = 9
    told: list[report_pb2.Report] = []
    with pytest.raises(NotFiniteError):
        run(spec, tmp_path / "job", told=told)
    assert told[-1].fit.label == fit_pb2.FIT_LABEL_DIVERGED
    assert told[-1].fit.epoch == sum(report.HasField("epoch") for report in told) + 1


def test_ranks_that_diverge_tell_it_once(tmp_path: Path) -> None:
    path = write_numbers(tmp_path / "n.csv", 64)
    spec = regression(path, optimizer={"sgd": {"learningRate": 1e30}}, globalBatchSize=8)
    ended = run_ranks(spec, tmp_path / "job", world_size=2)
    assert {type(error) for error in ended.errors.values()} == {NotFiniteError}
    assert [verdict.label for verdict in verdicts(ended)] == [fit_pb2.FIT_LABEL_DIVERGED]


OWN = """
import torch
from torch import nn

def train(context):
    network = context.network() if context.spec.HasField("network") else nn.Sequential(nn.Linear(3, 2))
    done = context.restore(network=network)
    for epoch in range(done + 1, 201):
        losses = context.args["losses"]
        train_loss, val_loss = losses[epoch - 1] if epoch <= len(losses) else (1 / epoch, 1 + epoch / 10)
        context.save(network=network)
        context.report(epoch=epoch, train_loss=float(train_loss), val_loss=float(val_loss), learning_rate=0.5)
        if context.should_stop():
            break
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return write_code(tmp_path / "code", own=OWN)


def own_spec(losses: list[Any], **changes: Any) -> training_pb2.TrainingSpec:
    """Makes a training whose loop reports given losses; then training loss falls and validation loss rises."""
    alone = {"network": None, "dataset": None, "global_batch_size": None}
    return loop_spec("own:train", {"losses": losses}, **(alone | {"epochs": 200} | changes))


def test_loop_of_the_users_is_judged_by_its_two_curves_and_stopped(code: Path, tmp_path: Path) -> None:
    falling = [[1 / epoch, 1 / epoch + 0.1] for epoch in range(1, 9)]
    spec = own_spec(falling, earlyStopping={"by": "STOPPING_RULE_VERDICT", "startFromEpoch": 12})
    trained = train(spec, tmp_path / "job", code)
    assert 12 < len(trained.epochs) < 200
    assert trained.result.stop_reason == report_pb2.STOP_REASON_VERDICT
    assert trained.result.best_epoch == 8
    (first,) = [report.first_step for report in trained.reports if report.HasField("first_step")]
    assert [(layer.name, layer.kind, layer.num_parameters) for layer in first.layers] == [("0", "Linear", 8)]
    assert not any(epoch.HasField("val_loss_se") for epoch in trained.epochs)
    again = fit.verdict(
        [epoch.train_loss for epoch in trained.epochs],
        [epoch.val_loss for epoch in trained.epochs],
        lr=[0.5] * len(trained.epochs),
        epoch_seconds=[epoch.duration_seconds for epoch in trained.epochs],
        num_parameters=8,
    )
    # It stops early already.
    del again.advice[[piece.remedy for piece in again.advice].index(fit_pb2.FIT_REMEDY_EARLY_STOPPING)]
    assert same(verdicts(trained)[-1]) == same(again)
    # A further attempt finds that it has ended, and tells the verdict once more.
    resumed = train(spec, tmp_path / "job", code, attempt=2)
    assert [same(verdict) for verdict in verdicts(resumed)[:1]] == [same(again)]


@pytest.mark.parametrize(
    ("losses", "label"),
    [
        (["nan", 1], fit_pb2.FIT_LABEL_DIVERGED),
        ([1, "inf"], fit_pb2.FIT_LABEL_DIVERGED),
        ([1, "nan"], fit_pb2.FIT_LABEL_UNDETERMINED),  # a NaN among the validation samples, for training goes on well
    ],
)
def test_loop_of_the_users_that_reports_no_number_is_judged_by_it(
    losses: list[Any], label: int, code: Path, tmp_path: Path
) -> None:
    told: list[report_pb2.Report] = []
    with pytest.raises(NotFiniteError):
        train(own_spec([[1, 1], losses]), tmp_path / "job", code, told=told)
    assert told[-1].fit.label == label


LIGHTNING = """
import lightning
import torch
from torch import nn
from torch.nn import functional

class Net(lightning.LightningModule):
    def __init__(self, num_classes):
        super().__init__()
        self.layer = nn.Linear(4, num_classes)

    def forward(self, features):
        return self.layer(features)

    def training_step(self, batch):
        features, targets = batch
        return functional.cross_entropy(self.layer(features), targets)

    validation_step = training_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=2.0)
"""


def test_lightning_is_paired_by_chunks(tmp_path: Path) -> None:
    spec = module_spec("lit:Net", loss=None, optimizer=None, epochs=6)
    trained = train(spec, tmp_path / "job", write_code(tmp_path / "code", lit=LIGHTNING))
    losses = []
    samples = held(read_dataset(spec).validation)
    for kind in ("best", "last"):
        weights = load_tensors(trained.file(kind, "network.safetensors"))
        output = functional.linear(torch.as_tensor(samples.features), weights["layer.weight"], weights["layer.bias"])
        losses.append(functional.cross_entropy(output, torch.as_tensor(samples.targets), reduction="none"))
    # 30 samples in chunks of 8, of which the last has 6.
    counts = np.array([8, 8, 8, 6])
    rise = np.array([float(chunk.double().sum()) for chunk in torch.split(losses[1] - losses[0], 8)])
    rest = rise - rise.sum() / 30 * counts
    last = trained.epochs[-1]
    assert not last.best
    assert last.val_loss_se == pytest.approx(math.sqrt(4 / 3 * (rest**2).sum()) / 30, rel=1e-4)

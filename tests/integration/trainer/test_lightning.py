"""A LightningModule: on one worker and on two, interrupted, and what it may not do."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from integration.trainer.ranks import Group, Outcome, run_ranks
from safetensors.torch import load_file
from trana.trainer.errors import NotFiniteError, UserError
from trana.trainer.scoring.checkpoint import open_checkpoint
from trana.trainer.scoring.rebuilding import code_of, rebuild
from trana.v1 import report_pb2, training_pb2
from unit.trainer.coding import module_spec, train, write_code

MODULE = """
import json
import pathlib

import lightning
import torch
import torchmetrics
from torch import nn
from torch.nn import functional

class Net(lightning.LightningModule):
    def __init__(self, input_shape, num_classes, log, dropout=0.0):
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(
            nn.Linear(input_shape[0], 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, num_classes)
        )
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=num_classes)
        self.path = pathlib.Path(log)
        self.told = []

    def forward(self, features):
        return self.layers(features)

    def training_step(self, batch, batch_idx):
        features, targets = batch
        assert features.device == self.device
        self.told.append([self.current_epoch, self.global_step, batch_idx])
        loss = functional.cross_entropy(self(features), targets)
        self.log("train_loss", loss, prog_bar=True, sync_dist=True)
        return {"loss": loss}

    def validation_step(self, batch, batch_idx):
        features, targets = batch
        scores = self(features)
        self.accuracy(scores, targets)
        self.log_dict({"val_loss": functional.cross_entropy(scores, targets), "val_right": self.accuracy})

    def test_step(self, batch, batch_idx):
        features, targets = batch
        self.log("test_of_its_own", 1.0)
        return functional.cross_entropy(self(features), targets)

    def on_train_epoch_start(self):
        self.told.append("start")

    def on_train_epoch_end(self):
        self.told.append("end")
        if self.trainer.is_global_zero:
            self.path.write_text(json.dumps(self.told))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]
"""

LATE = """
import lightning
import torch
from torch import nn
from torch.nn import functional

class Late(lightning.LightningModule):
    def __init__(self, num_classes, scale=1.0):
        super().__init__()
        self.num_classes = num_classes
        self.scale = float(scale)

    def setup(self, stage):
        assert stage == "fit"
        self.width = 4 * min(self.trainer.max_epochs, 1)

    def configure_model(self):
        self.layer = nn.Linear(self.width, self.num_classes)

    def training_step(self, batch):
        features, targets = batch
        return functional.cross_entropy(self.layer(features), targets) * self.scale

    validation_step = training_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

def loop(context):
    network = context.network()
    loss = network.training_step((context.validation.all().features, context.validation.all().targets))
    context.save(network=network)
    context.report(epoch=1, train_loss=loss, val_loss=loss)
"""

REFUSED = {
    "Manual": (
        "automatic_optimization = property(lambda self: False, lambda self, value: None)\n",
        "optimises by hand",
    ),
    "Skips": ("def training_step(self, batch, batch_idx): return None\n", "gave no loss: return it"),
    "Detached": ("def training_step(self, batch, batch_idx): return torch.zeros(())\n", "needs no gradient"),
    "Silent": (
        "def validation_step(self, batch, batch_idx): pass\n",
        'gives no loss, .* self.log\\("val_loss", loss\\)',
    ),
    "Two": (
        "def configure_optimizers(self): return [torch.optim.SGD(self.parameters()) for _ in range(2)]\n",
        "gave 2 optimisers",
    ),
    "Closure": (
        "def configure_optimizers(self): return torch.optim.LBFGS(self.parameters())\n",
        "gave LBFGS, whose step evaluates the loss several times",
    ),
    "Sparse": (
        "def configure_model(self): self.layers[0].ids = torch.nn.Embedding(2, 2, sparse=True)\n"
        "    def configure_optimizers(self): return torch.optim.Adam(self.parameters())\n",
        r"layers.0.ids of odd:Sparse \(Embedding\) has sparse gradients, which Adam does not take",
    ),
    "Wide": (
        "def training_step(self, batch, batch_idx, of): pass\n",
        r"must take \(batch, batch_idx\) or \(batch\), not",
    ),
    "Hooked": ("def optimizer_step(self, *args): pass\n", "defines optimizer_step, which would not be called; "),
    "Ends": ("def on_validation_epoch_end(self): pass\n", "defines on_validation_epoch_end, .* in validation_step"),
    "Keeps": ("def on_save_checkpoint(self, checkpoint): pass\n", "defines on_save_checkpoint, .*register_buffer"),
    "Asks": (
        "def training_step(self, batch, batch_idx): return self.trainer.datamodule\n",
        "self.trainer.datamodule is not there",
    ),
}


def make_spec(tmp_path: Path, entrypoint: str = "lit:Net", **args: object) -> training_pb2.TrainingSpec:
    given = {"log": str(tmp_path / "told.json"), **args}
    return module_spec(entrypoint, given, loss=None, optimizer=None)


def losses(outcome: Outcome) -> list[float]:
    assert not outcome.errors
    return [value for epoch in outcome.epochs for value in (epoch.train_loss, epoch.val_loss)]


def test_curve_does_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", lit=MODULE)
    spec = make_spec(tmp_path)
    one, two = (run_ranks(spec, tmp_path / str(size), world_size=size, code=code) for size in (1, 2))
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    for epoch in (*one.epochs, *two.epochs):
        assert set(epoch.metrics) == {"train_right", "val_right"}
    assert [epoch.metrics["val_right"] for epoch in two.epochs] == [epoch.metrics["val_right"] for epoch in one.epochs]
    # Its own schedule, step by step: from a twenty-fifth of the highest rate, and down to nearly nothing.
    assert two.epochs[0].learning_rate > 0.05 > 0.001 > two.epochs[-1].learning_rate
    assert set(two.result.test_metrics) == {"test_loss", "test_of_its_own"}
    told = [["start", *([epoch, 6 * epoch + step, step] for step in range(6)), "end"] for epoch in range(3)]
    # What came before the first epoch was a trial of DDP.
    heard = json.loads((tmp_path / "told.json").read_text())
    assert heard[heard.index("start") :] == [word for words in told for word in words]


def test_interrupted_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    def stop(report: report_pb2.Report, group: Group) -> None:
        if report.HasField("first_step"):
            group.stop()

    code = write_code(tmp_path / "code", lit=MODULE)
    spec = make_spec(tmp_path, dropout=0.3)
    run_ranks(spec, tmp_path / "whole", world_size=2, code=code)
    run_ranks(spec, tmp_path / "cut", world_size=2, code=code, on_report=stop)
    rest = run_ranks(spec, tmp_path / "cut", world_size=2, code=code, attempt=2)
    assert not rest.errors
    # It went on at the batch where it was stopped.
    heard = json.loads((tmp_path / "told.json").read_text())
    steps = [word for word in heard[heard.index("start") :] if word not in ("start", "end")]
    assert 0 < len(steps) < 18
    assert steps == [[step // 6, step, step % 6] for step in range(18 - len(steps), 18)]
    whole, cut = (load_file(tmp_path / job / "checkpoints/last/network.safetensors") for job in ("whole", "cut"))
    assert all(whole[name].equal(cut[name]) for name in whole)


def test_network_that_is_made_late_is_complete_wherever_it_is_built(tmp_path: Path) -> None:
    """Its steps take no number of the batch, and it has no forward."""
    code = write_code(tmp_path / "code", late=LATE)
    spec = module_spec("late:Late", loss=None, optimizer=None)
    served = train(spec, tmp_path / "served", code)
    spec.loop.entrypoint = "late:loop"
    assert train(spec, tmp_path / "own", code).epochs[0].val_loss > served.epochs[-1].val_loss
    trained = open_checkpoint(tmp_path / "served" / "checkpoints" / "best")
    with code_of(trained, allow_code=True):
        network: Any = rebuild(trained)
        assert network.network.layer.weight.equal(trained.weights()["layer.weight"])
        with pytest.raises(UserError, match="late:Late has no forward, which tells what the network makes of features"):
            network(torch.zeros(2, 4))


def test_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", late=LATE)
    spec = module_spec("late:Late", {"scale": "inf"}, loss=None, optimizer=None)
    message = r"became NaN or infinite in epoch 1.*learning rate in configure_optimizers"
    with pytest.raises(NotFiniteError, match=message):
        train(spec, tmp_path / "job", code)


def test_what_cannot_be_honoured_is_refused(tmp_path: Path) -> None:
    variants = "".join(f"class {name}(Net):\n    {body}" for name, (body, _) in REFUSED.items())
    code = write_code(tmp_path / "code", lit=MODULE, odd=f"import torch\nfrom lit import Net\n{variants}")
    for name, (_, message) in REFUSED.items():
        with pytest.raises(UserError, match=message):
            train(make_spec(tmp_path, f"odd:{name}"), tmp_path / name, code)
    with pytest.raises(UserError, match=r"training.loss is not used: lit:Net is a LightningModule"):
        train(module_spec("lit:Net", {"log": ""}), tmp_path / "loss", code)

"""A Keras network on the torch backend: on one worker and on two, interrupted, and its own ways."""

from pathlib import Path
from typing import Any

import pytest
import torch
from integration.trainer.ranks import Group, Outcome, run_ranks
from safetensors.torch import load_file
from trana.trainer.code import make, opened
from trana.trainer.errors import UserError
from trana.trainer.feeding import Batch
from trana.trainer.losses import build_loss
from trana.trainer.objective.keras import KerasObjective, build_variables
from trana.v1 import report_pb2
from unit.trainer.coding import module_spec, train, write_code

NETWORK = """
import keras

class Costly(keras.layers.Layer):
    def __init__(self, cost):
        super().__init__()
        self.cost = cost

    def call(self, inputs):
        self.add_loss(self.cost * keras.ops.mean(keras.ops.square(inputs)))
        return inputs

def make(num_classes, norm=False, dropout=0.0, decay=0.0, cost=0.0):
    decay = keras.regularizers.L2(decay) if decay else None
    layers = [keras.layers.Dense(8, activation="tanh", kernel_regularizer=decay), keras.layers.Dropout(dropout, seed=3)]
    layers += [Costly(cost)] if cost else []
    layers += [keras.layers.BatchNormalization()] if norm else []
    return keras.Sequential([*layers, keras.layers.Dense(num_classes)])
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return write_code(tmp_path / "code", net=NETWORK)


def losses(outcome: Outcome) -> list[float]:
    assert not outcome.errors
    return [value for epoch in outcome.epochs for value in (epoch.train_loss, epoch.val_loss)]


def test_curve_does_not_depend_on_the_number_of_workers(code: Path, tmp_path: Path) -> None:
    one, two = (run_ranks(module_spec("net:make"), tmp_path / str(size), world_size=size, code=code) for size in (1, 2))
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    assert two.epochs[-1].val_loss < two.epochs[0].val_loss
    # Keras keeps all parameters of a network in one list; it knows whose they are.
    layers = [(layer.kind, layer.num_parameters) for layer in two.first_step.layers]
    assert layers == [("Dense", 4 * 8 + 8), ("Dropout", 0), ("Dense", 8 * 3 + 3)]
    assert all(epoch.HasField("val_loss_se") for epoch in two.epochs)


def test_interrupted_training_ends_with_the_same_bits(code: Path, tmp_path: Path) -> None:
    """With dropout, whose generators are Keras's own, and batch normalisation, whose statistics are each rank's own."""

    def stop(report: report_pb2.Report, group: Group) -> None:
        if report.HasField("first_step"):
            group.stop()

    spec = module_spec("net:make", {"norm": True, "dropout": 0.5})
    uncut = run_ranks(spec, tmp_path / "whole", world_size=2, code=code)
    cut = run_ranks(spec, tmp_path / "cut", world_size=2, code=code, on_report=stop)
    assert len(cut.epochs) < 3
    rest = run_ranks(spec, tmp_path / "cut", world_size=2, code=code, attempt=2)
    # Rank 1 evaluates too: it needs the statistics of rank 0.
    assert losses(rest)[-2:] == losses(uncut)[-2:]
    whole, other = (load_file(tmp_path / job / "checkpoints/last/network.safetensors") for job in ("whole", "cut"))
    assert all(whole[name].equal(other[name]) for name in whole)
    # It has seen the samples of all ranks' own, and moved from where it began.
    (mean,) = (value for name, value in whole.items() if name.startswith("_torch") and name.endswith("moving_mean"))
    assert mean.abs().sum() > 0


def test_dropout_is_on_in_training_alone(code: Path, tmp_path: Path) -> None:
    still = {"sgd": {"learningRate": 1e-30}}
    shares = (0.1, 0.9)

    def curves(name: str, **changes: object) -> list[list[float]]:
        specs = [module_spec("net:make", {"dropout": share}, **changes) for share in shares]
        trained = [train(spec, tmp_path / f"{name}-{index}", code) for index, spec in enumerate(specs)]
        return [[epoch.val_loss for epoch in each.epochs] for each in trained]

    little, much = curves("still", optimizer=still)
    assert little == much
    little, much = curves("moving")
    assert all(one != other for one, other in zip(little, much, strict=True))


def test_dropout_follows_torchs_generator(code: Path) -> None:
    """Which is each rank's own, and kept with checkpoints."""
    spec = module_spec("net:make", {"num_classes": 3, "dropout": 0.5})
    with opened(code):
        network = make(spec.module.entrypoint, spec.module.args, offered={})
        build_variables(network, (4,))
    objective = KerasObjective(spec, network, build_loss(spec.loss, (), ()))
    batch = Batch(torch.ones(8, 4), torch.zeros(8, dtype=torch.int64), own=8, total=8)

    def loss(seed: int) -> float:
        torch.manual_seed(seed)
        return float(objective.train()(batch).detach())

    assert loss(1) == loss(1) != loss(2)


def weight_norm(job: Path) -> float:
    weights = load_file(job / "checkpoints/last/network.safetensors")
    return float(next(value for name, value in weights.items() if value.shape == (4, 8)).norm())


def test_regularisers_shrink_the_weights_alike_on_any_number_of_workers(code: Path, tmp_path: Path) -> None:
    # Steps of 3 samples on 2 workers, in 2 parts: one of these has no sample of its own.
    change: dict[str, Any] = {"epochs": 1, "globalBatchSize": 3, "accumulationSteps": 2}
    spec = module_spec("net:make", {"decay": 1.0}, **change)
    one, two = (run_ranks(spec, tmp_path / str(size), world_size=size, code=code) for size in (1, 2))
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    train(module_spec("net:make", **change), tmp_path / "free", code)
    assert weight_norm(tmp_path / "1") == pytest.approx(weight_norm(tmp_path / "2"), abs=1e-5)
    assert weight_norm(tmp_path / "1") < weight_norm(tmp_path / "free") / 2


def test_losses_that_layers_add_are_minimised(code: Path, tmp_path: Path) -> None:
    free, costly = (train(module_spec("net:make", {"cost": cost}), tmp_path / str(cost), code) for cost in (0.0, 50.0))
    assert weight_norm(costly.folder) < 0.9 * weight_norm(free.folder)


def test_sharding_a_keras_network_is_refused(code: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="FSDP cannot cut the variables of a Keras network"):
        train(module_spec("net:make", strategy="STRATEGY_FSDP"), tmp_path / "job", code)


def test_compiling_a_keras_network_is_refused(code: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training.compile is not for Keras networks"):
        train(module_spec("net:make", compile=True), tmp_path / "job", code)

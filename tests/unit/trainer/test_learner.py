"""What a step does beside following the gradient."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from trana.trainer.augmentation import Augmentation
from trana.trainer.errors import UserError
from trana.trainer.feeding import Batch
from trana.trainer.learner import Learner
from trana.trainer.losses import build_loss
from trana.trainer.network import build_network
from trana.trainer.objective.supervised import Supervised
from trana.trainer.random_state import random_state, seed_all, set_random_state
from trana.v1 import training_pb2
from unit.trainer.specs import make_spec, write_csv
from unit.trainer.training import place, run

CPU = torch.device("cpu")


def objective_of(spec: training_pb2.TrainingSpec) -> Supervised:
    return Supervised(spec, build_network(spec.network, (4,), seed=0), build_loss(spec.loss))


def batch(count: int = 12, *, own: int | None = None, scale: float = 1.0) -> Batch:
    generator = torch.Generator().manual_seed(count)
    features = scale * torch.randn(count, 4, generator=generator)
    targets = torch.randint(3, (count,), generator=generator)
    own = count if own is None else own
    return Batch(features, targets, own, own)


def weights_after(folder: Path, *batches: Batch, **changes: Any) -> list[Tensor]:
    sgd = {"sgd": {"learningRate": 0.5, "momentum": 0.9}}
    spec = make_spec(**{"optimizer": sgd, **changes})
    learner = Learner(spec, objective_of(spec), place(folder), batch(2))
    for each in batches:
        learner.step(each, least=1)
    return [parameter.detach() for parameter in learner.objective.parameters()]


@pytest.mark.parametrize("parts", [2, 5, 20])
def test_batch_in_parts_gives_the_step_of_the_whole(tmp_path: Path, parts: int) -> None:
    whole = weights_after(tmp_path, batch(), batch(13))
    in_parts = weights_after(tmp_path, batch(), batch(13), accumulationSteps=parts)
    for one, other in zip(whole, in_parts, strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-6)


def test_gradient_is_scaled_down_to_the_norm(tmp_path: Path) -> None:
    start = weights_after(tmp_path)
    steep = weights_after(tmp_path, batch(scale=100.0), clipNorm=0.25)
    moved = torch.cat([(one - other).flatten() for one, other in zip(steep, start, strict=True)]).norm()
    assert float(moved) == pytest.approx(0.5 * 0.25, rel=1e-4)
    flat = weights_after(tmp_path, batch(), clipNorm=1e6)
    assert all(map(torch.equal, flat, weights_after(tmp_path, batch())))


def test_step_whose_scaled_gradients_overflow_is_left_out(tmp_path: Path) -> None:
    start = weights_after(tmp_path)
    overflowing = batch(scale=30.0)
    skipped = weights_after(tmp_path, overflowing, precision="PRECISION_FP16")
    # As the first step, after which nothing else may remember it either.
    after = weights_after(tmp_path, overflowing, batch(), precision="PRECISION_FP16")
    assert all(map(torch.equal, skipped, start))
    for one, other in zip(after, weights_after(tmp_path, batch()), strict=True):
        assert torch.allclose(one, other, atol=2e-3)


@pytest.mark.parametrize("precision", ["PRECISION_BF16", "PRECISION_FP16"])
def test_training_in_16_bits_keeps_weights_and_losses_in_32(tmp_path: Path, precision: str) -> None:
    exact = run(make_spec(epochs=3), tmp_path / "exact")
    rounded = run(make_spec(epochs=3, precision=precision), tmp_path / "rounded")
    assert {tensor.dtype for tensor in load(rounded.file("last", "network.safetensors")).values()} == {torch.float32}
    losses = [epoch.val_loss for epoch in rounded.epochs]
    assert losses != [epoch.val_loss for epoch in exact.epochs]
    assert losses == pytest.approx([epoch.val_loss for epoch in exact.epochs], rel=0.02)


def test_average_is_that_of_torch_and_is_what_best_has(tmp_path: Path) -> None:
    spec = make_spec(epochs=3, ema={"decay": 0.9}, checkpointing={"everySteps": 1})
    network = build_network(spec.network, (4,), seed=0)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9))  # type: ignore[no-untyped-call]

    def follow(folder: Path) -> None:
        network.load_state_dict(load((folder / "network.safetensors").read_bytes()))
        average.update_parameters(network)

    trained = run(spec, tmp_path, on_last=follow)
    averaged = load(trained.file("last", "average.safetensors"))
    for name, tensor in average.module.state_dict().items():
        assert torch.allclose(averaged[name], tensor, rtol=1e-6, atol=1e-7)
    best = load(trained.file("best", "network.safetensors"))
    assert trained.epochs[-1].best
    assert all(torch.equal(best[name], averaged[name]) for name in averaged)
    assert trained.result.test_metrics["test_loss"] > 0


def test_mixup_mixes_own_samples_and_no_borrowed_one() -> None:
    objective = objective_of(make_spec())
    given = batch(8, own=5)
    torch.manual_seed(1)
    mixed, mix = Augmentation(training_pb2.Augmentation(mixup_alpha=0.4), objective).apply(given)
    assert mix is not None
    assert 0 < mix.share < 1
    assert torch.allclose(mixed.features[5:], given.features[5:], rtol=1e-6)
    partners = (mixed.features[:5] - mix.share * given.features[:5]) / (1 - mix.share)
    found = torch.cdist(partners, given.features[:5]).argmin(1)
    assert sorted(found.tolist()) == list(range(5))
    assert torch.equal(mix.targets[:5], given.targets[:5][found])
    expected = (
        mix.share * objective(Batch(mixed.features, given.targets, 5, 5))
        + (1 - mix.share) * objective(Batch(mixed.features, mix.targets, 5, 5))
    )  # fmt: skip
    assert objective(mixed, mix).item() == pytest.approx(expected.item(), rel=1e-6)


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    given = Batch(torch.zeros(5000, 4), torch.zeros(5000, dtype=torch.int64), 5000, 5000)
    torch.manual_seed(0)
    changed, mix = Augmentation(training_pb2.Augmentation(noise_stddev=0.3), objective_of(make_spec())).apply(given)
    assert mix is None
    assert float(changed.features.std()) == pytest.approx(0.3, rel=0.02)


def test_ids_are_not_changed(tmp_path: Path) -> None:
    ids = Batch(torch.zeros(4, 1, dtype=torch.int64), torch.zeros(4, dtype=torch.int64), 4, 4)
    with pytest.raises(UserError, match="cannot change ids"):
        Augmentation(training_pb2.Augmentation(noise_stddev=0.3), objective_of(make_spec())).apply(ids)


def test_mixup_of_a_network_with_a_loss_of_its_own_is_refused() -> None:
    class Own(Supervised):
        takes_mix = False

    spec = make_spec(augmentation={"mixupAlpha": 0.4})
    with pytest.raises(UserError, match=r"mixup_alpha mixes the losses of two targets"):
        Augmentation(spec.augmentation, Own(spec, build_network(spec.network, (4,), seed=0), build_loss(spec.loss)))


def test_class_weights_reach_the_training(tmp_path: Path) -> None:
    rows = [f"{row / 100},{'rare' if row % 10 == 0 else 'common'}" for row in range(100)]
    path = write_csv(tmp_path / "r.csv", "a,species", *rows)
    layers = [{"linear": {"outFeatures": 2}}]
    rules: dict[str, dict[str, Any]] = {"plain": {}, "balanced": {"classWeights": {"balanced": {}}}}
    losses = [
        run(make_spec(path, network={"layers": layers}, loss={"crossEntropy": rule}), tmp_path / name).epochs[-1]
        for name, rule in rules.items()
    ]
    assert losses[1].train_loss > losses[0].train_loss + 0.1


@pytest.fixture
def _own_generators() -> Iterator[None]:
    before = random_state(CPU)
    yield
    set_random_state(before, CPU)


@pytest.mark.usefixtures("_own_generators")
def test_generators_go_on_where_they_were_kept() -> None:
    import random

    import numpy as np

    def draw() -> list[float]:
        # The second of NumPy's and of Python's normal numbers is made with the first, and kept.
        return [torch.rand(1).item(), np.random.normal(), random.gauss(0, 1)]

    seed_all(7, 1)
    first = draw()
    kept = random_state(CPU)
    second = draw()
    set_random_state(kept, CPU)
    assert draw() == second != first
    seed_all(7, 1)
    assert draw() == first

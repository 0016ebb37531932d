from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from trana.trainer.errors import DataError
from trana.trainer.losses import build_loss
from trana.trainer.optimizer import build_optimizer
from unit.trainer.specs import make_spec

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0], [0.5, 0.0, 0.0]])
TARGETS = torch.tensor([0, 2, 1])


def test_smoothing_is_for_steps_and_not_for_the_curve() -> None:
    loss = build_loss(make_spec(loss={"crossEntropy": {"labelSmoothing": 0.2}}).loss)
    smoothed = functional.cross_entropy(LOGITS, TARGETS, label_smoothing=0.2, reduction="none")
    plain = functional.cross_entropy(LOGITS, TARGETS, reduction="none")
    assert torch.equal(loss.per_sample(LOGITS, TARGETS), smoothed)
    assert torch.equal(loss.measured(LOGITS, TARGETS), plain)


def test_balanced_weights_have_a_mean_of_one_over_the_training_samples() -> None:
    counts = (80, 15, 5)
    balanced: dict[str, Any] = {"crossEntropy": {"classWeights": {"balanced": {}}}}
    loss = build_loss(make_spec(loss=balanced).loss, ("a", "b", "c"), counts)
    assert loss.weights is not None
    assert float((loss.weights * torch.tensor(counts)).sum()) == pytest.approx(100)
    assert (loss.weights * torch.tensor(counts)).tolist() == pytest.approx([100 / 3] * 3)


@pytest.mark.parametrize("kind", ["crossEntropy", "bce"])
def test_named_weights_weigh_their_class_and_leave_the_others(kind: str) -> None:
    output, targets = (LOGITS, TARGETS) if kind == "crossEntropy" else (LOGITS[:, :1], torch.tensor([0, 1, 1]))
    named: dict[str, Any] = {kind: {"classWeights": {"named": {"weights": {"b": 2.5}}}}}
    weighed = build_loss(make_spec(loss=named).loss, ("a", "b", "c")[: 3 if kind == "crossEntropy" else 2])
    plain = build_loss(make_spec(loss={kind: {}}).loss)
    expected = plain.per_sample(output, targets) * torch.where(targets == 1, 2.5, 1.0)
    assert weighed.per_sample(output, targets).tolist() == pytest.approx(expected.tolist())
    assert weighed.measured(output, targets).tolist() == pytest.approx(expected.tolist())


def test_weight_of_what_is_no_class_is_told_with_the_classes() -> None:
    named: dict[str, Any] = {"crossEntropy": {"classWeights": {"named": {"weights": {"z": 2, "b": 1}}}}}
    with pytest.raises(DataError, match="names 'z', which is no class of the target; they are: a, b"):
        build_loss(make_spec(loss=named).loss, ("a", "b"))


OPTIMIZERS: list[dict[str, Any]] = [
    {"sgd": {"learningRate": 0.1, "weightDecay": 0.5}},
    {"adam": {"learningRate": 0.1, "weightDecay": 0.5}},
    {"adamw": {"learningRate": 0.1, "weightDecay": 0.5}},
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "adam", "adamw"])
@pytest.mark.parametrize("decays_all", [False, True])
def test_weight_decay_spares_biases_and_norms_unless_told(optimizer: dict[str, Any], decays_all: bool) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LayerNorm(4))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    spec = make_spec(optimizer=optimizer | {"decayBiasesAndNorms": decays_all})
    build_optimizer(spec.optimizer, network).step()
    pulled = {name for name, parameter in network.named_parameters() if (parameter < 1).all()}
    assert pulled == ({name for name, _ in network.named_parameters()} if decays_all else {"0.weight"})


def test_frozen_parameters_have_no_place_in_the_optimiser() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    network[0].requires_grad_(False)
    (group,) = build_optimizer(make_spec().optimizer, network).param_groups
    assert [parameter.shape for parameter in group["params"]] == [(2, 4), (2,)]

"""The loss of each sample, and whether it was told right."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from trana.trainer.errors import DataError
from trana.v1 import training_pb2

PerSample = Callable[[Tensor, Tensor], Tensor]

_MAX_LISTED = 20


class Loss(nn.Module):
    """What is minimised. A module without parameters, so that its weights are on the network's device.

    Args:
        smoothing: Share of a class target that is spread over all classes in training steps.
        weights: How much a sample of each class weighs, float32 of shape (classes,); None where all weigh 1.
    """

    is_class = False

    def __init__(self, *, smoothing: float = 0.0, weights: Tensor | None = None) -> None:
        super().__init__()
        self._smoothing = smoothing
        self.weights: Tensor | None
        self.register_buffer("weights", weights, persistent=False)

    def per_sample(self, output: Tensor, targets: Tensor) -> Tensor:
        """Takes the network's output and the targets; returns losses of shape (count,), for training steps."""
        return self._measure(output, targets, smoothing=self._smoothing)

    def measured(self, output: Tensor, targets: Tensor) -> Tensor:
        """The same for the learning curve: without the smoothing, which only regularises."""
        return self._measure(output, targets)

    def predicted(self, output: Tensor) -> Tensor:
        """Returns the likeliest classes, int64 of shape (count,); for a target that is a class alone."""
        raise NotImplementedError

    @property
    def is_right(self) -> PerSample | None:
        """Says of each sample whether it was told right: booleans of shape (count,). None where there is no class."""
        return (lambda output, targets: self.predicted(output) == targets.flatten()) if self.is_class else None

    def _measure(self, output: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        raise NotImplementedError


class CrossEntropy(Loss):
    """Softmax cross entropy, as torch.nn.functional.cross_entropy has it."""

    is_class = True

    def predicted(self, output: Tensor) -> Tensor:
        """See `Loss.predicted`."""
        return output.argmax(1)

    def _measure(self, output: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        return functional.cross_entropy(
            output, targets, weight=self.weights, label_smoothing=smoothing, reduction="none"
        )


class BinaryCrossEntropy(Loss):
    """Binary cross entropy on logits."""

    is_class = True

    def predicted(self, output: Tensor) -> Tensor:
        """See `Loss.predicted`."""
        return (output.flatten() > 0).long()

    def _measure(self, output: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:  # noqa: ARG002
        logits, targets = output.flatten(), targets.flatten()
        weights = None if self.weights is None else self.weights[targets.long()]
        return functional.binary_cross_entropy_with_logits(
            logits, targets.to(logits.dtype), weight=weights, reduction="none"
        )


class Regression(Loss):
    """The mean over a sample's values of a loss of each."""

    def __init__(self, of_values: Callable[..., Tensor]) -> None:
        super().__init__()
        self._of_values = of_values

    def _measure(self, output: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:  # noqa: ARG002
        return self._of_values(output, targets, reduction="none").mean(1)


def build_loss(loss: training_pb2.Loss, classes: Sequence[str] = (), class_counts: Sequence[int] = ()) -> Loss:
    """Builds the declared loss; meanings are those of torch.nn.functional.

    But one: a mean of weighted losses is one over samples, where torch divides by the sum of the weights.

    Args:
        loss: The declared one.
        classes: Names of the classes, in order; only weights ask for them.
        class_counts: How many training samples each class has.

    Raises:
        DataError: If a weight is given for what is no class.
    """
    match loss.WhichOneof("kind"):
        case "cross_entropy":
            weights = _weights(loss.cross_entropy.class_weights, classes, class_counts)
            return CrossEntropy(smoothing=loss.cross_entropy.label_smoothing, weights=weights)
        case "bce":
            return BinaryCrossEntropy(weights=_weights(loss.bce.class_weights, classes, class_counts))
        case "mse":
            return Regression(functional.mse_loss)
        case "l1":
            return Regression(functional.l1_loss)
        case _:
            delta = loss.huber.delta if loss.huber.HasField("delta") else 1.0
            return Regression(partial(functional.huber_loss, delta=delta))


def _weights(rule: training_pb2.ClassWeights, classes: Sequence[str], class_counts: Sequence[int]) -> Tensor | None:
    """Returns the weight of each class; balanced ones have a mean of 1 over the training samples."""
    match rule.WhichOneof("kind"):
        case "balanced":
            counts = torch.tensor(class_counts, dtype=torch.float64)
            return (counts.sum() / (len(counts) * counts)).float()
        case "named":
            named: Mapping[str, float] = rule.named.weights
            for name in sorted(set(named) - set(classes)):
                listed = ", ".join(classes[:_MAX_LISTED]) + (", ..." if len(classes) > _MAX_LISTED else "")
                raise DataError(f"class_weights names {name!r}, which is no class of the target; they are: {listed}")
            return torch.tensor([named.get(name, 1.0) for name in classes])
    return None

"""The loss of each sample, and whether it was told right."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor
from torch.nn import functional

from trana.v1 import training_pb2

PerSample = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Loss:
    """What is minimised.

    Attributes:
        per_sample: Takes the network's output and the targets; returns losses of shape (count,), for training steps.
        measured: The same for the learning curve: without what only regularises.
        is_right: Takes the same; returns booleans of shape (count,). None where the target is no class.
    """

    per_sample: PerSample
    measured: PerSample
    is_right: PerSample | None


def build_loss(loss: training_pb2.Loss) -> Loss:
    """Builds the declared loss; meanings are those of torch.nn.functional."""
    match loss.WhichOneof("kind"):
        case "cross_entropy":
            return Loss(_cross_entropy, _cross_entropy, lambda output, targets: output.argmax(1) == targets)
        case "bce":
            return Loss(
                _binary_cross_entropy,
                _binary_cross_entropy,
                lambda output, targets: (output.flatten() > 0) == (targets > 0),
            )
        case "mse":
            return _regression(_mean(functional.mse_loss))
        case "l1":
            return _regression(_mean(functional.l1_loss))
        case _:
            delta = loss.huber.delta if loss.huber.HasField("delta") else 1.0
            return _regression(_mean(partial(functional.huber_loss, delta=delta)))


def _regression(per_sample: PerSample) -> Loss:
    return Loss(per_sample, per_sample, None)


def _cross_entropy(output: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(output, targets, reduction="none")


def _binary_cross_entropy(output: Tensor, targets: Tensor) -> Tensor:
    logits = output.flatten()
    return functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")


def _mean(measure: Callable[..., Tensor]) -> PerSample:
    """Makes the loss of a sample of the losses of its values."""

    def per_sample(output: Tensor, targets: Tensor) -> Tensor:
        return measure(output, targets, reduction="none").mean(1)

    return per_sample

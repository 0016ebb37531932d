"""What is measured beside the loss, on a whole split; by torchmetrics, but for accuracy, which is a plain count.

Rank 0 gets the network's outputs chunk by chunk, in the order of the chunks, and feeds them to the metrics: so they
are the same bits for any number of workers. AUROC keeps them, 4 bytes for each class of each sample of a split; the
others keep sums alone.
"""

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trana.trainer.errors import UserError
from trana.trainer.losses import Loss
from trana.v1 import training_pb2

if TYPE_CHECKING:
    import torchmetrics

_log = logging.getLogger(__name__)


class Measure(ABC):
    """A measure of one split."""

    @abstractmethod
    def update(self, output: Tensor, targets: Tensor) -> None:
        """Takes the next samples: what the network gave for them, and their targets, on the CPU."""

    @abstractmethod
    def compute(self) -> float | None:
        """Returns the measure of all samples; None where they have none."""


class Measures:
    """The measures of a training.

    Args:
        spec: Of it metrics and loss count.
        loss: The declared loss; None where the network computes its own.
        num_classes: Classes of the target; 0 where it is a number.

    Raises:
        UserError: If a measure does not fit the target, or the network cannot be measured from outside.
    """

    def __init__(self, spec: training_pb2.TrainingSpec, loss: Loss | None, num_classes: int) -> None:
        kinds = [str(metric.WhichOneof("kind")) for metric in spec.metrics]
        if kinds and loss is None:
            raise UserError(
                "training.metrics cannot be measured of a network that computes its own loss; log them there"
            )
        self.is_right = loss.is_right if loss and (not kinds or "accuracy" in kinds) else None
        self._further = {
            name: make
            for metric in spec.metrics
            if loss is not None
            for name, make in [_maker(metric, loss, num_classes)]
            if metric.WhichOneof("kind") != "accuracy"
        }

    @property
    def has_further(self) -> bool:
        """Whether there is any beside accuracy."""
        return bool(self._further)

    def begin(self) -> "dict[str, Measure]":
        """Returns the measures beside accuracy of a split of which nothing has been seen yet, by name."""
        return {name: make() for name, make in self._further.items()}


def results(measures: Mapping[str, Measure], split: str) -> dict[str, float]:
    """Returns the measures of a split under names such as val_macro_f1; without those that it has none of."""
    found = {}
    for name, measure in measures.items():
        value = measure.compute()
        if value is None:
            _log.warning("%s_%s is left out: the split has too few samples or classes for it", split, name)
        else:
            found[f"{split}_{name}"] = value
    return found


class _Sums(Measure):
    """A metric of torchmetrics in float64 that keeps sums.

    Only rank 0 has one: it must not wait for others to synchronise with, as it does where it finds a group.
    """

    def __init__(
        self,
        metric: "torchmetrics.Metric",
        prepare: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        *,
        least: int = 1,
    ) -> None:
        self._metric = metric.set_dtype(torch.float64)
        self._prepare = prepare
        self._least = least
        self._count = 0

    def update(self, output: Tensor, targets: Tensor) -> None:
        """See `Measure.update`."""
        self._metric.update(*self._prepare(output, targets))
        self._count += len(targets)

    def compute(self) -> float | None:
        """See `Measure.compute`."""
        return float(self._metric.compute()) if self._count >= self._least else None


class _Auroc(Measure):
    """The area under the receiver operating characteristic: of two classes, or the mean of each against the others.

    A class that has no samples in the split, or all of them, has no such curve and is left out of the mean.
    """

    def __init__(self, num_classes: int, loss: Loss) -> None:
        self._num_classes = num_classes
        self._loss = loss
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []

    def update(self, output: Tensor, targets: Tensor) -> None:
        """See `Measure.update`."""
        self._outputs.append(output.float())
        self._targets.append(targets.flatten().long())

    def compute(self) -> float | None:
        """See `Measure.compute`."""
        from torchmetrics.functional.classification import binary_auroc, multiclass_auroc

        targets, outputs = torch.cat(self._targets), torch.cat(self._outputs)
        counts = torch.bincount(targets, minlength=self._num_classes)
        has_curve = (counts > 0) & (counts < len(targets))
        if not has_curve.any():
            return None
        if outputs.numel() == len(targets):
            return float(binary_auroc(outputs.flatten(), targets))
        with warnings.catch_warnings():
            # Of classes without a curve, which do not count.
            warnings.simplefilter("ignore", UserWarning)
            each = multiclass_auroc(outputs, targets, num_classes=self._num_classes, average="none")
        return float(each[has_curve].double().mean())


def _maker(metric: training_pb2.Metric, loss: Loss, num_classes: int) -> tuple[str, Callable[[], Measure]]:
    """Returns the name of a measure, and what makes one."""
    kind = str(metric.WhichOneof("kind"))
    match kind:
        case "top_k":
            k = metric.top_k.k
            if k >= num_classes:
                raise UserError(f"training.metrics: top_k.k is {k}, but the target has {num_classes} classes")
            return f"top_{k}", lambda: _top_k(k, num_classes)
        case "macro_f1":
            return kind, lambda: _macro_f1(loss, max(num_classes, 2))
        case "auroc":
            return kind, lambda: _Auroc(max(num_classes, 2), loss)
        case _:
            return kind, lambda: _regression(kind)


def _top_k(k: int, num_classes: int) -> Measure:
    from torchmetrics.classification import MulticlassAccuracy

    return _Sums(
        MulticlassAccuracy(num_classes, top_k=k, average="micro", sync_on_compute=False),
        lambda output, targets: (output.float(), targets),
    )


def _macro_f1(loss: Loss, num_classes: int) -> Measure:
    from torchmetrics.classification import MulticlassF1Score

    return _Sums(
        MulticlassF1Score(num_classes, average="macro", sync_on_compute=False),
        lambda output, targets: (loss.predicted(output), targets.flatten().long()),
    )


def _regression(kind: str) -> Measure:
    from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score

    makers: Mapping[str, Callable[[], torchmetrics.Metric]] = {
        "mae": lambda: MeanAbsoluteError(sync_on_compute=False),
        "rmse": lambda: MeanSquaredError(squared=False, sync_on_compute=False),
        "r2": lambda: R2Score(sync_on_compute=False),
    }
    return _Sums(makers[kind](), _rows, least=2 if kind == "r2" else 1)


def _rows(output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Returns values by sample, in 64 bits: squares of large ones leave nothing of their spread in 32."""
    return output.double().reshape(len(output), -1), targets.double().reshape(len(targets), -1)


def mean_of_logged(chunks: Sequence[tuple[int, int, Mapping[str, float]]], split: str) -> dict[str, float]:
    """Returns the means over samples of what an objective measured by itself.

    Args:
        chunks: Of each its number, its samples and the means over them.
        split: Whose they are: "train", "val" or "test". Names that begin with "val_" are those of a validation step,
            which measures the other splits too; theirs begin with the split.

    Returns:
        The means by name, without one that is called as the split's loss is.
    """
    sums: dict[str, tuple[float, int]] = {}
    for _, count, logged in sorted(chunks, key=lambda chunk: chunk[0]):
        for name, value in logged.items():
            total, seen = sums.get(name, (0.0, 0))
            sums[name] = total + value * count, seen + count
    means = {_named(name, split): total / seen for name, (total, seen) in sums.items()}
    means.pop(f"{split}_loss", None)
    return means


def _named(name: str, split: str) -> str:
    if split == "val" or name.startswith(f"{split}_"):
        return name
    return f"{split}_{name.removeprefix('val_')}"

"""Counts epochs without improvement: for early stopping, and for a learning rate that drops on a plateau."""

import math
from dataclasses import dataclass, field, replace

from trana.v1 import training_pb2


@dataclass(frozen=True, slots=True)
class Patience:
    """Epochs since the loss last improved, counted as keras.callbacks.EarlyStopping counts them.

    Attributes:
        best: The lowest loss that counted; infinite before the first.
        waited: Epochs since then.
    """

    best: float = math.inf
    waited: int = 0

    def after(self, loss: float, *, min_delta: float = 0.0) -> "Patience":
        """Returns the count after one more epoch; only a loss lower by more than `min_delta` improves."""
        if loss + min_delta < self.best:
            return Patience(loss, 0)
        return replace(self, waited=self.waited + 1)


def wait(rule: training_pb2.EarlyStopping, patience: Patience, *, epoch: int, val_loss: float) -> Patience:
    """Returns early stopping's count after an epoch (from 1); the first `start_from_epoch` do not count."""
    if epoch <= rule.start_from_epoch:
        return patience
    return patience.after(val_loss, min_delta=rule.min_delta)


def is_used_up(spec: training_pb2.TrainingSpec, patience: Patience) -> bool:
    """Whether early stopping by patience ends the training now."""
    by_verdict = spec.early_stopping.by == training_pb2.STOPPING_RULE_VERDICT
    return spec.HasField("early_stopping") and not by_verdict and patience.waited >= spec.early_stopping.patience


@dataclass(frozen=True, slots=True)
class Plateau:
    """How often the learning rate has dropped, and how long it has waited for an improvement since."""

    patience: Patience = field(default_factory=Patience)
    drops: int = 0

    def after(self, schedule: training_pb2.Schedule, *, epoch: int, val_loss: float) -> "Plateau":
        """Returns the state after an epoch (from 1); epochs of the warm-up do not count."""
        if schedule.WhichOneof("shape") != "plateau" or epoch <= schedule.warmup_epochs:
            return self
        patience = self.patience.after(val_loss)
        if patience.waited < schedule.plateau.patience:
            return Plateau(patience, self.drops)
        return Plateau(replace(patience, waited=0), self.drops + 1)

"""The curves of a training, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = Sequence[float] | Floats


@dataclass(frozen=True, slots=True)
class Curve:
    """What is known of each epoch, NaN where it is not.

    Attributes:
        train: Training loss, shape (epochs,).
        val: Validation loss, shape (epochs,).
        val_se: Paired standard error of the rise of validation loss since the best epoch so far, shape (epochs,).
        lr: Learning rate, shape (epochs,).
        seconds: What the epoch took, shape (epochs,).
    """

    train: Floats
    val: Floats
    val_se: Floats
    lr: Floats
    seconds: Floats

    def since(self, epoch: int) -> Curve:
        """The curve from an epoch on, its index."""
        known = (self.train, self.val, self.val_se, self.lr, self.seconds)
        return Curve(*(values[epoch:] for values in known))


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is known besides the curves; None where it is not.

    Attributes:
        num_epochs: Epochs that the training is to last.
        num_parameters: Trainable parameters of the network.
        num_train: Training samples.
        num_val: Validation samples.
    """

    num_epochs: int | None = None
    num_parameters: int | None = None
    num_train: int | None = None
    num_val: int | None = None


def column(values: Numbers | None, length: int) -> Floats:
    """`values` as float64 of shape (length,), cut or filled up with NaN at the end."""
    out = np.full(length, np.nan)
    if values is not None:
        given = np.asarray(values, dtype=np.float64).ravel()[:length]
        out[: given.size] = given
    return out

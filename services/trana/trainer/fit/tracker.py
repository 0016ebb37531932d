"""The verdict while a training runs."""

from __future__ import annotations

import math

import numpy as np

from trana.trainer.fit.curve import Curve, Floats, Sizes
from trana.trainer.fit.judging import judge
from trana.v1 import fit_pb2

COLUMNS = 5
FIRST_ROWS = 64


class FitTracker:
    """Grows the curves by an epoch at a time and judges them.

    It keeps nothing but the numbers, in buffers that double when full, and judges with the function that judges whole
    curves: the verdict is the one of `verdict` on the same numbers, bit for bit, whatever happened in between.
    """

    def __init__(
        self,
        *,
        num_epochs: int | None = None,
        num_parameters: int | None = None,
        num_train: int | None = None,
        num_val: int | None = None,
    ) -> None:
        self._sizes = Sizes(num_epochs=num_epochs, num_parameters=num_parameters, num_train=num_train, num_val=num_val)
        self._rows = np.empty((COLUMNS, FIRST_ROWS))
        self._length = 0

    def add(
        self,
        train_loss: float,
        val_loss: float,
        *,
        val_loss_se: float = math.nan,
        lr: float = math.nan,
        seconds: float = math.nan,
    ) -> fit_pb2.FitVerdict:
        """Add an epoch and judge.

        Args:
            train_loss: Mean loss over the training samples.
            val_loss: Mean loss over the validation samples; NaN where there are none.
            val_loss_se: Standard error of `val_loss` less that of the best epoch so far, paired over samples.
            lr: Learning rate of the epoch.
            seconds: What the epoch took.
        """
        if self._length == self._rows.shape[1]:
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)], axis=1)
        self._rows[:, self._length] = (train_loss, val_loss, val_loss_se, lr, seconds)
        self._length += 1
        return self.verdict()

    def verdict(self) -> fit_pb2.FitVerdict:
        """The verdict on what was added so far."""
        train, val, val_se, lr, seconds = self._rows[:, : self._length]
        return judge(Curve(train=train, val=val, val_se=val_se, lr=lr, seconds=seconds), self._sizes)

    def state(self) -> Floats:
        """All that was added, float64 of shape (epochs, 5), for a checkpoint."""
        return self._rows[:, : self._length].T.copy()

    def restore(self, state: Floats) -> None:
        """Go on from what `state` returned.

        Raises:
            ValueError: `state` is not of shape (epochs, 5).
        """
        if state.ndim != 2 or state.shape[1] != COLUMNS:
            raise ValueError(f"the state of a fit has shape (epochs, {COLUMNS}), this one has {state.shape}")
        self._length = len(state)
        self._rows = np.empty((COLUMNS, max(FIRST_ROWS, 2 * self._length)))
        self._rows[:, : self._length] = np.asarray(state, dtype=np.float64).T

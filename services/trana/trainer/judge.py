"""Judges the fit of a training after each epoch, and keeps what later verdicts need.

Rank 0 alone judges: where the verdict may end the training, the others are told what it decided, for no arithmetic may
send the ranks different ways.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trana.trainer.fit import FitTracker, should_stop, why_it_goes_on
from trana.trainer.group import on_rank0
from trana.trainer.pairing import Losses, Pairing
from trana.trainer.place import Place
from trana.v1 import epoch_pb2, fit_pb2, training_pb2

# The file of a last checkpoint that keeps it. The dash is in no name that a loop of the user's may save under.
CURVE = "learning-curve"

_EPOCHS = "epochs"
_BEST_LOSSES = "best_losses"


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a verdict compares with one another; 0 where it is not known.

    Attributes:
        num_parameters: Learned parameters of the network.
        num_train: Samples in the training split.
        num_validation: Samples in the validation split.
    """

    num_parameters: int = 0
    num_train: int = 0
    num_validation: int = 0


class Judge:
    """Follows the learning curve. All ranks call each method together.

    Args:
        spec: Of it early stopping counts.
        place: Where this rank runs.
        sizes: Of network and data.

    Attributes:
        verdict: The newest, on rank 0; None before the first epoch.
    """

    def __init__(self, spec: training_pb2.TrainingSpec, place: Place, sizes: Sizes) -> None:
        self._rule = spec.early_stopping
        self._epochs = spec.epochs
        self._place = place
        # What the verdict then advises is done.
        self._stops_early = spec.HasField("early_stopping")
        self._tracker = FitTracker(
            num_epochs=spec.epochs or None,
            num_parameters=sizes.num_parameters or None,
            num_train=sizes.num_train or None,
            num_val=sizes.num_validation or None,
        )
        self._pairing = Pairing()
        self.verdict: fit_pb2.FitVerdict | None = None

    def compare(self, losses: Losses | None, epoch: epoch_pb2.Epoch) -> None:
        """Notes in an epoch how sure its validation loss is beside the best one, where that is known."""
        error = math.nan if losses is None else self._pairing.compare(losses, best=epoch.best)
        if math.isfinite(error):
            epoch.val_loss_se = error

    def after(self, epoch: epoch_pb2.Epoch) -> bool:
        """Judges the curve with one more epoch; returns whether it ends the training, the same on all ranks."""
        if self._place.rank == 0:
            self.verdict = self._worded(self._add(epoch))
        if self._rule.by != training_pb2.STOPPING_RULE_VERDICT or epoch.epoch <= self._rule.start_from_epoch:
            return False
        return on_rank0(lambda: self.verdict is not None and should_stop(self.verdict), self._place)

    def diverged(self, train_loss: float, val_loss: float) -> fit_pb2.FitVerdict:
        """Judges the curve with an epoch more, one of whose losses is no number.

        Args:
            train_loss: NaN where it was no number within the epoch already.
            val_loss: NaN there too.
        """
        self.verdict = self._worded(self._tracker.add(train_loss, val_loss))
        return self.verdict

    def state(self) -> dict[str, Tensor]:
        """Returns what later verdicts need, float64; what rank 0 has of it counts."""
        # Their 40 bytes an epoch are all that is kept of a whole training: the history holds its newest epochs alone.
        tensors = {_EPOCHS: torch.from_numpy(self._tracker.state())}
        if self._pairing.best.size:
            tensors[_BEST_LOSSES] = torch.from_numpy(self._pairing.best)
        return tensors

    def restore(self, kept: Mapping[str, Tensor], history: Iterable[epoch_pb2.Epoch]) -> None:
        """Goes on from what `state` gave, and judges it.

        Args:
            kept: That; empty of a checkpoint that was made before it was kept.
            history: The newest epochs, from which the curve is then made.
        """
        if _BEST_LOSSES in kept:
            self._pairing.best = kept[_BEST_LOSSES].cpu().numpy()
        if self._place.rank:
            return
        if _EPOCHS in kept:
            self._tracker.restore(kept[_EPOCHS].cpu().numpy())
        else:
            self._replay(list(history))
        if len(self._tracker.state()):
            self.verdict = self._worded(self._tracker.verdict())

    def _replay(self, history: list[epoch_pb2.Epoch]) -> None:
        if not history:
            return
        # Epochs that the history no longer holds: without them, a verdict would name wrong ones.
        self._tracker.restore(np.full((history[0].epoch - 1, self._tracker.state().shape[1]), math.nan))
        for epoch in history:
            self._add(epoch)

    def _worded(self, verdict: fit_pb2.FitVerdict) -> fit_pb2.FitVerdict:
        """The verdict without the advice that is followed already, and why it ends nothing where it is to."""
        if not self._stops_early:
            return verdict
        if reason := self._why_it_goes_on(verdict):
            verdict.evidence.append(reason)
        kept = [piece for piece in verdict.advice if piece.remedy != fit_pb2.FIT_REMEDY_EARLY_STOPPING]
        del verdict.advice[:]
        verdict.advice.extend(kept)
        return verdict

    def _why_it_goes_on(self, verdict: fit_pb2.FitVerdict) -> str:
        if self._rule.by != training_pb2.STOPPING_RULE_VERDICT:
            return ""
        if not should_stop(verdict):
            return why_it_goes_on(verdict)
        if verdict.epoch <= self._rule.start_from_epoch:
            return f"Early stopping by the verdict begins after epoch {self._rule.start_from_epoch:,}, as the job asks."
        if verdict.epoch == self._epochs:
            # Had it been so before, it would have ended the training: next to a round number this is worth a word.
            return "The verdict became sure enough to end the training with the last of its epochs."
        return ""

    def _add(self, epoch: epoch_pb2.Epoch) -> fit_pb2.FitVerdict:
        return self._tracker.add(
            epoch.train_loss,
            epoch.val_loss,
            val_loss_se=epoch.val_loss_se if epoch.HasField("val_loss_se") else math.nan,
            lr=epoch.learning_rate or math.nan,
            seconds=epoch.duration_seconds,
        )

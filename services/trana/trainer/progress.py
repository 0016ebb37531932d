"""How far a training has come: everything of a last checkpoint that is no tensor."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf import json_format

from trana.trainer.patience import Patience, Plateau, is_used_up, wait
from trana.v1 import epoch_pb2, report_pb2, training_pb2

# Reported again by the next attempt, for the case that an epoch was saved, but its report got lost. Many fewer
# would do; all would make the checkpoints of a long training grow without end.
_MAX_HISTORY = 1000


@dataclass(frozen=True, slots=True)
class Best:
    """The best checkpoint so far.

    Attributes:
        epoch: From 1.
        val_loss: Its validation loss.
        name: The checkpoint's, in its folder.
    """

    epoch: int
    val_loss: float
    name: str


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a training between two steps.

    Attributes:
        epoch: Epochs done.
        step: Steps done of the next epoch.
        seconds: Wall time that these took.
        best: None before the first.
        patience: Early stopping's count.
        plateau: The learning rate's drops.
        history: The newest epochs, as reported, in order.
        stop_reason: Why the training ended; unspecified while it has not.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: Best | None = None
    patience: Patience = field(default_factory=Patience)
    plateau: Plateau = field(default_factory=Plateau)
    history: tuple[epoch_pb2.Epoch, ...] = ()
    stop_reason: report_pb2.StopReason.ValueType = report_pb2.STOP_REASON_UNSPECIFIED

    @property
    def has_ended(self) -> bool:
        """Whether a rule of the spec has ended the training."""
        return self.stop_reason != report_pb2.STOP_REASON_UNSPECIFIED

    def is_best(self, val_loss: float) -> bool:
        """Whether a finite loss is the lowest so far; of equal ones the older stays."""
        return self.best is None or val_loss < self.best.val_loss

    def within(self, step: int, seconds: float) -> "Progress":
        """Returns the progress after some steps of the next epoch, and the time they took."""
        return replace(self, step=step, seconds=seconds)

    def after(
        self, spec: training_pb2.TrainingSpec, epoch: epoch_pb2.Epoch, best: Best | None, *, overfits: bool = False
    ) -> "Progress":
        """Returns the progress after the whole of one more epoch.

        Args:
            spec: Its rules decide whether the training ends here.
            epoch: What the epoch gave.
            best: The best so far, this epoch included.
            overfits: Whether the verdict on the fit ends the training, where the spec says that it may.
        """
        patience = wait(spec.early_stopping, self.patience, epoch=epoch.epoch, val_loss=epoch.val_loss)
        reason = report_pb2.STOP_REASON_UNSPECIFIED
        if epoch.epoch >= spec.epochs:
            reason = report_pb2.STOP_REASON_EPOCHS_DONE
        elif overfits:
            reason = report_pb2.STOP_REASON_VERDICT
        elif is_used_up(spec, patience):
            reason = report_pb2.STOP_REASON_EARLY_STOPPING
        return Progress(
            epoch=epoch.epoch,
            best=best,
            patience=patience,
            plateau=self.plateau.after(spec.schedule, epoch=epoch.epoch, val_loss=epoch.val_loss),
            history=(*self.history, epoch)[-_MAX_HISTORY:],
            stop_reason=reason,
        )


def to_json(progress: Progress) -> dict[str, Any]:
    """Writes all but the history for a JSON file; floats in hexadecimal, for JSON knows no infinity."""
    best = progress.best
    return {
        "epoch": progress.epoch,
        "step": progress.step,
        "seconds": progress.seconds,
        "best": best and {"epoch": best.epoch, "val_loss": best.val_loss.hex(), "name": best.name},
        "patience": _patience_to_json(progress.patience),
        "plateau": {"patience": _patience_to_json(progress.plateau.patience), "drops": progress.plateau.drops},
        "stop_reason": report_pb2.StopReason.Name(progress.stop_reason),
    }


def from_json(state: dict[str, Any], history: tuple[epoch_pb2.Epoch, ...]) -> Progress:
    """Reads what `to_json` wrote, and puts the history with it."""
    best = state["best"]
    plateau = state["plateau"]
    return Progress(
        epoch=state["epoch"],
        step=state["step"],
        seconds=state["seconds"],
        best=best and Best(best["epoch"], float.fromhex(best["val_loss"]), best["name"]),
        patience=_patience_from_json(state["patience"]),
        plateau=Plateau(_patience_from_json(plateau["patience"]), plateau["drops"]),
        stop_reason=report_pb2.StopReason.Value(state["stop_reason"]),
        history=history,
    )


def to_lines(history: Iterable[epoch_pb2.Epoch], written: Mapping[int, str]) -> dict[int, str]:
    """Writes each epoch as a line of JSON.

    Args:
        history: Epochs, in order.
        written: What this returned before. Each epoch is written out once: doing so for all of them after each
            would take longer than a short epoch.

    Returns:
        The lines by number of the epoch, in order, of these epochs alone: a long training's do not pile up.
    """
    return {epoch.epoch: written.get(epoch.epoch) or _to_line(epoch) for epoch in history}


def _to_line(epoch: epoch_pb2.Epoch) -> str:
    return json_format.MessageToJson(epoch, preserving_proto_field_name=True, indent=None) + "\n"


def _patience_to_json(patience: Patience) -> dict[str, Any]:
    return {"best": patience.best.hex(), "waited": patience.waited}


def _patience_from_json(state: dict[str, Any]) -> Patience:
    return Patience(float.fromhex(state["best"]), state["waited"])

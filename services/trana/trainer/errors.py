"""Why a training ended badly.

TrainingError               the root; every leaf knows its cause
  UserError                 the spec is at fault, or what the user's code gives
    UserCodeError           the user's code raised an error, or called sys.exit
    OtherSpecError          the folder holds the checkpoints of another spec
  DataError                 the dataset cannot be read or does not fit the spec
    NotANumberError         a text is where a number is needed
  NotFiniteError            the loss became NaN or infinite
  OutOfMemoryError          no memory was left, on the host or on the GPU
  StorageError              a checkpoint could not be written or read
  PeerLostError             another worker of the group went away
  FencedError               a newer attempt has taken over
  UnexpectedError           anything else: a fault of the trainer or of a library

Each has one argument, a message that can be shown to the user as it is, and survives pickling between processes.
"""

import math
from typing import ClassVar

from trana.v1.cause_pb2 import Cause


class TrainingError(Exception):
    """The root of all errors that leave the trainer.

    Attributes:
        cause: Why the attempt ended, in the words of the contract; it decides whether another one is made.
    """

    cause: ClassVar[Cause.ValueType] = Cause.CAUSE_USER_ERROR


class UserError(TrainingError):
    """The spec asks for what cannot be done, such as batch normalisation over single samples."""


class UserCodeError(UserError):
    """The user's code raised an error or called sys.exit; the notes hold its traceback, cut to the user's frames."""


class OtherSpecError(UserError):
    """The folder holds the checkpoints of another spec."""


class DataError(TrainingError):
    """The dataset cannot be read, or does not fit the network or the loss: names file, row and column, or layer."""

    cause = Cause.CAUSE_DATA_ERROR


class NotANumberError(DataError):
    """A text is where a number is needed."""


class NotFiniteError(TrainingError):
    """The loss became NaN or infinite; raised by all ranks at the same step, the best checkpoint is kept.

    Attributes:
        train_loss: Of the epoch, where it was evaluated; else NaN.
        val_loss: Likewise.
    """

    cause = Cause.CAUSE_NOT_FINITE

    def __init__(self, message: str, *, train_loss: float = math.nan, val_loss: float = math.nan) -> None:
        super().__init__(message)
        self.train_loss = train_loss
        self.val_loss = val_loss


class OutOfMemoryError(TrainingError):
    """The network, a batch or the dataset does not fit into the memory of the host or the GPU."""

    cause = Cause.CAUSE_OUT_OF_MEMORY


class StorageError(TrainingError):
    """A checkpoint could not be written or read: a full disk, say, or a file that no longer has its hash."""

    cause = Cause.CAUSE_STORAGE_ERROR


class PeerLostError(TrainingError):
    """A collective failed because another rank is gone; that rank's own error, if it left one, says why."""

    cause = Cause.CAUSE_WORKER_LOST


class FencedError(TrainingError):
    """A newer attempt has taken over the job's folder, so this one may no longer publish."""

    cause = Cause.CAUSE_WORKER_LOST


class UnexpectedError(TrainingError):
    """What no other leaf describes; the original error is its `__cause__`, and its type is in the message."""

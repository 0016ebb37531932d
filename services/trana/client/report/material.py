"""What a report is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from trana.v1 import checkpoint_pb2, epoch_pb2, event_pb2, job_pb2


@dataclass(frozen=True, slots=True)
class Material:
    """A job as the service tells of it.

    Attributes:
        job: As it is now, its layers included.
        epochs: Its learning curve, in order.
        events: What happened to it, in order; of a very long life the latest part.
        checkpoints: Best and last, as far as there are any.
    """

    job: job_pb2.Job
    epochs: Sequence[epoch_pb2.Epoch]
    events: Sequence[event_pb2.Event] = ()
    checkpoints: Sequence[checkpoint_pb2.Checkpoint] = ()

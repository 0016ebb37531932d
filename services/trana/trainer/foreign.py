"""Translates the errors of torch and Arrow into ours, once, on their way out."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from trana.trainer.errors import OutOfMemoryError, PeerLostError, TrainingError, UnexpectedError

# torch raises plain RuntimeErrors for these; the texts are those of its CPU allocator and of Gloo.
_MEMORY = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory")
_PEER = ("gloo", "Connection closed by peer", "Connection reset by peer", "Timed out waiting", "Broken pipe", "NCCL")


@contextmanager
def translated() -> Iterator[None]:
    """Lets nothing but TrainingErrors out; the original stays attached as their cause."""
    try:
        yield
    except TrainingError:
        raise
    except Exception as error:
        raise translate(error) from error


def translate(error: Exception) -> TrainingError:
    """Returns what a foreign error means."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _has(error, _MEMORY):
        return OutOfMemoryError(
            f"a worker ran out of memory; try a smaller training.global_batch_size, or more workers ({text})"
        )
    if isinstance(error, dist.DistError) or _has(error, _PEER):
        return PeerLostError(f"lost another worker of the group, or never met it ({text})")
    frames = traceback.extract_tb(error.__traceback__)
    where = f", in {frames[-1].name} at line {frames[-1].lineno} of {frames[-1].filename}" if frames else ""
    return UnexpectedError(f"the trainer failed: {text}{where}")


def _has(error: Exception, texts: tuple[str, ...]) -> bool:
    return isinstance(error, RuntimeError) and any(text in str(error) for text in texts)

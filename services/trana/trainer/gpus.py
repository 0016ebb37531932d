"""What the group's GPUs are taken up with; nothing where it trains on the CPU."""

import importlib
import math
from dataclasses import dataclass

import torch

from trana.trainer.group import gather
from trana.trainer.place import Place


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs of a group.

    Attributes:
        peak_bytes: The most memory that any rank's tensors took.
        utilization: Share of the driver's last sampling period in which they computed, the mean over those that tell;
            NaN where none does.
    """

    peak_bytes: int
    utilization: float


def read_gpus(place: Place) -> Gpus | None:
    """Reads the peak of memory since the last call, and how busy the GPUs are; None but on rank 0 of ranks on GPUs.

    All ranks must call this together. Nothing waits for a GPU: both numbers are the allocator's and the driver's.
    """
    if place.device.type != "cuda":
        return None
    mine = torch.cuda.max_memory_allocated(place.device), _utilization(place.device)
    torch.cuda.reset_peak_memory_stats(place.device)
    told = gather(mine, place)
    if not told:
        return None
    known = [busy for _, busy in told if math.isfinite(busy)]
    return Gpus(max(peak for peak, _ in told), sum(known) / len(known) if known else math.nan)


def _utilization(device: torch.device) -> float:
    """Returns how busy a GPU is; NaN without nvidia-ml-py, and for a part of a GPU (MIG), of which nobody tells."""
    try:
        driver = importlib.import_module("pynvml")
    except ImportError:
        return math.nan
    try:
        return torch.cuda.utilization(device) / 100
    except (driver.NVMLError, RuntimeError):
        return math.nan

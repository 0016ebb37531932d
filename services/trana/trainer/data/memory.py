"""How much memory the dataset may take."""

from dataclasses import dataclass
from pathlib import Path

import psutil

from trana.v1 import training_pb2

# What windows are measured by where the spec has no limit: the order of samples must not depend on the memory that
# happens to be free.
_USUAL_WINDOW_BYTES = 128 * 2**20
_CHUNK_BYTES = 4 * 2**20
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a dataset one rank may hold, bytes.

    Attributes:
        total_bytes: All that is held; a dataset that needs more is streamed.
        window_bytes: Of a streamed one, the training samples that are shuffled together.
    """

    total_bytes: int
    window_bytes: int

    @staticmethod
    def of(dataset: training_pb2.Dataset, *, total_bytes: int | None = None) -> "Limits":
        """Reads them from a spec.

        Args:
            dataset: Of the spec.
            total_bytes: What may be held where the spec has no limit; half of what is free now where None.
        """
        given = dataset.memory_limit_bytes
        return Limits(given or total_bytes or available_bytes() // 2, given // 4 if given else _USUAL_WINDOW_BYTES)

    @property
    def chunk_bytes(self) -> int:
        """What is decoded at a time of a file that is read in chunks."""
        return max(min(_CHUNK_BYTES, self.total_bytes // 16), 1)


def available_bytes(cgroup: Path = _CGROUP) -> int:
    """Returns the memory that is free on this host, or in this container where that has less.

    Args:
        cgroup: Where the container's limits are (control groups, version 2).
    """
    available = int(psutil.virtual_memory().available)
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):
        # No container, or one without a limit, where the file says "max".
        return available
    return max(min(available, limit - used), 0)

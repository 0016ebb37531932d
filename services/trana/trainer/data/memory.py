"""How much memory the dataset may take."""

from pathlib import Path

import psutil

from trana.v1 import training_pb2

_CGROUP = Path("/sys/fs/cgroup")


def memory_limit(dataset: training_pb2.Dataset, *, ranks_on_node: int = 1) -> int:
    """Returns the most bytes of the dataset that one rank may hold.

    That is the spec's `memory_limit_bytes`; where it has none, half of what is free now, over the node's ranks.
    """
    return dataset.memory_limit_bytes or available_bytes() // 2 // ranks_on_node


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

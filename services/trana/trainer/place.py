"""Where a rank runs: everything about a worker that does not decide the result of a training."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True)
class Place:
    """One worker of a group.

    Attributes:
        rank: 0 to world_size - 1; rank 0 alone reports and saves.
        world_size: Workers in the group. With one, no process group is needed.
        device: Where tensors live.
        folder: The job's storage, seen by all workers.
        attempt: Number of this try at the job, from 1; a greater one takes the folder over.
        should_stop: Says whether someone asked this worker to stop. Called often; must return at once.
        local_rank: Counts the workers on this node.
        code: The user's code as it came: a zip archive, a folder or a .py file; None where the spec names none.
        beat: Takes note that the service's loop gets on. Called often; returns at once.
    """

    rank: int
    world_size: int
    device: torch.device
    folder: Path
    attempt: int
    should_stop: Callable[[], bool]
    local_rank: int = 0
    code: Path | None = None
    beat: Callable[[], None] = lambda: None

"""What the control plane tells the cluster agent on its command line."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from trana.jobs.cluster.contract import ClusterSettings


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of an agent.

    Attributes:
        installation: Whose attempts the agent sees.
        address: `"local"` or `host:port`, as in `ClusterSettings`.
        num_cpus: CPUs of an embedded Ray.
        num_gpus: GPUs of an embedded Ray.
        ray_folder: Folder of an embedded Ray; None when joining.
        socket_fd: The agent's end of the socket pair.
        parent_pid: The service, which the agent must not outlive.
        call_timeout_seconds: How long Ray may take to answer.
    """

    installation: str
    address: str
    num_cpus: int | None
    num_gpus: int | None
    ray_folder: str | None
    socket_fd: int
    parent_pid: int
    call_timeout_seconds: float

    @classmethod
    def of(cls, settings: ClusterSettings, *, installation: str, ray_folder: Path | None, socket_fd: int) -> Launch:
        """A launch by this process."""
        return cls(
            installation=installation,
            address=settings.address,
            num_cpus=settings.num_cpus,
            num_gpus=settings.num_gpus,
            ray_folder=None if ray_folder is None else str(ray_folder),
            socket_fd=socket_fd,
            parent_pid=os.getpid(),
            call_timeout_seconds=settings.call_timeout_seconds,
        )

    def to_argument(self) -> str:
        """What `from_argument` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, argument: str) -> Launch:
        """Reads what `to_argument` wrote."""
        return cls(**json.loads(argument))

"""The ledger of capacity: what each node has, and what the gangs that were let in hold of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trana.v1.job_pb2 import Resources


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster and all that it has, used or not."""

    name: str
    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True, slots=True)
class Gang:
    """What a worker group needs: `num_workers` workers of the same size, all or none."""

    num_workers: int
    cpus_per_worker: float
    gpus_per_worker: float = 0.0

    @property
    def cpus(self) -> float:
        """CPUs of all workers."""
        return self.num_workers * self.cpus_per_worker

    @property
    def gpus(self) -> float:
        """GPUs of all workers."""
        return self.num_workers * self.gpus_per_worker


def gang_of(resources: Resources) -> Gang:
    """The worker group that a job's resources ask for."""
    cpus = resources.cpus_per_worker if resources.HasField("cpus_per_worker") else 1
    return Gang(resources.num_workers, cpus, resources.gpus_per_worker)


class Ledger:
    """Free capacity per node. Gangs are dealt to nodes first-fit, the fullest node first.

    Ray places the workers itself; the ledger only answers whether the gang can be placed at all, so that no
    placement group is ever asked for that would wait.
    """

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._free = {node.name: [node.cpus, node.gpus] for node in nodes}

    def fits(self, gang: Gang) -> bool:
        """Whether all workers of `gang` have a place now."""
        return self._deal(gang) is not None

    def admit(self, gang: Gang) -> bool:
        """Takes the places of `gang` and returns True, or takes none and returns False."""
        dealt = self._deal(gang)
        if dealt is None:
            return False
        for name, workers in dealt.items():
            self._take(name, gang, workers)
        return True

    def hold(self, gang: Gang) -> None:
        """Takes the places of a gang that is there already, wherever they are; never refuses."""
        left = gang.num_workers
        for name in self._by_fullness(gang):
            workers = min(left, self._room(name, gang))
            self._take(name, gang, workers)
            left -= workers
        if left and self._free:
            # More is held than the nodes that are left have: nothing else may start until that is over.
            self._take(next(iter(self._free)), gang, left)

    def room(self, gang: Gang) -> int:
        """Workers of the size of `gang`'s that have a place now, however many it has."""
        return sum(self._room(name, gang) for name in self._free)

    def free(self) -> tuple[float, float]:
        """CPUs and GPUs that nobody holds, over all nodes."""
        cpus = sum(max(0.0, cpus) for cpus, _ in self._free.values())
        return cpus, sum(max(0.0, gpus) for _, gpus in self._free.values())

    def _deal(self, gang: Gang) -> dict[str, int] | None:
        dealt: dict[str, int] = {}
        left = gang.num_workers
        for name in self._by_fullness(gang):
            dealt[name] = min(left, self._room(name, gang))
            left -= dealt[name]
        return None if left else dealt

    def _by_fullness(self, gang: Gang) -> list[str]:
        """Nodes with the least of what the gang needs first, so that whole nodes stay free for larger gangs."""
        scarce = 1 if gang.gpus_per_worker else 0
        return sorted(self._free, key=lambda name: (self._free[name][scarce], name))

    def _room(self, name: str, gang: Gang) -> int:
        cpus, gpus = self._free[name]
        room = int(max(0.0, cpus) // gang.cpus_per_worker)
        if gang.gpus_per_worker:
            room = min(room, int(max(0.0, gpus) // gang.gpus_per_worker))
        return room

    def _take(self, name: str, gang: Gang, workers: int) -> None:
        self._free[name][0] -= workers * gang.cpus_per_worker
        self._free[name][1] -= workers * gang.gpus_per_worker

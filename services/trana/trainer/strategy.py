"""How the ranks share the work: each its part of the batch, and of the network either a copy or a share."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from trana.spec.parts import has_custom_layers
from trana.trainer.feeding import Batch
from trana.trainer.objective.objective import Objective
from trana.trainer.place import Place
from trana.v1 import training_pb2


class Strategy:
    """A worker that is alone, and what the others differ in.

    Attributes:
        replica: What a step calls: the objective, its gradients those of the whole group after each backward pass.
        moves_together: Whether all ranks must make as many forward passes, in evaluation too.
    """

    moves_together = False

    def __init__(self, objective: Objective) -> None:
        self.replica: nn.Module = objective

    def accumulating(self) -> AbstractContextManager[None]:
        """Returns the context of passes after which gradients need not be brought together yet."""
        return nullcontext()

    def rest(self) -> None:
        """Lets go of what an evaluation has gathered."""


class Replicated(Strategy):
    """Each rank holds the whole network (DDP).

    Args:
        objective: On the place's device, the same on every rank.
        place: Where this rank runs.
        sample: A few samples, to try it on.
        may_vary: Whether passes may leave parameters out, each pass others, as with stochastic depth.
    """

    def __init__(self, objective: Objective, place: Place, sample: Batch, *, may_vary: bool) -> None:
        devices = [place.device] if place.device.type == "cuda" else None
        # Where all are used, as in most networks, torch says once that it need not have looked.
        warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
        # Buffers are shared before each evaluation; in training mode nobody reads them.
        self._ddp = DistributedDataParallel(
            objective,
            device_ids=devices,
            forward_sync_buffers=False,
            gradient_as_bucket_view=True,
            # Parameters that a pass leaves out would be waited for, unless DDP is told to look for them.
            find_unused_parameters=may_vary,
        )
        self.replica = self._ddp
        # DDP arranges its buckets anew after the first pass (with static_graph, one later), and that changes the order
        # in which three or more ranks' gradients are summed. With a trial pass, one without dropout or effect, every
        # real step has the same order, so that a resumed training repeats an uninterrupted one bit by bit.
        self._ddp.eval()
        self._ddp(sample).backward()
        self._ddp.zero_grad(set_to_none=True)

    def accumulating(self) -> AbstractContextManager[None]:
        """See `Strategy.accumulating`."""
        context: AbstractContextManager[None] = self._ddp.no_sync()
        return context


class Sharded(Strategy):
    """Each rank holds a share of every parameter, and has whole layers only while it computes them (FSDP2).

    The network's layers are gathered one by one. A layer must be used through its call, as torch's own are, two layers
    must not share a parameter, and all ranks must use the same layers in each pass: one that leaves out others than
    the rest do, as with stochastic depth, is waited for in vain.
    """

    moves_together = True

    def __init__(self, objective: Objective, place: Place) -> None:
        super().__init__(objective)
        mesh = init_device_mesh(place.device.type, (place.world_size,))
        for layer in _layers(objective.network):
            fully_shard(layer, mesh=mesh)
        fully_shard(objective, mesh=mesh)
        register_fsdp_forward_method(objective, "measure")

    def rest(self) -> None:
        """See `Strategy.rest`."""
        for module in self.replica.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def distribute(objective: Objective, spec: training_pb2.TrainingSpec, place: Place, sample: Batch) -> Strategy:
    """Makes the objective one of a group, as the spec's strategy says; before the optimiser is built.

    Args:
        objective: On the place's device, the same on every rank.
        spec: Of it the strategy counts.
        place: Where this rank runs. All ranks must call this.
        sample: A few samples, the same ones on every rank.
    """
    if place.world_size == 1:
        return Strategy(objective)
    if spec.strategy == training_pb2.STRATEGY_FSDP:
        return Sharded(objective, place)
    # What a declared layer does, each pass does; of the user's code nobody knows.
    may_vary = spec.HasField("module") or has_custom_layers(spec.network)
    return Replicated(objective, place, sample, may_vary=may_vary)


def _layers(network: nn.Module) -> Iterator[nn.Module]:
    """Yields the layers below a network that learn; lists of layers are none, for they are never called."""
    for child in network.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from _layers(child)
        elif any(True for _ in child.parameters()):
            yield child

"""How the ranks share the work: each its part of the batch, and of the network either a copy or a share."""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from trana.spec.parts import has_custom_layers
from trana.trainer.errors import UserError
from trana.trainer.feeding import Batch
from trana.trainer.objective.objective import Objective
from trana.trainer.place import Place
from trana.trainer.watching import user_line
from trana.v1 import training_pb2

# Of DDP's own measurements, in nanoseconds: how long gradients travelled in a backward pass, and while it computed.
_TRAVEL = "avg_backward_comm_time"
_HIDDEN = "avg_backward_compute_comm_overlap_time"


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

    def passing(self) -> AbstractContextManager[None]:
        """Returns the context of a forward pass."""
        return nullcontext()

    def rest(self) -> None:
        """Lets go of what an evaluation has gathered."""

    def exposed_seconds(self) -> float | None:
        """Returns the seconds of a step in which gradients travel and nothing is computed.

        They travel while the backward pass goes on; this is what that does not hide. A mean over steps of the attempt.
        None where it cannot be told from computing.
        """
        return 0.0


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
        # Buffers are shared before each evaluation; in training mode nobody reads them.
        self._ddp = DistributedDataParallel(
            objective,
            device_ids=devices,
            forward_sync_buffers=False,
            gradient_as_bucket_view=True,
            # Parameters that a pass leaves out would be waited for, unless DDP is told to look for them. Where all are
            # used, it writes once that it need not have looked; that message comes from C++, past Python's filters.
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

    def exposed_seconds(self) -> float | None:
        """See `Strategy.exposed_seconds`: DDP times its first ten passes and each hundredth, whoever asks or not."""
        told = self._ddp._get_ddp_logging_data()  # type: ignore[no-untyped-call]
        travel, hidden = (told.get(name) for name in (_TRAVEL, _HIDDEN))
        return None if travel is None or hidden is None else max(travel - hidden, 0) / 1e9


class Sharded(Strategy):
    """Each rank holds a share of every parameter, and has whole layers only while it computes them (FSDP2).

    The network's layers are gathered one by one. A layer must be used through its call, as torch's own are, two layers
    must not share a parameter, and all ranks must use the same layers in each pass: one that leaves out others than
    the rest do, as with stochastic depth, is waited for in vain.
    """

    moves_together = True

    def __init__(self, objective: Objective, place: Place) -> None:
        super().__init__(objective)
        _check_parameters(objective.network)
        mesh = init_device_mesh(place.device.type, (place.world_size,))
        for layer in _layers(objective.network):
            fully_shard(layer, mesh=mesh)
        fully_shard(objective, mesh=mesh)
        register_fsdp_forward_method(objective, "measure")

    @contextmanager
    def passing(self) -> Iterator[None]:
        """See `Strategy.passing`.

        Raises:
            UserError: If the pass uses the weights of a layer that does not compute, of which there is but a share.
        """
        try:
            yield
        except RuntimeError as error:
            if "mixed torch.Tensor and DTensor" not in str(error):
                raise
            raise UserError(
                "training.strategy FSDP: the network computes with the weights of a layer, of which each worker holds "
                f"but a share, at {user_line(traceback.extract_tb(error.__traceback__))}; call the layer, or use DDP"
            ) from None

    def exposed_seconds(self) -> float | None:
        """See `Strategy.exposed_seconds`: layers and gradients travel all through the passes, and nobody times them."""
        return None

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


def _check_parameters(network: nn.Module) -> None:
    """Checks that parameters can be cut, each with its layer.

    Raises:
        UserError: If layers share one, or one is a scalar; it names them.
    """
    layers = list(_layers(network))
    within = {module for layer in layers for module in layer.modules()}
    rest = [module.parameters(recurse=False) for module in network.modules() if module not in within]
    named = [(name, id(value)) for name, value in network.named_parameters(remove_duplicate=False)]
    counts = Counter(chain.from_iterable({id(p) for p in layer.parameters()} for layer in layers))
    counts.update({id(parameter) for parameters in rest for parameter in parameters})
    for shared in (key for key, count in counts.items() if count > 1):
        names = " and ".join(name for name, key in named if key == shared)
        raise UserError(
            f"training.strategy FSDP cannot cut {names}, which are one parameter: layers must not share any; use DDP"
        )
    for name, parameter in network.named_parameters():
        if not parameter.ndim:
            raise UserError(
                f"training.strategy FSDP cannot cut {name}, which is a scalar; make it of shape (1,), or use DDP"
            )

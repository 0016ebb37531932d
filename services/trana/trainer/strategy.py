"""How the ranks share the work: each its part of the batch, the gradients averaged."""

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trana.trainer.feeding import Batch
from trana.trainer.objective.objective import Objective
from trana.trainer.place import Place


def replicate(objective: Objective, place: Place, sample: Batch) -> nn.Module:
    """Makes the objective one of a group whose gradients are averaged after each backward pass.

    Args:
        objective: On the place's device, the same on every rank.
        place: Where this rank runs; alone, the objective is returned as it is.
        sample: A few samples, to try it on.
    """
    if place.world_size == 1:
        return objective
    devices = [place.device] if place.device.type == "cuda" else None
    # Buffers are shared before each evaluation; in training mode nobody reads them.
    replica = DistributedDataParallel(
        objective, device_ids=devices, forward_sync_buffers=False, gradient_as_bucket_view=True
    )
    # DDP arranges its buckets anew after the first pass (with static_graph, one later), and that changes the order in
    # which three or more ranks' gradients are summed. With a trial pass, one without dropout or effect, every real
    # step has the same order, so that a resumed training repeats an uninterrupted one bit by bit.
    replica.eval()
    replica(sample).backward()
    replica.zero_grad(set_to_none=True)
    return replica

"""What no network of the user's may have, whichever library it is of: found before the first step, and named."""

from torch import nn
from torch.optim import SGD, Adagrad, Optimizer, SparseAdam

from trana.trainer.errors import UserError

# All others of torch.optim want dense gradients.
_TAKE_SPARSE = (SGD, SparseAdam, Adagrad)


def check_extra_state(name: str, network: nn.Module) -> None:
    """Refuses what a checkpoint cannot keep: state_dict would hold something that is no tensor.

    Args:
        name: What to call the network in messages.
        network: As it was built.

    Raises:
        UserError: If a module in it defines get_extra_state.
    """
    for path, module in network.named_modules():
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            raise UserError(
                f"{_place(name, path, module)} defines get_extra_state, and checkpoints hold tensors alone; keep what "
                "must last in buffers (register_buffer)"
            )


def check_sparse(name: str, network: nn.Module, optimizer: Optimizer | None = None) -> None:
    """Refuses embeddings whose gradients are sparse where the optimiser cannot take them.

    Args:
        name: What to call the network in messages.
        network: As it was built.
        optimizer: None for a declared one, which is fused and takes dense gradients alone.

    Raises:
        UserError: If it cannot.
    """
    if optimizer is not None and (isinstance(optimizer, _TAKE_SPARSE) or not _is_torchs(optimizer)):
        return
    chosen = "the optimiser of training.optimizer" if optimizer is None else type(optimizer).__name__
    for path, module in network.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse:
            raise UserError(
                f"{_place(name, path, module)} has sparse gradients, which {chosen} does not take; leave sparse=True "
                "out of it"
            )


def _is_torchs(optimizer: Optimizer) -> bool:
    return type(optimizer).__module__.partition(".")[0] == "torch"


def _place(name: str, path: str, module: nn.Module) -> str:
    return f"{path} of {name} ({type(module).__name__})" if path else name

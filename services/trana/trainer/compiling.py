"""torch.compile for the passes of the steps; evaluation is left as it is, so that it stays exact."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from torch._dynamo.exc import TorchDynamoException

from trana.trainer.errors import UserError
from trana.trainer.objective.objective import Objective


def compiled(objective: Objective) -> Callable[[], AbstractContextManager[None]]:
    """Lets the objective's calls be compiled, the first time that each kind of them is made.

    Returns:
        Makes the context of a call, which raises a UserError if it cannot be compiled here.
    """
    # Sizes of batches differ by one: with symbolic sizes one kernel serves them all.
    objective.compile(dynamic=True)
    return _translated


@contextmanager
def _translated() -> Iterator[None]:
    """Turns errors of the compiler into ours."""
    try:
        yield
    except TorchDynamoException as error:
        # The first line says it; what follows are hints for whoever develops the compiler.
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            "training.compile: torch.compile could not compile the network on the worker; install a C++ compiler there "
            f"(g++), change the part of the network that it names, or leave compile out ({reason})"
        ) from error

"""What a loop of the user's saves, and how it is set back: tensors as safetensors, the rest without running it."""

import io
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from trana.trainer.checkpoint import SPLIT
from trana.trainer.errors import StorageError, UserError
from trana.trainer.saving import check_tensors

OBJECTS = "objects.pt"
RANDOM = "random"
_RESERVED = (SPLIT, RANDOM)
_WHAT = "a module, tensors, something with state_dict and load_state_dict, a dict or a list"


class Kept:
    """A copy of what was saved, as it was then.

    Attributes:
        tensors: Tensors by name, by the name that they were saved under.
        objects: The rest, as torch.save writes it.
        learning_rate: That of an optimiser among them; 0 where there is none.
    """

    def __init__(self, objects: Mapping[str, Any]) -> None:
        self.tensors: dict[str, dict[str, Tensor]] = {}
        rest: dict[str, Any] = {}
        self.learning_rate = 0.0
        for name, value in objects.items():
            tensors = _tensors_of(name, value)
            if tensors is not None:
                self.tensors[name] = {key: tensor.detach().to("cpu", copy=True) for key, tensor in tensors.items()}
            else:
                rest[name] = _state_of(name, value)
            if isinstance(value, Optimizer):
                self.learning_rate = float(value.param_groups[0]["lr"])
        self.objects = _write(rest)


def check_names(objects: Mapping[str, Any]) -> None:
    """Checks that objects can be saved under their names.

    Raises:
        UserError: If not.
    """
    for name in objects:
        # Each is the name of a file.
        if not name.isidentifier():
            message = f"context.save: {name!r} is no name for a file; use letters, digits and underscores"
            raise UserError(message)
        if name in _RESERVED:
            raise UserError(f"context.save: the name {name} is taken; choose another one")


def set_back(objects: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]], rest: Mapping[str, Any]) -> None:
    """Sets objects to what was saved of them, in place.

    Args:
        objects: By the names that they were saved under.
        tensors: Those that were saved, by the same names.
        rest: What else was.

    Raises:
        UserError: If something of the kind was not saved, or is of another shape.
    """
    for name, value in objects.items():
        if name not in tensors and name not in rest:
            saved = ", ".join([*tensors, *rest]) or "nothing"
            raise UserError(f"context.restore: nothing was saved as {name}; saved were: {saved}")
        own = _tensors_of(name, value)
        if own is not None:
            _set_tensors(name, own, tensors.get(name, {}))
        elif hasattr(value, "load_state_dict"):
            value.load_state_dict(rest[name])
        elif isinstance(value, dict):
            value.clear()
            value.update(rest[name])
        else:
            _state_of(name, value)[:] = rest[name]


def read_objects(content: bytes) -> dict[str, Any]:
    """Reads what `Kept.objects` holds; nothing that it says is run.

    Raises:
        StorageError: If it cannot be read.
    """
    try:
        objects: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise StorageError(f"{OBJECTS} of the checkpoint cannot be read: {error}") from error
    return objects


@torch.no_grad()
def _set_tensors(name: str, own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    check_tensors(saved, own, f"context.restore: what the checkpoint has as {name}")
    for key, tensor in own.items():
        tensor.copy_(saved[key])


def _tensors_of(name: str, value: Any) -> dict[str, Tensor] | None:
    """Returns the tensors that an object is made of, which share its memory; None where it is made of others."""
    match value:
        case DistributedDataParallel():
            return _tensors_of(name, value.module)
        case nn.Module():
            state = value.state_dict()
            odd = next((key for key, tensor in state.items() if not isinstance(tensor, Tensor)), None)
            if odd is not None:
                raise UserError(f"context.save: {odd} of {name} is no tensor; save it by itself")
            return state
        case Tensor():
            return {"tensor": value}
        case Mapping() if value and all(isinstance(each, Tensor) for each in value.values()):
            return {str(key): tensor for key, tensor in value.items()}
        case list() | tuple() if value and all(isinstance(each, Tensor) for each in value):
            return {str(index): tensor for index, tensor in enumerate(value)}
    return None


def _state_of(name: str, value: Any) -> Any:
    if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
        return value.state_dict()
    if isinstance(value, dict) or (isinstance(value, Sequence) and hasattr(value, "clear")):
        return value
    raise UserError(
        f"context.save: {name} is a {type(value).__name__}, which could not be set back in place; give {_WHAT}, such "
        f"as {name}={{'value': ...}}"
    )


def _write(rest: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(rest), buffer)
    try:
        torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    except pickle.UnpicklingError as error:
        what = str(error).partition("GLOBAL ")[2].partition(" ")[0] or "something"
        raise UserError(
            f"context.save: {', '.join(rest)} hold {what}, which cannot be restored safely; save tensors, numbers, "
            "texts, and lists and dicts of them"
        ) from None
    return buffer.getvalue()

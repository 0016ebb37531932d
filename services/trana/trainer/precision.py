"""The arithmetic of the steps: 32 bits, or autocast to 16 with the loss scaled where small gradients would vanish."""

import math
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from trana.trainer.place import Place
from trana.v1 import training_pb2

_TYPES = {training_pb2.PRECISION_BF16: torch.bfloat16, training_pb2.PRECISION_FP16: torch.float16}


class Precision:
    """Makes forward and backward passes and the optimiser's steps; weights stay in 32 bits, evaluation too."""

    def __init__(self, spec: training_pb2.TrainingSpec, place: Place, *, sharded: bool) -> None:
        self._device = place.device.type
        self._type = _TYPES.get(spec.precision)
        self._clip_norm = spec.clip_norm if spec.HasField("clip_norm") else None
        is_scaled = spec.precision == training_pb2.PRECISION_FP16
        if is_scaled and sharded:
            # torch's own scaler brings it about.
            warnings.filterwarnings("ignore", message="Found a non-scalar tensor with numel=1 and ndim!=0")
        # Of sharded gradients each rank sees its own: the ranks must agree on whether one of them overflowed.
        scaler = ShardedGradScaler if sharded else GradScaler
        self._scaler = scaler(self._device, enabled=is_scaled)
        self._norm: Tensor | None = None

    def autocast(self) -> AbstractContextManager[Any]:
        """Returns the context of a forward pass."""
        if self._type is None:
            return nullcontext()
        return torch.autocast(self._device, dtype=self._type)

    def backward(self, loss: Tensor) -> None:
        """Adds to the gradients."""
        torch.autograd.backward(self._scaler.scale(loss))

    def step(self, optimizer: Optimizer, module: nn.Module, *, measures: bool = False) -> None:
        """Makes the optimiser's step; where a scaled gradient overflowed, none, and the next scale is smaller.

        Args:
            optimizer: Whose step it is.
            module: All that learns.
            measures: Whether to take note of the gradient's norm, also where nothing needs it for the step.
        """
        self._scaler.unscale_(optimizer)
        # The norm of the whole gradient: that of a group is averaged by now, and shares are brought together.
        if self._clip_norm is not None:
            self._norm = nn.utils.clip_grad_norm_(module.parameters(), self._clip_norm)
        elif measures:
            self._norm = _norm(module)
        self._scaler.step(optimizer)
        self._scaler.update()

    def gradient_norm(self) -> float | None:
        """Returns the norm of the last gradient of which a note was taken, before it was clipped.

        None where it is no number, or not known. All ranks must call this together.
        """
        norm = self._norm.full_tensor() if isinstance(self._norm, DTensor) else self._norm
        value = math.nan if norm is None else float(norm)
        return value if math.isfinite(value) else None

    def state(self) -> Mapping[str, Any]:
        """Returns the scaler's state, as JSON knows it; nothing where there is none."""
        return dict(self._scaler.state_dict())

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state."""
        if state:
            self._scaler.load_state_dict(dict(state))


def _norm(module: nn.Module) -> Tensor | None:
    """Returns the norm of a module's gradient; None where torch cannot take that of sparse parts."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    if any(gradient.layout != torch.strided for gradient in gradients):
        return None
    return nn.utils.get_total_norm(gradients)

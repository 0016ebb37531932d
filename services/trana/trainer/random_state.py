"""The generators of torch, NumPy and Python in a process: seeded as a function of where a training is, kept, set back.

Objectives may use any of them. An epoch begins with seeds of its own, so that only a checkpoint within an epoch has to
keep their states.
"""

import json
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_all(*entropy: int) -> int:
    """Seeds the generators from several numbers, such that neighbours have nothing in common; returns the seed."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    return seed


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Returns the states of the generators by library: uint8 of shape (bytes,), on the CPU."""
    keys = np.random.get_state(legacy=False)
    states = {
        "torch": torch.get_rng_state(),
        "numpy": _as_bytes(
            {**keys, "state": {name: np.asarray(part).tolist() for name, part in keys["state"].items()}}
        ),
        "python": _as_bytes(random.getstate()),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Sets the generators to what `random_state` gave; those that are not given stay as they are."""
    if "torch" in states:
        torch.set_rng_state(states["torch"].cpu())
    if "numpy" in states:
        np.random.set_state(_from_bytes(states["numpy"]))
    if "python" in states:
        version, numbers, gauss = _from_bytes(states["python"])
        random.setstate((version, tuple(numbers), gauss))
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)


def _as_bytes(state: Any) -> Tensor:
    # JSON and no pickle: a checkpoint can be read without running what someone put into it.
    return torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8)


def _from_bytes(tensor: Tensor) -> Any:
    return json.loads(tensor.cpu().numpy().tobytes())

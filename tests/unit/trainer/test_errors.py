import pickle

import pytest
import torch
import torch.distributed as dist
from trana.trainer import errors
from trana.trainer.errors import OutOfMemoryError, PeerLostError, TrainingError, UnexpectedError
from trana.trainer.foreign import translate, translated
from trana.v1.cause_pb2 import Cause

LEAVES = [leaf for leaf in vars(errors).values() if isinstance(leaf, type) and issubclass(leaf, TrainingError)]


@pytest.mark.parametrize("leaf", LEAVES)
def test_errors_survive_pickling(leaf: type[TrainingError]) -> None:
    copy = pickle.loads(pickle.dumps(leaf("file x, row 3: bad")))  # noqa: S301
    assert type(copy) is leaf
    assert str(copy) == "file x, row 3: bad"
    assert copy.cause == leaf.cause != Cause.CAUSE_UNSPECIFIED


@pytest.mark.parametrize(
    ("error", "leaf"),
    [
        pytest.param(MemoryError("numpy"), OutOfMemoryError, id="host"),
        pytest.param(torch.OutOfMemoryError("CUDA out of memory"), OutOfMemoryError, id="gpu"),
        pytest.param(
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
            OutOfMemoryError,
            id="torch on the host",
        ),
        pytest.param(
            RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:537] Connection closed by peer"),
            PeerLostError,
            id="gloo",
        ),
        pytest.param(dist.DistBackendError("NCCL error"), PeerLostError, id="nccl"),
        pytest.param(dist.DistStoreError("Timed out after 121 seconds waiting for clients"), PeerLostError, id="store"),
        pytest.param(KeyError("weight"), UnexpectedError, id="anything else"),
    ],
)
def test_foreign_errors_are_translated(error: Exception, leaf: type[TrainingError]) -> None:
    with pytest.raises(leaf) as caught, translated():
        raise error
    assert caught.value.__cause__ is error
    assert str(error) in str(caught.value)


def test_allocating_too_much_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**52)
    assert isinstance(translate(caught.value), OutOfMemoryError)


def test_own_errors_pass_unchanged() -> None:
    error = PeerLostError("gone")
    with pytest.raises(PeerLostError) as caught, translated():
        raise error
    assert caught.value is error

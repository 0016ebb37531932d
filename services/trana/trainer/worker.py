"""One rank: sets up the process and the group, trains, and leaves in order."""

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch

# The first optimiser of a process imports it anyway, and that takes a second: a worker that is kept ready for a job
# should have done so before.
import torch._dynamo
import torch.distributed as dist

from trana.trainer.code import opened
from trana.trainer.errors import UserError
from trana.trainer.foreign import translated
from trana.trainer.loop import report_timeout_seconds, run_loop
from trana.trainer.place import Place
from trana.trainer.train import train
from trana.v1 import training_pb2

# How long a rank waits for another in a collective. Long enough for the slowest disk that rank 0 saves to; finite,
# so that a worker which hangs ends the attempt.
TIMEOUT = timedelta(seconds=120)


def run(
    *,
    spec: bytes,
    rank: int,
    world_size: int,
    local_rank: int,
    master_address: str,
    master_port: int,
    num_threads: int,
    use_gpu: bool,
    folder: str,
    attempt: int,
    report: Callable[[bytes], None],
    should_stop: Callable[[], bool],
    code: str | None = None,
) -> None:
    """Trains as one rank of a group; to be called in each rank's process, once.

    Args:
        spec: A valid `trana.v1.TrainingSpec`, serialised.
        rank: 0 to world_size - 1.
        world_size: Workers in the group.
        local_rank: Counts the workers on this node; chooses the GPU where the process sees several.
        master_address: Host on which rank 0 runs.
        master_port: A port that is free there.
        num_threads: CPU threads of torch's operators; the same for the whole job, or results differ in their last bits.
        use_gpu: Whether to train on a GPU rather than on the CPU.
        folder: The job's storage, seen by all workers; made where it is absent.
        attempt: Number of this try at the job, from 1; fences older ones.
        report: Takes a serialised `trana.v1.Report`; called on rank 0 alone, from this thread.
        should_stop: Says whether to stop at the next step that all ranks agree on; called often.
        code: Path of the modules that the spec names: a zip archive, a folder or a .py file; None where it names none.

    Raises:
        TrainingError: Always a leaf of it, with a `cause` and a message that can be shown to the user.
    """
    training = training_pb2.TrainingSpec.FromString(spec)
    # A loop of the user's may let the others wait for as long as it may go without a report, which is watched.
    patience = timedelta(seconds=report_timeout_seconds(training) + 60) if training.HasField("loop") else TIMEOUT
    with translated():
        torch.set_num_threads(num_threads)
        place = Place(
            rank=rank,
            world_size=world_size,
            device=_take_device(local_rank) if use_gpu else torch.device("cpu"),
            folder=Path(folder).resolve(),
            attempt=attempt,
            should_stop=should_stop,
            local_rank=local_rank,
            code=Path(code).resolve() if code is not None else None,
        )
        # Where the user's code brings Keras: it would take a GPU wherever it sees one.
        os.environ["KERAS_TORCH_DEVICE"] = place.device.type
        # Errors of the user's code are described while its files are there.
        with opened(place.code) as modules, translated(modules), _joined(place, master_address, master_port, patience):
            way = run_loop if training.HasField("loop") else train
            way(training, lambda message: report(message.SerializeToString()), place)


def _take_device(local_rank: int) -> torch.device:
    """Takes a GPU, and makes its arithmetic repeatable."""
    # Read by cuBLAS when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if not torch.cuda.is_available():
        raise UserError(
            "the job asks for GPUs, but torch finds none in the worker: the node has no working driver, or its torch "
            "is built for the CPU; set resources.gpus_per_worker to 0 to train on the CPU"
        )
    # Ray shows each worker its own GPU alone, torchrun shows all of them to each.
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    return device


@contextmanager
def _joined(place: Place, address: str, port: int, timeout: timedelta) -> Iterator[None]:
    """Joins the process group for as long as the training takes; a single worker needs none."""
    if place.world_size == 1:
        yield
        return
    host = f"[{address}]" if ":" in address else address
    on_gpu = place.device.type == "cuda"
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"tcp://{host}:{port}",
        rank=place.rank,
        world_size=place.world_size,
        timeout=timeout,
        device_id=place.device if on_gpu else None,
    )
    try:
        yield
    except BaseException as error:
        # The frames hold DDP, and DDP the group. Were it the last to let go of it, it would join the group's threads
        # without releasing the interpreter, for which one of them may be waiting: a deadlock.
        traceback.clear_frames(error.__traceback__)
        # Ends what is still under way, and closes the connections: so the others learn at once that this rank is
        # gone, and it need not wait for them until the timeout.
        if dist.is_initialized():
            _world().abort()
        raise
    finally:
        # A rank whose loop was done long before the others' has left it already.
        if dist.is_initialized():
            dist.destroy_process_group()


def _world() -> dist.ProcessGroup:
    """Returns the group of all ranks; it has been joined."""
    group = dist.group.WORLD
    assert group is not None
    return group

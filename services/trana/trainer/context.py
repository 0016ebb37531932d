"""What a training loop of the user's sees: its one argument.

    from trana.trainer.context import Context

    def train(context: Context) -> None:
        network = context.network()
        optimizer = torch.optim.Adam(network.parameters())
        done = context.restore(network=network, optimizer=optimizer)
        for epoch in range(done + 1, context.spec.epochs + 1):
            ...
            context.save(network=network, optimizer=optimizer)
            context.report(epoch=epoch, train_loss=train_loss, val_loss=val_loss)
            if context.should_stop():
                break

Every rank runs the same function. Where ranks bring something together, which all methods but `args` and the data do,
every rank must make the same calls in the same order.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

from trana.trainer.checkpoint import Checkpoints
from trana.trainer.code import to_python
from trana.trainer.errors import UserError
from trana.trainer.feeding import Feeds
from trana.trainer.group import gather, share
from trana.trainer.keeping import Kept, check_names
from trana.trainer.loading import load_together
from trana.trainer.meeting import Meeting
from trana.trainer.network import build_network
from trana.trainer.objective.build import build_module
from trana.trainer.place import Place
from trana.trainer.random_state import random_state, seed_all
from trana.trainer.record import Numbers, Record
from trana.trainer.reporting import Reporter
from trana.trainer.shard import Pace, Shard
from trana.v1 import report_pb2, training_pb2

Gradients = nn.Module | Tensor | Iterable[Tensor]


class Context:
    """A worker's view of its training.

    Attributes:
        rank: Number of this worker, from 0.
        world_size: Number of workers.
        local_rank: Number of this worker among those of its machine.
        device: Where its tensors should be.
        attempt: Number of this try at the job, from 1.
        spec: What the job asks for, a `trana.v1.TrainingSpec`.
        args: `training.loop.args` as Python knows them.
        classes: Names of the target's classes; empty where it is a number, or there is no dataset. Targets that are
            classes have shape (samples,); those that are numbers (samples, values), (samples, 1) for one column.
        input_shape: Shape of one sample; empty where there is no dataset.
        train: The training samples; None where the spec has no dataset.
        validation: Those for validation.
        test: Those for a test; None where the spec asks for none.
    """

    def __init__(
        self, spec: training_pb2.TrainingSpec, report: Callable[[report_pb2.Report], None], place: Place
    ) -> None:
        self.rank = place.rank
        self.world_size = place.world_size
        self.local_rank = place.local_rank
        self.device = place.device
        self.attempt = place.attempt
        self.spec = spec
        self.args: dict[str, Any] = to_python(spec.loop.args)
        self._place = place
        self._meeting = Meeting(place)
        self._pace = Pace()
        self._noted = False
        self._dataset = load_together(spec, place) if spec.HasField("dataset") else None
        self.classes = self._dataset.classes if self._dataset else ()
        self.input_shape = self._dataset.input_shape if self._dataset else ()
        feeds = Feeds.of(self._dataset, seed=spec.seed, place=place) if self._dataset else None
        self.train = self._shard(feeds.train) if feeds else None
        self.validation = self._shard(feeds.validation) if feeds else None
        self.test = self._shard(feeds.test) if feeds and feeds.test else None
        checkpoints = Checkpoints(spec, self._dataset, place)
        self._record = Record(spec, checkpoints, Reporter(report, place), place)
        self._record.note_samples(*[len(shard) if shard else 0 for shard in (self.train, self.validation, self.test)])
        # The same on every rank, for weights that are drawn by hand.
        seed_all(spec.seed)

    def network(self) -> nn.Module:
        """Builds the network that the spec declares or names in `module`, on the device.

        The weights are those that the service's loop would begin with, the same on every rank.

        Raises:
            UserError: If the spec has none, or it needs a dataset that tells the size of its input.
        """
        spec = self.spec
        self._meeting.gather("network")
        if spec.HasField("module"):
            network = build_module(spec, self._dataset)
        elif not spec.HasField("network"):
            raise UserError("context.network(): the spec has neither network nor module")
        elif self._dataset is None:
            raise UserError("context.network(): the size of the input is told by training.dataset, and there is none")
        else:
            network = build_network(spec.network, self.input_shape, seed=spec.seed)
        network.to(self.device)
        # A constructor may draw from a generator that no seed reaches.
        share([tensor.detach() for tensor in (*network.parameters(), *network.buffers())], self._place)
        self._record.initialise(network)
        self._noted = True
        self._record.note_network(network, spec.network if spec.HasField("network") else None, self.input_shape)
        seed_all(spec.seed)
        return network

    def replicate(self, network: nn.Module, *, sample: Any = None) -> nn.Module:
        """Makes a network one of a group whose gradients are averaged in each backward pass (DDP).

        The mean is one over ranks: multiply the loss by `weight` of the batch, so that each sample counts alike.

        Args:
            network: The same on every rank; save this one, and use what is returned for steps.
            sample: Some input to try it on; two training samples where None. With it the sums have one order from the
                first step on, so that a resumed training repeats an uninterrupted one bit by bit.
        """
        if self.spec.strategy == training_pb2.STRATEGY_FSDP:
            raise UserError("context.replicate: strategy FSDP is for the service's loop; leave training.strategy out")
        self._meeting.gather("replicate")
        if self.world_size == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        replica = DistributedDataParallel(
            network, device_ids=devices, gradient_as_bucket_view=True, find_unused_parameters=True
        )
        if sample is None and self.train is not None:
            sample = self.train.peek(2).features
        if sample is not None:
            mode = network.training
            replica.eval()
            replica(sample).sum().backward()
            replica.zero_grad(set_to_none=True)
            replica.train(mode)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return replica

    def average_gradients(self, of: Gradients, *, num_samples: int) -> None:
        """Brings the ranks' gradients together: their mean, in which each sample counts alike.

        Args:
            of: A network, a tensor or several; the same on every rank. Their `grad` is set; a rank without gradients
                counts as zeroes.
            num_samples: Samples whose mean loss this rank's gradients are of.

        Raises:
            UserError: If no rank has samples.
        """
        tensors = _learned(of)
        counts = [count for (count,) in self._meeting.gather("average_gradients", float(num_samples))]
        if not sum(counts):
            raise UserError("context.average_gradients: no rank has samples")
        weight = counts[self.rank] / sum(counts)
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            self._average([tensor for tensor in tensors if tensor.dtype == dtype], weight)

    @torch.no_grad()
    def _average(self, tensors: list[Tensor], weight: float) -> None:
        """Adds weighted gradients of one type up, all in one collective."""
        # A rank without samples may have NaN, the mean of nothing.
        gradients = [
            torch.zeros_like(tensor) if tensor.grad is None or not weight else tensor.grad * weight
            for tensor in tensors
        ]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        if self.world_size > 1:
            with self._meeting.waiting():
                dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.grad = part.view_as(tensor).clone()

    def mean(self, value: float | Tensor, *, num_samples: int) -> float:
        """Returns the mean over all ranks, in float64, the same bits on every rank.

        Args:
            value: This rank's mean, such as a loss; not heeded where it has no samples.
            num_samples: Samples that it is the mean of.

        Raises:
            UserError: If no rank has samples.
        """
        # A loss that still has its graph is as good as its number.
        number = float(value.detach() if isinstance(value, Tensor) else value)
        mine = number if num_samples else 0.0
        pairs = self._meeting.gather("mean", mine, float(num_samples))
        total = sum(count for _, count in pairs)
        if not total:
            raise UserError("context.mean: no rank has samples")
        return sum(each * count for each, count in pairs) / total

    def save(self, **objects: Any) -> None:
        """Keeps a copy of objects as they are now; `report` publishes it, as the last and perhaps as the best.

        What is called `network` becomes network.safetensors. The generators of every rank are kept too. A call
        without objects saves nothing.

        Args:
            objects: Modules, tensors (one, a list, a dict), what has `state_dict` and `load_state_dict`, such as
                optimisers and schedulers, and dicts and lists of numbers and texts.

        Raises:
            UserError: If something else is among them.
        """
        check_names(objects)
        self._note_network(objects)
        # Rank 0's objects are the ones that are kept.
        if not self._meeting.gather("save", float(len(objects)))[0][0]:
            return
        states = gather(random_state(self.device), self._place)
        self._record.hold(Kept(objects if self.rank == 0 else {}), states)

    def restore(self, **objects: Any) -> int:
        """Sets objects, in place, to what the newest checkpoint has of them; leaves them where there is none.

        Call it once, before the first epoch.

        Args:
            objects: As they were saved, by the same names.

        Returns:
            Epochs that are done; 0 for a fresh start.

        Raises:
            UserError: If something was not saved, or has another shape now.
        """
        self._meeting.gather("restore")
        self._note_network(objects)
        epoch = self._record.restore(objects)
        self._pace.steps = self._record.progress.history[-1].step if self._record.progress.history else 0
        return epoch

    def report(
        self,
        *,
        epoch: int,
        train_loss: float | Tensor,
        val_loss: float | Tensor,
        metrics: Mapping[str, float | Tensor] | None = None,
        learning_rate: float | None = None,
    ) -> None:
        """Reports an epoch and publishes what was saved since the last one. On all ranks, with the same numbers.

        Call `save` before the first report: a training that keeps nothing is refused.

        Args:
            epoch: The next one, from 1.
            train_loss: Mean over training samples.
            val_loss: Mean over validation samples; by it the best checkpoint is chosen.
            metrics: Further numbers, by names such as val_accuracy.
            learning_rate: Of the last step; that of a saved optimiser where None.

        Raises:
            UserError: If the ranks report different numbers, the epoch is not the next one, something is no number,
                or nothing was ever saved.
            NotFiniteError: If a loss is NaN or infinite.
        """
        self._meeting.gather("report")
        numbers = Numbers.of(epoch, train_loss, val_loss, metrics or {})
        Numbers.compare(self._meeting.gather_objects(numbers))
        self._record.tell_first_step()
        self._record.add(numbers, self._pace, learning_rate)

    def should_stop(self) -> bool:
        """Whether to leave the loop: on request, by early stopping, or after `spec.epochs`; all ranks get the same."""
        asked = any(stop for (stop,) in self._meeting.gather("should_stop", float(self._place.should_stop())))
        return self._record.stop(asked=asked)

    @property
    def is_waiting(self) -> bool:
        """Whether this rank waits for the others now."""
        return self._meeting.is_waiting

    @property
    def record(self) -> Record:
        """What was reported and saved."""
        return self._record

    def _shard(self, feed: Any) -> Shard:
        return Shard(feed, self.spec, self._place, pace=self._pace, on_batch=self._tell_step)

    def _note_network(self, objects: Mapping[str, Any]) -> None:
        """Takes note of a network of the loop's own making, of which nothing else is heard."""
        network = objects.get("network")
        # One that waits for its first samples is noted when it is saved.
        if not self._noted and isinstance(network, nn.Module) and not any(map(is_lazy, network.parameters())):
            self._noted = True
            self._record.note_network(network)

    def _tell_step(self, epoch: int) -> None:
        """A batch is taken: all that the service hears of a loop of the user's while an epoch lasts."""
        self._record.tell_first_step()
        self._record.tell_step(epoch, self._pace.steps)


def _learned(of: Gradients) -> list[Tensor]:
    if isinstance(of, nn.Module):
        return [parameter for parameter in of.parameters() if parameter.requires_grad]
    if isinstance(of, Tensor):
        return [of]
    return list(of.values() if isinstance(of, Mapping) else of)

"""A network in training: what a step changes, and how all of it is kept and brought back."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from trana.trainer.augmentation import Augmentation
from trana.trainer.compiling import compiled
from trana.trainer.ema import Ema
from trana.trainer.feeding import Batch
from trana.trainer.group import gather, share
from trana.trainer.objective.objective import Objective
from trana.trainer.optimizer import load_optimizer, optimizer_numbers, optimizer_settings, optimizer_tensors
from trana.trainer.place import Place
from trana.trainer.precision import Precision
from trana.trainer.progress import Progress
from trana.trainer.random_state import random_state, seed_all, set_random_state
from trana.trainer.sharding import Tensors, gathered, load_network
from trana.trainer.strategy import distribute
from trana.v1 import training_pb2

# Names of what `state` gives.
NETWORK = "network"
OPTIMIZER = "optimizer"
AVERAGE = "average"
STATISTICS = "statistics"
RANDOM = "random"


class Learner:
    """An objective with its optimiser, schedule, arithmetic and average. Every rank has one, and all call alike.

    Args:
        spec: A valid spec with the service's loop.
        objective: On the place's device, the same on every rank.
        place: Where this rank runs.
        sample: A few samples, the same ones on every rank.

    Attributes:
        objective: What is trained.
        schedule: Of the learning rate.
    """

    def __init__(self, spec: training_pb2.TrainingSpec, objective: Objective, place: Place, sample: Batch) -> None:
        self.objective = objective
        self._spec = spec
        self._place = place
        self._augmentation = Augmentation(spec.augmentation, objective)
        self._strategy = distribute(objective, spec, place, sample)
        self._optimizer = objective.build_optimizer()
        self.schedule = objective.build_schedule(self._optimizer)
        self._precision = Precision(spec, place, sharded=self._strategy.moves_together)
        self._ema = Ema(objective.network, spec.ema.decay) if spec.HasField("ema") else None
        self._num_parts = spec.accumulation_steps or 1
        self._random: Tensors = {}
        self._compiling = compiled(objective) if spec.compile else nullcontext

    @property
    def moves_together(self) -> bool:
        """Whether all ranks must make as many forward passes, in evaluation too."""
        return self._strategy.moves_together

    def begin_epoch(self, progress: Progress) -> None:
        """Makes ready for the steps of the next epoch, or for those that are left of it."""
        epoch, rank = progress.epoch + 1, self._place.rank
        within = [progress.step] if progress.step else []
        seed_all(self._spec.seed, epoch, *within, rank)
        self._strategy.replica.train()
        self.objective.on_epoch_begin(epoch)
        if self._random:
            # Taken up where this very rank left off.
            set_random_state(self._random, self._place.device)
            self._random = {}

    def step(self, batch: Batch, *, least: int, measures: bool = False) -> Tensor:
        """Makes one step on this rank's share of a batch; returns its part of the loss.

        Args:
            batch: The rank's.
            least: Samples that a pass needs at least.
            measures: Whether to take note of the gradient's norm, for `gradient_norm`.
        """
        losses = []
        for number, part in enumerate(batch.parts(self._num_parts, least=least), start=1):
            is_last = number == self._num_parts
            with nullcontext() if is_last else self._strategy.accumulating():
                losses.append(self._pass(part))
        self._precision.step(self._optimizer, self.objective, measures=measures)
        self._optimizer.zero_grad(set_to_none=True)
        if self._ema is not None:
            self._ema.update()
        self.schedule.after_step()
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def gradient_norm(self) -> float | None:
        """Returns the norm of the last measured step's gradient; see `Precision.gradient_norm`."""
        return self._precision.gradient_norm()

    def exposed_seconds(self) -> float | None:
        """Returns the seconds of a step in which gradients travel unhidden; see `Strategy.exposed_seconds`."""
        return self._strategy.exposed_seconds()

    def _pass(self, part: Batch) -> Tensor:
        changed, mix = self._augmentation.apply(part)
        with self._precision.autocast(), self._compiling(), self._strategy.passing():
            # The ranks' gradients are averaged; scaled like this, their mean is that of the mean over the whole batch.
            loss: Tensor = self._strategy.replica(changed, mix) * (self._place.world_size / part.total)
        self._precision.backward(loss)
        return loss.detach()

    @contextmanager
    def evaluated(self) -> Iterator[Objective]:
        """Gives the objective as it is evaluated and kept as the best: the average where there is one."""
        share(self.objective.statistics().values(), self._place)
        with self._ema.applied() if self._ema else nullcontext():
            yield self.objective
        self._strategy.rest()

    def weights(self) -> dict[str, Tensor]:
        """Returns the network's state as it is now, whole, on rank 0's CPU."""
        return gathered(self.objective.network.state_dict(), self._place)

    def load_weights(self, tensors: Tensors) -> None:
        """Sets the network to whole tensors of its own names and shapes."""
        load_network(self.objective.network, tensors)

    def state(self, *, within_epoch: bool) -> dict[str, Tensors]:
        """Returns what a training goes on from, whole, on rank 0's CPU: tensors by name, by what they belong to.

        Args:
            within_epoch: Whether steps of an epoch are left. Between epochs the ranks have the same statistics, and
                their generators are seeded anew.
        """
        place = self._place
        files: dict[str, Tensors] = {
            NETWORK: self.weights(),
            OPTIMIZER: gathered(optimizer_tensors(self._optimizer, self.objective), place),
        }
        if self._ema is not None:
            with self._ema.applied():
                files[AVERAGE] = gathered(self._ema.parameters, place)
        if within_epoch:
            files[RANDOM] = _of_ranks(random_state(place.device), place)
            files[STATISTICS] = _of_ranks(self.objective.statistics(), place) if place.world_size > 1 else {}
        return {name: tensors for name, tensors in files.items() if tensors}

    def notes(self) -> dict[str, Any]:
        """Returns the rest of what a training goes on from, as JSON knows it."""
        return {
            "optimizer": optimizer_settings(self._optimizer),
            "optimizer_state": optimizer_numbers(self._optimizer, self.objective),
            "schedule": self.schedule.state(),
            "precision": self._precision.state(),
            "average_steps": self._ema.num_steps if self._ema else 0,
        }

    def load(self, files: Mapping[str, Tensors], notes: Mapping[str, Any], *, same_group: bool) -> None:
        """Goes on from what `state` and `notes` gave.

        Args:
            files: Tensors by name, by what they belong to.
            notes: The rest.
            same_group: Whether as many ranks saved it. Others begin with rank 0's statistics and seeds of their own.
        """
        network = self.objective.network
        if self._ema is not None:
            self._ema.load(files[AVERAGE], notes["average_steps"])
        load_network(network, files[NETWORK])
        load_optimizer(
            self._optimizer,
            self.objective,
            files.get(OPTIMIZER, {}),
            # Checkpoints that were made before these were kept have none.
            numbers=notes.get("optimizer_state", {}),
            settings=notes["optimizer"],
        )
        self.schedule.load(notes["schedule"])
        self._precision.load(notes["precision"])
        if same_group:
            self._random = _below(str(self._place.rank), files.get(RANDOM, {}))
            kept = _below(str(self._place.rank), files.get(STATISTICS, {}))
            for name, tensor in self.objective.statistics().items():
                if name in kept:
                    tensor.detach().copy_(kept[name])


def _of_ranks(tensors: Tensors, place: Place) -> dict[str, Tensor]:
    """Brings every rank's tensors to rank 0, named {rank}.{name}."""
    mine = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
    return {
        f"{rank}.{name}": tensor for rank, theirs in enumerate(gather(mine, place)) for name, tensor in theirs.items()
    }


def _below(prefix: str, tensors: Tensors) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}

"""The record of a user's loop: what it reported, what was saved, and what of it is published."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from torch import Tensor, nn

from trana.trainer.checkpoint import STATE, Checkpoints, Contents
from trana.trainer.errors import NotFiniteError, UserError
from trana.trainer.judge import CURVE, Judge, Sizes
from trana.trainer.keeping import OBJECTS, RANDOM, Kept, read_objects, set_back
from trana.trainer.layers import describe_layers
from trana.trainer.network import Shape, count_parameters
from trana.trainer.place import Place
from trana.trainer.progress import Best, Progress, from_json, to_json, to_lines
from trana.trainer.publish import BEST, LAST, Header
from trana.trainer.random_state import seed_all, set_random_state
from trana.trainer.reporting import Reporter
from trana.trainer.saving import HISTORY, PROGRESS, check_tensors, read_initial
from trana.trainer.shard import Pace
from trana.v1 import checkpoint_pb2, epoch_pb2, network_pb2, report_pb2, training_pb2

_KEPT = "kept"

_NOT_SAVED = (
    "context.report: nothing was saved yet, so no checkpoint would be kept; call context.save(network=network) before "
    "context.report (an empty context.save() is not enough)"
)


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a rank reports of an epoch.

    Attributes:
        epoch: From 1.
        train_loss: Over training samples.
        val_loss: Over validation samples.
        metrics: Further numbers by name.
    """

    epoch: int
    train_loss: float
    val_loss: float
    metrics: Mapping[str, float]

    @staticmethod
    def of(epoch: Any, train_loss: Any, val_loss: Any, metrics: Mapping[str, Any]) -> "Numbers":
        """Reads what a loop has given.

        Raises:
            UserError: If something is no number.
        """
        if isinstance(epoch, bool) or not isinstance(epoch, int):
            raise UserError(f"context.report: epoch must be a whole number, from 1, and is {epoch!r}")
        measured = {str(name): _number(str(name), value) for name, value in metrics.items()}
        return Numbers(epoch, _number("train_loss", train_loss), _number("val_loss", val_loss), measured)

    @staticmethod
    def compare(numbers: Sequence["Numbers"]) -> None:
        """Checks that all ranks report the same.

        Raises:
            UserError: If not; it names two ranks and their numbers.
        """
        first = numbers[0].named()
        for rank, other in enumerate(numbers[1:], start=1):
            theirs = other.named()
            for name in [*first, *(name for name in theirs if name not in first)]:
                # As text, for NaN is not equal to itself.
                ours, other_value = (repr(each.get(name, "nothing")) for each in (first, theirs))
                if ours != other_value:
                    raise UserError(
                        f"rank 0 reported {name} {_plain(ours)}, rank {rank} {_plain(other_value)} in epoch "
                        f"{numbers[0].epoch}; bring them together with context.mean(..., num_samples=...)"
                    )

    def named(self) -> dict[str, float]:
        """Returns all numbers by name."""
        return {"epoch": self.epoch, "train_loss": self.train_loss, "val_loss": self.val_loss, **self.metrics}

    def check_finite(self) -> None:
        """Checks the losses.

        Raises:
            NotFiniteError: If one is NaN or infinite.
        """
        for name in ("train_loss", "val_loss"):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise NotFiniteError(
                    f"the loop reported {name} {value} in epoch {self.epoch}; try a lower learning rate, or features "
                    "and targets near 1; the best checkpoint from before, if there is one, is kept",
                    train_loss=self.train_loss,
                    val_loss=self.val_loss,
                )


@dataclass(frozen=True, slots=True)
class _Held:
    """What was saved, until it is published."""

    kept: Kept
    states: Sequence[Mapping[str, Tensor]]


class Record:
    """Keeps account of a loop. All ranks call each method together; rank 0 alone writes and tells.

    Attributes:
        progress: How far the loop has come.
        num_reports: Reports of this attempt.
        requested: Whether a stop was agreed on because someone asked for it.
        reported: When the last report came, or the loop began; seconds of the monotonic clock.
    """

    def __init__(
        self, spec: training_pb2.TrainingSpec, checkpoints: Checkpoints, reporter: Reporter, place: Place
    ) -> None:
        self._spec = spec
        # Without a number of epochs the loop ends when it likes.
        self._rules = training_pb2.TrainingSpec()
        self._rules.CopyFrom(spec)
        self._rules.epochs = spec.epochs or 2**31 - 1
        self._checkpoints = checkpoints
        self._reporter = reporter
        self._place = place
        self._newest = checkpoints.take_over()
        self._restored = False
        self._told_first = False
        self._initialised = False
        self._held: _Held | None = None
        self._has_saved = False
        self._pending: Header | None = None
        self._lines: dict[int, str] = {}
        self._first_step = report_pb2.FirstStep()
        self._judge: Judge | None = None
        self.progress = Progress()
        self.num_reports = 0
        self.requested = False
        self.reported = time.monotonic()

    def hold(self, kept: Kept, states: Sequence[Mapping[str, Tensor]]) -> None:
        """Holds what was saved, with the ranks' generators, until the next report."""
        self._has_saved = True
        self._held = _Held(kept, states)
        self._pending = None

    def initialise(self, network: nn.Module) -> None:
        """Gives a network the weights of the spec's initial checkpoint, where it names one.

        A loop that goes on sets them back afterwards.
        """
        self._initialised = True
        weights = read_initial(self._spec, self._place)
        if weights:
            source = f"training.initial_checkpoint {self._spec.initial_checkpoint}"
            check_tensors(weights, network.state_dict(), source)
            network.load_state_dict(weights)

    def restore(self, objects: Mapping[str, Any]) -> int:
        """Sets objects and generators back; see `Context.restore`."""
        if self.num_reports or self._restored:
            raise UserError("context.restore: call it once, before the first report")
        self._restored = True
        if not self._newest:
            return 0
        self._has_saved = True
        notes = self._checkpoints.read_notes(self._newest, _KEPT)
        tensors = {name: self._checkpoints.read_tensors(self._newest, name) for name in notes["tensors"]}
        set_back(objects, tensors, read_objects(self._checkpoints.read_text(self._newest, OBJECTS)))
        lines = self._checkpoints.read_text(self._newest, HISTORY).decode().splitlines()
        history = tuple(json_format.Parse(line, epoch_pb2.Epoch()) for line in lines)
        self.progress = from_json(self._checkpoints.read_notes(self._newest, PROGRESS), history)
        self._restore_generators()
        self._judging().restore(self._checkpoints.read_tensors(self._newest, CURVE), history)
        best = self.progress.best
        published = [self._checkpoints.describe(name) for name in ([best.name] if best else []) + [self._newest]]
        self._reporter.repeat(self.progress, published, self._judging().verdict)
        return self.progress.epoch

    def _judging(self) -> Judge:
        """Returns the judge, made when it is first needed: then as much as can be is known of network and data."""
        if self._judge is None:
            first = self._first_step
            sizes = Sizes(first.num_parameters, first.num_train, first.num_validation)
            self._judge = Judge(self._spec, self._place, sizes)
        return self._judge

    def _restore_generators(self) -> None:
        place = self._place
        if self._checkpoints.read_notes(self._newest, STATE)["world_size"] != place.world_size:
            seed_all(self._spec.seed, self.progress.epoch, place.rank)
            return
        start = f"{place.rank}."
        states = self._checkpoints.read_tensors(self._newest, RANDOM)
        mine = {name.removeprefix(start): state for name, state in states.items() if name.startswith(start)}
        set_random_state(mine, place.device)

    def add(self, numbers: Numbers, pace: Pace, learning_rate: float | None) -> None:
        """Takes a report, the same on all ranks: publishes what is held, and tells.

        Raises:
            UserError: If the epoch is not the next one, or nothing was ever saved.
            NotFiniteError: If a loss is NaN or infinite.
        """
        if numbers.epoch != self.progress.epoch + 1:
            raise UserError(
                f"context.report: epoch {numbers.epoch} was reported, and the next one is {self.progress.epoch + 1}; "
                "count from what context.restore returned"
            )
        if not self._has_saved:
            raise UserError(_NOT_SAVED)
        with self._reporter.telling_divergence(self._judging()):
            numbers.check_finite()
        if self._spec.initial_checkpoint and not (self._initialised or self.progress.epoch):
            raise UserError(
                "training.initial_checkpoint is set, but only the network that context.network() builds begins with "
                "its weights; call context.network(), or leave initial_checkpoint out"
            )
        self.num_reports += 1
        epoch = self._describe(numbers, pace, learning_rate)
        best, published = self._publish_best(epoch)
        epoch.duration_seconds = time.monotonic() - self.reported
        epoch.create_time.GetCurrentTime()
        overfits = self._judging().after(epoch)
        self.progress = self.progress.after(self._rules, epoch, best, overfits=overfits)
        published += self._publish_last()
        self._reporter.tell_epoch(epoch, published, self._judging().verdict)
        self.reported = time.monotonic()

    def stop(self, *, asked: bool) -> bool:
        """Takes note of whether someone asked to stop; returns whether to."""
        self.requested = self.requested or asked
        if not (self.requested or self.progress.has_ended):
            return False
        if self._pending is not None:
            self._reporter.tell_checkpoints([self._publish_pending(self._pending)])
        return True

    def note_samples(self, num_train: int, num_validation: int, num_test: int) -> None:
        """Takes note of the sizes of the splits."""
        first = self._first_step
        first.num_train, first.num_validation, first.num_test = num_train, num_validation, num_test

    def note_network(
        self, network: nn.Module, declared: network_pb2.Network | None = None, input_shape: Shape = ()
    ) -> None:
        """Takes note of the network; see `describe_layers`."""
        first = self._first_step
        first.num_parameters = count_parameters(network)
        first.ClearField("layers")
        first.layers.extend(describe_layers(network, declared, input_shape))

    def tell_first_step(self) -> None:
        """Reports the first step of the attempt, once."""
        if not self._told_first:
            self._told_first = True
            self._first_step.resumed_from_epoch = self.progress.epoch
            self._reporter.tell_first_step(self._first_step)

    def tell_step(self, epoch: int, step: int) -> None:
        """Reports steps that were made since the start of the job, where nothing was told for long."""
        self._reporter.tell_step(epoch, step)

    def tell_result(self) -> report_pb2.TrainingResult:
        """Reports and returns how the loop ended."""
        reason = self.progress.stop_reason
        if not self.progress.has_ended:
            reason = report_pb2.STOP_REASON_REQUESTED if self.requested else report_pb2.STOP_REASON_EPOCHS_DONE
        return self._reporter.tell_result(self.progress, reason, {})

    def _describe(self, numbers: Numbers, pace: Pace, learning_rate: float | None) -> epoch_pb2.Epoch:
        saved = self._held.kept.learning_rate if self._held else 0.0
        return epoch_pb2.Epoch(
            epoch=numbers.epoch,
            attempt=self._place.attempt,
            train_loss=numbers.train_loss,
            val_loss=numbers.val_loss,
            learning_rate=saved if learning_rate is None else learning_rate,
            samples_per_second=pace.take(),
            step=pace.steps,
            # The best is what can be downloaded.
            best=self._held is not None and self.progress.is_best(numbers.val_loss),
            metrics=numbers.metrics,
        )

    def _publish_best(self, epoch: epoch_pb2.Epoch) -> tuple[Best | None, list[checkpoint_pb2.Checkpoint]]:
        if not epoch.best or self._held is None:
            return self.progress.best, []
        contents = Contents(self._held.kept.tensors, about=_about(epoch))
        checkpoint = self._checkpoints.publish(Header(BEST, epoch.epoch, epoch.val_loss, step=epoch.step), contents)
        return Best(epoch.epoch, epoch.val_loss, Path(checkpoint.uri).name), [checkpoint]

    def _publish_last(self) -> list[checkpoint_pb2.Checkpoint]:
        """Publishes what was saved where the spec says so; else it waits for a stop."""
        if self._held is None:
            return []
        newest = self.progress.history[-1]
        best = self.progress.best.name if self.progress.best else ""
        self._pending = Header(LAST, newest.epoch, newest.val_loss, best, step=newest.step)
        every = self._spec.checkpointing.every_epochs or 1
        if newest.epoch % every and not self.progress.has_ended:
            return []
        return [self._publish_pending(self._pending)]

    def _publish_pending(self, header: Header) -> checkpoint_pb2.Checkpoint:
        held = self._held
        if held is None:
            raise RuntimeError("nothing is held")
        self._held = self._pending = None
        self._lines = to_lines(self.progress.history, self._lines)
        states = {f"{rank}.{name}": state for rank, mine in enumerate(held.states) for name, state in mine.items()}
        contents = Contents(
            {**held.kept.tensors, RANDOM: states, CURVE: self._judging().state()},
            notes={PROGRESS: to_json(self.progress), _KEPT: {"tensors": list(held.kept.tensors)}},
            texts={HISTORY: "".join(self._lines.values()).encode(), OBJECTS: held.kept.objects},
            about=_about(self.progress.history[-1]),
        )
        return self._checkpoints.publish(header, contents)


def _about(epoch: epoch_pb2.Epoch) -> dict[str, Any]:
    return {"train_loss": epoch.train_loss, "metrics": dict(epoch.metrics)}


def _number(name: str, value: Any) -> float:
    """Reads a number: of Python, of NumPy, or a tensor with one value."""
    try:
        if isinstance(value, str | bool):
            raise TypeError
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError):
        shown = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise UserError(f"context.report: {name} must be one number, and is {shown}") from None


def _plain(text: str) -> str:
    return text.strip("'")

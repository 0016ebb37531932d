"""Training that is cut within an epoch ends as if nothing had happened, to the last bit."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from integration.trainer.test_train import DROPOUT, PLATEAU, curve
from trana.trainer.judge import CURVE
from trana.trainer.train import train
from trana.v1 import report_pb2, training_pb2
from unit.trainer.specs import make_spec
from unit.trainer.training import Killed, Trained, place, run

SGD = {"sgd": {"learningRate": 0.1, "momentum": 0.9, "weightDecay": 0.01}}
EVERYTHING: dict[str, Any] = {
    "optimizer": SGD,
    "ema": {"decay": 0.9},
    "accumulationSteps": 3,
    "clipNorm": 0.5,
    "precision": "PRECISION_FP16",
    "augmentation": {"mixupAlpha": 0.4, "noiseStddev": 0.1},
}


def spec_of(**changes: Any) -> training_pb2.TrainingSpec:
    # 90 training samples in steps of 15: 6 an epoch.
    return make_spec(network={"layers": DROPOUT}, epochs=3, schedule=PLATEAU, globalBatchSize=16, **changes)


def run_until_saved(spec: training_pb2.TrainingSpec, folder: Path, *, step: int, attempt: int = 1) -> Trained:
    """Trains until a last checkpoint of a step is told, and dies there."""
    trained = Trained([], folder)

    def report(message: report_pb2.Report) -> None:
        trained.reports.append(message)
        if message.checkpoint.step == step and "-last-" in message.checkpoint.uri:
            raise Killed

    with pytest.raises(Killed):
        train(spec, report, place(folder, attempt=attempt))
    return trained


def assert_same_end(cut: Trained, whole: Trained) -> None:
    assert curve(cut) == curve(whole)
    assert cut.result == whole.result
    for file in sorted(path.name for path in (whole.folder / "checkpoints" / "last").glob("*.safetensors")):
        # A clock has its column in the learning curve.
        if file != f"{CURVE}.safetensors":
            assert cut.file("last", file) == whole.file("last", file), file
    assert cut.file("best", "network.safetensors") == whole.file("best", "network.safetensors")


@pytest.mark.parametrize("changes", [{}, EVERYTHING], ids=["plain", "everything"])
def test_killed_within_epochs_it_ends_bit_by_bit_as_an_uninterrupted_one(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    whole = run(spec_of(**changes), tmp_path / "whole")
    spec = spec_of(**changes, checkpointing={"everySteps": 2, "everyEpochs": 2})
    # Before the first epoch is done, and in the last one.
    run_until_saved(spec, tmp_path / "cut", step=2)
    run_until_saved(spec, tmp_path / "cut", step=16, attempt=2)
    resumed = run(spec, tmp_path / "cut", attempt=3)
    assert_same_end(resumed, whole)


def test_stop_within_an_epoch_loses_no_step(tmp_path: Path) -> None:
    whole = run(spec_of(), tmp_path / "whole")
    stopped = Trained([], tmp_path / "cut")
    result = train(spec_of(), stopped.reports.append, place(stopped.folder, should_stop=lambda: True))
    assert result.stop_reason == report_pb2.STOP_REASON_REQUESTED
    (last,) = stopped.checkpoints
    assert (last.epoch, last.step) == (0, 1)
    assert math.isnan(last.val_loss)
    assert last.uri.endswith("000000-step-000001-last-attempt-1")
    assert json.loads(stopped.file("last", "state.json"))["val_loss"] is None
    assert_same_end(run(spec_of(), stopped.folder, attempt=2), whole)


def test_resumed_epoch_tells_its_whole_time_and_a_speed_of_its_own_steps(tmp_path: Path) -> None:
    spec = spec_of(checkpointing={"everySteps": 4})
    run_until_saved(spec, tmp_path, step=4)
    path = tmp_path / "checkpoints" / "last"
    seconds = json.loads((path / "progress.json").read_text())["seconds"]
    assert seconds > 0
    first = run(spec, tmp_path, attempt=2).epochs[0]
    assert first.duration_seconds > seconds
    # 30 samples were left, and no more than those can have been seen in the time that the attempt had.
    assert first.samples_per_second * (first.duration_seconds - seconds) >= 30


def test_steps_are_counted_over_epochs(tmp_path: Path) -> None:
    trained = run(spec_of(checkpointing={"everySteps": 5, "everyEpochs": 3}), tmp_path)
    lasts = [(saved.epoch, saved.step) for saved in trained.checkpoints if "-last-" in saved.uri]
    assert lasts == [(0, 5), (1, 10), (2, 15), (3, 18)]


def test_resuming_tells_the_checkpoint_within_the_epoch_again(tmp_path: Path) -> None:
    spec = spec_of(checkpointing={"everySteps": 4})
    cut = run_until_saved(spec, tmp_path, step=8)
    resumed = run(spec, tmp_path, attempt=2)
    assert resumed.kinds[:5] == ["checkpoint", "checkpoint", "epoch", "fit", "first_step"]
    assert cut.checkpoints[-1].save_seconds > 0
    cut.checkpoints[-1].ClearField("save_seconds")
    assert resumed.checkpoints[1] == cut.checkpoints[-1]
    assert resumed.checkpoints[1].val_loss == cut.epochs[0].val_loss


def test_checkpoint_within_an_epoch_counts_as_newer_than_the_epoch_before(tmp_path: Path) -> None:
    run_until_saved(spec_of(checkpointing={"everySteps": 2}), tmp_path, step=8)
    names = sorted(path.name for path in (tmp_path / "checkpoints").glob("*-last-*"))
    assert names == ["000001-last-attempt-1", "000001-step-000002-last-attempt-1"]
    assert (tmp_path / "checkpoints" / "last").resolve().name == "000001-step-000002-last-attempt-1"

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from integration.trainer.ranks import Group, Outcome, run_ranks
from safetensors.torch import load_file
from trana.trainer.errors import FencedError, NotFiniteError, OutOfMemoryError, PeerLostError, StorageError
from trana.trainer.judge import CURVE
from trana.trainer.publish import CheckpointFolder
from trana.v1 import report_pb2, training_pb2
from unit.trainer.specs import IRIS, make_spec, regression, write_csv, write_numbers

DROPOUT = [
    {"linear": {"outFeatures": 32}},
    {"batchNorm1d": {}},
    {"relu": {}},
    {"residual": {"layers": [{"linear": {"outFeatures": 32}}, {"layerNorm": {}}]}},
    {"dropout": {"p": 0.3}},
    {"linear": {"outFeatures": 3}},
]


def losses(outcome: Outcome) -> list[float]:
    return [value for epoch in outcome.epochs for value in (epoch.train_loss, epoch.val_loss)]


def curve(outcome: Outcome) -> list[dict[str, Any]]:
    """Returns the epochs without what a clock decides."""
    clock = {"attempt", "create_time", "duration_seconds", "evaluation_seconds", "samples_per_second", "step_times"}
    written = [MessageToDict(epoch, preserving_proto_field_name=True) for epoch in outcome.epochs]
    return [{name: value for name, value in epoch.items() if name not in clock} for epoch in written]


def assert_good(outcome: Outcome) -> Outcome:
    assert not outcome.errors
    assert set(outcome.exit_codes) == {0}
    return outcome


def read_file(folder: Path, kind: str, name: str) -> bytes:
    return (folder / "checkpoints" / kind / name).read_bytes()


def three_files(folder: Path) -> training_pb2.TrainingSpec:
    """Makes a training whose 31 validation samples are its test samples too."""
    header, *rows = IRIS.read_text().splitlines()
    train, held = rows[::2], rows[1::5][:30] + rows[148:149]
    spec = make_spec(write_csv(folder / "train.csv", header, *train), network={"layers": DROPOUT})
    held_uri = write_csv(folder / "held.csv", header, *held).as_uri()
    spec.dataset.split.uris.validation = held_uri
    spec.dataset.split.uris.test = held_uri
    return spec


def test_one_checkpoint_has_one_validation_loss_for_any_number_of_workers(tmp_path: Path) -> None:
    spec = three_files(tmp_path)
    trained = assert_good(run_ranks(spec, tmp_path / "job", world_size=2))
    assert trained.first_step.num_validation == 31
    again = [trained]
    for attempt, world_size in enumerate((1, 2, 3), start=2):
        again.append(assert_good(run_ranks(spec, tmp_path / "job", world_size=world_size, attempt=attempt)))
    # Not only to 1e-9: to the last bit.
    assert {outcome.result.test_metrics["test_loss"] for outcome in again} == {trained.result.best_val_loss}


def test_number_of_workers_does_not_change_the_training(tmp_path: Path) -> None:
    # Adam would hide gradients of a wrong size: its steps do not depend on it. 90 samples in steps of 7, some of 6.
    sgd = {"sgd": {"learningRate": 0.1, "momentum": 0.9, "weightDecay": 0.01}}
    fields: dict[str, Any] = {"epochs": 4, "globalBatchSize": 7, "optimizer": sgd, "clipNorm": 0.3}
    fields |= {"ema": {"decay": 0.8}, "metrics": [{"accuracy": {}}, {"auroc": {}}, {"macroF1": {}}]}
    groups: dict[str, tuple[int, dict[str, Any]]] = {
        "one": (1, {}),
        "two": (2, {"accumulationSteps": 2}),
        "three": (3, {}),
        "two sharded": (2, {"strategy": "STRATEGY_FSDP"}),
        "three sharded": (3, {"strategy": "STRATEGY_FSDP", "accumulationSteps": 2}),
    }
    found = {}
    for name, (world_size, changes) in groups.items():
        spec = make_spec(**fields, **changes)
        found[name] = assert_good(run_ranks(spec, tmp_path / name, world_size=world_size))
    for outcome in found.values():
        assert losses(outcome) == pytest.approx(losses(found["one"]), rel=1e-5)
        assert outcome.result.test_metrics == pytest.approx(dict(found["one"].result.test_metrics), rel=1e-5)
        norms = [[epoch.gradient_norm for epoch in each.epochs] for each in (outcome, found["one"])]
        assert norms[0] == pytest.approx(norms[1], rel=1e-4)
        assert min(norms[0]) > 0
    assert all(epoch.step_times.communication_seconds == 0 for epoch in found["one"].epochs)
    for name in ("two", "three"):
        assert all(epoch.step_times.communication_seconds > 0 for epoch in found[name].epochs), name
    # What a sharded training exchanges, it exchanges all through its passes.
    assert not any(epoch.step_times.HasField("communication_seconds") for epoch in found["two sharded"].epochs)


def test_sharded_training_goes_on_replicated_and_the_other_way_round(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"epochs": 6, "optimizer": {"adamw": {"learningRate": 0.02}}, "ema": {"decay": 0.8}}
    whole = assert_good(run_ranks(make_spec(**fields), tmp_path / "whole", world_size=2))

    def stop(report: report_pb2.Report, group: Group) -> None:
        if report.epoch.epoch == 2:
            group.stop()

    for first, second in (("STRATEGY_FSDP", "STRATEGY_DDP"), ("STRATEGY_DDP", "STRATEGY_FSDP")):
        folder = tmp_path / first
        run_ranks(make_spec(**fields, strategy=first), folder, world_size=2, on_report=stop)
        _respell(folder, "strategy", second)
        resumed = assert_good(run_ranks(make_spec(**fields, strategy=second), folder, world_size=2, attempt=2))
        assert losses(resumed) == pytest.approx(losses(whole), rel=1e-5)
        sizes = [sizes_of(path / "checkpoints" / "last") for path in (folder, tmp_path / "whole")]
        assert sizes[0] == sizes[1]


def _respell(folder: Path, field: str, value: str) -> None:
    """Changes a field of the spec that a last checkpoint is of, as if it always had been that."""
    path = (folder / "checkpoints" / "last").resolve()
    state = json.loads((path / "state.json").read_text())
    state["spec"][field] = value
    content = json.dumps(state).encode()
    (path / "state.json").write_bytes(content)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["state.json"] = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (path / "manifest.json").write_text(json.dumps(manifest))


def sizes_of(path: Path) -> dict[str, tuple[int, ...]]:
    tensors = [load_file(path / f"{name}.safetensors") for name in ("network", "optimizer", "average")]
    return {name: tuple(tensor.shape) for some in tensors for name, tensor in some.items()}


@pytest.mark.parametrize("strategy", ["STRATEGY_DDP", "STRATEGY_FSDP"])
def test_rank_without_a_sample_changes_nothing(tmp_path: Path, strategy: str) -> None:
    # 6 training samples in 3 steps of 2: the third of three ranks never has one, nor a share of the one output.
    sgd = {"sgd": {"learningRate": 0.1}}
    fields: dict[str, Any] = {"globalBatchSize": 2, "epochs": 5, "optimizer": sgd, "strategy": strategy}
    spec = regression(write_numbers(tmp_path / "n.csv", 8), **fields)
    alone = assert_good(run_ranks(spec, tmp_path / "1", world_size=1))
    group = assert_good(run_ranks(spec, tmp_path / "3", world_size=3))
    assert alone.first_step.num_train == 6
    assert losses(group) == pytest.approx(losses(alone), rel=1e-5)
    norms = [[epoch.gradient_norm for epoch in outcome.epochs] for outcome in (group, alone)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


def test_rank_with_a_single_sample_can_normalise_batches(tmp_path: Path) -> None:
    spec = make_spec(network={"layers": DROPOUT}, globalBatchSize=3, epochs=1)
    assert_good(run_ranks(spec, tmp_path, world_size=2))


CUT: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything": {
        "optimizer": {"sgd": {"learningRate": 0.1, "momentum": 0.9, "weightDecay": 0.01}},
        "ema": {"decay": 0.9},
        "accumulationSteps": 2,
        "clipNorm": 0.5,
        "precision": "PRECISION_FP16",
        "augmentation": {"mixupAlpha": 0.4, "noiseStddev": 0.1},
    },
}


@pytest.mark.parametrize("strategy", ["STRATEGY_DDP", "STRATEGY_FSDP"])
@pytest.mark.parametrize(("world_size", "changes"), [(2, "everything"), (3, "plain")])
def test_killed_training_ends_bit_by_bit_as_an_uninterrupted_one(
    tmp_path: Path, strategy: str, world_size: int, changes: str
) -> None:
    fields = {"network": {"layers": DROPOUT}, "epochs": 4, "globalBatchSize": 12, "strategy": strategy} | CUT[changes]
    if strategy == "STRATEGY_FSDP":
        fields["optimizer"] = {"adamw": {"learningRate": 0.02}}
    whole = assert_good(run_ranks(make_spec(**fields), tmp_path / "whole", world_size=world_size))
    # 8 steps an epoch. Killed after the one that is saved within the third, wherever that is by now.
    spec = make_spec(**fields, checkpointing={"everySteps": 3, "everyEpochs": 2})

    def kill(report: report_pb2.Report, group: Group) -> None:
        if report.checkpoint.step == 18:
            group.kill(rank=1)

    cut = run_ranks(spec, tmp_path / "cut", world_size=world_size, on_report=kill)
    assert isinstance(cut.errors[0], PeerLostError)

    resumed = assert_good(run_ranks(spec, tmp_path / "cut", world_size=world_size, attempt=2))
    assert resumed.first_step.resumed_from_epoch >= 2
    assert curve(resumed) == curve(whole)
    assert resumed.result == whole.result
    for path in (tmp_path / "whole" / "checkpoints" / "last").glob("*.safetensors"):
        # A clock has its column in the learning curve.
        if path.stem != CURVE:
            assert read_file(tmp_path / "cut", "last", path.name) == path.read_bytes(), path.name


def test_killed_rank_0_leaves_no_epoch_behind(tmp_path: Path) -> None:
    spec = make_spec(epochs=8)

    def kill(report: report_pb2.Report, group: Group) -> None:
        if report.epoch.epoch == 2:
            group.kill(rank=0)

    cut = run_ranks(spec, tmp_path, world_size=2, on_report=kill)
    assert isinstance(cut.errors[1], PeerLostError)
    resumed = assert_good(run_ranks(spec, tmp_path, world_size=2, attempt=2))
    assert [epoch.epoch for epoch in resumed.epochs] == list(range(1, 9))
    assert resumed.epochs[:2] == cut.epochs[:2]


def test_job_resumes_within_an_epoch_on_another_number_of_workers(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"epochs": 4, "ema": {"decay": 0.8}}
    whole = assert_good(run_ranks(make_spec(**fields), tmp_path / "whole", world_size=2))
    spec = make_spec(**fields, checkpointing={"everySteps": 4, "everyEpochs": 4})

    def kill(report: report_pb2.Report, group: Group) -> None:
        if report.checkpoint.step == 8:
            group.kill(rank=0)

    run_ranks(spec, tmp_path / "cut", world_size=2, on_report=kill)
    assert list((tmp_path / "cut" / "checkpoints").glob("*-step-*-last-attempt-1"))
    resumed = assert_good(run_ranks(spec, tmp_path / "cut", world_size=1, attempt=2))
    assert losses(resumed) == pytest.approx(losses(whole), rel=1e-5)


def test_all_ranks_stop_together_when_asked(tmp_path: Path) -> None:
    spec = make_spec(epochs=100_000)

    def stop(report: report_pb2.Report, group: Group) -> None:
        if report.epoch.epoch == 2:
            group.stop()

    stopped = assert_good(run_ranks(spec, tmp_path, world_size=2, on_report=stop))
    assert stopped.result.stop_reason == report_pb2.STOP_REASON_REQUESTED
    assert json.loads(read_file(tmp_path, "last", "state.json"))["epoch"] == len(stopped.epochs)


def test_early_stopping_is_agreed_on(tmp_path: Path) -> None:
    spec = make_spec(epochs=50, optimizer={"sgd": {"learningRate": 1e-30}}, earlyStopping={"patience": 2})
    stopped = assert_good(run_ranks(spec, tmp_path, world_size=2))
    assert stopped.result.stop_reason == report_pb2.STOP_REASON_EARLY_STOPPING
    assert len(stopped.epochs) == 3


def test_not_finite_loss_on_one_rank_ends_all_and_keeps_the_best(tmp_path: Path) -> None:
    # The one sample that overflows is seen by one rank: a target of 1e30 squared is infinite.
    rows = [f"{row % 7},{row % 5},{part},{y}" for row, part, y in _targets()]
    path = write_csv(tmp_path / "n.csv", "a,b,part,y", *rows)
    spec = regression(path, epochs=5, optimizer={"sgd": {"learningRate": 0.01}})
    spec.dataset.split.column.name = "part"
    ended = run_ranks(spec, tmp_path / "job", world_size=2)
    assert {type(error) for error in ended.errors.values()} == {NotFiniteError}
    assert set(ended.errors) == {0, 1}
    assert str(ended.errors[0]) == str(ended.errors[1])
    assert "in epoch 1, step" in str(ended.errors[0])


def _targets() -> list[tuple[int, str, str]]:
    return [(row, "validation" if row % 4 == 0 else "train", "1e30" if row == 7 else "0.5") for row in range(64)]


def test_diverging_training_keeps_the_best_from_before(tmp_path: Path) -> None:
    spec = regression(
        write_numbers(tmp_path / "n.csv", 64), optimizer={"sgd": {"learningRate": 1e6}}, globalBatchSize=64, epochs=9
    )
    ended = run_ranks(spec, tmp_path / "job", world_size=2)
    assert {type(error) for error in ended.errors.values()} == {NotFiniteError}
    best = json.loads(read_file(tmp_path / "job", "best", "state.json"))
    assert best["val_loss"] == min(epoch.val_loss for epoch in ended.epochs)


def test_failed_save_is_the_same_error_on_all_ranks(tmp_path: Path) -> None:
    (tmp_path / "job").write_text("in the way")
    ended = run_ranks(make_spec(), tmp_path / "job", world_size=2)
    assert {rank: type(error) for rank, error in ended.errors.items()} == {0: StorageError, 1: StorageError}
    assert str(ended.errors[0]) == str(ended.errors[1])


def test_attempt_that_is_overtaken_ends_on_all_ranks(tmp_path: Path) -> None:
    def overtake(report: report_pb2.Report, group: Group) -> None:
        if report.epoch.epoch == 1:
            CheckpointFolder(tmp_path, attempt=2).take_over()

    ended = run_ranks(make_spec(epochs=100_000), tmp_path, world_size=2, on_report=overtake)
    assert {rank: type(error) for rank, error in ended.errors.items()} == {0: FencedError, 1: FencedError}
    # What it had published before stays for the newer attempt.
    assert json.loads(read_file(tmp_path, "last", "state.json"))["epoch"] >= 1


def test_network_that_no_memory_holds_is_told(tmp_path: Path) -> None:
    spec = regression(write_numbers(tmp_path / "n.csv", 64))
    # 4 TB of weights.
    spec.network.layers[0].linear.out_features = 1_000_000
    spec.network.layers[1].linear.out_features = 1_000_000
    ended = run_ranks(spec, tmp_path / "job", world_size=2)
    assert not ended.reports
    assert OutOfMemoryError in {type(error) for error in ended.errors.values()}
    assert {type(error) for error in ended.errors.values()} <= {OutOfMemoryError, PeerLostError}

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf.json_format import MessageToDict
from safetensors.numpy import load
from safetensors.torch import load as load_tensors
from torch.nn import functional
from trana.trainer.data.dataset import load as read_dataset
from trana.trainer.errors import FencedError, NotFiniteError, StorageError, UserError
from trana.trainer.network import build_network
from trana.v1 import report_pb2, training_pb2
from unit.trainer.specs import IRIS, held, make_spec, regression, write_csv, write_numbers
from unit.trainer.training import Trained, run

DROPOUT = [
    {"linear": {"outFeatures": 8}},
    {"batchNorm1d": {}},
    {"relu": {}},
    {"dropout": {"p": 0.3}},
    {"linear": {"outFeatures": 3}},
]
PLATEAU = {"plateau": {"factor": 0.5, "patience": 1}, "warmupEpochs": 1}


def curve(trained: Trained) -> list[dict[str, Any]]:
    """Returns the epochs without what a clock decides."""
    clock = {"attempt", "create_time", "duration_seconds", "evaluation_seconds", "samples_per_second", "step_times"}
    written = [MessageToDict(epoch, preserving_proto_field_name=True) for epoch in trained.epochs]
    return [{name: value for name, value in epoch.items() if name not in clock} for epoch in written]


def test_training_reports_in_order_and_improves(tmp_path: Path) -> None:
    trained = run(make_spec(epochs=10, optimizer={"adam": {"learningRate": 0.05}}), tmp_path)
    assert trained.kinds[:5] == ["first_step", "checkpoint", "checkpoint", "epoch", "fit"]
    assert trained.kinds[-1] == "result"
    assert [epoch.epoch for epoch in trained.epochs] == list(range(1, 11))
    assert [epoch.step for epoch in trained.epochs] == list(range(6, 61, 6))
    assert trained.epochs[-1].val_loss < trained.epochs[0].val_loss / 2
    assert all(set(epoch.metrics) == {"train_accuracy", "val_accuracy"} for epoch in trained.epochs)
    assert all(epoch.samples_per_second > 0 and epoch.duration_seconds > 0 for epoch in trained.epochs)
    for epoch in trained.epochs:
        times = epoch.step_times
        steps = 6 * (times.data_seconds + times.compute_seconds + times.checkpoint_seconds)
        assert 0 < epoch.evaluation_seconds < epoch.duration_seconds
        assert min(times.data_seconds, times.compute_seconds, times.checkpoint_seconds, epoch.gradient_norm) > 0
        assert steps + epoch.evaluation_seconds < 1.5 * epoch.duration_seconds + 0.1
        assert not epoch.HasField("gpu_memory_bytes")
    assert all(0 < saved.save_seconds < 60 for saved in trained.checkpoints)
    first = trained.reports[0].first_step
    assert (first.num_train, first.num_validation, first.num_test) == (90, 30, 30)
    assert (first.num_parameters, first.resumed_from_epoch) == (67, 0)
    result = trained.result
    assert result.stop_reason == report_pb2.STOP_REASON_EPOCHS_DONE
    assert set(result.test_metrics) == {"test_loss", "test_accuracy"}
    assert result.test_metrics["test_accuracy"] > 0.8


def test_best_is_the_lowest_validation_loss(tmp_path: Path) -> None:
    trained = run(make_spec(epochs=8, optimizer={"sgd": {"learningRate": 0.8, "momentum": 0.9}}), tmp_path)
    losses = [epoch.val_loss for epoch in trained.epochs]
    lowest = min(losses)
    assert losses != sorted(losses, reverse=True), "the training should have its ups and downs"
    assert trained.result.best_val_loss == lowest
    assert trained.result.best_epoch == losses.index(lowest) + 1
    assert [epoch.epoch for epoch in trained.epochs if epoch.best][-1] == trained.result.best_epoch
    state = json.loads(trained.file("best", "state.json"))
    assert (state["epoch"], float.fromhex(state["val_loss_hex"])) == (trained.result.best_epoch, lowest)


def test_test_is_made_with_the_best_weights(tmp_path: Path) -> None:
    spec = make_spec(epochs=8, optimizer={"sgd": {"learningRate": 0.8, "momentum": 0.9}})
    header, *rows = IRIS.read_text().splitlines()
    spec.dataset.csv.uri = write_csv(tmp_path / "train.csv", header, *rows[::2]).as_uri()
    held = write_csv(tmp_path / "held.csv", header, *rows[1::2]).as_uri()
    spec.dataset.split.uris.validation = spec.dataset.split.uris.test = held
    result = run(spec, tmp_path / "job").result
    assert result.best_epoch < 8, "the training should not end with its best"
    assert result.test_metrics["test_loss"] == result.best_val_loss


def test_losses_are_those_of_evaluation_mode(tmp_path: Path) -> None:
    spec = make_spec(network={"layers": DROPOUT}, epochs=2)
    trained = run(spec, tmp_path)
    network = build_network(spec.network, (4,), seed=0)
    network.load_state_dict(load_tensors(trained.file("last", "network.safetensors")))
    dataset = read_dataset(spec)
    for samples, loss in ((held(dataset.train), "train_loss"), (held(dataset.validation), "val_loss")):
        output = network.eval()(torch.as_tensor(samples.features))
        expected = functional.cross_entropy(output, torch.as_tensor(samples.targets)).item()
        assert getattr(trained.epochs[-1], loss) == pytest.approx(expected, rel=1e-6)


def test_equal_loss_keeps_the_older_best(tmp_path: Path) -> None:
    # The learning rate is so small that no weight moves.
    trained = run(make_spec(optimizer={"sgd": {"learningRate": 1e-30}}), tmp_path)
    assert len({epoch.val_loss for epoch in trained.epochs}) == 1
    assert [epoch.best for epoch in trained.epochs] == [True, False, False]
    assert trained.result.best_epoch == 1


def test_same_spec_gives_the_same_bits(tmp_path: Path) -> None:
    spec = make_spec(network={"layers": DROPOUT})
    one, other = run(spec, tmp_path / "a"), run(spec, tmp_path / "b")
    assert curve(one) == curve(other)
    assert one.file("last", "network.safetensors") == other.file("last", "network.safetensors")


@pytest.mark.parametrize("killed_after", [1, 3])
def test_resumed_training_ends_bit_by_bit_as_an_uninterrupted_one(tmp_path: Path, killed_after: int) -> None:
    spec = make_spec(network={"layers": DROPOUT}, epochs=5, schedule=PLATEAU, earlyStopping={"patience": 4})
    whole = run(spec, tmp_path / "whole")
    run(spec, tmp_path / "cut", kill_after=killed_after)
    resumed = run(spec, tmp_path / "cut", attempt=2)
    assert curve(resumed) == curve(whole)
    assert resumed.result == whole.result
    for name in ("network.safetensors", "optimizer.safetensors"):
        assert resumed.file("last", name) == whole.file("last", name)
    assert resumed.file("best", "network.safetensors") == whole.file("best", "network.safetensors")


def test_resumed_training_tells_again_what_was_saved(tmp_path: Path) -> None:
    spec = make_spec(epochs=4)
    cut = run(spec, tmp_path, kill_after=2)
    resumed = run(spec, tmp_path, attempt=2)
    assert resumed.kinds[:6] == ["checkpoint", "checkpoint", "epoch", "epoch", "fit", "first_step"]
    assert [epoch.attempt for epoch in resumed.epochs] == [1, 1, 2, 2]
    assert resumed.epochs[:2] == cut.epochs
    for saved in cut.checkpoints:
        # Known to the attempt that saved it alone.
        assert saved.save_seconds > 0
        saved.ClearField("save_seconds")
    assert resumed.checkpoints[:2] == cut.checkpoints[-2:]
    (first,) = [report.first_step for report in resumed.reports if report.HasField("first_step")]
    assert first.resumed_from_epoch == 2


def test_resumed_training_that_had_ended_only_tests(tmp_path: Path) -> None:
    spec = make_spec()
    whole = run(spec, tmp_path)
    again = run(spec, tmp_path, attempt=2)
    assert again.kinds == ["checkpoint"] * 2 + ["epoch"] * 3 + ["fit", "result"]
    assert again.result == whole.result


def test_damaged_last_falls_back_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = make_spec(epochs=5)
    whole = run(spec, tmp_path / "whole")
    run(spec, tmp_path / "cut", kill_after=4)
    damaged = tmp_path / "cut" / "checkpoints" / "last" / "network.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    resumed = run(spec, tmp_path / "cut", attempt=2)
    assert [epoch.attempt for epoch in resumed.epochs] == [1, 1, 1, 2, 2]
    assert curve(resumed) == curve(whole)
    assert "cannot go on from the checkpoint 000004-last-attempt-1" in caplog.text


def test_best_goes_back_with_the_last(tmp_path: Path) -> None:
    spec = make_spec(epochs=6)
    run(spec, tmp_path, kill_after=4)
    shutil.rmtree(tmp_path / "checkpoints" / "000004-last-attempt-1")
    resumed = run(spec, tmp_path, attempt=2, stop_after=3)
    assert resumed.result.best_epoch == 3
    assert (tmp_path / "checkpoints" / "best").resolve().name == "000003-best-attempt-1"


def test_training_starts_anew_where_no_checkpoint_is_whole(tmp_path: Path) -> None:
    spec = make_spec()
    whole = run(spec, tmp_path, kill_after=2)
    for state in (tmp_path / "checkpoints").glob("*-last-*/state.json"):
        state.unlink()
    resumed = run(spec, tmp_path, attempt=2)
    assert [epoch.attempt for epoch in resumed.epochs] == [2, 2, 2]
    assert curve(resumed)[:2] == curve(whole)


def test_folder_of_another_spec_is_refused(tmp_path: Path) -> None:
    run(make_spec(), tmp_path)
    with pytest.raises(UserError, match="holds checkpoints of another spec"):
        run(make_spec(seed=8), tmp_path, attempt=2)


def test_older_attempt_gives_way(tmp_path: Path) -> None:
    run(make_spec(), tmp_path, attempt=2)
    with pytest.raises(FencedError, match="attempt 2 has taken over"):
        run(make_spec(), tmp_path, attempt=1)


def test_stop_is_heard_at_the_end_of_the_epoch_and_keeps_it(tmp_path: Path) -> None:
    spec = make_spec(epochs=50)
    stopped = run(spec, tmp_path, stop_after=3)
    assert stopped.result.stop_reason == report_pb2.STOP_REASON_REQUESTED
    assert len(stopped.epochs) <= 4
    assert stopped.result.last_epoch == len(stopped.epochs)
    assert not stopped.result.test_metrics
    resumed = run(make_spec(epochs=50), tmp_path, attempt=2, stop_after=len(stopped.epochs) + 1)
    assert resumed.epochs[: len(stopped.epochs)] == stopped.epochs


def test_stop_before_the_first_epoch_leaves_no_result(tmp_path: Path) -> None:
    from trana.trainer.train import train
    from unit.trainer.training import place

    reports: list[report_pb2.Report] = []
    result = train(make_spec(), reports.append, place(tmp_path, should_stop=lambda: True))
    assert result.stop_reason == report_pb2.STOP_REASON_REQUESTED
    assert result.best_epoch == 0
    assert not result.HasField("best_val_loss")


def test_last_is_saved_every_few_epochs_and_when_it_ends(tmp_path: Path) -> None:
    trained = run(make_spec(epochs=5, checkpointing={"everyEpochs": 2}), tmp_path)
    lasts = [checkpoint.epoch for checkpoint in trained.checkpoints if "-last-" in checkpoint.uri]
    assert lasts == [2, 4, 5]


def test_stop_saves_the_epoch_that_was_not_due(tmp_path: Path) -> None:
    spec = make_spec(epochs=50, checkpointing={"everyEpochs": 40})
    stopped = run(spec, tmp_path, stop_after=2)
    assert json.loads(stopped.file("last", "state.json"))["epoch"] == len(stopped.epochs)


def test_crash_between_saves_finds_the_best_that_belongs_to_its_last(tmp_path: Path) -> None:
    spec = make_spec(epochs=9, checkpointing={"everyEpochs": 2})
    whole = run(spec, tmp_path / "whole")
    run(spec, tmp_path / "cut", kill_after=7)
    resumed = run(spec, tmp_path / "cut", attempt=2)
    assert curve(resumed) == curve(whole)
    assert resumed.result == whole.result


def test_early_stopping_ends_the_training_and_keeps_the_best(tmp_path: Path) -> None:
    spec = make_spec(epochs=100, optimizer={"sgd": {"learningRate": 1e-30}}, earlyStopping={"patience": 3})
    trained = run(spec, tmp_path)
    assert trained.result.stop_reason == report_pb2.STOP_REASON_EARLY_STOPPING
    assert len(trained.epochs) == 4
    assert run(spec, tmp_path, attempt=2).result == trained.result


def test_early_stopping_counts_on_after_resuming(tmp_path: Path) -> None:
    spec = make_spec(epochs=100, optimizer={"sgd": {"learningRate": 1e-30}}, earlyStopping={"patience": 3})
    run(spec, tmp_path, kill_after=2)
    assert [epoch.epoch for epoch in run(spec, tmp_path, attempt=2).epochs] == [1, 2, 3, 4]


def test_plateau_lowers_the_learning_rate(tmp_path: Path) -> None:
    spec = make_spec(
        epochs=4, optimizer={"sgd": {"learningRate": 1e-30}}, schedule={"plateau": {"factor": 0.5, "patience": 1}}
    )
    rates = [epoch.learning_rate for epoch in run(spec, tmp_path).epochs]
    assert rates == pytest.approx([1e-30, 1e-30, 5e-31, 2.5e-31])


def explosive(path: Path) -> training_pb2.TrainingSpec:
    return regression(write_numbers(path, 64), optimizer={"sgd": {"learningRate": 1e6}}, globalBatchSize=64, epochs=9)


def test_not_finite_loss_ends_the_training_and_keeps_the_best(tmp_path: Path) -> None:
    trained = Trained([], tmp_path / "job")
    with pytest.raises(NotFiniteError, match=r"NaN or infinite .*epoch \d.*sgd.learning_rate \(now 1e\+06\)"):
        run(explosive(tmp_path / "n.csv"), tmp_path / "job")
    state = json.loads(trained.file("best", "state.json"))
    assert np.isfinite(state["val_loss"])


def test_not_finite_step_is_named(tmp_path: Path) -> None:
    spec = explosive(tmp_path / "n.csv")
    spec.optimizer.sgd.learning_rate = 1e30
    spec.global_batch_size = 8
    with pytest.raises(NotFiniteError, match=r"in epoch 1, step [23] of 6"):
        run(spec, tmp_path / "job")


def test_evaluation_that_is_not_finite_is_told(tmp_path: Path) -> None:
    spec = explosive(tmp_path / "n.csv")
    # The one step of an epoch sees the weights before it leaps.
    spec.optimizer.sgd.learning_rate = 1e30
    with pytest.raises(NotFiniteError, match="when it was evaluated after epoch 1"):
        run(spec, tmp_path / "job")


def test_optimiser_follows_the_schedule(tmp_path: Path) -> None:
    # From the second epoch on it has all but stopped.
    spec = make_spec(optimizer={"sgd": {"learningRate": 0.5}}, schedule={"step": {"everyEpochs": 1, "gamma": 1e-30}})
    first, second, third = (epoch.val_loss for epoch in run(spec, tmp_path).epochs)
    assert first == second == third


def test_regression_measures_no_accuracy(tmp_path: Path) -> None:
    spec = regression(write_numbers(tmp_path / "n.csv", 200), epochs=10)
    trained = run(spec, tmp_path / "job")
    assert trained.epochs[-1].val_loss < 0.2
    assert not trained.epochs[-1].metrics
    assert not trained.result.test_metrics


def test_binary_classes_are_learned(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [f"{value:.4f},{'yes' if value > 0.2 else 'no'}" for value in generator.normal(size=200)]
    spec = make_spec(
        write_csv(tmp_path / "b.csv", "a,species", *rows),
        network={"layers": [{"linear": {"outFeatures": 1}}]},
        loss={"bce": {}},
        epochs=8,
        optimizer={"adam": {"learningRate": 0.5}},
    )
    trained = run(spec, tmp_path / "job")
    assert trained.result.test_metrics["test_accuracy"] > 0.9
    assert json.loads(trained.file("best", "state.json"))["classes"] == ["no", "yes"]


def test_ids_are_learned(tmp_path: Path) -> None:
    rows = [f"{row % 10},{(row % 10) // 4}" for row in range(100)]
    layers = [{"embedding": {"numEmbeddings": 10, "embeddingDim": 4}}, {"flatten": {}}, {"linear": {"outFeatures": 3}}]
    spec = make_spec(write_csv(tmp_path / "i.csv", "word,species", *rows), network={"layers": layers}, epochs=12)
    spec.optimizer.adam.learning_rate = 0.2
    assert run(spec, tmp_path / "job").result.test_metrics["test_accuracy"] == 1.0


def test_batch_normalisation_of_single_samples_is_refused(tmp_path: Path) -> None:
    spec = make_spec(network={"layers": DROPOUT}, globalBatchSize=1)
    with pytest.raises(UserError, match="at least 2 samples in each step, but 90 training samples"):
        run(spec, tmp_path)


def test_rows_of_the_split_are_kept(tmp_path: Path) -> None:
    trained = run(make_spec(epochs=1), tmp_path)
    rows = load(trained.file("best", "split.safetensors"))
    assert rows["validation"].dtype == np.int64
    assert len(set(rows["validation"].tolist()) | set(rows["test"].tolist())) == 60


def test_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    blocked = tmp_path / "job"
    blocked.write_text("")
    with pytest.raises(StorageError):
        run(make_spec(), blocked)

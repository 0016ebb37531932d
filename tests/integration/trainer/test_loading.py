from pathlib import Path

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from trana.trainer.data.samples import Samples
from trana.trainer.errors import DataError, StorageError
from trana.trainer.feeding import Feeds, StreamFeed
from trana.trainer.loading import load_together
from trana.trainer.place import Place
from trana.v1 import training_pb2
from unit.trainer.specs import make_spec
from unit.trainer.training import place, run


def spec(folder: Path) -> training_pb2.TrainingSpec:
    path = folder / "t.parquet"
    numbers = [float(number) for number in range(1000)]
    table = {"a": numbers, "b": numbers[::-1], "species": ["x", "y"] * 500}
    parquet.write_table(pa.table(table), path, row_group_size=50)
    made = make_spec(network={"layers": [{"linear": {"outFeatures": 2}}]})
    made.dataset.parquet.uri = path.as_uri()
    return made


def test_what_an_attempt_may_hold_is_kept_for_the_next_one(tmp_path: Path) -> None:
    made = spec(tmp_path)
    assert isinstance(load_together(made, place(tmp_path)).train, Samples)
    (tmp_path / "memory_bytes").write_text("20000")
    with pytest.raises(DataError, match=r"too much to be streamed within 19\.5 KiB"):
        load_together(made, place(tmp_path, attempt=2))
    assert isinstance(load_together(made, place(tmp_path, attempt=1)).train, Samples)


def test_memory_is_shared_by_the_ranks_of_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    load_together(spec(tmp_path), place(tmp_path / "one"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    load_together(spec(tmp_path), place(tmp_path / "many"))
    one, many = (int((tmp_path / name / "memory_bytes").read_text()) for name in ("one", "many"))
    assert one > 500 * many


def test_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "memory_bytes").write_text("much")
    with pytest.raises(StorageError, match="memory_bytes cannot be read"):
        load_together(spec(tmp_path), place(tmp_path, attempt=2))


def test_streamed_training_repeats_itself_and_learns(tmp_path: Path) -> None:
    made = spec(tmp_path)
    made.dataset.memory_limit_bytes = 22_000
    made.dataset.preprocessing.scaling = training_pb2.SCALING_STANDARDIZE
    feeds = Feeds.of(load_together(made, place(tmp_path / "feeds")), seed=made.seed, place=place(tmp_path / "feeds"))
    assert isinstance(feeds.train, StreamFeed)
    first, second = run(made, tmp_path / "first"), run(made, tmp_path / "second")
    assert [epoch.val_loss.hex() for epoch in first.epochs] == [epoch.val_loss.hex() for epoch in second.epochs]
    assert first.file("best", "network.safetensors") == second.file("best", "network.safetensors")


def test_streamed_training_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    made = spec(tmp_path)
    made.dataset.memory_limit_bytes = 22_000
    whole = run(made, tmp_path / "whole")
    run(made, tmp_path / "killed", kill_after=1)
    again = run(made, tmp_path / "killed", attempt=2)
    assert again.file("last", "network.safetensors") == whole.file("last", "network.safetensors")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_does_not_fit_on_the_gpu_is_fetched_from_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Place(0, 1, torch.device("cuda", 0), tmp_path, attempt=1, should_stop=lambda: False)
    dataset = load_together(spec(tmp_path), gpu)
    held = Feeds.of(dataset, seed=1, place=gpu).train
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 0))
    fetched = Feeds.of(dataset, seed=1, place=gpu).train
    steps = zip(
        held.steps(1, num_steps=9, start=0, least=1), fetched.steps(1, num_steps=9, start=0, least=1), strict=True
    )
    for mine, theirs in steps:
        assert mine.features.device == theirs.features.device == gpu.device
        assert torch.equal(mine.features, theirs.features)
        assert torch.equal(mine.targets, theirs.targets)

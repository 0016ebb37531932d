import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from trana.trainer.data.archive import read_npz
from trana.trainer.data.dataset import Dataset, load
from trana.trainer.data.memory import Limits, available_bytes
from trana.trainer.data.splitting import cut_shuffle, shuffle
from trana.trainer.data.streaming import Stream, ahead
from trana.trainer.data.windows import Dealing, plan, windows
from trana.trainer.errors import DataError
from trana.trainer.feeding import Batch, Feed, StreamFeed, TensorFeed, feed_of
from trana.trainer.order import num_steps
from trana.trainer.place import Place
from trana.trainer.preflight import check
from trana.v1 import training_pb2
from unit.trainer.specs import make_spec, write_csv

ROWS, GROUP, BATCH = 3000, 100, 64
# The file needs 3000 x 28 bytes.
LIMIT = 60_000


def write(path: Path, **changes: Any) -> Path:
    draw = np.random.default_rng(1)
    columns = {
        "id": np.arange(ROWS, dtype=np.float32),
        "x": draw.normal(size=ROWS),
        "y": draw.choice(["p", "q", "r"], ROWS),
        "part": draw.choice(["train", "validation", "test"], ROWS, p=[0.8, 0.15, 0.05]),
    }
    parquet.write_table(pa.table(columns | changes), path, row_group_size=GROUP)
    return path


def spec(path: Path, *, limit: int = LIMIT, rule: str = "fractions") -> training_pb2.TrainingSpec:
    made = make_spec(network={"layers": [{"linear": {"outFeatures": 3}}]})
    made.dataset.Clear()
    made.dataset.parquet.uri = path.as_uri()
    made.dataset.target = "y"
    made.dataset.features.extend(["id", "x"])
    made.dataset.memory_limit_bytes = limit
    match rule:
        case "fractions":
            made.dataset.split.fractions.validation, made.dataset.split.fractions.test = 0.2, 0.1
        case "column":
            made.dataset.split.column.name = "part"
        case "uris":
            made.dataset.split.uris.validation = made.dataset.split.uris.test = path.as_uri()
    return made


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("streamed") / "t.parquet")


def place(rank: int = 0, world_size: int = 1) -> Place:
    device = torch.device("cpu")
    return Place(rank, world_size, device, Path("unused"), attempt=1, should_stop=lambda: False)


def feed(path: Path, rank: int = 0, world_size: int = 1) -> StreamFeed:
    made = feed_of(load(spec(path)).train, seed=7, place=place(rank, world_size))
    assert isinstance(made, StreamFeed)
    return made


def epoch(feed: Feed, number: int, *, start: int = 0, least: int = 1) -> dict[int, Batch]:
    steps = num_steps(len(feed), BATCH)
    batches = list(feed.steps(number, num_steps=steps, start=start, least=least))
    return dict(zip(range(start, steps), batches, strict=True))


def ids(batch: Batch) -> list[float]:
    """Which samples count for the rank."""
    found: list[float] = batch.features[: batch.own, 0].tolist()
    return found


@pytest.mark.parametrize("rule", ["fractions", "column", "uris"])
def test_each_split_has_the_samples_that_it_has_in_memory(path: Path, rule: str) -> None:
    held, streamed = load(spec(path, limit=10**9, rule=rule)), load(spec(path, rule=rule))
    for name in ("train", "validation", "test"):
        mine, theirs = getattr(streamed, name), getattr(held, name)
        assert isinstance(mine, Stream)
        assert mine.rows.tolist() == theirs.rows.tolist()
        chunks = [samples for _, samples in mine.chunks(100, 0, 1)]
        assert np.concatenate([samples.features for samples in chunks]).tolist() == theirs.features.tolist()
        assert np.concatenate([samples.targets for samples in chunks]).tolist() == theirs.targets.tolist()
        assert mine.peek(3).features.tolist() == theirs.features[:3].tolist()
    assert (streamed.classes, streamed.class_counts) == (held.classes, held.class_counts)
    assert (streamed.input_shape, streamed.one_file) == (held.input_shape, held.one_file)


def test_an_epoch_has_every_training_sample_once_in_an_order_of_its_own(path: Path) -> None:
    one = feed(path)
    first, second = ([value for batch in epoch(one, number).values() for value in ids(batch)] for number in (1, 2))
    assert sorted(first) == load(spec(path)).train.rows.tolist()
    assert sorted(second) == sorted(first)
    assert first != second
    assert first == [value for batch in epoch(feed(path), 1).values() for value in ids(batch)]


def test_a_window_has_an_order_of_its_own_in_each_epoch(path: Path) -> None:
    stream = load(spec(path)).train
    assert isinstance(stream, Stream)
    one, other = windows(stream.counts, stream.most, 7, 1)[:2]
    assert sorted(one.order(7, 1).tolist()) == list(range(one.count))
    orders = [one.order(7, 1), one.order(7, 2), one.order(8, 1), other.order(7, 1)]
    assert len({tuple(order[:50].tolist()) for order in orders}) == 4
    assert [sorted(window.groups) for window in (one, other)] != [list(one.groups), list(other.groups)]


@pytest.mark.parametrize("world_size", [2, 3])
def test_batches_over_all_ranks_do_not_depend_on_how_many_there_are(path: Path, world_size: int) -> None:
    alone = epoch(feed(path), 1)
    parts = [epoch(feed(path, rank, world_size), 1) for rank in range(world_size)]
    for step, batch in alone.items():
        assert [value for part in parts for value in ids(part[step])] == ids(batch)
        assert {part[step].total for part in parts} == {len(ids(batch))}


def test_an_epoch_goes_on_at_any_step_without_reading_what_lies_before(path: Path) -> None:
    whole = epoch(feed(path), 1)
    stream = load(spec(path)).train
    assert isinstance(stream, Stream)
    last = len(whole) - 1
    rest = epoch(feed(path), 1, start=last)
    assert ids(rest[last]) == ids(whole[last])
    arranged = windows(stream.counts, stream.most, 7, 1)
    dealing = Dealing(len(stream), len(whole), 0, 1, 1)
    assert len(arranged) > 5
    assert [window for window, _ in plan(arranged, dealing, first_step=last)] == arranged[-1:]


def test_samples_are_borrowed_where_a_part_is_too_small(path: Path) -> None:
    made = feed(path, rank=2, world_size=3)
    batches = list(made.steps(1, num_steps=len(made), start=0, least=2))
    assert len(batches) == len(made)
    assert {(batch.own, len(batch), batch.total) for batch in batches} == {(0, 2, 1)}


def test_batch_may_be_larger_than_a_window(path: Path) -> None:
    made = feed(path)
    (batch,) = made.steps(1, num_steps=1, start=0, least=1)
    assert sorted(ids(batch)) == load(spec(path)).train.rows.tolist()


def test_chunks_are_the_same_for_any_number_of_ranks(path: Path) -> None:
    part = load(spec(path)).validation
    alone = {number: batch.features.tolist() for number, batch in feed_of(part, seed=7, place=place()).chunks()}
    feeds = [feed_of(part, seed=7, place=place(rank, 3)) for rank in range(3)]
    dealt = [{number: batch.features.tolist() for number, batch in feed.chunks()} for feed in feeds]
    assert [set(part) & {0, 1, 2} for part in dealt] == [{0}, {1}, {2}]
    assert {number: part[number] for part in dealt for number in part} == alone
    assert feeds[0].num_chunks == len(alone) == feed_of(part, seed=7, place=place()).num_chunks


def test_sample_of_the_training_split_is_that_of_one_in_memory(path: Path) -> None:
    held = load(spec(path, limit=10**9)).train
    other = feed_of(held, seed=7, place=place()).subset(50)
    mine = feed(path).subset(50)
    assert isinstance(mine, TensorFeed)
    assert mine.peek(50).features.tolist() == other.peek(50).features.tolist()
    assert len(feed(path).subset(10_000)) < len(held)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(any),
    st.integers(1, 60),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_any_plan_deals_every_sample_once(counts: list[int], batch: int, world_size: int, least: int) -> None:
    arranged = windows(counts, max(*counts, 50), seed=1, epoch=1)
    total, steps = sum(counts), num_steps(sum(counts), batch)
    assert sorted(group for window in arranged for group in window.groups) == [i for i, n in enumerate(counts) if n]
    assert sum(window.count for window in arranged) == total
    dealt = []
    for rank in range(world_size):
        dealing = Dealing(total, steps, rank, world_size, least)
        parts = {step: np.full(len(dealing.places(step)), -1) for step in range(steps)}
        for window, pieces in plan(arranged, dealing, first_step=0):
            for piece in pieces:
                parts[piece.step][piece.slots] = window.start + piece.places
        for step, part in parts.items():
            assert part.tolist() == dealing.places(step).tolist()
            dealt += part[: dealing.own(step)].tolist()
    assert sorted(dealt) == list(range(total))


@given(st.integers(1, 300), st.lists(st.integers(0, 300), max_size=3).map(sorted), st.integers(0, 5))
def test_shuffle_is_cut_without_making_it(count: int, cuts: list[int], seed: int) -> None:
    made = cut_shuffle(count, cuts, seed)
    order = shuffle(count, seed)
    assert made[order].tolist() == [sum(cut <= at for cut in cuts) for at in range(count)]


def test_a_large_shuffle_is_cut_in_blocks() -> None:
    count = 2**20 + 1000
    assert (np.flatnonzero(cut_shuffle(count, [1000], 3) == 0) == np.sort(shuffle(count, 3)[:1000])).all()


@pytest.mark.parametrize("rule", ["fractions", "column"])
def test_preflight_finds_a_wrong_value_of_a_streamed_file(tmp_path: Path, rule: str) -> None:
    wrong = np.random.default_rng(1).normal(size=ROWS)
    wrong[2345] = np.inf
    path = write(tmp_path / "t.parquet", x=wrong)
    load(spec(path, rule=rule))
    with pytest.raises(DataError, match=r"t\.parquet, row 2346, column x: inf is not a finite number"):
        check(spec(path, rule=rule).SerializeToString())


def test_check_reads_as_much_as_it_may(path: Path, tmp_path: Path) -> None:
    wrong = np.random.default_rng(1).normal(size=ROWS)
    row = load(spec(path)).train.rows[-50]
    wrong[row] = np.nan
    part = load(spec(write(tmp_path / "t.parquet", x=wrong))).train
    assert isinstance(part, Stream)
    part.check(most_bytes=20_000)
    with pytest.raises(DataError, match=f"row {row + 1}, column x"):
        part.check(most_bytes=100_000)


def test_preflight_of_a_good_streamed_file_passes(path: Path) -> None:
    check(spec(path).SerializeToString())


def test_wrong_value_is_found_when_it_is_reached(tmp_path: Path) -> None:
    wrong: list[float | None] = np.random.default_rng(1).normal(size=ROWS).tolist()
    wrong[2345] = None
    made = feed(write(tmp_path / "t.parquet", x=pa.array(wrong)))
    with pytest.raises(DataError, match="row 2346, column x: the value is missing"):
        epoch(made, 1)


def test_row_groups_that_are_too_large_are_refused_with_a_size_that_will_do(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table({"id": np.arange(ROWS), "x": np.ones(ROWS), "y": np.where(np.arange(ROWS) % 2, "p", "q")})
    parquet.write_table(table, path, row_group_size=ROWS)
    made = spec(path)
    made.network.layers[0].linear.out_features = 2
    with pytest.raises(DataError, match=r"row_group_size=\d+\), or raise the limit") as caught:
        check(made.SerializeToString())
    size = int(str(caught.value).partition("row_group_size=")[2].partition(")")[0])
    parquet.write_table(table, path, row_group_size=size)
    check(made.SerializeToString())


def test_what_is_not_parquet_and_does_not_fit_is_to_be_converted(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=np.zeros((1000, 100)), y=np.arange(1000) % 3)
    made = spec(tmp_path / "t.npz")
    made.dataset.features[:] = ["x"]
    made.dataset.npz.uri = (tmp_path / "t.npz").as_uri()
    with pytest.raises(DataError, match=r"t\.npz: takes .* KiB in memory, more than the .*convert it to Parquet"):
        load(made)


def test_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    made = make_spec(write_csv(tmp_path / "t.csv", "note,a,species", *(f"{'x' * 900},{n},{n % 3}" for n in range(10))))
    made.dataset.features.append("a")
    made.dataset.memory_limit_bytes = 5000
    with pytest.raises(DataError, match=r"t\.csv: takes 8\.9 KiB in memory, more than the 4\.9 KiB"):
        load(made)


def test_archive_that_would_become_too_large_is_not_unpacked(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "t.npz", x=np.zeros((1000, 100)))
    assert (tmp_path / "t.npz").stat().st_size < LIMIT
    with pytest.raises(DataError, match=r"takes 781\.4 KiB in memory"):
        read_npz((tmp_path / "t.npz").as_uri(), columns=list, memory_limit_bytes=LIMIT)


def test_windows_do_not_depend_on_the_memory_that_is_free() -> None:
    dataset = training_pb2.Dataset()
    assert Limits.of(dataset, total_bytes=2**30).window_bytes == Limits.of(dataset, total_bytes=2**40).window_bytes
    dataset.memory_limit_bytes = 4000
    assert Limits.of(dataset, total_bytes=2**30) == Limits(4000, 1000)


def test_container_may_have_less_memory_than_its_host(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    assert available_bytes(tmp_path) == 3000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(tmp_path) > 3000


def test_next_one_is_made_while_one_is_in_use() -> None:
    made = []

    def make() -> Any:
        for number in range(3):
            made.append(number)
            yield number

    items = ahead(make())
    assert next(items) == 0
    wait_until(lambda: made == [0, 1])
    assert list(items) == [1, 2]


def test_what_fails_ahead_is_raised_where_it_is_reached() -> None:
    def fail() -> Any:
        yield 0
        raise DataError("broken")

    items = ahead(fail())
    assert next(items) == 0
    with pytest.raises(DataError, match="broken"):
        next(items)


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_dataset_in_memory_is_no_stream(path: Path) -> None:
    dataset: Dataset = load(spec(path, limit=10**9))
    assert isinstance(feed_of(dataset.train, seed=7, place=place()), TensorFeed)

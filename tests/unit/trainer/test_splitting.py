from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trana.trainer.data.dataset import load
from trana.trainer.data.source import Source, at
from trana.trainer.data.splitting import Split, split_by_fractions
from trana.trainer.errors import DataError
from trana.v1 import training_pb2
from unit.trainer.specs import IRIS, held, make_spec


class Rows:
    """A source of which only the number of samples is asked."""

    uri = "file:///data.csv"

    def __init__(self, count: int) -> None:
        self.names: list[str] = []
        self.count = count

    def error(self, message: str, *, row: int | None = None, column: str | None = None) -> DataError:
        return at(self.uri, message, row=row, column=column)

    def width(self, name: str) -> int:
        raise AssertionError(name)

    def is_class(self, name: str) -> bool:
        raise AssertionError(name)

    def chunks(self, names: Sequence[str]) -> Iterator[Source]:
        raise AssertionError(names)


def split(count: int, validation: float, test: float = 0.0, seed: int = 0) -> Split:
    rule = training_pb2.FractionSplit(validation=validation, test=test, seed=seed)
    return split_by_fractions(Rows(count), rule)


@given(st.integers(10, 500), st.integers(0, 10**9))
def test_every_sample_is_in_exactly_one_split(count: int, seed: int) -> None:
    parts = split(count, 0.2, 0.3, seed)
    together = [*parts.train.tolist(), *parts.validation.tolist(), *parts.test.tolist()]
    assert sorted(together) == list(range(count))


@pytest.mark.parametrize(
    ("count", "validation", "test", "sizes"),
    [
        (150, 0.2, 0.2, (90, 30, 30)),
        (10, 0.25, 0.0, (7, 3, 0)),
        (10, 0.15, 0.15, (6, 2, 2)),
        (31, 0.5, 0.0, (15, 16, 0)),
    ],
)
def test_counts_are_rounded_half_up(count: int, validation: float, test: float, sizes: tuple[int, ...]) -> None:
    parts = split(count, validation, test)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == sizes


def test_split_depends_on_its_seed_alone() -> None:
    assert split(50, 0.2, seed=1).validation.tolist() == split(50, 0.2, seed=1).validation.tolist()
    assert split(50, 0.2, seed=1).validation.tolist() != split(50, 0.2, seed=2).validation.tolist()


@pytest.mark.parametrize(
    ("count", "validation", "test", "message"),
    [
        (4, 0.1, 0.0, "leaves no sample for validation"),
        (4, 0.5, 0.1, "leaves no sample for test"),
        (3, 0.5, 0.49, "leave no sample to train on"),
    ],
)
def test_empty_split_is_refused(count: int, validation: float, test: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(count, validation, test)


def test_samples_of_a_split_are_those_of_its_rows() -> None:
    dataset = load(make_spec())
    lines = IRIS.read_text().splitlines()[1:]
    for samples in map(held, (dataset.train, dataset.validation, dataset.test)):
        row = int(samples.rows[3])
        values = lines[row].split(",")
        assert samples.features[3].tolist() == pytest.approx([float(value) for value in values[:4]])
        assert dataset.classes[samples.targets[3]] == values[4]

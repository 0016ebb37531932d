from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from trana.trainer.data import preparing, targets
from trana.trainer.data.dataset import Dataset, load
from trana.trainer.data.moments import Moments
from trana.trainer.data.preprocessing import Category, Number, Preprocessor
from trana.trainer.data.streaming import Stream
from trana.trainer.errors import DataError
from trana.v1 import training_pb2
from unit.trainer.specs import make_spec, write_csv

FINITE = st.floats(-1e6, 1e6)


def spec(path: Path, **preprocessing: Any) -> training_pb2.TrainingSpec:
    """A regression on a table (or an archive, by its ending) whose split is its column `part`."""
    made = make_spec()
    made.ClearField("network")
    made.loss.mse.SetInParent()
    made.dataset.Clear()
    getattr(made.dataset, path.suffix[1:]).uri = path.as_uri()
    made.dataset.target = "y"
    made.dataset.split.column.name = "part"
    json_format.ParseDict(preprocessing, made.dataset.preprocessing)
    return made


def table(folder: Path, column: list[Any], train: int) -> Path:
    """Writes one column of values, the first ones for training, the others for validation."""
    parts = ["train"] * train + ["validation"] * (len(column) - train)
    rows = [f"{value},{row},{part}" for row, (value, part) in enumerate(zip(column, parts, strict=True))]
    return write_csv(folder / "t.csv", "a,y,part", *rows)


def values(dataset: Dataset, split: str) -> list[Any]:
    samples = getattr(dataset, split)
    found: list[Any] = samples.features.tolist()
    return found


@given(st.lists(st.lists(FINITE, min_size=1, max_size=6), min_size=1, max_size=6))
def test_moments_of_stretches_are_those_of_the_whole(stretches: list[list[float]]) -> None:
    merged = Moments.of(np.array(stretches[0])[:, np.newaxis])
    for stretch in stretches[1:]:
        merged = merged.merge(Moments.of(np.array(stretch)[:, np.newaxis]))
    whole = np.concatenate(stretches)
    assert merged.count.tolist() == [len(whole)]
    assert merged.mean[0] == pytest.approx(whole.mean(), abs=1e-6)
    assert merged.deviation[0] == pytest.approx(whole.std(), abs=1e-5)
    assert (merged.low[0], merged.high[0]) == (whole.min(), whole.max())


def test_moments_keep_their_digits_far_from_zero() -> None:
    near = np.array([[1e9], [1e9 + 1.0], [1e9 + 2.0]])
    merged = Moments.of(near[:1]).merge(Moments.of(near[1:]))
    assert merged.deviation[0] == pytest.approx(np.sqrt(2 / 3), rel=1e-9)


def test_standardizing_is_fitted_on_the_training_split_alone(tmp_path: Path) -> None:
    dataset = load(spec(table(tmp_path, [1, 3, 100], train=2), scaling="SCALING_STANDARDIZE"))
    assert values(dataset, "train") == [[-1.0], [1.0]]
    assert values(dataset, "validation") == [[98.0]]


def test_min_max_brings_the_extremes_of_the_training_split_to_0_and_1(tmp_path: Path) -> None:
    dataset = load(spec(table(tmp_path, [2, 6, 3, 10], train=3), scaling="SCALING_MIN_MAX"))
    assert values(dataset, "train") == [[0.0], [1.0], [0.25]]
    assert values(dataset, "validation") == [[2.0]]


@pytest.mark.parametrize("scaling", ["SCALING_STANDARDIZE", "SCALING_MIN_MAX"])
def test_column_that_does_not_vary_becomes_zero(tmp_path: Path, scaling: str) -> None:
    # The mean of three times 0.1 is not 0.1, and the deviation from it not 0.
    dataset = load(spec(table(tmp_path, [0.1, 0.1, 0.1, 5], train=3), scaling=scaling))
    assert values(dataset, "train") == [[0.0]] * 3
    assert values(dataset, "validation") == [[0.0]]


@pytest.mark.parametrize(
    ("fill", "filled"),
    [({"mean": {}}, 5.0), ({"median": {}}, 2.0), ({"constant": -1.0}, -1.0)],
)
def test_missing_values_are_filled_from_the_training_split(tmp_path: Path, fill: dict[str, Any], filled: float) -> None:
    path = table(tmp_path, [1, 2, 12, "", 1000, ""], train=4)
    dataset = load(spec(path, fillMissing=fill))
    assert values(dataset, "train") == [[1.0], [2.0], [12.0], [filled]]
    assert values(dataset, "validation") == [[1000.0], [filled]]


def test_value_that_scaling_makes_infinite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 4, column a: .* is not a finite number"):
        load(spec(table(tmp_path, [0, 1e-30, 1e30], train=2), scaling="SCALING_MIN_MAX"))


def test_scale_is_that_of_the_filled_values(tmp_path: Path) -> None:
    path = table(tmp_path, [1, "", "", 3, 1], train=4)
    dataset = load(spec(path, fillMissing={"constant": -1.0}, scaling="SCALING_MIN_MAX"))
    assert values(dataset, "train") == [[0.5], [0.0], [0.0], [1.0]]


def test_missing_value_stays_an_error_where_nothing_fills_it(tmp_path: Path) -> None:
    path = table(tmp_path, [1, "", 3], train=2)
    with pytest.raises(DataError, match=r"t\.csv, row 3, column a: the value is missing.*fill_missing"):
        load(spec(path, scaling="SCALING_STANDARDIZE"))


def test_column_without_a_value_has_no_mean(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column a: no training sample has a value"):
        load(spec(table(tmp_path, ["", "", 3], train=2), fillMissing={"mean": {}}))


def test_infinite_value_is_not_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 3, column a: inf is not a finite number"):
        load(spec(table(tmp_path, [1, "inf", 3], train=2), fillMissing={"mean": {}}))


def test_category_becomes_a_feature_for_each_value_of_the_training_split(tmp_path: Path) -> None:
    path = table(tmp_path, ["red", "blue", "red", "blue", "green"], train=4)
    dataset = load(spec(path, oneHot=["a"], scaling="SCALING_STANDARDIZE"))
    assert dataset.preprocessor.feature_names == ("a=blue", "a=red")
    assert values(dataset, "train") == [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    assert values(dataset, "validation") == [[0.0, 0.0]]
    assert dataset.input_shape == (2,)


def test_categories_that_are_numbers_are_one_however_they_are_written(tmp_path: Path) -> None:
    dataset = load(spec(table(tmp_path, ["10", "9.0", "9", "x", "1e1"], train=4), oneHot=["a"]))
    assert dataset.preprocessor.feature_names == ("a=9", "a=10", "a=x")
    assert values(dataset, "validation") == [[0.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    ("fill", "names"),
    [({"mean": {}}, ("a=p", "a=q")), ({"constant": 7.0}, ("a=7", "a=p", "a=q"))],
)
def test_missing_category_is_filled(tmp_path: Path, fill: dict[str, Any], names: tuple[str, ...]) -> None:
    dataset = load(spec(table(tmp_path, ["q", "q", "p", "", ""], train=4), oneHot=["a"], fillMissing=fill))
    assert dataset.preprocessor.feature_names == names
    filled = [1.0 if name == ("a=7" if "constant" in fill else "a=q") else 0.0 for name in names]
    assert values(dataset, "train")[3] == filled
    assert values(dataset, "validation") == [filled]


def test_missing_category_stays_an_error_where_nothing_fills_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 3, column a: the value is missing"):
        load(spec(table(tmp_path, ["p", "", "q"], train=2), oneHot=["a"]))


def test_unknown_column_is_no_category(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column b: there is no such feature"):
        load(spec(table(tmp_path, [1, 2, 3], train=2), oneHot=["b"]))


def test_column_of_many_values_is_no_category(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "_MAX_CATEGORIES", 2)
    with pytest.raises(DataError, match="column a: has more than 2 different values, so one_hot is not for it"):
        load(spec(table(tmp_path, ["p", "q", "r", "p"], train=3), oneHot=["a"]))


def test_target_of_many_values_is_no_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "_MAX_CLASSES", 2)
    made = spec(table(tmp_path, [1, 2, 3, 4], train=3))
    made.loss.cross_entropy.SetInParent()
    with pytest.raises(DataError, match="column y: has more than 2 different values, so it is no class"):
        load(made)


def test_ids_are_not_preprocessed(tmp_path: Path) -> None:
    made = spec(table(tmp_path, [0, 1, 2], train=2), scaling="SCALING_MIN_MAX")
    made.network.layers.add().embedding.num_embeddings = 3
    with pytest.raises(DataError, match="cannot change ids"):
        load(made)


def archive(folder: Path, x: Any) -> Path:
    np.savez(
        folder / "t.npz", x=x, y=np.arange(len(x), dtype=np.float32), part=np.array(["train", "train", "validation"])
    )
    return folder / "t.npz"


def test_arrays_are_scaled_and_filled_by_channel(tmp_path: Path) -> None:
    x = np.array([[[0.0, 2.0], [5.0, 5.0]], [[np.nan, 4.0], [5.0, 5.0]], [[np.nan, 1.0], [9.0, 5.0]]])
    dataset = load(spec(archive(tmp_path, x), fillMissing={"mean": {}}, scaling="SCALING_MIN_MAX"))
    assert values(dataset, "train") == [[[0.0, 0.5], [0.0, 0.0]], [[0.5, 1.0], [0.0, 0.0]]]
    assert values(dataset, "validation") == [[[0.5, 0.25], [0.0, 0.0]]]
    assert len(dataset.preprocessor.parts) == 2


def test_file_of_another_split_needs_the_channels_of_the_training(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=np.ones((4, 2)), y=np.ones(4))
    np.savez(tmp_path / "other.npz", x=np.ones((4, 3)), y=np.ones(4))
    made = spec(tmp_path / "train.npz", scaling="SCALING_MIN_MAX")
    made.dataset.split.uris.validation = (tmp_path / "other.npz").as_uri()
    with pytest.raises(DataError, match=r"other\.npz, column x: .* but those of the training have 2 channels"):
        load(made)


def test_one_constant_fills_all_channels(tmp_path: Path) -> None:
    x = np.array([[np.nan, 1.0], [2.0, np.nan], [3.0, 4.0]])
    assert values(load(spec(archive(tmp_path, x), fillMissing={"constant": 8.0})), "train") == [[8.0, 1.0], [2.0, 8.0]]


def test_without_preprocessing_samples_are_what_the_file_holds(tmp_path: Path) -> None:
    dataset = load(spec(table(tmp_path, [0.1, 1e-30, 3], train=2)))
    assert dataset.preprocessor == Preprocessor(("a",), (Number(),), tabular=True)
    assert values(dataset, "train") == np.array([[0.1], [1e-30]], np.float32).tolist()


def test_preprocessor_survives_json_bit_by_bit() -> None:
    parts = (Number(0.1, 1 / 3, float("inf")), Number(), Category(("a", "b"), "b"), Category(("é",)))
    made = Preprocessor(("p", "q", "r", "s"), parts, tabular=True, num_ids=0, input_shape=(5,))
    assert Preprocessor.from_json(made.to_json()) == made


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"names": [], "parts": [3], "tabular": true}'])
def test_what_is_no_preprocessor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Preprocessor.from_json(text)


def test_streamed_file_is_fitted_as_one_in_memory(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    columns = {
        "a": pa.array([None if value < -1.5 else value for value in draw.normal(7, 3, 2000).tolist()]),
        "b": pa.array(draw.choice(["p", "q", "r"], 2000)),
        "y": draw.normal(size=2000),
        "part": np.where(draw.random(2000) < 0.8, "train", "validation"),
    }
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table(columns), path, row_group_size=100)
    made = spec(path, fillMissing={"mean": {}}, oneHot=["b"], scaling="SCALING_STANDARDIZE")
    held = load(made)
    # The columns would fit into this, but not what becomes of the category.
    made.dataset.memory_limit_bytes = 50_000
    assert isinstance(load(made).train, Stream)
    made.dataset.memory_limit_bytes = 40_000
    streamed = load(made)
    assert isinstance(streamed.train, Stream)
    for mine, theirs in zip(streamed.preprocessor.parts, held.preprocessor.parts, strict=True):
        if isinstance(mine, Number) and isinstance(theirs, Number):
            assert (mine.offset, mine.divisor) == pytest.approx((theirs.offset, theirs.divisor), rel=1e-12)
        else:
            assert mine == theirs
    made.dataset.preprocessing.fill_missing.median.SetInParent()
    with pytest.raises(DataError, match="the median needs all values in memory"):
        load(made)

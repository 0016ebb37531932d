"""Targets that are missing: an error that names the row, whatever the file's format."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from trana.trainer.data.dataset import load
from trana.trainer.errors import DataError
from trana.trainer.preflight import check
from unit.trainer.specs import MLP, make_spec, write_csv

TWO = [{"linear": {"outFeatures": 2}}]


def _fail(spec: Any) -> str:
    with pytest.raises(DataError) as caught:
        check(spec.SerializeToString())
    return str(caught.value)


def _targets(folder: Path, kind: str, values: list[Any], **changes: Any) -> Any:
    """Makes a training whose first sample validates, and whose others but the second train."""
    parts = ["validation", "test", *["train"] * (len(values) - 2)]
    table = {"a": [0.5] * len(values), "species": values, "part": parts}
    if kind == "csv":
        rows = [f"0.5,{'' if value is None else value},{part}" for value, part in zip(values, parts, strict=True)]
        spec = make_spec(
            write_csv(folder / "t.csv", "a,species,part", *rows), **({"network": {"layers": TWO}} | changes)
        )
    elif kind == "parquet":
        parquet.write_table(pa.table(table), folder / "t.parquet")
        spec = make_spec(**({"network": {"layers": TWO}} | changes))
        spec.dataset.parquet.uri = (folder / "t.parquet").as_uri()
    else:
        arrays: dict[str, Any] = {name: np.array(column) for name, column in table.items()}
        np.savez(folder / "t.npz", **arrays)
        spec = make_spec(**({"network": {"layers": TWO}} | changes))
        spec.dataset.npz.uri = (folder / "t.npz").as_uri()
        spec.dataset.features.append("a")
    spec.dataset.split.column.name = "part"
    spec.dataset.split.column.test = "test"
    return spec


_NAN = float("nan")
_ONE = {"network": {"layers": [{"linear": {"outFeatures": 1}}]}, "loss": {"mse": {}}}


@pytest.mark.parametrize("at", [0, 1, 4], ids=["validation", "test", "training"])
@pytest.mark.parametrize("changes", [{}, _ONE], ids=["class", "number"])
@pytest.mark.parametrize(
    ("kind", "missing"),
    [("csv", None), ("csv", "nan"), ("csv", "NaN"), ("parquet", None), ("parquet", _NAN), ("npz", _NAN)],
)
def test_a_missing_target_is_refused_with_its_row_and_what_to_do(
    tmp_path: Path, kind: str, missing: Any, changes: dict[str, Any], at: int
) -> None:
    values: list[Any] = [0.0, 1.0] * 4
    values[at] = missing
    text = _fail(_targets(tmp_path, kind, values, **changes))
    assert f"row {at + 1 + (kind == 'csv')}, column species: the value is missing: a sample without a target" in text
    assert "fill in or leave out such rows" in text


@pytest.mark.parametrize("word", ["NA", "n/a", "None", "null"])
def test_a_word_for_a_missing_number_is_no_class_among_numbers(tmp_path: Path, word: str) -> None:
    text = _fail(_targets(tmp_path, "csv", [0, 1, word, 0, 1, word, 1]))
    assert "row 4, column species: the value is missing (and 1 more)" in text


def test_a_word_for_a_missing_number_is_a_class_among_names(tmp_path: Path) -> None:
    values = ["asia", "NA", "nan", "asia", "NA", "nan", "asia"]
    dataset = load(_targets(tmp_path, "csv", values, network={"layers": MLP}))
    assert dataset.classes == ("NA", "asia", "nan")


def test_a_target_of_unknown_kind_that_misses_a_number_is_no_class(tmp_path: Path) -> None:
    spec = _targets(tmp_path, "csv", [0.5, 1.5, 2.5, "nan", 0.25], module={"entrypoint": "m:Net"})
    for part in ("network", "loss", "optimizer"):
        spec.ClearField(part)
    assert "row 5, column species: the value is missing" in _fail(spec)

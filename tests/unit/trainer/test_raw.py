from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from trana.trainer.data.dataset import Dataset, load
from trana.trainer.data.preprocessing import Preprocessor
from trana.trainer.data.raw import read_raw
from trana.trainer.data.samples import Samples
from trana.trainer.errors import DataError
from trana.v1 import training_pb2
from unit.trainer.specs import make_spec, write_csv

ROWS = [f"{row}.5,{'red' if row % 3 else 'blue'},{'yes' if row % 2 else 'no'}" for row in range(20)]


def trained(folder: Path) -> tuple[training_pb2.Dataset, Dataset]:
    spec = make_spec(write_csv(folder / "train.csv", "a,colour,label", *ROWS))
    spec.ClearField("network")
    spec.dataset.target = "label"
    spec.dataset.preprocessing.one_hot.append("colour")
    spec.dataset.preprocessing.scaling = training_pb2.SCALING_STANDARDIZE
    spec.dataset.preprocessing.fill_missing.mean.SetInParent()
    return spec.dataset, load(spec)


def raw(folder: Path, path: Path, *, with_target: bool = False) -> Samples:
    """Reads as a checkpoint does: from what is kept of the preprocessor."""
    spec, dataset = trained(folder)
    kept = Preprocessor.from_json(dataset.preprocessor.to_json())
    return read_raw(spec, path.as_uri(), kept, dataset.classes, with_target=with_target)


def test_rows_become_what_they_were_in_the_training(tmp_path: Path) -> None:
    _, dataset = trained(tmp_path)
    samples = raw(tmp_path, tmp_path / "train.csv", with_target=True)
    assert samples.rows.tolist() == list(range(20))
    for part in (dataset.train, dataset.validation, dataset.test):
        assert isinstance(part, Samples)
        assert samples.features[part.rows].tolist() == part.features.tolist()
        assert samples.targets[part.rows].tolist() == part.targets.tolist()


def test_target_may_be_absent_and_columns_in_any_order(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "new.csv", "colour,note,a", "blue,hm,1.5", "green,hm,")
    samples = raw(tmp_path, path)
    assert samples.targets.shape == (2, 0)
    assert samples.features[:, 1:].tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert samples.features[1, 0] == 0.0


def test_table_may_be_of_another_format(tmp_path: Path) -> None:
    path = tmp_path / "new.parquet"
    parquet.write_table(pa.table({"a": [1.5], "colour": ["red"]}), path)
    assert (
        raw(tmp_path, path).features.tolist()
        == raw(tmp_path, write_csv(tmp_path / "new.csv", "a,colour", "1.5,red")).features.tolist()
    )


@pytest.mark.parametrize(
    ("header", "row", "with_target", "message"),
    [
        ("a", "1", False, "column colour: there is no such column"),
        ("a,colour", "1,red", True, "column label: there is no such column, which the spec names as target"),
        ("a,colour,label", "1,red,maybe", True, "row 2, column label: the network does not know the class 'maybe'"),
        ("a,colour,label", "x,red,yes", True, "row 2, column a: 'x' is not a number$"),
    ],
)
def test_wrong_rows_are_refused(tmp_path: Path, header: str, row: str, with_target: bool, message: str) -> None:
    with pytest.raises(DataError, match=message):
        raw(tmp_path, write_csv(tmp_path / "new.csv", header, row), with_target=with_target)


def test_arrays_are_no_table(tmp_path: Path) -> None:
    np.savez(tmp_path / "new.npz", a=np.ones(3))
    with pytest.raises(DataError, match="is npz, but the network was trained on columns of a table"):
        raw(tmp_path, tmp_path / "new.npz")


def images(folder: Path) -> tuple[training_pb2.Dataset, Dataset]:
    for name in ("a", "b"):
        for number in range(4):
            path = folder / "train" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4), 50 * number).save(path)
    spec = make_spec()
    spec.ClearField("network")
    spec.dataset.ClearField("target")
    spec.dataset.images.uri = (folder / "train").as_uri()
    spec.dataset.images.height = spec.dataset.images.width = 2
    return spec.dataset, load(spec)


def test_images_need_no_folders_where_there_is_no_target(tmp_path: Path) -> None:
    spec, dataset = images(tmp_path)

    def read(path: Path, **how: Any) -> Samples:
        return read_raw(spec, path.as_uri(), dataset.preprocessor, dataset.classes, **how)

    assert read(tmp_path / "train", with_target=True).targets.tolist() == [0] * 4 + [1] * 4
    assert len(read(tmp_path / "train" / "a", with_target=False)) == 4
    one = read(tmp_path / "train" / "a" / "1.png", with_target=False)
    assert one.features.shape == (1, 3, 2, 2)
    with pytest.raises(DataError, match="has no folders with images"):
        read(tmp_path / "train" / "a", with_target=True)

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from trana.trainer.data.dataset import load
from trana.trainer.errors import DataError
from trana.trainer.preflight import check
from trana.v1 import training_pb2
from trana.v1.cause_pb2 import Cause
from unit.trainer.specs import MLP, held, make_spec, write_csv

HEADER = "sepal_length,petal_width,species"
GOOD = ["5.1,0.2,setosa", "4.9,0.2,setosa", "6.0,1.5,versicolor", "6.1,1.4,versicolor"] * 5
TWO = [{"linear": {"outFeatures": 2}}]


def test_good_file_passes(tmp_path: Path) -> None:
    check(_spec(write_csv(tmp_path / "good.csv", HEADER, *GOOD)).SerializeToString())


def test_training_without_a_dataset_passes() -> None:
    assert check(training_pb2.TrainingSpec(epochs=1).SerializeToString()) == ()


def test_network_far_larger_than_its_data_is_warned_of(tmp_path: Path) -> None:
    # 16 training samples of 2 features.
    path = write_csv(tmp_path / "good.csv", HEADER, *GOOD)
    wide = [{"linear": {"outFeatures": 32}}, {"batchNorm1d": {}}, {"relu": {}}, *TWO]
    spec = _spec(path, network={"layers": wide}, dataset={"csv": {"uri": path.as_uri()}, "target": "species"})
    spec.dataset.split.fractions.validation = 0.2
    (warning,) = check(spec.SerializeToString())
    assert "226 parameters for 16 training samples, 14 for each" in warning
    assert "write early_stopping" in warning
    spec.early_stopping.by = training_pb2.STOPPING_RULE_VERDICT
    assert "early_stopping" not in check(spec.SerializeToString())[0]
    assert check(_spec(path).SerializeToString()) == ()


def _spec(path: Path, **changes: Any) -> Any:
    return make_spec(path, **({"network": {"layers": TWO}} | changes))


def _fail(spec: Any) -> str:
    with pytest.raises(DataError) as caught:
        check(spec.SerializeToString())
    assert caught.value.cause == Cause.CAUSE_DATA_ERROR
    return str(caught.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param([*GOOD, "5.0,abc,setosa"], "row 22, column petal_width: 'abc' is not a number", id="word"),
        pytest.param(["5.0,1_0,setosa", *GOOD], "row 2, column petal_width: '1_0' is not a number", id="underscore"),
        pytest.param(["5.0,nan,setosa", *GOOD], "row 2, column petal_width: nan is not a finite", id="nan"),
        pytest.param(["5.0,1e39,setosa", *GOOD], "row 2, column petal_width: 1e+39 is not a finite", id="too large"),
        pytest.param([*GOOD, "5.0,,setosa"], "row 22, column petal_width: the value is missing", id="no value"),
        pytest.param([*GOOD, "5.0,1.0,"], "row 22, column species: the value is missing", id="no target"),
        pytest.param([*GOOD, "5.0,1.0"], "row 22: has 2 values, but the header names 3 columns", id="short row"),
        pytest.param([*GOOD, "5,1,setosa,9"], "row 22: has 4 values, but the header names 3 columns", id="long row"),
        pytest.param(["", *GOOD, "5.0,abc,setosa"], "row 23, column petal_width", id="empty lines count"),
        pytest.param(['"5\n.0",1.0,setosa', *GOOD], r"row 2, column sepal_length: '5\n.0' is not", id="quoted line"),
        pytest.param([], "has a header, but no rows", id="no rows"),
        pytest.param(["5.0,1.0,setosa"] * 20, "have the one class 'setosa'", id="one class"),
        pytest.param(["5.0,1.0,setosa"], "has 1 sample, so a share of 0.2 leaves no sample for validation", id="one"),
    ],
)
def test_message_names_row_and_column_when_the_file_is_wrong(tmp_path: Path, rows: list[str], message: str) -> None:
    path = write_csv(tmp_path / "bad.csv", HEADER, *rows)
    text = _fail(_spec(path))
    assert message in text
    assert text.startswith(f"file {path}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is empty", id="no bytes"),
        pytest.param(b"\n\n", "is empty", id="only empty lines"),
        pytest.param(b"a,a,species\n1,2,x\n", "row 1: the header has more than one column called a", id="twice"),
        pytest.param(b"a,species\n1,\xff\n", "row 2: is not text in UTF-8", id="latin-1"),
        pytest.param(b"a,\xff\n1,x\n", "row 1: is not text in UTF-8", id="latin-1 in the header"),
        pytest.param(b"a,species\n" + b"1,x\n" * 30 + b"1,\xff\n", "row 32: is not text", id="latin-1 further down"),
        pytest.param(
            b"\xef\xbb\xbfa,species\n\n" + b'1,"x\ny"\n' * 5000 + b"1,x\xe9\n1,\xff\n",
            "row 5003: is not text",
            id="latin-1 far down, after quoted lines",
        ),
        pytest.param(b"species\nx\ny\n", "no column besides species", id="no feature"),
        pytest.param(
            b"a,b\n1,2\n", "column species: there is no such column, which the spec names as target", id="target"
        ),
    ],
)
def test_file_is_named_when_it_cannot_be_read_at_all(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    text = _fail(_spec(path))
    assert message in text
    assert str(path) in text


def test_absent_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "with space.csv"
    assert _fail(_spec(path)) == f"file {path} does not exist, as the workers see it"


def test_folder_is_no_file(tmp_path: Path) -> None:
    assert "cannot be opened" in _fail(_spec(tmp_path))


def test_unread_columns_may_hold_anything(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "notes.csv", "note,a,species", *(f"no. {row},{row},{row % 2}" for row in range(20)))
    spec = _spec(path)
    assert "column note" in _fail(spec)
    spec.dataset.features.append("a")
    check(spec.SerializeToString())


def test_bom_quotes_and_delimiter_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    rows = "".join(f'"{row}.5";"NA"\r\n{row};"b;c"\r\n' for row in range(10))
    path.write_bytes(b"\xef\xbb\xbfa;species\r\n" + rows.encode())
    spec = _spec(path)
    spec.dataset.csv.delimiter = ";"
    spec.dataset.features.append("a")
    dataset = load(spec)
    assert dataset.classes == ("NA", "b;c")
    assert dataset.input_shape == (1,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"network": {"layers": MLP}}, "network.layers[2].linear gives 3 features", id="outputs"),
        pytest.param(
            {"network": {"layers": MLP}},
            "one output for each of the 2 classes of species ('setosa', 'ver",
            id="classes",
        ),
        pytest.param({"loss": {"bce": {}}}, "bce needs exactly one output", id="bce outputs"),
        pytest.param(
            {"loss": {"mse": {}}},
            "column species: 'setosa' is not a number; for a target of classes use cross_entropy or bce",
            id="number",
        ),
        pytest.param(
            {"network": {"layers": [{"conv2d": {"outChannels": 2, "kernelSize": 3}}]}},
            "network.layers[0].conv2d",
            id="shape",
        ),
        pytest.param(
            {"network": {"layers": [{"embedding": {"numEmbeddings": 5, "embeddingDim": 2}}, {"flatten": {}}]}},
            "no id for network.layers[0].embedding: it takes whole numbers, 0 to 4",
            id="ids",
        ),
    ],
)
def test_layer_is_named_when_data_and_network_do_not_fit(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_csv(tmp_path / "good.csv", HEADER, *GOOD)
    text = _fail(_spec(path, **changes))
    assert message in text
    assert str(path) in text


@pytest.mark.parametrize("scaling", [training_pb2.SCALING_UNSPECIFIED, training_pb2.SCALING_STANDARDIZE])
def test_text_among_the_features_is_told_with_what_to_do_about_it(
    tmp_path: Path, scaling: training_pb2.Scaling.ValueType
) -> None:
    path = write_csv(tmp_path / "town.csv", "town,price", *(f"Umea,{row}" for row in range(20)))
    spec = _spec(path, loss={"mse": {}})
    spec.dataset.target = "price"
    spec.dataset.preprocessing.scaling = scaling
    text = _fail(spec)
    assert "row 2, column town: 'Umea' is not a number; " in text
    assert "dataset.preprocessing.one_hot" in text
    assert "dataset.features" in text


def test_target_that_is_measured_is_no_class(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "prices.csv", "area,species", *(f"{row},{row / 7:.2f}" for row in range(60)))
    text = _fail(_spec(path))
    assert "column species: looks like a number, not a class (" in text
    assert "distinct values); use the loss mse, l1 or huber" in text


def test_bce_needs_two_classes() -> None:
    text = _fail(make_spec(loss={"bce": {}}, network={"layers": [{"linear": {"outFeatures": 1}}]}))
    assert "bce needs a target of two classes, but column species has 3 ('setosa', 'versicolor', 'virginica')" in text


def test_input_shape_must_take_all_columns(tmp_path: Path) -> None:
    spec = _spec(write_csv(tmp_path / "good.csv", HEADER, *GOOD))
    spec.dataset.input_shape.extend([1, 3])
    assert "input_shape [1, 3] takes 3 values, but there are 2 feature columns (sepal_length, petal_width)" in _fail(
        spec
    )


@pytest.mark.parametrize("wrong", ["-1", "4", "2.5", "1e30"])
def test_wrong_id_is_found_in_any_split(tmp_path: Path, wrong: str) -> None:
    rows = [f"{row % 4},{row % 2}" for row in range(20)] + [f"{wrong},0"]
    layers = [{"embedding": {"numEmbeddings": 4, "embeddingDim": 2}}, {"flatten": {}}, {"linear": {"outFeatures": 2}}]
    path = write_csv(tmp_path / "ids.csv", "word,species", *rows)
    assert f"row 22, column word: {float(wrong)} is no id" in _fail(_spec(path, network={"layers": layers}))


def _column_spec(path: Path, **rule: str) -> Any:
    spec = _spec(path)
    spec.dataset.split.column.name = "part"
    for name, value in rule.items():
        setattr(spec.dataset.split.column, name, value)
    return spec


@pytest.mark.parametrize(
    ("parts", "rule", "message"),
    [
        pytest.param(["train"] * 4, {}, "no row has 'validation'", id="no validation"),
        pytest.param(["validation"] * 4, {}, "no row has 'train'", id="no train"),
        pytest.param(
            ["train", "train", "validation", "spare"], {}, "row 5, column part: 'spare' is none of", id="other"
        ),
        pytest.param(
            ["train", "train", "validation", ""], {}, "row 5, column part: the value is missing", id="missing"
        ),
        pytest.param(["train", "train", "validation", "train"], {"test": "held"}, "no row has 'held'", id="no test"),
    ],
)
def test_split_column_must_make_sense(tmp_path: Path, parts: list[str], rule: dict[str, str], message: str) -> None:
    rows = [f"{row},{row % 2},{part}" for row, part in enumerate(parts)]
    path = write_csv(tmp_path / "parts.csv", "a,species,part", *rows)
    assert message in _fail(_column_spec(path, **rule))


def test_split_column_must_exist(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "good.csv", HEADER, *GOOD)
    assert "column part: there is no such column, which the spec names as split" in _fail(_column_spec(path))


@pytest.mark.parametrize("part", ["validation", "test"])
def test_class_without_a_training_sample_is_refused(tmp_path: Path, part: str) -> None:
    rows = ["1,x,train", "2,y,train", "3,y,validation", f"4,z,{part}", "5,x,test"]
    path = write_csv(tmp_path / "rare.csv", "a,species,part", *rows)
    text = _fail(_column_spec(path))
    assert f"row 5, column species: the class 'z' is in the {part} split, but no training sample has it" in text


def test_split_by_column_gives_each_sample_to_its_part(tmp_path: Path) -> None:
    rows = ["1,x,0", "2,y,1", "3,y,0", "4,x,2", "5,x,1"]
    dataset = load(
        _column_spec(write_csv(tmp_path / "f.csv", "a,species,part", *rows), train="0", validation="1", test="2")
    )
    assert dataset.train.rows.tolist() == [0, 2]
    assert held(dataset.validation).features.tolist() == [[2.0], [5.0]]
    assert held(dataset.test).targets.tolist() == [0]


def _files_spec(folder: Path) -> Any:
    spec = _spec(folder / "train.csv")
    spec.dataset.split.uris.validation = (folder / "validation.csv").as_uri()
    return spec


def test_split_by_files_reads_columns_by_name(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", "a,b,species", "1,2,x", "3,4,y")
    write_csv(tmp_path / "validation.csv", "note,b,species,a", "hm,20,y,10")
    dataset = load(_files_spec(tmp_path))
    assert held(dataset.validation).features.tolist() == [[10.0, 20.0]]
    assert dataset.test is None
    assert not dataset.one_file


def test_split_by_files_names_the_file_that_is_wrong(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", "a,b,species", "1,2,x", "3,4,y")
    write_csv(tmp_path / "validation.csv", "a,species", "10,y")
    assert "validation.csv, column b: there is no such column" in _fail(_files_spec(tmp_path))


def test_classes_are_ordered_as_numbers_when_all_are(tmp_path: Path) -> None:
    rows = [f"{row},{label}" for row, label in enumerate(["10", "9", "2", "2.0"] * 10)]
    dataset = load(
        _spec(write_csv(tmp_path / "n.csv", "a,species", *rows), network={"layers": [{"linear": {"outFeatures": 3}}]})
    )
    assert dataset.classes == ("2", "9", "10")
    assert dataset.class_counts == tuple(np.bincount(held(dataset.train).targets).tolist())


def _parquet_spec(path: Path, table: dict[str, Any]) -> Any:
    parquet.write_table(pa.table(table), path)
    spec = make_spec(network={"layers": TWO})
    spec.dataset.parquet.uri = path.as_uri()
    return spec


def test_parquet_is_read_by_type(tmp_path: Path) -> None:
    labels = pa.array(["x", "y"] * 10).dictionary_encode()
    numbers: dict[str, Any] = {"a": list(range(20)), "b": [0.5] * 20, "c": [True, False] * 10}
    dataset = load(_parquet_spec(tmp_path / "t.parquet", {**numbers, "species": labels}))
    assert dataset.classes == ("x", "y")
    assert held(dataset.train).features.dtype == np.float32
    assert dataset.input_shape == (3,)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        pytest.param(
            {"a": [1.0, None] * 10, "species": [1, 0] * 10}, "row 2, column a: the value is missing", id="null"
        ),
        pytest.param({"a": [1.0, 2.0, 3.0], "species": [1.0, np.nan, 0.0]}, "row 2, column species", id="nan"),
        pytest.param(
            {"a": [1.0, 2.0] * 10, "species": ["x", " "] * 10}, "row 2, column species: the value", id="blank"
        ),
        pytest.param({"a": [[1], [2]] * 10, "species": [1, 0] * 10}, "column a: holds list<", id="lists"),
        pytest.param({"a": pa.array([], pa.float64()), "species": pa.array([], pa.int64())}, "has no rows", id="empty"),
    ],
)
def test_wrong_parquet_is_refused(tmp_path: Path, table: dict[str, Any], message: str) -> None:
    assert message in _fail(_parquet_spec(tmp_path / "t.parquet", table))


def test_truncated_parquet_is_refused(tmp_path: Path) -> None:
    spec = _parquet_spec(tmp_path / "t.parquet", {"a": [1.0], "species": [1]})
    path = tmp_path / "t.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    assert "is not a whole Parquet file" in _fail(spec)


def _npz_spec(path: Path, **arrays: Any) -> Any:
    np.savez(path, **arrays)
    spec = make_spec(network={"layers": [{"flatten": {}}, *TWO]})
    spec.dataset.npz.uri = path.as_uri()
    spec.dataset.target = "y"
    return spec


IMAGES = np.arange(20 * 4, dtype=np.uint8).reshape(20, 1, 2, 2)
LABELS = np.arange(20) % 2


def test_npz_keeps_the_shape_of_its_array(tmp_path: Path) -> None:
    dataset = load(_npz_spec(tmp_path / "i.npz", x=IMAGES, y=LABELS))
    assert dataset.input_shape == (1, 2, 2)
    assert held(dataset.train).features.dtype == np.float32


def test_npz_reads_only_what_it_needs(tmp_path: Path) -> None:
    spec = _npz_spec(tmp_path / "i.npz", x=IMAGES, y=LABELS, names=np.array(["even", "odd"]))
    assert "name the one array that is the input in dataset.features; the file has x, y, names" in _fail(spec)
    spec.dataset.features.append("x")
    check(spec.SerializeToString())


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        pytest.param({"x": IMAGES, "y": np.array([0, None] * 10)}, "arrays of objects are refused", id="pickled"),
        pytest.param(
            {"x": IMAGES, "y": LABELS[:9]}, "must count the samples, but the shapes are x (20, 1,", id="length"
        ),
        pytest.param({"x": IMAGES[:0], "y": LABELS[:0]}, "has no samples", id="empty"),
        pytest.param({"x": IMAGES * 1j, "y": LABELS}, "column x: holds complex128, not numbers", id="complex"),
        pytest.param({"x": IMAGES, "y": np.stack([LABELS, LABELS], 1)}, "one value per sample is needed", id="targets"),
        pytest.param(
            {"x": np.where(IMAGES == 41, np.inf, 0.0), "y": LABELS}, "row 11, column x: inf is", id="infinite"
        ),
    ],
)
def test_wrong_npz_is_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    assert message in _fail(_npz_spec(tmp_path / "bad.npz", **arrays))


def test_npz_that_is_none_is_refused(tmp_path: Path) -> None:
    spec = _npz_spec(tmp_path / "bad.npz", x=IMAGES, y=LABELS)
    np.save(tmp_path / "bad.npy", IMAGES)
    (tmp_path / "bad.npy").rename(tmp_path / "bad.npz")
    assert "is not an NPZ file" in _fail(spec)


def test_values_of_a_target_need_an_output_each(tmp_path: Path) -> None:
    spec = _npz_spec(tmp_path / "v.npz", x=IMAGES, y=np.ones((20, 3)))
    spec.loss.mse.SetInParent()
    assert "mse needs one output for each of 3 target values" in _fail(spec)
    spec.network.layers[-1].linear.out_features = 3
    assert held(load(spec).train).targets.shape == (12, 3)


@pytest.mark.parametrize("uri", ["ftp://host/file.csv", "s3:///no-bucket", "file://host/x.csv"])
def test_uri_that_cannot_be_opened_is_refused(uri: str) -> None:
    assert "cannot be opened" in _fail(make_spec(uri))

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trana.spec import read
from trana.spec.read import MAX_BYTES, SpecError, job_from_mapping, parse_job, read_job
from trana.v1 import job_pb2, training_pb2


def parse(text: str) -> object:
    return parse_job(text, base=Path("/jobs"), source="job.yaml")


def test_short_forms_mean_the_long_ones(iris: Callable[..., job_pb2.JobSpec]) -> None:
    training = iris("epochs: 60", "epochs: 6e1\n  early_stopping: {monitor: Val_Loss, patience: 3}").training
    assert training.network.layers[1].WhichOneof("kind") == "relu"
    assert training.loss.WhichOneof("kind") == "cross_entropy"
    assert training.optimizer.adam.learning_rate == 0.01
    assert training.early_stopping.monitor == training_pb2.MONITOR_VAL_LOSS
    assert training.epochs == 60


@pytest.mark.parametrize("written", ["- relu", "- ReLU", "- relu:", "- relu: {}", "- {relu: null}"])
def test_a_layer_without_settings_may_be_written_in_each_of_these_ways(
    iris: Callable[..., job_pb2.JobSpec], written: str
) -> None:
    assert iris("- relu", written) == iris()


def test_json_and_camel_case_are_read_as_protobuf_does() -> None:
    spec = parse_job('{"displayName": "a", "resources": {"numWorkers": "3"}}', base=Path("/"), source="-")
    assert spec.display_name == "a"
    assert spec.resources.num_workers == 3


def test_texts_stay_as_they_are_written(iris: Callable[..., job_pb2.JobSpec]) -> None:
    spec = iris("display_name: Iris", "labels: {build: 007, on: no, when: 2024-01-01, none: }")
    assert dict(spec.labels) == {"build": "007", "on": "no", "when": "2024-01-01", "none": ""}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("data/iris.csv", "file:///jobs/data/iris.csv"),
        ("../iris.csv", "file:///iris.csv"),
        ("/data/iris.csv", "file:///data/iris.csv"),
        ("file:///data/iris.csv", "file:///data/iris.csv"),
        ("s3://bucket/iris.csv", "s3://bucket/iris.csv"),
        ("my iris.csv", "file:///jobs/my%20iris.csv"),
    ],
)
def test_paths_start_from_the_folder_of_the_file(
    iris: Callable[..., job_pb2.JobSpec], written: str, expected: str
) -> None:
    assert iris("data/iris.csv", written).training.dataset.csv.uri == expected


def test_the_files_of_a_split_start_from_the_same_folder(iris: Callable[..., job_pb2.JobSpec]) -> None:
    split = iris("{fractions: {validation: 0.2, test: 0.2, seed: 7}}", "{uris: {validation: v.csv}}")
    assert split.training.dataset.split.uris.validation == "file:///jobs/v.csv"
    assert split.training.dataset.split.uris.test == ""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("optimizer:", "optimiser:", "line 14: training.optimiser: there is no such field; did you mean optimizer? "),
        ("- relu", "- rleu", "line 6: training.network.layers[1]: there is no 'rleu'; did you mean relu? "),
        ("epochs: 60", "epochs: many", "line 15: training.epochs: needs a number, not 'many'"),
        ("epochs: 60", "epochs: true", "line 15: training.epochs: needs a number, not 'true'"),
        ("epochs: 60", "epochs: 1.5", "line 15: training.epochs: needs a whole number"),
        ("epochs: 60", "epochs: 3000000000", "line 15: training.epochs: needs a whole number of at most 31 bits"),
        ("epochs: 60", "epochs: [60]", "line 15: training.epochs: needs a single value"),
        ("epochs: 60", "epochs: 60\n  epochs: 7", "line 16: training.epochs: is given twice"),
        ("epochs: 60", "epochs: 2024-99-99", "line 15: training.epochs: cannot be read as a value"),
        ("- relu", "- {relu: {}, tanh: {}}", "line 6: training.network.layers[1]: only one of relu and tanh"),
        ("- relu", "- relu: 5", "line 6: training.network.layers[1].relu: takes no settings, not '5'"),
        ("{p: 0.1}", "0.1", "line 7: training.network.layers[2].dropout: needs fields (p), not '0.1'"),
        ("{num_workers: 2}", "[2]", "line 17: resources: needs fields (num_workers, cpus_per_worker"),
        ("display_name: Iris", "labels: [a]", "line 1: labels: needs names and values"),
        ("display_name: Iris", "labels: {a: 1, a: 2}", 'line 1: labels["a"]: is given twice'),
        ("display_name: Iris", "labels: {a: {b: 1}}", 'line 1: labels["a"]: needs a single value'),
        ("{adam: {learning_rate: 1e-2}}", "{adamw: {bias: perhaps}}", "training.optimizer.adamw.bias: there is no"),
        ("16}", "16, bias: perhaps}", "linear.bias: needs true or false, not 'perhaps'"),
        ("epochs: 60", "epochs: 60\n  early_stopping: {monitor: loss}",
         "line 16: training.early_stopping.monitor: there is no 'loss'; did you mean val_loss?"),
    ],
)  # fmt: skip
def test_an_error_names_file_line_and_field(
    iris: Callable[..., job_pb2.JobSpec], old: str, new: str, message: str
) -> None:
    with pytest.raises(SpecError, match=r"^iris\.yaml, line \d+: ") as caught:
        iris(old, new)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "", "---", "# only a comment", "- a\n- b", "hello", "5", "null", "a:\tb\n\tc: d", "[[", "{", "a: b: c", "\x00",
        "training: 5", "training: []", "training: {network: {layers: 5}}", "? [a]\n: b", "a: *x", "a: 1\n---\nb: 2",
        "resources: &r {num_workers: *r}", "resources: &r [*r]", "[" * 100_000, "- " * 100_000, "{a: " * 100_000,
        "resources: {num_workers: !!int x}", "resources: {num_workers: !!python/object:os.system {}}", "1: 2",
        "resources: {num_workers: " + "9" * 10_000 + "}", "resources: {<<: {num_workers: 1}}",
    ],
)  # fmt: skip
def test_odd_yaml_is_a_spec_error(text: str) -> None:
    with pytest.raises(SpecError, match=r"^job\.yaml"):
        parse(text)


def test_aliases_that_multiply_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MAX_VALUES", 10_000)  # counting to the real bound takes longer
    text = "training:\n  network:\n    layers:\n      - residual: &a0 {layers: [relu, relu]}\n"
    for step in range(1, 13):
        block = ", ".join([f"residual: *a{step - 1}"] * 8).replace("residual", "{residual").replace(",", "},") + "}"
        text += f"      - residual: &a{step} {{layers: [{block}]}}\n"
    with pytest.raises(SpecError, match="too many values, or nested too deep"):
        parse(text)


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_text_is_a_job_or_a_spec_error(iris_text: str, text: str) -> None:
    for whole in (text, f"training: {text}", iris_text.replace("60", text)):
        try:
            parse(whole)
        except SpecError:
            continue


def test_a_file_that_cannot_be_read_is_a_spec_error(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"display_name: \xe9")
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b" " * (MAX_BYTES + 1))
    for path, words in [
        (tmp_path / "absent.yaml", "No such file"),
        (tmp_path, "Is a directory"),
        (latin, "UTF-8"),
        (huge, "larger than 4 MiB"),
    ]:
        with pytest.raises(SpecError, match=words):
            read_job(path)


def test_a_file_is_read_from_its_own_folder(iris_text: str, tmp_path: Path) -> None:
    path = tmp_path / "iris.yaml"
    path.write_text(iris_text)
    assert read_job(path).training.dataset.csv.uri == f"file://{tmp_path}/data/iris.csv"


def test_a_job_of_dicts_and_lists_is_read_alike() -> None:
    job = {"resources": {"num_workers": 2}, "training": {"loss": "bce", "network": {"layers": ["relu"]}}}
    spec = job_from_mapping(job, base=Path("/jobs"))
    assert spec.resources.num_workers == 2
    assert spec.training.network.layers[0].WhichOneof("kind") == "relu"
    with pytest.raises(SpecError, match="neither text, number"):
        job_from_mapping({"resources": object()}, base=Path("/jobs"))

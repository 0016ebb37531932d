import time
from collections.abc import Callable

import pytest
from google.protobuf.message import Message
from trana.spec.limits import MAX_DEPTH
from trana.spec.validate import MAX_VIOLATIONS, validate
from trana.v1 import job_pb2, job_service_pb2, network_pb2, training_pb2

RELU = network_pb2.Layer(relu=network_pb2.ReLU())


def fields(message: Message) -> list[str]:
    return [violation.field for violation in validate(message)]


def test_a_valid_job_has_no_violation(iris: Callable[..., job_pb2.JobSpec]) -> None:
    assert validate(iris()) == []
    assert validate(job_service_pb2.CreateJobRequest(spec=iris())) == []


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("{p: 0.1}", "{p: 1.5}", "training.network.layers[2].dropout.p"),
        ("{p: 0.1}", "{p: -0.1}", "training.network.layers[2].dropout.p"),
        ("{p: 0.1}", "{p: .nan}", "training.network.layers[2].dropout.p"),
        ("1e-2", ".nan", "training.optimizer.adam.learning_rate"),
        ("1e-2", ".inf", "training.optimizer.adam.learning_rate"),
        ("1e-2", "0", "training.optimizer.adam.learning_rate"),
        ("epochs: 60", "epochs: 0", "training.epochs"),
        ("epochs: 60", "epochs: -3", "training.epochs"),
        ("global_batch_size: 16", "global_batch_size: 0", "training.global_batch_size"),
        ("global_batch_size: 16", "global_batch_size: 1", "training.global_batch_size"),
        ("num_workers: 2", "num_workers: 0", "resources.num_workers"),
        ("num_workers: 2", "num_workers: 200000", "resources.num_workers"),
        ("- relu\n", "- {}\n", "training.network.layers[1].kind"),
        ("out_features: 16", "out_features: 0", "training.network.layers[0].linear.out_features"),
        ("validation: 0.2", "validation: 0.9", "training.dataset.split.fractions"),
        ("validation: 0.2", "validation: 1.5", "training.dataset.split.fractions.validation"),
        ("validation: 0.2", "validation: 0", "training.dataset.split.fractions.validation"),
        ("data/iris.csv", "ftp://data/iris.csv", "training.dataset.csv.uri"),
        ("target: species", "target: ''", "training.dataset.target"),
        ("target: species", "target: species\n    features: [a, a]", "training.dataset.features"),
        ("target: species", "target: species\n    features: [a, species]", "training.dataset.features"),
        ("target: species", "target: species\n    features: [a, b]\n    input_shape: [3]",
         "training.dataset.input_shape"),
        ("loss: cross_entropy", "loss: {}", "training.loss.kind"),
        ("loss: cross_entropy", "loss: {huber: {delta: 0}}", "training.loss.huber.delta"),
        ("loss: cross_entropy", "loss: bce", "training.network.layers[3].linear"),
        ("loss: cross_entropy", "loss: mse", "training.network.layers[3].linear"),
        ("out_features: 3", "out_features: 1", "training.network.layers[3].linear"),
        ("- linear: {out_features: 3}",
         "- linear: {out_features: 3}\n      - conv2d: {out_channels: 2, kernel_size: 3}",
         "training.network.layers[4].conv2d"),
        ("adam: {learning_rate: 1e-2}", "sgd: {learning_rate: 1, nesterov: true}", "training.optimizer.sgd.nesterov"),
        ("adam: {learning_rate: 1e-2}", "sgd: {learning_rate: 1, nesterov: true, momentum: -1}",
         "training.optimizer.sgd.momentum"),
        ("epochs: 60", "epochs: 60\n  early_stopping: {monitor: 77, patience: 3}", "training.early_stopping.monitor"),
        ("display_name: Iris", "priority: 101", "priority"),
        ("display_name: Iris", "labels: {Team: a}", 'labels["Team"]'),
    ],
)  # fmt: skip
def test_a_wrong_field_is_the_only_violation(
    iris: Callable[..., job_pb2.JobSpec], old: str, new: str, field: str
) -> None:
    assert fields(iris(old, new)) == [field]


@pytest.mark.parametrize("part", ["network", "dataset", "loss", "optimizer"])
def test_a_part_of_the_training_that_is_absent_is_named(iris: Callable[..., job_pb2.JobSpec], part: str) -> None:
    spec = iris()
    spec.training.ClearField(part)  # type: ignore[arg-type]
    (violation,) = validate(spec)
    assert (violation.field, violation.rule) == (f"training.{part}", "required")
    assert violation.description.startswith("is required")


def test_a_request_without_anything_names_what_is_required() -> None:
    assert fields(job_service_pb2.CreateJobRequest()) == ["spec"]
    assert fields(job_service_pb2.CreateJobRequest(spec=job_pb2.JobSpec())) == ["spec.training", "spec.resources"]


def test_paths_begin_at_the_message(iris: Callable[..., job_pb2.JobSpec]) -> None:
    spec = iris("epochs: 60", "epochs: 0")
    assert fields(job_service_pb2.CreateJobRequest(spec=spec, job_id="No")) == ["job_id", "spec.training.epochs"]
    assert fields(spec.training) == ["epochs"]


def test_several_wrong_fields_have_one_violation_each(iris: Callable[..., job_pb2.JobSpec]) -> None:
    spec = iris("epochs: 60", "epochs: 0")
    spec.training.network.layers[2].dropout.p = 2
    spec.training.optimizer.adam.learning_rate = float("nan")
    assert fields(spec) == [
        "training.network.layers[2].dropout.p",
        "training.optimizer.adam.learning_rate",
        "training.epochs",
    ]


def test_a_network_without_layers_is_told_to_have_one(iris: Callable[..., job_pb2.JobSpec]) -> None:
    spec = iris()
    spec.training.network.ClearField("layers")
    assert [(v.field, v.description) for v in validate(spec)] == [("training.network.layers", "needs at least 1")]


def test_an_unset_choice_lists_the_choices(iris: Callable[..., job_pb2.JobSpec]) -> None:
    (violation,) = validate(iris("- relu\n", "- {}\n"))
    assert violation.description.startswith("needs one of linear, relu, gelu")
    assert violation.rule == "oneof.required"


def test_an_unknown_enum_number_lists_the_known_names(iris: Callable[..., job_pb2.JobSpec]) -> None:
    (violation,) = validate(iris("epochs: 60", "epochs: 60\n  early_stopping: {monitor: 77, patience: 3}"))
    assert violation.description == "must be one of MONITOR_VAL_LOSS, not 77"


def test_200_000_layers_are_refused_at_once_with_the_other_wrong_fields(iris: Callable[..., job_pb2.JobSpec]) -> None:
    spec = iris("epochs: 60", "epochs: 0")
    spec.training.network.layers.extend([RELU] * 200_000)
    begin = time.monotonic()
    violations = validate(spec)
    assert time.monotonic() - begin < 1
    assert [violation.field for violation in violations] == ["training.network.layers", "training.epochs"]
    assert violations[0].description.startswith("has more than 1,000 layers")
    assert len(spec.training.network.layers) == 200_004


def test_layers_of_residual_blocks_count(iris: Callable[..., job_pb2.JobSpec]) -> None:
    block = network_pb2.Layer(residual=network_pb2.Residual(layers=[RELU] * 600))
    spec = iris()
    spec.training.network.layers.extend([block, block])
    assert fields(spec) == ["training.network.layers"]


@pytest.mark.parametrize(("depth", "expected"), [(MAX_DEPTH, 0), (MAX_DEPTH + 1, 1)])
def test_residual_blocks_nest_only_so_deep(iris: Callable[..., job_pb2.JobSpec], depth: int, expected: int) -> None:
    layer = RELU
    for _ in range(depth):
        layer = network_pb2.Layer(residual=network_pb2.Residual(layers=[layer]))
    spec = iris()
    spec.training.network.layers.insert(0, layer)
    violations = validate(spec)
    assert len(violations) == expected
    assert all(violation.rule == "network.max_depth" for violation in violations)


def test_violations_are_as_many_as_a_person_reads(iris: Callable[..., job_pb2.JobSpec]) -> None:
    spec = iris()
    del spec.training.network.layers[:]
    spec.training.network.layers.extend([network_pb2.Layer()] * 900)
    assert len(validate(spec)) == MAX_VIOLATIONS


def test_a_label_of_any_length_gives_a_short_path(iris: Callable[..., job_pb2.JobSpec]) -> None:
    spec = iris()
    spec.labels["X" * 100_000] = "a"
    assert len(fields(spec)[0]) < 100


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (job_service_pb2.GetJobRequest(name="iris"), "name"),
        (job_service_pb2.ListJobsRequest(page_size=-1), "page_size"),
        (job_service_pb2.WatchJobRequest(name="jobs/a", after_sequence=-1), "after_sequence"),
        (job_service_pb2.DownloadCheckpointRequest(name="jobs/a/checkpoints/first"), "name"),
    ],
)
def test_every_request_is_checked(request_: Message, field: str) -> None:
    assert fields(request_) == [field]


def test_the_split_column_plays_no_other_part(iris: Callable[..., job_pb2.JobSpec]) -> None:
    spec = iris()
    spec.training.dataset.split.column.CopyFrom(training_pb2.ColumnSplit(name="species"))
    assert fields(spec) == ["training.dataset.split.column.name"]
    spec.training.dataset.split.column.name = "part"
    spec.training.dataset.features.extend(["a", "part"])
    assert fields(spec) == ["training.dataset.features"]


def test_a_network_without_weights_is_refused(iris: Callable[..., job_pb2.JobSpec]) -> None:
    spec = iris()
    del spec.training.network.layers[:]
    spec.training.network.layers.extend([RELU, network_pb2.Layer(residual=network_pb2.Residual(layers=[RELU]))])
    assert [(v.field, v.rule) for v in validate(spec)] == [("training.network.layers", "network.nothing_to_learn")]
    spec.training.network.layers[1].residual.layers.add().layer_norm.SetInParent()
    assert validate(spec) == []


@pytest.mark.parametrize(
    ("old", "new", "description"),
    [
        ("target: species", "target: ''",
         "is missing: name the column, or the array of an NPZ or safetensors file, to predict"),
        ("fractions: {validation: 0.2, test: 0.2, seed: 7}", "column: {name: ''}",
         "is missing: name the column that says how samples are split"),
        ("target: species", "target: species\n    features: ['']", "must not be empty"),
        ("1e-2", ".nan", "must be a finite number greater than 0, not nan"),
        ("1e-2", ".inf", "must be a finite number, not inf"),
        ("1e-2", "-1", "must be greater than 0, not -1"),
        ("{p: 0.1}", "{p: .nan}", "must be a finite number at least 0 and less than 1, not nan"),
        ("num_workers: 2", "num_workers: 32",
         "must be at least resources.num_workers, which is 32, so that each worker has a sample in each step, not 16"),
    ],
)  # fmt: skip
def test_a_violation_says_how_to_mend_the_field(
    iris: Callable[..., job_pb2.JobSpec], old: str, new: str, description: str
) -> None:
    for message in (iris(old, new), job_service_pb2.CreateJobRequest(spec=iris(old, new))):
        assert [violation.description for violation in validate(message)] == [description]

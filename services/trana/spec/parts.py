"""Which parts a training needs: that follows from its way in, see `TrainingSpec`."""

from collections.abc import Iterator

from google.protobuf.message import Message

from trana.spec.violation import Violation
from trana.v1 import network_pb2, training_pb2

_CLASS_METRICS = frozenset({"accuracy", "top_k", "macro_f1", "auroc"})
_CLASS_LOSSES = frozenset({"cross_entropy", "bce"})
# What the service's loop does, in the order of the contract.
_OF_THE_LOOP = (
    "loss",
    "optimizer",
    "schedule",
    "strategy",
    "accumulation_steps",
    "clip_norm",
    "precision",
    "compile",
    "ema",
    "augmentation",
    "metrics",
)
# Formats whose samples are rows of columns.
TABULAR = frozenset({"csv", "parquet"})


def check_parts(training: training_pb2.TrainingSpec) -> list[Violation]:
    """Returns parts that are missing, or that exclude each other, with paths from the training spec."""
    return [
        *_check_way(training),
        *_check_code(training),
        *_check_dataset(training),
        *_check_metrics(training),
        *_check_augmentation(training),
        *_check_stopping(training),
        *_check_loop(training),
    ]


def has_custom_layers(network: network_pb2.Network) -> bool:
    """Whether a layer comes from the user's code, at any depth."""
    return any(
        layer.WhichOneof("kind") == "custom" or has_custom_layers(network_pb2.Network(layers=layer.residual.layers))
        for layer in network.layers
    )


def _check_way(training: training_pb2.TrainingSpec) -> Iterator[Violation]:
    if training.HasField("network") and training.HasField("module"):
        description = "cannot be given beside module: a network is either declared or the user's"
        yield Violation("network", description, "training.network_or_module")
    if training.HasField("loop"):
        yield from _needed(training, {"global_batch_size": ""} if training.HasField("dataset") else {})
        return
    needed = {"dataset": "", "epochs": "", "global_batch_size": ""}
    if not training.HasField("module"):
        # A LightningModule brings its own loss and optimiser; what a module is, only the worker sees.
        needed = {
            "network": "; or name your own network in module",
            "dataset": "",
            "loss": "",
            "optimizer": "",
        } | needed
    yield from _needed(training, needed)


def _needed(training: training_pb2.TrainingSpec, fields: dict[str, str]) -> Iterator[Violation]:
    for name, hint in fields.items():
        value = getattr(training, name)
        if isinstance(value, Message):
            if not training.HasField(name):  # type: ignore[arg-type]  # names are literals to mypy
                yield Violation(name, f"is required{hint}", "required")
        elif value < 1:
            yield Violation(name, f"must be at least 1, not {value}", "int32.gte")


def _check_code(training: training_pb2.TrainingSpec) -> Iterator[Violation]:
    uses = [name for name in ("module", "loop") if training.HasField(name)]
    uses += ["a custom layer"] if has_custom_layers(training.network) else []
    if uses and not training.HasField("code"):
        yield Violation("code", f"is required for {' and '.join(uses)}: name the bundle that holds it", "required")
    if training.HasField("code") and not uses:
        description = "is not used: name an entrypoint in module or loop, or a custom layer"
        yield Violation("code", description, "code.unused")


def _check_dataset(training: training_pb2.TrainingSpec) -> Iterator[Violation]:
    dataset = training.dataset
    if not training.HasField("dataset"):
        return
    kind = dataset.WhichOneof("format")
    if kind == "images":
        yield from _check_images(dataset)
    elif not dataset.target:
        description = "is missing: name the column, or the array of an NPZ or safetensors file, to predict"
        yield Violation("dataset.target", description, "string.min_len")
    if dataset.target_kind and training.HasField("loss"):
        description = "is told by the loss; leave it out"
        yield Violation("dataset.target_kind", description, "dataset.target_kind")
    if dataset.target_kind == training_pb2.TARGET_KIND_NUMBER and kind == "images":
        yield Violation("dataset.target_kind", "of images is a class: their folder", "dataset.target_kind")
    if dataset.preprocessing.one_hot and kind not in TABULAR:
        description = f"takes columns of a table, and {kind} has none"
        yield Violation("dataset.preprocessing.one_hot", description, "preprocessing.one_hot")
    if kind == "images" and dataset.preprocessing.HasField("fill_missing"):
        description = "is not for images: they miss no values"
        yield Violation("dataset.preprocessing.fill_missing", description, "preprocessing.fill_missing")


def _check_images(dataset: training_pb2.Dataset) -> Iterator[Violation]:
    for name, given in {
        "target": dataset.target,
        "features": dataset.features,
        "input_shape": dataset.input_shape,
    }.items():
        if given:
            description = "is not for images: the folder is the class, and pixels are the input"
            yield Violation(f"dataset.{name}", description, "dataset.images")
    if dataset.split.WhichOneof("rule") == "column":
        description = "is not for images: they have no columns; use fractions or uris"
        yield Violation("dataset.split.column", description, "dataset.images")


def _check_metrics(training: training_pb2.TrainingSpec) -> Iterator[Violation]:
    kinds = [str(metric.WhichOneof("kind")) for metric in training.metrics]
    loss = training.loss.WhichOneof("kind")
    for index, kind in enumerate(kinds):
        if kind in kinds[:index] and (kind != "top_k" or training.metrics[index] in training.metrics[:index]):
            yield Violation(f"metrics[{index}]", f"{kind} is given twice", "metrics.unique")
        elif loss is not None and (kind in _CLASS_METRICS) != (loss in _CLASS_LOSSES):
            target = "a class" if kind in _CLASS_METRICS else "a number"
            description = f"{kind} is for a target that is {target}, which {loss} is not for"
            yield Violation(f"metrics[{index}]", description, "metrics.loss")
        elif kind == "top_k" and loss == "bce":
            yield Violation(f"metrics[{index}]", "top_k needs more than two classes", "metrics.loss")


def _check_augmentation(training: training_pb2.TrainingSpec) -> Iterator[Violation]:
    first = training.network.layers[0].WhichOneof("kind") if training.network.layers else None
    if first == "embedding" and (training.augmentation.noise_stddev or training.augmentation.mixup_alpha):
        description = "cannot change ids, which network.layers[0].embedding looks up"
        yield Violation("augmentation", description, "augmentation.ids")


def _check_stopping(training: training_pb2.TrainingSpec) -> Iterator[Violation]:
    """Yields what the rule that stops a training lacks, and what belongs to the other one."""
    if not training.HasField("early_stopping"):
        return
    rule = training.early_stopping
    if rule.by != training_pb2.STOPPING_RULE_VERDICT:
        if rule.patience < 1:
            description = (
                f"must be at least 1, not {rule.patience}: epochs without improvement before stopping; or write "
                "by: VERDICT, which needs no patience"
            )
            yield Violation("early_stopping.patience", description, "int32.gte")
        return
    for name in ("patience", "monitor", "min_delta"):
        if getattr(rule, name):
            description = (
                f'is not for "by: VERDICT", which asks whether the network overfits: remove {name}, or write '
                '"by: PATIENCE"'
            )
            yield Violation(f"early_stopping.{name}", description, "early_stopping.by")


def _check_loop(training: training_pb2.TrainingSpec) -> Iterator[Violation]:
    """Yields what a loop of the user's own does not heed: accepted, it would do nothing, and nobody would be told."""
    if not training.HasField("loop"):
        return
    given = {field.name for field, _ in training.ListFields()}
    if training.checkpointing.HasField("every_steps"):
        description = "is for the service's loop: yours saves when it calls context.save and context.report"
        yield Violation("checkpointing.every_steps", description, "training.loop")
    for name in _OF_THE_LOOP:
        if name in given:
            hint = "give it to context.report" if name == "metrics" else "do it there, with values from loop.args"
            yield Violation(name, f"is for the service's loop, and yours does not heed it: {hint}", "training.loop")

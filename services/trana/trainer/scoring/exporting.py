"""Writes a checkpoint's network for other programs."""

import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from google.protobuf import json_format
from safetensors.torch import save
from torch import Tensor, nn

from trana.trainer.data.preprocessing import Category, Number, Preprocessor
from trana.trainer.data.source import listed
from trana.trainer.errors import StorageError, TrainingError, UserError
from trana.trainer.scoring.checkpoint import Trained
from trana.trainer.scoring.rebuilding import Applied, code_of, rebuild
from trana.trainer.scoring.recipe import to_recipe

INPUT, OUTPUT = "features", "output"
# What Lightning sets while it traces: torch reads every property, and a module's `trainer` raises without one.
_TRACED = "_jit_is_scripting"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        path: The file.
        format: `onnx`, `torchscript` or `safetensors`.
        takes: What the network is to be given, in a sentence; empty where the file holds no network.
        gives: What it makes of it.
        preprocessing: The file that says how to make what it takes; None where the network does so itself, or there
            is nothing to do.
    """

    path: Path
    format: str
    takes: str = ""
    gives: str = ""
    preprocessing: Path | None = None


class Scaled(nn.Module):
    """Raw numbers in, as a file has them: filled and scaled in the network itself, then as the training saw them.

    Args:
        applied: The network.
        preprocessor: Without categories and ids.
        input_shape: Of one sample of the network's.
    """

    def __init__(self, applied: Applied, preprocessor: Preprocessor, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self._applied = applied
        self._input_shape = input_shape
        parts = [part for part in preprocessor.parts if isinstance(part, Number)]
        self.raw_shape = (len(parts),) if preprocessor.tabular else input_shape
        shape = (len(parts),) + (1,) * (len(self.raw_shape) - 1)
        self._fills = any(part.fill is not None for part in parts)
        # float64, as in the training: differences of large numbers must not lose their digits.
        for name, values in (
            ("_offset", [part.offset for part in parts]),
            ("_divisor", [part.divisor for part in parts]),
            ("_fill", [math.nan if part.fill is None else part.fill for part in parts]),
        ):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64).reshape(shape))

    def forward(self, raw: Tensor) -> Tensor:
        """Returns what the network makes of raw samples, float32 of shape (count, *raw_shape)."""
        values = raw.double()
        if self._fills:
            values = torch.where(torch.isnan(values), self.get_buffer("_fill"), values)
        values = (values - self.get_buffer("_offset")) / self.get_buffer("_divisor")
        return self._applied(values.float().reshape(-1, *self._input_shape))  # type: ignore[no-any-return]


def export(trained: Trained, kind: str, path: Path, *, allow_code: bool) -> Exported:
    """Writes a network.

    Args:
        trained: The checkpoint.
        kind: `safetensors` writes the weights, with the spec, the classes and the preprocessing in the metadata, and
            runs no code; `onnx` and `torchscript` write the network itself, for batches of any size.
        path: The file; one that is there is replaced.
        allow_code: Whether code of the checkpoint may run.

    Where the network that is written does not hold the preprocessing, PATH.preprocessing.json says what to do.

    Raises:
        UserError: If the network cannot be written in that format, or a package is not installed.
        StorageError: If the file cannot be written.
    """
    aside = path.with_name(f".{path.name}.part")
    try:
        if kind == "safetensors":
            aside.write_bytes(save(trained.weights(), metadata=_metadata(trained) | {"format": "pt"}))
            exported = Exported(path, kind)
        else:
            exported = _export_network(trained, kind, path, aside, allow_code=allow_code)
        aside.replace(path)
        if exported.preprocessing is not None:
            recipe = to_recipe(trained.prepared())
            exported.preprocessing.write_text(json.dumps(recipe, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        aside.unlink(missing_ok=True)
    return exported


def _export_network(trained: Trained, kind: str, path: Path, aside: Path, *, allow_code: bool) -> Exported:
    preprocessor = trained.preprocessor
    if preprocessor is None:
        raise UserError(
            f"{trained.title} is of a training without a dataset: the shape of its network's input is not known, "
            f"which {kind} needs; safetensors works"
        )
    with code_of(trained, allow_code=allow_code), torch.no_grad():
        applied = rebuild(trained)
        network, shape = _with_preprocessing(applied, preprocessor, trained.input_shape)
        number = torch.int64 if preprocessor.num_ids else torch.float32
        # Two samples: torch takes a size of one for a constant.
        example = torch.zeros(2, *shape, dtype=number)
        with _readable(kind):
            if kind == "onnx":
                _write_onnx(network, example, aside, _metadata(trained))
            else:
                _write_torchscript(network, example, aside)
    raw = network is not applied
    recipe = None if raw or _is_plain(preprocessor) else path.with_name(f"{path.name}.preprocessing.json")
    return Exported(path, kind, _takes(preprocessor, shape, recipe, raw=raw), _gives(trained), recipe)


def _with_preprocessing(
    applied: Applied, preprocessor: Preprocessor, input_shape: tuple[int, ...]
) -> tuple[nn.Module, tuple[int, ...]]:
    """Returns the network, with the preprocessing in it where that is arithmetic, and the shape of its samples."""
    if preprocessor.num_ids or any(isinstance(part, Category) for part in preprocessor.parts):
        return applied, input_shape
    # A reshape by the spec is part of it, too; but there is nothing else to do for arrays that stay as they are.
    if _is_plain(preprocessor) and (not preprocessor.tabular or input_shape == (len(preprocessor.parts),)):
        return applied, input_shape
    if not preprocessor.tabular and len(preprocessor.parts) not in (1, input_shape[0]):
        # Brought to another shape after it was scaled by channels: the shape in the file is not kept.
        return applied, input_shape
    scaled = Scaled(applied, preprocessor, input_shape).eval()
    return scaled, scaled.raw_shape


def _write_onnx(network: nn.Module, example: Tensor, path: Path, metadata: dict[str, str]) -> None:
    try:
        import onnx  # noqa: F401 - torch needs it, and says so less plainly
        import onnxscript  # noqa: F401
    except ImportError as error:
        message = "export to ONNX needs the packages onnx and onnxscript: pip install 'trana[export]'"
        raise UserError(message) from error
    # It tells of every package that it does without.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    program.model.metadata_props.update(metadata)
    program.save(path)


def _write_torchscript(network: nn.Module, example: Tensor, path: Path) -> None:
    for module in network.modules():
        if hasattr(type(module), _TRACED):
            setattr(module, _TRACED, True)
    traced = torch.jit.trace(network, (example,))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    traced.save(str(path))


@contextmanager
def _readable(kind: str) -> Iterator[None]:
    """Says in a line what torch's exporters say in pages; their warnings are for whoever works on them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (TrainingError, OSError):
        raise
    except Exception as error:
        line = next((line for line in str(error).splitlines() if line.strip()), "")
        raise UserError(f"torch cannot write this network as {kind}: {type(error).__name__}: {line}") from error


def _metadata(trained: Trained) -> dict[str, str]:
    """Returns what a reader needs beside the weights, each a JSON text."""
    preprocessor = trained.preprocessor
    spec = json_format.MessageToDict(trained.spec, preserving_proto_field_name=True)
    return {
        "spec": json.dumps(spec),
        "classes": json.dumps(trained.classes),
        "input_shape": json.dumps(trained.input_shape),
        "preprocessing": "null" if preprocessor is None else preprocessor.to_json(),
        "epoch": json.dumps(trained.state.get("epoch")),
        "val_loss": json.dumps(trained.state.get("val_loss")),
    }


def _takes(preprocessor: Preprocessor, shape: tuple[int, ...], recipe: Path | None, *, raw: bool) -> str:
    number = "int64" if preprocessor.num_ids else "float32"
    names = listed(preprocessor.names if raw else preprocessor.feature_names)
    begin = f"{INPUT}: {number} of shape (batch, {', '.join(map(str, shape))}), {names}"
    if raw:
        return f"{begin}; raw, as in the file: the preprocessing is part of the network"
    if recipe is None:
        return f"{begin}; as in the file"
    return f"{begin}; they MUST be preprocessed first, as {recipe.name} beside it says"


def _is_plain(preprocessor: Preprocessor) -> bool:
    return all(isinstance(part, Number) and part.is_plain for part in preprocessor.parts)


def _gives(trained: Trained) -> str:
    if not trained.classes:
        return f"{OUTPUT}: the value"
    if trained.spec.loss.WhichOneof("kind") == "bce":
        return f"{OUTPUT}: the logit of {trained.classes[1]}; its sigmoid is the probability"
    return f"{OUTPUT}: a logit for each of {listed(trained.classes)}; their softmax are the probabilities"

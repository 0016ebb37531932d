"""What a checkpoint's network says of samples."""

import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from pyarrow import csv, parquet
from torch import Tensor

from trana.trainer.data.raw import read_raw
from trana.trainer.errors import StorageError, UserError
from trana.trainer.feeding import feed_of
from trana.trainer.place import Place
from trana.trainer.scoring.checkpoint import Trained
from trana.trainer.scoring.rebuilding import code_of, rebuild

_STANDARD_OUTPUT = "-"


@torch.no_grad()
def predict(trained: Trained, uri: str, place: Place, *, allow_code: bool) -> pa.Table:
    """Predicts all samples of a file, which needs no target column.

    Args:
        trained: The checkpoint.
        uri: Of the file.
        place: Of this process alone.
        allow_code: Whether code of the checkpoint may run.

    Returns:
        One row for each sample, in the order of the file: `row`, its index from 0; `prediction`, the likeliest class
        or the value (`prediction_0`, ... where there are several); and of a class also its `probability_{class}`, for
        each class.

    Raises:
        TrainingError: If the data do not fit, or the network cannot be made.
    """
    samples = read_raw(trained.spec.dataset, uri, trained.prepared(), trained.classes, with_target=False)
    with code_of(trained, allow_code=allow_code):
        network = rebuild(trained).to(place.device)
        feed = feed_of(samples, seed=trained.spec.seed, place=place)
        output = torch.cat([_checked(network(batch.features), len(batch)).cpu() for _, batch in feed.chunks()])
    columns = _classes(output, trained.classes) if trained.classes else _values(output)
    return pa.table({"row": samples.rows, **columns})


def write(table: pa.Table, to: str) -> None:
    """Writes predictions.

    Args:
        table: As `predict` returned it.
        to: A path that ends in .csv or .parquet; or - for standard output, as CSV.

    Raises:
        StorageError: If the file cannot be written.
    """
    if to == _STANDARD_OUTPUT:
        _write_out(table)
        return
    path = Path(to)
    aside = path.with_name(f".{path.name}.part")
    try:
        if path.suffix.lower() == ".parquet":
            parquet.write_table(table, aside)
        else:
            csv.write_csv(table, aside)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error


def _write_out(table: pa.Table) -> None:
    try:
        csv.write_csv(table, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` has; Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _checked(output: object, count: int) -> Tensor:
    if not isinstance(output, Tensor) or output.ndim == 0 or len(output) != count:
        given = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise UserError(f"the network gives {given} for {count} samples; one tensor with a row for each is needed")
    return output.detach().float()


def _classes(output: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    flat = output.reshape(len(output), -1)
    if flat.shape[1] == 1 and len(classes) == 2:
        # Binary cross entropy: the logit of the second class. A tie is the first, as accuracy counts it.
        second = torch.sigmoid(flat[:, 0].double())
        probabilities = torch.stack([1 - second, second], 1)
        likeliest = (flat[:, 0] > 0).long()
    elif flat.shape[1] == len(classes):
        probabilities, likeliest = torch.softmax(flat.double(), 1), flat.argmax(1)
    else:
        raise UserError(
            f"the network gives {flat.shape[1]} numbers for each sample, but there are {len(classes)} classes"
        )
    columns: dict[str, Any] = {"prediction": [classes[index] for index in likeliest.tolist()]}
    return columns | {f"probability_{name}": probabilities[:, index].numpy() for index, name in enumerate(classes)}


def _values(output: Tensor) -> dict[str, Any]:
    flat = output.reshape(len(output), -1)
    if flat.shape[1] == 1:
        return {"prediction": flat[:, 0].numpy()}
    return {f"prediction_{index}": flat[:, index].numpy() for index in range(flat.shape[1])}

"""The network, layer by layer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trana.v1 import job_pb2, network_pb2

_MOST_LAYERS = 400


@dataclass(frozen=True, slots=True)
class LayerRow:
    """A row of the table: a layer, or many of which there is no room for each.

    Attributes:
        name: Where it is in the network.
        kind: What it is.
        shape: What it gives for one sample; empty where that is not known.
        parameters: Learned parameters; None where that is not known.
        share: Of the parameters of the network, 0 to 1.
    """

    name: str
    kind: str
    shape: str
    parameters: int | None
    share: float


def layer_rows(job: job_pb2.Job) -> list[LayerRow]:
    """Returns the layers as they were built; as they were declared where no worker has built them yet."""
    if not job.layers:
        return list(_declared(job.spec.training.network.layers, ""))[:_MOST_LAYERS]
    total = sum(layer.num_parameters for layer in job.layers)
    rows = [
        LayerRow(
            name=layer.name,
            kind=layer.kind,
            shape=" × ".join(f"{side:,}" for side in layer.output_shape),
            parameters=layer.num_parameters,
            share=layer.num_parameters / total if total else 0.0,
        )
        for layer in job.layers
    ]
    return _shortened(rows)


def _shortened(rows: list[LayerRow]) -> list[LayerRow]:
    """Sums up the middle of a network that no page has room for."""
    if len(rows) <= _MOST_LAYERS:
        return rows
    half = _MOST_LAYERS // 2
    left_out = rows[half:-half]
    parameters = sum(row.parameters or 0 for row in left_out)
    summary = LayerRow("…", f"{len(left_out):,} more layers", "", parameters, sum(row.share for row in left_out))
    return [*rows[:half], summary, *rows[-half:]]


def _declared(layers: Sequence[network_pb2.Layer], prefix: str) -> Iterator[LayerRow]:
    for index, layer in enumerate(layers):
        yield LayerRow(f"{prefix}{index}", layer.WhichOneof("kind") or "", "", None, 0.0)
        yield from _declared(layer.residual.layers, f"{prefix}{index}.")

"""Which parts a training needs, whichever way in it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import json_format
from trana.spec.read import parse_job
from trana.spec.validate import validate

DATASET = """
  dataset:
    csv: {uri: a.csv}
    target: y
    split: {fractions: {validation: 0.2}}
"""
CODE = "\n  code: {bundle: .}"
MODULE = '\n  module: {entrypoint: "model:Net", args: {width: 3}}'
LOOP = '\n  loop: {entrypoint: "train:train"}'
NETWORK = "\n  network: {layers: [{linear: {out_features: 1}}]}"
RUN = "\n  epochs: 3\n  global_batch_size: 8"
LOSS = "\n  loss: mse"
OPTIMIZER = "\n  optimizer: {sgd: {learning_rate: 0.1}}"
DECLARED = NETWORK + DATASET + LOSS + OPTIMIZER + RUN
IMAGES = """
  dataset:
    images: {uri: flowers, height: 8, width: 8}
    split: {fractions: {validation: 0.2}}
"""
GATE = '\n  network: {layers: [{custom: {entrypoint: "mine:Gate"}}, {linear: {out_features: 1}}]}'


def wrong(training: str) -> list[str]:
    """The fields of a training that are wrong."""
    text = f"training:{training}\nresources: {{num_workers: 1}}"
    return [
        found.field.removeprefix("training.") for found in validate(parse_job(text, base=Path("/data"), source="x"))
    ]


@pytest.mark.parametrize(
    "training",
    [
        pytest.param(DECLARED, id="declared"),
        pytest.param(CODE + GATE + DATASET + LOSS + OPTIMIZER + RUN, id="custom layer"),
        pytest.param(CODE + MODULE + DATASET + LOSS + OPTIMIZER + RUN, id="module"),
        pytest.param(CODE + MODULE + DATASET + RUN, id="lightning"),
        pytest.param(CODE + LOOP, id="loop alone"),
        pytest.param(DECLARED + "\n  early_stopping: {patience: 1}", id="stopped by patience"),
        pytest.param(DECLARED + "\n  early_stopping: {by: verdict, start_from_epoch: 5}", id="stopped by the verdict"),
        pytest.param(CODE + LOOP + "\n  early_stopping: {by: VERDICT}", id="loop alone, stopped by the verdict"),
        pytest.param(CODE + LOOP + NETWORK + DATASET + "\n  global_batch_size: 8", id="declared, own loop"),
        pytest.param(CODE + LOOP + MODULE + DATASET + "\n  global_batch_size: 8", id="module, own loop"),
        pytest.param(CODE + MODULE + IMAGES + "\n  loss: cross_entropy" + OPTIMIZER + RUN, id="images"),
    ],
)
def test_every_way_in_is_valid(training: str) -> None:
    assert wrong(training) == []


@pytest.mark.parametrize(
    ("training", "fields"),
    [
        (CODE + MODULE + NETWORK + DATASET + LOSS + OPTIMIZER + RUN, ["network"]),
        (MODULE + DATASET + LOSS + OPTIMIZER + RUN, ["code"]),
        (GATE + DATASET + LOSS + OPTIMIZER + RUN, ["code"]),
        (LOOP, ["code"]),
        (CODE + DECLARED, ["code"]),
        (CODE + MODULE, ["dataset", "epochs", "global_batch_size"]),
        (CODE + LOOP + DATASET, ["global_batch_size"]),
        (CODE + LOOP + OPTIMIZER + "\n  precision: bf16\n  ema: {decay: 0.9}", ["optimizer", "precision", "ema"]),
        (CODE + LOOP + "\n  metrics: [accuracy]", ["metrics"]),
        (CODE + LOOP + "\n  checkpointing: {every_steps: 5}", ["checkpointing.every_steps"]),
        (DECLARED + "\n  early_stopping: {min_delta: 0.1}", ["early_stopping.patience"]),
        (DECLARED + "\n  early_stopping: {by: patience}", ["early_stopping.patience"]),
        (DECLARED + "\n  early_stopping: {by: patience, patience: -1}", ["early_stopping.patience"]),
        (CODE + LOOP + "\n  early_stopping: {by: VERDICT, patience: 3}", ["early_stopping.patience"]),
        (
            DECLARED + "\n  early_stopping: {by: verdict, monitor: val_loss, min_delta: 0.1}",
            ["early_stopping.monitor", "early_stopping.min_delta"],
        ),
        (CODE + "\n  loop: {entrypoint: train}", ["loop.entrypoint"]),
        ('\n  code: {bundle: ., pip: ["--index-url x"]}' + LOOP, ["code.pip[0]"]),
        (DECLARED + "\n  metrics: [mae, accuracy, mae]", ["metrics[1]", "metrics[2]"]),
        (NETWORK + DATASET.rstrip() + "\n    target_kind: number" + LOSS + OPTIMIZER + RUN, ["dataset.target_kind"]),
        (
            CODE + MODULE + IMAGES.rstrip() + "\n    target: y\n    preprocessing: {one_hot: [a]}" + RUN,
            ["dataset.target", "dataset.preprocessing.one_hot"],
        ),
        (
            CODE + MODULE + DATASET.rstrip() + "\n    preprocessing: {one_hot: [y]}" + RUN,
            ["dataset.preprocessing.one_hot[0]"],
        ),
        (DECLARED + "\n  initial_checkpoint: jobs/a/checkpoints/x", ["initial_checkpoint"]),
    ],
)  # fmt: skip
def test_what_is_missing_or_does_nothing_is_named(training: str, fields: list[str]) -> None:
    assert wrong(training) == fields


def test_arguments_of_an_entrypoint_keep_their_kinds() -> None:
    given = "{n: 3, x: 2.5, on: yes, name: a, day: 2024-01-02, deep: [1, {k: null}]}"
    text = f'training:\n  loop: {{entrypoint: "a:b", args: {given}}}'
    args = json_format.MessageToDict(parse_job(text, base=Path("/data"), source="x").training.loop.args)
    # A date has no place in the contract, and stays as it was written.
    assert args == {"n": 3, "x": 2.5, "on": True, "name": "a", "day": "2024-01-02", "deep": [1, {"k": None}]}


def test_patience_beside_the_verdict_is_told_both_ways_out() -> None:
    text = f"training:{DECLARED}\n  early_stopping: {{by: VERDICT, patience: 3}}\nresources: {{num_workers: 1}}"
    (violation,) = validate(parse_job(text, base=Path("/data"), source="x"))
    assert violation.description == (
        'is not for "by: VERDICT", which asks whether the network overfits: remove patience, or write "by: PATIENCE"'
    )

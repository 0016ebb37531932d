"""All wrong fields of a spec are told at once, each with what may have been meant."""

from pathlib import Path

import pytest
from trana.spec import naming
from trana.spec.read import SpecError, parse_job
from trana.v1 import job_pb2

WRONG = """
name: digits
slots: 2
training:
  epoch: 3
  dataset: {csv: {path: d.csv}, labels: digit}
  network:
    layers:
      - linear: {units: 5}
      - rleu
      - linear: {out: 10, bias: perhaps}
  optimizer: {adam: {lr: 0.1}}
  early_stopping: {by: verdikt}
resources: {epochs: 5, workers: 1}
"""


def wrongs(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_job(text, base=Path("/jobs"), source="job.yaml")
    return str(caught.value).splitlines()


def test_all_wrong_fields_are_told_at_once_in_the_order_of_the_file() -> None:
    told = wrongs(WRONG)
    expected = [
        "line 2: name: there is no such field; did you mean display_name?",
        "line 3: slots: there is no such field; did you mean resources.num_workers?",
        "line 5: training.epoch: there is no such field; did you mean epochs?",
        "line 6: training.dataset.csv.path: there is no such field; did you mean uri?",
        "line 6: training.dataset.labels: there is no such field; did you mean target?",
        "line 9: training.network.layers[0].linear.units: there is no such field; did you mean out_features?",
        "line 10: training.network.layers[1]: there is no 'rleu'; did you mean relu?",
        "line 11: training.network.layers[2].linear.out: there is no such field; did you mean out_features?",
        "line 11: training.network.layers[2].linear.bias: needs true or false, not 'perhaps'",
        "line 12: training.optimizer.adam.lr: there is no such field; did you mean learning_rate?",
        "line 13: training.early_stopping.by: there is no 'verdikt'; did you mean VERDICT? Known: PATIENCE, VERDICT",
        "line 14: resources.epochs: there is no such field; did you mean training.epochs?",
        "line 14: resources.workers: there is no such field; did you mean num_workers?",
    ]
    assert len(told) == len(expected)
    for line, start in zip(told, expected, strict=True):
        assert line.startswith(f"job.yaml, {start}")


def test_of_very_many_wrong_fields_the_first_are_told() -> None:
    told = wrongs("\n".join(f"field_{number}: 1" for number in range(30)))
    assert len(told) == 21
    assert told[-1] == "job.yaml: and 10 more such errors"


def test_a_field_with_many_places_is_not_guessed_at() -> None:
    assert naming.suggest("zzz", job_pb2.JobSpec.DESCRIPTOR).startswith("known: display_name")
    assert "did you mean" not in naming.suggest("uri", job_pb2.JobSpec.DESCRIPTOR)


@pytest.mark.parametrize("field", sorted(set(naming.SYNONYMS.values())))
def test_each_synonym_means_a_field_of_the_contract(field: str) -> None:
    assert field in naming._places()

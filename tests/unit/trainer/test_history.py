import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from trana.trainer import progress, saving
from trana.trainer.progress import to_lines
from trana.v1 import epoch_pb2
from unit.trainer.specs import make_spec
from unit.trainer.training import run


def test_lines_are_kept_for_the_epochs_of_the_history_alone() -> None:
    epochs = [epoch_pb2.Epoch(epoch=number, val_loss=0.5) for number in range(1, 6)]
    lines = to_lines(epochs[:3], {})
    assert list(to_lines(epochs[2:], lines)) == [3, 4, 5]
    assert [json.loads(line)["epoch"] for line in to_lines(epochs[2:], lines).values()] == [3, 4, 5]


def test_a_line_is_written_once() -> None:
    epochs = [epoch_pb2.Epoch(epoch=number) for number in (1, 2)]
    assert to_lines(epochs, {1: "as before\n"})[1] == "as before\n"


def test_a_checkpoint_holds_the_newest_epochs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []

    def count(history: Iterable[epoch_pb2.Epoch], written: Mapping[int, str]) -> dict[int, str]:
        kept.append(len(written))
        return to_lines(history, written)

    monkeypatch.setattr(progress, "_MAX_HISTORY", 2)
    monkeypatch.setattr(saving, "to_lines", count)
    lines = run(make_spec(epochs=4), tmp_path).file("last", "history.jsonl").decode().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [3, 4]
    assert kept == [0, 1, 2, 2]

"""What anyone needs to use a checkpoint lies in it."""

import io
import json
import zipfile
from pathlib import Path

import pytest
import torch
from trana.trainer.checkpoint import Checkpoints, Contents
from trana.trainer.data.preprocessing import Preprocessor
from trana.trainer.errors import StorageError
from trana.trainer.publish import BEST, LAST, Header
from trana.v1 import training_pb2
from unit.trainer.specs import make_spec
from unit.trainer.training import place, run

WEIGHTS = {"w": torch.arange(3.0)}


def checkpoints(folder: Path, *, code: Path | None = None, attempt: int = 1) -> Checkpoints:
    return Checkpoints(make_spec(), None, place(folder, attempt=attempt, code=code))


def test_loop_of_its_own_keeps_what_it_likes_and_finds_it_again(tmp_path: Path) -> None:
    first = checkpoints(tmp_path)
    assert first.take_over() == ""
    best = first.publish(Header(BEST, 1, 0.5, step=7), Contents({"network": WEIGHTS}))
    contents = Contents({"network": WEIGHTS, "mine": {"x": torch.ones(2)}}, notes={"user": {"a": [1]}})
    last = Header(LAST, 1, 0.5, Path(best.uri).name, step=9, position=2)
    published = first.publish(last, Contents(contents.tensors, contents.notes, {"log.txt": b"text"}, {"lr": 0.1}))
    assert (published.epoch, published.step, published.val_loss) == (1, 9, 0.5)
    second = checkpoints(tmp_path, attempt=2)
    name = second.take_over()
    assert name == "000001-step-000002-last-attempt-1"
    assert second.read_tensors(name, "mine")["x"].tolist() == [1, 1]
    assert second.read_tensors(name, "other") == {}
    assert second.read_notes(name, "user") == {"a": [1]}
    assert second.read_text(name, "log.txt") == b"text"
    state = second.read_notes(name, "state")
    assert (state["lr"], state["step"], state["val_loss"]) == (0.1, 9, 0.5)
    with pytest.raises(StorageError, match="cannot be read"):
        second.read_text(name, "nothing.txt")


@pytest.mark.parametrize("form", ["zip", "folder", "file"])
def test_code_is_kept_as_an_archive(tmp_path: Path, form: str) -> None:
    source = tmp_path / "source"
    (source / "package" / "__pycache__").mkdir(parents=True)
    (source / "model.py").write_text("x = 1\n")
    (source / "package" / "__init__.py").write_text("")
    (source / "package" / "__pycache__" / "old.pyc").write_bytes(b"")
    # Where the checkpoints of an earlier training lie: packed, each would hold all before it.
    (source / ".trana").mkdir()
    (source / ".trana" / "network.safetensors").write_bytes(b"")
    code, names = source, ["model.py", "package/__init__.py"]
    if form == "file":
        # What the file can import from beside it comes along.
        code = source / "model.py"
    elif form == "zip":
        code = tmp_path / "bundle.zip"
        with zipfile.ZipFile(code, "w") as archive:
            archive.write(source / "model.py", "model.py")
        names = ["model.py"]
    contents = []
    for job in ("one", "two"):
        kept = checkpoints(tmp_path / job, code=code)
        kept.take_over()
        kept.publish(Header(BEST, 1, 0.5), Contents({"network": WEIGHTS}))
        contents.append(kept.read_text("best", "code.zip"))
    assert contents[0] == contents[1]
    with zipfile.ZipFile(io.BytesIO(contents[0])) as archive:
        assert archive.namelist() == names
        assert archive.read("model.py") == b"x = 1\n"


def test_training_keeps_how_its_input_was_made(tmp_path: Path) -> None:
    spec = make_spec(epochs=1)
    spec.dataset.preprocessing.scaling = training_pb2.SCALING_STANDARDIZE
    trained = run(spec, tmp_path)
    for kind in ("best", "last"):
        preprocessor = Preprocessor.from_json(trained.file(kind, "preprocessing.json").decode())
        assert [part.offset != 0 for part in preprocessor.parts] == [True] * 4  # type: ignore[union-attr]
    state = json.loads(trained.file("best", "state.json"))
    assert state["classes"] == ["setosa", "versicolor", "virginica"]
    assert (state["input_shape"], state["epoch"], state["step"], state["world_size"]) == ([4], 1, 6, 1)

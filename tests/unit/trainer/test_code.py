import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import struct_pb2
from trana.trainer.code import code_folder, make, opened, resolve, to_python
from trana.trainer.errors import UserCodeError, UserError
from trana.trainer.foreign import translated
from unit.trainer.coding import write_code, zipped


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_code(
        tmp_path / "bundle", model="from part import VALUE\nclass Net: pass\nsize = 3\n", part="VALUE = 7"
    )


def structure(**args: Any) -> struct_pb2.Struct:
    message = struct_pb2.Struct()
    message.update(args)
    return message


@pytest.mark.parametrize("form", ["folder", "zip", "file"])
def test_code_is_importable_while_it_is_open(
    bundle: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    places = {"folder": bundle, "zip": zipped(bundle, tmp_path / "bundle.zip"), "file": bundle / "model.py"}
    before, path = Path.cwd(), list(sys.path)
    with opened(places[form]) as folder:
        assert folder is not None
        assert code_folder() == folder == Path.cwd()
        assert resolve("model:Net").__module__ == "model"
        # Files that came with the code are found by their names.
        assert Path("part.py").read_text() == "VALUE = 7"
        assert not list(folder.rglob("__pycache__"))
    assert (Path.cwd(), sys.path, code_folder()) == (before, path, None)
    assert "model" not in sys.modules
    assert "part" not in sys.modules


def test_next_bundle_may_have_modules_of_the_same_names(bundle: Path, tmp_path: Path) -> None:
    with opened(bundle):
        resolve("model:Net")
    with opened(write_code(tmp_path / "other", model="class Other: pass")):
        assert resolve("model:Other").__name__ == "Other"


def test_archive_is_unpacked_for_one_process_and_removed(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    archive = zipped(bundle, tmp_path / "bundle.zip")
    home = tmp_path / f"trana-code-{os.getuid()}"
    stale = home / "of-a-process-that-was-killed"
    with opened(archive) as first:
        stale.mkdir()
        assert home.stat().st_mode & 0o077 == 0
        with opened(archive) as second:
            assert first is not None
            assert first != second
            # What a living process holds stays; what nobody holds is swept.
            assert first.exists()
            assert not stale.exists()
    assert list(home.iterdir()) == []


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(UserError, match="neither a folder"), opened(tmp_path / "text.zip"):
        pass
    with pytest.raises(UserError, match="there is no file"), opened(tmp_path / "gone.py"):
        pass


@pytest.mark.parametrize(
    ("entrypoint", "message"),
    [
        ("net:Net", "the code has no module net; it has model, part"),
        ("deep.net:Net", "the code has no module deep.net; it has model, part"),
        ("model:Nets", "module model has no Nets; it has Net"),
        ("model:size", "size is a int; name a class or a function"),
    ],
)
def test_entrypoint_that_leads_nowhere_says_what_there_is(bundle: Path, entrypoint: str, message: str) -> None:
    with opened(bundle), pytest.raises(UserError, match=message):
        resolve(entrypoint)


def test_module_that_is_called_as_one_of_pythons_is_refused(tmp_path: Path) -> None:
    with opened(write_code(tmp_path, json="class Net: pass")), pytest.raises(UserError, match="rename yours"):
        resolve("json:Net")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import torchvisionx\n", "model.py imports torchvisionx, .* pip install torchvisionx"),
        ("from bs4 import BeautifulSoup\n", r"code: \{pip: \[beautifulsoup4\]\}"),
        ("from skimage.io import imread\n", "pip install scikit-image"),
        ("import part.deeper\n", "model.py imports part.deeper, which the code does not have"),
        ("def broken(:\n    pass\n", r"model.py, line 1: .*: def broken\(:"),
    ],
)
def test_import_that_fails_says_how_to_mend_it(bundle: Path, text: str, message: str) -> None:
    write_code(bundle, model=text)
    with pytest.raises(UserError, match=message), opened(bundle) as folder, translated(folder):
        resolve("model:Net")


def test_error_of_the_code_is_told_in_its_own_frames(bundle: Path) -> None:
    write_code(bundle, model="import json\n\ndef Net():\n    json.loads('{')\n")
    with pytest.raises(UserCodeError) as caught, opened(bundle) as folder, translated(folder):
        make("model:Net", structure(), offered={})
    assert str(caught.value).startswith("JSONDecodeError: ")
    assert str(caught.value).endswith(", in Net at line 4 of model.py")
    (note,) = caught.value.__notes__
    assert "  File \"model.py\", line 4, in Net\n    json.loads('{')" in note
    assert "decoder" not in note


def test_sys_exit_is_an_error_of_the_code(bundle: Path) -> None:
    write_code(bundle, model="import sys\n\ndef Net():\n    sys.exit(0)\n")
    told = r"called sys.exit\(0\) in Net at line 4 of model.py"
    with pytest.raises(UserCodeError, match=told), opened(bundle) as folder, translated(folder):
        make("model:Net", structure(), offered={})


def test_args_are_as_python_knows_them() -> None:
    args = to_python(structure(width=64, rate=0.5, sizes=[1, 2.5, {"deep": 3}], name="a", on=True, off=None))
    assert args == {"width": 64, "rate": 0.5, "sizes": [1, 2.5, {"deep": 3}], "name": "a", "on": True, "off": None}
    assert [type(value) for value in (args["width"], args["sizes"][2]["deep"], args["on"])] == [int, int, bool]


def test_what_is_offered_is_given_to_who_asks_for_it(bundle: Path) -> None:
    write_code(bundle, model="def ask(width, num_classes): return width, num_classes\ndef silent(width): return width")
    offered = {"num_classes": 3, "input_shape": (4,)}
    with opened(bundle):
        assert make("model:ask", structure(width=8), offered=offered) == (8, 3)
        assert make("model:ask", structure(width=8, num_classes=5), offered=offered) == (8, 5)
        assert make("model:silent", structure(width=8), offered=offered) == 8
        with pytest.raises(UserError, match=r"cannot take its args: .*'depth'; it is silent\(width\)"):
            make("model:silent", structure(width=8, depth=8), offered=offered)


def test_keras_finds_the_torch_backend(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with opened(bundle):
        assert os.environ["KERAS_BACKEND"] == "torch"
    assert os.environ["KERAS_BACKEND"] == "tensorflow"

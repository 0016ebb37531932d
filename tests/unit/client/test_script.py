from pathlib import Path
from typing import Any

import pytest
from trana.client import InvalidRequest
from trana.client.command.app import app
from trana.client.command.script import read_script
from trana.spec.validate import validate
from typer.testing import CliRunner, Result

GOOD, WRONG_USAGE = 0, 2


def script(tmp_path: Path, text: str, name: str = "train.py") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("def train(context):\n    pass", "train"),
        ("def main(context): pass", "main"),
        ("def main(c): pass\ndef train(c): pass", "train"),
        ("def train(): pass\ndef main(context): pass", "main"),
        ("def train(context, epochs=3, *, rate=0.1): pass", "train"),
        ("def train(*all): pass", "train"),
    ],
)
def test_the_function_that_takes_a_context_is_the_loop(tmp_path: Path, text: str, function: str) -> None:
    spec = read_script(script(tmp_path, text, "digits.py"))
    assert spec.training.loop.entrypoint == f"digits:{function}"
    assert spec.training.code.bundle == (tmp_path / "digits.py").as_uri()
    assert spec.display_name == "digits"
    assert validate(spec) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import torch\n", "there is no loop in it: define a function `def train"),
        ("class A:\n    def train(self): pass", "there is no loop"),
        ("\ndef train(): pass", "line 2: def train[(][)] cannot be called with one argument"),
        ("def main(a, b): pass", "def main[(]a, b[)] cannot be called"),
        ("def train(c, *, rate): pass", "cannot be called"),
        ("async def train(context): pass", "async def train"),
        ("x = 1\ndef train(context:\n", "line 2: not Python"),
        ("\0", "not Python"),
    ],
)
def test_a_file_without_a_loop_is_refused_with_what_to_define(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        read_script(script(tmp_path, text))


def test_a_name_that_no_module_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"rename the file, such as my_train\.py"):
        read_script(script(tmp_path, "def train(context): pass", "my-train.py"))
    with pytest.raises(InvalidRequest, match=r"such as train_2nd\.py"):
        read_script(script(tmp_path, "def train(context): pass", "2nd.py"))
    with pytest.raises(InvalidRequest, match="cannot be read: No such file"):
        read_script(tmp_path / "absent.py")


def test_the_file_is_read_and_not_run(tmp_path: Path) -> None:
    read_script(script(tmp_path, "raise SystemExit\ndef train(context): pass"))


def invoke(host: Any, *arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["--server", host.address, *map(str, arguments)])


def test_submit_takes_a_script_in_one_go(host: Any, service: Any, tmp_path: Path) -> None:
    path = script(tmp_path, "def train(context): pass")
    options = ("--workers", "4", "--epochs", "7", "--gpus", "1", "--pip", "einops>=0.8", "--pip", "lightning")
    assert invoke(host, "submit", path, *options).exit_code == GOOD
    spec = service.requests[-1].spec
    assert (spec.resources.num_workers, spec.resources.gpus_per_worker, spec.training.epochs) == (4, 1, 7)
    assert list(spec.training.code.pip) == ["einops>=0.8", "lightning"]
    assert [spec.training.code.bundle] == list(service.bundles)


def test_a_script_can_be_validated_only(host: Any, service: Any, tmp_path: Path) -> None:
    result = invoke(host, "submit", script(tmp_path, "def main(context): pass"), "--validate-only")
    assert result.stdout == "The job is valid. Nothing was submitted.\n"
    assert service.requests[-1].validate_only


def test_what_is_wrong_with_a_script_is_2(host: Any, service: Any, tmp_path: Path, spec_file: Path) -> None:
    result = invoke(host, "submit", script(tmp_path, "x = 1"))
    assert result.exit_code == WRONG_USAGE
    assert "`def train(context):` or `def main(context):`" in result.stderr
    assert invoke(host, "run", script(tmp_path, "x = 1")).exit_code == WRONG_USAGE
    assert invoke(host, "submit", spec_file, "--pip", "einops").exit_code == WRONG_USAGE
    assert service.requests == []


def test_arguments_of_a_loop_are_read_as_yaml(host: Any, service: Any, tmp_path: Path) -> None:
    given = ("depth=3", "rate=1e-3", "name=a=b", "fast=true", "day=2024-01-01", "nothing=null", "empty=")
    options = [part for text in given for part in ("--arg", text)]
    assert invoke(host, "submit", script(tmp_path, "def train(context, **args): pass"), *options).exit_code == GOOD
    assert dict(service.requests[-1].spec.training.loop.args) == {
        "depth": 3, "rate": 0.001, "name": "a=b", "fast": True, "day": "2024-01-01", "nothing": None, "empty": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [("depth", "KEY=VALUE"), ("=3", "KEY=VALUE"), ("depth=[1, 2]", "a spec takes lists"), ("depth=.nan", "finite"),
     ("depth=[", "cannot be read"), ("depth={a: 1}", "a spec takes lists")],
)  # fmt: skip
def test_arguments_that_are_written_otherwise_are_wrong_usage(
    host: Any, service: Any, tmp_path: Path, text: str, words: str
) -> None:
    path = script(tmp_path, "def train(context, **args): pass")
    for command in ("submit", "run"):
        result = invoke(host, command, path, "--arg", text)
        assert result.exit_code == WRONG_USAGE
        assert words in " ".join(result.stderr.replace("│", " ").split())
    assert service.requests == []


def test_arguments_need_a_loop(host: Any, service: Any, spec_file: Path) -> None:
    result = invoke(host, "submit", spec_file, "--arg", "depth=3")
    assert result.exit_code == WRONG_USAGE
    assert "has no loop" in " ".join(result.stderr.replace("│", " ").split())
    assert service.requests == []

"""A job of a .py file alone: its function `train` or `main` is the loop."""

import ast
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trana.client.errors import InvalidRequest
    from trana.v1 import job_pb2

# The first that there is counts.
_NAMES = ("train", "main")
_HOW = "define a function `def train(context):` or `def main(context):`, which the workers call"


def read_script(path: Path) -> "job_pb2.JobSpec":
    """Makes a job whose loop is a function of a .py file; the file is read, not run.

    The code is the file, with the modules and packages beside it; the job is called as the file is, and has one worker.

    Raises:
        InvalidRequest: If the file cannot be read, is not Python, cannot be imported by its name, or has no such
            function.
    """
    from trana.v1 import code_pb2, job_pb2, training_pb2

    function = _find(_parse(path), path)
    stem = path.stem
    if not stem.isidentifier() or not stem.isascii():
        raise _wrong(f"{path}: no module can be called {stem!r}: rename the file, such as {_renamed(stem)}.py")
    training = training_pb2.TrainingSpec(
        loop=code_pb2.Loop(entrypoint=f"{stem}:{function}"), code=code_pb2.Code(bundle=path.resolve().as_uri())
    )
    return job_pb2.JobSpec(display_name=stem, training=training, resources=job_pb2.Resources(num_workers=1))


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except OSError as error:
        raise _wrong(f"{path}: cannot be read: {error.strerror or error}") from error
    except SyntaxError as error:
        raise _wrong(f"{path}, line {error.lineno or 1}: not Python: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise _wrong(f"{path}: not Python: {error}") from error


def _find(module: ast.Module, path: Path) -> str:
    found = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for name in _NAMES:
        function = found.get(name)
        if isinstance(function, ast.FunctionDef) and _takes_one(function.args):
            return name
    for name in _NAMES:
        if name in found:
            given = f"{'async ' if isinstance(found[name], ast.AsyncFunctionDef) else ''}def {name}"
            problem = f"{given}({ast.unparse(found[name].args)}) cannot be called with one argument, the context"
            raise _wrong(f"{path}, line {found[name].lineno}: {problem}; {_HOW}")
    raise _wrong(f"{path}: there is no loop in it: {_HOW}")


def _takes_one(arguments: ast.arguments) -> bool:
    """Whether a function can be called with one argument by position."""
    positional = len(arguments.posonlyargs) + len(arguments.args)
    takes = positional >= 1 or arguments.vararg is not None
    return takes and positional - len(arguments.defaults) <= 1 and None not in arguments.kw_defaults


def _renamed(stem: str) -> str:
    letters = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in stem)
    return letters if letters.isidentifier() else f"train_{letters}"


def _wrong(problem: str) -> "InvalidRequest":
    from trana.client.errors import InvalidRequest

    return InvalidRequest(problem, code="INVALID_ARGUMENT", reason="UNREADABLE_SPEC")

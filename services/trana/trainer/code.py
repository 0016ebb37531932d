"""The user's code: found, made importable for as long as it is needed, and called.

A bundle is a zip archive, which is unpacked into a folder of this process alone, or a folder or a .py file, which is
used where it is. While it is open, its folder is the first place that modules are imported from, and the working
directory, so that files that came with the code are found by their names.
"""

import fcntl
import importlib
import inspect
import os
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.protobuf import json_format, struct_pb2

from trana.trainer.errors import StorageError, UserError

# Keras reads it once, when it is imported.
_KERAS_BACKEND = "KERAS_BACKEND"
_MAX_NAMES = 20
# torch would broadcast the two against each other, and the loss would fall towards the mean of the targets.
_UNEQUAL_SHAPES = "Using a target size"

# As sys.path is the process's, so is what stands first in it.
_opened: list[Path] = []


@contextmanager
def opened(code: Path | None) -> Iterator[Path | None]:
    """Makes the modules of a bundle importable in this process, and torch's warning of unequal shapes an error.

    Args:
        code: A zip archive, a folder, or a .py file, whose folder counts; None where there is no code.

    Yields:
        The folder that the modules are in.

    Raises:
        UserError: If it is none of these.
        StorageError: If it cannot be read, or not unpacked.
    """
    if code is None:
        yield None
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("error", _UNEQUAL_SHAPES, UserWarning)
        if code.is_dir() or code.suffix == ".py":
            if not code.exists():
                raise UserError(f"training.code.bundle: there is no file {code}")
            with _importable(code.resolve() if code.is_dir() else code.resolve().parent) as folder:
                yield folder
        else:
            with _unpacked(code) as unpacked, _importable(unpacked) as folder:
                yield folder


def code_folder() -> Path | None:
    """Returns the folder of the code that is open; None where none is."""
    return _opened[-1] if _opened else None


def resolve(entrypoint: str) -> Callable[..., Any]:
    """Returns the class or function that `module:name` names; the code that has it must be open.

    Raises:
        UserError: If the bundle has no such module, the module no such name, or it cannot be called.
        Exception: Whatever the module raises when it is imported; see `foreign` for what becomes of it.
    """
    path, _, name = entrypoint.partition(":")
    folder = code_folder()
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{path}.".startswith(f"{error.name}."):
            message = f"entrypoint {entrypoint}: the code has no module {path}; it has {_listed(_modules(folder))}"
            raise UserError(message) from None
        raise
    file = getattr(module, "__file__", None)
    if folder is not None and not _is_in(file, folder) and _is_in_bundle(path, folder):
        message = f"entrypoint {entrypoint}: a module of Python's own is called {path} too; rename yours"
        raise UserError(message)
    found = getattr(module, name, None)
    if found is None:
        has = [
            key for key, value in vars(module).items() if callable(value) and getattr(value, "__module__", "") == path
        ]
        raise UserError(f"entrypoint {entrypoint}: module {path} has no {name}; it has {_listed(has)}")
    if not callable(found):
        raise UserError(f"entrypoint {entrypoint}: {name} is a {type(found).__name__}; name a class or a function")
    return found  # type: ignore[no-any-return]  # it has been seen to be callable


def make(entrypoint: str, args: struct_pb2.Struct, *, offered: Mapping[str, Any]) -> Any:
    """Calls the class or function that an entrypoint names.

    Args:
        entrypoint: As `module:name`.
        args: Its keyword arguments.
        offered: More arguments, of which it gets those that it has parameters for and `args` does not give.

    Raises:
        UserError: As `resolve` does, or if it cannot take the arguments.
    """
    function = resolve(entrypoint)
    given = to_python(args)
    try:
        signature = inspect.signature(function)
    except ValueError:
        # Some classes that are written in C tell nothing about themselves.
        return function(**given)
    wanted = {name: value for name, value in offered.items() if name in signature.parameters}
    arguments = wanted | given
    try:
        signature.bind(**arguments)
    except TypeError as error:
        takes = f"it is {entrypoint.partition(':')[2]}{signature}"
        raise UserError(f"entrypoint {entrypoint} cannot take its args: {error}; {takes}") from None
    return function(**arguments)


def to_python(args: struct_pb2.Struct) -> dict[str, Any]:
    """Returns a Struct as Python knows it; whole numbers, which it keeps as floats, become int again."""
    values: dict[str, Any] = _whole(json_format.MessageToDict(args))
    return values


def _whole(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {name: _whole(each) for name, each in value.items()}
        case list():
            return [_whole(each) for each in value]
    return value


@contextmanager
def _importable(folder: Path) -> Iterator[Path]:
    """Puts a folder first on the path of modules, and makes it the working directory."""
    before, writes, backend = Path.cwd(), sys.dont_write_bytecode, os.environ.get(_KERAS_BACKEND)
    # The folder may be shared by the workers of many machines, and may be one that the user looks into.
    sys.dont_write_bytecode = True
    os.environ[_KERAS_BACKEND] = "torch"
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    _opened.append(folder)
    try:
        yield folder
    finally:
        _opened.remove(folder)
        os.chdir(before)
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes
        if backend is None:
            os.environ.pop(_KERAS_BACKEND, None)
        else:
            os.environ[_KERAS_BACKEND] = backend
        _forget(folder)


def _forget(folder: Path) -> None:
    """Drops the modules of a folder: the next bundle may have others of the same names."""
    for name, module in list(sys.modules.items()):
        if _is_in(getattr(module, "__file__", None), folder):
            del sys.modules[name]


@contextmanager
def _unpacked(archive: Path) -> Iterator[Path]:
    """Unpacks an archive into a folder of this process alone, which goes when the process no longer needs it."""
    try:
        home = _home()
        with _locked(home):
            _sweep(home)
            folder = Path(tempfile.mkdtemp(dir=home))
            lock = _lock(folder, fcntl.LOCK_EX)
    except OSError as error:
        raise StorageError(f"the code cannot be unpacked: {error}") from error
    try:
        _extract(archive, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _extract(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
    except zipfile.BadZipFile:
        raise UserError(f"training.code.bundle: {archive} is neither a folder, a .py file nor a zip archive") from None
    except OSError as error:
        raise StorageError(f"the code {archive} cannot be unpacked: {error}") from error


def _home() -> Path:
    """Returns where this user's processes unpack code."""
    home = Path(tempfile.gettempdir(), f"trana-code-{os.getuid()}").absolute()
    home.mkdir(mode=0o700, exist_ok=True)
    if home.lstat().st_uid != os.getuid() or home.is_symlink():
        # Whoever owns it could put other code in the place of the user's.
        raise PermissionError(f"{home} belongs to another user")
    return home


def _sweep(home: Path) -> None:
    """Removes what processes have left that were killed: nobody holds its lock any more."""
    for folder in home.iterdir():
        try:
            lock = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = _lock(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)


def _lock(folder: Path, kind: int) -> int:
    """Locks a folder until the descriptor is closed, or the process ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _modules(folder: Path | None) -> list[str]:
    """Returns the modules that a folder has, as an entrypoint would name them."""
    if folder is None:
        return []
    files = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py"))
    names = (path.parent if path.name == "__init__" else path for path in files)
    return sorted(".".join(name.parts) for name in names if all(part.isidentifier() for part in name.parts))


def _is_in_bundle(module: str, folder: Path) -> bool:
    place = folder.joinpath(*module.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def _is_in(file: str | None, folder: Path) -> bool:
    return file is not None and Path(file).is_relative_to(folder)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_MAX_NAMES])
    return f"{shown}, ..." if len(names) > _MAX_NAMES else shown or "none"

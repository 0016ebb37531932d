"""Packs the user's code into an archive: the same files give the same archive, and so the same name."""

import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from trana.v1 import job_pb2

# What the service takes.
MAX_PACKED_BYTES = 64 * 2**20
MAX_UNPACKED_BYTES = 512 * 2**20
MAX_FILES = 10_000
# Made by tools, and nobody's code. What is hidden (.git, .venv) is left out in any case.
_LEFT_OUT = frozenset({"__pycache__", "node_modules", "checkpoints"})
_LEFT_OUT_SUFFIXES = frozenset({".pyc", ".pyo"})
# Written into every environment of Python's, whatever its folder is called.
_ENVIRONMENT = "pyvenv.cfg"
_PACKAGE = "__init__.py"
# The earliest that a zip archive knows.
_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = 0o644 << 16
_UNIX = 3
_LARGEST = 5


class PackingError(ValueError):
    """Code that cannot be packed; the message names the file, and says how to mend it."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A packed bundle.

    Attributes:
        data: A zip archive.
        name: `bundles/` and the SHA-256 of the data in hexadecimal.
    """

    data: bytes
    name: str


def pack(path: Path) -> Archive:
    """Packs code, deterministically: in order, without times, owners and modes.

    Names that begin with a dot, `__pycache__`, `*.pyc`, `node_modules`, environments of Python's and, unless it is a
    package, `checkpoints` are left out. Links are not followed. (Another version of zlib may squeeze the same files
    into other bytes: then the bundle has another name, and nothing worse comes of it.)

    Args:
        path: A folder, which is packed whole; a .py file, which is packed with the other .py files and the packages
            (folders with an `__init__.py`) beside it; or a zip archive, which is taken as it is.

    Raises:
        PackingError: If it cannot be read, holds a link, or is too large; the message names the file, or the
            largest ones.
    """
    try:
        if path.is_dir():
            files = list(_walk(path, path.iterdir()))
            return _archive(_zip(path, files))
        if path.suffix == ".py" and path.is_file():
            files = list(_walk(path.parent, _modules(path.parent)))
            return _archive(_zip(path.parent, files))
        return _archive(_read_zip(path))
    except OSError as error:
        raise _wrong(f"{error.filename or path} cannot be read: {error.strerror or error}") from error


def code_path(spec: job_pb2.JobSpec) -> Path | None:
    """Returns where a job's code lies on this machine; None where it has none, or has been uploaded."""
    bundle = spec.training.code.bundle
    return Path(unquote(urlsplit(bundle).path)) if bundle.startswith("file://") else None


def _archive(data: bytes) -> Archive:
    return Archive(data, f"bundles/{hashlib.sha256(data).hexdigest()}")


def _modules(folder: Path) -> Iterator[Path]:
    """Yields the modules and packages of a folder: what a file in it can import."""
    for path in folder.iterdir():
        if path.suffix == ".py" or (path / _PACKAGE).exists():
            yield path


def _walk(root: Path, paths: Iterable[Path]) -> Iterator[Path]:
    """Yields the files to pack, in an order that depends on their names alone."""
    for path in sorted(paths, key=lambda each: each.name):
        if _is_left_out(path):
            continue
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            raise _wrong(f"{path} is a link, which a bundle cannot hold: put the file itself in its place")
        if not name.isprintable() or "\\" in name:
            raise _wrong(f"{name!r} cannot be in a bundle: its name has a character that no path should have")
        if path.is_dir():
            yield from _walk(root, path.iterdir())
        elif path.is_file():
            yield path
        else:
            raise _wrong(f"{path} is neither a file nor a folder")


def _is_left_out(path: Path) -> bool:
    if path.name.startswith(".") or path.suffix in _LEFT_OUT_SUFFIXES:
        return True
    if path.name in _LEFT_OUT:
        return path.is_dir() and not (path / _PACKAGE).exists()
    return (path / _ENVIRONMENT).exists()


def _zip(root: Path, files: Sequence[Path]) -> bytes:
    sizes = {path: path.stat().st_size for path in files}
    if not files:
        raise _wrong(f"{root} holds no code")
    if len(files) > MAX_FILES:
        raise _wrong(f"{root} has {len(files):,} files, more than {MAX_FILES:,}: leave out data and environments")
    if sum(sizes.values()) > MAX_UNPACKED_BYTES:
        raise _too_large(root, f"{sum(sizes.values()) / 2**20:,.0f} MiB, more than {MAX_UNPACKED_BYTES >> 20}", sizes)
    buffer = io.BytesIO()
    packed: dict[Path, int] = {}
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix(), _DATE)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, _UNIX, _MODE
            archive.writestr(entry, path.read_bytes())
            packed[path] = entry.compress_size
    if buffer.tell() > MAX_PACKED_BYTES:
        size = f"{buffer.tell() / 2**20:,.0f} MiB packed, more than {MAX_PACKED_BYTES >> 20}"
        raise _too_large(root, size, packed)
    return buffer.getvalue()


def _read_zip(path: Path) -> bytes:
    """Reads an archive; whether all is well in it is for the service to say."""
    size = path.stat().st_size
    if not zipfile.is_zipfile(path):
        raise _wrong(f"{path} is neither a folder, a .py file nor a zip archive")
    if size > MAX_PACKED_BYTES:
        raise _wrong(f"{path} has {size / 2**20:,.0f} MiB, more than {MAX_PACKED_BYTES >> 20}: leave out data")
    return path.read_bytes()


def _too_large(root: Path, size: str, sizes: dict[Path, int]) -> PackingError:
    largest = sorted(sizes, key=lambda path: (-sizes[path], path))[:_LARGEST]
    listed = ", ".join(f"{path.relative_to(root).as_posix()} ({sizes[path] / 2**20:.1f} MiB)" for path in largest)
    return _wrong(f"{root} has {size}: leave out data and environments. The largest files are {listed}")


def _wrong(problem: str) -> PackingError:
    return PackingError(f"training.code.bundle: {problem}")

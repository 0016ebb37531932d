"""Saves a checkpoint that arrives in pieces: whole and as it was sent, or not at all."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from trana.client.errors import DownloadError
from trana.v1 import job_service_pb2

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class _Saved:
    size_bytes: int
    sha256: str


def save_checkpoint(pieces: Iterable[job_service_pb2.DownloadCheckpointResponse], folder: Path) -> Path:
    """Writes the files of a checkpoint into a folder that appears when all of them are there and right.

    Args:
        pieces: What the service sends; not asked for anything where the folder is in use.
        folder: Absent or empty; its parents are made, and removed again where the checkpoint does not arrive.

    Returns:
        The folder.

    Raises:
        DownloadError: If the folder is in use, a path leads out of it, or size or SHA-256 differ from the manifest.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DownloadError(f"{folder} is there already; remove it, or name another folder", code="ALREADY_EXISTS")
    try:
        with _folder_aside(folder) as aside:
            saved = _receive(pieces, aside)
            _verify(saved, aside / MANIFEST)
            aside.rename(folder)
    except OSError as error:
        raise _failed(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


@contextmanager
def _folder_aside(folder: Path) -> Iterator[Path]:
    """Makes a folder beside another one, where a rename is one step, and removes it where it comes to nothing."""
    aside = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.part"
    missing = [parent for parent in folder.parents if not parent.exists()]
    try:
        aside.mkdir(parents=True)
        yield aside
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        # From the inside outwards, up to one that somebody else has begun to use.
        with suppress(OSError):
            for parent in missing:
                parent.rmdir()
        raise


def _receive(pieces: Iterable[job_service_pb2.DownloadCheckpointResponse], aside: Path) -> dict[str, _Saved]:
    saved: dict[str, _Saved] = {}
    current: _File | None = None
    try:
        for piece in pieces:
            if current is None or piece.path != current.path:
                if current is not None:
                    saved[current.path] = current.finish()
                if piece.path in saved:
                    raise _failed(f"{piece.path!r} came twice")
                current = _File(piece.path, piece.size_bytes, aside)
            current.write(piece.data)
        if current is not None:
            saved[current.path] = current.finish()
    finally:
        if current is not None:
            current.close()
    return saved


class _File:
    """One file that is arriving."""

    def __init__(self, path: str, size_bytes: int, aside: Path) -> None:
        target = aside / _inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._size_bytes = size_bytes
        self._received_bytes = 0
        self._sha256 = hashlib.sha256()
        self._file: BinaryIO = target.open("xb")

    def write(self, data: bytes) -> None:
        self._received_bytes += len(data)
        if self._received_bytes > self._size_bytes:
            raise _failed(f"{self.path!r} is longer than the {self._size_bytes} bytes announced")
        self._sha256.update(data)
        self._file.write(data)

    def finish(self) -> _Saved:
        self.close()
        if self._received_bytes != self._size_bytes:
            raise _failed(f"{self.path!r} ended after {self._received_bytes} of {self._size_bytes} bytes")
        return _Saved(self._received_bytes, self._sha256.hexdigest())

    def close(self) -> None:
        self._file.close()


def _inside(path: str) -> PurePosixPath:
    """Returns a path that cannot leave the folder it is joined to, on any system."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or not part.isprintable() or set(part) & set("\\:") for part in parts):
        raise _failed(f"{path!r} is not a path inside a checkpoint")
    return PurePosixPath(path)


def _verify(saved: Mapping[str, _Saved], manifest: Path) -> None:
    if MANIFEST not in saved:
        raise _failed(f"the checkpoint has no {MANIFEST}")
    expected = _expected(manifest)
    received = {path: file for path, file in saved.items() if path != MANIFEST}
    for path in sorted(expected.keys() ^ received.keys()):
        problem = "was not sent" if path in expected else "is not in the manifest"
        raise _failed(f"{path!r} {problem}")
    for path, file in received.items():
        if file != expected[path]:
            raise _failed(
                f"{path!r} differs from the manifest in size or SHA-256: it was damaged on its way or on disk"
            )


def _expected(manifest: Path) -> dict[str, _Saved]:
    try:
        files: Mapping[str, Any] = json.loads(manifest.read_bytes())["files"]
        return {path: _Saved(int(file["size_bytes"]), str(file["sha256"])) for path, file in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _failed(f"{MANIFEST} cannot be read: {error}") from error


def _failed(problem: str) -> DownloadError:
    return DownloadError(problem, code="DATA_LOSS")

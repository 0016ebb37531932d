"""Reads the files of a checkpoint for a download."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlparse

from trana.jobs.domain.errors import CheckpointNotFound
from trana.v1.checkpoint_pb2 import Checkpoint
from trana.v1.job_service_pb2 import DownloadCheckpointResponse

PIECE_BYTES = 256 * 1024
MANIFEST = "manifest.json"
# A quick training may replace even the one that took its place.
TRIES = 5


async def read_checkpoint(checkpoint: Checkpoint, *, below: Path) -> AsyncIterator[DownloadCheckpointResponse]:
    """The manifest and then every file that it names, in pieces.

    All files are opened before the first is sent: a better checkpoint may replace this one meanwhile, and an open
    file stays readable.

    Args:
        checkpoint: which one, as the store has it.
        below: the folder in which checkpoints of this job lie; nothing outside of it is ever sent.

    Raises:
        CheckpointNotFound: its files are not there.
    """
    _, job, _, kind = checkpoint.name.split("/")
    with ExitStack() as stack:
        try:
            files = await asyncio.to_thread(_open, _folder(checkpoint), kind, below=below, stack=stack)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointNotFound(job, kind, f"its files cannot be read: {error}") from error
        for path, file in files.items():
            size = await asyncio.to_thread(_size, file)
            sent = 0
            while sent == 0 or sent < size:
                data = await asyncio.to_thread(file.read, PIECE_BYTES)
                yield DownloadCheckpointResponse(path=path, data=data, size_bytes=size)
                sent += len(data)
                if not data:
                    break


def _folder(checkpoint: Checkpoint) -> Path:
    return Path(unquote(urlparse(checkpoint.uri).path))


def _open(folder: Path, kind: str, *, below: Path, stack: ExitStack) -> dict[str, BinaryIO]:
    """Opens the files of a checkpoint, or of the one that has taken its place since the store heard of it."""
    for candidate in (folder, *[folder.with_name(kind)] * TRIES):
        with ExitStack() as opened, suppress(FileNotFoundError):
            files = _open_all(candidate.resolve(), below=below.resolve(), stack=opened)
            stack.push(opened.pop_all())
            return files
    raise FileNotFoundError(f"{folder} is gone")


def _open_all(folder: Path, *, below: Path, stack: ExitStack) -> dict[str, BinaryIO]:
    if not folder.is_relative_to(below):
        raise ValueError(f"{folder} is not a folder of this job")
    names = [MANIFEST, *sorted(json.loads((folder / MANIFEST).read_bytes())["files"])]
    for name in names:
        # Manifests are written by workers, which run what users send.
        if Path(name).name != name or (folder / name).is_symlink():
            raise ValueError(f"the manifest names {name!r}, which is not a plain file of the checkpoint")
    return {name: stack.enter_context((folder / name).open("rb")) for name in names}


def _size(file: BinaryIO) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size

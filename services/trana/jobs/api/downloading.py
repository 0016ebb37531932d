"""Reads the files of a checkpoint for a download."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlparse

from trana.jobs.domain.errors import CheckpointNotFound
from trana.v1.checkpoint_pb2 import Checkpoint
from trana.v1.job_service_pb2 import DownloadCheckpointResponse

PIECE_BYTES = 256 * 1024
MANIFEST = "manifest.json"


async def read_checkpoint(checkpoint: Checkpoint) -> AsyncIterator[DownloadCheckpointResponse]:
    """The manifest and then every file that it names, in pieces.

    All files are opened before the first is sent: a better checkpoint may replace this one meanwhile, and an open
    file stays readable.

    Raises:
        CheckpointNotFound: its files are not there.
    """
    _, job, _, kind = checkpoint.name.split("/")
    with ExitStack() as stack:
        try:
            files = await asyncio.to_thread(_open, Path(unquote(urlparse(checkpoint.uri).path)), stack)
        except (OSError, ValueError, KeyError) as error:
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


def _open(folder: Path, stack: ExitStack) -> dict[str, BinaryIO]:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    names = [MANIFEST, *sorted(manifest["files"])]
    return {name: stack.enter_context((folder / name).open("rb")) for name in names}


def _size(file: BinaryIO) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size

"""Keeps bundles by their content: `{folder}/{sha256}.zip`, whole or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from trana.jobs.bundles.archive import MAX_PACKED_BYTES, Contents, check_archive, read_contents, too_large
from trana.jobs.domain.errors import BundleNotFound, StoreUnavailable

_ASIDE = ".tmp"
# Each takes a CPU while it is checked.
_MAX_CHECKS = 2


@dataclass(frozen=True, slots=True)
class Stored:
    """A bundle on the shelf.

    Attributes:
        digest: SHA-256 of the archive, in hexadecimal.
        path: Where it is; workers read it there.
        size_bytes: Of the archive.
        contents: What is in it.
        create_time: When it was first put there, UTC.
    """

    digest: str
    path: Path
    size_bytes: int
    contents: Contents
    create_time: datetime

    @property
    def name(self) -> str:
        """`bundles/{digest}`."""
        return f"bundles/{self.digest}"


def bundle_path(folder: Path, digest: str) -> Path:
    """Where a shelf in `folder` keeps the bundle of that SHA-256."""
    return folder / f"{digest}.zip"


class Shelf:
    """The bundles of a service, in a folder that the machines of its workers see too.

    `put` and `get` raise StoreUnavailable where the folder cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._checks = asyncio.Semaphore(_MAX_CHECKS)

    def tidy(self) -> None:
        """Makes the folder, and removes what uploads left that a killed process broke off. Before the first upload.

        Raises:
            OSError: The folder cannot be used.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.glob(f"*{_ASIDE}"):
            left.unlink(missing_ok=True)

    async def get(self, digest: str) -> Stored:
        """A bundle that is there.

        Raises:
            BundleNotFound: It was never uploaded.
        """
        return await asyncio.to_thread(self._read, digest)

    async def put(self, pieces: AsyncIterator[bytes]) -> Stored:
        """Takes an archive in pieces, checks it, and keeps it; one that is there already stays as it is.

        Raises:
            InvalidBundle: See `check_archive`.
            BundleTooLarge: See there too; said as soon as the pieces are too many.
        """
        # Not in a thread: one who is cancelled while it makes the file never learns its name, and leaves it behind.
        aside = self._make_aside()
        try:
            with aside:
                digest = await _write(aside, pieces)
            path = Path(aside.name)
            async with self._checks:
                await asyncio.to_thread(check_archive, path)
            await asyncio.to_thread(self._place, path, digest)
        except OSError as error:
            raise _unavailable(error) from error
        finally:
            # Also when the client has gone: nothing may be left of an upload that was broken off.
            with suppress(FileNotFoundError):
                os.unlink(aside.name)  # noqa: PTH108 - quick, and a cancelled task can wait for no thread
        return await self.get(digest)

    def _make_aside(self) -> IO[bytes]:
        try:
            return tempfile.NamedTemporaryFile(dir=self._folder, suffix=_ASIDE, delete=False)
        except OSError as error:
            raise _unavailable(error) from error

    def _place(self, aside: Path, digest: str) -> None:
        path = bundle_path(self._folder, digest)
        if path.exists():
            return
        # Made for this process alone; workers may run as another user.
        aside.chmod(0o644)
        aside.replace(path)
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _read(self, digest: str) -> Stored:
        path = bundle_path(self._folder, digest)
        try:
            status = path.stat()
            contents = read_contents(path)
        except FileNotFoundError as error:
            raise BundleNotFound(digest) from error
        except OSError as error:
            raise _unavailable(error) from error
        return Stored(digest, path, status.st_size, contents, datetime.fromtimestamp(status.st_mtime, UTC))


async def _write(file: IO[bytes], pieces: AsyncIterator[bytes]) -> str:
    """Writes the pieces, durably; returns the SHA-256 of all."""
    digest, size = hashlib.sha256(), 0
    async for piece in pieces:
        size += len(piece)
        if size > MAX_PACKED_BYTES:
            raise too_large(size)
        digest.update(piece)
        await asyncio.to_thread(file.write, piece)
    await asyncio.to_thread(_sync, file)
    return digest.hexdigest()


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _unavailable(error: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"bundles cannot be kept: {error.strerror or error}")

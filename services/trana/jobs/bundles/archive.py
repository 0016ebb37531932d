"""Checks an archive of a user's code without unpacking it: what is in it, and that it can harm nobody who does.

An archive may lie in every field: about sizes, names and places. So each file is inflated once, into nothing, and only
what came out is believed.
"""

from __future__ import annotations

import io
import re
import stat
import sys
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trana.jobs.domain.errors import BundleTooLarge, InvalidBundle

MAX_PACKED_BYTES = 64 * 2**20
MAX_UNPACKED_BYTES = 512 * 2**20
MAX_FILES = 10_000
MAX_NAME_BYTES = 1000
# A directory of 10,000 files with long names; a larger one would fill the memory before its files could be counted.
_MAX_DIRECTORY_BYTES = 4 * 2**20
_PIECE_BYTES = 2**20
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_LOCAL_HEADER_BYTES = 30
# What zipfile raises, at one place or another, of bytes that are no archive.
_DAMAGE = (zipfile.BadZipFile, zlib.error, NotImplementedError, ValueError, EOFError)
_DRIVE = re.compile("[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive holds.

    Attributes:
        unpacked_bytes: Size of all its files.
        files: Their paths, with slashes, in the archive's order; folders are left out.
    """

    unpacked_bytes: int
    files: tuple[str, ...]


def check_archive(path: Path) -> Contents:
    """Reads an archive whole.

    Raises:
        InvalidBundle: It is no zip archive, is damaged or encrypted, or holds what may not be in a bundle.
        BundleTooLarge: It is too large, packed or unpacked, or has too many files, or files that share their bytes.
    """
    if (size := path.stat().st_size) > MAX_PACKED_BYTES:
        raise too_large(size)
    with _opened(path) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_FILES:
            raise BundleTooLarge(f"the archive has {len(entries):,} files, more than {MAX_FILES:,}: leave out data")
        files = _files(entries)
        if not files:
            raise InvalidBundle("holds no file: pack the code that the job names")
        _check_entries(entries)
        _check_overlap(entries, end=archive.start_dir)
        return Contents(_inflate(archive, entries), files)


def read_contents(path: Path) -> Contents:
    """What an archive holds that has been checked before: its directory alone is read."""
    with _opened(path) as archive:
        entries = archive.infolist()
        return Contents(sum(entry.file_size for entry in entries), _files(entries))


def too_large(size: int) -> BundleTooLarge:
    """The error of an archive with too many bytes, or with `size` so far."""
    return BundleTooLarge(
        f"the archive has {size:,} bytes or more, more than {MAX_PACKED_BYTES:,}: leave out data and environments",
        max_bytes=str(MAX_PACKED_BYTES),
    )


class _Bounded(io.FileIO):
    """A file from which nobody reads more at once than a directory may have; zipfile reads that in one piece."""

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = size if size is not None and 0 <= size <= _MAX_DIRECTORY_BYTES else _MAX_DIRECTORY_BYTES + 1
        # None only where a file does not block.
        data = super().read(wanted) or b""
        if len(data) > _MAX_DIRECTORY_BYTES:
            raise BundleTooLarge(f"the archive's directory has more than {_MAX_DIRECTORY_BYTES:,} bytes")
        return data


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Opens an archive; what zipfile says of a damaged one, now or later, becomes ours."""
    try:
        with _Bounded(path) as file, zipfile.ZipFile(file) as archive:
            yield archive
    except _DAMAGE as error:
        raise InvalidBundle(f"is no whole zip archive: {error}") from error


def _files(entries: Sequence[zipfile.ZipInfo]) -> tuple[str, ...]:
    return tuple(entry.filename for entry in entries if not _is_folder(entry))


def _is_folder(entry: zipfile.ZipInfo) -> bool:
    # Not `is_dir`: that breaks down at an empty name.
    return entry.filename.endswith("/")


def _check_entries(entries: Sequence[zipfile.ZipInfo]) -> None:
    seen: dict[str, str] = {}
    files: set[str] = set()
    for entry in entries:
        name = entry.orig_filename
        if wrong := _wrong_with(entry):
            raise InvalidBundle(f"holds {name[:200]!r}, {wrong}", file=ascii(name[:200]))
        key = _key(name)
        if key in seen:
            raise InvalidBundle(f"holds {seen[key]!r} and {name!r}, which are one file on some systems")
        seen[key] = name
        if not _is_folder(entry):
            files.add(key)
    for key, name in seen.items():
        parts = key.split("/")
        if any("/".join(parts[:count]) in files for count in range(1, len(parts))):
            raise InvalidBundle(f"holds {name!r}, and a part of that path is a file")


def _key(name: str) -> str:
    """The same for all names that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.rstrip("/")).casefold())


def _wrong_with(entry: zipfile.ZipInfo) -> str:
    """Why an entry may not be in a bundle; empty where it may."""
    # Not `filename`: that ends at the first NUL.
    name = entry.orig_filename
    if not name.isprintable():
        return "whose name has characters that cannot be printed"
    if name.startswith("/") or _DRIVE.match(name):
        return "whose path is absolute: pack paths from the folder of the code"
    if "\\" in name:
        return "whose path has a backslash: write slashes"
    parts = name.removesuffix("/").split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        return "whose path may lead out of the archive: no part may be empty, '.' or '..'"
    if len(name.encode()) > MAX_NAME_BYTES or any(len(part.encode()) > 255 for part in parts):
        return f"whose name is too long: at most {MAX_NAME_BYTES} bytes, and 255 in each part"
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "which is a link or a device: pack the file itself"
    if entry.flag_bits & _ENCRYPTED:
        return "which is encrypted: pack it without a password"
    if entry.compress_type not in _METHODS:
        return "which is packed by a method that Python cannot import from: use deflate"
    return ""


def _check_overlap(entries: Sequence[zipfile.ZipInfo], *, end: int) -> None:
    """Files that share their bytes multiply a small archive into a huge one."""
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    ends = [entry.header_offset for entry in ordered[1:]] + [end]
    for entry, limit in zip(ordered, ends, strict=True):
        least = _LOCAL_HEADER_BYTES + len(entry.orig_filename) + entry.compress_size
        if entry.header_offset < 0:
            raise InvalidBundle(f"is no whole zip archive: {entry.filename!r} lies before its start")
        if entry.header_offset + least > limit:
            raise BundleTooLarge(f"the archive's file {entry.filename!r} overlaps another: pack it anew")


def _inflate(archive: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo]) -> int:
    """Inflates all files, into nothing; returns how many bytes came out."""
    total = 0
    for entry in entries:
        declared, size = entry.file_size, 0
        # zipfile stops where the header says that a file ends; others do not.
        entry.file_size = sys.maxsize
        with archive.open(entry) as file:
            while piece := file.read(_PIECE_BYTES):
                size += len(piece)
                total += len(piece)
                if total > MAX_UNPACKED_BYTES:
                    raise BundleTooLarge(
                        f"the archive has more than {MAX_UNPACKED_BYTES:,} bytes unpacked: leave out data",
                        max_bytes=str(MAX_UNPACKED_BYTES),
                    )
        entry.file_size = declared
        if size != declared:
            raise InvalidBundle(f"says that {entry.filename!r} has {declared:,} bytes, but it has {size:,}")
    return total

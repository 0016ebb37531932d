"""Archives that the tests of bundles begin with."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping

from trana.v1.bundle_service_pb2 import UploadBundleRequest

CODE = {"model.py": "class Net: ...", "train/__init__.py": "def train(context): ...", "notes.txt": "x" * 1000}


def packed(files: Mapping[str, str | bytes] | None = None) -> bytes:
    """A zip archive with these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (CODE if files is None else files).items():
            # A fixed time, so that the same files are the same archive.
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()


def pieces(archive: bytes, *, size: int = 2**20) -> Iterator[UploadBundleRequest]:
    """What a client sends of it."""
    for start in range(0, len(archive), size):
        yield UploadBundleRequest(data=archive[start : start + size])

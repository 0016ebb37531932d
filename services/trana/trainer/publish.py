"""How a checkpoint's files become a checkpoint: whole or not at all, whatever dies in between.

checkpoints/
  000012-best-attempt-1/      files and manifest.json, which has the size and SHA-256 of each
  000012-step-000340-last-attempt-1/     340 steps after that epoch
  best -> 000012-best-attempt-1
  last -> 000012-step-000340-last-attempt-1
attempt                       number of the newest attempt: an older one may no longer publish

A checkpoint is written beside its place, flushed to the disk, renamed into place, read back and compared with its
hashes; then the link is swapped, and only then are older ones removed. A folder that ends in .tmp is none.
"""

import hashlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trana.trainer.errors import FencedError, StorageError
from trana.v1 import checkpoint_pb2

BEST = "best"
LAST = "last"
_KINDS = {BEST: checkpoint_pb2.CHECKPOINT_KIND_BEST, LAST: checkpoint_pb2.CHECKPOINT_KIND_LAST}
_MANIFEST = "manifest.json"
_TMP = ".tmp"
_NAME = re.compile(r"(?P<epoch>\d+)(-step-(?P<position>\d+))?-(?P<kind>[a-z]+)-attempt-(?P<attempt>\d+)")
# The one before the newest is there for a newest that turns out damaged, and for whoever is reading it just now.
_KEEP = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Header:
    """What a manifest says of its checkpoint.

    Attributes:
        kind: BEST or LAST.
        epoch: Epochs that were done.
        val_loss: Of the last of them; NaN where there is none.
        best: Name of the best checkpoint that belongs to a last one: empty where there is none.
        step: Optimiser steps since the start of the job.
        position: Those of them that belong to an epoch which was not yet done.
    """

    kind: str
    epoch: int
    val_loss: float
    best: str = ""
    step: int = 0
    position: int = 0

    def name(self, attempt: int) -> str:
        """Returns what the checkpoint's folder is called; names of a kind sort by time, within an attempt."""
        within = f"-step-{self.position:06d}" if self.position else ""
        return f"{self.epoch:06d}{within}-{self.kind}-attempt-{attempt}"


class CheckpointFolder:
    """The checkpoints of one job, for one attempt at it. Only rank 0 writes.

    All methods raise a StorageError where the folder cannot be read or written.
    """

    def __init__(self, folder: Path, attempt: int) -> None:
        self._folder = folder
        self._attempt = attempt
        self._root = folder / "checkpoints"

    def path(self, name: str) -> Path:
        """Returns where a checkpoint is, by its name or by the link's."""
        return self._root / name

    def take_over(self) -> None:
        """Makes this the attempt that may publish, and clears away what an older one left half-written.

        Raises:
            FencedError: If a newer attempt already has.
        """
        with _translated(f"prepare {self._folder}"):
            self._root.mkdir(parents=True, exist_ok=True)
            self._check_fence()
            _replace_file(self._folder / "attempt", f"{self._attempt}\n")
            for left in self._root.glob(f"*{_TMP}"):
                shutil.rmtree(left, ignore_errors=True)

    def publish(self, header: Header, files: Mapping[str, bytes]) -> checkpoint_pb2.Checkpoint:
        """Publishes a checkpoint and lets the link of its kind point to it.

        Args:
            header: What it is.
            files: Contents by name, without the manifest.

        Raises:
            FencedError: If a newer attempt has taken over.
        """
        name = header.name(self._attempt)
        try:
            self._publish(name, header, files)
        except StorageError:
            # A newer attempt clears away what this one was writing.
            self._check_fence()
            raise
        return self.describe(name)

    def _publish(self, name: str, header: Header, files: Mapping[str, bytes]) -> None:
        with _translated(f"save the checkpoint {self._root / name}"):
            self._check_fence()
            aside = self.path(name + _TMP)
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            for file, content in files.items():
                _write_file(aside / file, content)
            _write_file(aside / _MANIFEST, self._manifest(header, files))
            _sync_folder(aside)
            # Asked again: writing may have taken long, and this is the last moment to give way.
            self._check_fence()
            self._rename(aside, self.path(name))
            self.verify(name)
            self.point(header.kind, name)
            self._prune()

    def lasts(self) -> list[str]:
        """Returns the names of all last checkpoints, the newest first; not all of them need be whole."""
        with _translated(f"read {self._root}"):
            return self._names(LAST)

    def point(self, kind: str, name: str) -> None:
        """Lets the link of a kind point to a checkpoint, in one step; or removes it where the name is empty."""
        with _translated(f"swap the link {self._root / kind}"):
            link = self.path(kind)
            if name:
                aside = self.path(f"{kind}-link{_TMP}")
                aside.unlink(missing_ok=True)
                aside.symlink_to(name)
                aside.replace(link)
            else:
                link.unlink(missing_ok=True)
            _sync_folder(self._root)

    def verify(self, name: str) -> None:
        """Reads a checkpoint whole and compares it with its manifest.

        Raises:
            StorageError: If anything is missing or differs.
        """
        verify(self.path(name))

    def best_of(self, name: str) -> str:
        """Returns the name of the best checkpoint that belongs to a last one; empty where there is none."""
        return str(_read_manifest(self.path(name))["best"])

    def describe(self, name: str) -> checkpoint_pb2.Checkpoint:
        """Returns what there is to report of a checkpoint; its resource name is for the receiver to fill in."""
        manifest = _read_manifest(self.path(name))
        path = self.path(name) / _MANIFEST
        checkpoint = checkpoint_pb2.Checkpoint(
            kind=_KINDS[manifest["kind"]],
            epoch=manifest["epoch"],
            step=manifest["step"],
            attempt=manifest["attempt"],
            val_loss=float.fromhex(manifest["val_loss_hex"]),
            uri=self.path(name).resolve().as_uri(),
            size_bytes=path.stat().st_size + sum(file["size_bytes"] for file in manifest["files"].values()),
            manifest_sha256=_hash_file(path),
        )
        checkpoint.create_time.FromDatetime(datetime.fromisoformat(manifest["create_time"]))
        return checkpoint

    def _manifest(self, header: Header, files: Mapping[str, bytes]) -> bytes:
        manifest = {
            "kind": header.kind,
            "epoch": header.epoch,
            "step": header.step,
            "attempt": self._attempt,
            # JSON knows no NaN.
            "val_loss": header.val_loss if math.isfinite(header.val_loss) else None,
            "val_loss_hex": header.val_loss.hex(),
            "best": header.best,
            "create_time": datetime.now(UTC).isoformat(),
            "files": {
                name: {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in sorted(files.items())
            },
        }
        return json.dumps(manifest, indent=2).encode()

    def _rename(self, aside: Path, path: Path) -> None:
        if path.exists():
            # An attempt that was started twice under one number saves an epoch anew.
            path.rename(path.with_name(f"{path.name}-old{_TMP}"))
        aside.rename(path)
        _sync_folder(self._root)

    def _check_fence(self) -> None:
        path = self._folder / "attempt"
        newest = int(path.read_text()) if path.exists() else 0
        if newest > self._attempt:
            raise FencedError(f"attempt {self._attempt} may no longer save: attempt {newest} has taken over")

    def _names(self, kind: str) -> list[str]:
        """Returns the names of a kind, the newest first: by attempt, for a later one may have gone back."""
        found = []
        for path in self._root.glob(f"*-{kind}-attempt-*"):
            name = _NAME.fullmatch(path.name)
            if name is not None and name["kind"] == kind:
                found.append((int(name["attempt"]), int(name["epoch"]), int(name["position"] or 0), path.name))
        return [name for *_, name in sorted(found, reverse=True)]

    def _prune(self) -> None:
        """Removes what is neither among the newest of its kind nor the best that a last one needs."""
        lasts, bests = self._names(LAST), self._names(BEST)
        keep = {*lasts[:_KEEP], *bests[:_KEEP]}
        for name in lasts[:_KEEP]:
            try:
                keep.add(self.best_of(name))
            except StorageError as error:
                _log.warning("a damaged checkpoint is of no use for resuming: %s", error)
        for name in (name for name in lasts + bests if name not in keep):
            # On a network file system a folder that someone is reading cannot go yet: the next time it can.
            shutil.rmtree(self.path(name), ignore_errors=True)


def verify(folder: Path) -> None:
    """Reads a checkpoint whole, wherever it lies, and compares it with its manifest.

    Raises:
        StorageError: If anything is missing or differs.
    """
    for file, expected in _read_manifest(folder)["files"].items():
        path = folder / file
        with _translated(f"read {path}"):
            found = {"size_bytes": path.stat().st_size, "sha256": _hash_file(path)}
        if found != expected:
            raise StorageError(f"{path} is damaged: it no longer has the SHA-256 that its manifest tells")


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read: {error}") from error
    return manifest


@contextmanager
def _translated(action: str) -> Iterator[None]:
    """Turns the system's errors into ours."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"could not {action}: {error.strerror or error}") from error


def _write_file(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace_file(path: Path, text: str) -> None:
    aside = path.with_name(path.name + _TMP)
    _write_file(aside, text.encode())
    aside.replace(path)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    """Makes the names in a folder durable: without it, a rename may be undone by a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

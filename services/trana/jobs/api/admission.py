"""Whether a valid job can be taken here: its code is there, and the checkpoint it starts from fits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

from trana.jobs.api.starting import check_start
from trana.jobs.bundles.shelf import Shelf, Stored
from trana.jobs.domain.errors import BundleNotFound, BundleNotUploaded, CodeNotAllowed, InvalidRequest
from trana.spec.violation import Violation
from trana.v1.network_pb2 import Layer
from trana.v1.training_pb2 import TrainingSpec

_FIELD = "spec.training"
_MAX_MODULES_TOLD = 10


class Admission:
    """The checks of a job that need more than its spec."""

    def __init__(self, *, shelf: Shelf, jobs_folder: Path, allow_code: bool) -> None:
        self._shelf = shelf
        self._jobs_folder = jobs_folder
        self._allow_code = allow_code

    async def check(self, training: TrainingSpec) -> None:
        """Returns where the job can be taken.

        Raises:
            CodeNotAllowed: It has code, and this service runs none.
            InvalidRequest: Its bundle is a path, or lacks a module that the job names.
            BundleNotUploaded: Its bundle is not on the shelf.
            CheckpointUnusable: The checkpoint it starts from is not there, or does not fit the declared network.
        """
        if training.HasField("code"):
            await self._check_code(training)
        if training.initial_checkpoint:
            await asyncio.to_thread(check_start, training, jobs_folder=self._jobs_folder)

    async def _check_code(self, training: TrainingSpec) -> None:
        if not self._allow_code:
            raise CodeNotAllowed
        scheme, _, digest = training.code.bundle.rpartition("/")
        if scheme != "bundles":
            description = "is a path, which the service cannot read: upload it first; `trana submit` does so"
            raise InvalidRequest([Violation(f"{_FIELD}.code.bundle", description, "code.bundle.uploaded")])
        try:
            stored = await self._shelf.get(digest)
        except BundleNotFound as error:
            raise BundleNotUploaded(digest) from error
        if missing := list(_missing(training, stored)):
            raise InvalidRequest(missing)


def _missing(training: TrainingSpec, stored: Stored) -> Iterator[Violation]:
    """What is named of the code and is not in it.

    Each module must lie in the bundle itself: what the workers have installed beside it is not known here.
    """
    modules = _modules(stored.contents.files)
    for field, entrypoint in _entrypoints(training):
        module = entrypoint.partition(":")[0]
        if module not in modules:
            description = f"names the module {module}, which is not in the bundle; {_told(sorted(modules))}"
            yield Violation(f"{_FIELD}.{field}.entrypoint", description, "code.module")


def _entrypoints(training: TrainingSpec) -> Iterator[tuple[str, str]]:
    if training.HasField("module"):
        yield "module", training.module.entrypoint
    if training.HasField("loop"):
        yield "loop", training.loop.entrypoint
    yield from _custom_layers(training.network.layers, "network.layers")


def _custom_layers(layers: Sequence[Layer], path: str) -> Iterator[tuple[str, str]]:
    for index, layer in enumerate(layers):
        kind = layer.WhichOneof("kind")
        if kind == "custom":
            yield f"{path}[{index}].custom", layer.custom.entrypoint
        elif kind == "residual":
            yield from _custom_layers(layer.residual.layers, f"{path}[{index}].residual.layers")


def _modules(files: Sequence[str]) -> set[str]:
    """The modules that Python can import from an archive with these files."""
    stems = (file.removesuffix(".py").removesuffix("/__init__") for file in files if file.endswith(".py"))
    return {stem.replace("/", ".") for stem in stems}


def _told(modules: Sequence[str]) -> str:
    if not modules:
        return "it has no modules (.py files) at all"
    more = f" and {len(modules) - _MAX_MODULES_TOLD} more" if len(modules) > _MAX_MODULES_TOLD else ""
    return f"it has {', '.join(modules[:_MAX_MODULES_TOLD])}{more}"

"""Folders of images: a folder for each class, read by Pillow."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image, ImageOps
from pyarrow import fs

from trana.trainer.data.source import Texts, at, reached
from trana.trainer.errors import DataError
from trana.v1 import training_pb2

# The columns that a folder of images has.
PIXELS = "pixels"
FOLDER = "folder"

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})
# Of what is decoded at a time: enough for all threads.
_CHUNK = 256
_THREADS = 4


@dataclass(frozen=True, slots=True)
class ImageSource:
    """A `File` over images, or a stretch of them; they are decoded when their pixels are asked for.

    Attributes:
        uri: URI of the folder.
        system: Where it lies.
        root: Its path there.
        paths: The images from there, in order.
        shape: Channels (1 grey, 3 red, green and blue), height and width that each is brought to.
        start: Where the first one is in the whole folder.
    """

    uri: str
    system: fs.FileSystem
    root: str
    paths: tuple[str, ...]
    shape: tuple[int, int, int]
    start: int = 0

    @property
    def names(self) -> list[str]:
        """The columns: pixels, and the folder as the class."""
        return [PIXELS, FOLDER]

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.paths)

    def width(self, name: str) -> int:
        """Returns how many values of a column each image has."""
        return math.prod(self.shape) if name == PIXELS else 1

    def is_class(self, name: str) -> bool:
        """Whether a column is a class: the folder is."""
        return name == FOLDER

    def chunks(self, names: Sequence[str]) -> Iterator["ImageSource"]:  # noqa: ARG002 - decoded when asked for
        """Yields the images, some at a time."""
        for start in range(0, self.count, _CHUNK):
            paths = self.paths[start : start + _CHUNK]
            yield ImageSource(self.uri, self.system, self.root, paths, self.shape, start)

    def error(self, message: str, *, row: int | None = None, column: str | None = None) -> DataError:  # noqa: ARG002
        """Makes an error that names the image, or the folder; an image has no columns."""
        uri = self.uri if row is None else f"{self.uri.partition('?')[0].rstrip('/')}/{quote(self.paths[row])}"
        return at(uri, message)

    def numbers(self, name: str, *, missing: bool = False) -> np.ndarray[Any, Any]:  # noqa: ARG002 - none is missing
        """Returns the pixels as float32 of shape (count, channels, height, width), 0 to 1."""
        if name != PIXELS:
            raise self.error("an image's folder is a class, not a number; use the loss cross_entropy or bce")
        pixels = np.empty((self.count, *self.shape), np.float32)

        def fill(row: int) -> None:
            pixels[row] = self._decode(row)

        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(fill, range(self.count)):
                pass
        return pixels

    def texts(self, name: str, *, missing: bool = False) -> Texts:  # noqa: ARG002 - none is missing
        """Returns the folders' names."""
        return np.array([PurePosixPath(path).parts[0] for path in self.paths], np.str_)

    def _decode(self, row: int) -> np.ndarray[Any, Any]:
        channels, height, width = self.shape
        try:
            with self.system.open_input_file(f"{self.root}/{self.paths[row]}") as file, Image.open(file) as image:
                if image.mode.startswith(("I", "F")):
                    # Pillow would cut all above 255 off.
                    raise self.error(f"has mode {image.mode}; save it with 8 bits for each channel", row=row)
                # As a viewer shows it: cameras note the orientation, rather than to turn the pixels.
                upright = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
                resized = upright.resize((width, height), Image.Resampling.BILINEAR)
        # Pillow's formats raise what their parsers raise.
        except (OSError, ValueError, SyntaxError, EOFError, IndexError, Image.DecompressionBombError) as error:
            raise self.error(f"cannot be read as an image: {error}", row=row) from error
        values = np.asarray(resized, np.float32).reshape(height, width, channels) / np.float32(255)
        return values.transpose(2, 0, 1)


def open_images(uri: str, folder: training_pb2.ImageFolder, *, with_classes: bool = True) -> ImageSource:
    """Lists a folder of images, in the order of classes and paths; an image may lie deeper in its class's folder.

    Files of other kinds are passed over, and so is what is hidden (`.name`).

    Args:
        uri: Where the folder lies; a single image will do where there are no classes.
        folder: What images are brought to.
        with_classes: Whether each image must lie in the folder of its class.

    Raises:
        DataError: If there is no image, or if a class has none.
    """
    with reached(uri) as (system, root):
        root = root.rstrip("/")
        kind = system.get_file_info(root).type
        if kind == fs.FileType.NotFound:
            raise at(uri, "does not exist, as the workers see it")
        found = system.get_file_info(fs.FileSelector(root, recursive=True)) if kind == fs.FileType.Directory else []
    if kind == fs.FileType.File and not with_classes:
        uri, root, paths = uri.rpartition("/")[0], *_parent(root)
    elif kind == fs.FileType.File:
        raise at(uri, "is no folder")
    else:
        paths = _images(uri, root, found, with_classes=with_classes)
    channels = folder.channels if folder.HasField("channels") else 3
    return ImageSource(uri, system, root, paths, (channels, folder.height, folder.width))


def _parent(path: str) -> tuple[str, tuple[str, ...]]:
    folder, _, name = path.rpartition("/")
    return folder, (name,)


def _images(uri: str, root: str, found: list[fs.FileInfo], *, with_classes: bool) -> tuple[str, ...]:
    """Returns the paths of the images from the root, in order."""
    inside = [(PurePosixPath(info.path).relative_to(root), info.type) for info in found]
    visible = [(path, kind) for path, kind in inside if not any(part.startswith(".") for part in path.parts)]
    images = [path for path, kind in visible if kind == fs.FileType.File and path.suffix.lower() in _SUFFIXES]
    if with_classes:
        images = [path for path in images if len(path.parts) > 1]
        classes = {path.parts[0] for path, kind in visible if len(path.parts) > 1 or kind == fs.FileType.Directory}
        empty = sorted(classes - {path.parts[0] for path in images})
        if empty:
            raise at(uri, f"the class {empty[0]!r} has no image ({', '.join(sorted(_SUFFIXES))})")
    if not images:
        what = "has no folders with images, one for each class" if with_classes else "has no images"
        raise at(uri, f"{what} ({', '.join(sorted(_SUFFIXES))})")
    return tuple(path.as_posix() for path in sorted(images, key=lambda path: path.parts))

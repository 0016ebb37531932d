"""Packs the user's code, and tells what is wrong with it as the service would."""

from pathlib import Path

from trana.client.errors import InvalidRequest
from trana.spec import packing
from trana.spec.packing import Archive


def pack(path: Path) -> Archive:
    """Packs code as `trana.spec.packing.pack` does.

    Raises:
        InvalidRequest: If it cannot be packed; the message names the file, or the largest ones.
    """
    try:
        return packing.pack(path)
    except packing.PackingError as error:
        raise InvalidRequest(str(error), code="INVALID_ARGUMENT", reason="INVALID_BUNDLE") from error

"""The installation's id: by it a service knows its own attempts again in a Ray that others use too."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

_ID_BYTES = 8
_ID = re.compile("[0-9a-f]{8,}")


def installation_of(folder: Path) -> str:
    """The id kept in `folder / "installation"`, at least 8 hexadecimal digits; made when it is first asked for.

    The caller holds the folder's lock. Where the file is lost, attempts that were left in a joined Ray are nobody's.

    Raises:
        OSError: The file cannot be read or written, or holds no id.
    """
    path = folder / "installation"
    if not path.exists():
        _write(path, secrets.token_hex(_ID_BYTES))
    installation = path.read_text(encoding="ascii", errors="replace").strip()
    if not _ID.fullmatch(installation):
        # A new id in its place would give up the attempts that the old one names, with all that they hold.
        raise OSError(
            f"{path} holds no id of an installation (8 or more digits 0-9a-f): restore it, or, if no attempts are "
            "left in the cluster, remove it"
        )
    return installation


def _write(path: Path, installation: str) -> None:
    """By rename: after a crash there is a whole id, or none."""
    draft = path.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(installation + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)

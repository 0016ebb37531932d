"""Pages: sizes with a ceiling, and opaque tokens that belong to one query."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime
from typing import Any

from trana.jobs.domain.errors import InvalidRequest
from trana.jobs.store.store import PageKey
from trana.spec.violation import Violation


def page_size(asked: int, *, default: int, most: int) -> int:
    """What is asked, the default where that is 0, and never more than `most`."""
    return min(asked or default, most)


def jobs_token(key: PageKey, query: str) -> str:
    """A token for the page behind `key` of a list with the filter `query`."""
    return _encode({"time": key.create_time.isoformat(), "id": key.id, "query": query})


def jobs_key(token: str, query: str) -> PageKey | None:
    """Where the page begins; None for the first.

    Raises:
        InvalidRequest: the token is not ours or belongs to another filter.
    """
    if not token:
        return None
    content = _decode(token)
    try:
        key = PageKey(datetime.fromisoformat(content["time"]), content["id"])
        if content["query"] != query:
            raise _invalid("belongs to another filter: send the filter of the first page with each")
    except (KeyError, TypeError, ValueError) as error:
        raise _invalid("is not a token of this list") from error
    return key


def epochs_token(epoch: int) -> str:
    """A token for the page behind an epoch."""
    return _encode({"epoch": epoch})


def epochs_key(token: str) -> int:
    """The last epoch of the page before; 0 for the first page.

    Raises:
        InvalidRequest: the token is not ours.
    """
    if not token:
        return 0
    epoch = _decode(token).get("epoch")
    if not isinstance(epoch, int):
        raise _invalid("is not a token of this list")
    return epoch


def _encode(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def _decode(token: str) -> dict[str, Any]:
    try:
        content = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (binascii.Error, ValueError) as error:
        raise _invalid("is not a token that this service made") from error
    if not isinstance(content, dict):
        raise _invalid("is not a token that this service made")
    return content


def _invalid(problem: str) -> InvalidRequest:
    return InvalidRequest([Violation("page_token", problem, "page_token.valid")])

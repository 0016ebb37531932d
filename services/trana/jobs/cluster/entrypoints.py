"""Entrypoints: functions named by a string, called only in the workers of the cluster."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from trana.jobs.cluster.endings import Failure, failure_of


def resolve(entrypoint: str) -> Callable[..., Any]:
    """The function that `module:function` names.

    Raises:
        ValueError: It is not of that form, or what it names cannot be called.
        ImportError: The module cannot be imported.
        AttributeError: The module has no such function.
    """
    module, colon, name = entrypoint.partition(":")
    if not colon:
        raise ValueError(f"{entrypoint!r} is no entrypoint: write module:function")
    function = getattr(importlib.import_module(module), name)
    if not callable(function):
        raise ValueError(f"{entrypoint!r} names something that cannot be called")
    return function  # type: ignore[no-any-return]


def guarded(function: Callable[[], Any]) -> Failure | None:
    """Calls `function`; what it raises becomes plain data.

    `SystemExit` is caught too: let through, it would end the actor as if by design, and a user's `sys.exit(0)` would
    look like a good end.
    """
    try:
        function()
    except BaseException as error:  # noqa: BLE001 - user code may raise anything
        return failure_of(error)
    return None

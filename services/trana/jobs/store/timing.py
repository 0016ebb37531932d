"""How long the store's operations take, told to whoever wants to know."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from trana.jobs.domain.errors import StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")


class Observe(Protocol):
    """Is told of each operation: its name, its seconds, and whether the database did not answer."""

    def __call__(self, operation: str, *, seconds: float, failed: bool) -> None:
        """Takes note."""
        ...


class Observed(Protocol):
    """What has an `observe`."""

    observe: Observe


S = TypeVar("S", bound=Observed)


def nobody(operation: str, *, seconds: float, failed: bool) -> None:
    """Does not want to know."""


def timed(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Makes a method one that tells how long it took, under its own name."""

    @wraps(method)
    async def measured(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        since, failed = time.perf_counter(), False
        try:
            return await method(self, *args, **kwargs)
        except StoreUnavailable:
            failed = True
            raise
        finally:
            self.observe(method.__name__, seconds=time.perf_counter() - since, failed=failed)

    return measured

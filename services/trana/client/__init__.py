"""The Python client and the `trana` command: they speak `trana.v1` to a service, and know nothing of how it works.

Not here: anything of the service's inside, torch, ray or SQL.

    from trana.client import Client

    with Client("127.0.0.1:50051") as client:
        job = client.wait(client.submit("iris.yaml").name)
        client.download(job.name, "best", "iris-best")
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trana.client.client import Client
    from trana.client.errors import (
        ClientClosed,
        DownloadError,
        InvalidRequest,
        JobFailed,
        NotFound,
        Refused,
        TimedOut,
        TranaError,
        Unreachable,
    )

__all__ = [
    "Client",
    "ClientClosed",
    "DownloadError",
    "InvalidRequest",
    "JobFailed",
    "NotFound",
    "Refused",
    "TimedOut",
    "TranaError",
    "Unreachable",
]


def __getattr__(name: str) -> Any:
    # Late, so that `trana --help`, which passes through this package, does not wait for grpc.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = "trana.client.client" if name == "Client" else "trana.client.errors"
    return getattr(importlib.import_module(room), name)

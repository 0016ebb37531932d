"""BundleService over the shelf."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from grpc.aio import ServicerContext

from trana.jobs.bundles.shelf import Shelf, Stored
from trana.jobs.domain.errors import CodeNotAllowed
from trana.v1 import bundle_service_pb2 as api
from trana.v1 import bundle_service_pb2_grpc

Context = ServicerContext[Any, Any]


class BundleService(bundle_service_pb2_grpc.BundleServiceServicer):
    """Takes archives of the users' code. Requests are valid when they arrive here."""

    def __init__(self, *, shelf: Shelf, allow_code: bool) -> None:
        self._shelf = shelf
        self._allow_code = allow_code

    async def UploadBundle(  # noqa: N802
        self, request_iterator: AsyncIterator[api.UploadBundleRequest], context: Context
    ) -> api.Bundle:
        """Keeps an archive; the same one is kept once."""
        if not self._allow_code:
            raise CodeNotAllowed
        return _message(await self._shelf.put(piece.data async for piece in request_iterator))

    async def GetBundle(self, request: api.GetBundleRequest, context: Context) -> api.Bundle:  # noqa: N802
        """What there is to say of a bundle."""
        return _message(await self._shelf.get(request.name.partition("/")[2]))


def _message(stored: Stored) -> api.Bundle:
    bundle = api.Bundle(
        name=stored.name,
        size_bytes=stored.size_bytes,
        unpacked_bytes=stored.contents.unpacked_bytes,
        num_files=len(stored.contents.files),
    )
    bundle.create_time.FromDatetime(stored.create_time)
    return bundle

"""Brings a bundle to the service: not at all where it is there, else whole."""

import time
from collections.abc import Callable, Iterator

import grpc

from trana.client.errors import code_of, is_broken_stream
from trana.spec.packing import Archive
from trana.v1 import bundle_service_pb2, bundle_service_pb2_grpc

# Most that the contract lets a message hold.
PIECE_BYTES = 2**20
# The slowest line that an upload is given time for.
_BYTES_PER_SECOND = 2**18
_TRIES = 4
_FIRST_PAUSE_SECONDS = 0.1

Progress = Callable[[int, int], None]


def upload(
    service: bundle_service_pb2_grpc.BundleServiceStub,
    archive: Archive,
    *,
    timeout_seconds: float,
    on_progress: Progress,
    pause: Callable[[float], object] = time.sleep,
) -> bundle_service_pb2.Bundle:
    """Uploads an archive that the service does not have; a connection that breaks is tried again.

    Args:
        service: Where to.
        archive: What.
        timeout_seconds: For each try, and a second more for each 256 KiB.
        on_progress: Called with the bytes that were handed to the connection and those there are; from another
            thread, and from 0 again where it is tried again. Not called where nothing is sent.
        pause: Waits for so many seconds.

    Raises:
        grpc.RpcError: As the service answers, or if the connection keeps breaking.
    """
    for number in range(_TRIES):
        try:
            found = _find(service, archive.name, timeout_seconds)
            return found or _send(service, archive.data, timeout_seconds, on_progress)
        except grpc.RpcError as error:
            if not is_broken_stream(error) or number == _TRIES - 1:
                raise
            pause(_FIRST_PAUSE_SECONDS * 2**number)
    raise AssertionError("the last try has returned or raised")


def _find(
    service: bundle_service_pb2_grpc.BundleServiceStub, name: str, timeout_seconds: float
) -> bundle_service_pb2.Bundle | None:
    try:
        return service.GetBundle(bundle_service_pb2.GetBundleRequest(name=name), timeout=timeout_seconds)
    except grpc.RpcError as error:
        if code_of(error) == grpc.StatusCode.NOT_FOUND:
            return None
        raise


def _send(
    service: bundle_service_pb2_grpc.BundleServiceStub, data: bytes, timeout_seconds: float, on_progress: Progress
) -> bundle_service_pb2.Bundle:
    def pieces() -> Iterator[bundle_service_pb2.UploadBundleRequest]:
        for begin in range(0, len(data), PIECE_BYTES):
            piece = data[begin : begin + PIECE_BYTES]
            yield bundle_service_pb2.UploadBundleRequest(data=piece)
            on_progress(begin + len(piece), len(data))

    return service.UploadBundle(pieces(), timeout=timeout_seconds + len(data) / _BYTES_PER_SECOND)

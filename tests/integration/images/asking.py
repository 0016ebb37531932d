"""What is asked of a container from outside, and waited for."""

from __future__ import annotations

import http.client
import socket
import subprocess
import time
from collections.abc import Callable

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc


def until(met: Callable[[], bool], *, process: subprocess.Popen[str], seconds: float) -> float:
    """Waits for a condition; returns how long that took."""
    start = time.monotonic()
    while not met():
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < start + seconds
        time.sleep(0.05)
    return time.monotonic() - start


def serves(port: int) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = health_pb2.HealthCheckRequest(service="trana.v1.JobService")
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=1)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def of(process: subprocess.Popen[str], word: str) -> psutil.Process:
    """The process in the container whose command line has that word; the first, where it has children like it."""
    return next(
        child for child in psutil.Process(process.pid).children(recursive=True) if child.cmdline()[1:3] == ["-m", word]
    )

"""Exits with 0 where the control plane in this container says that it serves, and with 1 where it does not."""

import os
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE = "trana.v1.JobService"
SECONDS = 3.0


def main() -> int:
    """Asks as Kubernetes does: by the standard health service, at the port that TRANA_LISTEN names."""
    port = os.environ["TRANA_LISTEN"].rpartition(":")[2]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=SECONDS)
        except grpc.RpcError as error:
            sys.stderr.write(f"no answer from port {port}: {error.code().name}\n")
            return 1
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


if __name__ == "__main__":
    sys.exit(main())

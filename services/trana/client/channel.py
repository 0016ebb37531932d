"""The connection to a service: what is tried again, how large a message may be, how a lost peer is noticed."""

import ipaddress
import json
from typing import Any

import grpc

from trana.v1 import bundle_service_pb2, job_service_pb2

# Every call may be repeated: CreateJob carries a request_id, the others ask or are idempotent. An upload sees to it
# itself: grpc keeps no more of a stream than a little for another try.
_SERVICE_CONFIG: dict[str, Any] = {
    "methodConfig": [
        {
            "name": [
                {"service": job_service_pb2.DESCRIPTOR.services_by_name["JobService"].full_name},
                {
                    "service": bundle_service_pb2.DESCRIPTOR.services_by_name["BundleService"].full_name,
                    "method": "GetBundle",
                },
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_OPTIONS = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # A page of jobs with long lists of features is larger than the 4 MiB that are the default.
    ("grpc.max_receive_message_length", 64 * 2**20),
    # Finds out about a peer that is gone without a word; no more often than servers allow by default.
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Left to itself grpc waits up to two minutes before it tries a lost address again.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


def open_channel(address: str) -> grpc.Channel:
    """Makes a channel to HOST:PORT; the connection is made by the first call."""
    options = _OPTIONS + ([("grpc.enable_http_proxy", 0)] if _is_loopback(address) else [])
    return grpc.insecure_channel(address, options=options)


def _is_loopback(address: str) -> bool:
    """Whether a proxy, which the environment may name for everything, cannot be meant."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

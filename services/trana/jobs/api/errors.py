"""Errors of the domain as google.rpc.Status: a canonical code, ErrorInfo, and one violation per wrong field."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, ResourceInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from trana.jobs.domain import errors

DOMAIN = "trana.dev"
DETAILS_KEY = "grpc-status-details-bin"

CODES: dict[type[errors.TranaError], StatusCode] = {
    errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
    errors.InvalidBundle: StatusCode.INVALID_ARGUMENT,
    errors.JobNotFound: StatusCode.NOT_FOUND,
    errors.CheckpointNotFound: StatusCode.NOT_FOUND,
    errors.LogsNotFound: StatusCode.NOT_FOUND,
    errors.TooManyReaders: StatusCode.RESOURCE_EXHAUSTED,
    errors.BundleNotFound: StatusCode.NOT_FOUND,
    errors.BundleTooLarge: StatusCode.RESOURCE_EXHAUSTED,
    errors.BundleNotUploaded: StatusCode.FAILED_PRECONDITION,
    errors.CheckpointUnusable: StatusCode.FAILED_PRECONDITION,
    errors.CodeNotAllowed: StatusCode.PERMISSION_DENIED,
    errors.JobExists: StatusCode.ALREADY_EXISTS,
    errors.RequestIdReused: StatusCode.ALREADY_EXISTS,
    errors.CapacityExceeded: StatusCode.FAILED_PRECONDITION,
    errors.IllegalTransition: StatusCode.FAILED_PRECONDITION,
    errors.StaleJob: StatusCode.ABORTED,
    errors.StoreUnavailable: StatusCode.UNAVAILABLE,
    errors.ServiceStopping: StatusCode.UNAVAILABLE,
}


def code_of(error: errors.TranaError) -> StatusCode:
    """The canonical code of an error; every leaf of the tree has one."""
    return CODES.get(type(error), StatusCode.INTERNAL)


def status_of(error: errors.TranaError) -> Status:
    """The error with all its details."""
    number: int = code_of(error).value[0]
    return Status(code=number, message=error.message, details=[_packed(detail) for detail in _details(error)])


def internal_status() -> Status:
    """What a client learns of a fault of ours: nothing that could leak; the log has the traceback."""
    info = ErrorInfo(reason="INTERNAL", domain=DOMAIN)
    message = "the service failed to answer; its log says why"
    return Status(code=StatusCode.INTERNAL.value[0], message=message, details=[_packed(info)])


def _details(error: errors.TranaError) -> list[Message]:
    details: list[Message] = [ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=dict(error.metadata))]
    match error:
        case errors.InvalidRequest():
            details.append(_bad_request(error))
        case errors.JobNotFound():
            details.append(ResourceInfo(resource_type="trana.v1.Job", resource_name=f"jobs/{error.metadata['job']}"))
        case errors.BundleNotFound():
            name = f"bundles/{error.metadata['bundle']}"
            details.append(ResourceInfo(resource_type="trana.v1.Bundle", resource_name=name))
        case errors.StoreUnavailable() | errors.ServiceStopping() | errors.TooManyReaders():
            details.append(RetryInfo(retry_delay=Duration(seconds=1)))
    return details


def _bad_request(error: errors.InvalidRequest) -> BadRequest:
    return BadRequest(
        field_violations=[
            BadRequest.FieldViolation(field=found.field, description=found.description, reason=found.rule)
            for found in error.violations
        ]
    )


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed

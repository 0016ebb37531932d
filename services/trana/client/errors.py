"""Errors of the client: one tree, translated from gRPC in one place."""

from collections.abc import Mapping, Sequence

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from trana.spec.violation import Violation
from trana.v1 import job_pb2


class TranaError(Exception):
    """Something went wrong; its text says what, and how to mend it where that is known.

    Attributes:
        code: Canonical code, such as `NOT_FOUND`.
        reason: What exactly, for programs, such as `CAPACITY_EXCEEDED`; empty where unknown.
        violations: The wrong fields of a request; empty for every other error.
        metadata: The values that the text mentions, by name.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "UNKNOWN",
        reason: str = "",
        violations: Sequence[Violation] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})


class InvalidRequest(TranaError):
    """The spec, or another field of the request, is wrong; `violations` name the fields."""


class NotFound(TranaError):
    """There is no such job or checkpoint."""


class Refused(TranaError):
    """The service understood, and will not: the cluster is too small, the id is taken."""


class Unreachable(TranaError):
    """No service answers at the address, or it stopped answering."""


class TimedOut(TranaError):
    """The job did not end in the time that was given; it goes on."""


class ClientClosed(TranaError):
    """The client was closed before the call, or while it ran."""

    def __init__(self) -> None:
        super().__init__("this client is closed; make a new one", code="CANCELLED", reason="CLIENT_CLOSED")


class DownloadError(TranaError):
    """A checkpoint did not arrive as it was saved, or cannot be written; nothing of it was kept."""


class JobFailed(TranaError):
    """A job that was waited for ended FAILED or CANCELLED.

    Attributes:
        job: The job, with its cause and message.
    """

    def __init__(self, job: job_pb2.Job) -> None:
        self.job = job
        self.state = job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")
        super().__init__(f"{job.name} ended {self.state}: {job.message}", code=self.state, reason=self.state)


_BY_CODE: Mapping[grpc.StatusCode, type[TranaError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: Refused,
    grpc.StatusCode.FAILED_PRECONDITION: Refused,
    grpc.StatusCode.PERMISSION_DENIED: Refused,
    grpc.StatusCode.UNAUTHENTICATED: Refused,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Refused,
    grpc.StatusCode.ABORTED: Refused,
    grpc.StatusCode.UNAVAILABLE: Unreachable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unreachable,
}

# What grpc's transport makes of a connection that broke: the service itself sends these with details, or not at all.
_BROKEN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_BROKEN_WITHOUT_DETAILS = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)


def translate(error: grpc.RpcError, address: str) -> TranaError:
    """Returns the client's error for one of gRPC's.

    Args:
        error: What a call raised.
        address: Whom the call was for, to name in the text.
    """
    code = code_of(error)
    status = _status(error)
    info, violations = ErrorInfo(), list[Violation]()
    for detail in status.details if status else ():
        bad = BadRequest()
        if detail.Unpack(bad):
            violations = [Violation(v.field, v.description, v.reason) for v in bad.field_violations]
        detail.Unpack(info)
    message = status.message if status and status.message else _explain(code, _text(error), address)
    return _BY_CODE.get(code, TranaError)(
        message, code=code.name, reason=info.reason, violations=violations, metadata=dict(info.metadata)
    )


def is_broken_stream(error: grpc.RpcError) -> bool:
    """Whether a stream ended because its connection did, so that another one may go on with it."""
    code = code_of(error)
    return code in _BROKEN or (code in _BROKEN_WITHOUT_DETAILS and _status(error) is None)


def code_of(error: grpc.RpcError) -> grpc.StatusCode:
    """Returns the canonical code of what a call raised."""
    return error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN


def _text(error: grpc.RpcError) -> str:
    return (error.details() or "") if isinstance(error, grpc.Call) else str(error)


def _status(error: grpc.RpcError) -> Status | None:
    try:
        status: Status | None = rpc_status.from_call(error)
    except ValueError:
        # Details that contradict the code come from no service of ours: the code alone is used.
        return None
    return status


def _explain(code: grpc.StatusCode, text: str, address: str) -> str:
    """Says in plain words what gRPC says in its own."""
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return (
                f"no Trana service answers at {address}: start one with `trana serve`, "
                f"or name another with --server or TRANA_SERVER ({_innermost(text)})"
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"the service at {address} did not answer in time"
        case grpc.StatusCode.UNIMPLEMENTED:
            return f"what answers at {address} is no Trana service, or one of another version ({text})"
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return f"the message is too large for the service at {address} ({text})"
    return text or f"the service at {address} answered {code.name}"


def _innermost(text: str) -> str:
    """Returns the last cause of a chain as gRPC writes it, without the ends of brackets that began before it."""
    cause = text.rpartition(": ")[2]
    return cause if "[" in cause else cause.partition("]")[0]

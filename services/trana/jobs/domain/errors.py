"""What can go wrong with a request, as the errors that handlers raise.

TranaError
├── InvalidRequest        a field is wrong; one violation each
│   └── InvalidBundle     an archive of code is none, or may not be kept
├── JobNotFound
├── CheckpointNotFound
├── LogsNotFound          the job has no such attempt, or its logs are gone
├── TooManyReaders        as many read logs as may
├── BundleNotFound
├── BundleTooLarge        an archive of code is too large, packed or unpacked
├── BundleNotUploaded     a job names a bundle that was never uploaded
├── CodeNotAllowed        this service runs no code of users
├── CheckpointUnusable    the checkpoint that a job starts from is not there, or of another network
├── JobExists             the job id is taken
├── RequestIdReused       the same request id with another body
├── CapacityExceeded      the cluster can never hold the job
├── IllegalTransition     the state machine has no such edge
├── StaleJob              the row has changed since it was read
├── StoreUnavailable      the database does not answer in time
└── ServiceStopping       the service drains; ask again
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trana.spec.violation import Violation


class TranaError(Exception):
    """The root. `reason` and `metadata` go into google.rpc.ErrorInfo; the text is for people."""

    reason = "INTERNAL"

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata: Mapping[str, str] = metadata


class InvalidRequest(TranaError):
    """One or more fields of the request are wrong."""

    reason = "INVALID_REQUEST"

    def __init__(self, violations: Sequence[Violation]) -> None:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        super().__init__(f"{first.field}: {first.description}{more}")
        self.violations = tuple(violations)


class JobNotFound(TranaError):
    """There is no job of that name."""

    reason = "JOB_NOT_FOUND"

    def __init__(self, job: str) -> None:
        super().__init__(f"there is no job {job!r}: `trana list` shows those that are", job=job)


class CheckpointNotFound(TranaError):
    """The job has no checkpoint of that kind, or its files are gone."""

    reason = "CHECKPOINT_NOT_FOUND"

    def __init__(self, job: str, kind: str, why: str) -> None:
        super().__init__(f"job {job!r} has no checkpoint {kind!r}: {why}", job=job, kind=kind)


class LogsNotFound(TranaError):
    """The job has made no such attempt, or nothing that its workers wrote is left."""

    reason = "LOGS_NOT_FOUND"

    def __init__(self, job: str, attempt: int, why: str) -> None:
        super().__init__(f"job {job!r} has no logs of attempt {attempt}: {why}", job=job, attempt=str(attempt))


class TooManyReaders(TranaError):
    """As many streams of logs are open as may be."""

    reason = "TOO_MANY_READERS"

    def __init__(self, readers: int) -> None:
        super().__init__(f"{readers} others read logs of this service: try again when one has ended")


class InvalidBundle(InvalidRequest):
    """An archive of code cannot be kept; `why` goes on from "the archive"."""

    reason = "INVALID_BUNDLE"

    def __init__(self, why: str, **metadata: str) -> None:
        super().__init__([Violation("data", f"the archive {why}", "bundle.archive")])
        self.metadata = metadata


class BundleTooLarge(TranaError):
    """An archive of code is too large, packed or unpacked."""

    reason = "BUNDLE_TOO_LARGE"


class BundleNotFound(TranaError):
    """There is no bundle of that name."""

    reason = "BUNDLE_NOT_FOUND"

    def __init__(self, digest: str) -> None:
        super().__init__(f"there is no bundle {digest}: upload it first, as `trana submit` does", bundle=digest)


class BundleNotUploaded(TranaError):
    """A job names a bundle that was never uploaded."""

    reason = "BUNDLE_NOT_UPLOADED"

    def __init__(self, digest: str) -> None:
        text = f"spec.training.code.bundle: there is no bundle {digest}: upload it first, as `trana submit` does"
        super().__init__(text, bundle=digest)


class CodeNotAllowed(TranaError):
    """This service runs no code of users."""

    reason = "CODE_NOT_ALLOWED"

    def __init__(self) -> None:
        super().__init__(
            "this service runs no code of users: declare the network and use the service's loop, or ask whoever runs "
            "the service to start it with --allow-code (TRANA_ALLOW_CODE=true)"
        )


class CheckpointUnusable(TranaError):
    """The checkpoint that a job starts from is not there, or is of another network."""

    reason = "CHECKPOINT_UNUSABLE"


class JobExists(TranaError):
    """The job id is taken."""

    reason = "JOB_EXISTS"

    def __init__(self, job: str) -> None:
        super().__init__(f"job {job!r} exists already: choose another job_id or none", job=job)


class RequestIdReused(TranaError):
    """The request id was used for another request."""

    reason = "REQUEST_ID_REUSED"

    def __init__(self, request_id: str, job: str) -> None:
        super().__init__(
            f"request_id {request_id} was used for job {job!r} with another body: use a new UUID per request",
            request_id=request_id,
            job=job,
        )


class CapacityExceeded(TranaError):
    """The cluster can never hold the job's worker group."""

    reason = "CAPACITY_EXCEEDED"


class IllegalTransition(TranaError):
    """The state machine has no such edge."""

    reason = "ILLEGAL_TRANSITION"

    def __init__(self, job: str, before: str, after: str) -> None:
        super().__init__(f"job {job!r} is {before}: it cannot become {after}", job=job, state=before)


class StaleJob(TranaError):
    """The job's row has changed since it was read: whatever was decided on it is void."""

    reason = "STALE_JOB"

    def __init__(self, job: str) -> None:
        super().__init__(f"job {job!r} has changed meanwhile: ask again", job=job)


class StoreUnavailable(TranaError):
    """The database does not answer in time, or refuses to write."""

    reason = "STORE_UNAVAILABLE"


class ServiceStopping(TranaError):
    """The service drains its streams and stops."""

    reason = "SERVICE_STOPPING"

    def __init__(self) -> None:
        super().__init__("the service is stopping: ask again, streams resume from their last sequence number")

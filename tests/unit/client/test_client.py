import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from trana.client import (
    Client,
    ClientClosed,
    InvalidRequest,
    JobFailed,
    NotFound,
    Refused,
    TimedOut,
    TranaError,
    Unreachable,
)
from trana.v1 import job_pb2, job_service_pb2


def test_a_job_is_submitted_with_a_request_id_of_its_own(client: Client, service: Any, spec: job_pb2.JobSpec) -> None:
    client.submit(spec)
    client.submit(spec)
    first, second = service.requests
    assert uuid.UUID(first.request_id) != uuid.UUID(second.request_id)
    assert first.spec == spec


def test_the_callers_ids_are_sent(client: Client, service: Any, spec: job_pb2.JobSpec) -> None:
    request_id = str(uuid.uuid4())
    job = client.submit(spec, job_id="mine", request_id=request_id, validate_only=True)
    (request,) = service.requests
    assert job.name == "jobs/mine"
    assert (request.job_id, request.request_id, request.validate_only) == ("mine", request_id, True)


def test_a_job_may_be_a_file_or_dicts(client: Client, service: Any, spec_file: Path, spec: job_pb2.JobSpec) -> None:
    client.submit(spec_file)
    client.submit(str(spec_file))
    training = {
        "network": {"layers": [{"linear": {"out_features": 3}}]},
        "dataset": {"csv": {"uri": "/jobs/iris.csv"}, "target": "t", "split": {"fractions": {"validation": 0.2}}},
        "loss": "cross_entropy",
        "optimizer": {"sgd": {"learning_rate": 0.1}},
        "epochs": 1,
        "global_batch_size": 4,
    }
    client.submit({"training": training, "resources": {"num_workers": 1}})
    assert service.requests[0].spec == service.requests[1].spec
    assert service.requests[0].spec.training.dataset.csv.uri == spec_file.with_name("iris.csv").as_uri()
    assert service.requests[2].spec.training.epochs == 1


def test_a_wrong_spec_is_refused_before_it_is_sent(client: Client, service: Any, spec: job_pb2.JobSpec) -> None:
    wrong = job_pb2.JobSpec()
    wrong.CopyFrom(spec)
    wrong.training.epochs = 0
    with pytest.raises(InvalidRequest) as caught:
        client.submit(wrong)
    assert [violation.field for violation in caught.value.violations] == ["spec.training.epochs"]
    with pytest.raises(InvalidRequest, match="No such file"):
        client.submit("absent.yaml")
    assert service.requests == []


def test_jobs_are_listed_across_pages(client: Client, service: Any) -> None:
    service.jobs = [job_pb2.Job(name=f"jobs/job-{number}") for number in range(7)]
    assert [job.name for job in client.list(filter="state = RUNNING", page_size=3)] == [j.name for j in service.jobs]
    assert [request.page_token for request in service.requests] == ["", "3", "6"]
    assert {request.filter for request in service.requests} == {"state = RUNNING"}


def test_epochs_come_from_all_pages(client: Client, service: Any) -> None:
    assert [epoch.epoch for epoch in client.epochs("iris")] == [1, 2, 3, 4, 5]
    assert len(service.requests) == 3


@pytest.mark.parametrize("job", ["iris", "jobs/iris"])
def test_a_job_goes_by_its_name_or_its_id(client: Client, service: Any, job: str) -> None:
    client.get(job)
    client.cancel(job)
    assert [request.name for request in service.requests] == ["jobs/iris", "jobs/iris"]


def test_waiting_returns_the_job_when_it_has_succeeded(client: Client) -> None:
    job = client.wait("iris")
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED


def test_waiting_follows_a_job_that_runs(client: Client, service: Any, fail: Callable[..., None]) -> None:
    service.allowed = 2
    with pytest.raises(TimedOut):
        client.wait("iris", timeout_seconds=0.3)
    get, watch = service.requests
    assert isinstance(get, job_service_pb2.GetJobRequest)
    assert watch.after_sequence == 2
    service.allow(10**9)
    assert client.wait("iris").state == job_pb2.JOB_STATE_SUCCEEDED


@pytest.mark.parametrize("state", ["JOB_STATE_FAILED", "JOB_STATE_CANCELLED"])
def test_waiting_raises_when_the_job_ends_badly(client: Client, service: Any, state: str) -> None:
    service.state = job_pb2.JobState.Value(state)
    with pytest.raises(JobFailed) as caught:
        client.wait("iris")
    assert caught.value.job.state == service.state
    assert caught.value.code == state.removeprefix("JOB_STATE_")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.ALREADY_EXISTS, Refused),
        (grpc.StatusCode.FAILED_PRECONDITION, Refused),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Refused),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Unreachable),
        (grpc.StatusCode.INTERNAL, TranaError),
        (grpc.StatusCode.DATA_LOSS, TranaError),
    ],
)
def test_each_code_has_its_error(
    client: Client, fail: Callable[..., None], code: grpc.StatusCode, kind: type[TranaError]
) -> None:
    fail(code, "what happened", reason="SOME_REASON")
    with pytest.raises(TranaError, match="what happened") as caught:
        client.get("iris")
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.reason) == (code.name, "SOME_REASON")
    assert caught.value.metadata == {"job": "iris"}


def test_violations_of_the_service_reach_the_caller(client: Client, fail: Callable[..., None]) -> None:
    fail(grpc.StatusCode.INVALID_ARGUMENT, "wrong", reason="INVALID_REQUEST", field="name")
    with pytest.raises(InvalidRequest) as caught:
        client.get("iris")
    (violation,) = caught.value.violations
    assert (violation.field, violation.description, violation.rule) == ("name", "must be right", "some.rule")


def test_an_error_without_details_is_told_in_plain_words(client: Client, fail: Callable[..., None]) -> None:
    fail(grpc.StatusCode.UNIMPLEMENTED, "method not found")
    with pytest.raises(TranaError, match="no Trana service, or one of another version"):
        client.get("iris")


def test_a_call_is_repeated_while_the_service_is_unavailable(
    client: Client, service: Any, fail: Callable[..., None], spec: job_pb2.JobSpec
) -> None:
    fail(grpc.StatusCode.UNAVAILABLE, "starting", reason="SERVICE_STOPPING")
    fail(grpc.StatusCode.UNAVAILABLE, "starting", reason="SERVICE_STOPPING")
    client.submit(spec)
    assert len(service.requests) == 3
    assert len({request.request_id for request in service.requests}) == 1


def test_nobody_there_is_told_with_what_to_do() -> None:
    with (
        Client("127.0.0.1:1", timeout_seconds=10) as client,
        pytest.raises(Unreachable, match=r"no Trana service answers at 127\.0\.0\.1:1: start one with `trana serve`"),
    ):
        client.get("iris")


@pytest.mark.parametrize(
    "call",
    [
        lambda client, spec, folder: client.submit(spec),
        lambda client, spec, folder: client.get("iris"),
        lambda client, spec, folder: client.wait("iris"),
        lambda client, spec, folder: next(client.watch("iris")),
        lambda client, spec, folder: client.cancel("iris"),
        lambda client, spec, folder: client.epochs("iris"),
        lambda client, spec, folder: client.checkpoints("iris"),
        lambda client, spec, folder: client.download("iris", "best", folder),
        lambda client, spec, folder: next(client.list()),
    ],
    ids=["submit", "get", "wait", "watch", "cancel", "epochs", "checkpoints", "download", "list"],
)
def test_a_closed_client_says_so(client: Client, spec: job_pb2.JobSpec, tmp_path: Path, call: Any) -> None:
    client.close()
    with pytest.raises(ClientClosed, match="this client is closed; make a new one"):
        call(client, spec, tmp_path / "iris")


def test_a_client_may_be_closed_twice(client: Client) -> None:
    client.close()
    client.close()

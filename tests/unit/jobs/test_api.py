"""JobService over a real socket and a real store."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import generate_latest
from trana.jobs.api import job_service
from trana.jobs.api.errors import CODES
from trana.jobs.api.server import SERVICE, Server
from trana.jobs.domain import changes, states
from trana.jobs.domain.errors import TranaError
from trana.jobs.metrics.live import Known
from trana.jobs.metrics.metrics import Metrics
from trana.jobs.store.store import Request
from trana.v1 import job_service_pb2 as api
from trana.v1.job_pb2 import JobSpec
from trana.v1.network_pb2 import Conv2d, Dropout, Flatten, Layer, Linear, ReLU
from unit.jobs.records import best, epoch, first_step, later, record, spec
from unit.jobs.served import Site, first, refused


def fields(details: dict[str, Any]) -> list[str]:
    return [violation.field for violation in details["BadRequest"].field_violations]


async def test_job_that_was_accepted_can_be_read(site: Site) -> None:
    made = await site.stub.CreateJob(api.CreateJobRequest(spec=spec(), job_id="my-job"))
    assert made.name == "jobs/my-job"
    assert made.state == states.QUEUED
    assert await site.stub.GetJob(api.GetJobRequest(name="jobs/my-job")) == made


async def test_validate_only_makes_nothing(site: Site) -> None:
    shown = await site.stub.CreateJob(api.CreateJobRequest(spec=spec(), validate_only=True))
    assert shown.state == states.QUEUED
    assert list((await site.stub.ListJobs(api.ListJobsRequest())).jobs) == []


async def test_request_id_makes_submission_idempotent(site: Site) -> None:
    request = api.CreateJobRequest(spec=spec(labels={"b": "1", "a": "2"}), request_id=str(uuid.uuid4()))
    made = await asyncio.gather(*(site.stub.CreateJob(request) for _ in range(20)))
    assert len({job.name for job in made}) == 1
    request.spec.training.epochs += 1
    code, text, details = await refused(site.stub.CreateJob(request))
    assert code == grpc.StatusCode.ALREADY_EXISTS
    assert "with another body" in text
    assert details["ErrorInfo"].reason == "REQUEST_ID_REUSED"


async def test_taken_job_id_is_refused(site: Site) -> None:
    await site.stub.CreateJob(api.CreateJobRequest(spec=spec(), job_id="a"))
    code, _, details = await refused(site.stub.CreateJob(api.CreateJobRequest(spec=spec(), job_id="a")))
    assert (code, details["ErrorInfo"].reason) == (grpc.StatusCode.ALREADY_EXISTS, "JOB_EXISTS")


def with_layers(*layers: Layer) -> JobSpec:
    made = spec()
    made.training.network.ClearField("layers")
    made.training.network.layers.extend(layers)
    return made


def changed(path: str, value: object) -> JobSpec:
    made = spec()
    *way, last = path.split(".")
    message: Any = made
    for name in way:
        message = getattr(message, name)
    setattr(message, last, value)
    return made


RELU = Layer(relu=ReLU())
DROPOUT = with_layers(Layer(dropout=Dropout(p=1.5)), Layer(linear=Linear(out_features=3)))
SHAPES = with_layers(
    Layer(linear=Linear(out_features=8)), Layer(conv2d=Conv2d(out_channels=2, kernel_size=3)), Layer(flatten=Flatten())
)
NAN, MANY = float("nan"), with_layers(*[RELU] * 200_000)
WRONG: list[tuple[str, JobSpec, str]] = [
    ("no network", with_layers(), "network.layers"),
    ("200,000 layers", MANY, "network.layers"),
    ("dropout 1.5", DROPOUT, "network.layers[0].dropout.p"),
    ("rate NaN", changed("training.optimizer.sgd.learning_rate", NAN), "optimizer.sgd.learning_rate"),
    ("zero epochs", changed("training.epochs", 0), "epochs"),
    ("zero batch", changed("training.global_batch_size", 0), "global_batch_size"),
    ("unknown enum", changed("training.early_stopping.monitor", 77), "early_stopping.monitor"),
    ("shapes", SHAPES, "network.layers[1].conv2d"),
    ("plain path", changed("training.dataset.csv.uri", "data.csv"), "dataset.csv.uri"),
]


@pytest.mark.parametrize(("wrong", "field"), [pytest.param(job, field, id=name) for name, job, field in WRONG])
async def test_wrong_field_is_named_before_anything_starts(site: Site, wrong: JobSpec, field: str) -> None:
    if field.endswith("monitor"):
        wrong.training.early_stopping.patience = 1
    started = asyncio.get_running_loop().time()
    code, _, details = await refused(site.stub.CreateJob(api.CreateJobRequest(spec=wrong)))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert fields(details) == [f"spec.training.{field}"]
    assert asyncio.get_running_loop().time() - started < 3
    assert await site.store.live_jobs() == []


async def test_each_wrong_field_gets_one_violation(site: Site) -> None:
    wrong = spec()
    wrong.training.epochs = 0
    wrong.training.optimizer.sgd.learning_rate = float("inf")
    wrong.resources.num_workers = -1
    _, text, details = await refused(site.stub.CreateJob(api.CreateJobRequest(spec=wrong, request_id="no-uuid")))
    assert sorted(fields(details)) == [
        "request_id",
        "spec.resources.num_workers",
        "spec.training.epochs",
        "spec.training.optimizer.sgd.learning_rate",
    ]
    assert "(and 3 more)" in text
    assert all(violation.reason for violation in details["BadRequest"].field_violations)


async def test_shapes_that_cannot_fit_name_both_layers(site: Site) -> None:
    _, text, _ = await refused(site.stub.CreateJob(api.CreateJobRequest(spec=SHAPES)))
    assert "layers[0] (linear)" in text
    assert "layers[1] (conv2d)" in text


async def test_more_workers_than_the_cluster_has_is_refused_with_what_it_has(site: Site) -> None:
    code, text, _ = await refused(site.stub.CreateJob(api.CreateJobRequest(spec=spec(workers=5))))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "needs 5 workers of 1 CPU each, but the cluster has 2 CPUs and 0 GPUs on 1 node" in text


async def test_job_is_accepted_while_the_cluster_was_never_seen(site: Site) -> None:
    site.nodes = None
    assert (await site.stub.CreateJob(api.CreateJobRequest(spec=spec(workers=5)))).state == states.QUEUED


@pytest.mark.parametrize("call", ["GetJob", "CancelJob", "ListEpochs", "ListCheckpoints"])
async def test_unknown_job_is_not_found(site: Site, call: str) -> None:
    request_type = getattr(api, f"{call}Request")
    field = "parent" if call.startswith("List") else "name"
    code, text, _ = await refused(getattr(site.stub, call)(request_type(**{field: "jobs/nobody"})))
    assert code == grpc.StatusCode.NOT_FOUND
    assert "there is no job 'nobody'" in text


async def test_unknown_job_is_not_found_in_streams_too(site: Site) -> None:
    code, _, _ = await refused(first(site.stub.WatchJob(api.WatchJobRequest(name="jobs/nobody"))))
    assert code == grpc.StatusCode.NOT_FOUND
    name = "jobs/nobody/checkpoints/best"
    code, _, _ = await refused(first(site.stub.DownloadCheckpoint(api.DownloadCheckpointRequest(name=name))))
    assert code == grpc.StatusCode.NOT_FOUND


async def test_checkpoint_that_was_never_saved_is_not_found_for_the_right_reason(site: Site) -> None:
    made = spec()
    made.training.loop.entrypoint = "train:train"
    await site.store.create_job(changes.created(record("loop", spec=made)), Request("loop", "loop"))
    request = api.DownloadCheckpointRequest(name="jobs/loop/checkpoints/best")
    _, text, _ = await refused(site.stub.DownloadCheckpoint(request).read())
    assert text.endswith("has no checkpoint 'best': it has finished no epoch yet")
    await site.report("loop", epoch(1, 0.5))
    _, text, _ = await refused(site.stub.DownloadCheckpoint(request).read())
    assert "its loop has saved nothing yet; context.save(...)" in text


async def test_list_is_paged_and_filtered(site: Site) -> None:
    for number in range(5):
        await site.stub.CreateJob(api.CreateJobRequest(spec=spec(labels={"odd": str(number % 2)}), job_id=f"j{number}"))
    seen, token = [], ""
    while True:
        page = await site.stub.ListJobs(api.ListJobsRequest(page_size=2, filter='labels.odd = "0"', page_token=token))
        seen += [job.name for job in page.jobs]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["jobs/j4", "jobs/j2", "jobs/j0"]
    code, _, details = await refused(site.stub.ListJobs(api.ListJobsRequest(page_token="made-up")))
    assert (code, fields(details)) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_token"])


async def watch(site: Site, after: int = 0) -> list[api.WatchJobResponse]:
    return [item async for item in site.stub.WatchJob(api.WatchJobRequest(name="jobs/a", after_sequence=after))]


async def test_watch_gives_the_state_and_then_every_event_until_the_end(site: Site) -> None:
    await site.stub.CreateJob(api.CreateJobRequest(spec=spec(), job_id="a"))
    watching = asyncio.create_task(watch(site))
    await site.report("a", first_step(), epoch(1, 0.5))
    await site.report("a", epoch(2, 0.4))
    await site.stub.CancelJob(api.CancelJobRequest(name="jobs/a"))
    await site.store.update("a", lambda job, _: changes.moved(job, states.CANCELLED, now=later(9)))
    seen = await asyncio.wait_for(watching, 10)
    assert not seen[0].HasField("event")
    assert [item.event.sequence for item in seen[1:]] == list(range(1, 8))
    assert seen[-1].job.state == states.CANCELLED
    assert [item.event.sequence for item in (await watch(site, after=4))[1:]] == [5, 6, 7]


async def test_long_history_of_a_job_that_has_ended_is_told_whole(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_service, "EVENTS_AT_ONCE", 3)
    await site.stub.CreateJob(api.CreateJobRequest(spec=spec(), job_id="a"))
    await site.report("a", first_step(), *(epoch(number, 0.5) for number in range(1, 9)))
    await site.stub.CancelJob(api.CancelJobRequest(name="jobs/a"))
    await site.store.update("a", lambda found, _: changes.cancel_completed(found, now=later(9)))
    assert [item.event.sequence for item in (await watch(site))[1:]] == list(range(1, 14))


async def test_last_message_of_a_watch_shows_the_final_state(site: Site) -> None:
    for number in range(30):
        job = f"a{number}"
        await site.stub.CreateJob(api.CreateJobRequest(spec=spec(), job_id=job))
        watching = asyncio.create_task(all_of(site.stub.WatchJob(api.WatchJobRequest(name=f"jobs/{job}"))))
        await site.stub.CancelJob(api.CancelJobRequest(name=f"jobs/{job}"))
        await site.store.update(job, lambda found, _: changes.cancel_completed(found, now=later(9)))
        assert (await watching)[-1].job.state == states.CANCELLED


async def all_of(stream: Any) -> list[Any]:
    return [item async for item in stream]


async def test_reflection_names_the_service(site: Site) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(site.channel)
    answers = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    names = {service.name async for answer in answers for service in answer.list_services_response.service}
    assert {"trana.v1.JobService", "grpc.health.v1.Health"} <= names


async def test_stop_ends_watchers_with_unavailable_and_tells_health(site: Site) -> None:
    await site.stub.CreateJob(api.CreateJobRequest(spec=spec(), job_id="a"))
    health: Any = health_pb2_grpc.HealthStub(site.channel)
    assert (
        await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
    ).status == health_pb2.HealthCheckResponse.SERVING
    stream = site.stub.WatchJob(api.WatchJobRequest(name="jobs/a"))
    await stream.read()
    await stream.read()
    stopping = asyncio.create_task(site.server.stop(drain_seconds=5))
    code, _, details = await refused(first(stream))
    assert code == grpc.StatusCode.UNAVAILABLE
    assert details["RetryInfo"].retry_delay.seconds == 1
    await asyncio.wait_for(stopping, 3)


async def test_epochs_are_paged(site: Site) -> None:
    await site.stub.CreateJob(api.CreateJobRequest(spec=spec(), job_id="a"))
    await site.report("a", first_step(), *(epoch(number, 1 / number) for number in range(1, 6)))
    page = await site.stub.ListEpochs(api.ListEpochsRequest(parent="jobs/a", page_size=3))
    rest = await site.stub.ListEpochs(
        api.ListEpochsRequest(parent="jobs/a", page_size=3, page_token=page.next_page_token)
    )
    assert [item.epoch for item in [*page.epochs, *rest.epochs]] == [1, 2, 3, 4, 5]
    assert rest.next_page_token == ""


async def test_fault_of_ours_shows_no_traceback(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(job: str) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(site.store, "get_job", broken)
    code, text, _ = await refused(site.stub.GetJob(api.GetJobRequest(name="jobs/a")))
    assert code == grpc.StatusCode.INTERNAL
    assert "secret" not in text


def test_every_error_of_the_domain_has_a_code() -> None:
    def below(kind: type[TranaError]) -> set[type[TranaError]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    assert set(CODES) == below(TranaError) - {TranaError}


LABELS = 'grpc_service="trana.v1.JobService",grpc_type="unary"'


async def test_metrics_follow_jobs_and_calls(site: Site) -> None:
    await site.stub.CreateJob(api.CreateJobRequest(spec=spec(), job_id="a"))
    await site.report("a", first_step(), best(1, 0.25), epoch(1, 0.25))
    await refused(site.stub.GetJob(api.GetJobRequest(name="jobs/nobody")))
    lines = (
        'trana_jobs{state="RUNNING"} 1.0',
        'trana_jobs{state="QUEUED"} 0.0',
        "trana_jobs_submitted_total 1.0",
        'trana_job_val_loss{job_id="a"} 0.25',
        'trana_job_best_val_loss{job_id="a"} 0.25',
        'trana_job_epoch{job_id="a"} 1.0',
        "trana_submit_to_first_step_seconds_count 1.0",
        'trana_queue_wait_seconds_count{priority="normal"} 1.0',
        f'grpc_server_handled_total{{grpc_code="OK",grpc_method="CreateJob",{LABELS}}} 1.0',
        f'grpc_server_handled_total{{grpc_code="NotFound",grpc_method="GetJob",{LABELS}}} 1.0',
    )
    async with asyncio.timeout(5):
        # The count of a call follows its answer: the next call may come before it.
        while any(line not in generate_latest(site.metrics.registry).decode() for line in lines):
            await site.stub.ListJobs(api.ListJobsRequest())
    await site.stub.CancelJob(api.CancelJobRequest(name="jobs/a"))
    await site.store.update("a", lambda job, _: changes.moved(job, states.CANCELLED, now=later(9)))
    after = generate_latest(site.metrics.registry).decode()
    assert 'trana_job_val_loss{job_id="a"} 0.25' in after
    assert 'trana_jobs_ended_total{cause="NONE",state="CANCELLED"} 1.0' in after


async def test_metrics_of_a_new_process_begin_where_the_store_is(site: Site) -> None:
    await site.store.create_job(changes.created(record("b", state=states.RUNNING, attempt=1)), Request("", "x"))
    fresh = Metrics()
    live = await site.store.live_jobs()
    fresh.restore(await site.store.count_by_state(), map(Known, live))
    shown = generate_latest(fresh.registry).decode()
    assert 'trana_jobs{state="RUNNING"} 1.0' in shown
    assert 'trana_job_epoch{job_id="b"} 0.0' in shown


async def test_second_service_on_the_same_address_fails(site: Site) -> None:
    first_one = Server(site.service, site.bundle_service, observer=site.metrics.rpc, listen="127.0.0.1:0")
    port = await first_one.start()
    with pytest.raises(OSError, match="cannot listen"):
        await Server(site.service, site.bundle_service, observer=site.metrics.rpc, listen=f"127.0.0.1:{port}").start()
    await first_one.stop(drain_seconds=0)

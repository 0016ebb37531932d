"""The verdict, the warnings and the network of a job, over a real socket: calls, lists, watchers and metrics."""

from __future__ import annotations

import math
from typing import Any

import grpc
import pytest
from prometheus_client import generate_latest
from trana.jobs.domain import changes, states
from trana.jobs.metrics.live import Known
from trana.jobs.metrics.metrics import Metrics
from trana.v1 import job_service_pb2 as api
from trana.v1.job_pb2 import Job
from unit.jobs.records import epoch, first_step, fit, later, result, spec
from unit.jobs.served import Site, first, refused

# What a client that sets nothing takes.
MAX_MESSAGE_BYTES = 4 * 2**20
SENTENCE = "Validation loss has risen 41 % (0.3456 to 0.4873) since epoch 17, while training loss went on falling. " * 2


def verdict(label: str, number: int, **changed: Any) -> Any:
    report = fit(label, number, evidence=[SENTENCE] * 4, **changed)
    for _ in range(5):
        report.fit.advice.add(remedy=1, text=SENTENCE)
    return report


async def submit(site: Site, job: str = "a", *reports: Any) -> None:
    made = spec(labels={"team": "vision", "dataset": "digits", "owner": "someone@example.org"})
    for _ in range(20):
        made.training.network.layers.add().linear.out_features = 64
        made.training.network.layers.add().relu.SetInParent()
    made.training.network.layers.add().linear.out_features = 3
    await site.stub.CreateJob(api.CreateJobRequest(spec=made, job_id=job))
    await site.report(job, first_step(parameters=900_000, layers=1000), *reports)


async def get(site: Site, job: str = "a") -> Job:
    found: Job = await site.stub.GetJob(api.GetJobRequest(name=f"jobs/{job}"))
    return found


async def test_job_carries_its_verdict_its_warnings_and_its_network(site: Site) -> None:
    said = verdict("OVERFITTING", 1)
    await submit(site, "a", epoch(1, 0.5), said)
    job = await get(site)
    assert job.fit == said.fit
    assert (job.num_validation, job.num_test, len(job.layers)) == (30, 7, 1000)
    assert job.layers[999].name == "999"
    [warning] = job.warnings
    assert "900,000" in warning
    assert len((await site.stub.CancelJob(api.CancelJobRequest(name="jobs/a"))).layers) == 1000


async def test_submission_that_is_repeated_carries_all_that_became_of_the_job(site: Site) -> None:
    request = api.CreateJobRequest(spec=spec(), job_id="a", request_id="11111111-1111-4111-8111-111111111111")
    await site.stub.CreateJob(request)
    await site.report("a", first_step(layers=2), epoch(1, 0.5), verdict("GOOD_FIT", 1))
    assert await site.stub.CreateJob(request) == await get(site)


async def test_page_of_a_thousand_jobs_fits_in_a_message(site: Site) -> None:
    await submit(site, "a", epoch(1, 0.5), verdict("OVERFITTING", 1, onset_epoch=1))
    page = await site.stub.ListJobs(api.ListJobsRequest())
    [listed] = page.jobs
    assert (listed.fit.epoch, listed.fit.onset_epoch, len(listed.warnings)) == (1, 1, 1)
    assert (list(listed.layers), list(listed.fit.evidence), list(listed.fit.advice)) == ([], [], [])
    assert 1000 * page.ByteSize() < MAX_MESSAGE_BYTES / 2 < 1000 * (await get(site)).ByteSize()


async def test_job_without_a_verdict_is_listed_without_one(site: Site) -> None:
    await submit(site)
    [listed] = (await site.stub.ListJobs(api.ListJobsRequest())).jobs
    assert not listed.HasField("fit")


async def test_jobs_are_found_by_their_fit(site: Site) -> None:
    await submit(site, "bad", fit("GOOD_FIT", 1), fit("OVERFITTING", 2))
    await submit(site, "good", fit("OVERFITTING", 1), fit("GOOD_FIT", 2))
    await submit(site, "new")

    async def found(text: str) -> set[str]:
        return {job.name for job in (await site.stub.ListJobs(api.ListJobsRequest(filter=text))).jobs}

    assert await found("fit = OVERFITTING") == {"jobs/bad"}
    assert await found("fit = fit_label_good_fit AND state = RUNNING") == {"jobs/good"}
    assert await found("fit != OVERFITTING") == {"jobs/good", "jobs/new"}
    code, text, _ = await refused(site.stub.ListJobs(api.ListJobsRequest(filter="fit = OVERFIT")))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "there is no fit 'OVERFIT', only UNDETERMINED, UNDERFITTING, GOOD_FIT, OVERFITTING, DIVERGED" in text


async def test_watcher_sees_warnings_and_verdicts_in_order_and_no_network(site: Site) -> None:
    await submit(site, "a", epoch(1, 0.5), verdict("OVERFITTING", 1))
    stream = site.stub.WatchJob(api.WatchJobRequest(name="jobs/a", after_sequence=2))
    assert list((await first(stream)).job.layers) == []
    seen = [await stream.read() for _ in range(4)]
    kinds = ["state_change", "warning", "epoch", "fit"]
    assert [item.event.WhichOneof("payload") for item in seen] == kinds
    assert all(not item.job.layers for item in seen)
    assert seen[3].event.fit == verdict("OVERFITTING", 1).fit


def shown(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


async def test_metrics_show_the_verdicts_of_live_jobs(site: Site) -> None:
    await submit(site, "a", fit("OVERFITTING", 9, gap=0.5, wasted_seconds=12.5))
    await submit(site, "b")
    lines = shown(site.metrics)
    for name in ("UNDETERMINED", "UNDERFITTING", "GOOD_FIT", "OVERFITTING", "DIVERGED"):
        assert f'trana_job_fit{{job_id="a",verdict="{name}"}} {float(name == "OVERFITTING")}\n' in lines
    assert 'trana_job_generalization_gap{job_id="a"} 0.5\n' in lines
    assert 'trana_job_epochs_since_best{job_id="a"} 8.0\n' in lines
    assert 'trana_job_wasted_seconds{job_id="a"} 12.5\n' in lines
    assert 'trana_job_fit{job_id="b"' not in lines
    # A process that comes after knows it too.
    after = Metrics()
    after.restore(await site.store.count_by_state(), map(Known, await site.store.live_jobs()))
    assert 'trana_job_wasted_seconds{job_id="a"} 12.5\n' in shown(after)
    await site.report("a", result())
    await site.store.update("a", lambda job, _: changes.moved(job, states.SUCCEEDED, now=later(9)))
    assert 'trana_job_wasted_seconds{job_id="a"} 12.5\n' in shown(site.metrics)
    site.seconds += 60
    assert 'job_id="a"' not in shown(site.metrics)


@pytest.mark.parametrize("gap", [math.nan, math.inf])
async def test_gap_that_is_not_known_has_no_sample(site: Site, gap: float) -> None:
    await submit(site, "a", fit("DIVERGED", 2, gap=gap))
    lines = shown(site.metrics)
    assert 'trana_job_fit{job_id="a",verdict="DIVERGED"} 1.0' in lines
    assert "trana_job_generalization_gap{" not in lines

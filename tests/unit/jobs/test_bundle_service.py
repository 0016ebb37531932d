"""BundleService over a real socket and a real folder, and jobs that bring code."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import generate_latest
from trana.jobs.api.server import BUNDLE_SERVICE
from trana.jobs.bundles import archive
from trana.v1 import job_service_pb2 as api
from trana.v1.bundle_service_pb2 import GetBundleRequest, UploadBundleRequest
from trana.v1.job_pb2 import JobSpec
from trana.v1.network_pb2 import Custom, Layer, Residual
from unit.jobs.bundles import CODE, packed, pieces
from unit.jobs.records import spec
from unit.jobs.served import Site, refused, serving

ABSENT = f"bundles/{'0' * 64}"


async def until(met: Callable[[], object]) -> None:
    """Waits until the condition holds; fails after five seconds."""
    async with asyncio.timeout(5):
        while not met():  # noqa: ASYNC110 - what is waited for is a file
            await asyncio.sleep(0.01)


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[Site]:
    """A service that runs no code."""
    async with serving(tmp_path, allow_code=False) as site:
        yield site


def with_code(bundle: str, *, module: str = "model:Net", loop: str = "") -> JobSpec:
    job = spec()
    job.training.ClearField("network")
    job.training.code.bundle = bundle
    job.training.module.entrypoint = module
    if loop:
        _to_loop(job, loop)
    return job


def _to_loop(job: JobSpec, entrypoint: str) -> None:
    job.training.ClearField("loss")
    job.training.ClearField("optimizer")
    job.training.loop.entrypoint = entrypoint


async def test_an_uploaded_bundle_is_named_by_its_content(site: Site) -> None:
    sent = packed()
    bundle = await site.bundles.UploadBundle(pieces(sent, size=100))
    assert bundle.name == f"bundles/{hashlib.sha256(sent).hexdigest()}"
    assert (bundle.size_bytes, bundle.num_files) == (len(sent), 3)
    assert bundle.unpacked_bytes == sum(map(len, CODE.values()))
    assert bundle.HasField("create_time")
    assert await site.bundles.GetBundle(GetBundleRequest(name=bundle.name)) == bundle
    assert (site.bundles_folder / f"{bundle.name[8:]}.zip").read_bytes() == sent


async def test_the_same_bundle_is_kept_once(site: Site) -> None:
    sent = packed()
    first = await site.bundles.UploadBundle(pieces(sent))
    again = await asyncio.gather(*(site.bundles.UploadBundle(pieces(sent, size=200)) for _ in range(10)))
    assert all(bundle == first for bundle in again)
    assert len(list(site.bundles_folder.iterdir())) == 1


async def test_a_bundle_that_was_never_uploaded_is_not_found(site: Site) -> None:
    code, text, details = await refused(site.bundles.GetBundle(GetBundleRequest(name=ABSENT)))
    assert (code, details["ErrorInfo"].reason) == (grpc.StatusCode.NOT_FOUND, "BUNDLE_NOT_FOUND")
    assert "upload it first" in text


async def test_a_broken_off_upload_leaves_nothing(site: Site) -> None:
    sending = asyncio.Event()

    async def slowly() -> AsyncIterator[UploadBundleRequest]:
        yield UploadBundleRequest(data=packed())
        sending.set()
        await asyncio.Event().wait()

    call = site.bundles.UploadBundle(slowly())
    await sending.wait()
    await until(lambda: list(site.bundles_folder.iterdir()))
    call.cancel()
    await until(lambda: not list(site.bundles_folder.iterdir()))


async def test_what_is_no_bundle_is_refused_and_not_kept(site: Site) -> None:
    for sent in (b"", b"no archive", packed()[:-30], packed({"../evil.py": ""})):
        code, _, details = await refused(site.bundles.UploadBundle(pieces(sent)))
        assert (code, details["ErrorInfo"].reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_BUNDLE")
        assert [found.field for found in details["BadRequest"].field_violations] == ["data"]
    assert list(site.bundles_folder.iterdir()) == []


async def test_an_upload_without_end_is_refused_on_its_way(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trana.jobs.bundles.shelf.MAX_PACKED_BYTES", 5000)

    async def endless() -> AsyncIterator[UploadBundleRequest]:
        while True:
            yield UploadBundleRequest(data=b"x" * 1000)

    async with asyncio.timeout(10):
        code, _, details = await refused(site.bundles.UploadBundle(endless()))
    assert (code, details["ErrorInfo"].reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUNDLE_TOO_LARGE")
    assert list(site.bundles_folder.iterdir()) == []


async def test_an_archive_that_unpacks_to_too_much_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 1_000_000)
    code, text, _ = await refused(site.bundles.UploadBundle(pieces(packed({"zeroes.bin": b"\0" * 2_000_000}))))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "unpacked" in text


async def test_each_piece_of_an_upload_is_checked_and_counted(site: Site) -> None:
    code, _, details = await refused(site.bundles.UploadBundle(iter([UploadBundleRequest(data=b"x" * (2**20 + 1))])))
    assert (code, details["ErrorInfo"].reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    await site.bundles.UploadBundle(pieces(packed(), size=100))
    count = -(-len(packed()) // 100) + 1
    text = generate_latest(site.metrics.registry).decode()
    labels = 'grpc_method="UploadBundle",grpc_service="trana.v1.BundleService",grpc_type="client_stream"'
    assert f"grpc_server_msg_received_total{{{labels}}} {count}.0" in text
    assert f"grpc_server_started_total{{{labels}}} 2.0" in text
    assert f'grpc_server_handled_total{{grpc_code="OK",{labels}}} 1.0' in text
    assert f'grpc_server_handled_total{{grpc_code="InvalidArgument",{labels}}} 1.0' in text


async def test_the_bundle_service_is_healthy(site: Site) -> None:
    health = health_pb2_grpc.HealthStub(site.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(service=BUNDLE_SERVICE))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_job_with_an_uploaded_bundle_is_taken(site: Site) -> None:
    bundle = await site.bundles.UploadBundle(pieces(packed()))
    job = await site.stub.CreateJob(api.CreateJobRequest(spec=with_code(bundle.name, loop="train:train")))
    assert job.spec.training.code.bundle == bundle.name


async def test_a_job_whose_code_is_a_path_is_told_to_upload_it(site: Site) -> None:
    code, text, details = await refused(site.stub.CreateJob(api.CreateJobRequest(spec=with_code("file:///code"))))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert [found.field for found in details["BadRequest"].field_violations] == ["spec.training.code.bundle"]
    assert "`trana submit` does so" in text


async def test_a_job_whose_bundle_was_never_uploaded_is_refused(site: Site) -> None:
    code, text, details = await refused(site.stub.CreateJob(api.CreateJobRequest(spec=with_code(ABSENT))))
    assert (code, details["ErrorInfo"].reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BUNDLE_NOT_UPLOADED")
    assert details["ErrorInfo"].metadata["bundle"] == "0" * 64
    assert "upload it first" in text


def _absent_module(job: JobSpec) -> None:
    job.training.module.entrypoint = "absent.deep:Net"


def _absent_loop(job: JobSpec) -> None:
    _to_loop(job, "model.train:train")


def _absent_layer(job: JobSpec) -> None:
    job.training.ClearField("module")
    job.training.network.layers.add().relu.SetInParent()
    gate = Layer(custom=Custom(entrypoint="gates:Gate"))
    job.training.network.layers.add().residual.CopyFrom(Residual(layers=[gate]))


@pytest.mark.parametrize(
    ("change", "field", "module"),
    [
        (_absent_module, "module", "absent.deep"),
        (_absent_loop, "loop", "model.train"),
        (_absent_layer, "network.layers[1].residual.layers[0].custom", "gates"),
    ],
)
async def test_a_module_that_is_not_in_the_bundle_is_named(
    site: Site, change: Callable[[JobSpec], None], field: str, module: str
) -> None:
    bundle = await site.bundles.UploadBundle(pieces(packed()))
    job = with_code(bundle.name)
    change(job)
    code, text, details = await refused(site.stub.CreateJob(api.CreateJobRequest(spec=job)))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert [found.field for found in details["BadRequest"].field_violations] == [f"spec.training.{field}.entrypoint"]
    assert f"the module {module}, which is not in the bundle; it has model, train" in text


async def test_a_service_without_code_says_so(closed: Site) -> None:
    for call in (
        closed.bundles.UploadBundle(pieces(packed())),
        closed.stub.CreateJob(api.CreateJobRequest(spec=with_code(ABSENT))),
    ):
        code, text, details = await refused(call)
        assert (code, details["ErrorInfo"].reason) == (grpc.StatusCode.PERMISSION_DENIED, "CODE_NOT_ALLOWED")
        assert "--allow-code" in text
    assert (await closed.stub.CreateJob(api.CreateJobRequest(spec=spec()))).name

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from trana.client import Client, InvalidRequest, Refused, Unreachable
from trana.client.bundling import pack

MIB = 2**20


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").write_text("def train(context):\n    pass\n")
    # Not to be squeezed: the archive has three pieces.
    (folder / "words.bin").write_bytes(random.Random(0).randbytes(2 * MIB + 1000))
    return folder


@pytest.fixture
def job_file(code: Path) -> Path:
    path = code / "job.yaml"
    path.write_text("training: {loop: {entrypoint: 'train:train'}, code: {bundle: .}}\nresources: {num_workers: 2}\n")
    return path


def kinds(service: Any) -> list[str]:
    return [type(request).__name__ for request in service.requests]


def test_a_bundle_is_sent_in_pieces_and_only_once(client: Client, service: Any, code: Path) -> None:
    told: list[tuple[int, int]] = []
    bundle = client.upload_bundle(code, on_progress=lambda *numbers: told.append(numbers))
    archive = pack(code)
    assert service.bundles == {bundle.name: archive.data}
    assert bundle.name == archive.name
    size = len(archive.data)
    assert service.uploads == [[MIB, MIB, size - 2 * MIB]]
    assert told == [(MIB, size), (2 * MIB, size), (size, size)]
    told.clear()
    assert client.upload_bundle(str(code)).name == bundle.name
    assert len(service.uploads) == 1
    assert told == []


def test_an_upload_that_breaks_is_made_again(client: Client, service: Any, code: Path) -> None:
    service.broken_uploads = 2
    assert client.upload_bundle(code).name in service.bundles
    assert len(service.uploads) == 3


def test_an_upload_that_keeps_breaking_is_given_up(client: Client, service: Any, code: Path) -> None:
    service.broken_uploads = 100
    with pytest.raises(Unreachable):
        client.upload_bundle(code)
    assert 1 < len(service.uploads) < 10


def test_a_refusal_is_not_tried_again(client: Client, service: Any, code: Path, fail: Callable[..., None]) -> None:
    service.failures = [(grpc.StatusCode.NOT_FOUND, "not there", [])]
    fail(grpc.StatusCode.PERMISSION_DENIED, "runs no code", reason="CODE_NOT_ALLOWED")
    with pytest.raises(Refused, match="runs no code") as raised:
        client.upload_bundle(code)
    assert raised.value.reason == "CODE_NOT_ALLOWED"
    assert raised.value.code == "PERMISSION_DENIED"
    assert len(service.uploads) == 1


def test_submit_uploads_the_code_and_names_it(client: Client, service: Any, job_file: Path) -> None:
    client.submit(job_file)
    client.submit(job_file, validate_only=True)
    name = pack(job_file.parent).name
    again = ["GetBundleRequest", "CreateJobRequest"]
    assert kinds(service) == ["GetBundleRequest", "UploadBundleRequest", "CreateJobRequest", *again]
    created = [request for request in service.requests if hasattr(request, "spec")]
    assert [request.spec.training.code.bundle for request in created] == [name, name]


def test_submit_does_not_change_the_callers_spec(client: Client, job_file: Path) -> None:
    from trana.spec.read import read_job

    spec = read_job(job_file)
    client.submit(spec)
    assert spec.training.code.bundle == job_file.parent.as_uri()


def test_code_that_is_uploaded_already_is_left_as_it_is(client: Client, service: Any, job_file: Path) -> None:
    name = "bundles/" + "a" * 64
    job_file.write_text(job_file.read_text().replace("bundle: .", f"bundle: {name}"))
    client.submit(job_file)
    assert kinds(service) == ["CreateJobRequest"]


def test_wrong_code_and_wrong_specs_are_told_before_anything_is_sent(
    client: Client, service: Any, job_file: Path
) -> None:
    (job_file.parent / "link").symlink_to(job_file)
    with pytest.raises(InvalidRequest, match="link is a link"):
        client.submit(job_file)
    job_file.write_text(job_file.read_text().replace("num_workers: 2", "num_workers: 0"))
    with pytest.raises(InvalidRequest, match="num_workers"):
        client.submit(job_file)
    assert service.requests == []

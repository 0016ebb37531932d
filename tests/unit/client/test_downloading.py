import hashlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from trana.client import Client, ClientClosed, DownloadError, NotFound, Unreachable
from trana.v1 import job_service_pb2


def rewrite(service: Any, old: str, *, path: str | None = None, data: bytes | None = None) -> None:
    """Changes the first piece of a file, or its path in every piece."""
    for piece in service.pieces:
        if piece.path == old:
            if data is not None:
                piece.data = data
                return
            piece.path = path or old


def set_manifest(service: Any, files: dict[str, bytes]) -> None:
    """Sends files of these names and contents, with a manifest that agrees."""
    listed = {p: {"size_bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for p, d in files.items()}
    manifest = json.dumps({"files": listed}).encode()
    service.pieces = [
        job_service_pb2.DownloadCheckpointResponse(path=path, data=data, size_bytes=len(data))
        for path, data in {"manifest.json": manifest, **files}.items()
    ]


def read(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_checkpoint_arrives_whole(client: Client, checkpoint: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "iris"
    assert client.download("iris", "best", folder) == folder
    assert read(folder) == checkpoint


def test_an_empty_folder_may_be_there(client: Client, checkpoint: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "iris").mkdir()
    assert read(client.download("iris", "last", tmp_path / "iris")) == checkpoint


def test_the_folder_is_named_after_the_job_where_none_is_given(
    client: Client, service: Any, checkpoint: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert client.download("jobs/iris", "last") == tmp_path / "iris-last"
    assert service.requests[0].name == "jobs/iris/checkpoints/last"


def test_a_folder_in_use_is_left_alone(
    client: Client, checkpoint: dict[str, bytes], service: Any, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DownloadError, match="is there already"):
        client.download("iris", "best", tmp_path)
    assert read(tmp_path) == {"mine.txt": b"mine"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: rewrite(s, "network.safetensors", data=b"x" * 1000), "differs from the manifest"),
        (lambda s: rewrite(s, "network.safetensors", data=b"x"), "ended after 9241 of 10240 bytes"),
        (lambda s: rewrite(s, "network.safetensors", data=b"x" * 9000), "longer than the 10240 bytes announced"),
        (lambda s: s.pieces.pop(), "'parts/empty.bin' was not sent"),
        (lambda s: s.pieces.pop(0), "has no manifest.json"),
        (lambda s: rewrite(s, "state.json", path="other.json"), "is not in the manifest|was not sent"),
        (lambda s: s.pieces.append(s.pieces[0]), "'manifest.json' came twice"),
        (lambda s: s.pieces.clear(), "has no manifest.json"),
    ],
)  # fmt: skip
def test_what_arrives_damaged_is_not_kept(
    client: Client, checkpoint: dict[str, bytes], service: Any, tmp_path: Path, spoil: Any, message: str
) -> None:
    spoil(service)
    with pytest.raises(DownloadError, match=message):
        client.download("iris", "best", tmp_path / "iris")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path",
    ["../outside", "/outside", "a/../../outside", "a//b", ".", "", "a/./b", "..\\outside", "C:outside", "a\0b", "a\nb"],
)  # fmt: skip
def test_a_path_that_leaves_the_folder_is_refused(client: Client, service: Any, tmp_path: Path, path: str) -> None:
    set_manifest(service, {path: b"evil"})
    with pytest.raises(DownloadError, match="is not a path inside a checkpoint"):
        client.download("iris", "best", tmp_path / "inner" / "iris")
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == []


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{}", b'{"files": []}', b'{"files": {"a": 1}}', b"[" * 100_000])
def test_a_manifest_that_is_none_is_refused(client: Client, service: Any, tmp_path: Path, manifest: bytes) -> None:
    service.pieces = [
        job_service_pb2.DownloadCheckpointResponse(path="manifest.json", data=manifest, size_bytes=len(manifest))
    ]
    with pytest.raises(DownloadError, match="cannot be read"):
        client.download("iris", "best", tmp_path / "iris")


def test_a_file_that_is_also_a_folder_is_refused(client: Client, service: Any, tmp_path: Path) -> None:
    set_manifest(service, {"a": b"1", "a/b": b"2"})
    with pytest.raises(DownloadError, match="cannot be written"):
        client.download("iris", "best", tmp_path / "iris")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_is_not_there_is_told(client: Client, fail: Any, tmp_path: Path) -> None:
    fail(grpc.StatusCode.NOT_FOUND, "jobs/iris has no best checkpoint yet", reason="CHECKPOINT_NOT_FOUND")
    with pytest.raises(NotFound, match="no best checkpoint yet"):
        client.download("iris", "best", tmp_path / "deep" / "deeper" / "iris")
    assert list(tmp_path.iterdir()) == []


def test_folders_that_were_there_before_a_failure_stay(
    client: Client, checkpoint: dict[str, bytes], service: Any, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    service.pieces.pop()
    with pytest.raises(DownloadError):
        client.download("iris", "best", tmp_path / "mine" / "deep" / "iris")
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


@pytest.mark.parametrize("pieces", [0, 1, 5])
def test_a_service_that_stalls_is_given_up(
    host: Any, checkpoint: dict[str, bytes], service: Any, tmp_path: Path, pieces: int
) -> None:
    service.stalls_behind = pieces
    begin = time.monotonic()
    with (
        Client(host.address, timeout_seconds=0.3) as client,
        pytest.raises(Unreachable, match=r"sent no more of the checkpoint for 0\.3 s"),
    ):
        client.download("iris", "best", tmp_path / "deep" / "iris")
    assert time.monotonic() - begin < 10
    assert list(tmp_path.iterdir()) == []


def test_a_download_may_take_longer_than_the_time_for_a_piece(
    host: Any, checkpoint: dict[str, bytes], service: Any, tmp_path: Path
) -> None:
    service.seconds_per_piece = 0.04
    begin = time.monotonic()
    with Client(host.address, timeout_seconds=0.4) as client:
        assert read(client.download("iris", "best", tmp_path / "iris")) == checkpoint
    assert time.monotonic() - begin > 0.4


def test_closing_the_client_ends_its_download(
    client: Client,
    checkpoint: dict[str, bytes],
    service: Any,
    tmp_path: Path,
    wait_for: Callable[[Callable[[], bool]], None],
) -> None:
    service.stalls_behind = 5

    def close_when_it_has_begun() -> None:
        wait_for(lambda: any(tmp_path.rglob("manifest.json")))
        client.close()

    closer = threading.Thread(target=close_when_it_has_begun)
    closer.start()
    with pytest.raises(ClientClosed):
        client.download("iris", "best", tmp_path / "iris")
    closer.join()
    assert list(tmp_path.iterdir()) == []

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from trana.trainer import publish
from trana.trainer.errors import FencedError, StorageError
from trana.trainer.publish import BEST, LAST, CheckpointFolder, Header
from trana.v1 import checkpoint_pb2

FILES = {"network.safetensors": b"weights", "state.json": b"{}"}


def open_folder(path: Path, attempt: int = 1) -> CheckpointFolder:
    folder = CheckpointFolder(path, attempt)
    folder.take_over()
    return folder


def save(folder: CheckpointFolder, kind: str, epoch: int, best: str = "") -> str:
    return Path(folder.publish(Header(kind, epoch, 1 / epoch, best), FILES).uri).name


def test_published_checkpoint_is_whole_and_described(tmp_path: Path) -> None:
    checkpoint = open_folder(tmp_path, 3).publish(Header(BEST, 12, 0.1), FILES)
    path = tmp_path / "checkpoints" / "000012-best-attempt-3"
    manifest = (path / "manifest.json").read_bytes()
    assert checkpoint.uri == path.as_uri()
    assert checkpoint.kind == checkpoint_pb2.CHECKPOINT_KIND_BEST
    assert (checkpoint.epoch, checkpoint.attempt, checkpoint.val_loss) == (12, 3, 0.1)
    assert checkpoint.manifest_sha256 == hashlib.sha256(manifest).hexdigest()
    assert checkpoint.size_bytes == sum(file.stat().st_size for file in path.iterdir())
    assert checkpoint.create_time.seconds > 0
    weights = json.loads(manifest)["files"]["network.safetensors"]
    assert weights == {"size_bytes": 7, "sha256": hashlib.sha256(b"weights").hexdigest()}
    assert (tmp_path / "checkpoints" / "best").resolve() == path


def test_older_checkpoints_go_after_the_newest_is_there(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    for epoch in range(1, 6):
        best = save(folder, BEST, epoch)
        save(folder, LAST, epoch, best)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    expected = [f"00000{epoch}-{kind}-attempt-1" for epoch in (4, 5) for kind in ("best", "last")]
    assert names == [*expected, "best", "last"]


def test_best_that_a_last_one_needs_is_kept(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    needed = save(folder, BEST, 1)
    save(folder, LAST, 1, needed)
    for epoch in range(2, 6):
        save(folder, BEST, epoch)
    folder.verify(needed)
    assert not (tmp_path / "checkpoints" / "000002-best-attempt-1").exists()


def test_newer_attempt_counts_as_newer_though_it_went_back(tmp_path: Path) -> None:
    save(open_folder(tmp_path, 1), LAST, 9)
    newer = open_folder(tmp_path, 2)
    save(newer, LAST, 3)
    assert newer.lasts() == ["000003-last-attempt-2", "000009-last-attempt-1"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "no manifest", "torn manifest"])
def test_damage_is_found(tmp_path: Path, damage: str) -> None:
    folder = open_folder(tmp_path)
    name = save(folder, LAST, 1)
    folder.verify(name)
    file, manifest = folder.path(name) / "network.safetensors", folder.path(name) / "manifest.json"
    match damage:
        case "flip":
            file.write_bytes(b"weightt")
        case "truncate":
            file.write_bytes(b"weigh")
        case "remove":
            file.unlink()
        case "no manifest":
            manifest.unlink()
        case _:
            manifest.write_bytes(manifest.read_bytes()[:40])
    with pytest.raises(StorageError, match=name):
        folder.verify(name)


def test_older_attempt_may_no_longer_save(tmp_path: Path) -> None:
    older = open_folder(tmp_path, 1)
    save(older, LAST, 1)
    open_folder(tmp_path, 2)
    with pytest.raises(FencedError, match="attempt 2 has taken over"):
        save(older, LAST, 2)
    with pytest.raises(FencedError):
        older.take_over()
    assert older.lasts() == ["000001-last-attempt-1"]


@pytest.mark.parametrize("finds_the_files", [True, False])
def test_attempt_that_is_overtaken_while_it_writes_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finds_the_files: bool
) -> None:
    older = open_folder(tmp_path, 1)
    manifest = CheckpointFolder._manifest

    def overtaken(self: CheckpointFolder, header: Header, files: dict[str, bytes]) -> bytes:
        open_folder(tmp_path, 2)
        if not finds_the_files:
            # The newer attempt looked before there were any.
            older.path("000001-last-attempt-1.tmp").mkdir()
        return manifest(self, header, files)

    monkeypatch.setattr(CheckpointFolder, "_manifest", overtaken)
    with pytest.raises(FencedError):
        save(older, LAST, 1)
    assert older.lasts() == []


def test_disk_that_keeps_something_else_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_folder(tmp_path)
    save(folder, BEST, 1)
    write = publish._write_file

    def flip(path: Path, content: bytes) -> None:
        write(path, content[:-1] + b"x" if path.name == "network.safetensors" else content)

    monkeypatch.setattr(publish, "_write_file", flip)
    with pytest.raises(StorageError, match=r"network.safetensors is damaged"):
        save(folder, BEST, 2)
    assert folder.path("best").resolve().name == "000001-best-attempt-1"


def test_what_was_half_written_is_cleared_away(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    left = tmp_path / "checkpoints" / "000002-last-attempt-1.tmp"
    left.mkdir()
    (left / "network.safetensors").write_bytes(b"wei")
    assert folder.lasts() == []
    open_folder(tmp_path, 2)
    assert not left.exists()


def test_same_attempt_may_save_an_epoch_anew(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    save(folder, LAST, 1)
    assert save(folder, LAST, 1) == "000001-last-attempt-1"
    folder.verify("last")


def test_folder_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    path = tmp_path / "job"
    path.write_text("")
    with pytest.raises(StorageError, match="could not prepare"):
        open_folder(path)


def test_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_folder(tmp_path)
    save(folder, LAST, 1)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(StorageError, match="No space left on device"):
            save(folder, LAST, 2)
    assert folder.lasts() == ["000001-last-attempt-1"]
    folder.verify("last")


def test_vanished_folder_is_a_storage_error(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "job")
    shutil.rmtree(tmp_path / "job")
    with pytest.raises(StorageError, match="could not save the checkpoint"):
        save(folder, LAST, 1)


def test_every_file_is_on_the_disk_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_folder(tmp_path)
    done: list[str] = []

    def sync(descriptor: int) -> None:
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    rename = Path.rename

    def renamed(self: Path, target: Path) -> Path:
        done.append("rename")
        return rename(self, target)

    monkeypatch.setattr("os.fsync", sync)
    monkeypatch.setattr(Path, "rename", renamed)
    save(folder, LAST, 1)
    before, after = done[: done.index("rename")], done[done.index("rename") + 1 :]
    assert sorted(before) == ["000001-last-attempt-1.tmp", "manifest.json", "network.safetensors", "state.json"]
    assert before[-1] == "000001-last-attempt-1.tmp"
    assert after[0] == "checkpoints"

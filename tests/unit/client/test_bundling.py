import io
import os
import random
import zipfile
from pathlib import Path

import pytest
from trana.client import InvalidRequest
from trana.client.bundling import pack
from trana.spec import packing
from trana.spec.packing import code_path
from trana.v1 import code_pb2, job_pb2, training_pb2


def write(root: Path, *names: str, content: str = "x = 1\n") -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def names_in(path: Path) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(pack(path).data)) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_the_same_files_give_the_same_name_whatever_their_times_and_modes(tmp_path: Path) -> None:
    one = write(tmp_path / "one", "b.py", "a.py", "nets/__init__.py")
    two = write(tmp_path / "two", "nets/__init__.py", "a.py", "b.py")
    os.utime(two / "a.py", (1, 1))
    (two / "b.py").chmod(0o700)
    assert pack(one) == pack(two)
    (two / "b.py").write_text("x = 2\n")
    assert pack(one).name != pack(two).name


def test_a_renamed_file_gives_another_name(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", "a.py"), write(tmp_path / "two", "b.py")
    assert pack(one).name != pack(two).name


def test_what_is_nobodys_code_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "data/words.txt", "nets/__init__.py", "nets/deep/cnn.py", "checkpoints/__init__.py")
    write(tmp_path, ".git/config", ".venv/lib/torch.py", ".env", "nets/.hidden.py", "nets/checkpoints/best.bin")
    write(tmp_path, "__pycache__/train.pyc", "old.pyc", "node_modules/a.js", "myenv/pyvenv.cfg", "myenv/lib/a.py")
    assert names_in(tmp_path) == [
        "checkpoints/__init__.py",
        "data/words.txt",
        "nets/__init__.py",
        "nets/deep/cnn.py",
        "train.py",
    ]


def test_a_file_brings_the_modules_and_packages_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "layers.py", "nets/__init__.py", "nets/sizes.json", "data/huge.csv", "notes.txt")
    assert names_in(tmp_path / "train.py") == ["layers.py", "nets/__init__.py", "nets/sizes.json", "train.py"]


def test_a_zip_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "code.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.py", "x = 1")
    assert pack(path).data == path.read_bytes()


@pytest.mark.parametrize("linked", ["data.txt", "nets"])
def test_a_link_is_refused_by_its_name(tmp_path: Path, linked: str) -> None:
    code = write(tmp_path / "code", "train.py")
    (code / linked).symlink_to(write(tmp_path / "elsewhere", "secret.txt"))
    with pytest.raises(InvalidRequest, match=f"{linked} is a link"):
        pack(code)


def test_a_link_beside_a_file_that_is_not_packed_does_no_harm(tmp_path: Path) -> None:
    code = write(tmp_path / "code", "train.py")
    (code / "data").symlink_to(write(tmp_path / "elsewhere", "huge.csv"))
    assert names_in(code / "train.py") == ["train.py"]


def test_a_name_that_no_path_should_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be in a bundle"):
        pack(write(tmp_path, "a\nb.py"))


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(write(tmp_path, "train.py") / "pipe")
    with pytest.raises(InvalidRequest, match="pipe is neither a file nor a folder"):
        pack(tmp_path)


@pytest.mark.parametrize("limit", ["MAX_PACKED_BYTES", "MAX_UNPACKED_BYTES"])
def test_too_much_is_refused_with_the_largest_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(packing, limit, 2**20)
    write(tmp_path, "train.py")
    (tmp_path / "weights.bin").write_bytes(random.Random(0).randbytes(2**21))
    (tmp_path / "words.bin").write_bytes(random.Random(1).randbytes(2**19))
    with pytest.raises(InvalidRequest, match="more than 1: leave out data") as raised:
        pack(tmp_path)
    assert "weights.bin (2.0 MiB), words.bin (0.5 MiB), train.py (0.0 MiB)" in str(raised.value)
    assert raised.value.reason == "INVALID_BUNDLE"


def test_too_many_files_and_too_large_a_zip_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "code.zip"
    path.write_bytes(pack(write(tmp_path / "code", "a.py", "b.py")).data)
    monkeypatch.setattr(packing, "MAX_FILES", 1)
    with pytest.raises(InvalidRequest, match="has 2 files, more than 1"):
        pack(tmp_path / "code")
    monkeypatch.setattr(packing, "MAX_PACKED_BYTES", 10)
    with pytest.raises(InvalidRequest, match="leave out data"):
        pack(path)


def test_what_is_no_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, problem in {
        "absent": "absent cannot be read: No such file",
        "empty": "holds no code",
        "notes.txt": "neither a folder, a .py file nor a zip archive",
    }.items():
        write(tmp_path, "notes.txt")
        with pytest.raises(InvalidRequest, match=problem):
            pack(tmp_path / path)


def test_the_limits_are_those_of_the_service() -> None:
    from trana.jobs.bundles import archive

    for limit in ("MAX_PACKED_BYTES", "MAX_UNPACKED_BYTES", "MAX_FILES"):
        assert getattr(packing, limit) == getattr(archive, limit)


def test_the_service_takes_what_is_packed(tmp_path: Path) -> None:
    from trana.jobs.bundles.archive import check_archive

    path = tmp_path / "code.zip"
    path.write_bytes(pack(write(tmp_path / "code", "train.py", "nets/__init__.py")).data)
    assert check_archive(path).files == ("nets/__init__.py", "train.py")


def test_only_a_path_is_code_on_this_machine() -> None:
    def job(bundle: str) -> job_pb2.JobSpec:
        return job_pb2.JobSpec(training=training_pb2.TrainingSpec(code=code_pb2.Code(bundle=bundle)))

    assert code_path(job("file:///my%20code/train.py")) == Path("/my code/train.py")
    assert code_path(job("bundles/" + "0" * 64)) is None
    assert code_path(job_pb2.JobSpec()) is None

"""Archives that lie, lead out, multiply or hide something; none of them is ever unpacked."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from trana.jobs.bundles import archive
from trana.jobs.bundles.archive import Contents, check_archive, read_contents
from trana.jobs.domain.errors import BundleTooLarge, InvalidBundle
from unit.jobs.bundles import CODE, packed


@pytest.fixture
def kept(tmp_path: Path) -> Callable[[bytes], Path]:
    def keep(content: bytes) -> Path:
        path = tmp_path / "archive.zip"
        path.write_bytes(content)
        return path

    return keep


Keep = Callable[[bytes], Path]


def entries(*infos: zipfile.ZipInfo, content: bytes = b"x") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for info in infos:
            made.writestr(info, content)
    return buffer.getvalue()


def of_type(mode: int, name: str = "model.py") -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def test_a_good_archive_tells_what_is_in_it(kept: Keep) -> None:
    path = kept(packed({**CODE, "folder/": ""}))
    contents = check_archive(path)
    assert contents == Contents(unpacked_bytes=sum(map(len, CODE.values())), files=tuple(CODE))
    assert read_contents(path) == contents


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../model.py", "lead out"),
        ("code/../../model.py", "lead out"),
        ("./model.py", "lead out"),
        ("code//model.py", "lead out"),
        ("/etc/passwd", "absolute"),
        ("C:/model.py", "absolute"),
        ("code\\model.py", "backslash"),
        ("model\n.py", "cannot be printed"),
        ("x" * 300, "too long"),
        ("é" * 200, "too long"),
        ("/".join(["x" * 100] * 11), "too long"),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(kept: Keep, name: str, why: str) -> None:
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    with pytest.raises(InvalidBundle, match=why):
        check_archive(kept(entries(info)))


def test_a_name_that_hides_its_end_behind_a_nul_is_refused(kept: Keep) -> None:
    sent = entries(zipfile.ZipInfo("model.py0../x")).replace(b"model.py0", b"model.py\0")
    with pytest.raises(InvalidBundle, match="cannot be printed"):
        check_archive(kept(sent))


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_are_refused(kept: Keep, mode: int) -> None:
    with pytest.raises(InvalidBundle, match="link or a device"):
        check_archive(kept(entries(of_type(mode | 0o777))))


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("model.py", "Model.PY"), "one file on some systems"),
        (("caf\u00e9.py", "cafe\u0301.py"), "one file on some systems"),
        (("model", "model/net.py"), "a part of that path is a file"),
        (("a/b/c.py", "A/B"), "a part of that path is a file"),
    ],
)
def test_names_that_meet_are_refused(kept: Keep, names: tuple[str, ...], why: str) -> None:
    with pytest.raises(InvalidBundle, match=why):
        check_archive(kept(entries(*map(zipfile.ZipInfo, names))))


def test_the_same_name_twice_is_refused(kept: Keep) -> None:
    sent = entries(zipfile.ZipInfo("model.py"), zipfile.ZipInfo("modex.py")).replace(b"modex", b"model")
    with pytest.raises(InvalidBundle, match="one file on some systems"):
        check_archive(kept(sent))


def test_an_encrypted_file_is_refused(kept: Keep) -> None:
    sent = bytearray(packed({"model.py": "secret"}))
    # The flags of the local header and of the directory.
    sent[6] |= 1
    sent[sent.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(InvalidBundle, match="encrypted"):
        check_archive(kept(bytes(sent)))


def test_a_method_that_python_cannot_import_from_is_refused(kept: Keep) -> None:
    info = zipfile.ZipInfo("model.py")
    info.compress_type = zipfile.ZIP_LZMA
    with pytest.raises(InvalidBundle, match="use deflate"):
        check_archive(kept(entries(info)))


@pytest.mark.parametrize("sent", [b"", b"hello", packed()[:-1], packed()[100:], packed({}), packed({"folder/": ""})])
def test_what_is_no_archive_or_empty_is_refused(kept: Keep, sent: bytes) -> None:
    with pytest.raises(InvalidBundle):
        check_archive(kept(sent))


def test_a_damaged_file_is_refused(kept: Keep) -> None:
    sent = bytearray(entries(zipfile.ZipInfo("model.py"), content=b"class Net: ..."))
    sent[40] ^= 1
    with pytest.raises(InvalidBundle, match="Bad CRC-32"):
        check_archive(kept(bytes(sent)))


def test_whatever_byte_is_wrong_the_answer_is_clear(kept: Keep) -> None:
    good = packed({"model.py": "class Net: ...", "train.py": "x" * 100})
    for place in range(len(good)):
        for value in (0, 0x7F, 0xFF):
            # It may still be a good archive, with another name or date.
            with suppress(InvalidBundle, BundleTooLarge):
                check_archive(kept(good[:place] + bytes([value]) + good[place + 1 :]))


def with_declared_size(sent: bytes, size: int) -> bytes:
    """The archive of one file, its headers telling another size of it, and the CRC of that much of it."""
    made = bytearray(sent)
    with zipfile.ZipFile(io.BytesIO(sent)) as opened:
        crc = zlib.crc32(opened.read(opened.infolist()[0])[:size])
    directory = made.index(b"PK\x01\x02")
    for crc_at, size_at in ((14, 22), (directory + 16, directory + 24)):
        made[crc_at : crc_at + 4] = struct.pack("<I", crc)
        made[size_at : size_at + 4] = struct.pack("<I", size)
    return bytes(made)


def test_a_header_that_lies_about_a_size_is_refused(kept: Keep) -> None:
    honest = packed({"model.py": b"\0" * 100_000})
    check_archive(kept(honest))
    with pytest.raises(InvalidBundle):
        check_archive(kept(with_declared_size(honest, 10)))


def test_a_size_that_is_not_that_of_the_file_is_refused(kept: Keep) -> None:
    made = bytearray(packed({"model.py": "class Net: ..."}))
    directory = made.index(b"PK\x01\x02")
    made[directory + 24 : directory + 28] = struct.pack("<I", 10)
    with pytest.raises(InvalidBundle, match=r"says that 'model\.py' has 10 bytes, but it has 14"):
        check_archive(kept(bytes(made)))


def test_a_bomb_that_lies_about_its_size_is_stopped_on_its_way(kept: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 3 * 2**20)
    bomb = with_declared_size(packed({"model.py": b"\0" * 8 * 2**20}), 10)
    assert len(bomb) < 50_000
    with pytest.raises(BundleTooLarge, match="unpacked"):
        check_archive(kept(bomb))


def test_files_add_up_to_too_much(kept: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 2500)
    check_archive(kept(packed({"a": "x" * 1000, "b": "x" * 1000})))
    with pytest.raises(BundleTooLarge, match="unpacked"):
        check_archive(kept(packed({"a": "x" * 1000, "b": "x" * 1000, "c": "x" * 1000})))


def test_too_many_bytes_packed(kept: Keep) -> None:
    path = kept(packed())
    with path.open("r+b") as file:
        file.truncate(archive.MAX_PACKED_BYTES + 1)
    with pytest.raises(BundleTooLarge, match="67,108,865 bytes or more"):
        check_archive(path)


def test_too_many_files(kept: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    check_archive(kept(packed(dict.fromkeys("abc", "x"))))
    with pytest.raises(BundleTooLarge, match="4 files, more than 3"):
        check_archive(kept(packed(dict.fromkeys("abcd", "x"))))


def test_a_huge_directory_is_not_even_read(kept: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MAX_DIRECTORY_BYTES", 5000)
    check_archive(kept(packed({"a": "x" * 10_000, "b": ""})))
    with pytest.raises(BundleTooLarge, match="directory"):
        check_archive(kept(packed({f"module_{number}.py": "" for number in range(200)})))


def test_files_that_share_their_bytes_are_refused(kept: Keep) -> None:
    sent = packed({"a.py": "x" * 1000, "b.py": "x" * 1000})
    directory = sent.index(b"PK\x01\x02")
    second = sent.index(b"PK\x01\x02", directory + 4)
    # The second entry of the directory points to the first file.
    with pytest.raises(BundleTooLarge, match="overlaps another"):
        check_archive(kept(sent[: second + 42] + struct.pack("<I", 0) + sent[second + 46 :]))

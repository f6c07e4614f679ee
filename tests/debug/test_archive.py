"""Zip archives of strangers: each thing that is wrong with one has its sentence, before anything is unpacked."""

from __future__ import annotations

import os
import re
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from graphopt.debug.archive import Packing, ZipLimits, opened
from graphopt.errors import GraphoptError, OverLimit, Unsafe, UsageError


def packed(path: Path, *members: tuple[str, bytes] | tuple[zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def refused(path: Path, limits: ZipLimits | None = None) -> GraphoptError:
    with pytest.raises(GraphoptError) as error, opened(path, limits or ZipLimits()):
        pass
    assert "\n" not in str(error.value)
    return error.value


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "/etc/passwd",
        "a//b",
        "./a",
        "a/./b",
        "..",
        "C:/evil",
        "a/..",
        "a\\..\\..\\b",
        "a\x01b",
        "/",
    ],
)
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    error = refused(packed(tmp_path / "b.zip", ("bundle.json", b"{}"), (name, b"x")))
    assert isinstance(error, Unsafe)
    assert "leads out of the folder" in str(error) or "has a name that is none" in str(error)


def test_a_member_without_a_name_is_refused(tmp_path: Path) -> None:
    nameless = zipfile.ZipInfo("x")
    nameless.filename = ""
    error = refused(packed(tmp_path / "b.zip", ("bundle.json", b"{}"), (nameless, b"x")))
    assert isinstance(error, Unsafe)
    assert str(error).endswith("has a name that is none")


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO):
        info = zipfile.ZipInfo("model/link")
        info.create_system = 3
        info.external_attr = (kind | 0o777) << 16
        error = refused(packed(tmp_path / "b.zip", (info, b"/etc/passwd")))
        assert isinstance(error, Unsafe)
        assert "not a regular file but a link or a device" in str(error)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("twice", ["a", "A"])
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path, twice: str) -> None:
    error = refused(packed(tmp_path / "b.zip", ("a", b"1"), (twice, b"2")))
    assert isinstance(error, Unsafe)
    assert "is there twice" in str(error)


def test_what_would_unpack_to_too_much_is_refused_by_its_directory(tmp_path: Path) -> None:
    path = packed(tmp_path / "b.zip", ("a", bytes(1 << 20)), ("b", b"x"))
    assert isinstance(refused(path, ZipLimits(unpacked=1 << 19)), OverLimit)
    assert isinstance(refused(path, ZipLimits(members=1)), OverLimit)
    with opened(path, ZipLimits(text=100)) as archive, pytest.raises(OverLimit, match="more than the limit of 100"):
        archive.text("a")


def test_a_member_that_is_longer_than_the_directory_says_is_damaged(tmp_path: Path) -> None:
    path = packed(tmp_path / "b.zip", ("a", bytes(10_000)))
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        start = data.index(mark)
        data[start + at : start + at + 4] = struct.pack("<I", 10)
    path.write_bytes(bytes(data))
    with opened(path) as archive, pytest.raises(UsageError, match="is damaged at 'a'"):
        archive.text("a")


def test_members_that_share_their_data_are_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "b.zip", ("a", os.urandom(1000)), ("b", os.urandom(1000)))
    data = bytearray(path.read_bytes())
    for start in [found.start() for found in re.finditer(b"PK\x01\x02", bytes(data))]:
        data[start + 20 : start + 24] = struct.pack("<I", len(data) - 100)
    path.write_bytes(bytes(data))
    assert isinstance(refused(path), Unsafe)


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "is no bundle"), (b"not a zip", "is no bundle"), (b"PK\x05\x06" + bytes(3), "is no bundle")],
)
def test_what_is_no_zip_archive(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(content)
    assert why in str(refused(path))


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "does not exist" in str(refused(tmp_path / "no.zip"))
    assert "is a folder" in str(refused(tmp_path))


def test_truncated_archives_are_sentences_at_every_length(tmp_path: Path) -> None:
    whole = packed(tmp_path / "b.zip", ("bundle.json", b"{}" * 50), ("model/m.onnx", os.urandom(300))).read_bytes()
    path = tmp_path / "cut.zip"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert isinstance(refused(path), UsageError)


def test_damaged_archives_are_sentences(tmp_path: Path) -> None:
    whole = packed(tmp_path / "b.zip", ("bundle.json", b"{}" * 50), ("model/m.onnx", os.urandom(300))).read_bytes()
    path = tmp_path / "odd.zip"
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        target = tmp_path / str(at)
        target.mkdir()
        try:
            with opened(path) as archive:
                archive.unpack(target, lambda name: True)
                archive.text("bundle.json")
        except (UsageError, Unsafe, OverLimit) as error:
            assert "\n" not in str(error)


def test_what_is_packed_comes_out_as_it_was_and_the_same_each_time(tmp_path: Path) -> None:
    made = []
    for name in ("one.zip", "two.zip"):
        with (tmp_path / name).open("wb") as stream, Packing(stream) as pack:
            pack.text("bundle.json", b"{}")
            with pack.member("model/a.onnx") as out:
                out.write(b"weights")
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    (tmp_path / "out").mkdir()
    with opened(tmp_path / "one.zip") as archive:
        assert archive.text("bundle.json") == b"{}"
        archive.unpack(tmp_path / "out", lambda name: name.startswith("model/"))
    assert (tmp_path / "out" / "model" / "a.onnx").read_bytes() == b"weights"
    assert not (tmp_path / "out" / "bundle.json").exists()


@pytest.mark.parametrize("names", [("model/a", "model/a/b"), ("model/a/b", "model/a"), ("model/" + "n" * 300,)])
def test_names_that_no_folder_can_hold_are_a_sentence(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = packed(tmp_path / "b.zip", *((name, b"x") for name in names))
    (tmp_path / "out").mkdir()
    with opened(path) as archive, pytest.raises(UsageError, match="is damaged at 'model/"):
        archive.unpack(tmp_path / "out", lambda name: True)

"""Files that options read, each replaced by what it should not be: one sentence, no waiting, nothing written."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_lines import WEIGHT, Cli

from graphopt.testing import model

Make = Callable[[Path], object]

EVERYWHERE: dict[str, Make] = {
    "nothing": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"hello"),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00\x01" * 40),
    "deep": lambda path: path.write_text("[" * 200_000),
    "long number": lambda path: path.write_text('{"a": ' + "1" * 9000 + "}"),
    "folder": lambda path: path.mkdir(),
    "pipe": lambda path: os.mkfifo(path),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
    "dangling": lambda path: path.symlink_to("nowhere"),
}
READERS: dict[str, tuple[str, ...]] = {
    "feeds.npz": ("optimize", "net.onnx", "-o", "o", "-p", "identities", "--feeds", "FILE"),
    "calibration.npz": ("optimize", "net.onnx", "-o", "o", "--recipe", "int8-static", "--calibration", "FILE"),
    "labels.npy": (
        *("optimize", "net.onnx", "-o", "o", "-p", "weight-int8{min-elements=1}", "--budget", "top1_drop<=1"),
        *("--feeds", "good.npz", "--labels", "FILE"),
    ),
    "recipe.toml": ("optimize", "net.onnx", "-o", "o", "--recipe", "FILE"),
    "table.json": (
        *("optimize", "net.onnx", "-o", "o", "--recipe", "prune-structured", "--to", "bytes=0.5"),
        *("--sensitivity", "FILE"),
    ),
    "report.json": ("explain", "a", "--report", "FILE"),
    "made.json": ("diff", "net.onnx", "net.onnx", "--report", "FILE"),
    "located.json": ("localize", "net.onnx", "net.onnx", "--report", "FILE"),
    "bundle.zip": ("replay", "FILE"),
    "script.py": ("optimize", "net.onnx", "-o", "o", "-p", 'graphsurgeon{script="FILE"}'),
    "library.so": ("optimize", "net.onnx", "-o", "o", "-p", "identities", "--custom-ops", "FILE"),
    "student.onnx": (
        *("optimize", "net.onnx", "-o", "o", "-p", "identities", "--budget", "sqnr_db>=1", "--student", "FILE"),
    ),
    "other.onnx": ("validate", "net.onnx", "FILE"),
}


@pytest.fixture(autouse=True)
def here(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder holds a model and good feeds."""
    np.savez(tmp_path / "good.npz", x=np.ones((4, 64), np.float32))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("content", EVERYWHERE)
@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_something_else(cli: Cli, tmp_path: Path, reader: str, content: str) -> None:
    EVERYWHERE[content](tmp_path / reader)
    before = sorted(tmp_path.iterdir())
    ran = cli(*(one.replace("FILE", reader) for one in READERS[reader]))
    assert sorted(tmp_path.iterdir()) == before
    if (reader, content) == ("recipe.toml", "empty"):
        assert ran.sentence == "recipe 'recipe.toml': the key 'name' is missing"
    elif reader == "script.py" and content not in ("nothing", "folder", "pipe", "device", "loop", "dangling"):
        assert ran.code in (2, 70)  # code that fails is the failure of its pass
        assert "the script 'script.py'" in ran.sentence
    elif reader == "library.so" and ran.code == 6:
        assert f"cannot load the custom operator library '{tmp_path / reader}'" in ran.out
    else:
        assert ran.code == (3 if reader.endswith(".onnx") else 2)
        assert reader.split(".", maxsplit=1)[0] in ran.sentence
        assert len(ran.sentence) < 1000


def _packed(path: Path, *parts: tuple[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts:
            archive.writestr(name, data)


def _header(text: str, data: bytes = b"") -> bytes:
    body = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body + data


def _shaped(shape: str, data: bytes = b"") -> bytes:
    return _header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}", data)


ARRAYS: dict[str, tuple[bytes, str]] = {
    "a pickle": (b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.", "the magic string is not correct"),
    "a call": (_header("{'descr': __import__('os').system('touch pwned')}"), "malformed node or string"),
    "more than there is": (_shaped("(1099511627776, 64)", bytes(4)), "says it has 281474976710656 bytes of data"),
    "less than none": (_shaped("(-1, -64)", bytes(256)), "can only specify one unknown dimension"),
    "a hundred axes": (_shaped("(" + "1, " * 100 + ")", bytes(4)), "maximum supported dimension"),
    "no type": (_header("{'descr': '<q99', 'fortran_order': False, 'shape': (1,)}"), "not a valid dtype descriptor"),
    "deep": (_header("(" * 3000 + ")" * 3000), "Cannot parse header"),
    "no header": (_header("{}"), "does not contain the correct keys"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_that_is_none(cli: Cli, tmp_path: Path, kind: str) -> None:
    data, why = ARRAYS[kind]
    _packed(tmp_path / "feeds.npz", ("x.npy", data))
    ran = cli("optimize", "net.onnx", "-o", "o", "-p", "identities", "--feeds", "feeds.npz")
    assert ran.code == 2
    assert why in ran.sentence
    assert len(ran.sentence) < 400
    assert sorted(path.name for path in tmp_path.iterdir()) == ["feeds.npz", "good.npz", "net.onnx"]


def test_an_array_that_is_there_twice(cli: Cli, tmp_path: Path) -> None:
    data = _shaped("(1, 64)", bytes(256))
    with pytest.warns(UserWarning, match="Duplicate name"):
        _packed(tmp_path / "feeds.npz", ("x.npy", data), ("x.npy", data))
    ran = cli("optimize", "net.onnx", "-o", "o", "-p", "identities", "--feeds", "feeds.npz")
    assert ran.sentence == "feeds.npz holds 'x.npy' twice; save it again with numpy.savez"


def test_feeds_without_a_name(cli: Cli) -> None:
    ran = cli("optimize", "net.onnx", "-o", "o", "-p", "identities", "--feeds", "")
    assert ran.sentence == ("the name of the feeds is empty; give an .npz file, a folder of them, or module:function")


def test_a_folder_with_one_bad_file(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    (tmp_path / "good.npz").rename(folder / "a.npz")
    (folder / "b.npz").write_bytes(b"no archive")
    ran = cli("optimize", "net.onnx", "-o", "o", "-p", "identities", "--feeds", "many")
    assert (ran.code, ran.sentence) == (2, "b.npz is not a readable .npz file: File is not a zip file")


@pytest.mark.parametrize("key", ["remarks", "origins", "format"])
@pytest.mark.parametrize("value", [None, 3, "x", [1], {"a": 1}, [[]], {"a": [1]}])
def test_a_report_with_something_else_in_it(cli: Cli, tmp_path: Path, key: str, value: object) -> None:
    whole = {"format": 1, "remarks": [], "origins": {}, "before": {"path": "net.onnx"}}
    (tmp_path / "report.json").write_text(json.dumps({**whole, key: value}))
    ran = cli("explain", "a", "--report", "report.json")
    assert ran.code == 2
    assert ran.sentence.startswith("report 'report.json' ")


def test_a_bundle_that_lacks_a_feed(cli: Cli, tmp_path: Path) -> None:
    assert cli("optimize", "net.onnx", "-o", "o", "-p", "identities", "--bundle", "whole.zip").code == 0
    with zipfile.ZipFile(tmp_path / "whole.zip") as whole:
        _packed(tmp_path / "part.zip", *((name, whole.read(name)) for name in whole.namelist() if "0001" not in name))
    ran = cli("replay", "part.zip")
    assert ran.code == 2
    assert ran.sentence == "the bundle is damaged: it has 2 of the 3 feeds of its run"


STUDENTS = {
    "g (float[N,64] x, float[1] q) => (float[N,48] y) { b = MatMul(x, w)  y = Add(b, q) }": "it wants an input 'q'",
    "g (float[N,64] x) => (float[N,48] z) { z = MatMul(x, w) }": "its outputs are 'z', and the model's are 'y'",
    "g (double[N,64] x) => (double[N,64] y) { y = Neg(x) }": "its input 'x' is double[N,64]",
    "g (float[N,64] x) => (float[N,64] y) { y = Neg(x) }": "its output 'y' is float[N,64]",
}


@pytest.mark.parametrize(("text", "why"), STUDENTS.items())
def test_a_student_of_another_interface(cli: Cli, tmp_path: Path, text: str, why: str) -> None:
    made = model(text, w=WEIGHT) if "w)" in text else model(text)
    (tmp_path / "student.onnx").write_bytes(made.SerializeToString())
    ran = cli(*READERS["student.onnx"][:-1], "student.onnx")
    assert ran.code == 2
    assert ran.sentence.startswith("--student 'student.onnx': it has not the interface of the model: ")
    assert why in ran.sentence


def test_reducing_to_no_part_at_all(cli: Cli) -> None:
    ran = cli("reduce", "net.onnx", "--most", "0")
    assert (ran.code, ran.sentence) == (2, "the number of parts to judge at most must be 1 or more, and 0 is not")

"""Files that are no models, or half a model, or one with too much around it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from building import floats, framed, node, number, part, plain, port, save, whole
from casebook import Family
from onnx import ModelProto, helper

FILES = Family("file")
case = FILES.case


def _bytes(folder: Path, data: bytes) -> None:
    (folder / "model.onnx").write_bytes(data)


@case(3, "is empty; download or export")
def empty(folder: Path) -> None:
    """No byte at all, which protobuf reads as a message without fields."""
    _bytes(folder, b"")


@case(3, "not an ONNX model")
def noise(folder: Path) -> None:
    """Bytes without any meaning."""
    _bytes(folder, np.random.default_rng(1).bytes(5000))


@case(3, "not an ONNX model")
def zeros(folder: Path) -> None:
    """A file that was allocated and never written, as an interrupted download leaves it."""
    _bytes(folder, bytes(4096))


@case(3, "git-lfs pointer, not the model itself; run `git lfs pull`")
def lfs_pointer(folder: Path) -> None:
    """A repository cloned without its large files."""
    _bytes(folder, b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 99\n")


@case(3, "a web page, not a model")
def web_page(folder: Path) -> None:
    """A login page saved under the model's name."""
    _bytes(folder, b"<!DOCTYPE html><html><body>Sign in</body></html>")


@case(3, "a Python pickle")
def pickle(folder: Path) -> None:
    """A checkpoint, which must not be unpickled to find out."""
    _bytes(folder, b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.")


@case(3, "a zip archive")
def archive(folder: Path) -> None:
    """A zip archive with the model in it."""
    import zipfile

    with zipfile.ZipFile(folder / "model.onnx", "w") as made:
        made.writestr("net.onnx", plain().SerializeToString())


@case(3, "truncated or damaged")
def cut_off(folder: Path) -> None:
    """A download that ended early."""
    data = plain().SerializeToString()
    _bytes(folder, data[: len(data) * 3 // 5])


@case(3, "truncated or damaged")
def overlong_length(folder: Path) -> None:
    """The graph says that it is longer than any file can be."""
    _bytes(folder, number(1, 8) + b"\x3a" + b"\xff" * 9 + b"\x01" + b"rest")


@case(3, "there is no file")
def missing(folder: Path) -> None:
    """Nothing is there."""


@case(3, "is a directory; name the model file in it, for example 'net.onnx'")
def directory(folder: Path) -> None:
    """The folder of the model instead of the model."""
    (folder / "model.onnx").mkdir()
    save(folder / "model.onnx", plain())
    (folder / "model.onnx" / "model.onnx").rename(folder / "model.onnx" / "net.onnx")


@case(3, "not a regular file but a named pipe")
def pipe(folder: Path) -> None:
    """A pipe that nobody writes to: opening it would wait for ever."""
    os.mkfifo(folder / "model.onnx")


@case(3, "not a regular file but a device", file="../case/model.onnx")
def device(folder: Path) -> None:
    """A link to a device that never ends."""
    (folder / "model.onnx").symlink_to("/dev/zero")


@case(3, "a link that leads back to itself")
def looping_link(folder: Path) -> None:
    """Two links that name each other."""
    (folder / "model.onnx").symlink_to("other")
    (folder / "other").symlink_to("model.onnx")


@case(3, "a link to a file that does not exist")
def dangling_link(folder: Path) -> None:
    """A hub's cache whose blob has been removed."""
    (folder / "model.onnx").symlink_to("../blobs/aaaa")


@case(3, "cannot be read .File name too long", file="a" * 300 + ".onnx")
def name_too_long(folder: Path) -> None:
    """A name that no file system takes."""
    save(folder, plain())


@case(0, file="\x1b[31m\n'.onnx")
def name_with_escapes(folder: Path) -> None:
    """A file name that would colour the terminal."""
    save(folder, plain())
    (folder / "model.onnx").rename(folder / "\x1b[31m\n'.onnx")


@case(3, "has no graph")
def no_graph(folder: Path) -> None:
    """Versions, and nothing to run."""
    save(folder, ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)]))


@case(3, "damaged|is a tensor, not a model")
def lone_tensor(folder: Path) -> None:
    """A tensor saved by itself, as test data are."""
    save(folder, floats("w", *range(20)).SerializeToString())


@case(3, "has no opset_import")
def no_opset(folder: Path) -> None:
    """Operators whose meaning nobody can know."""
    made = plain()
    del made.opset_import[:]
    save(folder, made)


@case(3, "does not say its IR version")
def no_ir_version(folder: Path) -> None:
    """A model without its first field."""
    made = plain()
    made.ClearField("ir_version")
    save(folder, made)


@case(3, "does not say its IR version")
def negative_ir_version(folder: Path) -> None:
    """A version below all."""
    save(folder, framed(plain().graph.SerializeToString(), ir=-1))


@case(3, "IR version 99, newer than onnx")
def future_ir_version(folder: Path) -> None:
    """A format of the future."""
    save(folder, framed(plain().graph.SerializeToString(), ir=99))


@case(3, "uses opset 999 of 'ai.onnx', newer than onnx")
def future_opset(folder: Path) -> None:
    """Operators of the future, whose meaning is not to be guessed."""
    save(folder, framed(plain().graph.SerializeToString(), opset=999))


@case(3, "imports version 0 of 'ai.onnx'; versions start at 1")
def opset_zero(folder: Path) -> None:
    """A version before the first."""
    save(folder, framed(plain().graph.SerializeToString(), opset=0))


@case(3, "uses opset 9223372036854775807 of")
def opset_huge(folder: Path) -> None:
    """A version that overflows what most readers keep it in."""
    save(folder, framed(plain().graph.SerializeToString(), opset=(1 << 63) - 1))


@case(3, "imports 'ai.onnx' in versions 17 and 13; only one can be meant")
def opset_twice(folder: Path) -> None:
    """Two versions of one domain."""
    made = plain()
    made.opset_import.append(helper.make_opsetid("ai.onnx", 13))
    save(folder, made)


@case(6, "the original could not be run")
def first_opset(folder: Path) -> None:
    """A model of 2017."""
    nodes = [node("Relu", ["x"], ["t"]), node("Dropout", ["t"], ["y"], is_test=1, ratio=0.25)]
    save(folder, whole(nodes, opset=3, ir=3))


@case(3, "a name that is not UTF-8 text")
def odd_encoding(folder: Path) -> None:
    """Names in no encoding."""
    data = whole([node("Abs", ["x"], ["QQQQ"], "PPPP"), node("Neg", ["QQQQ"], ["y"])]).SerializeToString()
    save(folder, data.replace(b"QQQQ", b"\xc3\x28\xa0\xa1").replace(b"PPPP", b"\xfe\xfe\xff\xff"))


@case(0)
def odd_documentation(folder: Path) -> None:
    """A doc string in an old encoding, which is nobody's business but its reader's."""
    made = plain()
    made.graph.node[0].doc_string = "QQQQ"
    save(folder, made.SerializeToString().replace(b"QQQQ", b"C:\\\xe9"))


@case(0)
def evil_names(folder: Path) -> None:
    """Names that want to be paths, markup, colours and format strings."""
    evil = "\x1b[2J\x1b]0;owned\x07/../../etc/shadow\r\n<img src=x onerror=alert(1)>\u202e{0.__class__}%n"
    nodes = [node("Identity", ["x"], [evil], evil), node("Neg", [evil], ["y"], evil + "b")]
    save(folder, whole(nodes))


@case(0)
def long_names(folder: Path) -> None:
    """A name of a megabyte, which must not be printed whole."""
    name = "n" * (1 << 20)
    save(folder, whole([node("Identity", ["x"], [name], name), node("Neg", [name], ["y"])]))


@case(0, seconds=15.0)
def long_strings(folder: Path) -> None:
    """Sixty megabytes of documentation."""
    made = plain()
    made.doc_string = "d" * (48 << 20)
    made.metadata_props.add(key="k", value="v" * (12 << 20))
    save(folder, made)


@case(0)
def unknown_fields(folder: Path) -> None:
    """Fields of a version to come, on the model, its graph and a node: they are kept or left out, never misread."""
    odd = part(901, b"new") + number(902, 7)
    graph = plain().graph.SerializeToString()
    save(folder, framed(graph + odd) + odd)


@case(0)
def graph_in_two_pieces(folder: Path) -> None:
    """The graph's field twice: a reader of protobuf merges them into one."""
    made = whole([node("Identity", ["x"], ["t"]), node("Neg", ["t"], ["y"])])
    rest = ModelProto()
    rest.graph.node.append(made.graph.node.pop())
    save(folder, made.SerializeToString() + rest.SerializeToString())


@case(3, "truncated or damaged")
def endless_groups(folder: Path) -> None:
    """A group of protobuf's old kind inside itself, a hundred thousand times."""
    save(folder, framed(plain().graph.SerializeToString()) + b"\xfb\x01" * 100_000)


@case(0, fed=None)
def many_inputs(folder: Path) -> None:
    """Two thousand inputs."""
    ports = [port(f"x{i}") for i in range(2000)]
    save(folder, whole([node("Sum", [one.name for one in ports], ["y"])], inputs=ports))

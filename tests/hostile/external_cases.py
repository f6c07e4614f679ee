"""External data: what a model names must lie in its own folder, be a file, and be long enough."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from building import body, node, outside, port, reading, save, tensor, whole
from casebook import Family
from onnx import SparseTensorProto, TensorProto, helper

EXTERNAL = Family("external data")
FED: dict[str, Any] = {"x": np.arange(16, dtype=np.float32)}
AWAY = "leads out of the model's folder"


def case(code: int | tuple[int, ...], says: str = "", **more: Any) -> Any:
    if code == 0:
        more.setdefault("fed", FED)
    return EXTERNAL.case(code, says, **more)


def _weights(path: Path, count: int = 16) -> None:
    np.arange(count, dtype=np.float32).tofile(path)


def _named(folder: Path, location: str, **said: object) -> None:
    save(folder, reading(outside("w", location=location, **said)))


@case(0)
def in_a_folder(folder: Path) -> None:
    """A part of a file in a folder below."""
    (folder / "data").mkdir()
    _weights(folder / "data" / "w.bin", 40)
    _named(folder, "./data//w.bin", offset=64, length=64)


@case(4, AWAY)
def parent(folder: Path) -> None:
    """The oldest trick, once it has gone down first."""
    (folder / "data").mkdir()
    _named(folder, "data/../../elsewhere/secret.bin")


@case(4, AWAY)
def parent_and_back(folder: Path) -> None:
    """Out of the folder and into it again, which tells whether the folder has a certain name."""
    _weights(folder / "w.bin")
    _named(folder, f"../{folder.name}/w.bin")


@case(4, "by an absolute path")
def absolute(folder: Path) -> None:
    """A path from the root."""
    _named(folder, str(folder.parent / "elsewhere" / "secret.bin"))


@case(4, "a link that leads out of the model's folder")
def link(folder: Path) -> None:
    """A link in the folder to a file that is not."""
    (folder / "w.bin").symlink_to(folder.parent / "elsewhere" / "secret.bin")
    _named(folder, "w.bin")


@case(4, "a link that leads out of the model's folder")
def linked_folder(folder: Path) -> None:
    """A folder that is a link."""
    (folder / "data").symlink_to("../elsewhere")
    _named(folder, "data/secret.bin")


@case(4, "a link that leads out of the model's folder")
def link_to_a_link(folder: Path) -> None:
    """A link whose target is in the folder and is a link itself."""
    (folder / "w.bin").symlink_to("v.bin")
    (folder / "v.bin").symlink_to("../elsewhere/secret.bin")
    _named(folder, "w.bin")


@case(4, "a link that leads out of the model's folder")
def link_to_a_process(folder: Path) -> None:
    """A link through /proc, whose own links are not what they look like."""
    (folder / "w.bin").symlink_to(f"/proc/self/root{folder.parent}/elsewhere/secret.bin")
    _named(folder, "w.bin")


@case(0)
def link_inside(folder: Path) -> None:
    """A link that stays in the folder."""
    _weights(folder / "v.bin")
    (folder / "w.bin").symlink_to("v.bin")
    _named(folder, "w.bin")


@case(0, file="snapshots/1/model.onnx")
def hub_cache(folder: Path) -> None:
    """A hub's cache: model and data are links into one folder of blobs."""
    (folder / "snapshots" / "1").mkdir(parents=True)
    (folder / "blobs").mkdir()
    save(folder, reading(outside("w", location="model.onnx_data", offset=0, length=64)))
    (folder / "model.onnx").rename(folder / "blobs" / "m")
    _weights(folder / "blobs" / "d")
    (folder / "snapshots" / "1" / "model.onnx").symlink_to("../../blobs/m")
    (folder / "snapshots" / "1" / "model.onnx_data").symlink_to("../../blobs/d")


@case(4, AWAY)
def from_a_branch(folder: Path) -> None:
    """A weight of an If's branch."""
    then = body(
        [node("Add", ["x", "w"], ["p"])], [], [port("p", None)], [outside("w", location="../elsewhere/secret.bin")]
    )
    other = body([node("Neg", ["x"], ["q"])], [], [port("q", None)])
    ports = [port("x", (16,)), port("c", (), TensorProto.BOOL)]
    made = node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    save(folder, whole([made], inputs=ports, outputs=[port("y", (16,))]))


@case(4, AWAY)
def from_a_constant(folder: Path) -> None:
    """The value of a Constant."""
    made = node("Constant", [], ["w"], value=outside("w", location="../elsewhere/secret.bin"))
    save(folder, whole([made, node("Add", ["x", "w"], ["y"])], inputs=[port("x", (16,))], outputs=[port("y", (16,))]))


@case(4, AWAY)
def from_a_function(folder: Path) -> None:
    """A Constant in a function that is never called."""
    made = node("Constant", [], ["r"], value=outside("w", location="../elsewhere/secret.bin"))
    idle = helper.make_function("own", "f", [], ["r"], [made], [helper.make_opsetid("", 17)])
    save(folder, whole([node("Neg", ["x"], ["y"])], functions=[idle], domains=["own"]))


@case(4, AWAY)
def from_a_sparse_tensor(folder: Path) -> None:
    """The values of a sparse initializer."""
    sparse = SparseTensorProto(dims=[64])
    sparse.values.CopyFrom(outside("w", location="../elsewhere/secret.bin"))
    sparse.indices.CopyFrom(tensor("i", np.arange(16)))
    save(folder, whole([node("Add", ["x", "w"], ["y"])], sparse_initializer=[sparse]))


@case(4, AWAY)
def from_the_training_part(folder: Path) -> None:
    """A weight of the graph for training, which nothing here ever runs."""
    made = reading(tensor("w", np.zeros(16, np.float32)))
    made.training_info.add().algorithm.initializer.append(outside("v", location="../elsewhere/secret.bin"))
    save(folder, made)


@case(4, AWAY)
def from_an_undeclared_attribute(folder: Path) -> None:
    """A tensor in an attribute that says it holds a number."""
    made = reading(tensor("w", np.zeros(16, np.float32)))
    hidden = made.graph.node[0].attribute.add(name="k", type=2, i=1)
    hidden.t.CopyFrom(outside("v", location="../elsewhere/secret.bin"))
    save(folder, made)


@case(3, "'nope.bin', which does not exist in ")
def absent(folder: Path) -> None:
    """A model that was moved without its data."""
    _named(folder, "nope.bin")


@case(3, "needs bytes 0 to 64 of external file 'w.bin', which has 12")
def short(folder: Path) -> None:
    """A download of the data that ended early."""
    _weights(folder / "w.bin", 3)
    _named(folder, "w.bin")


@case(3, "needs bytes 9223372036854775807 to")
def far_offset(folder: Path) -> None:
    """An offset that overflows when anything is added to it."""
    _weights(folder / "w.bin")
    _named(folder, "w.bin", offset=(1 << 63) - 1, length=64)


@case(3, "with offset '-64', which is not a byte count")
def negative_offset(folder: Path) -> None:
    """An offset before the file."""
    _weights(folder / "w.bin")
    _named(folder, "w.bin", offset=-64, length=64)


@case(3, "with offset .*, which is not a byte count")
def offset_in_words(folder: Path) -> None:
    """No number, or one in digits that only some readers take."""
    _weights(folder / "w.bin", 64)
    _named(folder, "w.bin", offset="\u0661\u0666", length=64)


@case(3, "needs 64 bytes for its 16 elements but its data has 8589934592")
def long_length(folder: Path) -> None:
    """Eight gigabytes, which the file has, for sixteen elements."""
    with (folder / "w.bin").open("wb") as made:
        made.truncate(8 << 30)
    _named(folder, "w.bin", length=8 << 30)


@case(3, "with length '-1', which is not a byte count")
def negative_length(folder: Path) -> None:
    """A length below zero, which some readers take for all there is."""
    _weights(folder / "w.bin")
    _named(folder, "w.bin", length=-1)


@case(6, "the original could not be run")
def odd_keys(folder: Path) -> None:
    """Keys that a careless reader makes attributes of an object."""
    _weights(folder / "w.bin")
    _named(folder, "w.bin", __class__="x", __dict__="{}", basepath="/etc", checksum="0")


@case(3, "does not say in which file")
def no_location(folder: Path) -> None:
    """External data that are nowhere."""
    save(folder, reading(outside("w", offset=0)))


@case(3, "does not say in which file")
def empty_location(folder: Path) -> None:
    """The folder itself."""
    _named(folder, "")


@case(3, "not a regular file")
def location_is_a_folder(folder: Path) -> None:
    """A folder where a file should be."""
    (folder / "data").mkdir()
    _named(folder, "data")


@case(3, "not a regular file")
def location_is_a_pipe(folder: Path) -> None:
    """A pipe, which would wait for a writer."""
    os.mkfifo(folder / "w.bin")
    _named(folder, "w.bin")


@case(4, AWAY)
def location_is_a_device(folder: Path) -> None:
    """A device that gives bytes for ever."""
    (folder / "w.bin").symlink_to("/dev/zero")
    _named(folder, "w.bin")


@case(0)
def location_is_the_model(folder: Path) -> None:
    """The model's own file as its weights."""
    _named(folder, "model.onnx", offset=0, length=64)


@case(3, "not a file name")
def location_with_a_null(folder: Path) -> None:
    """A name that ends early in the operating system's eyes."""
    _named(folder, "w.bin\0/../../elsewhere/secret.bin")


@case(3, "does not exist in ")
def endless_location(folder: Path) -> None:
    """A name that no file system takes."""
    _named(folder, "d/" * 50_000 + "w.bin")


@case(3, "does not exist in ")
def location_is_an_address(folder: Path) -> None:
    """A place on the network."""
    _named(folder, "http://127.0.0.1/w.bin")


@case(4, "onnxruntime would take for an address in memory")
def memory_marker(folder: Path) -> None:
    """onnxruntime's mark of weights in memory, whose offset is an address that it reads from."""
    _named(folder, "*/_ORT_MEM_ADDR_/*", offset=4096, length=64)


@case(4, "onnxruntime would take for an address in memory")
def memory_marker_of_a_constant(folder: Path) -> None:
    """The same in a Constant."""
    made = node("Constant", [], ["w"], value=outside("w", location="*/_ORT_MEM_ADDR_/*", offset=4096, length=64))
    save(folder, whole([made, node("Add", ["x", "w"], ["y"])], inputs=[port("x", (16,))], outputs=[port("y", (16,))]))


@case(3, "holds its values more than once")
def inside_and_outside(folder: Path) -> None:
    """Values in the model and in a file."""
    _weights(folder / "w.bin")
    made = outside("w", location="w.bin")
    made.raw_data = bytes(64)
    save(folder, reading(made))

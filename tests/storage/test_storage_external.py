"""External data is read from the model's folder and from nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import AttributeProto, ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper
from storage_models import (
    build,
    info,
    outside_tensor,
    save_external,
    whole,
)

from graphopt.errors import BadModel, GraphoptError, Unsafe
from graphopt.storage.read import read
from graphopt.storage.source import Source

SECRET = bytes(2000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a model, beside a file that is none of its business."""
    (tmp_path / "secret.bin").write_bytes(SECRET)
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def model_in(folder: Path, *tensors: TensorProto) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(build([], list(tensors)).SerializeToString())
    return path


def refusal(path: Path, kind: type[GraphoptError] = BadModel) -> str:
    with pytest.raises(kind) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def value(path: Path) -> bytes:
    return first(read(path))


def first(source: Source) -> bytes:
    """The bytes of the first initializer."""
    return bytes(source.store.payload(source.proto.graph.initializer[0]) or b"")


def test_values_are_found_by_offset_and_length(folder: Path) -> None:
    path = save_external(folder, data="sub/in.data")
    source = read(path)
    for stored, wanted in zip(source.proto.graph.initializer, whole(path).graph.initializer, strict=True):
        assert bytes(source.store.payload(stored) or b"") == wanted.raw_data
        assert not source.store.is_embedded(stored)
    (file,) = source.external
    assert (file.location, file.path, file.size) == ("sub/in.data", folder / "sub/in.data", 6000)


def test_length_and_offset_may_be_left_out(folder: Path) -> None:
    (folder / "w.bin").write_bytes(bytes(range(250)) * 8 + b"more")
    assert value(model_in(folder, outside_tensor("w", "w.bin"))) == bytes(range(250)) * 8


@pytest.mark.parametrize("location", ["../secret.bin", "sub/../../secret.bin", "./../secret.bin", "..", "sub/.."])
def test_a_way_up_is_refused(folder: Path, opened: list[str], location: str) -> None:
    assert "leads out of the model's folder" in refusal(model_in(folder, outside_tensor("w", location)), Unsafe)
    assert not [path for path in opened if "secret" in path]


def test_an_absolute_path_is_refused(folder: Path, opened: list[str]) -> None:
    for location in (str(folder.parent / "secret.bin"), "/dev/zero", str(folder / "w.bin")):
        assert "by an absolute path" in refusal(model_in(folder, outside_tensor("w", location)), Unsafe)
    assert not [path for path in opened if "secret" in path or "zero" in path]


def test_links_that_lead_out_are_refused(folder: Path, opened: list[str]) -> None:
    (folder / "direct.bin").symlink_to(folder.parent / "secret.bin")
    (folder / "relative.bin").symlink_to("../secret.bin")
    (folder / "chained.bin").symlink_to("relative.bin")
    (folder / "up").symlink_to("..")
    for location in ("direct.bin", "relative.bin", "chained.bin", "up/secret.bin"):
        said = refusal(model_in(folder, outside_tensor("w", location)), Unsafe)
        assert f"'{location}', a link that leads out of the model's folder" in said
    assert not [path for path in opened if "secret" in path]


def test_a_folder_whose_name_only_begins_alike_is_outside(folder: Path) -> None:
    sibling = folder.with_name("model2")
    sibling.mkdir()
    (sibling / "w.bin").write_bytes(SECRET)
    (folder / "w.bin").symlink_to(sibling / "w.bin")
    refusal(model_in(folder, outside_tensor("w", "w.bin")), Unsafe)


def test_a_link_within_the_folder_is_followed(folder: Path) -> None:
    (folder / "real.bin").write_bytes(b"\1" * 2000)
    (folder / "w.bin").symlink_to("real.bin")
    assert value(model_in(folder, outside_tensor("w", "w.bin"))) == b"\1" * 2000


def test_onnxruntimes_memory_marker_is_refused(folder: Path) -> None:
    marker = "*/_ORT_MEM_ADDR_/*"
    (folder / "*/_ORT_MEM_ADDR_").mkdir(parents=True)
    (folder / marker).write_bytes(SECRET)
    assert "an address in memory" in refusal(model_in(folder, outside_tensor("w", marker)), Unsafe)


def in_attribute(tensor: TensorProto) -> ModelProto:
    return build([helper.make_node("Constant", [], ["y"], value=tensor)])


def in_a_lying_attribute(tensor: TensorProto) -> ModelProto:
    node = helper.make_node("Relu", ["x"], ["y"])
    node.attribute.append(AttributeProto(name="i", type=AttributeProto.INT, t=tensor))
    return build([node])


def in_a_list(tensor: TensorProto) -> ModelProto:
    node = helper.make_node("F", ["x"], ["y"], domain="d")
    node.attribute.append(AttributeProto(name="ts", type=AttributeProto.TENSORS, tensors=[tensor]))
    return build([node])


def in_a_sparse_tensor(tensor: TensorProto) -> ModelProto:
    part = TensorProto()
    part.CopyFrom(tensor)
    return build(
        [],
        sparse_initializer=[
            SparseTensorProto(values=part, indices=numpy_helper.from_array(np.arange(500)), dims=[900])
        ],
    )


def in_a_body(tensor: TensorProto) -> ModelProto:
    body = helper.make_graph([], "b", [], [info("w")], [tensor])
    return build([helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)])


def in_a_body_in_a_body(tensor: TensorProto) -> ModelProto:
    inner = in_a_body(tensor).graph
    return build([helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)])


def in_a_function(tensor: TensorProto) -> ModelProto:
    model = build([])
    nodes = list(in_attribute(tensor).graph.node)
    model.functions.append(helper.make_function("d", "F", [], ["y"], nodes, [helper.make_opsetid("", 17)]))
    return model


def in_a_functions_default(tensor: TensorProto) -> ModelProto:
    model = build([])
    default = helper.make_attribute("a", tensor)
    model.functions.append(helper.make_function("d", "F", [], [], [], [], attribute_protos=[default]))
    return model


def in_training(tensor: TensorProto) -> ModelProto:
    model = build([])
    model.training_info.add().algorithm.initializer.append(tensor)
    return model


PLACES = [
    in_attribute,
    in_a_lying_attribute,
    in_a_list,
    in_a_sparse_tensor,
    in_a_body,
    in_a_body_in_a_body,
    in_a_function,
    in_a_functions_default,
    in_training,
]


@pytest.mark.parametrize("place", PLACES)
def test_every_place_of_a_tensor_is_held_to_the_rules(
    folder: Path, opened: list[str], place: Callable[[TensorProto], ModelProto]
) -> None:
    path = folder / "m.onnx"
    path.write_bytes(place(outside_tensor("w", "../secret.bin")).SerializeToString())
    assert "leads out of" in refusal(path, Unsafe)
    assert not [one for one in opened if "secret" in one]
    (folder / "w.bin").write_bytes(SECRET)
    path.write_bytes(place(outside_tensor("w", "w.bin")).SerializeToString())
    assert [file.location for file in read(path).external] == ["w.bin"]


def test_a_location_spelled_unusually_on_the_wire_is_found_too(folder: Path) -> None:
    data = in_a_lying_attribute(outside_tensor("w", "../secret.bin")).SerializeToString()
    assert data.count(b"p\x01") == 1
    tensor = outside_tensor("w", "../secret.bin").SerializeToString()
    longer = tensor.replace(b"p\x01", b"p\x81\x00")  # the same number in two bytes

    def field(number: int, payload: bytes) -> bytes:
        size = len(payload)
        return (
            bytes([number << 3 | 2]) + (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + payload
        )

    graph = field(1, field(5, field(5, longer)))
    (folder / "m.onnx").write_bytes(b"\x08\x08" + field(7, graph) + field(8, b"\x10\x11"))
    refusal(folder / "m.onnx", Unsafe)


def cache(folder: Path) -> Path:
    """A model and its data as links in one folder to blobs in another, as download caches keep them."""
    blobs, snapshot = folder / "blobs", folder / "snapshots/1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    save_external(folder, data="m.data").rename(blobs / "aaaa")
    (folder / "m.data").rename(blobs / "bbbb")
    (snapshot / "m.onnx").symlink_to("../../blobs/aaaa")
    (snapshot / "m.data").symlink_to("../../blobs/bbbb")
    return snapshot / "m.onnx"


def test_a_cache_of_links_to_blobs_is_read(folder: Path) -> None:
    path = cache(folder)
    (file,) = read(path).external
    assert file.path == folder / "blobs/bbbb"
    assert value(path) == (folder / "blobs/bbbb").read_bytes()[:2000]


def test_from_the_cache_too_nothing_else_is_read(folder: Path) -> None:
    path = cache(folder)
    (path.parent / "m.data").unlink()
    (path.parent / "m.data").symlink_to(folder.parent / "secret.bin")
    refusal(path, Unsafe)


def test_a_link_to_a_model_finds_the_data_beside_the_model(folder: Path) -> None:
    path = save_external(folder)
    link = folder.parent / "link.onnx"
    link.symlink_to(path)
    assert read(link).external[0].path == folder / "in.data"

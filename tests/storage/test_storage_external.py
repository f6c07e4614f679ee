"""External data is read from the model's folder and from nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import AttributeProto, ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper
from storage_models import build, info, outside_tensor, save_external, unprivileged, whole

from graphopt.errors import BadModel, GraphoptError, OverLimit, Unsafe
from graphopt.storage.external import Maps
from graphopt.storage.limits import Limits
from graphopt.storage.read import from_proto, read
from graphopt.storage.source import Source

SECRET = bytes(2000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a model, beside a file that is none of its business."""
    (tmp_path / "secret.bin").write_bytes(SECRET)
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def saved(folder: Path, *tensors: TensorProto) -> Path:
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
    assert value(saved(folder, outside_tensor("w", "w.bin"))) == bytes(range(250)) * 8


# ---------------------------------------------------------------- confinement


@pytest.mark.parametrize("location", ["../secret.bin", "sub/../../secret.bin", "./../secret.bin", "..", "sub/.."])
def test_a_way_up_is_refused(folder: Path, opened: list[str], location: str) -> None:
    assert "leads out of the model's folder" in refusal(saved(folder, outside_tensor("w", location)), Unsafe)
    assert not [path for path in opened if "secret" in path]


def test_an_absolute_path_is_refused(folder: Path, opened: list[str]) -> None:
    for location in (str(folder.parent / "secret.bin"), "/dev/zero", str(folder / "w.bin")):
        assert "by an absolute path" in refusal(saved(folder, outside_tensor("w", location)), Unsafe)
    assert not [path for path in opened if "secret" in path or "zero" in path]


def test_links_that_lead_out_are_refused(folder: Path, opened: list[str]) -> None:
    (folder / "direct.bin").symlink_to(folder.parent / "secret.bin")
    (folder / "relative.bin").symlink_to("../secret.bin")
    (folder / "chained.bin").symlink_to("relative.bin")
    (folder / "up").symlink_to("..")
    for location in ("direct.bin", "relative.bin", "chained.bin", "up/secret.bin"):
        said = refusal(saved(folder, outside_tensor("w", location)), Unsafe)
        assert f"'{location}', a link that leads out of the model's folder" in said
    assert not [path for path in opened if "secret" in path]


def test_a_folder_whose_name_only_begins_alike_is_outside(folder: Path) -> None:
    sibling = folder.with_name("model2")
    sibling.mkdir()
    (sibling / "w.bin").write_bytes(SECRET)
    (folder / "w.bin").symlink_to(sibling / "w.bin")
    refusal(saved(folder, outside_tensor("w", "w.bin")), Unsafe)


def test_a_link_within_the_folder_is_followed(folder: Path) -> None:
    (folder / "real.bin").write_bytes(b"\1" * 2000)
    (folder / "w.bin").symlink_to("real.bin")
    assert value(saved(folder, outside_tensor("w", "w.bin"))) == b"\1" * 2000


def test_onnxruntimes_memory_marker_is_refused(folder: Path) -> None:
    marker = "*/_ORT_MEM_ADDR_/*"
    (folder / "*/_ORT_MEM_ADDR_").mkdir(parents=True)
    (folder / marker).write_bytes(SECRET)
    assert "an address in memory" in refusal(saved(folder, outside_tensor("w", marker)), Unsafe)


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


# ---------------------------------------------------------------- a cache of links


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


# ---------------------------------------------------------------- files that will not do


def test_a_missing_file_is_named_with_its_tensor_and_folder(folder: Path) -> None:
    said = refusal(saved(folder, outside_tensor("w", "gone.bin")))
    assert "tensor 'w' has its values in external file 'gone.bin', which does not exist in" in said
    assert str(folder) in said


def test_a_location_that_is_no_name(folder: Path) -> None:
    assert "is not a file name" in refusal(saved(folder, outside_tensor("w", "a\0b")))
    assert "does not say in which file" in refusal(saved(folder, outside_tensor("w", "")))


def test_a_pipe_is_not_opened(folder: Path, opened: list[str]) -> None:
    os.mkfifo(folder / "w.bin")
    assert "which is not a regular file" in refusal(saved(folder, outside_tensor("w", "w.bin")))
    assert not [path for path in opened if "w.bin" in path]


def test_a_folder_and_a_loop(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "loop").symlink_to("loop")
    assert "not a regular file" in refusal(saved(folder, outside_tensor("w", "sub")))
    assert "not a regular file" in refusal(saved(folder, outside_tensor("w", ".")))
    assert "leads back to itself" in refusal(saved(folder, outside_tensor("w", "loop")))


def test_a_file_without_permission(folder: Path) -> None:
    (folder / "w.bin").write_bytes(SECRET)
    path = saved(folder, outside_tensor("w", "w.bin"))
    (folder / "w.bin").chmod(0)
    with unprivileged(folder):
        assert "cannot be read (Permission denied)" in refusal(path)


NUMBERS = {
    "beyond the end": ({"offset": 4}, "bytes 4 to 2004 of external file 'w.bin', which has 2000"),
    "far beyond the end": ({"offset": 2**63 - 1, "length": 2000}, "which has 2000"),
    "a short length": ({"length": 1996}, "needs 2000 bytes for its 500 elements but its data has 1996"),
    "a huge length": ({"length": 2**40}, f"its data has {2**40}"),
    "a negative offset": ({"offset": -4}, "offset '-4', which is not a byte count"),
    "a negative length": ({"length": -1}, "length '-1', which is not a byte count"),
    "no number": ({"offset": "0x10"}, "offset '0x10'"),
    "a number with a sign": ({"offset": "+0"}, "offset '+0'"),
    "spaces": ({"offset": " 0"}, "offset ' 0'"),
    "other digits": ({"offset": "\u0660"}, "which is not a byte count"),
    "too many digits": ({"offset": "0" * 5000}, "which is not a byte count"),
    "nothing": ({"length": ""}, "length ''"),
}


@pytest.mark.parametrize(("keys", "words"), NUMBERS.values(), ids=NUMBERS.keys())
def test_numbers_that_do_not_fit(folder: Path, keys: dict[str, Any], words: str) -> None:
    (folder / "w.bin").write_bytes(SECRET)
    assert words in refusal(saved(folder, outside_tensor("w", "w.bin", **keys)))


def test_a_key_given_twice_is_ambiguous(folder: Path) -> None:
    tensor = outside_tensor("w", "w.bin")
    tensor.external_data.add(key="location", value="../secret.bin")
    assert "gives 'location' of its external data twice" in refusal(saved(folder, tensor))


def test_unknown_keys_mean_nothing(folder: Path) -> None:
    (folder / "w.bin").write_bytes(SECRET)
    assert value(saved(folder, outside_tensor("w", "w.bin", basepath="/", __class__="x"))) == SECRET


def test_values_in_two_places(folder: Path) -> None:
    (folder / "w.bin").write_bytes(SECRET)
    tensor = outside_tensor("w", "w.bin")
    tensor.raw_data = SECRET
    assert "holds its values more than once" in refusal(saved(folder, tensor))


def test_strings_cannot_be_outside(folder: Path) -> None:
    (folder / "w.bin").write_bytes(SECRET)
    tensor = outside_tensor("w", "w.bin")
    tensor.data_type = TensorProto.STRING
    assert "its strings in an external file" in refusal(saved(folder, tensor))


def test_packed_elements_are_counted_in_bits(folder: Path) -> None:
    (folder / "w.bin").write_bytes(SECRET)
    tensor = outside_tensor("w", "w.bin", count=3999, length=2000)
    tensor.data_type = TensorProto.INT4
    assert len(value(saved(folder, tensor))) == 2000
    tensor.dims[0] = 4001
    assert "needs 2001 bytes" in refusal(saved(folder, tensor))


def test_a_limit_on_all_files_together(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).write_bytes(SECRET)
    path = saved(folder, outside_tensor("v", "a"), outside_tensor("w", "b"), outside_tensor("u", "a"))
    read(path, Limits(external_bytes=4000))
    with pytest.raises(OverLimit, match="external file 'b' brings the external data over the limit"):
        read(path, Limits(external_bytes=3999))


# ---------------------------------------------------------------- maps


def test_hundreds_of_files_do_not_exhaust_descriptors(folder: Path) -> None:
    tensors = []
    for index in range(300):
        (folder / f"w{index}").write_bytes(index.to_bytes(4, "little") * 500)
        tensors.append(outside_tensor(f"w{index}", f"w{index}"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    source = read(saved(folder, *tensors))
    for index, tensor in enumerate(source.proto.graph.initializer):
        assert bytes(source.store.payload(tensor) or b"") == index.to_bytes(4, "little") * 500
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 80


def test_a_file_that_was_changed_is_not_taken_for_the_one_that_was_checked(folder: Path) -> None:
    source = read(save_external(folder))
    (file,) = source.external
    (folder / "new").write_bytes(bytes(6000))
    (folder / "new").rename(folder / "in.data")
    assert first(source) != bytes(2000)  # the one that was mapped
    with pytest.raises(BadModel, match=r"'in\.data' was changed while the model was in use"):
        Maps().view(file)
    (folder / "in.data").unlink()
    with pytest.raises(BadModel, match=r"'in\.data', which does not exist"):
        Maps().view(file)


# ---------------------------------------------------------------- models from memory


def test_a_model_from_memory_reads_its_folder_by_the_same_rules(folder: Path) -> None:
    model = ModelProto.FromString(save_external(folder).read_bytes())
    source = from_proto(model, folder)
    assert first(source) == (folder / "in.data").read_bytes()[:2000]
    with pytest.raises(BadModel, match="the model came without a folder"):
        from_proto(model)
    model.graph.initializer[0].CopyFrom(outside_tensor("w0", "../secret.bin"))
    with pytest.raises(Unsafe):
        from_proto(model, folder)

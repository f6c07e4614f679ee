"""Which values of a written model are in its file and which beside it, and that all are there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from storage_models import (
    build,
    chain,
    edited,
    locations,
    names,
    outside_tensor,
    plain,
    put,
    same_values,
    save_external,
    saved,
    whole,
)

from graphopt.errors import OverLimit
from graphopt.ir.tensors import to_tensor_proto
from graphopt.storage.read import read
from graphopt.storage.write import Written, stage


def test_what_is_embedded_stays_embedded_and_comes_out_canonical(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    written = put(tmp_path / "out.onnx", source)
    expected = chain()
    expected.producer_name = "edited"
    assert (tmp_path / "out.onnx").read_bytes() == expected.SerializeToString()
    assert written == Written(tmp_path / "out.onnx", (), (tmp_path / "out.onnx").stat().st_size)
    assert names(tmp_path) == ["in.onnx", "out.onnx"]


def test_what_is_external_stays_external_in_one_file_of_its_own(tmp_path: Path) -> None:
    source = read(save_external(tmp_path))
    written = put(tmp_path / "out.onnx", source)
    assert set(locations(tmp_path / "out.onnx").values()) == {"out.onnx.data"}
    assert written.sidecars == (tmp_path / "out.onnx.data",)
    assert written.bytes == sum((tmp_path / name).stat().st_size for name in ("out.onnx", "out.onnx.data"))
    same_values(tmp_path / "out.onnx", whole(tmp_path / "in.onnx"))


def test_never_and_always(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    put(tmp_path / "a.onnx", source, external="always")
    assert set(locations(tmp_path / "a.onnx").values()) == {"a.onnx.data"}
    constant = onnx.load(str(tmp_path / "a.onnx"), load_external_data=False).graph.node[0].attribute[0].t
    assert constant.data_location == TensorProto.EXTERNAL
    same_values(tmp_path / "a.onnx", chain())
    back = read(tmp_path / "a.onnx")
    put(tmp_path / "b.onnx", back, back.proto, external="never")
    expected = chain()
    expected.producer_name = "edited"
    assert (tmp_path / "b.onnx").read_bytes() == expected.SerializeToString()


@pytest.mark.parametrize("external", [False, True])
def test_new_values_go_where_most_are(tmp_path: Path, external: bool) -> None:
    source = read(save_external(tmp_path)) if external else saved(tmp_path / "in.onnx")
    model, store = edited(source), source.store.overlay()
    array = np.full(500, 7, np.float32)
    model.graph.initializer.append(to_tensor_proto("new", array, store))
    model.graph.initializer.append(to_tensor_proto("tiny", array[:3], store))
    with stage(tmp_path / "out.onnx", source=source) as staged:
        staged.put(model, store)
        staged.commit()
    found = locations(tmp_path / "out.onnx")
    assert found["new"] == ("out.onnx.data" if external else "")
    assert found["tiny"] == ""
    values = {t.name: numpy_helper.to_array(t) for t in whole(tmp_path / "out.onnx").graph.initializer}
    assert np.array_equal(values["new"], array)


def test_a_model_beyond_the_limit_lets_its_initializers_out_by_itself(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    put(tmp_path / "out.onnx", source, embedded_limit=source.size - 1)
    assert set(locations(tmp_path / "out.onnx").values()) == {"out.onnx.data"}
    node = onnx.load(str(tmp_path / "out.onnx"), load_external_data=False).graph.node[0]
    assert node.attribute[0].t.raw_data
    same_values(tmp_path / "out.onnx", chain())


def test_when_that_is_not_enough_attributes_follow(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    put(tmp_path / "out.onnx", source, embedded_limit=1500)
    node = onnx.load(str(tmp_path / "out.onnx"), load_external_data=False).graph.node[0]
    assert node.attribute[0].t.data_location == TensorProto.EXTERNAL
    same_values(tmp_path / "out.onnx", chain())


def test_a_model_that_cannot_be_made_small_enough_is_refused(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    with pytest.raises(OverLimit, match="nothing more of it can be external data"):
        put(tmp_path / "out.onnx", source, embedded_limit=100)
    with pytest.raises(OverLimit, match="allow external data"):
        put(tmp_path / "out.onnx", source, embedded_limit=5000, external="never")
    assert names(tmp_path) == ["in.onnx"]


def test_just_within_the_limit_nothing_goes_out(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    references = 4 * 150  # they count too while they are in place of the values
    put(tmp_path / "out.onnx", source, source.proto, embedded_limit=source.size + references)
    assert set(locations(tmp_path / "out.onnx").values()) == {""}


def test_tensors_that_share_bytes_go_on_sharing_them(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(range(200)) * 10)
    tied = [outside_tensor(name, "w.bin", size, length=4 * size) for name, size in (("a", 500), ("b", 500), ("c", 250))]
    source = saved(tmp_path / "in.onnx", build([], tied))
    put(tmp_path / "out.onnx", source)
    assert (tmp_path / "out.onnx.data").stat().st_size < 2000 + 64 + 1000 + 1
    assert plain(whole(tmp_path / "out.onnx")) == plain(whole(tmp_path / "in.onnx"))


def test_large_tensors_begin_where_a_file_can_be_mapped(tmp_path: Path) -> None:
    sizes = {"tiny": 300, "page": 20_000, "large": 300_000}
    tensors = [numpy_helper.from_array(np.ones(size, np.float32), name) for name, size in sizes.items()]
    source = saved(tmp_path / "in.onnx", build([], [*tensors, *tensors[::-1]]))
    put(tmp_path / "out.onnx", source, external="always")
    model = onnx.load(str(tmp_path / "out.onnx"), load_external_data=False)
    steps = {"tiny": 64, "page": 4096, "large": 65536}
    for tensor in model.graph.initializer:
        offset = int({e.key: e.value for e in tensor.external_data}["offset"])
        assert offset % steps[tensor.name] == 0
    assert plain(whole(tmp_path / "out.onnx")) == plain(whole(tmp_path / "in.onnx"))


def test_an_external_tensor_without_elements_is_embedded(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"")
    source = saved(tmp_path / "in.onnx", build([], [outside_tensor("w", "w.bin", count=0)]))
    put(tmp_path / "out.onnx", source)
    assert names(tmp_path) == ["in.onnx", "out.onnx", "w.bin"]
    assert numpy_helper.to_array(whole(tmp_path / "out.onnx").graph.initializer[0]).shape == (0,)


def test_explicit_locations_come_out_as_they_were(tmp_path: Path) -> None:
    model = chain()
    model.graph.initializer[0].data_location = TensorProto.DEFAULT
    source = saved(tmp_path / "in.onnx", model)
    put(tmp_path / "out.onnx", source, source.proto)
    assert (tmp_path / "out.onnx").read_bytes() == model.SerializeToString()

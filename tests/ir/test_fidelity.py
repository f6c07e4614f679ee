"""What goes through graph objects and back is what protobuf itself would have written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from ir_constructs_models import CONSTRUCTS as MODELS
from ir_constructs_nodes import CONSTRUCTS as NODES
from ir_constructs_tensors import CONSTRUCTS as TENSORS
from ir_models import canonical, floats, info, model, node
from onnx import ModelProto, helper, numpy_helper

from graphopt.ir import Constant, Graph, Variable, decode, encode
from graphopt.ir.store import Store
from graphopt.storage.read import read
from graphopt.storage.wire import join

CONSTRUCTS = {**MODELS, **TENSORS, **NODES}
assert len(CONSTRUCTS) == len(MODELS) + len(TENSORS) + len(NODES)


def read_all(graph: Graph) -> None:
    """Look at everything that can be looked at."""
    for scope in graph.scopes():
        constants = list(scope.initializers.declared())
        tensors = [*scope.inputs, *scope.outputs]
        for one in scope.nodes:
            tensors += [*one.inputs, *one.outputs]
            assert one.label is not None
            constants += [value for value in one.attrs.values() if isinstance(value, Constant)]
        for tensor in tensors:
            assert isinstance(tensor, gs.Tensor)
            if isinstance(tensor, Variable):
                assert tensor.type is None or isinstance(tensor.type, str)
                assert tensor.shape is None or tensor.dtype is not None or tensor.onnx_dtype == 0
        for constant in constants:
            if constant.onnx_dtype:
                assert list(constant.values.shape) == list(constant.shape)
                assert constant.nbytes >= 0
        assert scope.path is not None


def through(proto: ModelProto, read: bool = False, store: Store | None = None) -> bytes:
    graph = decode(proto, store or Store())
    if read:
        read_all(graph)
    return encode(graph).proto.SerializeToString()


@pytest.fixture(params=CONSTRUCTS)
def proto(request: pytest.FixtureRequest) -> ModelProto:
    return CONSTRUCTS[request.param]()


class TestConstructs:
    def test_untouched(self, proto: ModelProto) -> None:
        assert through(proto) == canonical(proto)

    def test_read(self, proto: ModelProto) -> None:
        assert through(proto, read=True) == canonical(proto)

    def test_copied(self, proto: ModelProto) -> None:
        graph = decode(proto, Store())
        copied = graph.copy()
        read_all(copied)
        twin = copied.copy()
        assert encode(copied).proto.SerializeToString() == canonical(proto)
        assert encode(twin).proto.SerializeToString() == canonical(proto)
        assert encode(graph).proto.SerializeToString() == canonical(proto)

    def test_the_message_is_left_alone(self, proto: ModelProto) -> None:
        before = proto.SerializeToString()
        graph = decode(proto, Store())
        read_all(graph)
        graph.copy().cleanup()
        encode(graph)
        assert proto.SerializeToString() == before

    def test_a_result_can_be_read_again(self, proto: ModelProto) -> None:
        first = encode(decode(proto, Store()))
        assert through(first.proto, store=first.store) == canonical(proto)


class TestSortedAlready:
    """Sorting and cleaning a model that needs neither changes nothing."""

    @pytest.mark.parametrize("name", ["bodies in bodies", "quantization annotations", "function overloads"])
    def test_nothing_moves(self, name: str) -> None:
        proto = CONSTRUCTS[name]()
        graph = decode(proto, Store())
        graph.toposort().cleanup()
        made = encode(graph).proto
        if name == "quantization annotations":  # that of a scale that the model does not have... is kept too
            assert list(made.graph.quantization_annotation) == list(proto.graph.quantization_annotation)
        assert made.SerializeToString() == canonical(proto)


class _File:
    def __init__(self, path: Path) -> None:
        self.path = path

    def view(self) -> memoryview:
        return memoryview(self.path.read_bytes())


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A model file whose weights, an initializer and a Constant node's tensor, lie in another file."""
    weight = numpy_helper.from_array(np.arange(1000, dtype=np.float32), "w")
    nodes = [node("Constant", "", "c", value=weight), node("Sum", "x w c", "y")]
    proto = model(nodes, [info("x", shape=(1000,))], [info("y", shape=(1000,))], [weight, floats("v")])
    path = tmp_path / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="m.data", size_threshold=64, convert_attribute=True)
    return path


class TestExternalData:
    def test_references_stay_as_they_are(self, outside: Path) -> None:
        proto = onnx.load(outside, load_external_data=False)
        assert through(proto) == canonical(proto)

    def test_values_can_be_read_and_references_stay(self, outside: Path) -> None:
        proto = onnx.load(outside, load_external_data=False)
        store = Store(outside.parent)
        store.attach("m.data", _File(outside.parent / "m.data"))
        assert through(proto, read=True, store=store) == canonical(proto)

    def test_loaded_values_stay_inside(self, outside: Path) -> None:
        proto = onnx.load(outside)
        assert through(proto, read=True) == canonical(proto)


def test_large_weights_come_back_from_the_mapped_file(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.arange(4096, dtype=np.float32), "w")
    ones, places = np.ones(512, np.float32), np.arange(512)
    sparse = helper.make_sparse_tensor(numpy_helper.from_array(ones, "s"), numpy_helper.from_array(places, "i"), [4096])
    nodes = [node("Constant", "", "c", value=weight), node("Sum", "x w c s", "y")]
    flat = [info(name, shape=(4096,)) for name in "xy"]
    proto = model(nodes, flat[:1], flat[1:], [weight], sparse_initializer=[sparse])
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    source = read(tmp_path / "m.onnx")
    assert len(source.proto.SerializeToString()) < 2048
    graph = decode(source.proto, source.store)
    for one in (graph, graph.copy()):
        read_all(one)
        encoded = encode(one)
        assert b"".join(bytes(piece) for piece in join(encoded.proto, encoded.store)) == canonical(proto)


@pytest.mark.corpus
@pytest.mark.skipif("GRAPHOPT_CORPUS" not in os.environ, reason="GRAPHOPT_CORPUS names no folder of real models")
def test_real_models() -> None:
    paths = sorted(Path(os.environ["GRAPHOPT_CORPUS"], "models").glob("*.onnx"))
    assert len(paths) >= 15
    for path in paths:
        proto = onnx.load(path)
        expected = canonical(proto)
        assert through(proto) == expected, path.name
        assert through(proto, read=True) == expected, path.name
        assert encode(decode(proto, Store()).copy()).proto.SerializeToString() == expected, path.name

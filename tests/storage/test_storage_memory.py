"""No weight is copied: reading and writing cost a few buffers, whatever the size of the model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError
from onnx import ModelProto, TensorProto, helper, numpy_helper
from storage_models import build, chain, outside_tensor

from graphopt.errors import BadModel, InternalError, OverLimit
from graphopt.ir.store import EMBEDDED, Store
from graphopt.storage.layout import Layout
from graphopt.storage.read import from_proto, read
from graphopt.storage.walk import encoded
from graphopt.storage.wire import join

FRUGAL = """
import resource, sys
from pathlib import Path
from graphopt.storage.read import read
from graphopt.storage.write import stage

folder, external, megabytes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
lines = Path("/proc/self/status").read_text().splitlines()
held = next(int(line.split()[1]) for line in lines if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, ((held << 10) + (megabytes << 20),) * 2)

source = read(folder / "in.onnx")
model = type(source.proto)()
model.CopyFrom(source.proto)
del model.graph.node[0]
with stage(folder / "out.onnx", source=source) as staged:
    staged.put(model, source.store, external)
    staged.commit()
with stage(folder / "copy.onnx", source=source) as staged:
    staged.copy(source)
    staged.commit()
"""
WEIGHTS, ROOM = 64, 24  # MiB


def run_within(folder: Path, external: str, room: int) -> str:
    """Read, write and copy `folder`/in.onnx with `room` MiB of private memory to spare: what went wrong."""
    command = [sys.executable, "-c", FRUGAL, str(folder), external, str(room)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr


@pytest.mark.parametrize("external", ["auto", "always"])
def test_an_embedded_model_is_not_copied(tmp_path: Path, external: str) -> None:
    weights = [numpy_helper.from_array(np.ones(WEIGHTS << 16, np.float32), f"w{i}") for i in range(4)]
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    (tmp_path / "in.onnx").write_bytes(build(nodes, weights).SerializeToString())
    assert run_within(tmp_path, external, ROOM) == ""


def test_an_external_model_is_not_copied(tmp_path: Path) -> None:
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(WEIGHTS << 20)
    size = WEIGHTS << 18
    tensors = [outside_tensor(f"w{i}", "w.bin", size // 4, offset=i * size, length=size) for i in range(4)]
    model = build([helper.make_node("Relu", ["x"], ["y"])], tensors)
    (tmp_path / "in.onnx").write_bytes(model.SerializeToString())
    assert run_within(tmp_path, "auto", ROOM) == ""


def test_a_copy_would_be_noticed_and_is_said_in_words(tmp_path: Path) -> None:
    model = build([helper.make_node("Relu", ["x"], ["y"])])
    packed = np.ones(ROOM << 18, np.float32).tobytes()
    typed = TensorProto.FromString(b"\x22" + encoded(len(packed)) + packed)  # float_data
    typed.data_type, typed.name = TensorProto.FLOAT, "w"
    typed.dims.append(ROOM << 18)
    model.graph.initializer.append(typed)
    (tmp_path / "in.onnx").write_bytes(model.SerializeToString())  # a typed field has to be parsed
    assert "in.onnx' needs more memory than there is to be parsed" in run_within(tmp_path, "auto", ROOM)


# ---------------------------------------------------------------- models from memory


def test_a_model_from_memory_is_taken_without_its_large_initializers() -> None:
    model = chain()
    before = model.SerializeToString()
    source = from_proto(model)
    tensor = source.proto.graph.initializer[0]
    assert tensor.external_data[0].value == EMBEDDED
    assert source.store.payload(tensor) == model.graph.initializer[0].raw_data
    assert model.SerializeToString() == before
    assert b"".join(join(source.proto, source.store)) == before
    assert source.path is None
    assert source.sha256() == __import__("hashlib").sha256(before).hexdigest()


def test_a_model_that_changes_behind_our_back_is_noticed() -> None:
    model = chain()
    source = from_proto(model)
    model.graph.initializer[0].raw_data = b"short"
    with pytest.raises(InternalError, match="the values of tensor 'w0' have changed in memory"):
        source.store.payload(source.proto.graph.initializer[0])


def every_field() -> ModelProto:
    model = chain()
    model.producer_name, model.domain, model.model_version, model.doc_string = "", "d", 0, "doc"
    model.metadata_props.add(key="k", value="v")
    model.graph.doc_string = ""
    model.graph.quantization_annotation.add(tensor_name="w0")
    model.graph.initializer[0].data_location = TensorProto.DEFAULT
    model.graph.initializer[1].doc_string = "d"
    model.graph.initializer[1].metadata_props.add(key="k", value="v")
    model.graph.initializer[1].segment.begin = 0
    model.graph.initializer.append(TensorProto(name="s", data_type=TensorProto.STRING, dims=[1], string_data=[b"a"]))
    model.functions.append(helper.make_function("d", "F", [], [], [], [helper.make_opsetid("", 17)]))
    return model


def with_unknown_fields() -> ModelProto:
    model = chain()
    graph = model.graph.SerializeToString() + b"\x9a\x06\x03new"  # field 99
    model.graph.CopyFrom(onnx.GraphProto.FromString(graph))
    return model


@pytest.mark.parametrize("make", [every_field, with_unknown_fields])
def test_nothing_of_a_model_from_memory_is_lost(make: Callable[[], ModelProto]) -> None:
    model = make()
    source = from_proto(model)
    assert b"".join(join(source.proto, source.store)) == model.SerializeToString()
    assert not source.proto.graph.initializer[0].raw_data


def test_an_empty_graph_is_a_graph() -> None:
    model = ModelProto(ir_version=8)
    model.opset_import.add(version=17)
    with pytest.raises(BadModel, match="has no graph"):
        from_proto(model)
    model.graph.SetInParent()
    assert from_proto(model).proto.SerializeToString() == model.SerializeToString()


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(BadModel, match="the model is a TensorProto, not a ModelProto"):
        from_proto(TensorProto())
    with pytest.raises(BadModel, match="the model: tensor 'w' needs 4000 bytes"):
        from_proto(build([], [TensorProto(name="w", data_type=1, dims=[1000], raw_data=bytes(4))]))
    with pytest.raises(BadModel, match="the model has no opset_import"):
        from_proto(ModelProto(ir_version=8, graph=onnx.GraphProto()))


def test_a_skeleton_without_its_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(chain().SerializeToString())
    skeleton = read(tmp_path / "m.onnx").proto
    with pytest.raises(BadModel, match="refers to values of another model in memory"):
        from_proto(skeleton)
    (tmp_path / "leak.onnx").write_bytes(skeleton.SerializeToString())
    with pytest.raises(BadModel, match="refers to values of another model in memory"):
        read(tmp_path / "leak.onnx")


class TooLarge:
    """Stands for a message of more than 2 GB."""

    def SerializeToString(self) -> bytes:  # noqa: N802
        raise EncodeError("Failed to serialize proto")


def test_a_model_too_large_for_protobuf_is_refused_in_words() -> None:
    with pytest.raises(OverLimit, match="which protobuf cannot write"):
        Layout(TooLarge(), Store())  # type: ignore[arg-type]

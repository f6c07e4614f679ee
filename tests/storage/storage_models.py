"""Small models for the storage tests, and a way to be nobody."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from graphopt.storage.read import read
from graphopt.storage.source import Source
from graphopt.storage.write import Written, stage


def info(name: str, shape: Any = (500,), kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def build(nodes: list[onnx.NodeProto], initializers: list[TensorProto] | None = None, **graph: Any) -> ModelProto:
    """A model x -> y of opset 17 around `nodes`."""
    made = helper.make_graph(nodes, "g", [info("x")], [info("y")], initializers or [], **graph)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def chain(count: int = 3, size: int = 500) -> ModelProto:
    """y = x + w0 + w1 + ... + c; the weights are initializers, c is a Constant node; 4 * size bytes each."""
    draw = np.random.default_rng(7)
    weights = [numpy_helper.from_array(draw.random(size, np.float32).astype(np.float32), f"w{i}") for i in range(count)]
    constant = numpy_helper.from_array(np.arange(size, dtype=np.float32), "value")
    nodes = [helper.make_node("Constant", [], ["c"], value=constant)]
    nodes += [helper.make_node("Add", [f"t{i}" if i else "x", f"w{i}"], [f"t{i + 1}"]) for i in range(count)]
    nodes.append(helper.make_node("Add", [f"t{count}" if count else "x", "c"], ["y"]))
    return build(nodes, weights)


def outside_tensor(name: str, location: str, count: int = 500, **keys: Any) -> TensorProto:
    """A float tensor whose values are said to be in an external file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[count], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **keys}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return tensor


def save_external(folder: Path, name: str = "in.onnx", data: str = "in.data", count: int = 3) -> Path:
    """`chain` with its initializers in an external file."""
    model = chain(count)
    payload = b""
    for tensor in model.graph.initializer:
        raw = tensor.raw_data
        tensor.CopyFrom(outside_tensor(tensor.name, data, offset=len(payload), length=len(raw)))
        payload += raw
    (folder / data).parent.mkdir(parents=True, exist_ok=True)
    (folder / data).write_bytes(payload)
    (folder / name).write_bytes(model.SerializeToString())
    return folder / name


def whole(path: Path) -> ModelProto:
    """The model at `path` with all its values embedded, read by onnx itself."""
    return onnx.load(str(path))


@contextmanager
def unprivileged(*paths: Path) -> Iterator[None]:
    """Run as a user who is not root; `paths` and their parents are made passable first."""
    if os.geteuid() != 0:
        yield
        return
    for path in paths:
        for one in (path, *path.parents):
            mode = one.stat().st_mode
            if stat.S_ISDIR(mode) and mode & 0o005 != 0o005:
                one.chmod(mode | 0o055)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def saved(path: Path, model: ModelProto | None = None) -> Source:
    path.write_bytes((model or chain()).SerializeToString())
    return read(path)


def edited(source: Source, producer: str = "edited") -> ModelProto:
    model = ModelProto()
    model.CopyFrom(source.proto)
    model.producer_name = producer
    return model


def put(target: Path, source: Source, model: ModelProto | None = None, **options: Any) -> Written:
    external = options.pop("external", "auto")
    with stage(target, source=source, **options) as staged:
        staged.put(model or edited(source), source.store, external)
        return staged.commit()


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))  # noqa: PTH208


def locations(path: Path) -> dict[str, str]:
    """Initializer name -> its external file, "" when embedded."""
    model = onnx.load(str(path), load_external_data=False)
    return {
        tensor.name: next((e.value for e in tensor.external_data if e.key == "location"), "")
        for tensor in model.graph.initializer
    }


def same_values(path: Path, other: ModelProto) -> None:
    """`path`, read by onnx, says what `other` says, wherever its values are."""
    onnx.checker.check_model(str(path))
    assert plain(whole(path)) == plain(other)


def plain(model: ModelProto) -> ModelProto:
    """A copy without the producer, and without the traces that onnx leaves when it loads values."""
    copy: ModelProto = ModelProto.FromString(model.SerializeToString())
    copy.ClearField("producer_name")
    attributes = [attribute for node in copy.graph.node for attribute in node.attribute]
    for tensor in (*copy.graph.initializer, *(one.t for one in attributes if one.HasField("t"))):
        tensor.ClearField("data_location")
    return copy


def different(source: Source) -> ModelProto:
    model = edited(source)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros(500, np.float32), "w0"))
    return model

"""What a file may say besides its nodes: versions, declarations, storage, names, outputs that nobody makes."""

from __future__ import annotations

from random import Random

import numpy as np
import onnx
from onnx import ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper

_TYPED = {
    1: "float_data",
    6: "int32_data",
    7: "int64_data",
    11: "double_data",
    2: "int32_data",
    3: "int32_data",
    9: "int32_data",
}


def dressed(proto: ModelProto, rng: Random) -> ModelProto:
    """A copy with a few of these things changed; the numbers are the same, and it may be no valid model any more."""
    made = ModelProto()
    made.CopyFrom(proto)
    for way in _WAYS:
        if rng.random() < 0.2:
            way(made, rng)
    return made


def other_version(proto: ModelProto, rng: Random) -> None:
    """Another version of the file format."""
    if proto.ir_version >= 4:
        least = 10 if any(one.overload for one in proto.functions) else 8 if proto.functions else 4
        proto.ir_version = rng.randint(least, 13)


def sparse(proto: ModelProto, rng: Random) -> None:
    """An initializer in sparse form."""
    inputs = {one.name for one in proto.graph.input}
    found = [
        one
        for one in proto.graph.initializer
        if one.data_type == TensorProto.FLOAT and one.dims and one.name not in inputs
    ]
    if not found or proto.ir_version < 4:
        return
    tensor = rng.choice(found)
    array = numpy_helper.to_array(tensor)
    places = np.flatnonzero(array.reshape(-1).view(np.uint32))
    if not places.size:
        return
    values = numpy_helper.from_array(array.reshape(-1)[places], tensor.name)
    indices = numpy_helper.from_array(places.astype(np.int64), f"{tensor.name}_places")
    kept = SparseTensorProto(values=values, indices=indices, dims=list(tensor.dims))
    proto.graph.initializer.remove(tensor)
    proto.graph.sparse_initializer.append(kept)


def typed(proto: ModelProto, rng: Random) -> None:
    """Numbers in typed fields in the place of raw bytes."""
    for tensor in proto.graph.initializer:
        if tensor.data_type in _TYPED and tensor.HasField("raw_data") and rng.random() < 0.5:
            array = numpy_helper.to_array(tensor).reshape(-1)
            numbers = (array.astype(np.int32) if array.dtype.kind == "b" else array).tolist()
            tensor.ClearField("raw_data")
            getattr(tensor, _TYPED[tensor.data_type]).extend(numbers)


def passing(proto: ModelProto, rng: Random) -> None:
    """An output that is an input or an initializer."""
    outputs = {one.name for one in proto.graph.output}
    if rng.random() < 0.5:
        found = [one for one in proto.graph.input if one.name not in outputs]
        if found:
            proto.graph.output.append(rng.choice(found))
    else:
        stored = [one for one in proto.graph.initializer if one.name not in outputs]
        if stored:
            one = rng.choice(stored)
            proto.graph.output.append(helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)))


def forgotten(proto: ModelProto, rng: Random) -> None:
    """Initializers and a node that nobody reads."""
    if not any(one.name == "forgotten" for one in proto.graph.initializer):
        proto.graph.initializer.append(numpy_helper.from_array(np.array([1.5, 2.5], np.float32), "forgotten"))
    name = rng.choice(proto.graph.input).name
    proto.graph.node.append(helper.make_node("Identity", [name], ["unheard"]))


def called(proto: ModelProto, rng: Random) -> None:
    """The default domain by its other name, and an import that nobody needs."""
    if rng.random() < 0.5:
        for one in proto.opset_import:
            one.domain = one.domain or "ai.onnx"
    if rng.random() < 0.5:
        proto.opset_import.append(helper.make_opsetid(rng.choice(("ai.onnx.ml", "com.microsoft", "nobody.reads")), 1))


def noted(proto: ModelProto, rng: Random) -> None:
    """Texts and metadata in all places."""
    proto.doc_string, proto.graph.doc_string = "a model", "a graph"
    helper.set_model_props(proto, {"of": "a seed"})
    for node in proto.graph.node:
        if rng.random() < 0.3:
            node.doc_string = "a node"
            node.metadata_props.add(key="from", value="here")
    for tensor in proto.graph.initializer:
        if rng.random() < 0.2:
            tensor.doc_string = "a tensor"


def fixed(proto: ModelProto, rng: Random) -> None:
    """Dims of inputs without names."""
    for one in proto.graph.input:
        for dim in one.type.tensor_type.shape.dim:
            if dim.HasField("dim_param") and rng.random() < 0.5:
                dim.ClearField("dim_param")


def trailing(proto: ModelProto, rng: Random) -> None:
    """Slots that are left out and written all the same, and empty names of outputs."""
    for node in proto.graph.node:
        schema = _schema(node.op_type, proto)
        if schema is None or rng.random() < 0.5:
            continue
        rest = schema.inputs[len(node.input) :]
        if rest and rest[0].option == onnx.defs.OpSchema.FormalParameterOption.Optional:
            node.input.append("")


def unnamed(proto: ModelProto, rng: Random) -> None:
    """No names, or the same name, for all nodes."""
    name = rng.choice(("", "", "same"))
    for node in proto.graph.node:
        node.name = name


def _schema(op: str, proto: ModelProto) -> onnx.defs.OpSchema | None:
    version = next((one.version for one in proto.opset_import if not one.domain), 1)
    return onnx.defs.get_schema(op, version) if onnx.defs.has(op, version) else None


_WAYS = (other_version, other_version, sparse, typed, passing, forgotten, called, noted, fixed, trailing, unnamed)

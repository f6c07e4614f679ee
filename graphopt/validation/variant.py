"""A copy of a model whose float weights are one ulp off, written for a measurement and thrown away.

The nudged weights are streamed to a scratch file one tensor at a time and the model is written
from there, so that no more than one tensor is in memory.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto

from graphopt.ir.dtypes import to_bytes
from graphopt.ir.store import EMBEDDED, Store, byte_count, refer
from graphopt.ir.tensors import Stored
from graphopt.storage.source import Source
from graphopt.storage.wire import join
from graphopt.validation.nudge import can_nudge, nudge, structural
from graphopt.validation.operands import COMPARISONS
from graphopt.validation.values import Array

LIMIT: Final = 1 << 30  # bytes of weights; a larger model is measured without nudged weights
_NUDGEABLE: Final = frozenset((TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE))
# operands whose exact value decides a shape or a branch: moving them measures something else
_DECIDING: Final = frozenset(
    [("Resize", 1), ("Resize", 2), ("Upsample", 1), ("Pow", 1), ("Clip", 1), ("Clip", 2), ("OneHot", 2), ("Pad", 2)]
    + [("NonMaxSuppression", 3), ("NonMaxSuppression", 4), ("Floor", 0), ("Ceil", 0), ("Round", 0)]
    + [(op, slot) for op in (*COMPARISONS, "Mod", "Range") for slot in range(3)]
)


def nudged_variant(source: Source, folder: Path, seed: int) -> Path | None:
    """Write `source` with its float weights moved by one ulp into `folder`; the path of the model.

    None where there is nothing to move, or the weights take more than `LIMIT` bytes (or are
    missing). Whole numbers, powers of two and constants that decide shapes stay as they are.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(source.proto)
    deciding = _deciding(proto)
    tensors = list(_tensors(proto))
    if sum(_size(tensor) for _, tensor in tensors) > LIMIT:
        return None
    store = source.store.overlay()
    scratch, target = folder / "nudged.bin", folder / "nudged.onnx"
    places: list[tuple[TensorProto, int, int]] = []
    changed = False
    with scratch.open("wb") as stream:
        for number, (name, tensor) in enumerate(tensors):
            moved = None if name in deciding else _moved(tensor, store, seed, number)
            changed |= moved is not None
            if moved is None and not _outside(tensor):
                continue
            payload = store.payload(tensor) if moved is None else moved
            assert payload is not None
            places.append(
                (tensor, stream.tell(), stream.write(payload.data if isinstance(payload, np.ndarray) else payload))
            )
    if changed:
        _point(places, scratch, store)
        with target.open("wb") as stream:
            for piece in join(proto, store):
                stream.write(piece)
    scratch.unlink()
    return target if changed else None


def _point(places: list[tuple[TensorProto, int, int]], scratch: Path, store: Store) -> None:
    """Make the tensors refer to their bytes in the scratch file, mapped."""
    if not scratch.stat().st_size:
        return
    with scratch.open("rb") as stream:
        base = store.hold(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    for tensor, offset, length in places:
        for field in ("raw_data", "float_data", "double_data", "int32_data"):
            tensor.ClearField(field)
        refer(tensor, EMBEDDED, base + offset, length)


def _moved(tensor: TensorProto, store: Store, seed: int, number: int) -> Array | None:
    """The raw bytes of the nudged tensor, None where it stays as it is."""
    if tensor.data_type not in _NUDGEABLE:
        return None
    array = Stored(tensor, store).load()
    if not array.size or not can_nudge(array.dtype) or structural(array):
        return None
    digest = hashlib.sha256(f"{seed}\0{number}\0{tensor.name}".encode()).digest()
    return to_bytes(nudge(array, np.random.default_rng(int.from_bytes(digest[:16], "little"))))


def _outside(tensor: TensorProto) -> bool:
    """Whether the bytes are in an external file, which the variant's folder will not have."""
    return tensor.data_location == TensorProto.EXTERNAL and not any(
        entry.key == "location" and entry.value == EMBEDDED for entry in tensor.external_data
    )


def _size(tensor: TensorProto) -> int:
    return 0 if tensor.data_type == TensorProto.STRING else byte_count(tensor)


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    pending: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == AttributeProto.GRAPH:
                    pending.append(attribute.g)
                elif attribute.type == AttributeProto.GRAPHS:
                    pending.extend(attribute.graphs)


def _tensors(proto: onnx.ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Every dense tensor, with the name of the value that it is ("" in attributes other than Constant's)."""
    for graph in _graphs(proto):
        if isinstance(graph, onnx.GraphProto):
            for tensor in graph.initializer:
                yield tensor.name, tensor
            for sparse in graph.sparse_initializer:
                yield "", sparse.indices
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == AttributeProto.TENSOR:
                    yield node.output[0] if node.op_type == "Constant" and node.output else "", attribute.t
                elif attribute.type == AttributeProto.TENSORS:
                    for tensor in attribute.tensors:
                        yield "", tensor


def _deciding(proto: onnx.ModelProto) -> set[str]:
    """Names read by an operand that decides; "" is among them, so that unnamed tensors stay."""
    names = {""}
    for graph in _graphs(proto):
        for node in graph.node:
            names.update(name for slot, name in enumerate(node.input) if (node.op_type, slot) in _DECIDING)
    return names

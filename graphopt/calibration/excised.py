"""Parts of a model that are run by themselves: what lies behind a change, given the values in front of it."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, TensorProto, TypeProto, ValueInfoProto

from graphopt.calibration.patched import FRESH
from graphopt.ir.dtypes import onnx_dtype

Reads = Sequence[Sequence[str]]
"""The names that each node reads, those in its bodies included."""


def behind_of(graph: GraphProto, reads: Reads, differ: set[str]) -> set[str]:
    """The values that are computed from some."""
    readers: dict[str, list[int]] = {}
    for at, names in enumerate(reads):
        for name in names:
            readers.setdefault(name, []).append(at)
    found, pending = set(differ), list(differ)
    while pending:
        for at in readers.get(pending.pop(), ()):
            new = [name for name in graph.node[at].output if name and name not in found]
            found.update(new)
            pending.extend(new)
    return found


def front_of(
    graph: GraphProto, reads: Reads, behind: set[str], outputs: Sequence[str], tensors: Container[str]
) -> list[str] | None:
    """The values that are not `behind` a change and are read by nodes that are, on the way to `outputs`; None where
    one of them is none of the `tensors`, and cannot be fed. What the change itself adds is computed."""
    makers = {name: at for at, node in enumerate(graph.node) for name in node.output if name}
    found, seen, pending = dict[str, None](), set[int](), list(outputs)
    while pending:
        name = pending.pop()
        at = makers.get(name)
        if at is None or (graph.node[at].op_type == "Constant" and not graph.node[at].domain):
            continue
        if name not in behind and not name.startswith(FRESH):
            if name not in tensors:
                return None
            found[name] = None
        elif at not in seen:
            seen.add(at)
            pending.extend(reads[at])
    return list(found)


def cut(graph: GraphProto, reads: Reads, outputs: Sequence[str], given: set[str]) -> None:
    """Leave what computes `outputs`, up to the values that are `given`."""
    makers = {name: at for at, node in enumerate(graph.node) for name in node.output if name}
    needed, leaves, pending = set[int](), set[str](), list(outputs)
    while pending:
        name = pending.pop()
        at = None if name in given else makers.get(name)
        if at is None:
            leaves.add(name)
        elif at not in needed:
            needed.add(at)
            pending.extend(reads[at])
    declared = {one.name: one for one in graph.output}
    kept = GraphProto(
        name=graph.name,
        node=[graph.node[at] for at in sorted(needed)],
        initializer=[one for one in graph.initializer if one.name in leaves],
        sparse_initializer=[one for one in graph.sparse_initializer if one.values.name in leaves],
        input=[one for one in graph.input if one.name in leaves],
        output=[declared.get(name) or ValueInfoProto(name=name) for name in outputs],
    )
    graph.CopyFrom(kept)


def declare(graph: GraphProto, values: Mapping[str, Any]) -> None:
    """Make values inputs of a graph, of any shape."""
    known = {one.name for one in graph.input}
    for name, value in values.items():
        if name not in known:
            number = onnx_dtype(value.dtype) if isinstance(value, np.ndarray) else TensorProto.UNDEFINED
            graph.input.append(ValueInfoProto(name=name, type=TypeProto(tensor_type={"elem_type": number})))

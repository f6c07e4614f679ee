"""Duplicate initializers: the same weights stored twice."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.spelling import longer_names
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.dtypes import onnx_dtype, to_bytes
from graphopt.ir.tensors import SparseStored, Stored
from graphopt.ir.values import Array
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.eliminate.sight import Sight

RULE = "duplicate"
_MESSAGE = 8  # bytes of a tensor message besides name, dims and elements


@dataclass(frozen=True)
class DuplicateInitializers(Pass):
    """Store equal weights once.

    What it does
        Precondition: two initializers, or values of Constant nodes, have the same element type, the
        same shape and the same bits; and the first can be seen from wherever the second is read: it
        is of the same graph, or of one around it. Rewrite: whoever read the second reads the first,
        and the second goes. Main graph, bodies, and the Constant nodes of functions.

    Example
        before: initializers: v, w (equal)    a = MatMul(x, v)    y = MatMul(a, w)
        after:  initializers: v               a = MatMul(x, v)    y = MatMul(a, v)

    When not
        Zeros of different sign and NaNs of different payload are different. Defaults of inputs that
        callers may override are never merged, nor is a tensor that a quantization annotation is about
        or names, nor one that is a graph's output. A sparse tensor is only compared with sparse
        ones. Bodies of the same node do not see each other. Where so many readers would spell out a
        longer name that the file grew, both stay.

    Contract
        EXACT. The readers compute from the same bits.

    Source
        ONNX IR specification, "Graphs" and `TensorProto`.
    """

    name = "duplicate-initializers"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        annotations = Annotations(graph)
        for top in (graph, *graph.functions):
            forms = Counter(_form(one) for one in _stated(top))
            forms += Counter((form, _sample(one)) for one in _stated(top) if forms[form := _form(one)] > 1)
            _Work(annotations, ctx, forms).sweep(top)


_SAMPLED = 1 << 16  # bytes from which on a value is looked at in places first
_PLACES = 16


class _Work:
    """One walk; `forms` tells how often an element type and shape occur, and how often with the same
    `_sample`, so that what is alone in its form is never read."""

    def __init__(self, annotations: Annotations, ctx: Context, forms: Counter[Hashable]) -> None:
        self.annotations, self.ctx, self.forms = annotations, ctx, forms

    def sweep(self, top: Graph) -> None:
        sight = Sight[list[Tensor]]()
        for item in sight.walk(top):
            if isinstance(item, Graph):
                # Those that cannot go come first, so that others can be merged into them.
                for constant in sorted(item.initializers, key=lambda one: not self.stays(one)):
                    self.meet(constant, item, sight)
            elif item.is_op("Constant") and item.outputs and item.outputs[0].name and item.graph is not None:
                self.meet(item.outputs[0], item.graph, sight)

    def stays(self, tensor: Tensor) -> bool:
        return bool(tensor.graph_outputs) or self.annotations.about(tensor) is not None

    def meet(self, tensor: Tensor, scope: Graph, sight: Sight[list[Tensor]]) -> None:
        form = _form(tensor)
        if form is None or self.forms[form] < 2:
            return
        form = (form, _sample(tensor))
        if self.forms[form] < 2:
            return
        key = (form, hashlib.blake2b(_content(tensor), digest_size=16).digest())
        first = sight.find(key)
        if first is None:
            sight.note(key, [tensor])
            return
        # Equal hashes are not proof. Contents are views of the file where they can be.
        twin = next((one for one in first if _content(one) == _content(tensor)), None)
        if twin is None:
            first.append(tensor)
        elif (why := self.why_not(tensor, twin, scope)) is not None:
            self.ctx.missed(RULE, _subject(tensor), why)
        elif self.ctx.rewrite(RULE, _subject(tensor), f"as {twin.name}"):
            scope.replace_uses(tensor, twin)
            if isinstance(tensor, Constant):
                scope.remove_initializer(tensor)
            else:
                scope.remove(tensor.inputs[0])

    def why_not(self, old: Tensor, new: Tensor, scope: Graph) -> str | None:
        """Why `new` cannot stand for `old`, in a clause."""
        why = self.annotations.about(old) or scope.why_not_replace(old, new)
        if why is None and longer_names(old, new) > _freed(old):
            return f"the file would grow: its readers would spell out the longer name {new.name!r}"
        return why


def _stated(top: Graph) -> Iterator[Tensor]:
    """Every initializer and every value of a Constant node in a graph and its bodies."""
    for scope in top.graphs():
        yield from scope.initializers
        for node in scope.nodes:
            if node.is_op("Constant") and node.outputs and node.outputs[0].name:
                yield node.outputs[0]


def _subject(tensor: Tensor) -> Node | Tensor:
    return tensor if isinstance(tensor, Constant) else tensor.inputs[0]


def _form(tensor: Tensor) -> Hashable:
    """Element type, shape, and how it is stored; None for what is not compared."""
    held = constant_of(tensor)
    if held is not None:
        kind = "sparse" if isinstance(held.stored, SparseStored) else "dense"
        return (kind, held.onnx_dtype, tuple(int(dim) for dim in held.shape))
    values = constant_values(tensor)
    return None if values is None else ("dense", onnx_dtype(values.dtype), values.shape)


def _content(tensor: Tensor) -> bytes | memoryview:
    """The bytes of a value: equal contents of one form are equal to the last bit."""
    held = constant_of(tensor)
    if held is None:
        values = constant_values(tensor)
        assert values is not None, "what has a form has values"
        return _raw(values)
    stored = held.stored
    if isinstance(stored, SparseStored):
        proto = stored.proto
        parts = [_dense(Stored(one, stored.store)) for one in (proto.indices, proto.values)]
        return b"".join(len(one).to_bytes(8, "little") + bytes(one) for one in parts)
    lying = held.payload()
    if lying is not None:
        return lying
    return _raw(held.values) if stored is None else _dense(stored)


def _sample(tensor: Tensor) -> bytes:
    """Some bytes of a large value, from all over it: values that differ in them need not be read whole."""
    held = constant_of(tensor)
    if held is None or held.nbytes < _SAMPLED or isinstance(held.stored, SparseStored):
        return b""
    raw = held.payload()
    if raw is None:
        return b""
    step = len(raw) // _PLACES
    return b"".join(bytes(raw[start : start + 64]) for start in range(0, len(raw), step))


def _freed(tensor: Tensor) -> int:
    """Bytes of the file that go with a stated value, or a few less."""
    held = constant_of(tensor)
    if held is not None and (held.stored is None or _is_elsewhere(held)):
        return held.nbytes + len(tensor.name.encode()) + _MESSAGE
    if isinstance(tensor, Constant):
        return int(tensor.stored.proto.ByteSize()) if tensor.stored is not None else 0
    proto = tensor.inputs[0].proto
    return 0 if proto is None else int(proto.ByteSize())


def _is_elsewhere(held: Constant) -> bool:
    """Whether the message of a constant only refers to its bytes."""
    return isinstance(held.stored, Stored) and bool(held.stored.proto.external_data)


def _dense(stored: Any) -> bytes | memoryview:
    raw: bytes | memoryview | None = stored.payload()
    return _raw(stored.load()) if raw is None else raw


def _raw(values: Array) -> bytes | memoryview:
    if values.dtype == object:
        parts = [one if isinstance(one, bytes) else str(one).encode() for one in values.ravel().tolist()]
        return b"".join(len(one).to_bytes(8, "little") + one for one in parts)
    return to_bytes(values).data

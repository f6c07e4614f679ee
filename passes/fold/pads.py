"""Pad into the convolutions and pools behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.matching import integers, operand
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Graph, Node
from graphopt.ir.tensors import SparseStored
from graphopt.ir.values import Array
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fold.folding import sweep
from passes.fold.releasing import freed_bytes

RULE = "fold"
_INPUTS = 11  # the opset from which on pads and value are inputs
_FIRST = {"Conv": 1, "AveragePool": 7, "MaxPool": 1}  # the opset from which on a reader is understood
_PADS, _COUNT = 12, 26  # bytes of the attributes: pads without its numbers, count_include_pad


@dataclass(frozen=True)
class FoldPad(Pass):
    """Fold a Pad into the `pads` of the convolutions and pools that read it.

    What it does
        Precondition: a Pad in constant mode adds a known, not negative number of elements to spatial
        axes only, and only these read it: Conv, where it adds zeros; AveragePool, where it adds zeros
        and the pool counts what it pads, or pads nothing yet; MaxPool of integers, without indices,
        where it adds the least number of the type. They say how much they pad, or nothing
        (`auto_pad` is NOTSET or VALID). Rewrite: their `pads` grow by the Pad's, and the Pad goes.
        Pads and value may be attributes (before opset 11) or constant inputs, with axes (from 18 on)
        or without. Main graph, bodies and functions.

    Example
        before: a = Pad<pads = [0, 0, 1, 1, 0, 0, 1, 1]>(x)    y = Conv(a, w)
        after:  y = Conv<pads = [1, 1, 1, 1]>(x, w)

    When not
        With `auto_pad` SAME_UPPER or SAME_LOWER the operator pads by the size that it reads. Pools stay
        with `ceil_mode`, dilations, or a pad as large as their window, which runtimes refuse. A MaxPool
        of floating point stays: which of 0.0, -0.0 and NaN it gives depends on the order in which it
        compares, and so on its padding. ConvInteger and QLinearConv pad with their zero point, and a
        ConvTranspose cuts off. A Pad with -0.0 stays, and so does one whose result is read by anything
        else, or is an output.

    Contract
        EXACT. The operators are defined by the padded input, and onnxruntime without optimizations
        multiplies and adds the zeros in the same order.

    Source
        ONNX operators Pad (2, 11, 13, 18, 19 ...), Conv, AveragePool, MaxPool.
    """

    name = "fold-pad"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        annotations, shapes = Annotations(graph), None
        for scope in graph.scopes():
            for node in reversed([one for one in scope.nodes if one.is_op("Pad")]):
                readers = list(dict.fromkeys(node.outputs[0].readers)) if node.outputs and node.inputs else []
                if not any(one.is_op(*_FIRST) for one in readers):
                    continue
                shapes = shapes or ctx.shapes
                padding = _padding(node, shapes)
                plans = padding if isinstance(padding, str) else _plans(node, readers, *padding, annotations)
                why = plans if isinstance(plans, str) else annotations.about(node.outputs[0])
                why = why or scope.why_not_replace(node.outputs[0], node.inputs[0])
                if why is not None or isinstance(plans, str):
                    ctx.missed(RULE, node, str(why))
                elif ctx.rewrite(RULE, node):
                    for reader, pads in zip(readers, plans, strict=True):
                        _set(reader, pads)
                    scope.replace_uses(node.outputs[0], node.inputs[0])
                    sweep(node, annotations)


def _padding(node: Node, shapes: Shapes) -> tuple[list[int], Array] | str:
    """What a Pad adds before and behind each axis, and with which value; a clause where it is not known."""
    assert node.graph is not None, "a node that is looked at is in a graph"
    opset = node.graph.opset_of()
    if node.attrs.get("mode", "constant") != "constant":
        return f"it pads in mode {node.attrs['mode']}"
    given = integers(node, 1) if opset >= _INPUTS else integers(node, 3, "pads")
    if opset < 2 or given is None:
        return "how much it pads is known at run time only"
    held = operand(node, 2) if opset >= _INPUTS else None
    value: Array | None = np.asarray(node.attrs.get("value", 0.0))
    if held is not None:
        constant = constant_of(held)
        sparse = constant is not None and isinstance(constant.stored, SparseStored)
        value = None if sparse else constant_values(held)
    if value is None or value.size != 1 or value.dtype.kind not in "fiu":
        return "the value that it pads with is known at run time only"
    if operand(node, 3) is None:
        return given, value.reshape(())
    axes, rank = integers(node, 3), shapes.rank(node.inputs[0])
    if axes is None or rank is None or len(given) != 2 * len(axes):
        return "which axes it pads is not known"
    pads = [0] * (2 * rank)
    for place, axis in enumerate(axes):
        pads[axis % rank] += given[place]
        pads[axis % rank + rank] += given[place + len(axes)]
    return pads, value.reshape(())


def _plans(
    node: Node, readers: Sequence[Node], pads: list[int], value: Array, annotations: Annotations
) -> list[list[int]] | str:
    """The new pads of each reader; a clause on what is in the way."""
    if node.outputs[0].graph_outputs:
        return f"{node.outputs[0].name!r} is an output"
    rank = len(pads) // 2
    if any(one < 0 for one in pads):
        return "it cuts elements off"
    if rank < 3 or any(pads[axis] or pads[axis + rank] for axis in (0, 1)):
        return "it pads other axes than spatial ones"
    mine = pads[2:rank] + pads[rank + 2 :]
    found, cost = [], 0
    for reader in readers:
        why = _why_not(reader, node, mine, value)
        if why is not None:
            return why
        found.append([a + b for a, b in zip(mine, _own(reader, len(mine)), strict=True)])
        cost += len(node.inputs[0].name.encode()) - len(node.outputs[0].name.encode()) + _added(reader, found[-1])
    grown = cost - freed_bytes(node, (node.inputs[0],), annotations)
    return f"the file would grow by {grown} bytes" if grown > 0 else found


def _why_not(reader: Node, pad: Node, mine: list[int], value: Array) -> str | None:
    attrs, first = reader.attrs, _FIRST.get(reader.op)
    assert pad.graph is not None, "a node that is looked at is in a graph"
    if not reader.is_standard or first is None or pad.graph.opset_of() < first:
        return f"{reader.op} {reader.label!r} reads it too"
    if sum(one is pad.outputs[0] for one in reader.inputs) != 1 or reader.inputs[0] is not pad.outputs[0]:
        return f"{reader.label!r} reads it as its weight"
    if any(not isinstance(one, int | float | str | bytes | list) for one in attrs.values()):
        return f"an attribute of {reader.label!r} is given by whoever calls the function"
    if attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return f"{reader.label!r} pads by the size that it reads"
    own = attrs.get("pads", [0] * len(mine))
    if not isinstance(own, list) or len(own) != len(mine):
        return f"how much {reader.label!r} pads is not known"
    if reader.op == "Conv":
        return None if _is_zero(value) else "it pads with other values than zeros"
    if attrs.get("ceil_mode", 0) != 0 or any(one != 1 for one in attrs.get("dilations", [])):
        return f"{reader.label!r} has ceil_mode or dilations"
    kernel, own = attrs.get("kernel_shape"), _own(reader, len(mine))
    if not isinstance(kernel, list) or len(kernel) * 2 != len(mine):
        return f"the window of {reader.label!r} is not known"
    if any(a + b >= size for a, b, size in zip(mine, own, kernel * 2, strict=True)):
        return f"the window of {reader.label!r} may hold nothing but padding"
    if reader.op == "AveragePool":
        if any(own) and attrs.get("count_include_pad", 0) != 1:
            return f"{reader.label!r} does not count what it pads"
        return None if _is_zero(value) else "it pads with other values than zeros"
    if any(one.name for one in reader.outputs[1:]):
        return f"{reader.label!r} tells where it found what it gives"
    if value.dtype.kind == "f":
        return "which of two zeros or NaNs a MaxPool gives depends on its padding"
    return None if value == np.iinfo(value.dtype).min else "it pads with a value that may be the largest"


def _is_zero(value: Array) -> bool:
    return bool(value == 0) and not bool(np.signbit(value))


def _own(reader: Node, size: int) -> list[int]:
    if reader.attrs.get("auto_pad", "NOTSET") == "VALID":
        return [0] * size
    return [int(one) for one in reader.attrs.get("pads", [0] * size)]


def _added(reader: Node, pads: list[int]) -> int:
    """Bytes by which the attributes of a reader grow, at most."""
    counts = reader.op == "AveragePool" and "count_include_pad" not in reader.attrs
    wide = sum(max(1, -(-one.bit_length() // 7)) + 1 for one in pads)
    return (0 if "pads" in reader.attrs else _PADS) + wide - 2 * len(reader.attrs.get("pads", ())) + _COUNT * counts


def _set(reader: Node, pads: list[int]) -> None:
    reader.attrs["pads"] = pads
    reader.attrs.pop("auto_pad", None)
    if reader.op == "AveragePool":
        reader.attrs["count_include_pad"] = 1

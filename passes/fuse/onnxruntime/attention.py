"""Attention over several heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis import dims as sizes
from graphopt.analysis.matching import maker
from graphopt.ir import Graph, Node, Tensor, Variable
from graphopt.ir.supersede import supersede
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.onnxruntime.heads import Heads, attention_at
from passes.fuse.onnxruntime.site import DOMAIN, Site

RULE = "attention"
_OP = "MultiHeadAttention"
_SHAPE_FROM_TO = 15  # from this opset on Shape can be asked for some of the dims
_FROM_BEHIND = 11  # from this opset on an axis may be negative
_EQUAL_PARTS = 18  # from this opset on a Split is told how many parts there are
_EXPAND = 8
_STEPS = 3  # back from the query to what it is projected from

Masks = dict[tuple[Graph, Tensor, sizes.Dim, sizes.Dim], Tensor]
"""What was made of a mask, by graph, mask and what had to be added."""


@dataclass(frozen=True)
class OrtAttention(Pass):
    """Recognize attention over several heads: com.microsoft.MultiHeadAttention.

    What it does
        Precondition: float32; query, key and value are cut into heads by a Reshape and a Transpose each (or
        by one Reshape, one Transpose and a Split or three Gather for all of them; or key and value have
        the heads in front already), MatMul, perhaps times a constant number in any place, perhaps plus
        a mask, Softmax, MatMul, Transpose, Reshape; all in one graph and read by nobody else, with number
        and size of heads, batch and lengths proven to be the same where they have to be. Rewrite: one
        MultiHeadAttention. A mask with one row for all queries is expanded to the rows that the kernel
        asks for, once for all attentions that read it. Main graph and bodies; of functions no sizes are known.

    Example
        before: s = MatMul(Transpose(Reshape(q, ...)), Transpose(Reshape(k, ...)))    w = Softmax(Mul(s, 0.5))
                y = Reshape(Transpose(MatMul(w, Transpose(Reshape(v, ...)))), ...)
        after:  y = com.microsoft.MultiHeadAttention<num_heads=2, scale=0.5>(q, k, v)

    When not
        Other runtimes than onnxruntime do not know the operator, nor do all of its execution providers: it is
        written for its CPU. Sizes that are not known to fit, masks by Where or of more elements than the scores,
        inner values that others read. Sizes of the result are not known to ONNX's shape inference. The
        file may grow by the domain's import and name, and by the nodes that expand a mask.

    Contract
        ROUNDING. The same mathematics; without a mask the kernel sums the weights up block by block.

    Source
        Vaswani et al., "Attention is all you need", 2017, section 3.2; Dao et al., "FlashAttention", 2022;
        onnxruntime, "Contrib Operators": com.microsoft.MultiHeadAttention.
    """

    name = "ort-attention"
    contract = Contract.ROUNDING
    changes = ("opsets",)
    grows = True

    def run(self, graph: Graph, ctx: Context) -> None:
        site = Site(graph, ctx)
        masks: Masks = {}
        for node in site.nodes():
            if not node.is_op("Softmax") or not node.inputs:
                continue
            found = attention_at(site, node)
            if isinstance(found, str):
                ctx.missed(RULE, node, found)
            elif found is not None:
                why = _why_not(site, found)
                if why is not None:
                    ctx.missed(RULE, node, why)
                elif site.may(RULE, found.root, found.nodes, _OP):
                    _rewrite(site, found, masks)


def _why_not(site: Site, found: Heads) -> str | None:
    if not site.is_float(found.query.source):
        return "it is not known to be float32, which is all that the operator has a kernel for"
    return why_not_masked(site, found)


def why_not_masked(site: Site, found: Heads) -> str | None:
    """Why the mask, where there is one, cannot be brought into the shape that kernels take, in a clause."""
    if found.mask is None:
        return None
    given, wanted = site.shapes.dims(found.mask), _wanted(found)
    if given is None or len(given) > len(wanted):
        return f"the mask {found.mask.name!r} is not known to have 4 dims or fewer"
    padded = _padded(given)
    for axis, (one, other) in enumerate(zip(padded, wanted, strict=True)):
        if one not in (1, other):
            return f"axis {axis} of the mask {found.mask.name!r} is not known to be broadcast to the scores"
    scope = found.root.graph
    assert scope is not None, "a node that is fused is in a graph"
    if _fits(given, wanted):
        return None
    if padded[3] != wanted[3] and not isinstance(wanted[3], int):
        return f"the mask {found.mask.name!r} is the same for all keys, whose number is not known"
    return None if scope.opset >= _EXPAND else f"Expand needs opset {_EXPAND}, the model has {scope.opset}"


def _wanted(found: Heads) -> tuple[sizes.Dim, ...]:
    batch, heads, length, _ = found.query.dims
    return (batch, heads, length, found.key.dims[2])


def _padded(dims: Sequence[sizes.Dim]) -> list[sizes.Dim]:
    return [*[1] * (4 - len(dims)), *dims]


def _fits(given: Sequence[sizes.Dim], wanted: Sequence[sizes.Dim]) -> bool:
    """Whether the kernel takes a mask of these dims as it is: it broadcasts batch and heads only."""
    return len(given) == 4 and tuple(given[2:]) == tuple(wanted[2:])


def _rewrite(site: Site, found: Heads, masks: Masks) -> None:
    attrs = {"num_heads": found.heads, "scale": found.scale}
    put(site, found, masks, _OP, DOMAIN, attrs, (Variable.empty(), Variable.empty()))


def put(
    site: Site, found: Heads, masks: Masks, op: str, domain: str, attrs: dict[str, Any], gap: Sequence[Tensor] = ()
) -> None:
    """Let one node of `op` take over, with `gap` between the value and the mask."""
    scope = found.root.graph
    assert scope is not None, "a node that is fused is in a graph"
    mask = None if found.mask is None else _mask(site, scope, found, found.mask, masks)
    new: list[Node] = []
    operands = _operands(scope, found, new)
    if mask is not None:
        operands += [*gap, mask]
    new.append(Node(op, found.root.name if found.three_dims else "", attrs, operands, domain=domain or None))
    if not found.three_dims:
        value = scope.variable(f"{found.root.outputs[0].name}_heads")
        new[-1].outputs.append(value)
        new.append(Node("Reshape", found.root.name, dict(found.root.attrs), [value, *found.root.inputs[1:]]))
    supersede(found.root, found.nodes, new, site.needs)


def _operands(scope: Graph, found: Heads, new: list[Node]) -> list[Tensor]:
    """Query, key and value; of a packed value, what a Split that is put into `new` makes of it."""
    parts = (found.query, found.key, found.value)
    if found.query.form != "packed":
        return [one.source for one in parts]
    source = found.query.source
    outputs = [scope.variable(f"{source.name}_part") for _ in parts]
    attrs = {"axis": -1 if scope.opset >= _FROM_BEHIND else 2}
    if scope.opset >= _EQUAL_PARTS:
        attrs["num_outputs"] = len(outputs)
    new.append(Node("Split", "", attrs, [source], outputs))
    return [outputs[one.part] for one in parts]


def _mask(site: Site, scope: Graph, found: Heads, mask: Tensor, masks: Masks) -> Tensor:
    """The mask with a row for each query and a column for each key."""
    given, wanted = site.shapes.dims(mask), _wanted(found)
    if given is None or _fits(given, wanted):
        return mask
    padded = _padded(given)
    length = 1 if padded[2] == wanted[2] else wanted[2]
    columns = 1 if padded[3] == wanted[3] else wanted[3]
    key = (scope, mask, length, columns)
    if key in masks:
        return masks[key]
    # It is put before the first Softmax: others that read it come later, but perhaps end before the first one does.
    ones = [1, 1, length if isinstance(length, int) else 1, columns if isinstance(columns, int) else 1]
    if isinstance(length, int):
        shape: Tensor = scope.constant(np.array(ones, np.int64), "mask_shape")
    else:
        shape = _shape(scope, found, _first_of_length(site, found.query.source, length), ones)
    expanded = scope.variable(f"{mask.name}_rows")
    scope.insert(Node("Expand", "", {}, [mask, shape], [expanded]), before=found.softmax)
    masks[key] = expanded
    return expanded


def _first_of_length(site: Site, source: Tensor, length: sizes.Dim) -> Tensor:
    """What `source` is computed from and has as many positions: so nothing else has to stay for its shape."""
    for _ in range(_STEPS):
        node = maker(source, "Split", "Add", "MatMul")
        dims = [None if node is None else site.shapes.dims(one) for one in (() if node is None else node.inputs)]
        place = next((index for index, one in enumerate(dims) if one and len(one) == 3 and one[1] == length), None)
        if node is None or place is None:
            break
        source = node.inputs[place]
    return source


def _shape(scope: Graph, found: Heads, source: Tensor, ones: list[int]) -> Tensor:
    """A shape with the number of positions of `source`, only known at run time, before its last dim."""
    length = scope.variable("queries")
    if scope.opset >= _SHAPE_FROM_TO:
        scope.insert(Node("Shape", "", {"start": 1, "end": 2}, [source], [length]), before=found.softmax)
    else:
        dims = scope.variable("query_dims")
        scope.insert(Node("Shape", "", {}, [source], [dims]), before=found.softmax)
        second = scope.constant(np.array([1], np.int64), "second")
        scope.insert(Node("Gather", "", {}, [dims, second], [length]), before=found.softmax)
    shape = scope.variable("mask_shape")
    operands = [scope.constant(np.array(ones[:2], np.int64), "ones"), length]
    operands.append(scope.constant(np.array(ones[3:], np.int64), "columns"))
    scope.insert(Node("Concat", "", {"axis": 0}, operands, [shape]), before=found.softmax)
    return shape

"""A linear operator after a linear operator: one with the product of their weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.matching import only_reader, operand
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fold.folding import sweep
from passes.fold.linear import OPERATORS, Linear, Vector, behind, linear
from passes.fold.releasing import freed_bytes
from passes.fold.reweighting import LARGEST, Change, why_pads

_MOST = 1 << 32  # multiplications that one product of weights may take
_ROOM = 2.0**24  # how far above the least normal number the weights of a channel have to reach


@dataclass(frozen=True)
class MergeLinear(Pass):
    """Merge a linear operator into the one that alone reads its result, where that costs less.

    What it does
        Precondition: a MatMul or Gemm with a constant matrix on the right reads the result of another
        one; or a Conv that of another Conv, one of them of 1x1 kernels, stride 1 and no padding, both
        without groups. The weights are float32 or float64 constants that nobody else reads, and the
        merged weight has at most as many elements as both together, which are the multiplications for
        each row or place too. Rewrite: one operator with the product of the weights, and the first
        bias, through the second weight, in the second one's bias. Computed in float64 and rounded
        once. Main graph, bodies and functions.

    Example
        before: w: [8, 64]    v: [64, 4]    a = MatMul(x, w)    y = MatMul(a, v)
        after:  v: [8, 4]     y = MatMul(x, v)

    When not
        A bottleneck (64 to 8 to 64, say) costs less in two steps. A Conv that pads what it reads pads
        behind the first bias, so that one has to be zero. A MatMul has no place for the first one's
        bias unless the Add of a constant follows. Weights of float16 and bfloat16 stay, and those
        whose product leaves the range of their type. The file must not grow.

    Contract
        ROUNDING. The same linear function; products are associative but for rounding.

    Source
        Associativity of linear maps. ONNX operators MatMul, Gemm, Conv.
    """

    name = "merge-linear"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        annotations, shapes = Annotations(graph), None
        applied = True
        while applied:  # a pair that costs more may cost less when a third one has been merged
            applied, stayed = False, dict[Node, tuple[str, str]]()
            for scope in graph.scopes():
                for node in [one for one in scope.nodes if one.is_op(*OPERATORS) and _follows(one)]:
                    shapes = shapes or ctx.shapes
                    second = linear(node, shapes)
                    first = None if second is None else behind(node.inputs[second.data], shapes)
                    if first is None or second is None or not _is_pair(first, second):
                        continue
                    rule = f"{first.node.op}-{node.op}".lower()
                    plan = _why_not(first, second, annotations) or _plan(first, second, annotations)
                    if isinstance(plan, str):
                        stayed[node] = rule, plan
                    elif ctx.rewrite(rule, node):
                        plan.carry_out(annotations)
                        applied = True
        for node, (rule, why) in stayed.items():
            if node.graph is not None:
                ctx.missed(rule, node, why)


@dataclass(frozen=True, eq=False)
class _Plan:
    """`change` makes the operator that stays do the work of `gone` as well."""

    change: Change
    gone: Linear
    donor: Constant | None

    def carry_out(self, annotations: Annotations) -> None:
        """Let one operator go."""
        kept, gone = self.change.linear, self.gone
        self.change.apply(self.donor)
        scope = kept.node.graph
        assert scope is not None, "it was looked at there"
        if gone.node.inputs[gone.data] is kept.result:
            scope.replace_uses(gone.result, kept.result)
        else:
            scope.rewire(kept.node, kept.data, gone.node.inputs[gone.data])
        sweep(gone.biased, annotations)


def _follows(node: Node) -> bool:
    """Whether linear operators may be before the node."""
    return any(maker.is_op(*OPERATORS, "Add") for tensor in node.inputs for maker in tensor.inputs)


def _is_pair(first: Linear, second: Linear) -> bool:
    dense = ("MatMul", "Gemm")
    if first.node.graph is not second.node.graph or first.biased.graph is not second.node.graph:
        return False
    if first.node.op in dense and second.node.op in dense:
        return first.data == second.data == 0
    return first.node.op == second.node.op == "Conv"


def _why_not(first: Linear, second: Linear, annotations: Annotations) -> str | None:
    if only_reader(first.result) is not second.node:
        return f"{first.result.name!r} is read elsewhere too"
    for one in (first, second):
        why = one.why_not_own()
        if why is not None:
            return why
        if one.node.attrs.get("transA", 0):
            return f"{one.node.label!r} transposes what it reads"
    tensors: list[Tensor] = [
        first.node.inputs[first.slot],
        second.node.inputs[second.slot],
        first.result,
        second.result,
    ]
    about = (annotations.about(one) for one in tensors)
    why = next((one for one in about if one is not None), None)
    if why is not None or first.node.op != "Conv":
        return why
    if first.groups != 1 or second.groups != 1:
        return "one of the convolutions has groups"
    assert second.node.graph is not None, "it was looked at there"
    return second.node.graph.why_not_replace(second.result, first.result) if _is_point(second) else None


def _is_point(one: Linear) -> bool:
    """Whether a convolution reads one place for each that it gives."""
    ones = (*one.weight.shape[2:], *one.node.attrs.get("strides", ()))
    return all(int(size) == 1 for size in ones) and why_pads(one.node) is None


def _plan(first: Linear, second: Linear, annotations: Annotations) -> _Plan | str:
    bias = first.bias()
    if bias is None:
        return first.why_no_bias() or "the first bias is not known"
    why = second.why_no_bias() if np.any(bias) else None
    if why is not None:
        return why
    if first.node.op != "Conv" or not _is_point(second):
        kept, gone = second, first
        if first.node.op == "Conv" and not _is_point(first):
            return "both convolutions read more than one place at a time"
        if np.any(bias) and (why := why_pads(second.node)) is not None:
            return why
    else:
        kept, gone = first, second
        if second.bias() is None:
            return second.why_no_bias() or "the second bias is not known"
    elements = second.outputs * first.inputs * max(_kernel(first), _kernel(second))
    now = first.weight.values.size + second.weight.values.size
    if elements > now:
        return f"one weight would have {elements} elements, and both have {now}"
    if elements * first.outputs > _MOST:
        return "the product of the weights takes too long"
    weight, moved = _product(first, second), second.response(bias)
    own = second.bias()
    total = moved if own is None else moved + own
    return _fitting(kept, gone, weight, total if np.any(bias) or kept is first else None, annotations)


def _fitting(kept: Linear, gone: Linear, weight: Vector, bias: Vector | None, annotations: Annotations) -> _Plan | str:
    dtype, limit = kept.weight.values.dtype, LARGEST[kept.weight.onnx_dtype]
    peaks = np.abs(weight).reshape(weight.shape[0], -1).max(axis=1)
    if not (peaks <= limit).all() or ((peaks > 0) & (peaks < np.finfo(dtype).tiny * _ROOM)).any():
        return f"the product of the weights leaves the range of {dtype}"
    if bias is not None and not (np.abs(bias) <= limit).all():
        return f"the bias leaves the range of {dtype}"
    has_bias = kept.bias_slot is not None and operand(kept.biased, kept.bias_slot) is not None
    if bias is not None and not has_bias and not np.any(bias):
        bias = None
    laid_out = weight.T if kept.node.op != "Conv" and not kept.node.attrs.get("transB", 0) else weight
    shaped = None if bias is None else np.ascontiguousarray(np.broadcast_to(bias, (weight.shape[0],)) / kept.beta)
    change = Change(
        kept, np.ascontiguousarray(laid_out).astype(dtype), None if shaped is None else shaped.astype(dtype)
    )
    donor = _donor(gone, annotations) if change.bias is not None else None
    freed = freed_bytes(gone.node, (gone.node.inputs[gone.data], donor), annotations)
    if gone.biased is not gone.node:
        freed += freed_bytes(gone.biased, (donor,), annotations)
    grown = change.weight.nbytes - kept.weight.nbytes + change.cost(donor) - freed
    return f"the file would grow by {grown} bytes" if grown > 0 else _Plan(change, gone, donor)


def _kernel(one: Linear) -> int:
    return int(np.prod(one.weight.shape[2:], dtype=np.int64)) if one.node.op == "Conv" else 1


def _product(first: Linear, second: Linear) -> Vector:
    """The weight of both, out before in."""
    one, two = (each.weight.values.astype(np.float64) for each in (first, second))
    if first.node.op != "Conv":
        one, two = (w if each.weight_is_out_first else w.T for each, w in ((first, one), (second, two)))
        return np.asarray(two @ one) * float(first.node.attrs.get("alpha", 1.0))
    if _is_point(second):
        return np.tensordot(two.reshape(two.shape[:2]), one, axes=(1, 0))
    return np.moveaxis(np.tensordot(two, one.reshape(one.shape[:2]), axes=(1, 0)), -1, 1)


def _donor(gone: Linear, annotations: Annotations) -> Constant | None:
    """The initializer of the bias of the operator that goes, where nothing else reads it."""
    held = None if gone.bias_slot is None else operand(gone.biased, gone.bias_slot)
    if not isinstance(held, Constant) or only_reader(held) is not gone.biased or annotations.needs(held) is not None:
        return None
    return held

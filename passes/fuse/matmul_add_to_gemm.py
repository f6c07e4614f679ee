"""Gemm: a product of matrices with its bias, its transposes and its factor in one node."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.dims import Dim
from graphopt.analysis.pattern import Match, Pattern
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.rules import DOUBLE, FLOAT, Build, Facts, Rule, fuse, single

_MATMUL_ADD = (Pattern("m = MatMul(a, b)  y = Add(m, c)"),)
_GEMM_ADD = (Pattern("m = Gemm(a, b)  y = Add(m, c)"),)
_RESHAPED_ADD = (
    Pattern("m = MatMul(a, b)  r = Reshape(m, s)  y = Add(r, c)"),
    Pattern("m = Gemm(a, b)  r = Reshape(m, s)  y = Add(r, c)"),
)
_TRANSPOSED = (
    Pattern("t = Transpose(a)  y = MatMul(t, b)"),
    Pattern("t = Transpose(b)  y = MatMul(a, t)"),
    Pattern("t = Transpose(a)  y = Gemm(t, b, _)"),
    Pattern("t = Transpose(b)  y = Gemm(a, t, _)"),
)
_SCALED = (
    Pattern("m = MatMul(a, b)  y = Mul(m, #k)"),
    Pattern("m = Gemm(a, b)  y = Mul(m, #k)"),
    Pattern("m = MatMul(a, b)  y = Div(m, #d)"),
    Pattern("m = Gemm(a, b)  y = Div(m, #d)"),
)
_OPTIONAL_BIAS = 11  # from this opset on a Gemm need not have a bias


def _matmul_add(match: Match, facts: Facts) -> Build | str | None:
    """y = a @ b + c for matrices, where c is broadcast to the product and not the other way round."""
    a, b, c = match["a"], match["b"], match["c"]
    why = _why_no_matrices(a, b, facts) or _why_no_bias(match["y"], match["m"], c, facts)
    return why or single("Gemm", [a, b, c], _attrs_with_bias(match.node("m")))


def _reshaped_add(match: Match, facts: Facts) -> Build | str | None:
    """A bias for each column, added after the rows were arranged anew: it may as well come first."""
    a, b, c = match["a"], match["b"], match["c"]
    product = match.node("m")
    why = _why_no_matrices(a, b, facts)
    columns, arranged = facts.dims(match["m"]), facts.dims(match["r"])
    if why is not None or columns is None or arranged is None:
        return why or f"the rank of {match['r'].name!r} is not known"
    bias = facts.dims(c)
    if bias is None or len(bias) != 1 or bias[0] != columns[1]:
        return f"{c.name!r} is not one number for each column of the product"
    if not arranged or arranged[-1] != columns[1] or facts.dims(match["y"]) != arranged:
        return f"{match['r'].name!r} does not keep the columns of the product"

    def build(scope: Graph) -> list[Node]:
        value = scope.variable(match["m"].name)
        made = Node("Gemm", product.name, _attrs_with_bias(product), [a, b, c], [value])
        return [made, Node("Reshape", "", dict(match.node("r").attrs), [value, match["s"]], [])]

    return build


def _transposed(match: Match, facts: Facts) -> Build | str | None:
    node, side = match.root, "transA" if match.values.get("t") is match.root.inputs[0] else "transB"
    a, b = match["a"], match["b"]
    if facts.opset < _OPTIONAL_BIAS and len(node.inputs) < 3:
        return None
    ranks = (facts.shapes.rank(a), facts.shapes.rank(b))
    if ranks != (2, 2):
        return None
    if match.node("t").attrs.get("perm", [1, 0]) != [1, 0]:
        return None
    why = facts.why_not_dtype(a, FLOAT, DOUBLE)
    attrs = _attrs(node)
    attrs[side] = 0 if attrs.get(side) else 1
    kept = {key: one for key, one in attrs.items() if one or not key.startswith("trans")}
    return why or single("Gemm", [a, b, *node.inputs[2:]], kept)


def _scaled(match: Match, facts: Facts) -> Build | str | None:
    """A factor for every element of a product without a bias is Gemm's alpha."""
    a, b, number = match["a"], match["b"], match["k"] if "k" in match.values else match["d"]
    why = _why_no_matrices(a, b, facts) or facts.why_not_same_shape(match["m"], match["y"])
    if why is not None:
        return why
    factor = match.number("k") if "k" in match.values else 1 / (match.number("d") or math.inf)
    attrs = _attrs(match.node("m"))
    exact = factor * attrs.get("alpha", 1.0)
    alpha = float(np.float32(exact))
    if not alpha or not math.isfinite(alpha):
        return f"{number.name!r} is no factor that a Gemm can have"
    if facts.dtype(a) == DOUBLE and alpha != exact:
        return f"{number.name!r} is rounded as an attribute"
    return single("Gemm", [a, b], attrs | {"alpha": alpha})


def _attrs(node: Node) -> dict[str, Any]:
    """The attributes of a Gemm; none of a MatMul."""
    return dict(node.attrs) if node.op == "Gemm" else {}


def _attrs_with_bias(node: Node) -> dict[str, Any]:
    """The attributes once there is a bias, which counts in full whatever the factor was of none."""
    return {key: one for key, one in _attrs(node).items() if key != "beta"}


def _why_no_matrices(a: Tensor, b: Tensor, facts: Facts) -> str | None:
    for tensor in (a, b):
        rank = facts.shapes.rank(tensor)
        if rank is None:
            return f"the rank of {tensor.name!r} is not known"
        if rank != 2:
            return f"Gemm multiplies matrices, and {tensor.name!r} has {rank} dims"
    return facts.why_not_dtype(a, FLOAT, DOUBLE)


def _why_no_bias(y: Tensor, product: Tensor, bias: Tensor, facts: Facts) -> str | None:
    shape, dims, total = facts.dims(product), facts.dims(bias), facts.dims(y)
    if shape is None or dims is None or total is None:
        return f"the shape of {bias.name!r} is not known"
    if total != shape or not _fits(dims, shape):
        return f"{bias.name!r} may not be broadcast to the product"
    return None


def _fits(dims: Sequence[Dim], shape: Sequence[Dim]) -> bool:
    """Whether a tensor of these dims is broadcast to `shape`, in every run."""
    if len(dims) > len(shape):
        return False
    last = shape[len(shape) - len(dims) :]
    return all(one in (1, other) for one, other in zip(dims, last, strict=True))


RULES = (
    Rule("matmul-add", _MATMUL_ADD, _matmul_add, "Gemm", 7),
    Rule("gemm-add", _GEMM_ADD, _matmul_add, "Gemm", _OPTIONAL_BIAS),
    Rule("reshaped-add", _RESHAPED_ADD, _reshaped_add, "Gemm", 7),
    Rule("transposed-operand", _TRANSPOSED, _transposed, "Gemm", 7),
    Rule("scaled-product", _SCALED, _scaled, "Gemm without a bias", _OPTIONAL_BIAS),
)


@dataclass(frozen=True)
class MatmulAddToGemm(Pass):
    """Let one Gemm do what a product of two matrices and the nodes around it do.

    What it does
        Preconditions: the operands of the product are matrices of float or double, and nothing else
        reads the values in between. Rewrites: MatMul, or a Gemm without a bias, plus a tensor that is
        broadcast to the product becomes a Gemm with that bias. Where a Reshape that keeps the columns
        stands between the two and the bias is one number for each column, it comes after the Gemm. A
        Transpose of an operand becomes Gemm's transA or transB. A constant factor (or divisor) of
        the whole product becomes its alpha. Main graph and bodies; functions have no shapes to go by.

    Example
        before: m = MatMul(x, w)    y = Add(b, m)
        after:  y = Gemm(x, w, b)
        before: t = Transpose<perm=[1, 0]>(w)    m = MatMul(x, t)    y = Mul(m, 0.5)
        after:  y = Gemm<alpha=0.5, transB=1>(x, w)

    When not
        Operands of another rank than 2: Gemm would need a Reshape before and behind it. A bias that
        the product is broadcast to. Integers, which onnxruntime's Gemm does not multiply. Before opset 11
        every Gemm has a bias, and before opset 7 there is none as it is meant here. A factor of double
        that float, the type of alpha, cannot hold.

    Contract
        ROUNDING. The bias is added by the kernel that multiplies, perhaps before the products are.

    Source
        Dongarra, Du Croz, Hammarling and Duff, "A set of level 3 basic linear algebra subprograms", 1990.
        ONNX operators MatMul (1, 9, 13), Gemm (7, 9, 11, 13).
    """

    name = "matmul-add-to-gemm"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        fuse(graph, ctx, RULES)

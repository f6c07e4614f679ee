"""Gelu and its kin, with the bias that is added before."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.constants import constant_values
from graphopt.analysis.matching import only_reader
from graphopt.analysis.pattern import Match, Miss, Pattern, first_match
from graphopt.analysis.pattern_terms import attribute
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.onnxruntime.site import DOMAIN, Site

_ROOT_2, _HALF_ROOT_2, _ROOT_2_BY_PI = 1.4142135623730951, 0.7071067811865476, 0.7978845608028654
_DEPTH = 3  # from the last node of a Gelu to its function
_ENDS = (
    "c = Add(t, 1)  d = Mul(x, c)  y = Mul(d, 0.5)",
    "c = Add(t, 1)  d = Mul(c, 0.5)  y = Mul(x, d)",
    "c = Add(t, 1)  h = Mul(x, 0.5)  y = Mul(h, c)",
)
_EXACT = (f"a = Div(x, {_ROOT_2})  t = Erf(a)", f"a = Mul(x, {_HALF_ROOT_2})  t = Erf(a)")
_TANH = (
    f"p = Pow(x, 3)  m = Mul(p, 0.044715)  s = Add(x, m)  a = Mul(s, {_ROOT_2_BY_PI})  t = Tanh(a)",
    f"q = Mul(x, x)  p = Mul(x, q)  m = Mul(p, 0.044715)  s = Add(x, m)  a = Mul(s, {_ROOT_2_BY_PI})  t = Tanh(a)",
)
_GELU = tuple(Pattern(f"{start}  {end}") for start in _EXACT for end in _ENDS)
_FAST = tuple(Pattern(f"{start}  {end}") for start in _TANH for end in _ENDS)
_QUICK = (Pattern("s = Sigmoid(x)  y = Mul(x, s)"), Pattern("a = Mul(x, #alpha)  s = Sigmoid(a)  y = Mul(x, s)"))


@dataclass(frozen=True)
class OrtGelu(Pass):
    """Recognize Gelu, its approximations and its bias: com.microsoft.BiasGelu, Gelu, FastGelu, QuickGelu.

    What it does
        Precondition: float32. Rule gelu: x * (1 + erf(x / sqrt 2)) / 2, written out. Rule fast-gelu: the
        same with tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)) in the place of erf. Rule quick-gelu:
        x * sigmoid(alpha * x), where a missing alpha is 1. All in one graph, read by nobody else.
        Rewrite: one node. Rule bias-gelu: a Gelu (written out or as an operator) of a sum with a
        vector along the last axis adds the vector itself. Main graph and bodies.

    Example
        before: s = Add(x, b)    y = Gelu(s)
        after:  y = com.microsoft.BiasGelu(x, b)

    When not
        Other runtimes than onnxruntime do not know the operators, nor do all of its execution providers: they
        are written for its CPU. A Gelu operator without a bias stays. Numbers that are off by more than their
        dtype rounds away are no Gelu. Sizes of the result are not known to ONNX's shape inference. The file
        may grow by the domain's import and name.

    Contract
        ROUNDING. The kernels compute the same functions, with fewer roundings in between.

    Source
        Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016; onnxruntime, "Contrib Operators".
    """

    name = "ort-gelu"
    contract = Contract.ROUNDING
    changes = ("opsets",)
    grows = True

    def run(self, graph: Graph, ctx: Context) -> None:
        site = Site(graph, ctx)
        for node in site.nodes():
            if node.op == "Gelu" and len(node.inputs) == 1 and (node.is_standard or node.domain == DOMAIN):
                _operator(site, node)
            elif node.is_op("Mul"):
                _written_out(site, node)


def _operator(site: Site, node: Node) -> None:
    """A Gelu that is an operator already: only a bias is worth it."""
    fast = node.is_standard and attribute(node, "approximate") in ("tanh", b"tanh")
    _fuse(site, node, [node], node.inputs[0], "FastGelu" if fast else "Gelu", "bias-gelu", bias_only=True)


def _functions(node: Node) -> set[str]:
    """The functions that are not far above `node`, behind sums and products: a look before the patterns."""
    found: set[str] = set()
    level = [node]
    for _ in range(_DEPTH):
        makers = [one.inputs[0] for each in level for one in each.inputs if len(one.inputs) == 1]
        found.update(one.op for one in makers if one.is_op("Erf", "Tanh", "Sigmoid"))
        level = [one for one in makers if one.is_op("Add", "Mul") and len(one.inputs) == 2]
    return found


def _written_out(site: Site, node: Node) -> None:
    functions = _functions(node)
    nearest: tuple[str, Miss] | None = None
    for rule, patterns, op in (("gelu", _GELU, "Gelu"), ("fast-gelu", _FAST, "FastGelu")):
        if ("Erf" if op == "Gelu" else "Tanh") not in functions:
            continue
        found = first_match(patterns, node)
        if isinstance(found, Match):
            wide = _widening(site, found)
            if wide is not None:
                site.ctx.missed(rule, node, f"{wide.name!r} may have more dims than {found['x'].name!r}")
            else:
                _fuse(site, node, list(found.nodes), found["x"], op, rule)
            return
        if found is not None and (nearest is None or found.depth > nearest[1].depth):
            nearest = rule, found
    quick = first_match(_QUICK, node) if "Sigmoid" in functions else None
    if isinstance(quick, Match):
        _quick(site, node, quick)
        return
    reader = only_reader(node.outputs[0])
    if nearest is not None and (reader is None or not reader.is_op("Mul")):  # else its last node may come yet
        site.ctx.missed(nearest[0], node, nearest[1].why)


def _widening(site: Site, found: Match) -> Tensor | None:
    """A number among the operands that may add dims to the value, which no operator would."""
    numbers = [one for node in found.nodes for one in node.inputs if constant_values(one) is not None]
    return next((one for one in numbers if not site.keeps_rank(found["x"], one)), None)


def _quick(site: Site, node: Node, found: Match) -> None:
    value, alpha = found["x"], 1.0
    if "alpha" in found.values:
        if not site.keeps_rank(value, found["alpha"]):
            site.ctx.missed("quick-gelu", node, f"{found['alpha'].name!r} may have more dims than {value.name!r}")
            return
        alpha = found.number("alpha")
    if not _known(site, node, "quick-gelu", value):
        return
    site.fuse("quick-gelu", node, found.nodes, "QuickGelu", [value], {"alpha": alpha})


def _fuse(
    site: Site, root: Node, nodes: list[Node], value: Tensor, op: str, rule: str, bias_only: bool = False
) -> None:
    bias = _bias(site, nodes, value)
    if bias is not None:
        if _known(site, root, "bias-gelu", *bias[1:]):
            fused = "BiasGelu" if op == "Gelu" else "FastGelu"
            site.fuse("bias-gelu", root, [*nodes, bias[0]], fused, bias[1:])
    elif not bias_only and _known(site, root, rule, value):
        site.fuse(rule, root, nodes, op, [value])


def _known(site: Site, root: Node, rule: str, *tensors: Tensor) -> bool:
    known = site.is_float(*tensors, *root.outputs)
    if not known:
        site.ctx.missed(rule, root, "it is not known to be float32, which is all that the operator has a kernel for")
    return known


def _bias(site: Site, nodes: list[Node], value: Tensor) -> tuple[Node, Tensor, Tensor] | None:
    """The Add that makes `value` for `nodes` only, what it adds to, and the vector that it adds."""
    if len(value.inputs) != 1 or value.graph_outputs or len(value.outputs) > 2 * len(nodes):
        return None
    if any(one not in nodes for one in value.readers):
        return None
    add: Node = value.inputs[0]
    if not add.is_op("Add") or add.graph is not nodes[0].graph or len(add.inputs) != 2:
        return None
    for rest, vector in (add.inputs, add.inputs[::-1]):
        length, dims = site.shapes.dims(vector), site.shapes.dims(rest)
        if length is not None and dims and len(length) == 1 and len(dims) > 1 and length[0] == dims[-1]:
            return add, rest, vector
    return None

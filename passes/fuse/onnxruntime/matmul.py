"""MatMul with transposes of its operands and the number that it is multiplied by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.matching import scalar
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.onnxruntime.site import DOMAIN, Site, single

RULE = "matmul"
_READERS = 8  # of one Transpose, that are looked at
_LARGEST = float(np.finfo(np.float32).max)


@dataclass
class _Product:
    """A MatMul with what is known to be around it. `nodes` go, the root among them."""

    root: Node
    nodes: list[Node]
    operands: list[Tensor]
    transposed: list[bool]
    alpha: float
    found: int = 0


@dataclass(frozen=True)
class OrtMatmul(Pass):
    """Let MatMul transpose its operands and scale its result: com.microsoft.FusedMatMul.

    What it does
        Precondition: float32; an operand of a MatMul is a Transpose of the last two axes, or is
        multiplied or divided by a constant number, or the product is; these nodes are read by nobody else
        and all in one graph. Rewrite: one FusedMatMul. Main graph and bodies.

    Example
        before: t = Transpose<perm=[0, 2, 1]>(k)    m = MatMul(q, t)    y = Div(m, 8)
        after:  y = com.microsoft.FusedMatMul<alpha=0.125, transA=0, transB=1>(q, k)

    When not
        Other runtimes than onnxruntime do not know the operator, nor do all of its execution providers: it is
        written for its CPU. A number that is zero, infinite or too small to be divided by stays, and so does
        one of more dims than it is multiplied with. Sizes of the result are not known to ONNX's shape
        inference. The file may grow by the domain's import and name.

    Contract
        ROUNDING. The product is scaled instead of an operand, by the factor instead of a divisor.

    Source
        onnxruntime, "Contrib Operators": com.microsoft.FusedMatMul.
    """

    name = "ort-matmul"
    contract = Contract.ROUNDING
    changes = ("opsets",)
    grows = True

    def run(self, graph: Graph, ctx: Context) -> None:
        site = Site(graph, ctx)
        for node in site.nodes():
            product = _read(site, node)
            if product is None or _scaled_next(site, node):
                continue
            _absorb(site, product)
            if product.found == 0:
                continue
            if not site.is_float(*product.operands, *node.outputs):
                ctx.missed(RULE, node, "it is not known to be float32, which is all that FusedMatMul has a kernel for")
                continue
            attrs = {
                "alpha": product.alpha,
                "transA": int(product.transposed[0]),
                "transB": int(product.transposed[1]),
            }
            site.fuse(RULE, node, product.nodes, "FusedMatMul", product.operands, attrs, name=_name(product))


def _is_product(node: Node) -> bool:
    if node.domain == DOMAIN and node.op == "FusedMatMul":
        return not (node.attrs.get("transBatchA") or node.attrs.get("transBatchB")) and len(node.inputs) == 2
    return node.is_op("MatMul") and len(node.inputs) == 2


def _read(site: Site, node: Node) -> _Product | None:
    """The product that `node` is, or that it scales by a constant number."""
    if _is_product(node):
        flags = [bool(node.attrs.get("transA")), bool(node.attrs.get("transB"))]
        return _Product(node, [node], list(node.inputs), flags, float(node.attrs.get("alpha", 1.0)))
    for value, other in _factors(node):
        number = _number(other, node.op)
        inner = single(value, node, "MatMul") or single(value, node, "FusedMatMul", domain=DOMAIN)
        if number is None or inner is None or not _is_product(inner) or not site.keeps_rank(value, other):
            continue
        found = _read(site, inner)
        assert found is not None, "it is a product"
        found.root, found.alpha = node, found.alpha * number
        found.nodes.insert(0, node)
        found.found += 1
        return found if _usable(found.alpha) else None
    return None


def _scaled_next(site: Site, node: Node) -> bool:
    """Whether the one reader of `node` scales it, so that the product is better read from there."""
    output = node.outputs[0]
    if not _is_product(node) or output.graph_outputs or len(output.outputs) != 1:
        return False
    reader = output.readers[0]
    return reader.graph is node.graph and _read(site, reader) is not None


def _absorb(site: Site, product: _Product) -> None:
    """Take transposes and numbers out of the operands, as many as there are."""
    for index in range(2):
        while True:
            tensor = product.operands[index]
            node = single(tensor, product.root, "Transpose", "Mul", "Div") or _shared(tensor, product.root)
            if node is None:
                break
            if node.op == "Transpose":
                if not _swaps_last(node.attrs.get("perm"), site.shapes.rank(tensor)):
                    break
                product.operands[index] = node.inputs[0]
                product.transposed[index] = not product.transposed[index]
            else:
                step = _scaling(site, node)
                if step is None or not _usable(product.alpha * step[1]):
                    break
                product.operands[index] = step[0]
                product.alpha *= step[1]
            product.found += 1
            if len(tensor.readers) == 1:
                product.nodes.append(node)


def _shared(tensor: Tensor, root: Node) -> Node | None:
    """A Transpose for several products: each can transpose by itself, and the last one takes it away."""
    if len(tensor.inputs) != 1 or tensor.graph_outputs or not 2 <= len(tensor.readers) <= _READERS:
        return None
    node: Node = tensor.inputs[0]
    if not node.is_op("Transpose") or len(tensor.outputs) != len(tensor.readers):
        return None
    return node if all(one.graph is root.graph and _is_product(one) for one in tensor.readers) else None


def _scaling(site: Site, node: Node) -> tuple[Tensor, float] | None:
    for value, other in _factors(node):
        number = _number(other, node.op)
        if number is not None and site.keeps_rank(value, other):
            return value, number
    return None


def _factors(node: Node) -> list[tuple[Tensor, Tensor]]:
    """What a Mul or Div scales, and by what it might."""
    if not node.is_op("Mul", "Div") or len(node.inputs) != 2:
        return []
    pairs = [(node.inputs[0], node.inputs[1])]
    if node.op == "Mul":
        pairs.append((node.inputs[1], node.inputs[0]))
    return pairs


def _number(tensor: Tensor, op: str) -> float | None:
    number = scalar(tensor)
    if not isinstance(number, float):
        return None
    if op == "Div":
        number = 1.0 / number if number else 0.0
    return number if _usable(number) else None


def _usable(number: float) -> bool:
    """Whether float32 holds the number well enough to multiply by it."""
    return math.isfinite(number) and float(np.finfo(np.float32).tiny) <= abs(number) <= _LARGEST


def _swaps_last(perm: Sequence[int] | None, rank: int | None) -> bool:
    if perm is None:
        return rank == 2
    if not isinstance(perm, list | tuple):  # what callers of a function give
        return False
    axes = list(range(len(perm)))
    return len(perm) >= 2 and list(perm) == [*axes[:-2], axes[-1], axes[-2]]


def _name(product: _Product) -> str:
    return next((one.name for one in product.nodes if _is_product(one) and one.name), product.root.name)

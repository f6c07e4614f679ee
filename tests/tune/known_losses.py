"""Passes that lose precision in known places, and models that they ruin where one knows it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import onnx

from graphopt import Context, Contract, Graph, Node, Pass
from graphopt.pipeline.protocol import option
from graphopt.testing import model


@dataclass(frozen=True)
class Coarse(Pass):
    """Stores the right operand of each MatMul as integers of a few bits, with one scale."""

    name = "coarse"
    contract = Contract.LOSSY
    bits: int = option(4, "bits")
    skip: tuple[str, ...] = option((), "patterns")
    only: tuple[str, ...] = option((), "patterns")

    def run(self, graph: Graph, ctx: Context) -> None:
        for node in list(graph.nodes):
            if node.is_op("MatMul") and hasattr(node.inputs[1], "values") and self._wanted(node.label):
                values = node.inputs[1].values
                scale = np.abs(values).max() / (2 ** (self.bits - 1) - 1)
                if not ctx.rewrite("coarse", node):
                    continue
                codes = graph.constant(np.rint(values / scale).astype(np.int8), f"{node.label}_codes")
                step = graph.constant(np.float32(scale), f"{node.label}_step")
                made = graph.variable(f"{node.label}_weight")
                dequantize = Node("DequantizeLinear", f"{node.label}_dq", {}, [codes, step], [made])
                graph.insert(dequantize, before=node)
                old = node.inputs[1]
                graph.rewire(node, 1, made)
                if not old.is_read:
                    graph.remove_initializer(old)

    def _wanted(self, label: str) -> bool:
        wanted = not self.only or any(fnmatchcase(label, one) for one in self.only)
        return wanted and not any(fnmatchcase(label, one) for one in self.skip)


@dataclass(frozen=True)
class Fine(Coarse):
    """The same with eight bits."""

    name = "fine"
    bits: int = option(8, "bits")


CHAIN = """
g (float[N,64] x) => (float[N,64] y) {
    a = MatMul(x, w0)  b = Relu(a)  c = MatMul(b, w1)  d = Tanh(c)  e = MatMul(d, w2)  y = MatMul(e, w3)
}
"""


def chain(spoiled: int | None = None) -> onnx.ModelProto:
    """Four products in a row; the weights of one have an outlier, so that a single scale ruins them."""
    draw = np.random.default_rng(3)
    weights = {f"w{i}": (draw.standard_normal((64, 64)) / 8).astype(np.float32) for i in range(4)}
    if spoiled is not None:
        weights[f"w{spoiled}"][0, 0] = 30.0
    made = model(CHAIN, **weights)
    for number, node in enumerate(made.graph.node):
        node.name = f"{node.op_type}{number}"
    return made


def feeds_of(count: int = 8) -> list[dict[str, Any]]:
    draw = np.random.default_rng(5)
    return [{"x": draw.standard_normal((1, 64)).astype(np.float32)} for _ in range(count)]

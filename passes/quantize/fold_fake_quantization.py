"""Store weights that were quantized in floating point as the integers that they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphopt.analysis.constants import constant_of
from graphopt.analysis.movement import is_mover
from graphopt.analysis.weights import weights
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.values import Array
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.candidates import Plan, Wishes, plan
from passes.quantize.cast_form import write_cast
from passes.quantize.dequantize import order_of, write
from passes.quantize.on_grid import grid_of
from passes.quantize.storing import release

_CODES, _GRID = "codes", "grid"
_INITIALIZERS = 4  # the IR version in which initializers need not be graph inputs


@dataclass(frozen=True)
class FoldFakeQuantization(Pass):
    """Store float weights as integers where they are fake-quantized, or lie on a grid of 8 bits exactly.

    What it does
        codes: Precondition: a QuantizeLinear reads floats that are stored, directly or through nodes that
        move elements, with a constant scale and zero point, and nobody else reads these floats.
        Rewrite: the codes that onnxruntime computes of them are stored in their place, whatever their
        type and their scales; QuantizeLinear and the floats go.

        grid: Precondition: each element of a stored float32 weight is bit for bit the float32 product of
        an integer of 8 bits and a scale, one in all or one for each output channel, perhaps with a zero
        point: what was quantized and dequantized, in training or by another tool. Rewrite: integers
        and scales are stored, and form=cast makes floats of them by Cast and Mul, which runtimes
        compute at load; form=dequantize by DequantizeLinear, as in weight-int8.

    Example
        before: q = QuantizeLinear(w, s, z)  v = DequantizeLinear(q, s, z)  y = Conv(x, v)    w: float[64,32,3,3]
        after:  v = DequantizeLinear(w_int8, s, z)  y = Conv(x, v)                            w_int8: int8[64,32,3,3]

    When not
        Left, with the reason: floats that something else reads, too; what onnxruntime cannot compute.
        Not on a grid is nearly every weight that was never quantized: those are passed over in silence.
        A weight with -0.0 is on none. fold-constants folds QuantizeLinear as well.

    Contract
        EXACT. The codes are those of QuantizeLinear, or products that were computed and compared. With
        form=dequantize and their optimizations on, runtimes may take integer kernels, which quantize
        activations, too.

    Source
        Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", CVPR 2018, section 3, on simulated quantization. ONNX operators
        QuantizeLinear, DequantizeLinear (10, 13, 19, 21, 23 ...), Cast, Mul.
    """

    name = "fold-fake-quantization"
    contract = Contract.EXACT

    form: Literal["dequantize", "cast"] = option(
        "cast", "what makes floats of codes found on a grid: DequantizeLinear, or Cast and Mul"
    )
    min_elements: int = option(256, "leave smaller weights that may be on a grid as they are")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of weights and nodes to leave as they are")

    def __post_init__(self) -> None:
        if self.min_elements < 0:
            raise ValueError(f"min-elements must not be negative, and {self.min_elements} is")

    def run(self, graph: Graph, ctx: Context) -> None:
        _fold_codes(graph, ctx)
        wishes = Wishes(self.min_elements, self.skip, 8, True, form=self.form)
        order, shapes = order_of(graph), ctx.shapes
        for weight in list(weights(graph)):
            if not weight.sites or weight.constant.dtype != np.float32 or weight.elements < max(self.min_elements, 1):
                continue
            planned = plan(weight, wishes, shapes)
            axis = planned.axis if isinstance(planned, Plan) else None
            found = grid_of(weight.constant.values, axis)
            weight.constant.forget()
            if found is None or planned is None:
                continue
            grid, codes = found
            if isinstance(planned, str):
                ctx.missed(_GRID, weight.subject, planned)
            elif ctx.rewrite(_GRID, weight.subject, _about(grid.scale)):
                (write if self.form == "dequantize" else write_cast)(weight, grid, codes, order)


def _about(scale: Array) -> str:
    return f"one scale, {float(scale):.4g}" if scale.ndim == 0 else f"{scale.size} scales"


def _fold_codes(graph: Graph, ctx: Context) -> None:
    nodes = list(_candidates(graph))
    if not nodes:
        return
    found = ctx.evaluate([node.outputs[0] for node in nodes])
    for node in nodes:
        output = node.outputs[0]
        why = _why_not(node) or found.refused.get(output)
        codes = found.get(output)
        if why is not None or codes is None:
            ctx.missed(_CODES, node, why or "its codes are not known")
        elif ctx.rewrite(_CODES, node, f"{codes.size} codes of {codes.dtype}"):
            _store(node, codes)


def _candidates(graph: Graph) -> Iterator[Node]:
    for scope in graph.scopes():
        for node in scope.nodes:
            if node.is_op("QuantizeLinear") and node.outputs[0].name and _source(node) is not None:
                yield node


def _source(node: Node) -> Tensor | None:
    """What is stored that a node reads, with its elements moved at most; None where nothing is."""
    tensor = node.inputs[0]
    while constant_of(tensor) is None:
        maker = tensor.inputs[0] if len(tensor.inputs) == 1 else None
        if maker is None or not is_mover(maker):
            return None
        tensor = maker.inputs[0]
    found: Tensor = tensor
    return found


def _why_not(node: Node) -> str | None:
    assert node.graph is not None, "it was found in a graph"
    version = node.graph.root.ir_version
    if version is not None and version < _INITIALIZERS:
        return f"the model has IR version {version}, where every initializer is an input"
    if node.outputs[0].graph_outputs:
        return f"{node.outputs[0].name!r} is a graph output"
    tensor = node.inputs[0]
    while True:
        other = next((one for one in tensor.readers if one is not node), None)
        if other is not None:
            return f"{other.op} {other.label!r} reads its floats as well, and the file would grow"
        if tensor.graph_outputs:
            return f"its floats are the graph output {tensor.name!r}"
        if constant_of(tensor) is not None:
            return None
        node = tensor.inputs[0]
        tensor = node.inputs[0]


def _store(node: Node, codes: Array) -> None:
    graph = node.graph
    assert graph is not None, "it was found in a graph"
    floats, output = node.inputs[0], node.outputs[0]
    source = _source(node)
    stem = output.name if source is None or not source.name else source.name
    graph.replace_uses(output, graph.constant(codes, f"{stem}_{codes.dtype}"))
    graph.remove(node)
    release(floats)

"""Dequantize constants in operators that runtimes compute when they load a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.matching import operand
from graphopt.analysis.movement import is_mover
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.dtypes import bits, np_dtype, onnx_dtype
from graphopt.ir.values import Array
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.cast_form import POWER, Layout, as_floats, cast_nodes, why_not_exact
from passes.quantize.kernels import Codes, why_kept
from passes.quantize.storing import release

RULE = "cast"
_INITIALIZERS = 4  # the IR version in which initializers need not be graph inputs


@dataclass(frozen=True)
class DequantizeAsCast(Pass):
    """Write the DequantizeLinear of a stored weight as Cast and Mul, where its readers compute with floats.

    What it does
        Precondition: a DequantizeLinear reads constant codes, directly or through nodes that move
        elements, and a constant scale and zero point; and no reader of its result is known to compute
        with integers. Rewrite: Cast, a Sub where there is a zero point, and Mul take its place; the codes
        stay as they are stored. Scales for each channel get a shape that broadcasts, those for blocks
        a Gather that repeats them. Main graph,
        bodies and functions.

        Runtimes keep a DequantizeLinear of constants, to recognise integer kernels by it, and where they
        have none they run it every time. Cast and Mul of constants they compute once, at load. So the
        file stays small and the model is as fast as with floats, which it then holds in memory.

        Readers that are known to compute with integers: MatMul and Gemm with the codes as right matrix
        of at most 8 bits; Conv, MatMul and Gemm whose data are quantized as well; QuantizeLinear. With
        for=all their weights are rewritten, too: slower and without the error that comes from
        quantizing activations.

    Example
        before: w = DequantizeLinear<axis=0>(q, s)      y = Conv(x, w)              s: float[64]
        after:  c = Cast<to=float>(q)  w = Mul(c, t)    y = Conv(x, w)              t: float[64,1,1,1]

    When not
        Left, with the reason: scales that are computed; results of
        float16 and bfloat16, to which runtimes without such kernels do not round what Mul makes.
        Runtimes that compile for integer hardware want DequantizeLinear.
        The file grows by the names and nodes, some 100 bytes a weight.

    Contract
        EXACT. (code - zero) is exact in float32, and both forms round the product once.
        With their optimizations on, runtimes quantize activations for MatMul on 8 bits of weights: there
        the outputs of for=all are those of the float model instead.

    Source
        ONNX operators DequantizeLinear (10, 13, 19, 21, 23 ...), Cast, Mul.
    """

    name = "dequantize-as-cast"
    contract = Contract.EXACT
    grows = True

    readers: Literal["float", "all"] = option(
        "float", "weights of operators that compute with floats only, or of all", name="for"
    )
    skip: tuple[str, ...] = option((), "patterns such as /head/* of weights and nodes to leave as they are")

    def run(self, graph: Graph, ctx: Context) -> None:
        for scope in graph.scopes():
            for node in list(scope.nodes):
                if not node.is_op("DequantizeLinear") or not _is_stored(node.inputs[0]):
                    continue
                found = self._found(node, ctx)
                if isinstance(found, str):
                    ctx.missed(RULE, node, found)
                elif ctx.rewrite(RULE, node, found.about):
                    _carry_out(scope, node, found)

    def _found(self, node: Node, ctx: Context) -> _Plan | str:
        names = tuple(_names(node))
        pattern = next((one for one in self.skip if any(fnmatchcase(name, one) for name in names)), None)
        if pattern is not None:
            return f"skip has {pattern!r}"
        plan = _plan(node, ctx)
        if isinstance(plan, _Plan) and self.readers == "float":
            return why_kept(node, plan.codes) or plan
        return plan


@dataclass(frozen=True)
class _Plan:
    """How to write one DequantizeLinear; `block` is 0 for scales of a tensor or an axis."""

    codes: Codes
    scale: Array
    zero: Array | None
    block: int

    @property
    def about(self) -> str:
        if self.block:
            return f"{self.scale.size} scales, one for {self.block} elements along axis {self.codes.axis}"
        return "one scale" if self.codes.axis is None else f"{self.scale.size} scales along axis {self.codes.axis}"


def _plan(node: Node, ctx: Context) -> _Plan | str:
    scale, zero, why = _parameters(node)
    if scale is None:
        return why
    other = _why_not_single(node, scale)
    if other is not None:
        return other
    version = node.graph.root.ir_version if node.graph is not None else None
    if version is not None and version < _INITIALIZERS:
        return f"the model has IR version {version}, where every initializer is an input"
    code = ctx.shapes.onnx_dtype(node.inputs[0])
    inexact = "the type of its codes is not known" if not code else why_not_exact(code, zero)
    if inexact is not None:
        return inexact
    shape = ctx.shapes.shape(node.inputs[0])
    if shape is None or not all(isinstance(dim, int) for dim in shape):
        return "the shape of its codes is not known"
    sizes = tuple(int(dim) for dim in shape if isinstance(dim, int))
    return _laid_out(node, sizes, bits(code), scale, zero)


def _why_not_single(node: Node, scale: Array) -> str | None:
    """Why the node makes something else than the float32 that Mul makes."""
    given = node.attrs.get("output_dtype") or 0
    result = np_dtype(given) if isinstance(given, int) and given else scale.dtype
    if result != np.float32:
        return f"its result is {result}, and runtimes leave out roundings to that"
    return None if scale.dtype in (np.float32, POWER) else f"its scale is {scale.dtype} and its result {result}"


def _parameters(node: Node) -> tuple[Array | None, Array | None, str]:
    """The scale and the zero point, or None and why not."""
    given = operand(node, 2)
    scale = constant_values(node.inputs[1])
    zero = None if given is None else constant_values(given)
    if scale is None:
        return None, None, "its scale is not a constant"
    if given is not None and zero is None:
        return None, None, "its zero point is not a constant"
    return scale, zero, ""


def _laid_out(node: Node, shape: tuple[int, ...], width: int, scale: Array, zero: Array | None) -> _Plan | str:
    block, axis = node.attrs.get("block_size") or 0, node.attrs.get("axis", 1)
    if not isinstance(block, int) or not isinstance(axis, int):
        return "its axis is given by the caller of the function"
    if scale.ndim == 0 or (scale.shape == (1,) and not block):
        return _Plan(Codes(shape, None, width), scale, zero, 0)
    if not -len(shape) <= axis < len(shape):
        return f"its codes have no axis {axis}"
    axis %= len(shape)
    if not block:
        return _Plan(Codes(shape, axis, width), scale, zero, 0)
    if scale.ndim != len(shape):
        return f"its scales do not lie along its {len(shape)} axes"
    return _Plan(Codes(shape, axis, width, blocked=True), scale, zero, block)


def _carry_out(graph: Graph, node: Node, plan: _Plan) -> None:
    codes, floats = node.inputs[0], node.outputs[0]
    stem = floats.name.removesuffix("_dequantized") or "weight"
    layout = Layout(plan.codes.shape, plan.codes.axis, plan.block)
    scale = _tensor(graph, node.inputs[1], layout.spread_out(plan.scale), f"{stem}_scale")
    meaning = layout.meaning(graph, stem, onnx_dtype(np.float32), scale, as_floats(plan.zero))
    node.outputs[0] = graph.variable(f"{stem}_unread")
    for one in cast_nodes(graph, stem, codes, floats, meaning):
        graph.insert(one, before=node)
    parameters = list(node.inputs)[1:]
    graph.remove(node)
    for one in parameters:
        release(one)


def _tensor(graph: Graph, given: Tensor, values: Array, stem: str) -> Tensor:
    """The tensor that is given, where it has that shape already; else a new one."""
    held = constant_of(given)
    if held is not None and tuple(held.shape) == values.shape and held.dtype == values.dtype:
        return given
    return graph.constant(values, stem)


def _is_stored(tensor: Tensor) -> bool:
    """Whether a value is a constant whose elements were moved at most."""
    while constant_of(tensor) is None:
        maker = tensor.inputs[0] if len(tensor.inputs) == 1 else None
        if maker is None or not is_mover(maker):
            return False
        tensor = maker.inputs[0]
    return True


def _names(node: Node) -> Iterator[str]:
    """Names that a user may know the weight by."""
    yield node.label
    yield node.inputs[0].name
    yield node.outputs[0].name
    for reader in node.outputs[0].readers:
        yield reader.label

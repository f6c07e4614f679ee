"""Multiply by weights of 2, 4 and 8 bits in one operator of onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np

from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.matching import operand
from graphopt.analysis.shapes import Shapes
from graphopt.analysis.untyped import why_not_untyped
from graphopt.ir import Graph, Node, Tensor, Variable
from graphopt.ir.supersede import supersede
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.fitting import fitted
from passes.quantize.grid import asymmetric, codes, spread, symmetric, why_no_grid
from passes.quantize.nbits_layout import block_steps, packed_blocks, packed_rows, shared_block
from passes.quantize.stored_matrix import StoredMatrix, drop_unread, home_of, readers_at_the_end, stored_matrix

Array = np.ndarray[Any, Any]

_RULE = "matmul-nbits"
_DOMAIN = "com.microsoft"
_TYPES = (np.dtype(np.float32), np.dtype(np.float16))


@dataclass(frozen=True)
class OrtMatMulNBits(Pass):
    """Express a product with a weight of 2, 4 or 8 bits as onnxruntime's MatMulNBits.

    What it does
        Precondition: the right operand of a MatMul, or of a Gemm that only adds a bias, is a stored matrix
        of 2, 4 or 8 bits behind DequantizeLinear (weight-int4, gptq and their like write it), also behind
        Transpose; its scales are one in all, one for each column, or for blocks of the inputs whose size
        is a multiple of 16; float32 or float16; nothing but such
        products reads the codes. Rewrite: com.microsoft.MatMulNBits on the codes, repacked, with the
        same scales and zero points. Where scales are for columns they are repeated for the
        largest block of 16 to largest-block inputs that divides them: activations are rounded block by
        block, so that smaller ones are more accurate, larger ones faster. Main graph and bodies.

        With bits=4 (8, 2), weights that are floats still are rounded to codes here, in blocks: with zero
        points and ranges of least squared error below 8 bits, else around zero over the whole range. That
        needs no opset, where DequantizeLinear of 4 bits needs 21. weight-int4 and gptq before are
        more accurate, or as accurate.

        onnxruntime makes the same operator of the portable form when it loads a model at its default
        level; here the file says so, on every version that has the operator, and accuracy-level is a
        choice: 4 computes with activations rounded to 8 bits, block by block, and is the fast one. Up to 1 computes
        in float: measured on a CPU, 1.3 times as long as a float product with 4 bits, 27 times with 8.

    Example
        before: d = DequantizeLinear<axis=0, block_size=32>(w_int4, w_scale)  y = MatMul(x, d)
        after:  y = com.microsoft.MatMulNBits<K=512, N=512, bits=4, block_size=32, accuracy_level=4>(x, w_int4, w_scale)

    When not
        For any other runtime. Left, with the reason: a table that is looked up, too, of which a second
        copy would be needed (onnxruntime still finds its products at load), and scales along the
        wrong axis. Scales that are repeated make the file grow by up to 1/32.

    Contract
        LOSSY: with accuracy-level=4 activations are rounded to 8 bits for each block of inputs, as
        onnxruntime does unasked with the portable form.

    Source
        onnxruntime, "Contrib Operators": com.microsoft.MatMulNBits.
    """

    name = "ort-matmul-nbits"
    contract = Contract.LOSSY
    changes = ("opsets",)
    grows = True

    accuracy_level: Literal[0, 1, 4] = option(4, "4 computes in 8-bit integers and is fast; 1 and 0 in float")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of nodes to leave as they are")
    bits: Literal[0, 2, 4, 8] = option(
        0, "also round float weights, each to the nearest of this many bits; 0 leaves them"
    )
    block: Literal[16, 32, 64, 128, 256] = option(
        32, "inputs that share a scale in float weights that are rounded here"
    )
    min_elements: int = option(1024, "leave smaller float weights as they are")
    largest_block: Literal[16, 32, 64, 128, 256] = option(
        128, "inputs that share a scale where a weight has fewer scales"
    )

    def __post_init__(self) -> None:
        if self.min_elements < 0:
            raise ValueError(f"min-elements must not be negative, and {self.min_elements} is")

    def run(self, graph: Graph, ctx: Context) -> None:
        shapes = ctx.shapes
        found: dict[Node, StoredMatrix] = {}
        whys: dict[Node, str | None] = {}
        for node in _products(graph):
            matrix: StoredMatrix | str | None = stored_matrix(node.inputs[1])
            if matrix is None and self.bits:
                matrix = self._rounded(node)
            if isinstance(matrix, str):
                ctx.missed(_RULE, node, matrix)
            elif matrix is not None:
                found[node] = matrix.transposed if _is_set(node, "transB") else matrix
                whys[node] = _skipped(node, self.skip) or _why_not(node, found[node], shapes)
        taken = {node for node, why in whys.items() if why is None}
        for node, one in found.items():
            if whys[node] is None:
                whys[node] = _other_reader(one, found, taken)
        made: dict[Tensor, tuple[list[Tensor], int]] = {}
        for node, one in found.items():
            why = whys[node]
            if why is not None:
                ctx.missed(_RULE, node, why)
            elif ctx.rewrite(_RULE, node, f"{one.bits} bits"):
                if one.base not in made:
                    made[one.base] = _stored(one, self.largest_block)
                self._write(node, one, *made[one.base])

    def _rounded(self, node: Node) -> StoredMatrix | str | None:
        """A float weight as codes of `bits` bits, or why there are none; None for what is no matrix of floats."""
        tensor = node.inputs[1]
        held, values = constant_of(tensor), constant_values(tensor)
        if held is None or values is None or values.ndim != 2 or values.dtype not in _TYPES:
            return None
        if _skipped(node, self.skip) is not None:
            return _skipped(node, self.skip)
        if values.size < self.min_elements:
            return f"it has {values.size} elements, fewer than min-elements={self.min_elements}"
        axis = 1 if _is_set(node, "transB") else 0
        found = spread(values, axis, self.block)
        why = why_no_grid(found, values.dtype)
        if why is not None:
            return why
        if self.bits == 8:
            grid = symmetric(found, axis, values.dtype, block=self.block)
        else:
            grid = fitted(values, asymmetric(found, axis, values.dtype, self.bits, block=self.block))
        return StoredMatrix(codes(values, grid), grid.scale, grid.zero, axis, self.block, tensor)

    def _write(self, node: Node, matrix: StoredMatrix, parts: list[Tensor], block: int) -> None:
        weight, (inputs, outputs) = node.inputs[1], matrix.codes.shape
        slots = [node.inputs[0], *parts]
        bias = operand(node, 2)
        if bias is not None:
            slots += [Variable.empty()] * (5 - len(slots)) + [bias]
        attrs = {"K": inputs, "N": outputs, "bits": matrix.bits, "block_size": block}
        if self.accuracy_level:
            attrs["accuracy_level"] = self.accuracy_level
        supersede(node, [node], [Node("MatMulNBits", node.name, attrs, slots, domain=_DOMAIN)])
        drop_unread([weight])


def _products(graph: Graph) -> list[Node]:
    nodes = [node for scope in graph.scopes() for node in scope.nodes]
    return [node for node in nodes if node.is_op("MatMul", "Gemm") and len(node.inputs) > 1]


def _skipped(node: Node, patterns: tuple[str, ...]) -> str | None:
    names = [node.label, *(one.name for one in node.inputs)]
    pattern = next((one for one in patterns if any(fnmatchcase(name, one) for name in names)), None)
    return None if pattern is None else f"skip has {pattern!r}"


def _why_not(node: Node, matrix: StoredMatrix, shapes: Shapes) -> str | None:
    """What is in the way of MatMulNBits, in a clause."""
    assert node.graph is not None, "it was found in a graph"
    untyped = why_not_untyped(node.graph)
    if untyped is not None:
        return untyped
    if matrix.scale.dtype not in _TYPES:
        return f"it is computed in {matrix.scale.dtype}, which MatMulNBits is not"
    inputs = matrix.codes.shape[0]
    if matrix.axis == 0 and not matrix.block and inputs > 1:
        return "its scales belong to its inputs, not its outputs"
    if matrix.axis == 1 and matrix.block:
        return "its blocks lie along its outputs, not its inputs"
    if shared_block(matrix.block if matrix.axis == 0 else 0, inputs) is None:
        return f"MatMulNBits has no blocks that fit those of {matrix.block}"
    if 0 in matrix.codes.shape:
        return "it is empty"
    return _why_not_gemm(node, matrix, shapes) if node.op == "Gemm" else None


def _why_not_gemm(node: Node, matrix: StoredMatrix, shapes: Shapes) -> str | None:
    bias = operand(node, 2)
    plain = node.attrs.get("alpha", 1.0) == 1.0 and (bias is None or node.attrs.get("beta", 1.0) == 1.0)
    if not plain or _is_set(node, "transA") or not isinstance(node.attrs.get("transB", 0), int):
        return "its Gemm does more than multiply and add a bias"
    if bias is not None and shapes.shape(bias) != (matrix.codes.shape[1],):
        return "its Gemm adds something else than one number to each output"
    return None


def _other_reader(matrix: StoredMatrix, found: dict[Node, StoredMatrix], taken: set[Node]) -> str | None:
    """What would still read the codes, or want them in another form, once the products in `taken` have their own."""
    if matrix.base.graph_outputs:
        return f"{matrix.base.name!r} is a graph output"
    for node, slot in readers_at_the_end(matrix.base):
        same = node in taken and slot == 1 and found[node].parameters == matrix.parameters
        if not same or found[node].flipped != matrix.flipped:
            return f"{node.op} {node.label!r} reads its codes, too, and they would be stored twice"
    return None


def _stored(matrix: StoredMatrix, largest: int) -> tuple[list[Tensor], int]:
    """Codes, scales and, where they are not all the middle code, zeros, in the graph of the weight; the block."""
    home, bits, name = home_of(matrix.base), matrix.bits, matrix.base.name
    shape = (int(matrix.codes.shape[0]), int(matrix.codes.shape[1]))
    along = matrix.block if matrix.axis == 0 else 0
    block = shared_block(along, shape[0], largest)
    assert block is not None, "asked before"

    def steps(one: Array) -> Array:
        return block_steps(one, matrix.axis, along, shape, block)

    parts = [packed_blocks(matrix.unsigned(matrix.codes), block, bits), steps(matrix.scale)]
    zeros = steps(matrix.zeros())
    if (zeros != 1 << bits - 1).any():
        parts.append(packed_rows(zeros, bits))
    names = (f"{name}_nbits", f"{name}_nbits_scale", f"{name}_nbits_zero_point")
    return [home.constant(part, called) for part, called in zip(parts, names, strict=False)], block


def _is_set(node: Node, name: str) -> bool:
    return bool(node.attrs.get(name, 0))

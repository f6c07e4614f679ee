"""Look up rows of 4-bit codes in ONNX's own operators."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from graphopt.analysis.shapes import Shapes
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.dtypes import onnx_dtype
from graphopt.ir.supersede import supersede
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.stored_matrix import StoredMatrix, drop_unread, home_of, readers_at_the_end, stored_matrix

Array = np.ndarray[Any, Any]

_RULE = "packed-table"
_BITWISE = 18  # the opset in which BitwiseAnd appeared


@dataclass(frozen=True)
class PackedTables(Pass):
    """Look up packed rows of a 4-bit table, and make floats of those alone.

    What it does
        ONNX has no Gather of 4-bit integers, so weight-int4 dequantizes a table before it is looked up: the
        whole table, at every run. Precondition: a Gather looks rows up in a table [rows, columns] of 4-bit
        codes behind DequantizeLinear, with scales for whole blocks of an even number of columns, or
        for rows; nothing else reads the codes. Rewrite: the table is kept as bytes [rows, blocks,
        block / 2], two codes of a block in each, and Gather looks bytes and scales up; BitwiseAnd and
        BitShift take the bytes apart, Concat puts the codes in order, and (code - zero) * scale, in floats, is what
        DequantizeLinear would have made of them. Main graph, bodies and functions.

    Example
        before: d = DequantizeLinear<axis=1, block_size=32>(w_int4, w_scale)  y = Gather(d, i)
        after:  bytes = Gather(w_bytes, i)       s = Gather(w_scales, i)
                low = BitwiseAnd(bytes, 15)      high = BitShift<direction="RIGHT">(bytes, 4)
                codes = Concat<axis=-1>(low, high)   c = Cast<to=1>(codes)   e = Sub(c, 8)
                m = Mul(e, s)                    y = Reshape(m, [0, 0, -1])

    When not
        On onnxruntime ort-gather-block-quantized does the same in one operator. Left, with the reason:
        tables that a product reads, too, scales for columns or for the whole table, a last block
        that is shorter, and indices whose number of axes is not known. The file may grow by a
        few nodes, and by 4 bits for each zero point.

    Contract
        ROUNDING. The same product of the same numbers.

    Source
        ONNX operators Gather, BitwiseAnd (18), BitShift (11), DequantizeLinear (21).
    """

    name = "packed-tables"
    contract = Contract.ROUNDING
    grows = True

    skip: tuple[str, ...] = option((), "patterns such as /head/* of nodes to leave as they are")

    def run(self, graph: Graph, ctx: Context) -> None:
        shapes = ctx.shapes
        found = {
            node: matrix
            for scope in graph.scopes()
            for node in scope.nodes
            if node.is_op("Gather") and len(node.inputs) == 2
            if (matrix := stored_matrix(node.inputs[0])) is not None and matrix.bits == 4
        }
        whys = {node: self._why_not(node, matrix, set(found), shapes) for node, matrix in found.items()}
        ranks = {node: shapes.rank(node.inputs[1]) or 0 for node in found}
        made: dict[Tensor, _Parts] = {}
        for node, matrix in found.items():
            why = whys[node]
            if why is not None:
                ctx.missed(_RULE, node, why)
            elif ctx.rewrite(_RULE, node, f"blocks of {_block(matrix)}"):
                if matrix.base not in made:
                    made[matrix.base] = _stored(matrix)
                _write(node, made[matrix.base], ranks[node])

    def _why_not(self, node: Node, matrix: StoredMatrix, taken: set[Node], shapes: Shapes) -> str | None:
        """What is in the way of a packed table, in a clause."""
        names = (node.label, matrix.base.name)
        pattern = next((one for one in self.skip if any(fnmatchcase(name, one) for name in names)), None)
        scope, columns = node.graph, int(matrix.codes.shape[1])
        if pattern is not None:
            return f"skip has {pattern!r}"
        if scope is None or scope.opset < _BITWISE:
            return f"BitwiseAnd needs opset {_BITWISE}: raise it with opset{{to={_BITWISE}}} first"
        if node.attrs.get("axis", 0) not in (0, -2):
            return "it looks up columns"
        if 0 in matrix.codes.shape:
            return "it is empty"
        if matrix.axis is None or (matrix.axis == 1) != bool(matrix.block):
            return "its scales are not for rows or blocks of them"
        if columns % _block(matrix) or _block(matrix) % 2:
            return f"its rows of {columns} codes are not whole blocks of an even number"
        if shapes.rank(node.inputs[1]) is None:
            return "how many axes its indices have is not known"
        if matrix.base.graph_outputs:
            return f"{matrix.base.name!r} is a graph output"
        for reader, slot in readers_at_the_end(matrix.base):
            if reader not in taken or slot != 0:
                return f"{reader.op} {reader.label!r} reads its codes, too, and they would be stored twice"
        return None


@dataclass(frozen=True, eq=False)
class _Parts:
    """What is stored of a table: bytes [rows, blocks, half a block], scales [rows, blocks, 1], zeros
    likewise or one number of the scales' type, and the numbers that take bytes apart."""

    name: str
    table: Tensor
    scale: Tensor
    zero: Tensor
    mask: Tensor
    shift: Tensor
    columns: int
    has_zeros: bool


def _block(matrix: StoredMatrix) -> int:
    columns = int(matrix.codes.shape[1])
    return min(matrix.block, columns) if matrix.block else columns


def _stored(matrix: StoredMatrix) -> _Parts:
    home, name, block = home_of(matrix.base), matrix.base.name, _block(matrix)
    rows, columns = (int(size) for size in matrix.codes.shape)
    codes = matrix.unsigned(matrix.codes).reshape(rows, columns // block, block) & np.uint8(15)
    table = codes[..., : block // 2] | codes[..., block // 2 :] << np.uint8(4)

    def steps(one: Array) -> Array:
        return np.ascontiguousarray(one.reshape(rows, columns // block, 1))

    zeros = steps(matrix.zeros())
    same = bool((zeros == zeros.flat[0]).all())
    return _Parts(
        name,
        home.constant(table, f"{name}_bytes"),
        home.constant(steps(matrix.scale), f"{name}_bytes_scale"),
        home.constant(zeros.flat[0].astype(matrix.scale.dtype) if same else zeros, f"{name}_bytes_zero"),
        home.constant(np.array(15, np.uint8), f"{name}_mask"),
        home.constant(np.array(4, np.uint8), f"{name}_shift"),
        columns,
        not same,
    )


def _write(gather: Node, parts: _Parts, rank: int) -> None:
    scope, table = gather.graph, gather.inputs[0]
    assert scope is not None, "a node that is found is in a graph"
    new: list[Node] = []

    def add(op: str, inputs: list[Tensor], attrs: dict[str, Any] | None = None) -> Tensor:
        out = scope.variable(f"{parts.name}_{op}")
        new.append(Node(op, scope.fresh_name(f"{parts.name}_{op}_node"), attrs or {}, inputs, [out]))
        return out

    indices, kind = gather.inputs[1], onnx_dtype(parts.scale.dtype)
    looked_up = add("Gather", [parts.table, indices])
    low = add("BitwiseAnd", [looked_up, parts.mask])
    high = add("BitShift", [looked_up, parts.shift], {"direction": "RIGHT"})
    codes = add("Cast", [add("Concat", [low, high], {"axis": -1})], {"to": kind})
    zero = parts.zero
    if parts.has_zeros:
        zero = add("Cast", [add("Gather", [zero, indices])], {"to": kind})
    product = add("Mul", [add("Sub", [codes, zero]), add("Gather", [parts.scale, indices])])
    shape = scope.constant(np.array([0] * rank + [parts.columns], np.int64), f"{parts.name}_shape")
    supersede(gather, [gather], [*new, Node("Reshape", gather.name, {}, [product, shape])])
    drop_unread([table])

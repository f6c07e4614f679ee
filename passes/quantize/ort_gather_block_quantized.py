"""Look up rows of 2, 4 and 8 bits in one operator of onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from graphopt.analysis.constants import constant_values
from graphopt.analysis.matching import maker, only_reader
from graphopt.analysis.untyped import why_not_untyped
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.supersede import supersede
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.nbits_layout import block_steps, packed_rows, shared_block
from passes.quantize.stored_matrix import StoredMatrix, drop_unread, home_of, readers_at_the_end, stored_matrix

Array = np.ndarray[Any, Any]

_RULE = "gather-block-quantized"
_DOMAIN = "com.microsoft"
_TYPES = (np.dtype(np.float32), np.dtype(np.float16))


@dataclass(frozen=True)
class OrtGatherBlockQuantized(Pass):
    """Express a lookup in a table of 2, 4 or 8 bits as onnxruntime's GatherBlockQuantized.

    What it does
        Precondition: a Gather looks rows up in a table [rows, columns] that DequantizeLinear makes of codes
        of 2, 4 or 8 bits; or looks up codes of 8 bits and their scales, which DequantizeLinear makes
        floats afterwards (weight-int4 and weight-int8 with granularity=block write these); scales are
        for blocks along the columns of a multiple of 16, or for rows; float32 or float16. Rewrite:
        com.microsoft.GatherBlockQuantized, which reads the rows that it looks up and no others. Codes
        are packed in bytes; those of 4 bits that something else reads, too, such as the product of a tied
        embedding, stay the one tensor that they are. Main graph and bodies.

    Example
        before: d = DequantizeLinear<axis=1, block_size=32>(w_int4, w_scale)  y = Gather(d, i)
        after:  y = com.microsoft.GatherBlockQuantized<bits=4, block_size=32>(w_bytes, i, w_scale)

    When not
        For any other runtime; packed-tables says the same in ONNX's own operators. Left, with the
        reason: scales for columns or for the whole table, rows that do not fill whole bytes, and
        codes of 2 or 8 bits that something else reads. Indices beyond the table make zeros, not
        an error. The file may grow by the domain's import, and where scales are repeated for smaller blocks.

    Contract
        ROUNDING. (code - zero) * scale, as DequantizeLinear computes it.

    Source
        onnxruntime, "Contrib Operators": com.microsoft.GatherBlockQuantized.
    """

    name = "ort-gather-block-quantized"
    contract = Contract.ROUNDING
    changes = ("opsets",)
    grows = True

    skip: tuple[str, ...] = option((), "patterns such as /head/* of nodes to leave as they are")

    def run(self, graph: Graph, ctx: Context) -> None:
        found = list(_lookups(graph))
        taken = {one.gather for one in found}
        made: dict[Tensor, tuple[list[Tensor], int]] = {}
        for one in found:
            why = _skipped(one, self.skip) or _why_not(one, taken)
            if why is not None:
                ctx.missed(_RULE, one.root, why)
            elif ctx.rewrite(_RULE, one.root, f"{one.matrix.bits} bits"):
                base = one.matrix.base
                if base not in made:
                    made[base] = _stored(one.matrix, _is_shared(base, taken))
                _write(one, *made[base])


@dataclass(frozen=True, eq=False)
class Lookup:
    """A lookup of rows: `gather` looks them up, `root` makes the floats, `matrix` is the table."""

    gather: Node
    root: Node
    matrix: StoredMatrix


def _lookups(graph: Graph) -> list[Lookup]:
    found = []
    for node in [node for scope in graph.scopes() for node in scope.nodes]:
        if node.is_op("Gather") and len(node.inputs) == 2:
            matrix = stored_matrix(node.inputs[0])
            one = Lookup(node, node, matrix) if matrix is not None else None
        else:
            one = _codes_first(node)
        if one is not None:
            found.append(one)
    return found


def _codes_first(node: Node) -> Lookup | None:
    """DequantizeLinear of codes and scales that Gathers looked up in the same rows."""
    block = node.attrs.get("block_size", 0) if node.is_op("DequantizeLinear") else 0
    if not isinstance(block, int) or not block or node.attrs.get("axis", 1) != -1 or "output_dtype" in node.attrs:
        return None
    gathers = [maker(one, "Gather") for one in node.inputs]
    first = gathers[0]
    if first is None or any(one is None or one.inputs[1] is not first.inputs[1] for one in gathers):
        return None
    if only_reader(node.inputs[0]) is not node or any(one is None or one.attrs.get("axis", 0) for one in gathers):
        return None
    parts = [constant_values(one.inputs[0]) for one in gathers if one is not None]
    codes, scale = parts[0], parts[1]
    zero = parts[2] if len(parts) > 2 else None
    if codes is None or scale is None or (len(parts) > 2 and zero is None) or codes.ndim != 2 or scale.ndim != 2:
        return None
    if codes.dtype not in (np.dtype(np.int8), np.dtype(np.uint8)):
        return None
    return Lookup(first, node, StoredMatrix(codes, scale, zero, 1, block, first.inputs[0]))


def _skipped(one: Lookup, patterns: tuple[str, ...]) -> str | None:
    names = [one.gather.label, one.root.label, one.matrix.base.name]
    pattern = next((p for p in patterns if any(fnmatchcase(name, p) for name in names)), None)
    return None if pattern is None else f"skip has {pattern!r}"


def _why_not(one: Lookup, taken: set[Node]) -> str | None:
    """What is in the way of GatherBlockQuantized, in a clause."""
    matrix, (rows, columns) = one.matrix, one.matrix.codes.shape
    assert one.root.graph is not None, "it was found in a graph"
    untyped = why_not_untyped(one.root.graph)
    if untyped is not None:
        return untyped
    if one.gather.attrs.get("axis", 0) not in (0, -2):
        return "it looks up columns"
    if matrix.scale.dtype not in _TYPES:
        return f"it is computed in {matrix.scale.dtype}, which GatherBlockQuantized is not"
    if 0 in (rows, columns):
        return "it is empty"
    if matrix.axis is None or (matrix.axis == 1 and not matrix.block) or (matrix.axis == 0 and matrix.block):
        return "its scales are not for rows or blocks of them"
    if columns * matrix.bits % 8:
        return f"its rows of {columns} codes do not fill whole bytes"
    if _block(matrix) is None:
        return f"GatherBlockQuantized has no blocks that fit those of {matrix.block}"
    if _is_shared(matrix.base, taken) and not _can_share(matrix):
        return "something else reads its codes, too, and they would be stored twice"
    return None


def _can_share(matrix: StoredMatrix) -> bool:
    """Whether the operator reads the codes and scales as they are stored."""
    kept = matrix.block and _block(matrix) in (
        matrix.block,
        max(16, 1 << (int(matrix.codes.shape[1]) - 1).bit_length()),
    )
    return matrix.bits == 4 and not matrix.flipped and bool(kept)


def _is_shared(base: Tensor, taken: set[Node]) -> bool:
    """Whether the codes are still read once the lookups in `taken` have their own."""
    return bool(base.graph_outputs) or any(node not in taken or slot != 0 for node, slot in readers_at_the_end(base))


def _block(matrix: StoredMatrix) -> int | None:
    """The block size that the operator gets: any power of two from a row's length on is the whole row."""
    columns = int(matrix.codes.shape[1])
    if not matrix.block or matrix.block >= columns:
        return max(16, 1 << (columns - 1).bit_length())
    return (
        matrix.block
        if matrix.block >= 16 and matrix.block & matrix.block - 1 == 0
        else shared_block(matrix.block, columns)
    )


def _stored(matrix: StoredMatrix, shared: bool) -> tuple[list[Tensor], int]:
    """Codes, scales and, where they are not what the operator takes them for, zeros; the block."""
    home, name, block = home_of(matrix.base), matrix.base.name, _block(matrix)
    assert block is not None, "asked before"
    rows, columns = (int(size) for size in matrix.codes.shape)

    def steps(one: Array) -> Array:
        if block >= columns:
            return one.reshape(rows, 1)
        return block_steps(one.T, 0, matrix.block, (columns, rows), block)

    if shared:
        return [matrix.base, *matrix.parameters], block
    parts = [
        home.constant(packed_rows(matrix.unsigned(matrix.codes), matrix.bits), f"{name}_rows"),
        home.constant(np.ascontiguousarray(steps(matrix.scale)), f"{name}_rows_scale"),
    ]
    zeros = steps(matrix.zeros())
    if (zeros != 1 << matrix.bits - 1).any():
        parts.append(home.constant(packed_rows(zeros, matrix.bits), f"{name}_rows_zero_point"))
    return parts, block


def _write(one: Lookup, parts: list[Tensor], block: int) -> None:
    attrs = {"bits": one.matrix.bits, "block_size": block, "gather_axis": 0, "quantize_axis": 1}
    slots = [parts[0], one.gather.inputs[1], *parts[1:]]
    left = list(one.root.inputs)
    supersede(one.root, [one.root], [Node("GatherBlockQuantized", one.root.name, attrs, slots, domain=_DOMAIN)])
    drop_unread(left)

"""Attention over several heads, written out: what it is made from, and whether that is what it looks like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.analysis import dims as sizes
from graphopt.analysis.constants import constant_values
from graphopt.analysis.matching import integers, only_reader, scalar
from graphopt.analysis.pattern_terms import attribute
from graphopt.ir import Node, Tensor
from passes.fuse.onnxruntime.site import Site, single

_STEPS = 8  # transposes and scales on the way to one operand
_ROWS, _ROWS_TURNED = [0, 2, 1, 3], [0, 2, 3, 1]  # batch, sequence, heads, size as heads before the sequence
_HEADS, _HEADS_TURNED = [0, 1, 2, 3], [0, 1, 3, 2]
_PACKED = [2, 0, 3, 1, 4]  # batch, sequence, three, heads, size
_SMALLEST, _LARGEST = 1e-30, 1e30  # of a scale that float32 holds with room for its products
_TURN_BACK = [0, 2, 1, 3]


@dataclass
class Operand:
    """Query, key or value.

    `source` has the dims batch, sequence, heads * size; in the form "heads" batch, heads, sequence, size;
    in the form "packed" it is the `part`th third of the last axis of `source`. `nodes` go with the fusion.
    """

    form: str
    source: Tensor
    dims: tuple[sizes.Dim, sizes.Dim, sizes.Dim, sizes.Dim]  # batch, heads, sequence, size
    scale: float
    nodes: list[Node]
    part: int = 0


@dataclass
class Heads:
    """One attention: `nodes` go, `root`, the Reshape that ends it, first. `mask` is added to the scaled products."""

    root: Node
    softmax: Node
    nodes: list[Node]
    query: Operand
    key: Operand
    value: Operand
    scale: float
    mask: Tensor | None
    heads: int
    three_dims: bool = True
    """Whether the Reshape gives batch, sequence, heads * size: else it has to stay."""


def attention_at(site: Site, softmax: Node) -> Heads | str | None:
    """The attention whose weights `softmax` makes; a clause where most of it is there; else None."""
    product = only_reader(softmax.outputs[0])
    scores, steps, mask = _scores(site, softmax)
    if product is None or not product.is_op("MatMul") or product.inputs[0] is not softmax.outputs[0] or scores is None:
        return None
    if product.graph is not softmax.graph or len(product.inputs) != 2:
        return None
    turn = only_reader(product.outputs[0])
    if turn is None or not turn.is_op("Transpose") or turn.graph is not softmax.graph:
        return None
    if turn.attrs.get("perm") != _TURN_BACK:
        return f"the Transpose behind it has perm={turn.attrs.get('perm')}, not {_TURN_BACK}"
    root = only_reader(turn.outputs[0])
    if root is None or not root.is_op("Reshape") or root.graph is not softmax.graph:
        return f"{turn.outputs[0].name!r} is not read by one Reshape only"
    if attribute(softmax, "axis") not in (-1, 3):
        return "its Softmax is not over the last axis"
    operands = (
        _operand(site, scores.inputs[0], scores, scales=True),
        _operand(site, scores.inputs[1], scores, scales=True, turned=True),
        _operand(site, product.inputs[1], product),
    )
    for one in operands:
        if isinstance(one, str):
            return one
    query, key, value = (one for one in operands if isinstance(one, Operand))
    why = _why_not(query, key, value)
    if why is not None:
        return why
    scale = query.scale * key.scale * steps[1]
    if not _usable(scale):
        return f"the products are scaled by {scale}"
    heads = int(query.dims[1]) if isinstance(query.dims[1], int) else 0
    nodes = [root, turn, product, softmax, *steps[0], scores, *query.nodes, *key.nodes, *value.nodes]
    found = Heads(root, softmax, list(dict.fromkeys(nodes)), query, key, value, scale, mask, heads)
    return _ending(site, found)


def _scores(site: Site, softmax: Node) -> tuple[Node | None, tuple[list[Node], float], Tensor | None]:
    """The product of query and key, the nodes from there to the Softmax and what they scale by, the mask."""
    value = softmax.inputs[0]
    add = single(value, softmax, "Add")
    if add is None:
        product, steps = _scaled(site, value, softmax)
        return product, steps, None
    for scores, mask in (add.inputs, add.inputs[::-1]):
        product, (nodes, scale) = _scaled(site, scores, add)
        if product is not None and len(add.inputs) == 2:
            return product, ([add, *nodes], scale), mask
    return None, ([], 1.0), None


def _scaled(site: Site, value: Tensor, reader: Node) -> tuple[Node | None, tuple[list[Node], float]]:
    nodes: list[Node] = []
    scale = 1.0
    for _ in range(_STEPS):
        node = single(value, reader, "MatMul", "Mul", "Div")
        if node is None or node.op == "MatMul":
            return node, (nodes, scale)
        step = _scaling(site, node)
        if step is None:
            break
        value, scale, reader = step[0], scale * step[1], node
        nodes.append(node)
    return None, (nodes, scale)


def _scaling(site: Site, node: Node) -> tuple[Tensor, float] | None:
    """What a Mul or Div by a constant number scales, and by what."""
    pairs = [(node.inputs[0], node.inputs[1])] if len(node.inputs) == 2 else []
    if node.op == "Mul":
        pairs += [one[::-1] for one in pairs]
    for value, other in pairs:
        number = scalar(other)
        if isinstance(number, float) and _usable(abs(number)) and site.keeps_rank(value, other):
            return value, number if node.op == "Mul" else 1.0 / number
    return None


def _usable(number: float) -> bool:
    return math.isfinite(number) and _SMALLEST <= number <= _LARGEST


def _operand(site: Site, tensor: Tensor, reader: Node, scales: bool = False, turned: bool = False) -> Operand | str:
    """Where an operand of one of the two products comes from; `turned`: with its last two axes swapped."""
    nodes: list[Node] = []
    scale, order, first = 1.0, list(_HEADS), tensor
    found: tuple[Tensor, Node, int, float, list[int]] | None = None
    for _ in range(_STEPS):
        if order == (_HEADS_TURNED if turned else _HEADS):
            found = tensor, reader, len(nodes), scale, order
        node = single(tensor, reader, "Transpose", *(("Mul", "Div") if scales else ()))
        if node is None:
            break
        if node.op == "Transpose":
            perm: object = node.attrs.get("perm")
            if not isinstance(perm, list) or sorted(perm) != _HEADS:
                break
            order, tensor = [perm[axis] for axis in order], node.inputs[0]
        else:
            step = _scaling(site, node)
            if step is None:
                break
            tensor, scale = step[0], scale * step[1]
        nodes.append(node)
        reader = node
    made = single(tensor, reader, "Reshape")
    if made is not None and order == (_ROWS_TURNED if turned else _ROWS):
        rows = _rows(site, made, scale, nodes)
        if rows is not None:
            return rows
    if found is None:
        return f"{first.name!r} is not made from heads by a Transpose that fits"
    tensor, reader, count, scale, _ = found
    packed = _packed(site, tensor, reader, scale, nodes[:count])
    if packed is not None:
        return packed
    dims = site.shapes.dims(tensor)
    if dims is None or len(dims) != 4:
        return f"{tensor.name!r} is not known to have 4 dims"
    return Operand("heads", tensor, (dims[0], dims[1], dims[2], dims[3]), scale, nodes[:count])


def _rows(site: Site, reshape: Node, scale: float, nodes: list[Node]) -> Operand | None:
    """Heads that a Reshape cuts the last of three axes into."""
    before, after = site.shapes.dims(reshape.inputs[0]), site.shapes.dims(reshape.outputs[0])
    if before is None or after is None or len(before) != 3 or len(after) != 4:
        return None
    if before[0] != after[0] or before[1] != after[1] or not _product_is(after[2:], before[2]):
        return None
    dims = (after[0], after[2], after[1], after[3])
    return Operand("rows", reshape.inputs[0], dims, scale, [*nodes, reshape])


def _product_is(pair: Sequence[sizes.Dim], whole: sizes.Dim) -> bool:
    first, second = pair
    return isinstance(first, int) and isinstance(second, int) and first * second == whole


def _packed(site: Site, tensor: Tensor, reader: Node, scale: float, nodes: list[Node]) -> Operand | None:
    """Heads of one of three parts that a Reshape and a Transpose to the front have made."""
    steps = _part(tensor, reader)
    if steps is None:
        return None
    taken, whole, part = steps
    turn: Node | None = whole.inputs[0] if len(whole.inputs) == 1 else None
    if turn is None or not turn.is_op("Transpose") or turn.attrs.get("perm") != _PACKED:
        return None
    made = single(turn.inputs[0], turn, "Reshape")
    if made is None or whole.graph_outputs or turn.graph is not reader.graph:
        return None
    before, after = site.shapes.dims(made.inputs[0]), site.shapes.dims(made.outputs[0])
    if before is None or after is None or len(before) != 3 or len(after) != 5 or after[2] != 3:
        return None
    heads, size = after[3], after[4]
    if not isinstance(heads, int) or not isinstance(size, int) or before[2] != 3 * heads * size:
        return None
    if before[0] != after[0] or before[1] != after[1]:
        return None
    return Operand(
        "packed", made.inputs[0], (after[0], heads, after[1], size), scale, [*nodes, *taken, turn, made], part
    )


def _part(tensor: Tensor, reader: Node) -> tuple[list[Node], Tensor, int] | None:
    """The nodes that take a part from the first axis, what they take it from, and which of three it is."""
    gather = single(tensor, reader, "Gather")
    if gather is not None:
        index = constant_values(gather.inputs[1])
        if attribute(gather, "axis") != 0 or index is None or index.ndim or int(index) not in range(-3, 3):
            return None
        return [gather], gather.inputs[0], int(index) % 3
    squeeze = single(tensor, reader, "Squeeze")
    if squeeze is None or integers(squeeze, 1, "axes") not in ([0], [-5]):
        return None
    split: Node | None = squeeze.inputs[0].inputs[0] if len(squeeze.inputs[0].inputs) == 1 else None
    if split is None or not split.is_op("Split") or len(split.outputs) != 3 or attribute(split, "axis") != 0:
        return None
    if only_reader(squeeze.inputs[0]) is not squeeze or split.graph is not reader.graph:
        return None
    part = next(index for index, one in enumerate(split.outputs) if one is squeeze.inputs[0])
    return [squeeze, split], split.inputs[0], part


def _why_not(query: Operand, key: Operand, value: Operand) -> str | None:
    q, k, v = query.dims, key.dims, value.dims
    forms = [query.form, key.form, value.form]
    if forms not in (["rows"] * 3, ["packed"] * 3, ["rows", "heads", "heads"]):
        return "query, key and value are made in different ways, or not from heads"
    if query.form == "packed" and (why := _why_not_packed(query, key, value)) is not None:
        return why
    if not q[0] == k[0] == v[0]:
        return "the batch sizes of query, key and value are not known to be the same"
    if not isinstance(q[1], int) or not q[1] == k[1] == v[1]:
        return "the numbers of heads of query, key and value are not known to be the same"
    if not isinstance(q[3], int) or not isinstance(v[3], int) or q[3] != k[3]:
        return "the sizes of the heads of query and key are not known to be the same"
    if min(q[1], q[3], v[3]) < 1 or (forms[1] == "heads" and v[3] != q[3]):
        return "the heads are of a size that the kernel does not take"
    return None if k[2] == v[2] else "key and value are not known to be of the same length"


def _why_not_packed(query: Operand, key: Operand, value: Operand) -> str | None:
    parts = (query, key, value)
    if any(one.source is not query.source for one in parts) or sorted(one.part for one in parts) != [0, 1, 2]:
        return "query, key and value are not the three parts of one value"
    going = {node for one in parts for node in one.nodes}
    for one in parts:
        turn = one.nodes[-2]
        if any(reader not in going for reader in turn.outputs[0].readers):
            return f"{turn.outputs[0].name!r} is read by others too"
    return None


def _ending(site: Site, found: Heads) -> Heads | str:
    """The attention with what is to be said about its last Reshape; a clause where that cannot stay."""
    batch, heads, length, _ = found.query.dims
    size = found.value.dims[3]
    assert isinstance(heads, int) and isinstance(size, int), "numbers, as was asked above"
    after = site.shapes.dims(found.root.outputs[0])
    if after == (batch, length, heads * size):
        return found
    target = integers(found.root, 1)
    if target is None or 0 in target[2:]:
        return f"{found.root.outputs[0].name!r} is not known to have the heads side by side, or to be their Reshape"
    found.three_dims = False
    return found

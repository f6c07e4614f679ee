"""Products of one value: what is done to the value's channels is done to all of their weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.channel_scaling import Holder, holders
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.values import Array
from graphopt.pipeline.protocol import Context
from passes.quantize.apart import put_apart
from passes.quantize.products import PRODUCTS, Product, Products, Selection

_DEPTH = 8  # with fewer channels there is little to even out


@dataclass(frozen=True, eq=False)
class Group:
    """The products of one value with float weights of their own, of two dims, all in one graph."""

    data: Tensor
    products: list[Product]

    @property
    def weights(self) -> Array:
        """The weights side by side, [K, N]."""
        blocks = []
        for one in self.products:
            assert one.weight is not None, "only floats were taken"
            values = one.weight.constant.values
            blocks.append(values.T if one.flipped else values)
            one.weight.constant.forget()
        return np.concatenate(blocks, axis=1)

    def takers(self, shapes: Shapes) -> list[Holder] | str:
        """The constants that take the inverse factors, or why there are none."""
        mine = {id(one.node) for one in self.products}
        if self.data.graph_outputs or any(id(one) not in mine for one in self.data.readers):
            return f"{self.data.name!r} is read elsewhere too"
        return holders(self.data, -1, self.products[0].depth, shapes)

    def apply(self, factors: Array, takers: list[Holder] | str, channels: Array) -> None:
        """Multiply the weights by factors [K] and let `takers`, or a new Mul, divide the value by them.

        With a Mul, `channels` of the value are multiplied apart.
        """
        taken = [one.rows(channels) for one in self.products] if len(channels) else []
        kept = factors.copy()
        kept[channels] = 0
        for one in self.products:
            Holder(one.node, one.slot, -1 if one.flipped else -2).apply(kept)
        if not isinstance(takers, str):
            for holder in takers:
                holder.apply(1 / factors)
            return
        first, scope = self.products[0].node, self.products[0].node.graph
        assert scope is not None, "it was found in a graph"
        divided = scope.variable(f"{self.data.name}_smooth")
        inverse = np.where(kept > 0, 1 / factors, 0).astype(np.float32)
        inputs = [self.data, scope.constant(inverse, f"{divided.name}_factors")]
        scope.insert(Node("Mul", scope.fresh_name(f"{self.data.name}_Mul"), {}, inputs, [divided]), before=first)
        if taken:
            put_apart(scope, self.data, channels, list(zip(self.products, taken, strict=True)))
        for one in self.products:
            scope.rewire(one.node, 1 - one.slot, divided)


def product_groups(graph: Graph, ctx: Context, rule: str, selection: Selection) -> list[Group]:
    """The products of the model by the value they read; a missed remark for each that cannot be changed."""
    products = Products(graph, ctx.shapes)
    found: dict[tuple[int, int], Group] = {}
    for scope in graph.scopes():
        for node in scope.nodes:
            if not node.is_op(*PRODUCTS):
                continue
            product = selection.why_not(node) or products.read(node)
            if not isinstance(product, str):
                product = _why_not(product) or product
            if isinstance(product, str):
                ctx.missed(rule, node, product)
            else:
                found.setdefault((id(scope), id(product.data)), Group(product.data, [])).products.append(product)
    return list(found.values())


def names_of(takers: list[Holder] | str) -> str:
    """Who takes the inverse factors, for a remark."""
    if isinstance(takers, str):
        return "a Mul"
    return " and ".join(dict.fromkeys(f"{one.node.op} {one.node.label!r}" for one in takers))


def _why_not(product: Product) -> str | None:
    if product.weight is None:
        return "its weight is quantized already: factors are found before that"
    if len(product.weight.constant.shape) != 2:
        return f"its weight has {len(product.weight.constant.shape)} dims"
    if product.depth < _DEPTH:
        return f"it adds up only {product.depth} products"
    if len(product.weight.sites) > 1:
        return "others read its weight, too"
    return None

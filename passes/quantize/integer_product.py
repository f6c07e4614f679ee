"""Writes a product of integers: DynamicQuantizeLinear, MatMulInteger, Cast, Mul.

This is the form that onnxruntime fuses into DynamicQuantizeMatMul, or into MatMulIntegerToFloat where
several products read the same quantized value, with the Add of a bias that comes behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from graphopt.analysis.constants import constant_values
from graphopt.ir import Constant, Graph, Node, Tensor
from passes.quantize.grid import Grid, Spread, codes, spread, symmetric, why_no_grid
from passes.quantize.products import Product

_LIMIT = 2**31 - 1
_ACTIVATION = 255  # the largest magnitude of a uint8 less its zero point
_REDUCED = 64  # of two products of 255 and 64, the sum still fits into 16 bits
_FULL = 127


@dataclass(frozen=True, eq=False)
class Codes:
    """8-bit codes of a weight as MatMulInteger reads them: [..., K, N], and what they mean."""

    codes: Tensor
    scale: Tensor
    zero: Tensor | None


@dataclass(eq=False)
class Writer:
    """Writes products and keeps what several of them share: codes, and quantized values."""

    per_channel: bool
    reduce_range: bool
    _codes: dict[tuple[Tensor, bool], Codes] = field(default_factory=dict)
    _values: dict[tuple[Graph, Tensor], tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)

    def why_not(self, product: Product) -> str | None:
        """What forbids the integer product, in a clause; None when nothing does."""
        magnitude = _REDUCED if self.reduce_range else _FULL
        if product.weight is not None:
            found = _spread(product, self.per_channel)
            product.weight.constant.forget()
            why = why_no_grid(found, np.dtype(np.float32))
        else:
            magnitude, why = _magnitude(product), None
            if self.reduce_range and magnitude > _REDUCED:
                why = f"its codes reach {magnitude}, more than the {_REDUCED} of a reduced range"
        if why is None and product.depth * _ACTIVATION * magnitude > _LIMIT:
            why = f"sums of {product.depth} products of 8 bits can leave 32 bits"
        return why

    def write(self, product: Product) -> None:
        """Put the integer product in the place of the operator."""
        node, scope = product.node, product.node.graph
        assert scope is not None, "an operator that is looked at is in a graph"
        weight = self._weight(product)
        value, scale, zero = self._value(product.data, node, scope)
        output, stem = node.outputs[0], node.name or node.outputs[0].name
        node.outputs[0] = scope.variable(output.name)
        bias = _bias(product)
        alpha = float(node.attrs.get("alpha", 1.0)) if node.op == "Gemm" else 1.0

        def put(op: str, inputs: list[Tensor], last: bool = False, **attrs: int) -> Tensor:
            made = output if last else scope.variable(f"{output.name}_{op.lower()}")
            scope.insert(Node(op, scope.fresh_name(f"{stem}_{op}"), dict(attrs), inputs, [made]), before=node)
            return made

        total = put("MatMulInteger", [value, weight.codes, zero, *([] if weight.zero is None else [weight.zero])])
        number = put("Cast", [total], to=1)
        factors = put("Mul", [scale, _scaled(scope, weight.scale, alpha)])
        result = put("Mul", [number, factors], last=bias is None)
        if bias is not None:
            beta = float(node.attrs.get("beta", 1.0))
            put("Add", [result, _scaled(scope, bias, beta, node)], last=True)
        scope.remove(node)
        self._release(product)

    def _value(self, data: Tensor, node: Node, scope: Graph) -> tuple[Tensor, Tensor, Tensor]:
        """The quantized data, its scale and its zero point: one DynamicQuantizeLinear for all readers."""
        key = (scope, data)
        if key not in self._values:
            made = [scope.variable(f"{data.name}_{what}") for what in ("quantized", "scale", "zero_point")]
            name = scope.fresh_name(f"{data.name}_DynamicQuantizeLinear")
            scope.insert(Node("DynamicQuantizeLinear", name, {}, [data], made), before=node)
            self._values[key] = (made[0], made[1], made[2])
        return self._values[key]

    def _weight(self, product: Product) -> Codes:
        key = (product.stored, product.flipped)
        if key not in self._codes:
            made = self._kept(product) if product.weight is None else self._made(product)
            self._codes[key] = made
        return self._codes[key]

    def _made(self, product: Product) -> Codes:
        """Codes of float weights: the nearest on a grid around zero."""
        weight = product.weight
        assert weight is not None, "it is one"
        values = weight.constant.values
        grid = _grid(product, self.per_channel, self.reduce_range)
        made = codes(values, grid)
        weight.constant.forget()
        if product.flipped:
            made = np.ascontiguousarray(made.swapaxes(-1, -2))
        home, name = weight.home, weight.tensor.name
        return Codes(home.constant(made, f"{name}_int8"), home.constant(grid.scale, f"{name}_scale"), None)

    def _kept(self, product: Product) -> Codes:
        """The codes that the weight is stored in."""
        source = product.dequantizer
        assert source is not None and source.graph is not None, "it has codes"
        held, zero = source.inputs[0], source.inputs[2] if len(source.inputs) > 2 and source.inputs[2].name else None
        if not product.flipped:
            return Codes(held, source.inputs[1], zero)
        values, home = constant_values(held), source.graph
        if values is not None and len(held.readers) == 1:
            return Codes(home.constant(np.ascontiguousarray(values.T), held.name), source.inputs[1], zero)
        turned = home.variable(f"{held.name}_transposed")
        home.insert(Node("Transpose", home.fresh_name(turned.name), {"perm": [1, 0]}, [held], [turned]), before=source)
        return Codes(turned, source.inputs[1], zero)

    def _release(self, product: Product) -> None:
        """Take away what nobody reads any more."""
        if product.weight is not None and not product.weight.tensor.is_read:
            if product.weight.holder is None:
                product.weight.home.remove_initializer(product.weight.constant)
            else:
                product.weight.home.remove(product.weight.holder)
        source = product.dequantizer
        if source is None or source.graph is None or source.outputs[0].is_read:
            return
        home, read = source.graph, list(source.inputs)
        home.remove(source)
        for tensor in read:
            if isinstance(tensor, Constant) and tensor.name and not tensor.is_read and tensor in home.initializers:
                home.remove_initializer(tensor)


def _scaled(scope: Graph, held: Tensor, factor: float, node: Node | None = None) -> Tensor:
    """`held` times a factor that is an attribute: a new constant, or a product where it is not one."""
    if factor == 1.0:
        return held
    values = constant_values(held)
    if values is not None:
        return scope.constant((values * np.float32(factor)).astype(np.float32), held.name)
    assert node is not None, "scales are constant"
    made = scope.variable(f"{held.name}_scaled")
    inputs = [held, scope.constant(np.asarray(factor, np.float32), "beta")]
    scope.insert(Node("Mul", scope.fresh_name(made.name), {}, inputs, [made]), before=node)
    return made


def _bias(product: Product) -> Tensor | None:
    node = product.node
    if node.op != "Gemm" or len(node.inputs) < 3 or not node.inputs[2].name:
        return None
    found: Tensor = node.inputs[2]
    return None if float(node.attrs.get("beta", 1.0)) == 0 else found


def _axis(product: Product, per_channel: bool) -> int | None:
    assert product.weight is not None, "asked of floats only"
    rank = len(product.weight.constant.shape)
    if not per_channel or product.outputs == 1:
        return None
    return rank - 2 if product.flipped else rank - 1


def _spread(product: Product, per_channel: bool) -> Spread:
    assert product.weight is not None, "asked of floats only"
    return spread(product.weight.constant.values, _axis(product, per_channel))


def _grid(product: Product, per_channel: bool, reduce_range: bool) -> Grid:
    found, axis, single = _spread(product, per_channel), _axis(product, per_channel), np.dtype(np.float32)
    if not reduce_range:
        return symmetric(found, axis, single)
    wider = _FULL / _REDUCED
    return replace(symmetric(Spread(found.low * wider, found.high * wider), axis, single), low=-_REDUCED, high=_REDUCED)


def _magnitude(product: Product) -> int:
    """The largest magnitude of a code less its zero point, or what bounds it where codes are moved."""
    source = product.dequantizer
    assert source is not None, "asked of codes only"
    held = constant_values(source.inputs[0])
    zeros = constant_values(source.inputs[2]) if len(source.inputs) > 2 and source.inputs[2].name else None
    shift = np.zeros((), np.int64) if zeros is None else zeros.astype(np.int64)
    low, high = (-128, 127) if held is None or held.dtype == np.int8 else (0, 255)
    if held is not None:
        low, high = int(held.min()), int(held.max())
    return int(max((high - shift).max(), (shift - low).max()))

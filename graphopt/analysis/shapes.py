"""Dtypes and shapes of values, inferred from the graph's inputs.

`value_info` is a claim of the exporter, not a fact, and so are the declared shapes of outputs and of
what bodies take: what follows from the model's inputs, its constants and the operators is kept. The
declared shape of an input of the model is a promise: a number is that size in every run, and a
symbol the same size wherever it stands. A size may be 0; that sizes of different names are 0 at once,
or that a convolution with a stride moves over an axis of no elements, is not looked at closely.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graphopt.analysis import dims as sizes
from graphopt.analysis.dim_bounds import equal
from graphopt.analysis.dim_functions import product
from graphopt.analysis.inference.engine import Inference
from graphopt.analysis.inference.view import View
from graphopt.ir import Constant, Graph, Tensor
from graphopt.ir.values import Dim, onnx_number


class Shapes:
    """What is known about the values of a model at one revision, found out when it is asked for."""

    def __init__(self, view: View) -> None:
        self._view = view

    def onnx_dtype(self, tensor: Tensor) -> int:
        """ONNX's number of the element type, 0 when unknown."""
        return tensor.onnx_dtype if isinstance(tensor, Constant) else self._view.fact(tensor).dtype

    def shape(self, tensor: Tensor) -> tuple[Dim, ...] | None:
        """The dims, None when not even the rank is known. A dim is an int, a str (an expression over the
        symbols that the model declares), or None (unknown)."""
        found = self.dims(tensor)
        return None if found is None else tuple(_plain(dim) for dim in found)

    def rank(self, tensor: Tensor) -> int | None:
        """How many dims, None when unknown."""
        found = self.dims(tensor)
        return None if found is None else len(found)

    def dims(self, tensor: Tensor) -> tuple[sizes.Dim, ...] | None:
        """The dims as expressions over the symbolic dims of the model's inputs, such that `==` means
        "the same in every run"; a dim that nothing is known of is a symbol of its own. None when not
        even the rank is known."""
        if isinstance(tensor, Constant):
            return tuple(int(dim) for dim in tensor.shape)
        return self._view.fact(tensor).dims

    def value(self, tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]] | None:
        """The elements of a small integer or boolean tensor (0 and 1) as expressions (see `dims`), in its
        shape; None when they are not known, or it is another tensor, or one of many elements."""
        found = self._view.fact(tensor).value
        return None if found is None else found.copy()

    def elements(self, tensor: Tensor) -> sizes.Dim | None:
        """How many elements the tensor has; None when that cannot be told."""
        found = self.dims(tensor)
        try:
            return None if found is None else product(found)
        except sizes.Unwieldy:
            return None


def _plain(dim: sizes.Dim) -> Dim:
    if isinstance(dim, int):
        return dim
    return None if any(one.serial for one in sizes.symbols(dim)) else str(dim)


class SharedShapes:
    """Shapes of the graphs of one run: what was found out about a graph is kept for its next revision."""

    def __init__(self) -> None:
        self._known: Inference | None = None

    def of(self, graph: Graph) -> Shapes:
        """The shapes of the model that `graph` belongs to, as it is now."""
        root = graph.root
        if self._known is None or self._known.root is not root:
            self._known = Inference(root)
        self._known.advance()
        return Shapes(View(self._known))


def infer(graph: Graph) -> Shapes:
    """Dtypes and shapes of every value of the model that `graph` belongs to."""
    return Shapes(View(Inference(graph)))


@dataclass(frozen=True)
class Stale:
    """A claim of the model about a value that is wrong, and why in a clause."""

    graph: Graph
    tensor: Tensor
    why: str


def stale(graph: Graph, shapes: Shapes | None = None) -> Iterator[Stale]:
    """The values whose declared type or shape contradicts what follows, in all graphs of the model."""
    known = infer(graph) if shapes is None else shapes
    for scope in graph.root.scopes():
        for node in scope.nodes:
            for tensor in node.outputs:
                why = None if isinstance(tensor, Constant) or not tensor.name else _wrong(tensor, known)
                if why is not None:
                    yield Stale(scope, tensor, why)


def _wrong(tensor: Tensor, known: Shapes) -> str | None:
    if getattr(tensor, "type", "") != "tensor_type":
        return None
    number, said, found = onnx_number(tensor.dtype), tensor.shape, known.dims(tensor)
    dtype = known.onnx_dtype(tensor)
    if number and dtype and number != dtype:
        return f"it is declared as type {number} and is of type {dtype}"
    if said is None or found is None:
        return None
    if len(said) != len(found):
        return f"it is declared with {len(said)} dims and has {len(found)}"
    for axis, (one, dim) in enumerate(zip(said, found, strict=True)):
        if isinstance(one, int) and _differ(one, dim):
            return f"dim {axis} is declared as {one} and is {dim}"
    return None


def _differ(one: int, dim: sizes.Dim) -> bool:
    try:
        return equal(one, dim) is False
    except sizes.Unwieldy:
        return False

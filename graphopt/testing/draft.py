"""A graph under construction: typed values, and nodes that are added to them one by one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from onnx import FunctionProto, GraphProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
Dim = int | str
Type = tuple[int | TypeProto, tuple[Dim, ...]]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Value:
    """A named value with its element type (or the type of a sequence) and dims, symbolic ones by name."""

    name: str
    dtype: int | TypeProto
    shape: tuple[Dim, ...]

    @property
    def info(self) -> ValueInfoProto:
        """Its declaration."""
        if isinstance(self.dtype, TypeProto):
            return helper.make_value_info(self.name, self.dtype)
        return helper.make_tensor_value_info(self.name, self.dtype, self.shape)


@dataclass
class Shared:
    """What all graphs of one model draw on."""

    rng: Random
    opset: int
    functions: list[FunctionProto] = field(default_factory=list)
    counter: Iterator[int] = field(default_factory=itertools.count)

    def name(self, stem: str) -> str:
        """A name that no other value of the model has."""
        return f"{stem}{next(self.counter)}"


class Draft:
    """One graph: the main graph, a body (with `outer`, whose values it may capture) or a function."""

    def __init__(self, shared: Shared, outer: Draft | None = None, function: bool = False) -> None:
        self.shared = shared
        self.rng = shared.rng
        self.outer = outer
        self.function = function
        self.depth: int = 0 if outer is None else outer.depth + 1
        self.inputs: list[Value] = []
        self.made: list[Value] = []
        self.nodes: list[NodeProto] = []
        self.weights: list[tuple[Value, TensorProto]] = []

    def input(self, stem: str, dtype: int, shape: tuple[Dim, ...]) -> Value:
        """A new input."""
        value = Value(self.shared.name(stem), dtype, shape)
        self.inputs.append(value)
        return value

    def visible(self) -> list[Value]:
        """Everything a node here may read, captured values first."""
        outer = self.outer.visible() if self.outer is not None else []
        return [*outer, *self.inputs, *(value for value, _ in self.weights), *self.made]

    def pick(self, fits: Callable[[Value], bool]) -> Value | None:
        """A value that fits, late ones preferred so that graphs grow deep; None when none does."""
        found = [value for value in self.visible() if fits(value)]
        if not found:
            return None
        return found[max(self.rng.randrange(len(found)), self.rng.randrange(len(found)))]

    def add(self, op: str, inputs: Sequence[Value | None], outputs: Sequence[Type], **attrs: Any) -> list[Value]:
        """A node of ONNX's operators (a `domain` among `attrs` says otherwise); None leaves a slot out."""
        values = [Value(self.shared.name("v"), dtype, shape) for dtype, shape in outputs]
        names = [one.name if one is not None else "" for one in inputs]
        label = self.shared.name(f"{op}_") if self.rng.random() < 0.5 else ""
        self.nodes.append(helper.make_node(op, names, [one.name for one in values], name=label, **attrs))
        self.made.extend(values)
        return values

    def weight(self, array: Array, stem: str = "w") -> Value:
        """A constant: an initializer, a Constant node, or one that is there already with the same values."""
        dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
        proto = numpy_helper.from_array(array, self.shared.name(stem))
        value = Value(proto.name, dtype, tuple(array.shape))
        if self.function or self.rng.random() < 0.25:
            self.nodes.append(helper.make_node("Constant", [], [value.name], value=proto))
            self.made.append(value)
            return value
        same = [known for known, other in self.weights if other.raw_data == proto.raw_data and known.dtype == dtype]
        same = [known for known in same if known.shape == value.shape]
        if same and self.rng.random() < 0.8:
            return same[0]
        self.weights.append((value, proto))
        return value

    def floats(self, *shape: int) -> Value:
        """A constant of small floats, of a few values so that equal ones occur; zeros of both signs among them."""
        choices = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -0.25, 3.0)
        numbers = [self.rng.choice(choices) for _ in range(math.prod(shape))]
        return self.weight(np.array(numbers, np.float32).reshape(shape))

    def ints(self, *numbers: int) -> Value:
        """A constant int64 vector."""
        return self.weight(np.array(numbers, np.int64), "k")

    def graph(self, name: str, outputs: Sequence[Value], declare: bool = False) -> GraphProto:
        """The finished graph; `declare` states the types of its values, as exporters do."""
        out = {one.name for one in outputs}
        infos = [value.info for value in self.made if value.name not in out] if declare else []
        return helper.make_graph(
            self.nodes,
            name,
            [value.info for value in self.inputs],
            [value.info for value in outputs],
            [proto for _, proto in self.weights],
            value_info=infos,
        )

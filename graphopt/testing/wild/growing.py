"""A graph that grows node by node; each node is run when it is proposed, and kept only if it runs.

So a family of operators need not know the rules of shapes: it proposes, onnxruntime disposes. Every
value knows what it is on each of the feeds that the model is grown on.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from graphopt.errors import GraphoptError
from graphopt.testing.running import outputs_of

Array = np.ndarray[Any, Any]
DOMAIN = "local"

_MOST = 2000  # elements of a value
_LARGE = 1e4  # what a float may be on ordinary feeds: beyond it, differences drown
_NUMBERS = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -0.25, 3.0)


@dataclass(frozen=True, eq=False)
class Known:
    """A value of a growing graph, and what it is on each feed."""

    name: str
    runs: tuple[Array, ...]
    fixed: bool = False  # whether it is a constant

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its elements."""
        found: np.dtype[Any] = self.runs[0].dtype
        return found

    @property
    def rank(self) -> int:
        """How many dims it has."""
        return self.runs[0].ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dims on the first feed."""
        found: tuple[int, ...] = self.runs[0].shape
        return found

    @property
    def settled(self) -> tuple[bool, ...]:
        """For each dim, whether it is the same on all feeds."""
        return tuple(len(sizes) == 1 for sizes in (set(row) for row in zip(*(one.shape for one in self.runs))))  # noqa: B905

    def info(self, dims: Sequence[int | str | None] | None = None) -> ValueInfoProto:
        """Its declaration, of `dims` or of its rank only."""
        dtype = helper.np_dtype_to_tensor_dtype(self.dtype)
        return helper.make_tensor_value_info(self.name, dtype, [None] * self.rank if dims is None else dims)


@dataclass
class Stock:
    """What all graphs of one model share."""

    rng: Random
    opset: int
    functions: list[FunctionProto] = field(default_factory=list)
    counter: Iterator[int] = field(default_factory=itertools.count)


class Growing:
    """One graph under construction: the main graph, or a body that may capture what `outer` sees."""

    def __init__(self, stock: Stock, outer: Growing | None = None) -> None:
        self.stock = stock
        self.rng = stock.rng
        self.opset = stock.opset
        self.outer = outer
        self.depth: int = 0 if outer is None else outer.depth + 1
        self.inputs: list[tuple[Known, ValueInfoProto]] = []
        self.nodes: list[NodeProto] = []
        self.weights: list[tuple[Known, TensorProto]] = []
        self.made: list[Known] = []

    def name(self, stem: str) -> str:
        """A name that no other value of the model has."""
        return f"{stem}{next(self.stock.counter)}"

    def chance(self, share: float) -> bool:
        """True in that share of cases."""
        return self.rng.random() < share

    def visible(self) -> list[Known]:
        """Everything that a node here may read."""
        outer = self.outer.visible() if self.outer is not None else []
        return [*outer, *(one for one, _ in self.inputs), *(one for one, _ in self.weights), *self.made]

    def pick(self, kinds: str = "f", fits: Callable[[Known], bool] = lambda _: True) -> Known | None:
        """A value whose dtype is of `kinds` (f, i, b, O for text, V for narrow ones; "" for any) and that fits;
        late ones preferred."""
        found = [
            one
            for one in self.visible()
            if (not kinds or one.dtype.kind.replace("u", "i") in kinds)
            and (not one.fixed or self.chance(0.1))
            and fits(one)
        ]
        if not found:
            return None
        if self.chance(0.6):  # mostly what nobody reads yet, so that what belongs together stays by itself
            read = {name for node in self.nodes for name in read_by(node)}
            found = [one for one in found if one.name not in read] or found
        return found[max(self.rng.randrange(len(found)) for _ in range(3))]

    def constant(self, array: Array) -> Known:
        """A constant: a new initializer or Constant node, or one that is there with the same values."""
        proto = numpy_helper.from_array(array, self.name("w"))
        made = Known(proto.name, (array,) * 3, True)
        for known, other in self.weights:
            same = other.data_type == proto.data_type and other.dims == proto.dims
            if same and other.raw_data == proto.raw_data and self.chance(0.7):
                return known
        if self.depth and self.chance(0.5) and self.outer is not None:
            return self.outer.constant(array)
        if self.chance(0.2) and (self.opset >= 9 or array.dtype.kind == "f"):
            self.nodes.append(helper.make_node("Constant", [], [proto.name], value=proto))
            self.made.append(made)
        else:
            self.weights.append((made, proto))
        return made

    def numbers(self, *shape: int, like: Known | None = None, plain: bool = False) -> Known:
        """A constant of a few small numbers; in a quarter of the cases all the same; `plain`: normally distributed."""
        dtype = np.dtype(np.float32) if like is None else like.dtype
        choices = _NUMBERS if dtype.kind == "f" else (0, 1, 1, 2, 3)
        count = math.prod(shape)
        if plain:
            values = [round(self.rng.gauss(0, 1), 3) for _ in range(count)]
        elif self.chance(0.25):
            values = [self.rng.choice(choices)] * count
        else:
            values = [self.rng.choice(choices) for _ in range(count)]
        return self.constant(np.array(values).astype(dtype).reshape(shape))

    def number_like(self, like: Known, value: float) -> Known:
        """A constant scalar of the type of another value."""
        return self.constant(np.array(value).astype(like.dtype))

    def ints(self, *numbers: int) -> Known:
        """A constant int64 vector."""
        return self.constant(np.array(numbers, np.int64))

    def number(self, number: int) -> Known:
        """A constant int64 scalar."""
        return self.constant(np.array(number, np.int64))

    def add(self, op: str, inputs: Sequence[Known | None], count: int = 1, **attributes: Any) -> list[Known]:
        """Add a node if it runs on all feeds; the empty list when it does not. A None input leaves a slot out."""
        if not attributes.get("domain") and not known(op, self.opset):
            return []
        names = [one.name if one is not None else "" for one in inputs]
        outputs = [self.name("v") for _ in range(count)]
        label = self.name(f"{op}_") if self.chance(0.3) else ""
        attributes = {key: value for key, value in attributes.items() if value is not None}
        try:
            node = helper.make_node(op, names, outputs, name=label, **attributes)
        except (ValueError, TypeError):
            return []
        return self.chain([node], outputs)

    def chain(self, nodes: Sequence[NodeProto], outputs: Sequence[str]) -> list[Known]:
        """Add `nodes` that make tensors `outputs` together (and perhaps others, on the way), if they run."""
        made = self._probe(nodes, outputs)
        if made:
            self.nodes.extend(nodes)
            self.made.extend(made)
        return made

    def one(self, op: str, *inputs: Known | None, **attributes: Any) -> Known | None:
        """`add` for one output; None when it does not run, or where the first input is missing already."""
        if inputs and inputs[0] is None:
            return None
        made = self.add(op, inputs, **attributes)
        return made[0] if made else None

    def leaves(self) -> list[Known]:
        """What the nodes here make and none of them reads, constants aside."""
        read = {name for node in self.nodes for name in read_by(node)}
        return [one for one in self.made if not one.fixed and one.name not in read]

    def drop_unread(self) -> None:
        """Forget the constants that no node reads: the leftovers of what did not run."""
        read = {name for node in self.nodes for name in read_by(node)}
        self.weights = [pair for pair in self.weights if pair[0].name in read]
        self.nodes = [one for one in self.nodes if one.op_type != "Constant" or one.output[0] in read]

    def graph(self, name: str, outputs: Sequence[Known]) -> GraphProto:
        """The finished graph."""
        infos = [info for _, info in self.inputs]
        weights = [proto for _, proto in self.weights]
        return helper.make_graph(self.nodes, name, infos, [one.info() for one in outputs], weights)

    def model(self, graph: GraphProto, ir_version: int = 10) -> ModelProto:
        """`graph` as a model of the opset, with the functions so far."""
        opsets = [helper.make_opsetid("", self.opset)]
        if self.stock.functions:
            opsets.append(helper.make_opsetid(DOMAIN, 1))
        return helper.make_model(
            graph, opset_imports=opsets, functions=self.stock.functions, ir_version=ir_version, producer_name="wild"
        )

    def _probe(self, nodes: Sequence[NodeProto], names: Sequence[str]) -> list[Known]:
        """What the nodes make of their inputs on each feed; [] when they do not run or make something unfit."""
        there = {one.name: one for one in self.visible()}
        read = dict.fromkeys(name for node in nodes for name in read_by(node))
        needed = [there[name] for name in read if name in there]
        infos = [one.info() for one in needed]
        outputs = [helper.make_value_info(name, helper.make_tensor_type_proto(1, None)) for name in names]
        for info in outputs:
            info.ClearField("type")
        data = self.model(helper.make_graph(nodes, "probe", infos, outputs)).SerializeToString()
        if any(_divides_by_nothing(node, there) for node in nodes):
            return []
        feeds = [{one.name: one.runs[index] for one in needed} for index in range(3)]
        try:
            results = outputs_of(data, feeds)
        except GraphoptError:
            return []
        made = []
        for name in names:
            runs = [run for result in results if isinstance(run := result[name], np.ndarray) and _fit(run)]
            if len(runs) < len(results):
                return []
            if len({run.ndim for run in runs}) != 1 or not all(_tame(run) for run in runs[:2]):
                return []
            made.append(Known(name, tuple(runs), bool(needed) and all(one.fixed for one in needed)))
        return made


@functools.cache
def known(op: str, opset: int) -> bool:
    """Whether the operator is one of ONNX's at this version; onnxruntime knows some before they are."""
    return bool(onnx.defs.has(op, opset)) and not onnx.defs.get_schema(op, opset).deprecated


def _divides_by_nothing(node: NodeProto, known: Mapping[str, Known]) -> bool:
    """Whether integers are divided by zero, or the least by minus one: onnxruntime's process dies of it."""
    if node.op_type not in ("Div", "Mod") or any(name not in known for name in node.input):
        return False
    pairs = list(zip(*(known[name].runs for name in node.input), strict=True))
    if pairs[0][0].dtype.kind not in "iu":
        return False
    least = np.iinfo(pairs[0][0].dtype).min
    return any(bool((by == 0).any() or ((of == least).any() and (by == -1).any())) for of, by in pairs)


def _fit(run: Array) -> bool:
    return run.dtype.kind in "fiubVOc" and run.size <= _MOST and run.ndim <= 5


def _tame(run: Array) -> bool:
    if run.dtype.kind == "f":
        return bool(np.all(np.abs(run) < _LARGE))
    if run.dtype.kind in "bOcV" or run.size == 0:
        return True
    return int(np.abs(run.astype(np.float64)).max()) < 2**20


def read_by(node: NodeProto) -> Iterator[str]:
    """All names that a node reads, in its bodies too (those that the bodies make themselves among them)."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from read_by(inner)
        yield from (one.name for one in attribute.g.output)

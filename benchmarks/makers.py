"""Models that are made and not brought: same options, same model. Each maker writes `model.onnx` into a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import GraphProto, TensorProto, helper, numpy_helper

from benchmarks.decoder import byte_count, shape_of, write
from graphopt.testing.random_models import random_model

_FLOAT: Final = TensorProto.FLOAT
_DEPTH: Final = 50  # nodes of one chain


class Builder:
    """Nodes and seeded weights, one after the other, as an exporter writes them."""

    def __init__(self, seed: int, prefix: str = "") -> None:
        self.prefix = prefix
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output, and name it."""
        name = f"{self.prefix}{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=f"/{name}", **attributes))
        return name

    def tensor(self, values: Any, dtype: Any = np.float32) -> str:
        """Add a weight."""
        name = f"{self.prefix}weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def normal(self, *dims: int) -> str:
        """Add a weight whose spread is that of its fan-in."""
        spread = float(np.prod(dims[1:] if len(dims) == 4 else dims[:1])) ** -0.5
        return self.tensor(self.random.standard_normal(dims) * spread)

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        """Add a Constant node."""
        return self.node("Constant", value=numpy_helper.from_array(np.asarray(values, dtype)))

    def save(self, folder: Path, inputs: Mapping[str, Sequence[Any]], outputs: Mapping[str, Sequence[Any]]) -> None:
        """Write the model, its inputs and outputs floats."""
        _save(folder, helper.make_graph(self.nodes, "made", _infos(inputs), _infos(outputs), self.weights))


def _infos(some: Mapping[str, Sequence[Any]]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, _FLOAT, list(dims)) for name, dims in some.items()]


def _save(folder: Path, graph: GraphProto) -> None:
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, str(folder / "model.onnx"))


def chains(folder: Path, *, nodes: int, depth: int = _DEPTH) -> None:
    """Chains of `depth` operators, `nodes` in all, in reverse order, every second one dead."""
    made = []
    ends = []
    live = "x"
    for index in range(nodes):
        if index % depth == 0:
            live = "x"
        places = ([live], [f"t{index}"], f"n{index}")
        leaky = index % 3 == 0
        made.append(helper.make_node("LeakyRelu", *places, alpha=0.1) if leaky else helper.make_node("Relu", *places))
        if index % 2 == 0:
            live = f"t{index}"
        if index % depth == depth - 1 or index == nodes - 1:
            ends.append(live)
    infos = [helper.make_tensor_value_info(name, _FLOAT, ["N", 8]) for name in ("x", *ends)]
    _save(folder, helper.make_graph(made[::-1], "chains", infos[:1], infos[1:]))


def random(folder: Path, *, seed: int, nodes: int) -> None:
    """A random graph, with bodies and functions."""
    onnx.save(random_model(seed, nodes=nodes), str(folder / "model.onnx"))


def decoder(folder: Path, *, seed: int, size: str) -> None:
    """A decoder of a language model, of about so many bytes, its weights in a file of their own."""
    write(folder, shape_of(byte_count(size)), seed)


def trees(folder: Path, *, seed: int, count: int = 40, depth: int = 4, features: int = 13, classes: int = 3) -> None:
    """Boosted trees as matrices: which features are compared, which comparisons lead to which leaf, what it adds.

    A leaf is reached where as many comparisons on its way hold as it has left turns, and none on a right turn.
    """
    b = Builder(seed)
    inner, leaves = 2**depth - 1, 2**depth
    picked = np.zeros((features, count * inner))
    picked[b.random.integers(0, features, count * inner), np.arange(count * inner)] = 1
    ways = np.zeros((count, inner, leaves))
    for leaf in range(leaves):
        place = 0
        for level in reversed(range(depth)):
            right = leaf >> level & 1
            ways[:, place, leaf] = -1 if right else 1
            place = 2 * place + 1 + right
    lefts = np.maximum(ways, 0).sum(1, keepdims=True)
    thresholds = b.random.standard_normal((1, count * inner))
    below = b.node("Less", b.node("MatMul", "x", b.tensor(picked)), b.tensor(thresholds))
    turns = b.node("Reshape", b.node("Cast", below, to=_FLOAT), b.constant([-1, count, 1, inner]))
    led = b.node("MatMul", turns, b.tensor(ways[None]))
    reached = b.node("Cast", b.node("Equal", led, b.tensor(lefts[None])), to=_FLOAT)
    flat = b.node("Reshape", reached, b.constant([-1, count * leaves]))
    total = b.node("MatMul", flat, b.tensor(b.random.standard_normal((count * leaves, classes)) * 0.1))
    b.node("Softmax", b.node("Identity", total), axis=-1)
    b.save(folder, {"x": ("N", features)}, {b.nodes[-1].output[0]: ("N", classes)})


def scans(folder: Path, *, seed: int, layers: int = 4, width: int = 24) -> None:
    """Recurrent layers whose cells are the bodies of Scan, each with what a body may hold that need not be there."""
    b = Builder(seed)
    steps = "x"
    for layer in range(layers):
        cell = Builder(int(b.random.integers(1 << 30)), f"layer_{layer}_")
        before, step = f"layer_{layer}_before", f"layer_{layer}_step"
        mixed = cell.node("MatMul", step, cell.normal(width, width))
        kept = cell.node("MatMul", before, cell.normal(width, width))
        scaled = cell.node("Mul", cell.node("Add", mixed, kept), cell.constant(1.0, np.float32))
        after = cell.node("Tanh", cell.node("Add", scaled, cell.tensor(cell.random.standard_normal(width) * 0.1)))
        cell.node("Relu", after)  # nobody reads it
        out = cell.node("Identity", after)
        infos = {name: helper.make_tensor_value_info(name, _FLOAT, [width]) for name in (before, step, after, out)}
        ins, outs = [infos[before], infos[step]], [infos[after], infos[out]]
        body = helper.make_graph(cell.nodes, "cell", ins, outs, cell.weights)
        start = b.node("ConstantOfShape", b.constant([width]))
        name = f"scan_{len(b.nodes)}"
        b.nodes.append(
            helper.make_node("Scan", [start, steps], [f"{name}_last", name], name=name, body=body, num_scan_inputs=1)
        )
        steps = name
    b.save(folder, {"x": ("T", width)}, {steps: ("T", width)})


def patches(folder: Path, *, seed: int, layers: int = 3, width: int = 64, heads: int = 4) -> None:
    """An image transformer of 32x32 images, every step in the small operators that exporters write."""
    b = Builder(seed)
    cut = b.node("Conv", "image", b.normal(width, 3, 8, 8), b.tensor(np.zeros(width)), strides=[8, 8])
    batch = b.node("Unsqueeze", _dim(b, cut, 0), b.constant([0]))
    shape = b.node("Concat", batch, b.constant([width]), b.constant([16]), axis=0)
    x = b.node("Transpose", b.node("Reshape", cut, shape), perm=[0, 2, 1])
    x = b.node("Add", x, b.tensor(b.random.standard_normal((1, 16, width)) * 0.02))
    for _ in range(layers):
        x = b.node("Add", x, _attention(b, _norm(b, x, width), width, heads))
        hidden = _gelu(b, _dense(b, _norm(b, x, width), width, 4 * width))
        x = b.node("Add", x, b.node("Dropout", _dense(b, hidden, 4 * width, width)))
    pooled = b.node("ReduceMean", _norm(b, x, width), axes=[1], keepdims=0)
    b.save(folder, {"image": ("N", 3, 32, 32)}, {_dense(b, pooled, width, 10): ("N", 10)})


def _dim(b: Builder, value: str, axis: int) -> str:
    return b.node("Gather", b.node("Shape", value), b.constant(axis), axis=0)


def _dense(b: Builder, x: str, before: int, after: int) -> str:
    return b.node("Add", b.node("MatMul", x, b.normal(before, after)), b.tensor(b.random.standard_normal(after) * 0.02))


def _norm(b: Builder, x: str, width: int) -> str:
    centred = b.node("Sub", x, b.node("ReduceMean", x, axes=[-1]))
    spread = b.node("ReduceMean", b.node("Pow", centred, b.constant(2.0, np.float32)), axes=[-1])
    root = b.node("Sqrt", b.node("Add", spread, b.constant(1e-5, np.float32)))
    scaled = b.node("Mul", b.node("Div", centred, root), b.tensor(1 + b.random.standard_normal(width) * 0.1))
    return b.node("Add", scaled, b.tensor(b.random.standard_normal(width) * 0.1))


def _gelu(b: Builder, x: str) -> str:
    erf = b.node("Erf", b.node("Div", x, b.constant(2**0.5, np.float32)))
    whole = b.node("Mul", x, b.node("Add", erf, b.constant(1.0, np.float32)))
    return b.node("Mul", whole, b.constant(0.5, np.float32))


def _attention(b: Builder, x: str, width: int, heads: int) -> str:
    def split(part: str, order: Sequence[int]) -> str:
        dims = [b.node("Unsqueeze", _dim(b, part, axis), b.constant([0])) for axis in (0, 1)]
        shape = b.node("Concat", *dims, b.constant([heads]), b.constant([width // heads]), axis=0)
        return b.node("Transpose", b.node("Reshape", part, shape), perm=list(order))

    query, key, value = (_dense(b, x, width, width) for _ in range(3))
    scores = b.node("MatMul", split(query, (0, 2, 1, 3)), split(key, (0, 2, 3, 1)))
    shares = b.node("Softmax", b.node("Div", scores, b.constant((width / heads) ** 0.5, np.float32)), axis=-1)
    mixed = b.node("Transpose", b.node("MatMul", shares, split(value, (0, 2, 1, 3))), perm=[0, 2, 1, 3])
    dims = [b.node("Unsqueeze", _dim(b, mixed, axis), b.constant([0])) for axis in (0, 1)]
    joined = b.node("Reshape", mixed, b.node("Concat", *dims, b.constant([width]), axis=0))
    return _dense(b, joined, width, width)


MAKERS: Final[Mapping[str, Callable[..., None]]] = {
    "chains": chains, "decoder": decoder, "patches": patches, "random": random, "scans": scans, "trees": trees,
}  # fmt: skip

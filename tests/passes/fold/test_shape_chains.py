"""Random chains of shape arithmetic and Reshapes: the same results at every size, of no elements too."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from graphopt.errors import GraphoptError
from graphopt.ir import decode, encode
from graphopt.ir.store import Store
from graphopt.pipeline import Pipeline
from graphopt.pipeline.manager import run
from graphopt.runtime.session import Session
from graphopt.testing.running import PLAIN, shared_worker
from passes.fold.shape_arithmetic import ShapeArithmetic

SIZES = tuple(each for each in itertools.product((0, 1, 2, 3), repeat=2) if each != (0, 0))


class Chain:
    """A model that reshapes x now and then, to targets that it computes from shapes."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.opset = self.rng.choice((11, 13, 14))
        self.dims: list[str | int] = [self.rng.choice(("N", "M", 2, 3, 4, 6)) for _ in range(self.rng.randint(1, 4))]
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.value, self.rank = "x", len(self.dims)
        for _ in range(self.rng.randint(1, 4)):
            self.rng.choice((self.transpose, self.double, self.reshape, self.reshape, self.reshape))()
        self.nodes.append(helper.make_node("Neg", [self.value], ["y"]))

    def add(self, op: str, *ins: str, **attributes: Any) -> str:
        name = f"a_rather_long_name_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(ins), [name], **attributes))
        return name

    def ints(self, *values: int, dtype: Any = np.int64) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def transpose(self) -> None:
        self.value = self.add("Transpose", self.value, perm=self.rng.sample(range(self.rank), self.rank))

    def double(self) -> None:
        self.value = self.add("Concat", self.value, self.value, axis=self.rng.randrange(self.rank))

    def reshape(self) -> None:
        source, rank = self.rng.choice((("x", len(self.dims)), (self.value, self.rank)))
        shape = self.add("Shape", source)
        dtype = self.rng.choice((np.int64, np.int32))
        if dtype == np.int32:
            shape = self.add("Cast", shape, to=TensorProto.INT32)
        parts = [self.part(shape, rank, dtype) for _ in range(self.rng.randint(1, 3))]
        if self.rng.random() < 0.5:
            parts[self.rng.randrange(len(parts))] = self.ints(-1, dtype=dtype)
        target = self.add("Concat", *parts, axis=0)
        if dtype == np.int32:
            target = self.add("Cast", target, to=TensorProto.INT64)
        zero = {"allowzero": 1} if self.opset >= 14 and self.rng.random() < 0.3 else {}
        self.value, self.rank = self.add("Reshape", self.value, target, **zero), len(parts)

    def part(self, shape: str, rank: int, dtype: Any) -> str:
        dim = self.add("Gather", shape, self.ints(self.rng.randrange(rank)), axis=0)
        kind = self.rng.choice(("dim", "dim", "product", "times", "all", "number"))
        if kind == "product":
            return self.add("Mul", dim, self.add("Gather", shape, self.ints(self.rng.randrange(rank)), axis=0))
        if kind == "times":
            return self.add(
                self.rng.choice(("Mul", "Add", "Div")), dim, self.ints(self.rng.choice((1, 2, 3)), dtype=dtype)
            )
        if kind == "all":
            some = self.add(
                "Gather", shape, self.ints(*sorted(self.rng.sample(range(rank), self.rng.randint(1, rank)))), axis=0
            )
            return self.add("ReduceProd", some, axes=[0])
        return self.ints(self.rng.choice((0, 1, 2, 3, 6)), dtype=dtype) if kind == "number" else dim

    @property
    def proto(self) -> ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.dims)
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "g", [x], [y], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def result(session: Session, dims: list[str | int], sizes: dict[str, int]) -> Any:
    shape = [sizes[one] if isinstance(one, str) else one for one in dims]
    return session.run({"x": np.arange(np.prod(shape), dtype=np.float32).reshape(shape)})["y"]


@pytest.mark.parametrize("start", range(0, 160, 40))
def test_chains(start: int) -> None:
    compared = 0
    for seed in range(start, start + 40):
        chain = Chain(seed)
        before = chain.proto
        outcome = run(lambda before=before: decode(before, Store()), Pipeline((ShapeArithmetic(),)))  # type: ignore[misc]
        after = encode(outcome.graph).proto
        if not any(one.kind == "applied" for one in outcome.remarks):
            continue
        assert after.ByteSize() <= before.ByteSize(), seed
        try:
            old = shared_worker().load(before.SerializeToString(), PLAIN)
        except GraphoptError:
            continue  # it was no model that could run
        with old:
            compared += compare(seed, chain, old, after)
    assert compared > 20


def compare(seed: int, chain: Chain, old: Session, after: ModelProto) -> int:
    """Compare at all sizes at which the model ran; how many these were."""
    wanted = {}
    for n, m in SIZES:
        try:
            wanted[n, m] = result(old, chain.dims, {"N": n, "M": m})
        except GraphoptError:
            continue
    if not wanted:
        return 0
    with shared_worker().load(after.SerializeToString(), PLAIN) as new:
        for (n, m), expected in wanted.items():
            found = result(new, chain.dims, {"N": n, "M": m})
            assert found.shape == expected.shape, (seed, n, m)
            np.testing.assert_array_equal(found, expected)
    return len(wanted)

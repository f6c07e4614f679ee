"""Random networks of everything that couples channels: taking units out is silencing them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from narrowed_models import assert_narrowing_is_silencing
from onnx import ModelProto, TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]


class Network:
    """A network that grows node by node; `open` are values [2, C, 4, 4] by name, with their channels."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: list[TensorProto] = []
        self.open: dict[str, int] = {"x": 3}
        self.unread: dict[str, None] = {}

    def weight(self, *shape: int) -> str:
        values = self.random.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(max(shape[1:2] or (1,))))
        return self.stored(values)

    def stored(self, values: Array) -> str:
        self.weights.append(numpy_helper.from_array(values, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def ints(self, *values: int) -> str:
        return self.stored(np.array(values, np.int64))

    def add(self, op: str, inputs: list[str], results: int = 1, **attributes: Any) -> list[str]:
        names = [f"v{len(self.nodes)}_{at}" for at in range(results)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        for one in inputs:
            self.unread.pop(one, None)
        return names

    def made(self, name: str, channels: int) -> str:
        self.open[name] = channels
        self.unread[name] = None
        return name

    def pick(self) -> tuple[str, int]:
        names = list(self.open)
        name = names[max(int(self.random.integers(-4, len(names))), 0)] if self.random.random() < 0.3 else names[-1]
        return name, self.open[name]

    def conv(self, name: str, channels: int) -> str:
        weight = self.weight(channels, self.open[name], 1, 1)
        return self.made(self.add("Conv", [name, weight, self.weight(channels)])[0], channels)

    def step(self) -> None:
        name, channels = self.pick()
        kinds: list[Callable[[str, int], None]] = [getattr(self, key) for key in dir(self) if key.startswith("do_")]
        kinds[int(self.random.integers(len(kinds)))](name, channels)

    def do_conv(self, name: str, channels: int) -> None:
        self.conv(name, int(self.random.choice([4, 6, 8, 12])))

    def do_activation(self, name: str, channels: int) -> None:
        op = str(self.random.choice(["Relu", "Sigmoid", "Tanh", "Neg", "Softplus"]))
        self.made(self.add(op, [name])[0], channels)

    def do_residual(self, name: str, channels: int) -> None:
        other = self.conv(self.conv(name, 4), channels)
        self.made(self.add("Add", [name, other])[0], channels)

    def do_meet(self, name: str, channels: int) -> None:
        other = next((one for one, size in self.open.items() if size == channels and one != name), None)
        other = self.conv("x", channels) if other is None else other
        self.made(self.add("Mul", [other, name])[0], channels)

    def do_grouped(self, name: str, channels: int) -> None:
        groups = int(self.random.choice([one for one in range(1, channels + 1) if channels % one == 0]))
        weight = self.weight(groups * 2, channels // groups, 3, 3)
        self.made(self.add("Conv", [name, weight], group=groups, pads=[1] * 4)[0], groups * 2)

    def do_batch_norm(self, name: str, channels: int) -> None:
        inputs = [name, *(self.weight(channels) for _ in range(3)), self.stored(np.ones(channels, np.float32))]
        self.made(self.add("BatchNormalization", inputs)[0], channels)

    def do_group_norm(self, name: str, channels: int) -> None:
        groups = 2 if channels % 2 == 0 else 1
        inputs = [name, self.weight(channels), self.weight(channels)]
        self.made(self.add("GroupNormalization", inputs, num_groups=groups)[0], channels)

    def do_concat(self, name: str, channels: int) -> None:
        other, more = self.pick()
        self.made(self.add("Concat", [name, other], axis=1)[0], channels + more)

    def do_split(self, name: str, channels: int) -> None:
        if channels == 1:
            return
        first = int(self.random.integers(1, channels))
        one, other = self.add("Split", [name, self.ints(first, channels - first)], 2, axis=1)
        self.made(one, first)
        self.made(other, channels - first)

    def do_slice(self, name: str, channels: int) -> None:
        start, end = sorted(self.random.integers(0, channels, 2).tolist())
        inputs = [name, self.ints(start), self.ints(end + 1), self.ints(1)]
        self.made(self.add("Slice", inputs)[0], end + 1 - start)

    def do_turn(self, name: str, channels: int) -> None:
        order = self.ints(*self.random.permutation(channels).tolist())
        self.made(self.add("Gather", [name, order], axis=1)[0], channels)

    def do_pad(self, name: str, channels: int) -> None:
        self.made(self.add("Pad", [name, self.ints(0, 1, 0, 0, 0, 2, 0, 0)])[0], channels + 3)

    def do_shuffle(self, name: str, channels: int) -> None:
        if channels % 2 == 0:
            cut = self.add("Reshape", [name, self.ints(2, 2, channels // 2, 4, 4)])[0]
            turned = self.add("Transpose", [cut], perm=[0, 2, 1, 3, 4])[0]
            self.made(self.add("Reshape", [turned, self.ints(0, -1, 4, 4)])[0], channels)

    def do_excite(self, name: str, channels: int) -> None:
        mean = self.add("ReduceMean", [name, self.ints(2, 3)])[0]
        scale = self.add("Conv", [mean, self.weight(channels, channels, 1, 1)])[0]
        self.made(self.add("Mul", [name, self.add("Sigmoid", [scale])[0]])[0], channels)

    def do_channels_last(self, name: str, channels: int) -> None:
        last = self.add("Transpose", [name], perm=[0, 2, 3, 1])[0]
        wide = self.add("Add", [self.add("MatMul", [last, self.weight(channels, 6)])[0], self.weight(6)])[0]
        self.made(self.add("Transpose", [wide], perm=[0, 3, 1, 2])[0], 6)

    def do_flat(self, name: str, channels: int) -> None:
        flat = self.add("Flatten", [name])[0]
        made = self.add("Gemm", [flat, self.weight(8, channels * 16)], transB=1)[0]
        back = self.add("Reshape", [made, self.ints(2, 8, 1, 1)])[0]
        self.made(self.add("Expand", [back, self.ints(2, 8, 4, 4)])[0], 8)

    def do_shared(self, name: str, channels: int) -> None:
        weight = self.weight(channels, channels, 1, 1)
        once = self.add("Conv", [name, weight])[0]
        self.made(self.add("Conv", [self.add("Relu", [once])[0], weight])[0], channels)

    def model(self) -> ModelProto:
        parts = [self.conv(name, 5) for name in list(self.unread)]
        self.nodes.append(helper.make_node("Sum", parts, ["y"]))
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4, 4])]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5, 4, 4])]
        graph = helper.make_graph(self.nodes, "g", inputs, outputs, self.weights)
        return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])


def network(seed: int, steps: int = 12) -> ModelProto:
    """A random network of about as many layers."""
    made = Network(seed)
    made.conv("x", 8)
    for _ in range(steps):
        made.step()
    return made.model()


@pytest.mark.parametrize("seed", range(15))
def test_taking_units_out_of_random_networks_is_silencing_them(seed: int) -> None:
    assert_narrowing_is_silencing(network(seed), matters=False)

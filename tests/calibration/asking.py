"""Questions about models from text, asked as a pass asks them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx

from graphopt import Graph
from graphopt.analysis.activations import Array, Observed
from graphopt.calibration.observe import Observer
from graphopt.calibration.source import CalibrationData
from graphopt.calibration.stream import BOUND
from graphopt.ir import Tensor, decode
from graphopt.storage.read import from_proto
from graphopt.testing.running import shared_worker


class Kept:
    """Keeps what it is shown: what no accumulator of a pass may do."""

    key = "kept"

    def __init__(self) -> None:
        self.seen: list[tuple[Array, ...]] = []

    def update(self, *values: Array) -> None:
        assert not any(value.flags.writeable for value in values)
        self.seen.append(tuple(value.copy() for value in values))

    def all(self, which: int = 0) -> Array:
        return np.concatenate([values[which] for values in self.seen])


class Asking:
    """One model, its graph, and the feeds to calibrate on."""

    def __init__(self, proto: onnx.ModelProto, feeds: Iterable[Mapping[str, Any]], bound: int = BOUND) -> None:
        self.bound = bound
        self.source = from_proto(proto)
        self.graph: Graph = decode(self.source.proto, self.source.store)
        self.data = CalibrationData(lambda: feeds, self.source)

    @property
    def observer(self) -> Observer:
        return Observer(self.graph, shared_worker(), self.data, bound=self.bound)

    def value(self, name: str) -> Tensor:
        """The value of that name, wherever it is."""
        for graph in self.graph.scopes():
            one: Tensor
            for one in (*graph.inputs, *graph.initializers, *(out for node in graph.nodes for out in node.outputs)):
                if one.name == name:
                    return one
        raise LookupError(name)

    def observe(self, *asked: Any) -> Observed:
        return self.observer.observe(asked)

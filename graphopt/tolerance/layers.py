"""Which stored tensors are layers whose weights can be perturbed, and where their channels and data are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

import ml_dtypes
import numpy as np

from graphopt.analysis.weights import Site, Weight, weights
from graphopt.ir import Graph, Tensor
from graphopt.ir.dtypes import np_dtype

Array = np.ndarray[Any, Any]

FLOATS: Final = tuple(np.dtype(one) for one in (np.float32, np.float16, ml_dtypes.bfloat16, np.float64))
_OVERRIDABLE: Final = "it is also a graph input"
_RECURRENT: Final = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True, eq=False)
class Layer:
    """One stored tensor that operators multiply by or look up, with those operators.

    `channel` is the axis of the stored tensor whose indices make one output each, None where that is none that
    all readers share. `inside` is the path of the body or function that holds it, "" for the main graph.
    """

    weight: Weight
    channel: int | None
    inside: str = ""
    biases: tuple[Weight, ...] = ()

    @property
    def name(self) -> str:
        """What the weight is called, which tells layers apart."""
        return f"{self.inside}/{self.weight.tensor.name}" if self.inside else self.weight.tensor.name

    @property
    def sites(self) -> tuple[Site, ...]:
        """The places that read it."""
        return self.weight.sites

    @property
    def op(self) -> str:
        """Its operator, several joined."""
        return ", ".join(dict.fromkeys(site.node.op for site in self.sites))

    @property
    def nodes(self) -> tuple[str, ...]:
        """The labels of the nodes that read it."""
        return tuple(dict.fromkeys(site.node.label for site in self.sites))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the stored tensor."""
        return tuple(int(size) for size in self.weight.constant.shape)

    @property
    def is_table(self) -> bool:
        """Whether it is looked up, not multiplied."""
        return all(site.is_table for site in self.sites)

    def values(self) -> Array:
        """The weights as they are."""
        return np.asarray(self.weight.constant.values)

    def forget(self) -> None:
        """Let go of the weights in memory, as far as they can be read again."""
        self.weight.constant.forget()


@dataclass
class Found:
    """The layers of a model in the order of its nodes, and those left out, with a clause each."""

    layers: list[Layer] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)


def find(graph: Graph, patterns: Sequence[str] = ("*",)) -> Found:
    """The layers of a model that one of the patterns names. Reads their values once, to see that they are finite."""
    found = Found()
    every = weights(graph)
    stored = {weight.tensor: weight for weight in every}
    for weight in sorted(every, key=_Places(graph).of):
        named = any(fnmatchcase(name, one) for name in weight.names for one in patterns)
        if not named or not (weight.sites or weight.is_quantized):
            continue
        why = _why_not(weight)
        if why is None:
            found.layers.append(_layer(weight, stored))
        elif weight.elements > 1 or weight.obstacle is None:
            found.left.append((weight.tensor.name, why))
    return found


class _Places:
    """The order of nodes in a model, bodies behind the graph that they are in."""

    def __init__(self, graph: Graph) -> None:
        self._of = {node: place for place, node in enumerate(one for scope in graph.scopes() for one in scope.nodes)}

    def of(self, weight: Weight) -> int:
        """Where a weight is first read."""
        return min((self._of.get(site.node, 0) for site in weight.sites), default=0)


def _why_not(weight: Weight) -> str | None:
    dtype = np_dtype(weight.constant.onnx_dtype)
    if dtype not in FLOATS:
        return f"it is {'of an unknown type' if dtype is None else dtype}, not floating point"
    if weight.obstacle is not None and not weight.obstacle.startswith(_OVERRIDABLE):
        return weight.obstacle
    if weight.elements < 2:
        return f"it has {weight.elements} element{'' if weight.elements == 1 else 's'}"
    values = np.asarray(weight.constant.values)
    finite, zero = bool(np.isfinite(values).all()), not np.any(values)
    weight.constant.forget()
    if not finite:
        return "it has a NaN or an infinity"
    return "all of it is zero" if zero else None


def _layer(weight: Weight, stored: Mapping[Tensor, Weight]) -> Layer:
    axes = {site.channel for site in weight.sites}
    grouped = any(site.groups > 1 and site.node.op == "ConvTranspose" for site in weight.sites)
    plain = not grouped and not any(site.node.op in (*_RECURRENT, "Gather") for site in weight.sites)
    channel = axes.pop() if len(axes) == 1 and plain else None
    biases = (
        [] if channel is None else [_bias(site, int(weight.constant.shape[channel]), stored) for site in weight.sites]
    )
    return Layer(weight, channel, weight.home.path, tuple(dict.fromkeys(one for one in biases if one is not None)))


def _bias(site: Site, channels: int, stored: Mapping[Tensor, Weight]) -> Weight | None:
    """The stored bias that an operator adds to each of its channels, where nothing else reads it."""
    node = site.node
    if node.op not in ("Conv", "ConvTranspose", "Gemm") or len(node.inputs) < 3:
        return None
    found = stored.get(node.inputs[2])
    if found is None or len(found.tensor.readers) > 1 or np_dtype(found.constant.onnx_dtype) not in FLOATS:
        return None
    return found if found.elements == channels and int(found.constant.shape[-1]) == channels else None

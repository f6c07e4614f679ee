"""The model that candidates are held against: its outputs, its steadiness and its noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import onnx
from onnx import AttributeProto, NodeProto, TensorProto

from graphopt.ir.schema import draws_randomness
from graphopt.validation.noise import Noise
from graphopt.validation.runs import OFF, Runs

if TYPE_CHECKING:
    from graphopt.storage.source import Source

_TWICE: Final = 2  # feeds that are run a second time
_ALL: Final = 1 << 31  # where random operators are known
_TRAINING: Final = 2  # the input of Dropout that says whether it draws


class Reference:
    """One model on the feeds of a validation, with what is known about it kept."""

    def __init__(self, runs: Runs, source: Source, seed: int, noise: Noise | None = None) -> None:
        self.runs = runs
        self.source = source
        self.noise = noise if noise is not None else Noise(runs, source, seed)
        # generators of random numbers advance from run to run, so a second run shows them
        runs.repeats = _ALL if self.random_operators() else _TWICE

    @property
    def path(self) -> Path:
        """The model file."""
        return self.runs.path

    def unsteady(self) -> frozenset[str]:
        """Outputs that come out differently when the model is run twice on the same feed."""
        self.runs.outputs(OFF)
        return self.runs.unsteady

    def random_operators(self) -> tuple[str, ...]:
        """Nodes that draw random numbers, such as `RandomNormal 'noise'`, bodies and functions included."""
        return random_operators(self.source.proto)


def random_operators(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Operator and name of every node that may draw random numbers.

    The random operators, Dropout with a training input that is not known to be false, and
    Dropout and BatchNormalization of old opsets that say they train.
    """
    found: dict[str, None] = {}
    declared = {one.name for one in proto.graph.input}  # callers may give another value
    stored = {one.name for one in proto.graph.initializer if one.name not in declared and _is_false(one)}
    for top, off in ((proto.graph.node, stored), *((one.node, set[str]()) for one in proto.functions)):
        nodes = list(_nodes(top))
        off = off | {name for node in nodes if _makes_false(node) for name in node.output}
        for node in nodes:
            training = next((each.i for each in node.attribute if each.name == "training_mode"), 0)
            old_dropout = node.op_type == "Dropout" and any(
                each.name == "is_test" and not each.i for each in node.attribute
            )
            trains = node.op_type == "BatchNormalization" and bool(training)
            known = False if len(node.input) > _TRAINING and node.input[_TRAINING] in off else None
            if draws_randomness(node.op_type, node.domain, len(node.input), known) or old_dropout or trains:
                label = node.name or (node.output[0] if node.output else "")
                found[f"{node.op_type} {label!r}"] = None
    return tuple(found)


def _is_false(tensor: TensorProto) -> bool:
    """Whether a tensor is a stored boolean that is false; what lies outside of the model is not looked up."""
    if tensor.data_type != TensorProto.BOOL or tensor.data_location == TensorProto.EXTERNAL or list(tensor.dims) != []:
        return False
    return not any(tensor.raw_data) and not any(tensor.int32_data)


def _makes_false(node: NodeProto) -> bool:
    is_constant = node.op_type == "Constant" and node.domain in ("", "ai.onnx")
    return is_constant and any(each.name == "value" and _is_false(each.t) for each in node.attribute)


def _nodes(top: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes of a graph or function, and of the bodies in it."""
    pending = [top]
    while pending:
        for node in pending.pop():
            yield node
            for attribute in node.attribute:
                if attribute.type == AttributeProto.GRAPH:
                    pending.append(attribute.g.node)
                elif attribute.type == AttributeProto.GRAPHS:
                    pending.extend(graph.node for graph in attribute.graphs)

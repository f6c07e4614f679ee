"""The models of ONNX's own backend tests, as they are and with their operands made constants."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto
from onnx.backend.test.loader import load_model_tests

from graphopt.ir.tensors import onnx_dtype, to_tensor_proto

BAKES = ("none", "tail", "all")
"""Which inputs become initializers: none of them, all but the first, or all."""


@dataclass(frozen=True)
class Case:
    """One test: a model and the inputs that the test runs it on."""

    name: str
    model: ModelProto
    inputs: Sequence[Any]

    def baked(self, how: str) -> tuple[ModelProto, dict[str, Any]] | None:
        """The model with inputs made constants, and what it is fed; None where there is nothing to make
        constant, or the test gives no value for an input."""
        graph = self.model.graph
        if len(graph.input) != len(self.inputs):
            return None
        made = ModelProto()
        made.CopyFrom(self.model)
        del made.graph.input[:]
        feeds: dict[str, Any] = {}
        for place, (info, value) in enumerate(zip(graph.input, self.inputs, strict=True)):
            if how != "none" and place >= (how == "tail") and _is_constant(info, value):
                made.graph.initializer.append(to_tensor_proto(info.name, np.asarray(value)))
                made.ir_version = max(made.ir_version, 4)  # before, every initializer was an input too
            else:
                made.graph.input.append(info)
                feeds[info.name] = value
        return None if how != "none" and len(feeds) == len(self.inputs) else (made, feeds)


def _is_constant(info: Any, value: Any) -> bool:
    if not info.type.HasField("tensor_type") or not isinstance(value, np.ndarray | np.generic):
        return False
    kind = np.asarray(value).dtype
    return kind.kind not in "USV" and onnx_dtype(kind) == info.type.tensor_type.elem_type


@functools.cache
def cases() -> tuple[Case, ...]:
    """Every test that brings its model with it, in the order of names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tests compute infinities on purpose
        found = {one.name: one for kind in ("node", "simple") for one in load_model_tests(kind=kind)}
    return tuple(_cases(found))


def _cases(found: dict[str, Any]) -> Iterator[Case]:
    for name in sorted(found):
        test = found[name]
        if test.model is not None and test.data_sets:
            yield Case(name, test.model, test.data_sets[0][0])

"""Holds every change to ONNX's full checker and to the model's signature."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import checker

from graphopt.ir import Graph, encode
from graphopt.ir.skeleton import with_stand_ins
from graphopt.pipeline.instrument import Instrument, Turn, Veto
from graphopt.pipeline.protocol import Part
from graphopt.storage.scratch import Scratch

_LONGEST = 300


class Check(Instrument):
    """Is the model still valid, its signature kept? Asked at the end, with `each` after each pass that
    changed something: that takes as many times longer, and names the pass.

    Weights are not looked at, so a check costs what the graph costs, not what the file weighs.
    A model that failed the checker before the run is only held to its signature, and
    `input_fault` says what was wrong with it.
    """

    def __init__(self, original: onnx.ModelProto, each: bool = True) -> None:
        self.each = each
        self._original = original
        self._changed = False
        self._signature = signature(original)
        self._free: set[str] = set()  # parts that a pass of this run is there to change
        self._asked = False
        self.input_fault: str | None = None

    def examine_input(self) -> str | None:
        """What the checker says against the input; asked once."""
        if not self._asked:
            self._asked, self.input_fault = True, check_fault(self._original)
        return self.input_fault

    def begins(self, graph: Graph) -> None:
        self._free.clear()
        self._changed = False

    def after_pass(self, turn: Turn, graph: Graph) -> None:
        if not turn.changed:
            return
        self._changed = True
        self._free.update(turn.place.pass_.changes)
        if self.each:
            self._examine(graph, f"pass {turn.place.pass_.name}", turn.replayed)

    def ends(self, graph: Graph) -> None:
        if self._changed and not self.each:
            self._examine(graph, "the pipeline", False)

    def _examine(self, graph: Graph, who: str, replayed: bool) -> None:
        proto = encode(graph).proto
        parts = [part for part in changed_parts(self._signature, signature(proto)) if part not in self._free]
        if parts:
            raise Veto(f"{who} changed the model's signature: {' and '.join(parts)}")
        fault = None if replayed else check_fault(proto)
        if fault is not None and self.examine_input() is None:
            raise Veto(f"{who} made an invalid model: {fault}")


def check_fault(skeleton: onnx.ModelProto) -> str | None:
    """What ONNX's full checker says against a skeleton model, in a line; None when it is content.

    Weights that the skeleton leaves out are stood in for by zeros that take no room.
    """
    with Scratch("check") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(with_stand_ins(skeleton, Path(folder)).SerializeToString())
        try:
            checker.check_model(str(path), full_check=True)
        except (checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
            text = " ".join(str(error).split())
            return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return None


Signature = dict[Part, tuple[bytes, ...]]


def signature(proto: onnx.ModelProto) -> Signature:
    """What a model promises its users: inputs, outputs, defaults of overridable inputs, opsets."""
    graph = proto.graph
    inputs = {info.name for info in graph.input}
    return {
        "inputs": tuple(info.SerializeToString(deterministic=True) for info in graph.input),
        "outputs": tuple(info.SerializeToString(deterministic=True) for info in graph.output),
        "defaults": tuple(t.name.encode() for t in graph.initializer if t.name in inputs),
        "opsets": tuple(sorted(o.SerializeToString(deterministic=True) for o in proto.opset_import)),
    }


def changed_parts(before: Signature, after: Signature) -> list[Part]:
    """Which parts of two signatures differ."""
    return [part for part in before if before[part] != after[part]]

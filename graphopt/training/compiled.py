"""A graph as a list of torch functions over numbered values.

All values of the main graph, its bodies and the functions it calls have a number each; a run is a
walk over the list with one array of values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphopt.errors import BadModel
from graphopt.ir.calls import expansion
from graphopt.ir.order import sorted_nodes
from graphopt.ir.values import Constant
from graphopt.training.call import Call, Run, Scoped
from graphopt.training.operators.quantization import MAKES_CODES, MOVES_CODES, TAKES_CODES, made_codes
from graphopt.training.operators.table import known, maker_of
from graphopt.training.tensors import is_trained, to_torch, torch_type

if TYPE_CHECKING:
    import torch

    from graphopt.ir.graph import Function, Graph
    from graphopt.ir.node import Node
    from graphopt.ir.values import Tensor

NOTHING, UNREAD = 0, 1
"""The numbers of an input that is left out, and of an output that nobody names."""

Values = list[Any]
Ready = tuple[Run, tuple[int, ...], tuple[int, ...], tuple[int, ...], bool, str]


@dataclass(eq=False)
class Step:
    """One operator: what it computes with, and all it reads, captured values of its bodies included."""

    run: Run
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    reads: tuple[int, ...]
    scoped: bool
    label: str
    op: str = ""  # of ONNX's own operators

    def ready(self, frees: Iterable[int]) -> Ready:
        """The step as `execute` takes it, with the values that nobody needs after it."""
        return self.run, self.inputs, self.outputs, tuple(frees), self.scoped, self.label


@dataclass(eq=False)
class Body:
    """A body of an If, Loop or Scan: its own values have numbers in the whole program's array."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    steps: tuple[Ready, ...]
    captured: tuple[int, ...]

    def run(self, values: Values, given: Sequence[Any] = ()) -> list[Any]:
        """The body's outputs; values that it captures are in `values`."""
        for slot, value in zip(self.inputs, given, strict=True):
            values[slot] = value
        execute(self.steps, values)
        return [values[slot] for slot in self.outputs]


def execute(steps: Iterable[Ready], values: Values) -> None:
    """Carry out steps in order, letting go of each value after its last use."""
    for run, inputs, outputs, frees, scoped, label in steps:
        given = [values[slot] for slot in inputs]
        try:
            made = run(values, *given) if scoped else run(*given)
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            shapes = ", ".join(str(list(one.shape)) if hasattr(one, "shape") else "-" for one in given)
            raise BadModel(f"node {label!r} cannot be computed on inputs of shapes {shapes}: {error}") from error
        if type(made) is tuple:
            for slot, value in zip(outputs, made, strict=False):
                values[slot] = value
        else:
            values[outputs[0]] = made
        for slot in frees:
            values[slot] = None


def last_uses(steps: Sequence[Step], mine: Iterable[int], kept: Iterable[int]) -> list[list[int]]:
    """For each step, which of the values `mine` nobody needs after it; those `kept` are always needed."""
    open_slots = set(mine) - set(kept) - {NOTHING}
    frees: list[list[int]] = []
    for step in reversed(steps):
        now = sorted({slot for slot in (*step.reads, *step.outputs) if slot in open_slots})
        open_slots.difference_update(now)
        frees.append(now)
    return frees[::-1]


@dataclass(eq=False)
class Compiled:
    """The steps of a main graph, the numbers of its named values, and what the model itself holds."""

    steps: list[Step] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, torch.Tensor] = field(default_factory=dict)
    fixed: dict[int, torch.Tensor] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    types: dict[str, torch.dtype | None] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)
    codes: dict[int, torch.dtype] = field(default_factory=dict)
    count: int = 2


class Compiler:
    """Numbers values and makes steps, graph by graph."""

    def __init__(self, compute: torch.dtype | None) -> None:
        self.compute = compute
        self.made = Compiled()
        self._slots: dict[int, int] = {}
        self._alive: list[Any] = []  # copies of functions: their identities are keys
        self._functions: dict[tuple[str, str, str], Function] = {}

    def main(self, graph: Graph) -> Compiled:
        """Compile a whole model."""
        made = self.made
        self._functions = {(one.domain or "", one.name, one.overload): one for one in graph.functions}
        for variable in graph.inputs:
            made.inputs[variable.name] = self._slot(variable)
            kind = variable.onnx_dtype
            made.types[variable.name] = torch_type(kind, self.compute) if kind else None
        for variable, constant in graph.defaults.items():
            self._constant(constant, variable.name, self._slot(variable))
        made.steps = self._steps(graph, "")
        made.outputs = {tensor.name: self._slot(tensor) for tensor in graph.outputs}
        made.numbers.update(made.inputs)
        made.numbers.update(made.outputs)
        for node in graph.nodes:
            made.numbers.update({tensor.name: self._slot(tensor) for tensor in node.outputs if tensor.name})
        return made

    def _slot(self, tensor: Tensor) -> int:
        """The number of a value; a constant's value is taken in when it is first met."""
        found = self._slots.get(id(tensor))
        if found is not None:
            return found
        if not tensor.name:
            return NOTHING
        slot = self._slots[id(tensor)] = self._next()
        if isinstance(tensor, Constant):
            self._constant(tensor, tensor.name, slot)
        return slot

    def _next(self) -> int:
        self.made.count += 1
        return self.made.count - 1

    def _constant(self, constant: Constant, name: str, slot: int) -> None:
        value = to_torch(constant.values, self.compute)
        constant.forget()
        if not is_trained(constant.dtype):
            self.made.fixed[slot] = value
            return
        unique, copy = name, 1
        while unique in self.made.parameters:  # bodies and calls of functions may repeat a name
            copy += 1
            unique = f"{name}:{copy}"
        self.made.parameters[unique] = value
        self.made.slots[unique] = slot
        self.made.numbers[unique] = slot

    def _steps(self, graph: Graph, prefix: str) -> list[Step]:
        steps: list[Step] = []
        for node in sorted_nodes(graph) or graph.nodes.snapshot():
            if node.is_op("Constant"):
                self._constant_node(node, prefix)
                continue
            function = self._functions.get((node.domain or "", node.op, node.overload))
            if function is not None:
                steps += self._call_of(function, node, prefix)
            else:
                steps.append(self._step(graph, node, prefix))
        return steps

    def _call_of(self, function: Function, node: Node, prefix: str) -> list[Step]:
        copy = expansion(function, node)
        self._alive.append(copy)
        for variable, given in zip(copy.inputs, node.inputs, strict=False):
            self._slots[id(variable)] = self._slot(given)
        made: dict[int, int] = {}
        for inner, outer in zip(copy.outputs, node.outputs, strict=False):
            if outer.name and not copy.is_input(inner) and id(inner) not in self._slots:
                made[id(inner)] = self._slots[id(inner)] = self._slot(outer)
        steps = self._steps(copy, f"{prefix}{node.label}/")
        for inner, outer in zip(copy.outputs, node.outputs, strict=False):
            if outer.name and self._slot(inner) != self._slot(outer):
                source, target = self._slot(inner), self._slot(outer)
                steps.append(Step(lambda x: x, (source,), (target,), (source,), False, node.label))
        return steps

    def _constant_node(self, node: Node, prefix: str) -> None:
        output = node.outputs[0]
        self._slots[id(output)] = slot = self._next()
        for name, value in node.attrs.items():
            if name == "value":
                constant = value
            elif name in ("value_float", "value_floats", "value_int", "value_ints"):
                kind = "float32" if "float" in name else "int64"
                constant = Constant(output.name, _array(value, kind))
            else:
                raise Call("Constant", "", 1, node.label, {}, (), ()).refuse(f"its {name} is not a plain tensor")
            self._constant(constant, prefix + output.name, slot)
            return

    def _step(self, graph: Graph, node: Node, prefix: str) -> Step:
        bodies = {name: self._body(value, prefix) for name, value in node.attrs.items() if value in node.bodies}
        domain = "" if node.is_standard else str(node.domain)
        call = Call(
            node.op,
            domain,
            graph.opset_of(domain),
            prefix + node.label,
            node.attrs,
            tuple(bool(one.name) for one in node.inputs),
            tuple(bool(one.name) for one in node.outputs),
            self.compute,
            bodies,
            tuple(one.onnx_dtype for one in node.inputs),
        )
        run = maker_of(call)(call)
        inputs = tuple(self._slot(one) for one in node.inputs)
        outputs = tuple(self._slot(one) or UNREAD for one in node.outputs)
        captured = [slot for body in bodies.values() for slot in body.captured]
        reads = tuple(dict.fromkeys((*inputs, *captured)))
        scoped = isinstance(run, Scoped)
        plain = self._with_codes(call, run.run if isinstance(run, Scoped) else run, inputs, outputs, scoped)
        return Step(plain, inputs, outputs, reads, scoped, call.label, "" if domain else call.op)

    def _with_codes(self, call: Call, run: Run, inputs: tuple[int, ...], outputs: tuple[int, ...], scoped: bool) -> Run:
        """`run`, given integers where integers stand that quantizing operators carry as floats."""
        codes = self.made.codes
        coded = [codes.get(slot) for slot in inputs]
        if call.op in MAKES_CODES:
            codes[outputs[0]] = torch_type(made_codes(call))
            if call.op == "DynamicQuantizeLinear":
                codes[outputs[2]] = codes[outputs[0]]
        elif call.op in MOVES_CODES and any(coded):
            kind = next(kind for kind in coded if kind is not None)
            codes.update(dict.fromkeys(outputs[:1] if call.op == "MaxPool" else outputs, kind))
        if not any(coded) or call.op in TAKES_CODES or call.op in MOVES_CODES:
            return run
        skipped = 1 if scoped else 0

        def settled(*given: Any) -> Any:
            ready = [one if kind is None else one.to(kind) for one, kind in zip(given[skipped:], coded, strict=True)]
            return run(*given[:skipped], *ready)

        return settled

    def _body(self, body: Graph, prefix: str) -> Body:
        inputs = tuple(self._slot(one) for one in body.inputs)
        steps = self._steps(body, prefix)
        outputs = tuple(self._settled(self._slot(one), steps) for one in body.outputs)
        mine = {*inputs, *(slot for step in steps for slot in step.outputs)}
        captured = [slot for step in steps for slot in step.reads if slot not in mine]
        captured += [slot for slot in outputs if slot not in mine]
        frees = last_uses(steps, mine, outputs)
        ready = tuple(step.ready(gone) for step, gone in zip(steps, frees, strict=True))
        return Body(inputs, outputs, ready, tuple(dict.fromkeys(captured)))

    def _settled(self, slot: int, steps: list[Step]) -> int:
        """The value of a slot as integers, where it is codes in floats."""
        kind = self.made.codes.get(slot)
        if kind is None:
            return slot
        target = self._next()
        steps.append(Step(lambda codes: codes.to(kind), (slot,), (target,), (slot,), False, "integers"))
        return target


def missing(graph: Graph) -> dict[str, int]:
    """Operators of the model that have no torch function, with how often each is there."""
    found: dict[str, int] = {}
    functions = {(one.domain or "", one.name) for one in graph.root.functions}
    for scope in graph.scopes():
        for node in scope.nodes:
            domain = "" if node.is_standard else str(node.domain)
            if node.is_op("Constant") or (domain, node.op) in functions or known(domain, node.op):
                continue
            name = f"{domain}.{node.op}" if domain else node.op
            found[name] = found.get(name, 0) + 1
    return found


def _array(value: Any, kind: str) -> Any:
    import numpy as np

    return np.asarray(value, dtype=np.dtype(kind))


__all__ = ["Body", "Compiled", "Compiler", "Step", "execute", "last_uses", "missing"]

"""An ONNX model as a torch computation that gradients flow through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphopt.errors import UsageError
from graphopt.training.extra import require_torch

if TYPE_CHECKING:
    import onnx
    import torch

    from graphopt.ir.graph import Graph
    from graphopt.training.compiled import Compiled, Ready

Feeds = Mapping[str, Any]


@dataclass(eq=False)
class _Plan:
    """What is left to do once everything that does not change from run to run is known."""

    steps: list[Ready]
    values: list[Any]
    depends: dict[str, tuple[int, int]]  # parameters the known values were computed with: identity and version


class Program:
    """One ONNX model as a torch computation.

    `parameters` are the model's float tensors by name: initializers, Constant nodes and defaults of
    overridable inputs, in bodies and functions too. Whoever trains sets `requires_grad` on them, or
    gives others in their place at a call. All float types are computed in `compute` (`float32`,
    `float64`) where that is given, which is what to do with models of 16-bit floats.

    Raises Unsupported, naming the operator and the node, for what has no torch function here, and
    UsageError where PyTorch is not installed.
    """

    def __init__(self, graph: Graph, compute: str | None = None) -> None:
        require_torch()
        import torch

        from graphopt.training.compiled import Compiler

        kind: torch.dtype | None = None if compute is None else getattr(torch, compute, None)
        if compute is not None and (not isinstance(kind, torch.dtype) or not kind.is_floating_point):
            raise UsageError(f"{compute!r} is no float type to compute in; try float32 or float64")
        self.compute = kind
        self._made: Compiled = Compiler(kind).main(graph)
        self.parameters: dict[str, torch.Tensor] = self._made.parameters
        self.inputs: tuple[str, ...] = tuple(self._made.inputs)
        self.outputs: tuple[str, ...] = tuple(self._made.outputs)
        self._plans: dict[Any, _Plan] = {}

    @classmethod
    def of(cls, model: onnx.ModelProto, compute: str | None = None) -> Program:
        """The program of a model that is in memory with all its weights."""
        from graphopt.ir.decode import decode
        from graphopt.ir.store import Store

        return cls(decode(model, Store()), compute)

    def __call__(
        self,
        feeds: Mapping[str, torch.Tensor],
        wanted: Sequence[str] = (),
        parameters: Mapping[str, torch.Tensor] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, torch.Tensor]:
        """The model's outputs (or only those named in `outputs`) and the values named in `wanted`, by name.

        `feeds` are the model's inputs; a value inside the graph may be fed as well, and what only led to
        it is not computed. `parameters` stand in for the model's own at this call.
        """
        made, given = self._made, parameters or {}
        asked = tuple(dict.fromkeys((*(self.outputs if outputs is None else outputs), *wanted)))
        self._check(asked, feeds, given)
        plan = self._plan(asked, feeds, given)
        values = plan.values.copy()
        for name, tensor in self.parameters.items():
            values[made.slots[name]] = given.get(name, tensor)
        for name, tensor in feeds.items():
            values[made.numbers[name]] = self._taken(name, tensor)
        from graphopt.training.compiled import execute

        execute(plan.steps, values)
        found: dict[str, torch.Tensor] = {}
        for name in asked:
            slot = made.numbers[name]
            kind = made.codes.get(slot) if name in made.outputs else None
            found[name] = values[slot] if kind is None else values[slot].to(kind)
        return found

    def has(self, name: str) -> bool:
        """Whether the main graph has a value of this name that can be asked for."""
        return name in self._made.numbers

    def _taken(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        if self.compute is not None and tensor.is_floating_point():
            return tensor.to(self.compute)
        kind = self._made.types.get(name)
        return tensor if kind is None or tensor.dtype == kind else tensor.to(kind)

    def _check(self, asked: Iterable[str], feeds: Feeds, given: Feeds) -> None:
        for name in (*asked, *feeds):
            if name not in self._made.numbers:
                raise UsageError(f"the model has no value {name!r}")
        for name in given:
            if name not in self.parameters:
                raise UsageError(f"the model has no parameter {name!r}")

    def _plan(self, asked: tuple[str, ...], feeds: Feeds, given: Feeds) -> _Plan:
        """The steps to carry out for these values, with all that no feed and no trained parameter leads to done."""
        live = frozenset(name for name, one in self.parameters.items() if one.requires_grad or name in given)
        key = (asked, frozenset(feeds), live)
        plan = self._plans.get(key)
        if plan is None or any(self._state(name) != state for name, state in plan.depends.items()):
            plan = self._plans[key] = self._planned(asked, feeds, live)
        return plan

    def _state(self, name: str) -> tuple[int, int]:
        tensor = self.parameters[name]
        return id(tensor), tensor._version

    def _planned(self, asked: tuple[str, ...], feeds: Feeds, live: frozenset[str]) -> _Plan:
        import torch

        from graphopt.training.compiled import Step, execute, last_uses
        from graphopt.training.shortened import shortened

        made = self._made
        fed = {made.numbers[name] for name in feeds}
        results = {made.numbers[name] for name in asked}
        changing = fed | {made.slots[name] for name in live}
        unfed = {slot: name for name, slot in made.inputs.items() if slot not in fed}
        unfed = {slot: name for slot, name in unfed.items() if name not in self.parameters and slot not in made.fixed}

        needed, chosen = set(results), list[Step]()
        for step in reversed(made.steps):
            if any(slot in needed and slot not in fed for slot in step.outputs):
                chosen.append(step)
                needed.update(step.reads)
        for slot, name in unfed.items():
            if slot in needed:
                raise UsageError(f"the model's input {name!r} is not fed")
        done, steps = list[Step](), list[Step]()
        for step in reversed(chosen):
            if any(slot in changing for slot in step.reads):
                changing.update(step.outputs)
                steps.append(step)
            else:
                done.append(step)

        values: list[Any] = [None] * made.count
        for slot, tensor in made.fixed.items():
            values[slot] = tensor
        for name, tensor in self.parameters.items():
            values[made.slots[name]] = tensor
        with torch.no_grad():
            execute([step.ready(()) for step in done], values)
        kept = results | {slot for step in steps for slot in step.reads}
        mine = {slot for step in steps for slot in step.outputs} | fed
        for step in done:
            for slot in step.outputs:
                if slot not in kept:
                    values[slot] = None
        sources = {slot for step in done for slot in step.reads}
        depends = {name: self._state(name) for name, slot in made.slots.items() if slot in sources}
        weights = fed | {made.slots[name] for name in self.parameters}
        steps = shortened(steps, results, lambda slot: _number(values[slot]) if slot not in changing else None, weights)
        frees = last_uses(steps, mine, results)
        return _Plan([step.ready(gone) for step, gone in zip(steps, frees, strict=True)], values, depends)


def _number(value: torch.Tensor | None) -> float | None:
    """The one number of a tensor that has one."""
    return float(value.item()) if hasattr(value, "numel") and value is not None and value.numel() == 1 else None

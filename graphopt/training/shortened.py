"""Chains of steps that torch has one kernel for: a product with its bias, and GELU written out with Erf.

Exported transformers have both in every layer; written out, GELU alone costs a tenth of a step of training.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.training.compiled import Step

Known = Callable[[int], float | None]
"""The number that a value is, where it is one number that does not change."""

NEAR = 1e-4


def linear(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """`a @ b + c` for any shapes."""
    if b.dim() == 2 and c.dim() == 1 and a.dim() >= 2 and c.shape[0] == b.shape[1]:
        return functional.linear(a, b.t(), c)
    return torch.matmul(a, b) + c


def shortened(steps: Sequence[Step], kept: set[int], known: Known, weights: set[int]) -> list[Step]:
    """`steps` with such chains as one step each; values `kept` stay, `weights` are what a bias may be."""
    chains = _Chains(steps, kept, known)
    for step in steps:
        if step.op == "Erf":
            chains.gelu(step)
        elif step.op == "MatMul":
            chains.biased(step, weights)
    return [chains.new.get(id(step), step) for step in steps if id(step) not in chains.gone]


class _Chains:
    def __init__(self, steps: Sequence[Step], kept: set[int], known: Known) -> None:
        self.maker = {slot: step for step in steps for slot in step.outputs}
        self.readers: dict[int, list[Step]] = {}
        for step in steps:
            for slot in step.reads:
                self.readers.setdefault(slot, []).append(step)
        self.kept, self.known = kept, known
        self.gone: set[int] = set()
        self.new: dict[int, Step] = {}

    def _next(self, slot: int, op: str) -> Step | None:
        """The one step that reads a value, where there is one and it is of that operator."""
        readers = self.readers.get(slot, [])
        if slot in self.kept or len(readers) != 1 or readers[0].op != op or Counter(readers[0].inputs)[slot] != 1:
            return None
        return readers[0]

    def _is(self, slot: int, number: float) -> bool:
        value = self.known(slot)
        return value is not None and abs(value - number) < NEAR

    def _scaled(self, slot: int, number: float) -> int | None:
        """`x`, where a value is `x` times the number and only its one reader needs it."""
        step = self.maker.get(slot)
        if step is None or step.scoped or slot in self.kept or len(self.readers.get(slot, [])) != 1:
            return None
        if step.op == "Div" and self._is(step.inputs[1], 1 / number):
            return step.inputs[0]
        if step.op == "Mul":
            for place in (0, 1):
                if self._is(step.inputs[place], number):
                    return step.inputs[1 - place]
        return None

    def gelu(self, erf: Step) -> None:
        """`x * (1 + erf(x / sqrt(2))) / 2`, in any order of the factors."""
        x = self._scaled(erf.inputs[0], math.sqrt(0.5))
        add = self._next(erf.outputs[0], "Add")
        if x is None or add is None or not any(self._is(slot, 1.0) for slot in add.inputs):
            return
        spent = [self.maker[erf.inputs[0]], erf, add]
        first = self._next(add.outputs[0], "Mul")
        if first is None:
            return
        other = _other(first, add.outputs[0])
        if self._scaled(other, 0.5) == x:
            spent.append(self.maker[other])
            last: Step | None = first
        else:
            last = self._next(first.outputs[0], "Mul")
            if last is None:
                return
            rest = _other(last, first.outputs[0])
            if not ((other == x and self._is(rest, 0.5)) or (rest == x and self._is(other, 0.5))):
                return
            spent.append(first)
        if last is not None:
            self.gone.update(id(step) for step in spent)
            self.new[id(last)] = Step(functional.gelu, (x,), last.outputs, (x,), False, last.label, "Gelu")

    def biased(self, product: Step, weights: set[int]) -> None:
        """A product of which a weight is the right operand, and an addition of another weight."""
        add = self._next(product.outputs[0], "Add")
        if add is None or product.inputs[1] not in weights or id(add) in self.gone:
            return
        bias = _other(add, product.outputs[0])
        if bias in weights:
            inputs = (*product.inputs, bias)
            self.gone.add(id(product))
            self.new[id(add)] = Step(linear, inputs, add.outputs, inputs, False, product.label, "Linear")


def _other(step: Step, slot: int) -> int:
    return step.inputs[1] if step.inputs[0] == slot else step.inputs[0]

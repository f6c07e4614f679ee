"""Operators with bodies: only what is taken is computed, and gradients flow through it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphopt.training.call import Call, Operators, Scoped


def _if(call: Call) -> Scoped:
    taken, other = call.bodies["then_branch"], call.bodies["else_branch"]

    def run(values: list[Any], condition: Tensor) -> tuple[Any, ...]:
        return tuple((taken if bool(condition.item()) else other).run(values))

    return Scoped(run)


def _loop(call: Call) -> Scoped:
    body = call.bodies["body"]

    def run(values: list[Any], most: Tensor | None, going: Tensor | None, *carried: Any) -> tuple[Any, ...]:
        count = len(carried)
        gathered: list[list[Tensor]] = [[] for _ in range(len(body.outputs) - 1 - count)]
        turn, state = 0, list(carried)
        going = torch.tensor(True) if going is None else going
        while (most is None or turn < most.item()) and bool(going.item()):
            going, *made = body.run(values, (torch.tensor(turn), going, *state))
            state = made[:count]
            for each, value in zip(gathered, made[count:], strict=True):
                each.append(value)
            turn += 1
        return (*state, *(torch.stack(each) if each else torch.zeros(0) for each in gathered))

    return Scoped(run)


def _scan(call: Call) -> Scoped:
    body, scanned = call.bodies["body"], call.integer("num_scan_inputs")
    kept = len(body.inputs) - scanned
    results = len(body.outputs) - kept
    axes, backwards = call.integers("scan_input_axes"), call.integers("scan_input_directions")
    out_axes, out_backwards = call.integers("scan_output_axes"), call.integers("scan_output_directions")

    def run(values: list[Any], *inputs: Tensor) -> tuple[Any, ...]:
        state = list(inputs[:kept])
        lists = []
        for k, one in enumerate(inputs[kept:]):
            steps = one.unbind(axes[k] if axes else 0)
            lists.append(steps[::-1] if backwards and backwards[k] else steps)
        gathered: list[list[Tensor]] = [[] for _ in range(results)]
        for parts in zip(*lists, strict=True):
            made = body.run(values, (*state, *parts))
            state = made[:kept]
            for each, value in zip(gathered, made[kept:], strict=True):
                each.append(value)
        stacked = []
        for k, each in enumerate(gathered):
            each = each[::-1] if out_backwards and out_backwards[k] else each
            stacked.append(torch.stack(each, out_axes[k] if out_axes else 0) if each else torch.zeros(0))
        return (*state, *stacked)

    return Scoped(run)


OPERATORS: Operators = {
    "If": [(1, _if)],
    "Loop": [(1, _loop)],
    "Scan": [(9, _scan)],
}

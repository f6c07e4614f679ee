"""One step of each recurrent operator."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from graphopt.training.call import Call, Run

Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]
"""From what the input brings at one step, and the state, to the new state, whose first part is the output."""


def unchanged(x: Tensor) -> Tensor:
    """`x` as it is."""
    return x


def _clipped(call: Call) -> Callable[[Tensor], Tensor]:
    limit = call.number("clip")
    return (lambda x: torch.clamp(x, -limit, limit)) if limit else (lambda x: x)


def lstm(
    call: Call, r: Tensor, bias: Tensor, functions: list[Run], peepholes: Tensor | None, narrow: Run = unchanged
) -> Step:
    """A step of an LSTM; `narrow` is what happens to the state before the product."""
    f, g, h = functions
    clip, coupled, hidden = _clipped(call), bool(call.integer("input_forget")), r.shape[-1]
    recur = r.t()
    p_in, p_out, p_forget = torch.split(peepholes, hidden) if peepholes is not None else (None, None, None)

    def step(brought: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        last, cell = state
        into, out, forget, fresh = torch.split(brought + torch.matmul(narrow(last), recur) + bias, hidden, 1)
        if p_in is not None and p_forget is not None:
            into, forget = into + p_in * cell, forget + p_forget * cell
        opened = f(clip(into))
        kept = 1 - opened if coupled else f(clip(forget))
        new = kept * cell + opened * g(clip(fresh))
        out = out if p_out is None else out + p_out * new
        return f(clip(out)) * h(new), new  # onnxruntime clips gates only

    return step


def gru(call: Call, r: Tensor, bias: Tensor, functions: list[Run], peepholes: Tensor | None) -> Step:
    """A step of a GRU, of either form."""
    f, g = functions
    clip, late, hidden = _clipped(call), bool(call.integer("linear_before_reset")), r.shape[-1]
    gates, fresh = r[: 2 * hidden].t(), r[2 * hidden :].t()

    def step(brought: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (last,) = state
        both = brought[:, : 2 * hidden] + torch.matmul(last, gates) + bias[: 2 * hidden]
        update, reset = (f(clip(one)) for one in torch.split(both, hidden, 1))
        if late:
            inner = reset * (torch.matmul(last, fresh) + bias[2 * hidden :])
        else:
            inner = torch.matmul(reset * last, fresh) + bias[2 * hidden :]
        new = g(clip(brought[:, 2 * hidden :] + inner))
        return ((1 - update) * new + update * last,)

    return step


def rnn(call: Call, r: Tensor, bias: Tensor, functions: list[Run], peepholes: Tensor | None) -> Step:
    """A step of a plain recurrent network."""
    (f,), clip, recur = functions, _clipped(call), r.t()
    return lambda brought, state: (f(clip(brought + torch.matmul(state[0], recur) + bias)),)

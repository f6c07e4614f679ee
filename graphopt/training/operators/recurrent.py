"""LSTM, GRU and RNN: in torch's own kernels where the call is a plain one, else step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from graphopt.training.call import Call, Operators, Run
from graphopt.training.operators.cells import Step, gru, lstm, rnn
from graphopt.training.operators.gates import activations
from graphopt.training.operators.movement import reversed_places
from graphopt.training.operators.quantization import dynamic_codes

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_TORCH_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}


def _recurrent(call: Call) -> Run:
    kind, way = call.op, call.text("direction", "forward")
    batch_first = bool(call.integer("layout"))
    names = call.texts("activations")
    plain = names is None or tuple(name.lower() for name in names) == tuple(
        name.lower() for name in _DEFAULTS[kind] * (2 if way == "bidirectional" else 1)
    )
    plain = plain and kind in _TORCH_ORDER and not call.attrs.get("clip") and not call.integer("input_forget")
    plain = plain and not (kind == "GRU" and not call.integer("linear_before_reset"))

    def run(
        x: Tensor,
        w: Tensor,
        r: Tensor,
        b: Tensor | None = None,
        lengths: Tensor | None = None,
        h: Tensor | None = None,
        c: Tensor | None = None,
        peepholes: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        x = x.transpose(0, 1) if batch_first else x
        shape = (w.shape[0], x.shape[1], r.shape[-1])
        first = [_start(h, shape, x, batch_first)]
        if kind == "LSTM":
            first.append(_start(c, shape, x, batch_first))
        if lengths is not None and bool((lengths == x.shape[0]).all()):
            lengths = None
        if plain and lengths is None and peepholes is None and x.shape[0] and x.shape[1]:
            y, states = _native(kind, way, x, w, r, b, first)
        else:
            y, states = _stepwise(kind, call, x, w, r, b, lengths, first, peepholes)
        if batch_first:
            y, states = y.permute(2, 0, 1, 3), [one.transpose(0, 1) for one in states]
        return (y, *states)

    return run


def _start(given: Tensor | None, shape: Sequence[int], x: Tensor, batch_first: bool) -> Tensor:
    if given is None:
        return torch.zeros(tuple(shape), dtype=x.dtype)
    return given.transpose(0, 1) if batch_first else given


def _native(
    kind: str, way: str, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, first: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    weights: list[Tensor] = []
    hidden, count = r.shape[-1], _GATES[kind]

    def ordered(one: Tensor) -> Tensor:
        parts = torch.split(one, hidden)
        return torch.cat([parts[k] for k in _TORCH_ORDER[kind]])

    for d in range(w.shape[0]):
        weights += [ordered(w[d]), ordered(r[d])]
        if b is not None:
            weights += [ordered(b[d, : count * hidden]), ordered(b[d, count * hidden :])]
    function: Any = torch.lstm if kind == "LSTM" else torch.gru
    state = tuple(one.contiguous() for one in first)
    turned = x.flip(0) if way == "reverse" else x
    y, *states = function(
        turned,
        state if kind == "LSTM" else state[0],
        weights,
        b is not None,
        1,
        0.0,
        False,
        way == "bidirectional",
        False,
    )
    y = y.flip(0) if way == "reverse" else y
    return y.reshape(*y.shape[:2], w.shape[0], hidden).transpose(1, 2), list(states)


def _stepwise(
    kind: str,
    call: Call,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    lengths: Tensor | None,
    first: list[Tensor],
    peepholes: Tensor | None,
    narrow: Run | None = None,
) -> tuple[Tensor, list[Tensor]]:
    way, hidden = call.text("direction", "forward"), r.shape[-1]
    more = () if narrow is None else (narrow,)
    each = len(_DEFAULTS[kind])
    functions = activations(call, _DEFAULTS[kind] * w.shape[0])
    width = _GATES[kind] * hidden
    outputs, finals = [], []
    for d in range(w.shape[0]):
        turned = way == "reverse" or d == 1
        places = None
        if turned:
            full = lengths if lengths is not None else torch.full((x.shape[1],), x.shape[0])
            places = (reversed_places(full, x.shape[0]), torch.arange(x.shape[1]))
        own = x if places is None else x[places]
        bias = b[d] if b is not None else torch.zeros(2 * width, dtype=x.dtype)
        chosen = functions[d * each : (d + 1) * each]
        step = _MAKERS[kind](call, r[d], bias[width:], chosen, None if peepholes is None else peepholes[d], *more)
        brought = torch.matmul(own, w[d].t()) + bias[:width]
        state = tuple(one[d] for one in first)
        made = []
        for t in range(x.shape[0]):
            new = step(brought[t], state)
            out = new[0]
            if lengths is not None:
                open_ = (t < lengths).unsqueeze(1)
                new = tuple(torch.where(open_, after, before) for after, before in zip(new, state, strict=True))
                out = torch.where(open_, out, torch.zeros((), dtype=out.dtype))
            state = new
            made.append(out)
        y = torch.stack(made) if made else brought.new_zeros(0, x.shape[1], hidden)
        outputs.append(y if places is None else y[places])
        finals.append(state)
    return torch.stack(outputs, 1), [torch.stack(parts) for parts in zip(*finals, strict=True)]


_MAKERS: dict[str, Callable[..., Step]] = {"LSTM": lstm, "GRU": gru, "RNN": rnn}


def _quantized(call: Call) -> Run:
    """onnxruntime's LSTM of integer weights: input and state are rounded to bytes before each product.

    The state of the whole batch has one range, as on one thread; on more, onnxruntime takes the batch in parts.
    """
    if call.has(7):
        raise call.refuse("peepholes are not known here")

    def run(
        x: Tensor,
        w: Tensor,
        r: Tensor,
        b: Tensor | None,
        lengths: Tensor | None,
        h: Tensor | None,
        c: Tensor | None,
        peepholes: Tensor | None,
        *grids: Tensor,
    ) -> tuple[Tensor, ...]:
        wide, deep = _unpacked(w, grids[0], grids[1]), _unpacked(r, grids[2], grids[3])
        shape = (w.shape[0], x.shape[1], deep.shape[-1])
        first = [_start(h, shape, x, False), _start(c, shape, x, False)]
        y, states = _stepwise("LSTM", call, _narrow(x), wide, deep, b, lengths, first, None, _narrow)
        return (y, *states)

    return run


def _unpacked(codes: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Weights from codes of [directions, inputs, gates], as LSTM has them: [directions, gates, inputs]."""
    step, offset = (one.reshape(codes.shape[0], 1, -1) for one in (scale, zero))
    return ((codes.to(step.dtype) - offset.to(step.dtype)) * step).transpose(1, 2)


def _narrow(x: Tensor) -> Tensor:
    codes, scale, zero = dynamic_codes(x)
    return (codes - zero) * scale


OPERATORS: Operators = {
    "LSTM": [(7, _recurrent)],
    "GRU": [(7, _recurrent)],
    "RNN": [(7, _recurrent)],
}

CONTRIB: Operators = {"DynamicQuantizeLSTM": [(1, _quantized)]}

"""LSTM, GRU and RNN against onnxruntime: directions, layouts, lengths, peepholes, activations, clipping."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from one_operator import Array, agree, floats

pytest.importorskip("torch", reason="needs the extra: pip install 'graphopt[distill]'")

T, B, H = 5, 3, 6
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
WAYS = ("forward", "reverse", "bidirectional")
LENGTHS = np.array([5, 2, 4], np.int32)


def operands(op: str, way: str, *, states: bool = True, bias: bool = True) -> list[Array | None]:
    n, g = (2 if way == "bidirectional" else 1), GATES[op]
    found: list[Array | None] = [
        floats(T, B, 4),
        floats(n, g * H, 4, seed=1) / 2,
        floats(n, g * H, H, seed=2) / 2,
        floats(n, 2 * g * H, seed=3) if bias else None,
        None,
        floats(n, B, H, seed=4) if states else None,
    ]
    return [*found, floats(n, B, H, seed=5) if states else None] if op == "LSTM" else found


def outputs(op: str) -> int:
    return 3 if op == "LSTM" else 2


@pytest.mark.parametrize(("op", "way"), list(itertools.product(GATES, WAYS)))
def test_directions(op: str, way: str) -> None:
    for states, bias in ((True, True), (False, False)):
        given = operands(op, way, states=states, bias=bias)
        agree(op, *given, direction=way, hidden_size=H, outputs=outputs(op))


@pytest.mark.parametrize(("op", "way"), list(itertools.product(GATES, WAYS)))
def test_lengths(op: str, way: str) -> None:
    given = operands(op, way)
    given[4] = LENGTHS
    agree(op, *given, direction=way, hidden_size=H, outputs=outputs(op))
    given[4] = np.full(B, T, np.int32)
    agree(op, *given, direction=way, hidden_size=H, outputs=outputs(op))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("late", [0, 1])
def test_both_forms_of_gru(way: str, late: int) -> None:
    given = operands("GRU", way)
    agree("GRU", *given, direction=way, hidden_size=H, linear_before_reset=late, outputs=2)
    given[4] = LENGTHS
    agree("GRU", *given, direction=way, hidden_size=H, linear_before_reset=late, outputs=2)


@pytest.mark.parametrize("way", WAYS)
def test_peepholes(way: str) -> None:
    n = 2 if way == "bidirectional" else 1
    agree("LSTM", *operands("LSTM", way), floats(n, 3 * H, seed=6), direction=way, hidden_size=H, outputs=3)


def test_coupled_gates() -> None:
    agree("LSTM", *operands("LSTM", "forward"), input_forget=1, hidden_size=H, outputs=3)


@pytest.mark.parametrize("op", list(GATES))
def test_clipping(op: str) -> None:
    agree(op, *operands(op, "forward"), hidden_size=H, clip=0.4, outputs=outputs(op))


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("LSTM", {"activations": ["Sigmoid", "Tanh", "Tanh"]}),
        ("LSTM", {"activations": ["HardSigmoid", "Relu", "Softsign"], "activation_alpha": [0.3]}),
        ("LSTM", {"activations": ["HardSigmoid", "Elu", "Tanh"], "activation_alpha": [0.3, 0.6]}),
        ("GRU", {"activations": ["HardSigmoid", "LeakyRelu"], "activation_alpha": [0.3, 0.1]}),
        ("RNN", {"activations": ["Relu"]}),
        ("RNN", {"activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.1]}),
        ("RNN", {"activations": ["ScaledTanh"], "activation_alpha": [0.5], "activation_beta": [0.7]}),
    ],
)
def test_activations(op: str, attrs: dict[str, Any]) -> None:
    agree(op, *operands(op, "forward"), hidden_size=H, outputs=outputs(op), **attrs)


def test_batch_first() -> None:
    import torch

    from graphopt.training.call import Call
    from graphopt.training.operators.recurrent import OPERATORS

    for op in GATES:
        given = [None if one is None else torch.from_numpy(one) for one in operands(op, "bidirectional")]
        maker = OPERATORS[op][0][1]
        runs = []
        for layout in (0, 1):
            attrs = {"hidden_size": H, "direction": "bidirectional", "layout": layout}
            run: Any = maker(Call(op, "", 21, op, attrs, (), (True, True, True)))
            moved = [one if k in (1, 2, 3) or one is None else one.transpose(0, 1) for k, one in enumerate(given)]
            moved = moved if layout else given
            runs.append(run(*moved))
        assert torch.equal(runs[0][0].permute(2, 0, 1, 3), runs[1][0])
        assert torch.equal(runs[0][1].transpose(0, 1), runs[1][1])

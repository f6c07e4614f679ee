"""The activation functions that recurrent operators name, with their parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from graphopt.training.call import Call, Run

_PLAIN: dict[str, Run] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "softsign": functional.softsign,
    "softplus": functional.softplus,
}
_DEFAULTS: dict[str, tuple[float, ...]] = {
    "affine": (1.0, 0.0),
    "leakyrelu": (0.01,),
    "thresholdedrelu": (1.0,),
    "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5),
    "elu": (1.0,),
}


def _tuned(name: str, alpha: float, beta: float) -> Run:
    functions: dict[str, Callable[[Any], Any]] = {
        "affine": lambda x: alpha * x + beta,
        "leakyrelu": lambda x: functional.leaky_relu(x, alpha),
        "thresholdedrelu": lambda x: torch.where(x > alpha, x, torch.zeros((), dtype=x.dtype)),
        "scaledtanh": lambda x: alpha * torch.tanh(beta * x),
        "hardsigmoid": lambda x: torch.clamp(alpha * x + beta, 0, 1),
        "elu": lambda x: functional.elu(x, alpha),
    }
    return functions[name]


def activations(call: Call, defaults: Sequence[str]) -> list[Run]:
    """The functions of a call in order; those that take parameters use up the lists of them."""
    names = [name.lower() for name in call.texts("activations") or defaults]
    alphas, betas = list(call.numbers("activation_alpha") or ()), list(call.numbers("activation_beta") or ())
    found: list[Run] = []
    for name in names:
        if name in _PLAIN:
            found.append(_PLAIN[name])
            continue
        if name not in _DEFAULTS:
            raise call.refuse(f"the activation {name} is not known here")
        default = _DEFAULTS[name]
        alpha = alphas.pop(0) if alphas else default[0]
        beta = (betas.pop(0) if betas else default[1]) if len(default) > 1 else 0.0
        found.append(_tuned(name, alpha, beta))
    return found

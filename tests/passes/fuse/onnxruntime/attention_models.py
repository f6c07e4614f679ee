"""Attention written out in small steps, with some of them changed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from graphopt.testing import Applied, apply, model
from passes.fuse.onnxruntime.attention import OrtAttention

OP = "com.microsoft.MultiHeadAttention"
TURN, TURN_K = "Transpose<perm=[0, 2, 1, 3]>", "Transpose<perm=[0, 2, 3, 1]>"
STEPS = {
    "qh": "Reshape(q, cut)",
    "kh": "Reshape(k, cut)",
    "vh": "Reshape(v, cut)",
    "qt": f"{TURN}(qh)",
    "kt": f"{TURN_K}(kh)",
    "vt": f"{TURN}(vh)",
    "p": "MatMul(qt, kt)",
    "s": "Mul(p, half)",
    "w": "Softmax<axis=-1>(s)",
    "o": "MatMul(w, vt)",
    "t": f"{TURN}(o)",
    "y": "Reshape(t, join)",
}
KNOWN: dict[str, Any] = {
    "cut": np.array([0, 0, 2, 4]),
    "join": np.array([0, 0, 8]),
    "half": np.float32(0.5),
    "quarter": np.float32(0.25),
    "two": np.float32(2),
    "minus": np.float32(-1),
    "wide": np.full((1, 1, 1, 1, 1), 0.5, np.float32),
    "vector": np.linspace(0.5, 1, 4, dtype=np.float32),
}


def text_of(steps: dict[str, str], inputs: str, outputs: str = "", shape: str = "", opset: int = 17) -> str:
    nodes = " ".join(f"{name} = {call}" for name, call in steps.items())
    head = f'<ir_version: 8, opset_import: ["": {opset}]>'
    return f"{head} g ({inputs}) => (float[{shape or 'B, S, 8'}] y{outputs}) {{ {nodes} }}"


def attention(
    changed: dict[str, str] | None = None,
    *,
    q: str = "B, S, 8",
    k: str = "B, L, 8",
    v: str = "B, L, 8",
    more: str = "",
    outputs: str = "",
    shape: str = "",
    opset: int = 17,
    feeds: Any = None,
    **weights: Any,
) -> Applied:
    """The pass on the usual form with some lines changed or added; new lines come before the line that reads them."""
    steps: dict[str, str] = {}
    changed = changed or {}
    pending = {name: call for name, call in changed.items() if name not in STEPS}
    for name, call in STEPS.items():
        call = changed.get(name, call)
        if not call:
            continue
        wanted = _behind(call, pending)
        for new in [one for one in pending if one in wanted]:
            steps[new] = pending.pop(new)
        steps[name] = call
    steps |= pending
    inputs = f"float[{q}] q, float[{k}] k, float[{v}] v{more}"
    text = text_of(steps, inputs, outputs, shape, opset)
    known = KNOWN | weights
    words = set(re.findall(r"\w+", text))
    return apply(OrtAttention(), model(text, **{n: one for n, one in known.items() if n in words}), feeds=feeds)


def _behind(call: str, pending: dict[str, str]) -> set[str]:
    found: set[str] = set()
    todo = [call]
    while todo:
        words = set(re.findall(r"\w+", todo.pop())) & set(pending) - found
        found |= words
        todo += [pending[one] for one in words]
    return found

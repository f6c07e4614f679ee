"""Models as text: stable, complete in structure, with weights as hashes."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from graphopt.ir import Constant, decode
from graphopt.ir.text import to_text
from graphopt.storage.read import from_proto
from graphopt.testing import model


def text(**weights: np.ndarray) -> str:  # type: ignore[type-arg]
    body = """g (float[N,4] x, bool c) => (float[?,?] y) {
        a = MatMul(x, w)
        b = LeakyRelu<alpha = 0.5>(a)
        y = If (c) <
            then_branch = t () => (float[?,?] p) { p = Relu(b) },
            else_branch = e () => (float[?,?] q) { q = Neg(b) }
        >
    }"""
    source = from_proto(model(body, **weights), None)
    return to_text(decode(source.proto, source.store))


def test_nodes_bodies_and_weights_are_there() -> None:
    shown = text(w=np.arange(16, dtype=np.float32).reshape(4, 4))
    assert "b = LeakyRelu<alpha=0.5>(a)" in shown
    assert "then_branch: t () -> (float[?,?] p) {" in shown
    assert "float[4,4] #" in shown


def test_the_hash_tells_weights_apart_and_small_ones_are_written_out() -> None:
    ones = np.ones((4, 4), np.float32)
    assert text(w=ones) == text(w=ones.copy())
    assert text(w=ones) != text(w=ones * 2)
    assert "float[4,2] {1.0, 1.0" in text(w=np.ones((4, 2), np.float32))


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_weight_is_hashed_without_a_copy_of_its_bytes(order: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphopt.ir import text

    values = np.asarray(np.random.default_rng(0).standard_normal((40, 50)).astype(np.float32), order=order)
    wanted = hashlib.sha256(values.tobytes()).hexdigest()[:12]
    seen = []
    whole = hashlib.sha256
    monkeypatch.setattr(text.hashlib, "sha256", lambda data: seen.append(data) or whole(data))
    assert text.content(Constant("w", values)) == f"float[40,50] #{wanted}"
    (data,) = seen
    assert np.shares_memory(np.frombuffer(data, np.uint8), values) == (order == "C")

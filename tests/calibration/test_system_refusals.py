"""What the system refuses a service of a run is not the fault of the pass that asked."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import graphopt
from graphopt.calibration.observe import Observer
from graphopt.errors import OverLimit, UsageError
from graphopt.testing import model


def _optimized(folder: Path) -> Any:
    weight = np.random.default_rng(3).standard_normal((8, 8)).astype(np.float32)
    onnx.save(model("g (float[N,8] x) => (float[N,8] y) { y = MatMul(x, w) }", w=weight), folder / "net.onnx")
    np.savez(folder / "feeds.npz", x=np.ones((4, 8), np.float32))
    return graphopt.optimize(
        folder / "net.onnx", pipeline="static-int8", feeds=folder / "feeds.npz", budget=["sqnr_db>=5"], validate="none"
    )


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.EIO, UsageError, "the system refused to go on at 'versions': input/output error"),
        (errno.EMFILE, OverLimit, "the system refused to go on at 'versions': too many open files"),
    ],
)
def test_what_the_system_refuses_a_service_does_not_blame_the_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], said: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no", "versions")

    monkeypatch.setattr(Observer, "_survey", refuse)
    with pytest.raises(kind, match="the system refused") as caught:
        _optimized(tmp_path)
    assert str(caught.value).startswith(said)
    assert "pass static-int8" not in str(caught.value)

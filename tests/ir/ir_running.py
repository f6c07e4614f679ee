"""A model that scripts edit, and what onnxruntime makes of the result."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime

from graphopt.ir import Graph, encode
from graphopt.testing.links import check_links

MODEL = """
main (float[N,4] x) => (float[N,4] y)
<float[4] w = {1.0, 2.0, 3.0, 4.0}, float[4] low = {0.0, 0.0, 0.0, 0.0}, float[4] high = {6.0, 6.0, 6.0, 6.0}>
{
    [scale] a = Mul(x, w)
    [copy] b = Identity(a)
    [min] c = Min(b, high)
    [max] d = Max(c, low)
    [last] y = Neg(d)
}
"""
X = np.array([[-1, 0.5, 1, 2], [3, 2, 1, 0]], np.float32)
SCALED = X * np.array([1, 2, 3, 4], np.float32)
EXPECTED = -np.clip(SCALED, 0, 6)


def ran(graph: Graph, **feeds: Any) -> list[Any]:
    """Outputs of the model that the graph is now, which is valid and whose links agree."""
    check_links(graph.copy())  # a copy is without the loose ends that scripts may leave
    proto = encode(graph).proto
    assert encode(graph.copy()).proto == proto
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds or {"x": X}))


def is_close(result: Any, expected: Any) -> bool:
    return bool(np.allclose(result, expected, atol=1e-6)) and np.shape(result) == np.shape(expected)

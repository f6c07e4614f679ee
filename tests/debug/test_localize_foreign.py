"""Two models that share no name: what was fused under fresh names and miscompiled is named all the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.session.comparing import localize

_LAYERS, _WIDTH = 6, 24


def _weights() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(11)
    return [
        (
            (rng.standard_normal((_WIDTH, _WIDTH)) / np.sqrt(_WIDTH) * 1.4).astype(np.float32),
            (rng.standard_normal(_WIDTH) * 0.3).astype(np.float32),
        )
        for _ in range(_LAYERS)
    ]


def _model(nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], given: str, made: str) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(given, TensorProto.FLOAT, ["N", _WIDTH])],
        [helper.make_tensor_value_info(made, TensorProto.FLOAT, ["N", _WIDTH])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def original(residual: bool) -> onnx.ModelProto:
    """Layers of MatMul, Add and Relu; with residual connections like those of a transformer's feed-forward part."""
    nodes, tensors, value = [], {}, "x"
    for k, (matrix, bias) in enumerate(_weights()):
        tensors |= {f"w{k}": matrix, f"b{k}": bias}
        nodes.append(helper.make_node("MatMul", [value, f"w{k}"], [f"product{k}"], name=f"matmul{k}"))
        nodes.append(helper.make_node("Add", [f"product{k}", f"b{k}"], [f"sum{k}"], name=f"add{k}"))
        nodes.append(helper.make_node("Relu", [f"sum{k}"], [f"relu{k}"], name=f"relu{k}"))
        if residual:
            nodes.append(helper.make_node("Add", [f"relu{k}", value], [f"skip{k}"], name=f"skip{k}"))
        value = f"skip{k}" if residual else f"relu{k}"
    return _model(nodes, tensors, "x", value)


def fused(residual: bool, wrong: int, how: str) -> onnx.ModelProto:
    """The same as another tool might write it: a Gemm a layer, other names; layer `wrong` is miscompiled."""
    nodes, tensors, value = [], {}, "in0"
    for k, (matrix, bias) in enumerate(_weights()):
        fault = how if k == wrong else ""
        tensors[f"p{k}"] = matrix if fault == "weight transposed" else matrix.T.copy()
        tensors[f"q{k}"] = bias
        inputs = [value, f"p{k}"] if fault == "bias dropped" else [value, f"p{k}", f"q{k}"]
        nodes.append(helper.make_node("Gemm", inputs, [f"v{3 * k}"], name=f"op{3 * k}", transB=1))
        after = f"v{3 * k}"
        if fault != "activation dropped":
            nodes.append(helper.make_node("Relu", [after], [f"v{3 * k + 1}"], name=f"op{3 * k + 1}"))
            after = f"v{3 * k + 1}"
        if residual:
            nodes.append(helper.make_node("Add", [value, after], [f"v{3 * k + 2}"], name=f"op{3 * k + 2}"))
            after = f"v{3 * k + 2}"
        value = after
    return _model(nodes, tensors, "in0", value)


def _saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("layer", range(_LAYERS))
@pytest.mark.parametrize(
    ("how", "value"), [("weight transposed", "sum"), ("bias dropped", "sum"), ("activation dropped", "relu")]
)
def test_the_miscompiled_layer_is_named(residual: bool, layer: int, how: str, value: str, tmp_path: Path) -> None:
    before = _saved(original(residual), tmp_path / "a.onnx")
    after = _saved(fused(residual, layer, how), tmp_path / "b.onnx")
    found = localize(before, after)
    assert found.first is not None
    last_plain = not residual and layer == _LAYERS - 1
    if how == "activation dropped" and last_plain:  # the output itself is what differs
        assert found.first.value == f"relu{layer}"
        return
    assert found.first.value == f"{value}{layer}"
    assert any(str(layer) in node for node in found.first.nodes_before)
    assert found.first.reading.is_born


@pytest.mark.parametrize("residual", [False, True])
def test_a_right_translation_diverges_nowhere(residual: bool, tmp_path: Path) -> None:
    before = _saved(original(residual), tmp_path / "a.onnx")
    after = _saved(fused(residual, -1, ""), tmp_path / "b.onnx")
    found = localize(before, after)
    assert found.first is None
    assert found.matched["value"] >= 2 * _LAYERS - 1

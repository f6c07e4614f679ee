"""Programs: what they compute, what they let gradients through, and what they keep between runs."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from graphopt.errors import UsageError
from graphopt.testing.text import model
from graphopt.training.program import Program
from graphopt.training.refusal import Unsupported

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'graphopt[distill]'")

PERCEPTRON = """g (float[N, 4] x) => (float[N, 3] y) {
    h = MatMul(x, w)
    b = Add(h, v)
    r = Relu(b)
    y = MatMul(r, u)
}"""


def perceptron() -> Any:
    rng = np.random.default_rng(0)
    return model(
        PERCEPTRON,
        w=rng.standard_normal((4, 5), np.float32),
        v=rng.standard_normal(5, np.float32),
        u=rng.standard_normal((5, 3), np.float32),
    )


def fed(seed: int = 1) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((2, 4), np.float32))


def test_outputs_are_those_of_onnxruntime() -> None:
    proto = perceptron()
    (expected,) = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": fed().numpy()})
    np.testing.assert_allclose(Program.of(proto)({"x": fed()})["y"].numpy(), expected, rtol=1e-5)


def test_parameters_are_the_float_weights_by_name() -> None:
    program = Program.of(perceptron())
    assert sorted(program.parameters) == ["u", "v", "w"]
    assert program.inputs == ("x",)
    assert program.outputs == ("y",)


def test_gradients_reach_the_weights_that_ask_for_them() -> None:
    program = Program.of(perceptron())
    program.parameters["w"].requires_grad_(True)
    program({"x": fed()})["y"].sum().backward()
    assert program.parameters["w"].grad.abs().sum() > 0
    assert program.parameters["u"].grad is None


def test_values_inside_can_be_asked_for() -> None:
    made = Program.of(perceptron())({"x": fed()}, wanted=["r", "h"])
    assert sorted(made) == ["h", "r", "y"]
    assert made["r"].min() >= 0


def test_values_inside_can_be_fed() -> None:
    program = Program.of(perceptron())
    made = program({"x": fed()}, wanted=["r"])
    again = program({"r": made["r"]})
    assert torch.equal(made["y"], again["y"])


def test_only_some_outputs() -> None:
    assert list(Program.of(perceptron())({"x": fed()}, wanted=["h"], outputs=())) == ["h"]


def test_parameters_can_be_replaced_at_a_call() -> None:
    program = Program.of(perceptron())
    mask = torch.zeros(5, 3, requires_grad=True)
    made = program({"x": fed()}, parameters={"u": program.parameters["u"] * mask})
    assert made["y"].abs().sum() == 0
    made["y"].sum().backward()
    assert mask.grad is not None


def test_a_model_of_constants_is_computed_once_until_they_change() -> None:
    program = Program.of(model("g (float[2] x) => (float[2] y) { s = Exp(w)\n y = Mul(x, s) }", w=np.zeros(2, "f4")))
    x = torch.ones(2)
    assert program({"x": x})["y"].tolist() == [1, 1]
    assert len(next(iter(program._plans.values())).steps) == 1
    program.parameters["w"].fill_(1.0)
    assert program({"x": x})["y"].tolist() == pytest.approx([np.e, np.e])


def test_a_trained_constant_is_computed_each_time() -> None:
    program = Program.of(model("g (float[2] x) => (float[2] y) { s = Exp(w)\n y = Mul(x, s) }", w=np.zeros(2, "f4")))
    program.parameters["w"].requires_grad_(True)
    program({"x": torch.ones(2)})["y"].sum().backward()
    assert program.parameters["w"].grad.tolist() == [1, 1]


def test_an_unknown_operator_is_refused_by_name() -> None:
    proto = model(
        '<ir_version: 10, opset_import: ["": 21, "my.own": 1]> g (float[2] x) => (float[2] y) { y = my.own.Strange(x) }'
    )
    with pytest.raises(Unsupported, match=r"the operator my\.own\.Strange \(node .* cannot be trained through"):
        Program.of(proto)


def test_a_model_too_old_is_refused_with_the_way_out() -> None:
    proto = model('<ir_version: 7, opset_import: ["": 6]> g (float[2] x) => (float[2] y) { y = Add(x, x) }')
    with pytest.raises(Unsupported, match=r"opset\{to=7\}"):
        Program.of(proto)


def test_inputs_that_are_not_fed_are_named() -> None:
    with pytest.raises(UsageError, match="input 'x' is not fed"):
        Program.of(perceptron())({})


@pytest.mark.parametrize(
    "keywords", [{"wanted": ["nothing"]}, {"parameters": {"nothing": None}}, {"outputs": ["nothing"]}]
)
def test_unknown_names_are_refused(keywords: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="'nothing'"):
        Program.of(perceptron())({"x": fed()}, **keywords)


def test_everything_in_another_float_type() -> None:
    program = Program.of(perceptron(), compute="float64")
    assert program({"x": fed()})["y"].dtype == torch.float64


def test_a_type_that_is_no_float_is_refused() -> None:
    with pytest.raises(UsageError, match="'int8' is no float type"):
        Program.of(perceptron(), compute="int8")


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.training.extra.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'graphopt\[distill\]'"):
        Program.of(perceptron())


def test_importing_the_program_does_not_import_torch() -> None:
    import subprocess

    code = "import sys, graphopt.training.program, graphopt.training.agreement; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

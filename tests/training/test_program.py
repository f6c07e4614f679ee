"""Programs: what they compute, what they let gradients through, and what they keep between runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from graphopt.errors import BadModel, UsageError
from graphopt.ir import decode
from graphopt.ir.store import Store
from graphopt.testing.text import model
from graphopt.training.extra import threads
from graphopt.training.program import Program
from graphopt.training.refusal import Unsupported

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'graphopt[distill]'")

from graphopt.training.compiled import missing  # noqa: E402  (it needs torch)

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


def test_defaults_of_inputs_are_parameters_that_feeds_replace() -> None:
    program = Program.of(model("g (float[2] x, float[2] w) => (float[2] y) { y = Mul(x, w) }", w=np.full(2, 3, "f4")))
    assert program({"x": torch.ones(2)})["y"].tolist() == [3, 3]
    assert program({"x": torch.ones(2), "w": torch.zeros(2)})["y"].tolist() == [0, 0]


def test_half_precision_models_are_computed_in_single() -> None:
    rng = np.random.default_rng(0)
    proto = model(
        "g (float[N, 8] x) => (float[N, 3] y) { h = Cast<to = 10>(x) p = MatMul(h, w) y = Cast<to = 1>(p) }",
        w=rng.standard_normal((8, 3)).astype(np.float16),
    )
    x = rng.standard_normal((4, 8)).astype(np.float32)
    (expected,) = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    program = Program.of(proto, compute="float32")
    assert program.parameters["w"].dtype == torch.float32
    np.testing.assert_allclose(program({"x": torch.from_numpy(x)})["y"].numpy(), expected, atol=0.01)
    plain = Program.of(proto)
    assert plain.parameters["w"].dtype == torch.float16
    np.testing.assert_allclose(plain({"x": torch.from_numpy(x)})["y"].numpy(), expected, atol=0.01)


def test_bfloat16_weights() -> None:
    import ml_dtypes

    weights = np.array([1.5, -2.25], ml_dtypes.bfloat16)
    program = Program.of(model("g (bfloat16[2] x) => (bfloat16[2] y) { y = Mul(x, w) }", w=weights))
    assert program.parameters["w"].tolist() == [1.5, -2.25]


def test_feeds_that_do_not_fit_are_refused_with_the_node() -> None:
    with pytest.raises(BadModel, match=r"node 'MatMul\(h\)' cannot be computed on inputs of shapes \[2, 7\], \[4, 5\]"):
        Program.of(perceptron())({"x": torch.ones(2, 7)})


def test_strings_are_refused() -> None:
    proto = model(
        "g (float[2] x) => (float[2] y) { s = Shape(t) f = Cast<to = 1>(s) y = Add(x, f) }", t=np.array(["a"])
    )
    with pytest.raises(Unsupported, match="element type string cannot be trained through"):
        Program.of(proto)


def test_random_operators_are_refused() -> None:
    proto = model("g (float[2] x) => (float[2] y) { r = RandomNormalLike(x) y = Add(x, r) }")
    assert missing(decode(proto, Store())) == {"RandomNormalLike": 1}
    with pytest.raises(Unsupported, match="RandomNormalLike"):
        Program.of(proto)


def test_nodes_in_any_order() -> None:
    program = Program.of(model("g (float[2] x) => (float[2] y) { y = Neg(a) a = Exp(x) }"))
    assert program({"x": torch.zeros(2)})["y"].tolist() == [-1, -1]


def test_outputs_that_are_inputs_or_weights() -> None:
    program = Program.of(model("g (float[2] x) => (float[2] x, float[2] w) { }", w=np.ones(2, "f4")))
    made = program({"x": torch.zeros(2)})
    assert made["x"].tolist() == [0, 0]
    assert made["w"].tolist() == [1, 1]


def test_a_shared_weight_is_one_parameter() -> None:
    text = "g (float[2, 2] x) => (float[2, 2] y) { a = MatMul(x, w) y = MatMul(a, w) }"
    program = Program.of(model(text, w=np.eye(2, dtype=np.float32)))
    program.parameters["w"].requires_grad_(True)
    program({"x": torch.ones(2, 2)})["y"].sum().backward()
    assert program.parameters["w"].grad.tolist() == [[4, 4], [4, 4]]


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with threads(0):
        assert torch.get_num_threads() == before


def test_every_operator_is_in_one_family_with_ascending_versions() -> None:
    from graphopt.training.operators import table

    families = [one for one in vars(table).values() if hasattr(one, "OPERATORS")]
    standard = [one for one in families if not one.__name__.endswith(("contrib", "fused_attention"))]
    names = [op for one in standard for op in one.OPERATORS]
    assert sorted(names) == sorted(table.STANDARD)
    for operators in table.DOMAINS.values():
        for versions in operators.values():
            assert [since for since, _ in versions] == sorted({since for since, _ in versions})


def test_versions_are_those_of_the_standard() -> None:
    import onnx

    from graphopt.training.operators.table import STANDARD

    newest = onnx.defs.onnx_opset_version()
    for op, versions in STANDARD.items():
        if versions[0][0] <= newest:
            assert onnx.defs.has(op), op
            since = onnx.defs.get_schema(op, newest).since_version
            assert versions[-1][0] <= max(since, versions[0][0]), op

"""dynamic-batch: any batch size where samples stay apart, and a reason where they do not."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorAnnotation

from graphopt.testing import Applied, apply, assert_missed, model
from graphopt.testing.running import outputs_of
from passes.convert.dynamic_batch import DynamicBatch

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return RNG.standard_normal(shape).astype(np.float32)


def numbers(*values: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(values, np.int64)


def free(text: str, **weights: object) -> Applied:
    return apply(DynamicBatch(), model(text, **weights))


def holds(done: Applied, axis: int = 0, **shape: tuple[int, ...]) -> None:
    """Three samples at once give what they give one at a time."""
    data = {name: floats(3, *dims) for name, dims in shape.items()}
    whole = outputs_of(done.after.SerializeToString(), [data])[0]
    singles = [{name: one[i : i + 1] for name, one in data.items()} for i in range(3)]
    parts = outputs_of(done.before.SerializeToString(), singles)
    for name, value in whole.items():
        joined = np.concatenate([np.asarray(one[name]) for one in parts], axis)
        assert np.allclose(np.asarray(value), joined, rtol=1e-5, atol=1e-6)


def dims(proto: ModelProto) -> dict[str, list[object]]:
    infos = [*proto.graph.input, *proto.graph.output]
    return {one.name: [d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim] for one in infos}


def test_a_perceptron() -> None:
    done = free(
        "g (float[1, 4] x) => (float[1, 2] y) { a = Gemm(x, w, b)  c = Relu(a)  y = Softmax(c) }",
        w=floats(4, 2),
        b=floats(2),
    )
    assert dims(done.after) == {"x": ["N", 4], "y": ["N", 2]}
    assert [one.why for one in done.applied] == ["1 becomes N"]
    holds(done, x=(4,))


def test_a_reshape_that_states_the_size() -> None:
    done = free(
        """g (float[1, 2, 6] x) => (float[1, 3, 4] y) {
            a = Reshape(x, t)  b = Relu(a)  c = Reshape(b, u)  y = Neg(c)
        }""",
        t=numbers(1, -1),
        u=numbers(-1, 3, 4),
    )
    assert [one.name for one in done.after.graph.initializer] == ["u", "t_1"]
    holds(done, x=(2, 6))


def test_axes_that_move() -> None:
    done = free(
        """g (float[1, 5, 4] x) => (float[5, 1, 2] y, float[1, 1, 4] z) {
            a = Transpose<perm = [1, 0, 2]>(x)  y = MatMul(a, w)  m = ReduceMean<keepdims = 1>(x, one)  z = Add(m, v)
        }""",
        w=floats(4, 2),
        one=numbers(1),
        v=floats(4),
    )
    assert dims(done.after)["y"] == [5, "N", 2] and dims(done.after)["z"] == ["N", 1, 4]


def test_convolutions_and_recurrent_layers() -> None:
    done = free(
        """g (float[1, 3, 8] x) => (float[4, 1, 1, 2] y) {
            a = Conv<strides = [2], pads = [1, 1]>(x, k)  b = BatchNormalization(a, s, o, m, v)
            c = Transpose<perm = [2, 0, 1]>(b)  y, h = LSTM<hidden_size = 2>(c, w, r)
        }""",
        k=floats(5, 3, 4),
        s=floats(5),
        o=floats(5),
        m=floats(5),
        v=np.ones(5, np.float32),
        w=floats(1, 8, 5),
        r=floats(1, 8, 2),
    )
    assert dims(done.after)["y"] == [4, 1, "N", 2]
    holds(done, axis=2, x=(3, 8))


def test_quantized_values() -> None:
    done = free(
        """g (float[1, 4] x) => (float[1, 4] y) {
            q = QuantizeLinear(x, s, z)  a = DequantizeLinear(q, s, z)  r = QuantizeLinear<axis = 1>(a, c, d)
            y = DequantizeLinear<axis = 1>(r, c, d)
        }""",
        s=np.array(0.5, np.float32),
        z=np.array(3, np.uint8),
        c=np.full(4, 0.25, np.float32),
        d=np.zeros(4, np.uint8),
    )
    holds(done, x=(4,))


def test_a_model_of_ir_version_3() -> None:
    """There a new initializer would have to be an input."""
    done = free(
        """<ir_version: 3, opset_import: ["": 9]> g (float[1, 6] x) => (float[1, 2, 3] y) {
            t = Constant<value = int64[3] {1, 2, 3}>()  y = Reshape(x, t)
        }"""
    )
    assert done.body == "t_1 = Constant<value=int64[3] {0, 2, 3}>()\ny = Reshape(x, t_1)"


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ("y = ReduceSum<keepdims = 1>(x, zero)", "it reduces over samples"),
        ("y = Softmax<axis = 0>(x)", "works along the axis of the samples"),
        ("y = Add(x, rows)", "'rows' has a size of its own"),
        ("a = Reshape(x, all)  y = Identity(a)", "the shape that it makes begins with 8"),
        ("t = Transpose(x)  y = MatMul(t, x)", "it multiplies samples with each other"),
        ("s = Shape(x)  y = Reshape(x, s)", "Shape is not known to keep samples apart"),
        ("y = Concat<axis = 0>(x, rows)", "it joins samples with something else"),
        ("a = Unsqueeze(x, zero)  b = Relu(a)  y = Squeeze(b, one)", "it takes the axis of the samples away"),
        ("y = Slice(x, zero, one, zero)", "it takes some of the samples"),
        ("y = Flatten<axis = 0>(x)", "it puts samples and another axis together"),
        ("y = Expand(x, shape)", "Expand is not known to keep samples apart"),
    ],
)
def test_samples_that_are_mixed(nodes: str, why: str) -> None:
    done = apply(
        DynamicBatch(),
        model(
            f"g (float[2, 4] x) => (float[P, Q] y) {{ {nodes} }}",
            zero=numbers(0),
            one=numbers(1),
            rows=floats(2, 4),
            all=numbers(8, 1),
            shape=numbers(2, 4),
        ),
        laws=False,
    )
    assert not done.applied
    assert_missed(done, "free", why)


def test_elements_of_different_samples() -> None:
    text = "g (float[2, 4] x) => (float[P, Q, R] y) { a = Transpose(x)  b = Transpose(a)  y = Reshape(b, t) }"
    done = free(text, t=numbers(2, 2, 2))
    assert done.applied and dims(done.after)["y"] == ["N", "Q", "R"]
    text = "g (float[2, 4] x) => (float[P, Q] y) { y = Reshape(x, t) }"
    done = free(text, t=numbers(-1, 2))
    assert_missed(done, "free", "it puts elements of different samples together")


def test_bodies_and_functions_stop_it() -> None:
    done = free(
        """g (bool c, float[2] x) => (float[2] y) {
            y = If(c)<then_branch = t () => (float[2] o) { o = Neg(x) },
                      else_branch = e () => (float[2] o) { o = Exp(x) }>
        }"""
    )
    assert_missed(done, "free", "what If does with its samples is not known")


def test_inputs_of_different_sizes() -> None:
    done = free("g (float[2, 4] x, float[4] z) => (float[2, 4] y) { y = Add(x, z) }")
    assert_missed(done, "free", "the inputs do not all begin with the same number")


def test_a_batch_that_is_free_already() -> None:
    assert free("g (float[N, 4] x) => (float[N, 4] y) { y = Neg(x) }").remarks == ()


def test_one_input_of_two_that_is_free_already() -> None:
    done = free("g (float[N, 4] x, float[1, 4] z) => (float[A, 4] y) { y = Add(x, z) }")
    assert done.remarks == ()


def test_a_batch_that_is_free_under_another_name() -> None:
    assert free("g (float[M, 4] x) => (float[M, 4] y) { y = Relu(x) }").remarks == ()


def test_a_reshape_whose_target_is_an_attribute() -> None:
    text = """<ir_version: 3, opset_import: ["": 4]> g (float[1, 2, 2] x) => (float[1, 4] y) {
        y = Reshape<shape = [1, 4]>(x) }"""
    done = apply(DynamicBatch(), model(text), feeds=())
    assert done.body == "y = Reshape<shape=[0, 4]>(x)"


def test_a_target_that_others_read_stays_for_them() -> None:
    text = """g (float[1, 2, 2] x) => (float[1, 4] y, int64[2] z) {
        k = Constant<value_ints = [1, 4]>()  y = Reshape(x, k)  z = Neg(k) }"""
    done = free(text)
    assert "Neg(k)" in done.body and len(done.applied) == 1


def test_an_input_of_unknown_rank() -> None:
    before = model("g (float[1, 4] x, float[1, 4] z) => (float[1, 4] y) { y = Add(x, z) }")
    before.graph.input[1].type.tensor_type.ClearField("shape")
    done = apply(DynamicBatch(), before, feeds=(), laws=False)
    assert_missed(done, "free", "the inputs do not all begin with the same number")


def test_one_size_that_is_free_among_others() -> None:
    done = free("g (float[4, 2] x, float[M, 2] z) => (float[4, 2] y, float[M, 2] w) { y = Neg(x)  w = Neg(z) }")
    assert_missed(done, "free", "the inputs do not all begin with the same number")


@pytest.mark.parametrize("annotated", [False, True])
def test_an_old_target_that_something_else_needs_stays(annotated: bool) -> None:
    text = "g (float[1, 2, 2] x) => (float[1, 4] y, int64[2] z) { y = Reshape(x, k)  z = Neg(k) }"
    if annotated:
        text = "g (float[1, 2, 2] x) => (float[1, 4] y) { y = Reshape(x, k) }"
    before = model(text, k=numbers(1, 4))
    if annotated:
        note = TensorAnnotation(tensor_name="y")
        note.quant_parameter_tensor_names.add(key="ZERO_POINT_TENSOR", value="k")
        before.graph.quantization_annotation.append(note)
    done = apply(DynamicBatch(), before)
    assert done.applied and "k" in {one.name for one in done.after.graph.initializer}

"""merge-views: one node does what a chain of reshapes or of transposes does, where that is right in every run."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorAnnotation, helper, numpy_helper

from graphopt.pipeline.gate import Limits
from graphopt.testing import Applied, apply, assert_missed, model
from passes.layout.merge_views import MergeViews

I = np.int64  # noqa: E741


def merged(text: str | ModelProto, runs: bool = True, **weights: Any) -> Applied:
    before = model(text, **weights) if isinstance(text, str) else text
    return apply(MergeViews(), before, feeds=None if runs else ())


def target(done: Applied) -> list[int]:
    """The second input of the last node."""
    held = {one.name: one for one in done.graph.initializers}
    return [int(one) for one in held[done.graph.nodes[-1].inputs[1].name].values]


def test_a_chain_becomes_one_reshape() -> None:
    done = merged(
        """g (float[N, 2, 6] x) => (float[M, 3, 4, 1] y) {
            a = Reshape(x, s)  b = Unsqueeze(a, e)  c = Squeeze(b, e)  d = Flatten(c)  y = Reshape(d, t)
        }""",
        s=np.array([-1, 12], I),
        e=np.array([0], I),
        t=np.array([-1, 3, 4, 1], I),
    )
    assert done.body == "y = Reshape(x, t)"
    assert {one.name for one in done.graph.initializers} == {"t"}


def test_what_restores_the_dims_goes() -> None:
    done = merged(
        """g (float[N, 2, 6] x) => (float[N, 2, 6] y) {
            a = Relu(x)  b = Reshape(a, s)  c = Reshape(b, t)  y = Neg(c)
        }""",
        s=np.array([-1, 12], I),
        t=np.array([-1, 2, 6], I),
    )
    assert done.body == "a = Relu(x)\ny = Neg(a)" and not done.graph.initializers


def test_an_output_takes_its_name_along() -> None:
    text = "g (float[N, 6] x) => (float[N, 6] y) { a = Relu(x)  b = Unsqueeze(a, e)  y = Squeeze(b, e) }"
    assert merged(text, e=np.array([1], I)).body == "y = Relu(x)"


def test_between_an_input_and_an_output_one_node_stays() -> None:
    text = "g (float[N, 6] x) => (float[N, 6] y) { between_them = Unsqueeze(x, e)  y = Squeeze(between_them, e) }"
    done = merged(text, e=np.array([1], I))
    assert done.body.startswith("y = Reshape(x, ") and target(done) in ([0, 6], [-1, 6])


@pytest.mark.parametrize("opset", [11, 13])
def test_two_symbolic_dims_that_move_need_an_unsqueeze(opset: int) -> None:
    old = opset < 13
    new = "a = Unsqueeze(x, e)  y = Unsqueeze(a, f)"
    nodes = "a = Unsqueeze<axes = [0]>(x)  y = Unsqueeze<axes = [3]>(a)" if old else new
    weights: dict[str, Any] = {} if old else {"e": np.array([0], I), "f": np.array([3], I)}
    header = f'<ir_version: 7, opset_import: ["": {opset}]>'
    done = merged(f"{header} g (float[N, M] x) => (float[O, N, M, P] y) {{ {nodes} }}", **weights)
    assert len(done.graph.nodes) == 1 and done.graph.nodes[0].op == "Unsqueeze"
    assert (done.graph.nodes[0].attrs["axes"] if old else target(done)) == [0, 3]


def test_squeezes_become_one() -> None:
    text = "g (float[1, N, M, 1] x) => (float[N, M] y) { a = Squeeze(x, e)  y = Squeeze(a, f) }"
    done = merged(text, e=np.array([-1], I), f=np.array([0], I))
    assert done.graph.nodes[0].op == "Squeeze" and target(done) == [0, 3]


def test_a_dim_is_not_inferred_beside_one_that_may_be_zero() -> None:
    text = "g (float[N, M, 1] x) => (float[N, 1, M] y) { a = Squeeze(x, e)  y = Unsqueeze(a, f) }"
    done = merged(text, e=np.array([2], I), f=np.array([1], I))
    assert not done.applied
    assert_missed(done, "view-of-view", "no constant target makes [N, 1, M] of [N, M, 1] in every run")


def test_copied_dims_must_be_the_same_ones() -> None:
    text = "g (float[2, 3, 4] x) => (float[4, 6] y) { a = Reshape(x, s)  y = Reshape(a, t) }"
    done = merged(text, s=np.array([4, 6], I), t=np.array([0, 6], I))
    assert done.graph.nodes[0].inputs[0].name == "x" and target(done) == [4, 6]


def test_runs_without_elements() -> None:
    text = "g (float[N, 2, 6] x) => (float[N, 6, 2] y) { a = Reshape(x, s)  b = Relu(x)  y = Reshape(a, t) }"
    before = model(text, s=np.array([0, 12], I), t=np.array([0, 6, 2], I))
    done = apply(MergeViews(), before, feeds=[{"x": np.zeros((size, 2, 6), np.float32)} for size in (0, 3)])
    assert done.body.endswith("y = Reshape(x, t)") and len(done.applied) == 1


@pytest.mark.parametrize(("second", "both"), [("<perm = [1, 2, 0]>", None), ("", "[1, 0, 2]")])
def test_transposes_are_composed(second: str, both: str | None) -> None:
    text = f"""g (float[N, 2, 3] x) => (float[A, B, C] y) {{
        a = Transpose<perm = [2, 0, 1]>(x)  b = Transpose{second}(a)  y = Neg(b) }}"""
    assert merged(text).body == (f"b = Transpose<perm={both}>(x)\ny = Neg(b)" if both else "y = Neg(x)")


def test_transposes_that_undo_each_other_go() -> None:
    text = "g (float[N, 2, 3] x) => (float[N, 2, 3] y) { a = Transpose(x)  b = Transpose(a)  y = Relu(b) }"
    assert merged(text).body == "y = Relu(x)"


def test_a_transpose_of_axes_of_size_one_is_a_reshape() -> None:
    text = "g (float[N, 1, 5] x) => (float[N, 5] y) { a = Transpose<perm = [0, 2, 1]>(x)  y = Reshape(a, s) }"
    done = merged(text, s=np.array([-1, 5], I))
    assert done.body == "y = Reshape(x, s)"


def test_a_reshape_that_moves_axes_of_size_one_is_a_transpose() -> None:
    text = """g (float[N, 6, 1, 5] x) => (float[N, 5, 6, 1] y) {
        a = Transpose<perm = [0, 2, 3, 1]>(x)  y = Reshape(a, s) }"""
    done = merged(text, s=np.array([-1, 5, 6, 1], I))
    assert done.body == "y = Transpose<perm=[0, 3, 1, 2]>(x)"


def test_a_transpose_and_a_reshape_that_do_more_stay() -> None:
    text = "g (float[2, 3] x) => (float[6] y) { a = Transpose(x)  y = Reshape(a, s) }"
    assert not merged(text, s=np.array([6], I)).remarks


def test_the_view_between_stays_for_others() -> None:
    text = "g (float[2, 6] x) => (float[12] y, float[3, 4] z) { a = Reshape(x, s)  y = Reshape(a, t)  z = Relu(a) }"
    done = merged(text, s=np.array([3, 4], I), t=np.array([12], I))
    assert done.body == "a = Reshape(x, s)\ny = Reshape(x, t)\nz = Relu(a)"


def test_a_new_constant_must_pay() -> None:
    text = """g (float[N, 6] x) => (float[N, 2, 3, 1, 1, 1, 1, 1] y, float[N, 2, 3] z) {
        a = Reshape(x, s)  y = Unsqueeze(a, e)  z = Relu(a)
    }"""
    done = merged(text, s=np.array([0, 2, 3], I), e=np.array([3, 4, 5, 6, 7], I))
    assert not done.applied
    assert_missed(done, "view-of-view", "the file would grow by")


def test_constant_nodes_go_with_their_readers() -> None:
    text = """g (float[2, 6] x) => (float[12] y) {
        s = Constant<value = int64[2] {3, 4}>()  a = Reshape(x, s)
        t = Constant<value = int64[1] {12}>()  y = Reshape(a, t)
    }"""
    done = merged(text)
    assert done.body == "y = Reshape(x, shape)", "an initializer takes less than the node that made it"
    assert numpy_helper.to_array(done.after.graph.initializer[0]).tolist() == [12]


def test_an_old_model_gets_a_constant_node() -> None:
    text = """<ir_version: 3, opset_import: ["": 9]> g (float[2, 6] x) => (float[1, 12] y) {
        a = Flatten<axis = 0>(x)  b = Unsqueeze<axes = [0]>(a)  c = Flatten<axis = 0>(b)
        d = Transpose(c)  y = Transpose(d) }"""
    assert len(merged(text).graph.nodes) <= 2


def test_annotated_values_stay() -> None:
    before = model(
        "g (float[2, 3] x) => (float[2, 3] y) { a = Transpose(x)  b = Transpose(a)  y = Relu(b) }", k=np.float32(1)
    )
    note = TensorAnnotation(tensor_name="b")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="k")
    before.graph.quantization_annotation.append(note)
    assert "b = " in merged(before).body


def test_the_gate_is_respected() -> None:
    text = "g (float[2, 3] x) => (float[2, 3] y) { a = Transpose(x)  b = Transpose(a)  y = Relu(b) }"
    assert not apply(MergeViews(), model(text), gate=Limits(frozenset({("merge-views", 1)}))).applied


def test_inside_bodies_and_functions() -> None:
    done = merged(
        """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (bool c, float[2, 3] x) => (float[2, 3] y, float[K, L] z) {
            y = If(c)<then_branch = t () => (float[2, 3] o) { a = Transpose(x)  b = Transpose(a)  o = Neg(b) },
                      else_branch = e () => (float[2, 3] p) { p = Abs(x) }>
            z = local.f(x)
        }
        <domain: "local", opset_import: ["": 21]>
        f (x) => (y) { s = Constant<value = int64[1] {6}>()  t = Constant<value = int64[2] {3, 2}>()
            a = Reshape(x, s)  y = Reshape(a, t) }"""
    )
    assert "o = Neg(x)" in done.body and "y = Reshape(x, t)" in done.body and len(done.applied) == 2


def test_a_reader_in_a_body_is_left_alone() -> None:
    text = """g (bool c, float[2, 3] x) => (float[2, 3] y) {
        a = Transpose(x)
        y = If(c)<then_branch = t () => (float[2, 3] o) { o = Transpose(a) },
                  else_branch = e () => (float[2, 3] p) { p = Abs(x) }>
    }"""
    assert not merged(text).remarks


def test_long_chains_take_no_time() -> None:
    ops = [helper.make_node("Transpose", [f"v{i}"], [f"v{i + 1}"], perm=[1, 2, 0]) for i in range(5000)]
    before = model("g (float[2, 3, 4] v0) => (float[A, B, C] v5000) { v5000 = Relu(v0) }")
    del before.graph.node[:]
    before.graph.node.extend(ops)
    start = time.process_time()
    done = apply(MergeViews(), before, laws=False)
    assert time.process_time() - start < 20 and len(done.graph.nodes) == 1


def test_a_view_that_is_read_as_a_shape_too() -> None:
    text = "g (int64[1, 2] x) => (int64[A, B] y) { a = Reshape(x, k)  y = Reshape(a, a) }"
    before = model(text, k=np.array([2]))
    done = apply(MergeViews(), before, feeds=[{"x": np.array([[1, 2]])}, {"x": np.array([[2, 1]])}])
    assert done.applied == ()


def test_a_view_of_which_one_reader_is_none() -> None:
    text = "g (float[2, 6] x) => (float[A, B] y, float[C, D] z) { a = Reshape(x, k)  y = Reshape(a, m)  z = Exp(a) }"
    done = merged(text, k=np.array([3, 4]), m=np.array([6, 2]))
    assert "Reshape(x" in done.body and "Exp(a)" in done.body


def test_a_zero_that_copies_what_only_the_view_between_has() -> None:
    text = "g (float[6, 4] x) => (float[A, B, C] y) { a = Reshape(x, s)  b = Reshape(a, t)  y = Neg(b) }"
    apply(MergeViews(), model(text, s=np.array([3, 8]), t=np.array([0, 2, 4])))  # another result would break a law


def test_a_target_that_is_fed_behind_a_view() -> None:
    text = "g (float[6, 4] x, int64[R] t) => (float[A] y) { a = Reshape(x, s)  y = Reshape(a, t) }"
    done = apply(MergeViews(), model(text, s=np.array([3, 8])), feeds=())
    assert done.applied == () and any("are not known" in one.why for one in done.missed)

"""fold-constants: what no input decides about is computed once, and the file never grows."""

from __future__ import annotations

import re
import time
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, SparseTensorProto, TensorAnnotation, numpy_helper

from graphopt.ir import decode
from graphopt.ir.store import Store
from graphopt.pipeline import Pipeline
from graphopt.pipeline.gate import Limits
from graphopt.pipeline.manager import run
from graphopt.session.services import WorkerServices
from graphopt.testing import Applied, apply, assert_missed, model
from graphopt.testing.running import outputs_of, shared_worker
from passes.fold.constants import FoldConstants

SQUARE = np.arange(64, dtype=np.float32).reshape(8, 8)
X = "float[N, 8] x"
Y = "float[N, 8] y"


def folded(text: str | ModelProto, runs: bool = True, **weights: Any) -> Applied:
    before = model(text, **weights) if isinstance(text, str) else text
    return apply(FoldConstants(), before, feeds=None if runs else ())


def initializers(done: Applied) -> dict[str, Any]:
    return {one.name: numpy_helper.to_array(one) for one in done.after.graph.initializer}


def test_a_chain_becomes_its_last_value_under_its_name() -> None:
    done = folded(f"g ({X}) => ({Y}) {{ u = Transpose(w)  v = Neg(u)  y = MatMul(x, v) }}", w=SQUARE)
    assert done.body == "y = MatMul(x, v)"
    assert list(initializers(done)) == ["v"]
    np.testing.assert_array_equal(initializers(done)["v"], -SQUARE.T)
    (remark,) = done.applied
    assert (remark.node, remark.why, remark.after) == ("Neg(v)", "float32[8,8]", ("v",))
    assert set(remark.before) == {"u", "v", "w"}


def test_each_node_whose_result_is_stored_is_a_rewrite_of_its_own() -> None:
    text = f"g ({X}) => ({Y}) {{ u = Transpose(w)  v = Neg(k)  a = MatMul(x, u)  y = MatMul(a, v) }}"
    before = model(text, w=SQUARE, k=SQUARE * 2)
    assert [one.node for one in folded(before).applied] == ["Transpose(u)", "Neg(v)"]
    second = apply(FoldConstants(), before, gate=Limits(frozenset({("fold-constants", 1)})))
    assert second.body == "u = Transpose(w)\na = MatMul(x, u)\ny = MatMul(a, v)"
    assert sorted(initializers(second)) == ["v", "w"]


def test_several_outputs_of_a_node() -> None:
    """The parts of a split are stored each under its name; what nobody reads is not."""
    text = f"""g ({X}) => ({Y}) {{
        k = Constant<value_ints = [2, 3, 3]>()  p, q, r = Split<axis = 0>(w, k)  s = Concat<axis = 0>(x, p)
        a = MatMul(x, v)  b = Concat<axis = 0>(r, s)  y = MatMul(a, v)  z = ReduceSum(b)
    }}"""
    done = folded(text, w=SQUARE, v=SQUARE)
    assert sorted(initializers(done)) == ["p", "r", "v"]
    assert "Split" not in done.body


def test_constant_nodes_count_as_constants() -> None:
    text = f"""g ({X}) => ({Y}) {{
        two = Constant<value_float = 2.0>()  many = Constant<value_floats = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]>()
        long_name = Mul(many, two)  y = Add(x, long_name)
    }}"""
    done = folded(text)
    assert done.body == "y = Add(x, long_name)"
    np.testing.assert_array_equal(initializers(done)["long_name"], np.arange(2, 18, 2, dtype=np.float32))


def test_an_output_of_the_graph_is_made_by_a_constant_node() -> None:
    done = folded(f"g ({X}) => ({Y}, float[8, 8] v) {{ v = Transpose<perm = [1, 0]>(w)  y = MatMul(x, v) }}", w=SQUARE)
    assert done.body == "v = Constant<value=float[8,8]>()\ny = MatMul(x, v)"
    assert not done.after.graph.initializer


def test_a_model_whose_initializers_are_inputs_gets_constant_nodes() -> None:
    text = f"""<ir_version: 3, opset_import: ["": 8]> g ({X}) => ({Y}) {{
        k = Constant<value = float[8] {{1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0}}>()  v = Neg(k)
        u = Mul(v, v)  y = Add(x, u)
    }}"""
    done = folded(text)
    assert done.body == "u = Constant<value=float[8]>()\ny = Add(x, u)".replace("float[8]", _shown(-np.arange(1, 9)))


def _shown(exponents: Any) -> str:
    return f"float[8] {{{', '.join(str(one) for one in np.square(exponents.astype(np.float32)).tolist())}}}"


def test_bodies_of_a_node_that_is_not_constant() -> None:
    """What is captured from outside and what is in the body alike; a body's output stays a node's."""
    text = f"""g (bool c, {X}) => ({Y}) {{
        y = If(c)<
            then_branch = t () => ({Y.replace("y", "o")}) {{ u = Transpose(w)  o = MatMul(x, u) }},
            else_branch = e () => (float[8, 8] q) {{ q = Neg(w) }}
        >
    }}"""
    before = model(text, w=SQUARE)
    done = apply(FoldConstants(), before, feeds=[{"c": np.array(flag), "x": SQUARE} for flag in (True, False)])
    assert done.body.splitlines()[1:] == [
        "  else_branch: () => (q)",
        "    q = Neg(w)",
        "  then_branch: () => (o)",
        "    u = Transpose(w)",
        "    o = MatMul(x, u)",
    ]
    assert_missed(done, "fold", "the file would grow")  # both results, of one w
    text = text.replace("q = Neg(w)", "long_name = Neg(v)  r = Neg(long_name)  q = Neg(r)")
    done = apply(FoldConstants(), model(text, w=SQUARE, v=SQUARE), feeds=[{"c": np.array(False), "x": SQUARE}])
    assert done.body.splitlines()[1:] == [
        "  else_branch: () => (q)",
        "    q = Constant<value=float[8,8]>()",
        "  then_branch: () => (o)",
        "    o = MatMul(x, u)",
    ]
    assert [one.scope for one in done.applied] == ["If(y).then_branch", "If(y).else_branch"]


FUNCTION = f"""
    <ir_version: 10, opset_import: ["": 21, "local": 1]>
    g ({X}) => ({Y}) {{ v = local.scaled<by = 0.25>(w)  y = MatMul(x, v) }}
    <domain: "local", opset_import: ["": 21, "local": 1]>
    scaled <by> (a) => (c) {{ b = local.turned(a)  c = LeakyRelu<alpha: float = @by>(b) }}
    <domain: "local", opset_import: ["": 21]>
    turned (a) => (c) {{ c = Transpose(a) }}
    """


def test_a_call_of_a_function_is_computed_with_its_attributes() -> None:
    done = folded(FUNCTION, w=SQUARE - 30)
    assert done.body.splitlines()[0] == "y = MatMul(x, v)"
    wanted = np.where(SQUARE.T < 30, (SQUARE.T - 30) * np.float32(0.25), SQUARE.T - 30)
    np.testing.assert_array_equal(initializers(done)["v"], wanted)


def test_a_function_that_draws_is_not_called_ahead() -> None:
    done = folded(FUNCTION.replace("Transpose(a)", "RandomNormalLike(a)"), runs=False, w=SQUARE)
    assert not done.applied
    assert_missed(done, "fold", "in function 'scaled', in function 'turned', RandomNormalLike")


def test_a_function_of_another_opset_stays() -> None:
    source = model(FUNCTION.replace('["": 21]', '["": 20]'), w=SQUARE)  # which the checker does not take
    outcome = run(lambda: decode(source, Store()), Pipeline((FoldConstants(),)))
    assert [one.why for one in outcome.remarks] == [
        "in function 'scaled', function 'turned' follows opset 20 and its caller 21"
    ]


def test_constants_inside_of_a_function_become_constant_nodes() -> None:
    text = f"""<ir_version: 10, opset_import: ["": 21, "local": 1]>
        g ({X}) => ({Y}) {{ y = local.f<by = 2.0>(x) }}
        <domain: "local", opset_import: ["": 21]>
        f <by> (a) => (c) {{
            first = Constant<value_floats = [1.0, 2.0]>()  second = Constant<value_floats = [3.0, 4.0]>()
            third = Add(first, second)  fourth = ReduceSum(third)  k = Constant<value_float: float = @by>()
            fifth = Neg(k)  b = Mul(a, fourth)  c = Mul(b, fifth)
        }}"""
    done = folded(text)
    assert done.body.splitlines()[2:] == [
        "  fourth = Constant<value=float[1] {10.0}>()",
        "  k = Constant<value_float=@by>()",
        "  fifth = Neg(k)",
        "  b = Mul(a, fourth)",
        "  c = Mul(b, fifth)",
    ]


def test_the_default_of_an_input_is_no_constant() -> None:
    done = folded(f"g ({X}, float[8, 8] w) => ({Y}) {{ v = Transpose(w)  y = MatMul(x, v) }}", w=SQUARE)
    assert not done.remarks


@pytest.mark.parametrize("attributes", ["", "<seed = 1.0>"])
def test_random_numbers_are_drawn_at_each_run(attributes: str) -> None:
    done = folded(f"g ({X}) => ({Y}) {{ u = RandomNormalLike{attributes}(w)  y = MatMul(x, u) }}", runs=False, w=SQUARE)
    assert not done.applied
    assert_missed(done, "fold", "draws random numbers")


@pytest.mark.parametrize(("training", "goes"), [(True, False), (False, True)])
def test_a_dropout_folds_unless_it_trains(training: bool, goes: bool) -> None:
    text = f"g ({X}) => ({Y}) {{ u = Dropout(w, r, t)  y = MatMul(x, u) }}"
    done = folded(text, runs=goes, w=SQUARE, r=np.float32(0.5), t=np.array(training))
    assert bool(done.applied) is goes
    if not goes:
        assert_missed(done, "fold", "may drop at random")


def test_an_old_dropout_drops_unless_it_is_told_not_to() -> None:
    text = '<ir_version: 4, opset_import: ["": 6]> g (float[8] x) => (float[8] y) {{ u = Dropout{}(w)  y = Max(x, u) }}'
    assert_missed(folded(text.format(""), runs=False, w=SQUARE[1]), "fold", "drops at random")
    assert "at random" not in folded(text.format("<is_test = 1>"), runs=False, w=SQUARE[1]).remarks[0].why


@pytest.mark.parametrize("domain", ["acme", "com.microsoft"])
def test_operators_of_other_domains_stay(domain: str) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 21, "{domain}": 1]>
        g ({X}) => ({Y}) {{ u = {domain}.Gelu(w)  y = MatMul(x, u) }}"""
    done = folded(text, runs=False, w=SQUARE)
    assert not done.applied
    assert_missed(done, "fold", f"operators of the domain '{domain}'")


def test_an_operator_that_onnx_does_not_define_stays() -> None:
    text = f"g ({X}) => ({Y}) {{ u = Surprise(w)  y = MatMul(x, u) }}"
    source = model(text, w=SQUARE)
    outcome = run(lambda: decode(source, Store()), Pipeline((FoldConstants(),)))
    assert outcome.remarks[0].why == "ONNX defines no operator Surprise at opset 21"


def test_a_constant_condition_is_left_to_others() -> None:
    text = f"""g ({X}) => ({Y}) {{ y = If(c)<
        then_branch = t () => (float[N, 8] o) {{ o = Exp(x) }}, else_branch = e () => (float[N, 8] p) {{ p = Neg(x) }}
    > }}"""
    done = folded(text, c=np.array(True))
    assert not done.applied
    assert_missed(done, "fold", "the bodies of If 'If(y)' are not computed ahead")


def test_a_sequence_stays_and_so_does_what_comes_out_of_it() -> None:
    text = f"""g ({X}) => ({Y}) {{
        s = SequenceConstruct(w, w)  k = Constant<value_int = 1>()  u = SequenceAt(s, k)  y = MatMul(x, u)
    }}"""
    done = folded(text, w=SQUARE)
    assert not done.applied
    assert_missed(done, "fold", "or it is no tensor")


def test_strings() -> None:
    words = np.array(["a rather long word to be stored", "and another one"], object)
    done = folded("g (string[N] x) => (bool[N] y) { v = Gather(s, k)  y = Equal(x, v) }", s=words, k=np.array([1]))
    assert done.body == "y = Equal(x, v)"
    assert list(done.after.graph.initializer[0].string_data) == [b"and another one"]


def test_bits_are_those_that_onnxruntime_computes() -> None:
    """Signs of zeros, infinities, NaN, and a logarithm that no other library rounds alike."""
    numbers = np.array([-0.0, 0.0, np.inf, -np.inf, np.nan, 0.3, 1e-42, -7.5, 3e38, 1.1], np.float32)
    text = "g (float[N, 10] x) => (float[N, 10] y) { u = Softplus(w)  long_name = Neg(u)  y = Add(x, long_name) }"
    before = model(text, w=numbers)
    before.graph.output.add(name="long_name")
    reference = outputs_of(before.SerializeToString(), [{"x": np.zeros((1, 10), np.float32)}])[0]["long_name"]
    del before.graph.output[1]
    stored = initializers(folded(before))["long_name"]
    assert isinstance(reference, np.ndarray)
    assert stored.tobytes() == reference.tobytes()


# What makes the file grow stays.


def test_a_transpose_of_a_weight_that_is_also_read_as_it_is() -> None:
    done = folded(f"g ({X}) => ({Y}) {{ u = Transpose(w)  a = MatMul(x, w)  y = MatMul(a, u) }}", w=SQUARE)
    assert not done.applied
    assert_missed(done, "fold", "the file would grow")


def test_the_parts_of_a_weight_take_no_more_than_the_weight() -> None:
    """Each part alone would add bytes: the readers of one initializer are one decision."""
    text = f"""g ({X}) => ({Y}) {{
        a, b = Split<axis = 0, num_outputs = 2>(w)  c = Neg(w)
        p = Gemm<transB = 1>(x, a)  q = Gemm<transB = 1>(x, b)  y = Concat<axis = 1>(p, q)
    }}"""
    done = folded(text.replace("c = Neg(w)", ""), w=SQUARE)
    assert sorted(initializers(done)) == ["a", "b"]
    done = folded(text, w=SQUARE)  # Neg keeps w, though nobody reads what it gives
    assert not done.applied


@pytest.mark.parametrize(
    "makes",
    [
        "u = Expand(one, shape)",
        "u = Tile(one, shape)",
        "u = ConstantOfShape(shape)",
        "f = Range(zero, many, step)  u = Reshape(f, shape)",
        "u = Gather(few, places)",
    ],
)
def test_what_repeats_itself_stays(makes: str) -> None:
    weights: dict[str, Any] = {"one": np.ones((1, 1), np.float32), "shape": np.array([64, 64])}
    weights |= {"zero": np.float32(0), "many": np.float32(4096), "step": np.float32(1)}
    weights |= {"few": np.ones((1, 64), np.float32), "places": np.zeros(64, np.int32)}
    used = {name: one for name, one in weights.items() if re.search(rf"\b{name}\b", makes)}
    done = folded(f"g (float[N, 64] x) => (float[N, 64] y) {{ {makes}  y = MatMul(x, u) }}", **used)
    assert "u" not in initializers(done)
    assert_missed(done, "fold", "the file would grow")


def test_a_blow_up_does_not_keep_its_neighbours_from_folding() -> None:
    text = """g (float[N, 64] x) => (float[N, 64] y) {
        v = Transpose(w)  u = Neg(row)  e = Expand(u, shape)  k = Add(e, w)  a = MatMul(x, v)  y = MatMul(a, e)
    }"""
    wide = np.ones((64, 64), np.float32)
    done = folded(text.replace("k = Add(e, w)", ""), w=wide, row=wide[:1], shape=np.array([64, 64]))
    assert sorted(initializers(done)) == ["shape", "u", "v"]
    assert "e = Expand(u, shape)" in done.body


def test_a_few_elements_are_no_blow_up() -> None:
    text = "g (float[N, 2] x) => (float[N, 2] y) { some_name = ConstantOfShape(some_shape)  y = Add(x, some_name) }"
    assert folded(text, some_shape=np.array([2])).body == "y = Add(x, some_name)"


@pytest.mark.parametrize("behind", ["", "Transpose", "Identity"])
def test_a_dequantized_weight_stays_quantized(behind: str) -> None:
    read = f"v = {behind}(u)  y = MatMul(x, v)" if behind else "y = MatMul(x, u)"
    done = folded(
        f"g ({X}) => ({Y}) {{ u = DequantizeLinear(q, s)  {read} }}",
        q=np.arange(64, dtype=np.int8).reshape(8, 8),
        s=np.float32(0.5),
    )
    assert not done.applied
    assert_missed(done, "fold", "it unpacks what is stored in few bits")
    assert len(done.missed) == 1


def test_a_dequantized_bias_stays_although_it_would_not_grow() -> None:
    done = folded(
        f"g ({X}) => ({Y}) {{ u = DequantizeLinear(q, s)  y = Add(x, u) }}",
        q=np.arange(8, dtype=np.int32),
        s=np.float32(0.5),
    )
    assert not done.applied


def test_quantizing_a_weight_ahead_shrinks_it() -> None:
    text = f"g ({X}) => ({Y}) {{ q = QuantizeLinear(w, s, z)  u = DequantizeLinear(q, s, z)  y = MatMul(x, u) }}"
    done = folded(text, w=SQUARE, s=np.float32(0.5), z=np.int8(0))
    assert initializers(done)["q"].dtype == np.int8
    assert sorted(initializers(done)) == ["q", "s", "z"]


@pytest.mark.parametrize("stored", [np.float16, ml_dtypes.bfloat16, np.int16, np.int8])
def test_a_weight_that_is_stored_small_is_not_cast_ahead(stored: Any) -> None:
    """Not even where a later node makes up for it: the small weight may be there on purpose."""
    text = f"""g ({X}) => ({Y}) {{
        u = Cast<to = 1>(w)  k = Constant<value_ints = [8]>()  o = Constant<value_ints = [0]>()
        v = Slice(u, o, k)  y = MatMul(x, v)
    }}"""
    done = folded(text, w=np.arange(256, dtype=np.float32).reshape(32, 8).astype(stored))
    assert not done.applied
    assert_missed(done, "fold", "32 bits of each")


def test_a_cast_to_fewer_bits_and_a_small_cast_are_done_ahead() -> None:
    text = "g (float16[N, 8] x) => (float16[N, 8] y) { u = Cast<to = 10>(w)  y = MatMul(x, u) }"
    assert folded(text, w=SQUARE).body == "y = MatMul(x, u)"
    text = f"g ({X}) => ({Y}) {{ some_name = Cast<to = 1>(w)  y = Mul(x, some_name) }}"
    assert folded(text, w=np.float16(2)).body == "y = Mul(x, some_name)"


def test_what_is_stored_sparse_stays_sparse() -> None:
    proto = model(f"g ({X}) => ({Y}) {{ u = Neg(w)  y = Add(x, u) }}")
    values = numpy_helper.from_array(np.array([1.5], np.float32), "w")
    indices = numpy_helper.from_array(np.array([3], np.int64), "w_indices")
    proto.graph.sparse_initializer.append(SparseTensorProto(values=values, indices=indices, dims=[8]))
    assert not folded(proto).remarks


def test_packed_integers_stay_packed() -> None:
    text = f"g ({X}) => ({Y}) {{ t = Transpose(q)  u = DequantizeLinear(t, s)  y = MatMul(x, u) }}"
    done = folded(text, q=(SQUARE % 7).astype(ml_dtypes.int4), s=np.float32(0.5))
    assert len(done.after.graph.initializer[1].raw_data) == 32 or done.missed
    assert "DequantizeLinear" in done.body


def test_what_onnxruntime_cannot_compute_stays_and_the_rest_folds() -> None:
    text = f"g ({X}) => ({Y}) {{ u = Transpose(w)  bad = Gather(v, k)  a = MatMul(x, u)  y = Mul(a, bad) }}"
    done = folded(text, runs=False, w=SQUARE, v=SQUARE, k=np.array([99]))
    assert [one.node for one in done.applied] == ["Transpose(u)"]
    assert_missed(done, "fold", "onnxruntime cannot compute it")


def test_a_size_that_depends_on_values_is_unknown() -> None:
    text = f"""g ({X}) => ({Y}) {{
        places = NonZero(w)  row = Cast<to = 6>(places)  u = Gather(v, row)
        s = ReduceSum<keepdims = 0>(u)  y = Mul(x, s)
    }}"""
    done = folded(text, w=SQUARE[:1], v=SQUARE)
    assert not done.applied
    assert_missed(done, "fold", "how large 'places' is cannot be told")
    assert len(done.missed) == 1


def test_a_size_is_told_by_what_was_folded_before() -> None:
    """What Reshape gives is known once its shape, which takes onnxruntime to compute, is a constant."""
    text = f"""g ({X}) => ({Y}) {{
        some_name = Log(some_numbers)  other_name = Cast<to = 7>(some_name)  u = Reshape(w, other_name)
        v = Neg(u)  y = MatMul(x, v)
    }}"""
    done = folded(text, w=SQUARE.reshape(4, 16), some_numbers=np.exp(np.array([8.01, 8.01], np.float32)))
    assert done.body == "y = MatMul(x, v)"
    assert [one.node for one in done.applied] == ["Cast(other_name)", "Neg(v)"]


def test_quantization_parameters_stay() -> None:
    proto = model(f"g ({X}) => ({Y}) {{ b_scale = Neg(w)  b = Relu(x)  y = Neg(b) }}", w=np.float32(-2))
    note = TensorAnnotation(tensor_name="b")
    entry = note.quant_parameter_tensor_names.add()
    entry.key, entry.value = "SCALE_TENSOR", "b_scale"
    proto.graph.quantization_annotation.append(note)
    done = folded(proto)
    (kept,) = done.after.graph.quantization_annotation
    assert kept.quant_parameter_tensor_names[0].value == "b_scale"


def test_dead_nodes_are_not_this_pass_s_business() -> None:
    done = folded(f"g ({X}) => ({Y}) {{ u = Transpose(w)  y = Relu(x) }}", w=SQUARE)
    assert not done.applied


def chain(length: int) -> ModelProto:
    nodes = " ".join(f"v{i + 1} = Neg(v{i})" for i in range(length))
    return model(f"g (float[8] x) => (float[8] y) {{ v0 = Abs(w) {nodes}  y = Add(x, v{length}) }}", w=SQUARE[3])


def fan(width: int) -> ModelProto:
    nodes = " ".join(f"v{i} = Neg(w)  y{i} = Add(x, v{i})" for i in range(width))
    return model(f"g (float[8] x) => (float[8] y0) {{ {nodes} }}", w=SQUARE[3])


@pytest.mark.parametrize("make", [chain, fan])
def test_time_is_linear(make: Any) -> None:
    seconds = []
    for size in (1_000, 4_000):
        source = make(size)
        start = time.process_time()
        run(
            lambda source=source: decode(source, Store()),
            Pipeline((FoldConstants(),)),
            services=WorkerServices(shared_worker()),
        )  # type: ignore[misc]
        seconds.append(time.process_time() - start)
    assert seconds[1] < 10 * seconds[0] + 1.5


@pytest.mark.parametrize(("parameter", "left"), [("u", {"u"}), ("w", {"w"})])
def test_what_an_annotation_needs_is_reckoned_with(parameter: str, left: set[str]) -> None:
    """A value that stays is not freed, and one that nobody else reads is stored."""
    before = model(f"g ({X}) => ({Y}) {{ u = Neg(w)  v = Exp(u)  y = Mul(x, v) }}", w=SQUARE[0])
    note = TensorAnnotation(tensor_name="y")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=parameter)
    before.graph.quantization_annotation.append(note)
    done = folded(before)
    assert initializers(done).keys() == left
    assert_missed(done, "fold", "the file would grow")


def test_nothing_is_said_of_random_numbers_that_depend_on_nothing() -> None:
    text = f"g ({X}) => ({Y}) {{ r = RandomNormal<shape = [8]>()  y = Add(x, r) }}"
    assert folded(text, runs=False).remarks == ()


def test_in_a_branch_of_a_function() -> None:
    """A constant in a function is a node, also in its bodies."""
    text = """<ir_version: 10, opset_import: ["": 18, "f": 1]> g (bool c, float[8] x) => (float[8] y) { y = f.go(c, x) }
        <domain: "f", opset_import: ["": 18]> go (c, x) => (y) {
            y = If(c)<then_branch = t () => (float[8] o) {
                    k = Constant<value_float = 2.0>()  n = Neg(k)  o = Mul(x, n) },
                else_branch = e () => (float[8] p) { p = Neg(x) }> }"""
    done = folded(text)
    assert [one.node for one in done.applied] == ["Neg(n)"]
    branch = done.after.functions[0].node[0].attribute[0].g
    assert not branch.initializer and [one.op_type for one in branch.node] == ["Constant", "Mul"]


@pytest.mark.parametrize(
    ("kind", "to", "folds"),
    [
        (np.uint8, 10, False),
        (np.uint8, 16, False),
        (np.uint8, 1, False),
        (np.uint8, 11, False),
        (np.float32, 11, False),
        (np.int32, 1, True),
        (np.float32, 10, True),
        (np.uint16, 16, True),
        (np.int64, 11, True),
    ],
)
def test_casts_that_unpack_stay_and_others_do_not(kind: type, to: int, folds: bool) -> None:
    """To store the result takes more than the operand where it has more bits."""
    text = f"g (float[64] x) => (float[64] y) {{ a = Cast<to = {to}>(w)  b = Cast<to = 1>(a)  y = Add(x, b) }}"
    only = f"g (float[64] x) => (float[64] y) {{ a = Cast<to = {to}>(w)  y = CastLike(a, x) }}"
    for one in (text, only):
        done = folded(one, runs=False, w=np.arange(64).astype(kind))
        assert ("w" not in {held.name for held in done.after.graph.initializer}) == folds
        assert folds or any("that are stored" in remark.why for remark in done.missed)


@pytest.mark.parametrize(("opset", "folds"), [(8, False), (9, True)])
def test_an_output_that_a_constant_node_cannot_hold_yet(opset: int, folds: bool) -> None:
    text = f'<ir_version: 4, opset_import: ["": {opset}]> g (float[N] x) => (int64[8] y) {{ u = Neg(w)  y = Abs(u) }}'
    done = folded(text, w=np.arange(8))
    assert ("Abs" not in done.body) == folds
    if not folds:
        assert_missed(done, "fold", "'y' would need a Constant node, which cannot hold its type at opset 8")

"""Generated feeds: typed, bounded, seeded by input, and tried on the model until it accepts them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

from graphopt.errors import CouldNotTell, UsageError
from graphopt.runtime.client import Worker
from graphopt.testing import model
from graphopt.validation.explore import TRIES
from graphopt.validation.feeds import FeedSet, gather
from graphopt.validation.pins import parse_sizes, parse_values
from graphopt.validation.plan import FeedPlan
from graphopt.validation.trial import ModelTrial

Trial = Callable[[Mapping[str, Any]], str]


def anything(_: Mapping[str, Any]) -> str:
    return ""


def generated(proto: onnx.ModelProto, trial: Trial = anything, seed: int = 0, **more: Any) -> FeedSet:
    return gather(FeedPlan(**more), proto, trial, seed)


def values(proto: onnx.ModelProto, name: str, **more: Any) -> list[Any]:
    return [feed.values[name] for feed in generated(proto, **more)]


def of_type(element: str, dims: str = "[40]") -> onnx.ModelProto:
    return model(f"g ({element}{dims} x) => ({element}{dims} y) {{ y = Identity(x) }}")


@pytest.mark.parametrize(
    ("element", "dtype", "low", "high"),
    [
        ("float", np.float32, -20, 20),
        ("double", np.float64, -20, 20),
        ("float16", np.float16, -20, 20),
        ("bfloat16", ml_dtypes.bfloat16, -20, 20),
        ("uint8", np.uint8, 0, 255),
        ("int8", np.int8, -128, 127),
        ("int32", np.int32, 0, 9),
        ("int64", np.int64, 0, 9),
        ("uint64", np.uint64, 0, 9),
        ("bool", np.bool_, 0, 1),
        ("int4", ml_dtypes.int4, -8, 7),
        ("uint2", ml_dtypes.uint2, 0, 3),
    ],
)
def test_every_type_gets_numbers_of_its_own(element: str, dtype: type, low: int, high: int) -> None:
    proto = of_type("float")
    for port in (proto.graph.input[0], proto.graph.output[0]):
        port.type.tensor_type.elem_type = onnx.TensorProto.DataType.Value(element.upper())
    feeds = values(proto, "x")
    for array in feeds:
        assert array.dtype == dtype
        assert array.shape == (40,)
        numbers = array.astype(np.float64)
        assert low <= numbers.min() < numbers.max() <= high
    assert not np.array_equal(feeds[0], feeds[1])


def test_floats_come_normal_uniform_and_wide() -> None:
    normal, uniform, wide = (array.astype(np.float64) for array in values(of_type("float", "[1000]"), "x"))
    assert normal.std() == pytest.approx(1.0, abs=0.1)
    assert 0.0 <= uniform.min() < uniform.max() <= 1.0
    assert wide.std() == pytest.approx(4.0, abs=0.4)


def test_strings_are_words() -> None:
    (first, *_) = values(of_type("string", "[5]"), "x")
    assert first.dtype == object
    assert all(isinstance(word, str) and word for word in first)


def test_sequences_and_optionals_get_their_tensors() -> None:
    sequence = model("g (seq(int64[2]) x) => (seq(int64[2]) y) { y = Identity(x) }")
    (first, *_) = values(sequence, "x")
    assert [item.shape for item in first] == [(2,)] * 3
    assert all(item.dtype == np.int64 for item in first)
    optional = model("g (optional(float[2]) x) => (optional(float[2]) y) { y = Identity(x) }")
    given = values(optional, "x")
    assert given[0].shape == (2,)
    assert given[2] is None  # both branches of what asks whether it is there


def test_indices_stay_inside_their_table_and_masks_are_zeros_and_ones() -> None:
    proto = model(
        """g (int64[batch, seq] ids, int64[batch, seq] mask) => (float[batch, seq, 8] y) {
            e = Gather(table, ids)  f = Cast <to = 1> (mask)  u = Unsqueeze(f, two)  y = Mul(e, u)
        }""",
        table=np.zeros((5, 8), np.float32),
        two=np.array([2]),
    )
    for feed in generated(proto):
        ids, mask = feed.values["ids"], feed.values["mask"]
        assert ids.shape == mask.shape  # bound by name
        assert 0 <= ids.min() <= ids.max() < 5
        assert set(np.unique(mask)) <= {0, 1}
        assert mask[0].all()
        assert (np.diff(mask, axis=1) <= 0).all()  # ones first, then the padding
        assert mask.sum(axis=1).min() >= mask.shape[1] / 2


def test_an_input_has_the_same_numbers_whatever_stands_beside_it() -> None:
    alone = model("g (float[3, 4] x) => (float[3, 4] y) { y = Neg(x) }")
    beside = model("g (int64[7] a, float[3, 4] x, bool c) => (float[3, 4] y) { y = Neg(x) }")
    for one, other in zip(values(alone, "x"), values(beside, "x"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_inputs_of_one_type_differ() -> None:
    proto = model("g (float[30] a, float[30] b) => (float[30] y) { y = Add(a, b) }")
    assert all(not np.array_equal(feed.values["a"], feed.values["b"]) for feed in generated(proto))


def test_the_seed_decides() -> None:
    proto = of_type("float")
    np.testing.assert_array_equal(values(proto, "x", seed=1)[0], values(proto, "x", seed=1)[0])
    assert not np.array_equal(values(proto, "x", seed=1)[0], values(proto, "x", seed=2)[0])


def test_free_dims_are_tried_at_two_bindings_and_said_so() -> None:
    found = generated(model("g (float[batch, 3] x) => (float[batch, 3] y) { y = Relu(x) }"), seed=5)
    assert {feed.values["x"].shape for feed in found} == {(2, 3), (1, 3)}
    assert [feed.label for feed in found][:2] == ["generated feed 1 (batch=2)", "generated feed 2 (batch=1)"]
    assert found.report.generated
    assert (found.report.seed, found.report.shapes) == (5, ("x[2,3]", "x[1,3]"))
    assert found.warnings == (
        "the inputs were generated, not real data; give --feeds for a verdict on the data that matters",
    )


def test_a_model_without_inputs_is_fed_nothing_once() -> None:
    (feed,) = generated(model("g () => (float[1] y) { y = Constant <value_floats = [1.0]> () }"))
    assert feed.values == {}


def test_switches_take_the_values_they_are_compared_with() -> None:
    proto = model(
        "g (int64 sr) => (bool y) { a = Equal(sr, r16)  b = Equal(sr, r8)  y = Or(a, b) }",
        r16=np.array(16000),
        r8=np.array(8000),
    )
    assert [int(value) for value in values(proto, "sr")] == [16000, 8000, 16000]


def test_a_boolean_alone_takes_both_values() -> None:
    assert {bool(value) for value in values(of_type("bool", ""), "x")} == {True, False}


def test_inputs_with_a_default_are_left_at_it() -> None:
    proto = model("g (float[2] x, float[2] w) => (float[2] y) { y = Add(x, w) }", w=np.ones(2, np.float32))
    assert all(set(feed.values) == {"x"} for feed in generated(proto))
    pinned = generated(proto, values={"w": "3"})
    assert all(feed.values["w"].tolist() == [3.0, 3.0] for feed in pinned)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("16000", [[16000.0] * 3] * 2), ("1,2,3", [[1.0, 2.0, 3.0]] * 2), ("1,2,3,4,5,6", [[1, 2, 3], [4, 5, 6]])],
)
def test_pinned_values_fill_their_input(text: str, expected: list[list[float]]) -> None:
    proto = of_type("float", "[2, 3]")
    assert values(proto, "x", values=parse_values([f"x={text}"]))[0].tolist() == expected


def test_pinned_values_of_other_types() -> None:
    assert values(of_type("bool", ""), "x", values={"x": "true"})[0].item() is True
    assert values(of_type("string", "[2]"), "x", values={"x": "a,b"})[0].tolist() == ["a", "b"]
    assert values(of_type("int64", "[2]"), "x", values={"x": np.array([4, 5])})[0].tolist() == [4, 5]


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        ({"values": {"y": "1"}}, "the model has no input named 'y'; did you mean 'x'?"),
        ({"values": {"x": "abc"}}, "the value 'abc' for the input 'x' is not a number or a comma list of numbers"),
        ({"values": {"x": "1.5"}}, "the value [1.5] does not fit the input 'x', which is int64[N,2]"),
        ({"values": {"x": "1,2,3"}}, "the value pinned for 'x' has 3 numbers, which do not fill int64[N,2]"),
        ({"sizes": {"M": 3}}, "no input of the model has a dim named 'M'; did you mean 'N'?"),
    ],
)
def test_wrong_pins_get_one_sentence(plan: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        generated(of_type("int64", "[N, 2]"), **plan)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("read", "text", "sentence"),
    [
        (parse_values, "sr", "--input-value 'sr' is not of the form NAME=VALUE, for example sr=16000"),
        (parse_values, "=3", "--input-value '=3' is not of the form NAME=VALUE, for example sr=16000"),
        (parse_values, "sr=", "--input-value 'sr=' is not of the form NAME=VALUE, for example sr=16000"),
        (parse_sizes, "batch=two", "--dim batch=two needs a whole number of zero or more, for example batch=4"),
        (parse_sizes, "batch=-1", "--dim batch=-1 needs a whole number of zero or more, for example batch=4"),
    ],
)
def test_malformed_pins_get_one_sentence(read: Callable[[list[str]], Any], text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        read([text])
    assert str(caught.value) == sentence


def test_pins_are_read() -> None:
    assert parse_values(["sr=16000", "a=b=1,2"]) == {"sr": "16000", "a=b": "1,2"}
    assert parse_sizes(["batch=4", "seq=0"]) == {"batch": 4, "seq": 0}


def test_sizes_are_tried_until_the_model_accepts_them() -> None:
    proto = model("g (float[N, C, H, W] x) => (float[N, C, H, W] y) { y = Relu(x) }")
    tried = []

    def picky(feed: Mapping[str, Any]) -> str:
        tried.append(feed["x"].shape)
        return "" if feed["x"].shape[2:] == (224, 224) else "wants 224 x 224"

    found = generated(proto, picky)
    assert {feed.values["x"].shape[2:] for feed in found} == {(224, 224)}
    assert len({feed.values["x"].shape for feed in found}) >= 2  # the second binding lies near the first
    assert 3 < len(tried) <= TRIES


def test_a_model_with_one_acceptable_size_is_said_to_have_one() -> None:
    proto = model("g (float[N, 30] x) => (float[N, 30] y) { y = Relu(x) }")
    found = generated(proto, lambda feed: "" if feed["x"].shape == (3, 30) else "no")
    normal, uniform, wide = (feed.values["x"] for feed in found)
    assert normal.min() < 0.0 <= uniform.min() < 0.1 < 0.9 < uniform.max() <= 1.0 < wide.max()
    assert found.warnings[1] == "the model accepted only one binding of its sizes (N=3)"


def test_values_are_made_timid_when_no_size_helps() -> None:
    proto = model("g (int64[N] i) => (int64[N] y) { y = Neg(i) }")
    found = generated(proto, lambda feed: "too large" if feed["i"].any() else "")
    assert all(not feed.values["i"].any() for feed in found)


def test_a_rank_that_is_not_declared_is_tried() -> None:
    proto = of_type("float")
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    found = generated(proto, lambda feed: "" if feed["x"].ndim == 4 else "wants an image")
    assert found.report.shapes == ("x[1,3,32,32]",)


def test_a_model_that_accepts_nothing_gets_one_sentence_with_the_reason() -> None:
    count = []

    def never(feed: Mapping[str, Any]) -> str:
        count.append(feed)
        return f"attempt {len(count)} was wrong"

    with pytest.raises(CouldNotTell) as caught:
        generated(model("g (float[N, M] x) => (float[N, M] y) { y = Relu(x) }"), never)
    assert str(caught.value) == (
        f"the model accepted none of {len(count)} generated inputs; give --feeds, or pin what it needs with --dim and "
        "--input-value; the first reason was: attempt 1 was wrong"
    )
    assert 10 < len(count) <= TRIES


def test_a_declared_size_that_is_absurd_is_not_allocated() -> None:
    with pytest.raises(CouldNotTell, match=r"the first reason was: x\[1099511627776\] is too large to be generated$"):
        generated(of_type("float", "[1099511627776]"))


def test_what_onnxruntime_says_is_quoted(worker: Worker, save: Any) -> None:
    proto = model(
        "g (float[N, 4] x) => (float[A] y) { y = Reshape(x, s) }",
        s=np.array([13]),
    )
    trial = ModelTrial(save(proto), worker)
    with pytest.raises(CouldNotTell, match=r"the first reason was: onnxruntime failed while running .*[Rr]eshape"):
        generated(proto, trial)
    trial.close()


def test_outputs_that_are_all_nan_are_no_feed(worker: Worker, save: Any) -> None:
    proto = model("g (float[1] x) => (float[1] y) { a = Relu(x)  b = Sub(a, a)  y = Div(b, b) }")
    trial = ModelTrial(save(proto), worker)
    assert trial({"x": np.ones(1, np.float32)}) == "every floating-point output is NaN"
    trial.close()


def test_the_model_itself_is_asked(worker: Worker, save: Any) -> None:
    proto = model(
        """g (float[N, C, H, W] image, int64[N, T] ids) => (float[A, B] y, float[N, T, 4] z) {
            c = Conv(image, w)  p = GlobalAveragePool(c)  y = Flatten(p)  z = Gather(t, ids)
        }""",
        w=np.zeros((8, 3, 5, 5), np.float32),
        t=np.zeros((9, 4), np.float32),
    )
    trial = ModelTrial(save(proto), worker)
    found = generated(proto, trial)
    trial.close()
    assert len(found) == 3
    assert all(feed.values["image"].shape[1] == 3 for feed in found)


def test_a_switch_is_also_set_to_something_else() -> None:
    """Where only one value is known to be compared with, the other branch is run all the same."""
    from graphopt.storage.read import from_proto
    from graphopt.testing import model
    from graphopt.validation.explore import explore
    from graphopt.validation.signature import required_inputs

    proto = from_proto(
        model(
            """g (float[N] x, int64 sr) => (float[N] y) <int64 rate = {16000}> {
                c = Equal(sr, rate)
                y = If (c) <
                    then_branch = t () => (float[N] p) { p = Relu(x) },
                    else_branch = e () => (float[N] q) { q = Neg(x) }
                >
            }"""
        ),
        None,
    ).proto
    found = explore(proto, required_inputs(proto), {}, {}, lambda values: "", 0)
    assert {int(feed.values["sr"]) for feed in found.feeds} == {16000, 8000}
    refused = explore(
        proto, required_inputs(proto), {}, {}, lambda values: "no" if int(values["sr"]) != 16000 else "", 0
    )
    assert {int(feed.values["sr"]) for feed in refused.feeds} == {16000}
    assert any("'sr' other than 16000" in warning for warning in refused.warnings)

"""kernels: rows off the sides of kernels together with the padding that they took."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from graphopt.analysis.cost import macs
from graphopt.analysis.shapes import infer
from graphopt.ir import decode
from graphopt.storage.read import from_proto
from graphopt.testing import apply, assert_missed, model
from graphopt.testing.apply import Applied
from passes.prune.kernel_cores import Core, Room
from passes.prune.kernels import Kernels

Array = np.ndarray[Any, Any]
Feeds = list[dict[str, Any]]


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def faded(*shape: int, by: float = 0.05, seed: int = 0) -> Array:
    """Weights whose outermost positions along each axis of the kernel count little."""
    values = floats(*shape, seed=seed)
    for axis, size in list(enumerate(shape))[2:]:
        ends = np.moveaxis(values, axis, 0)
        for place in {0, size - 1}:
            ends[place] *= by
    return values


def tensors(done: Applied) -> dict[str, Array]:
    return {one.name: numpy_helper.to_array(one) for one in done.after.graph.initializer}


def cost(proto: ModelProto) -> int:
    source = from_proto(proto)
    graph = decode(source.proto, source.store)
    return macs(graph, infer(graph)).count


def sized(proto: ModelProto, count: int = 4) -> Feeds:
    """Feeds away from zero, as padding would else change nothing."""
    size = [dim.dim_value or 6 for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    return [{"x": floats(*size, seed=one) + 1} for one in range(count)]


PLACES = {
    "pads": ("[2, 4, 11, 12] x", "kernel_shape = [5, 5], pads = [2, 2, 2, 2]", (6, 4, 5, 5)),
    "no kernel_shape": ("[2, 4, 11, 12] x", "pads = [1, 1, 1, 1]", (6, 4, 3, 3)),
    "uneven": ("[2, 4, 9, 9] x", "pads = [1, 2, 3, 1]", (6, 4, 3, 5)),
    "strides": ("[2, 4, 11, 12] x", "pads = [1, 1, 1, 1], strides = [2, 3]", (6, 4, 3, 3)),
    "dilations": ("[2, 4, 11, 12] x", "pads = [2, 4, 2, 4], dilations = [2, 2]", (6, 4, 3, 5)),
    "groups": ("[2, 4, 11, 12] x", "pads = [1, 1, 1, 1], group = 2", (6, 2, 3, 3)),
    "depthwise": ("[2, 4, 11, 12] x", "pads = [2, 2, 2, 2], group = 4", (4, 1, 5, 5)),
    "upper": ("[2, 4, 11, 12] x", 'auto_pad = "SAME_UPPER"', (6, 4, 4, 5)),
    "lower": ("[2, 4, 11, 12] x", 'auto_pad = "SAME_LOWER"', (6, 4, 4, 3)),
    "upper strided": ("[2, 4, 11, 12] x", 'auto_pad = "SAME_UPPER", strides = [2, 2]', (6, 4, 5, 5)),
    "unknown size": ("[2, 4, H, W] x", 'auto_pad = "SAME_UPPER"', (6, 4, 3, 3)),
    "one axis": ("[2, 4, 20] x", "pads = [3, 3]", (6, 4, 7)),
    "three axes": ("[1, 3, 5, 6, 7] x", "pads = [1, 1, 1, 1, 1, 1]", (4, 3, 3, 3, 3)),
}


def placed(name: str, weights: Array | None = None) -> ModelProto:
    data, placing, shape = PLACES[name]
    rank = len(shape) - 2
    made = ", ".join("NCHWD"[: rank + 2])
    values = floats(*shape) if weights is None else weights
    text = f"g (float{data}) => (float[{made}] y) {{ y = Conv<{placing}>(x, w, b) }}"
    return model(text, w=values, b=floats(shape[0]))


@pytest.mark.parametrize("name", PLACES)
def test_rows_of_zeros_go_and_nothing_changes(name: str) -> None:
    shape = PLACES[name][2]
    proto = placed(name, faded(*shape, by=0.0))
    done = apply(Kernels(share=0.05, repair=False), proto, feeds=sized(proto))
    assert [one.rule for one in done.applied] == ["kernels"]
    assert np.prod(tensors(done)["w"].shape) < np.prod(shape)
    assert done.sqnr_db("y") > 100


@pytest.mark.parametrize("name", PLACES)
def test_the_best_fit_of_what_stays_keeps_places_and_sizes(name: str) -> None:
    proto = placed(name, faded(*PLACES[name][2]))
    feeds = sized(proto)
    done = apply(Kernels(share=0.2), proto, feeds=feeds)
    assert done.applied[0].rule == "kernels"
    assert done.sqnr_db("y") > 8
    known = "H" not in PLACES[name][0]
    assert not known or cost(done.after) <= 0.8 * cost(proto) + 1


def test_a_row_goes_with_the_padding_that_it_takes() -> None:
    weights = floats(6, 4, 3, 3)
    weights[:, :, 0] = 0
    proto = model("g (float[2, 4, 9, 9] x) => (float[2, 6, 9, 9] y) { y = Conv<pads = [1, 1, 1, 1]>(x, w) }", w=weights)
    done = apply(Kernels(share=0.3), proto, feeds=sized(proto))
    assert done.body == "y = Conv<kernel_shape=[2, 3], pads=[0, 1, 1, 1]>(x, w)"
    assert done.applied[0].why.startswith("kernel 2x3 of 3x3, error ")
    assert np.array_equal(tensors(done)["w"], weights[:, :, 1:])


def test_auto_pad_is_written_out() -> None:
    weights = floats(6, 4, 2, 5)
    weights[..., -1] = 0
    text = 'g (float[2, 4, H, W] x) => (float[2, 6, H, W] y) { y = Conv<auto_pad = "SAME_UPPER">(x, w) }'
    proto = model(text, w=weights)
    done = apply(Kernels(share=0.2), proto, feeds=sized(proto))
    # Of two rows the second reads the padding, which SAME_UPPER has behind the data.
    assert done.body == "y = Conv<kernel_shape=[2, 4], pads=[0, 2, 1, 1]>(x, w)"


def test_cores_never_take_more_than_the_padding() -> None:
    room = Room((5, 3), (1, 0), (4, 1), (2, 1))
    seen, due = set[Core](), [room.whole]
    while due:
        core = due.pop()
        seen.add(core)
        assert min(room.pads(core)) >= 0
        assert min(core.sizes) >= 1
        due += [one for one in room.smaller(core) if one not in seen]
    # No row in front of the first axis (one step is two), two behind; none and one of the second.
    assert {one.sizes for one in seen} == {(5, 3), (4, 3), (3, 3), (5, 2), (4, 2), (3, 2)}
    assert Core((1, 0), (3, 2)).inputs(2, (3, 2)).tolist() == [2, 3, 4, 5, 8, 9, 10, 11]


def two() -> ModelProto:
    text = """g (float[1, 4, 12, 12] x) => (float[1, 8, 12, 12] y) {
        a = Conv<pads = [1, 1, 1, 1]>(x, v, b)  r = Relu(a)  y = Conv<pads = [1, 1, 1, 1]>(r, w, c) }"""
    return model(text, v=faded(8, 4, 3, 3, by=0.02), b=floats(8), w=floats(8, 8, 3, 3), c=floats(8))


def test_what_loses_least_gives_most_and_the_layers_behind_are_fitted() -> None:
    proto = two()
    done = apply(Kernels(share=0.2), proto, feeds=sized(proto, 8))
    assert [one.node for one in done.applied if one.rule == "kernels"] == ["Conv(a)"]
    assert_missed(done, "kernels", "others save at less")
    assert "repair" in {one.rule for one in done.applied}
    plain = apply(Kernels(share=0.5, repair=False), proto, feeds=sized(proto, 8))
    fitted = apply(Kernels(share=0.5), proto, feeds=sized(proto, 8))
    assert {one.rule for one in plain.applied} == {"kernels"}
    assert fitted.sqnr_db("y") > plain.sqnr_db("y") + 1


def test_what_the_outputs_care_for_keeps_its_rows() -> None:
    text = """g (float[1, 4, 9, 9] x) => (float[1, 4, 9, 9] y) {
        a = Conv<pads = [1, 1, 1, 1]>(x, v)  b = Conv<pads = [1, 1, 1, 1]>(x, w)  c = Mul(b, k)  y = Add(a, c) }"""
    small = np.array(0.01, np.float32)
    proto = model(text, v=faded(4, 4, 3, 3, by=0.2), w=floats(4, 4, 3, 3, seed=1), k=small)
    nodes = {
        importance: [
            one.node
            for one in apply(Kernels(share=0.2, importance=importance), proto, feeds=sized(proto, 8)).applied
            if one.rule == "kernels"
        ]
        for importance in ("result", "output")
    }
    # The first loses less of its own result with a row; of the outputs the second is a hundredth.
    assert nodes == {"result": ["Conv(a)"], "output": ["Conv(b)"]}


def test_blocks_of_results_count_as_whole_ones() -> None:
    text = """g (float[1, 16, 9, 9] x) => (float[1, 2, 9, 9] y, float[1, 32, 9, 9] z) {
        y = Conv<pads = [1, 1, 1, 1]>(x, v)  z = Conv<pads = [1, 1, 1, 1]>(x, w) }"""
    proto = model(text, v=faded(2, 16, 3, 3, by=0.3), w=faded(32, 16, 3, 3, by=0.3, seed=1))
    feeds = sized(proto, 8)
    of_two = [
        tensors(apply(Kernels(share=0.5, block=block), proto, feeds=feeds, laws=False))["v"].size for block in (1, 16)
    ]
    # As sixteenth parts of what the other has, its rows are not worth their errors; as half of it they are.
    assert of_two[1] < of_two[0]


def test_zeros_stay_zero() -> None:
    weights = faded(8, 4, 3, 3)
    gone = np.random.default_rng(0).random(weights.shape) < 0.5
    weights[gone] = 0
    text = "g (float[1, 4, 12, 12] x) => (float[1, 8, 12, 12] y) { y = Conv<pads = [1, 1, 1, 1]>(x, w, b) }"
    proto = model(text, w=weights, b=floats(8))
    made = tensors(apply(Kernels(share=0.6), proto, feeds=sized(proto, 8)))["w"]
    assert 0 < made.size < weights.size
    assert np.mean(made == 0) > 0.3


def test_nothing_is_saved_where_nothing_is_wanted() -> None:
    done = apply(Kernels(share=0.0), two(), feeds=sized(two()))
    assert not done.applied
    assert done.after == two()
    assert_missed(done, "kernels", "share is 0")


def test_what_cannot_be_had_is_said() -> None:
    done = apply(Kernels(share=0.99), two(), feeds=sized(two()), laws=False)
    assert_missed(done, "kernels", "only 88.9% of what these layers compute can be saved in all, not 99.0%")
    assert {one.shape for name, one in tensors(done).items() if one.ndim == 4} == {(8, 4, 1, 1), (8, 8, 1, 1)}


def test_equal_runs_give_equal_bytes() -> None:
    one, other = (apply(Kernels(share=0.4), two(), feeds=sized(two()), laws=False) for _ in range(2))
    assert one.after.SerializeToString() == other.after.SerializeToString()


@pytest.mark.parametrize(
    ("text", "shape", "why"),
    [
        ("(float[1, 4, 9, 9] x) => (float[1, 6, 9, 9] y) { y = Conv(x, w) }", (6, 4, 1, 1), "is of one position"),
        ("(float[1, 4, 9, 9] x) => (float[1, 6, 7, 7] y) { y = Conv(x, w) }", (6, 4, 3, 3), "reads no padding"),
        (
            '(float[1, 4, 9, 9] x) => (float[1, 6, 7, 7] y) { y = Conv<auto_pad = "VALID">(x, w) }',
            (6, 4, 3, 3),
            "reads no padding",
        ),
        (
            "(float[1, 4, 9, 9] x) => (float[1, 6, 7, 7] y) { y = Conv<dilations=[2, 2], pads=[1, 1, 1, 1]>(x, w) }",
            (6, 4, 3, 3),
            "reads no padding",
        ),
        (
            '(float[1, 4, H, 9] x) => (float[1, 6, G, 5] y) { y = Conv<auto_pad="SAME_LOWER", strides=[2, 2]>(x, w) }',
            (6, 4, 3, 3),
            "its padding (SAME_LOWER) follows from a size that is not known",
        ),
        (
            "(float[1, 4, 9, 9] x, float[4, 4, 3, 3] w) => (float[1, 4, 9, 9] y) { y = Conv<pads=[1, 1, 1, 1]>(x, w) }",
            (4, 4, 3, 3),
            "callers may give: run initializers-from-inputs first",
        ),
        (
            """(float[1, 4, 9, 9] x) => (float[1, 4, 9, 9] y) {
                a = Conv<pads=[1, 1, 1, 1]>(x, w)  y = Conv<pads=[1, 1, 1, 1]>(a, w) }""",
            (4, 4, 3, 3),
            "read by something else, too",
        ),
    ],
)
def test_kernels_that_are_left(text: str, shape: tuple[int, ...], why: str) -> None:
    done = apply(Kernels(), model(f"g {text}", w=floats(*shape)), feeds=())
    assert_missed(done, "kernels", why)
    assert not done.applied


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_and_data_that_are_no_numbers_are_left(value: float) -> None:
    text = "g (float[1, 2, 9, 9] x) => (float[1, 2, 9, 9] y) { y = Conv<pads = [1, 1, 1, 1]>(x, w) }"
    weights = floats(2, 2, 3, 3)
    weights[0, 0, 0] = value
    assert_missed(apply(Kernels(), model(text, w=weights), feeds=(), laws=False), "kernels", "NaN or infinities")
    feeds = [{"x": np.full((1, 2, 9, 9), value, np.float32)}]
    done = apply(Kernels(), model(text, w=floats(2, 2, 3, 3)), feeds=feeds, laws=False)
    assert_missed(done, "kernels", "its data or results have NaN or infinities")


def test_results_that_do_not_vary_are_left() -> None:
    text = "g (float[1, 2, 9, 9] x) => (float[1, 2, 9, 9] y) { y = Conv<pads = [1, 1, 1, 1]>(x, w) }"
    proto = model(text, w=np.zeros((2, 2, 3, 3), np.float32))
    done = apply(Kernels(), proto, feeds=sized(proto))
    assert_missed(done, "kernels", "its results do not vary")


def test_skip_and_only() -> None:
    done = apply(Kernels(share=0.2, skip=("v",), only=("v", "Conv*")), two(), feeds=sized(two()), laws=False)
    assert_missed(done, "kernels", "skip has 'v'")
    assert [one.node for one in done.applied if one.rule == "kernels"] == ["Conv(y)"]
    assert_missed(apply(Kernels(only=("v",)), two(), feeds=sized(two()), laws=False), "kernels", "only has no pattern")


@pytest.mark.parametrize("opset", [7, 11, 17, 22])
def test_opsets(opset: int) -> None:
    head = f'<ir_version: 4, opset_import: ["": {opset}]> '
    text = "g (float[1, 4, 9, 9] x) => (float[1, 6, 9, 9] y) { y = Conv<pads = [1, 1, 1, 1]>(x, w, b) }"
    proto = model(head + text, w=floats(6, 4, 3, 3), b=floats(6))
    assert apply(Kernels(), proto, feeds=sized(proto)).applied


def test_bodies_and_functions() -> None:
    text = """
        <ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (bool c, float[1, 4, 9, 9] x) => (float[1, 4, 9, 9] y) {
            a = If(c)<then_branch = t () => (float[1, 4, 9, 9] o) { o = Conv<pads = [1, 1, 1, 1]>(x, k) },
                      else_branch = e () => (float[1, 4, 9, 9] o) { o = Conv<pads = [1, 1, 1, 1]>(x, w) }>
            y = local.blur(a)
        }
        <domain: "local", opset_import: ["": 21]> blur (a) => (d) { d = Conv<pads = [1, 1, 1, 1]>(a, k) }
        """
    proto = model(text, w=floats(4, 4, 3, 3))
    value = numpy_helper.from_array(floats(4, 4, 3, 3, seed=2))
    for nodes in (proto.graph.node[0].attribute[0].g.node, proto.functions[0].node):
        nodes.insert(0, helper.make_node("Constant", [], ["k"], value=value))
    feeds = [{"c": np.array(one), "x": floats(1, 4, 9, 9, seed=one)} for one in (False, True, False, True)]
    done = apply(Kernels(share=0.3), proto, feeds=feeds)
    assert {one.scope for one in done.applied} >= {"If(a).else_branch", "If(a).then_branch"}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"share": 1.5}, "share must be from 0 to 1"),
        ({"block": 0}, "block must be at least 1"),
        ({"damping": -1.0}, "damping must be from 0 to 100"),
        ({"rows": -1}, "must not be negative"),
        ({"samples": -1}, "must not be negative"),
    ],
)
def test_options_are_checked(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Kernels(**options)

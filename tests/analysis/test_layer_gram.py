"""What weights multiply: rows times weights is what the operator computes, and Gram matrices are their sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from graphopt.analysis.layer_gram import LayerGram
from graphopt.analysis.layer_inputs import Vectors, inputs_of, piecewise
from graphopt.ir import Node, Variable

Array = np.ndarray[Any, Any]


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def computed(op: str, attributes: dict[str, Any], inputs: list[Array]) -> Array:
    names = [f"i{index}" for index in range(len(inputs))]
    node = helper.make_node(op, names, ["y"], **attributes)
    infos = [helper.make_tensor_value_info(name, 1, one.shape) for name, one in zip(names, inputs, strict=True)]
    graph = helper.make_graph([node], "g", infos, [helper.make_tensor_value_info("y", 1, None)])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return np.asarray(ReferenceEvaluator(made).run(None, dict(zip(names, inputs, strict=True)))[0])


def rows_of(op: str, attributes: dict[str, Any], data: Array, weight: Array, slot: int = 1) -> Array:
    tensors = [Variable("a"), Variable("b")]
    node = Node(op, "n", attributes, tensors, [Variable("y")])
    found = inputs_of(node, slot, weight.shape)
    assert not isinstance(found, str)
    tensor, rows = found
    assert tensor is tensors[1 - slot]
    assert rows.why_not(data) is None
    return rows.rows(data, np.arange(rows.places(data)))


CONVS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 9, 8), (4, 3, 3, 3), {}),
    ((2, 4, 9, 8), (6, 2, 3, 2), {"group": 2, "strides": [2, 1], "pads": [1, 0, 2, 1]}),
    ((1, 5, 11, 10), (5, 1, 3, 3), {"group": 5, "dilations": [2, 3], "pads": [1, 1, 1, 1]}),
    ((2, 3, 17), (4, 3, 5), {"strides": [3], "pads": [2, 0], "dilations": [2]}),
    ((2, 3, 7, 6), (4, 3, 1, 1), {}),
    ((1, 2, 10, 7), (3, 2, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((1, 2, 10, 7), (3, 2, 4, 2), {"auto_pad": "SAME_LOWER", "strides": [3, 2]}),
    ((1, 2, 10, 7), (3, 2, 3, 2), {"auto_pad": "VALID", "strides": [2, 2]}),
    ((1, 2, 5, 6, 4), (3, 2, 3, 3, 2), {"pads": [1, 0, 1, 1, 0, 1]}),
]


@pytest.mark.parametrize(("size", "kernel", "attributes"), CONVS)
def test_patches_times_weights_are_the_convolution(
    size: tuple[int, ...], kernel: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    data, weight = floats(*size), floats(*kernel, seed=1)
    groups = attributes.get("group", 1)
    rows = rows_of("Conv", attributes, data, weight)
    made = rows @ weight.reshape(groups, kernel[0] // groups, -1).transpose(0, 2, 1)  # [groups, places, outputs]
    wanted = computed("Conv", attributes, [data, weight])
    flat = np.moveaxis(wanted, 1, -1).reshape(-1, groups, kernel[0] // groups).transpose(1, 0, 2)
    np.testing.assert_allclose(made, flat, rtol=1e-4, atol=1e-4)


def test_points_times_weights_are_the_transposed_convolution_where_products_do_not_meet() -> None:
    data, weight = floats(2, 4, 5, 3), floats(4, 3, 2, 2, seed=1)
    attributes = {"group": 2, "strides": [2, 2]}
    made = rows_of("ConvTranspose", attributes, data, weight) @ weight.reshape(2, 2, 12)
    cut = made.reshape(2, 2, 5, 3, 3, 2, 2).transpose(1, 0, 4, 2, 5, 3, 6).reshape(2, 6, 10, 6)
    parts = [(data[:, at : at + 2], weight[at : at + 2]) for at in (0, 2)]
    wanted = np.concatenate([computed("ConvTranspose", {"strides": [2, 2]}, list(part)) for part in parts], axis=1)
    np.testing.assert_allclose(cut, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("flipped", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_vectors_times_weights_are_the_gemm(slot: int, flipped: tuple[int, int]) -> None:
    shapes = [(5, 7), (7, 4)]
    both = [
        floats(*(shape[::-1] if flip else shape), seed=i)
        for i, (shape, flip) in enumerate(zip(shapes, flipped, strict=True))
    ]
    attributes = {"transA": flipped[0], "transB": flipped[1]}
    rows = rows_of("Gemm", attributes, both[1 - slot], both[slot], slot)[0]
    weight = both[slot].T if flipped[slot] else both[slot]
    made = rows @ weight if slot == 1 else (rows @ weight.T).T
    np.testing.assert_allclose(made, computed("Gemm", attributes, both), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("slot", [0, 1])
def test_vectors_times_weights_are_the_product(slot: int) -> None:
    weight = floats(6, 5, seed=1)
    data = floats(2, 3, 6) if slot == 1 else floats(2, 5, 4)
    rows = rows_of("MatMul", {}, data, weight, slot)[0]
    made = (rows @ weight).reshape(2, 3, 5) if slot == 1 else (rows @ weight.T).reshape(2, 4, 6).swapaxes(1, 2)
    wanted = data @ weight if slot == 1 else weight @ data
    np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("op", "attributes", "slot", "why"),
    [
        ("Gather", {}, 0, "looked up"),
        ("LSTM", {}, 2, "states"),
        ("Conv", {"strides": [1]}, 1, "strides"),
        ("Conv", {"auto_pad": "OTHER"}, 1, "auto_pad"),
        ("Conv", {"pads": [-1, 0, 0, 0]}, 1, "not positive"),
        ("Conv", {"group": 0}, 1, "only where the function is called"),
    ],
)
def test_what_has_no_rows_says_why(op: str, attributes: dict[str, Any], slot: int, why: str) -> None:
    node = Node(op, "n", attributes, [Variable("a"), Variable("b"), Variable("c")], [Variable("y")])
    found = inputs_of(node, slot, (4, 3, 3, 3))
    assert isinstance(found, str)
    assert why in found


def test_sums_over_feeds_are_the_gram_matrix_of_all_rows() -> None:
    feeds = [floats(2, 9, 6, seed=i) for i in range(3)]
    gram = LayerGram(Vectors())
    for feed in feeds:
        gram.update(feed)
    rows = np.concatenate([feed.reshape(-1, 6) for feed in feeds]).astype(np.float64)
    assert gram.count == len(rows)
    np.testing.assert_allclose(gram.matrix[0], rows.T @ rows, rtol=1e-5, atol=1e-4)


def test_two_values_are_summed_crosswise() -> None:
    now, then = floats(8, 5), floats(8, 5, seed=1)
    gram = LayerGram(Vectors())
    gram.update(now, then)
    assert gram.cross is not None
    np.testing.assert_allclose(gram.cross[0], now.T.astype(np.float64) @ then, rtol=1e-5, atol=1e-5)


def test_what_was_summed_up_can_be_kept() -> None:
    one, other = LayerGram(Vectors()), LayerGram(Vectors())
    one.update(floats(8, 5), floats(8, 5, seed=1))
    other.restore(one.state())
    assert other.cross is not None
    assert one.cross is not None
    assert (other.count, other.trouble, other.key) == (8, None, one.key)
    assert (other.matrix == one.matrix).all()
    assert (other.cross == one.cross).all()
    one.update(floats(8, 6))
    other.restore(one.state())
    assert other.trouble == "its data change in size from feed to feed"


def test_trouble_is_told_and_not_raised() -> None:
    other, changed, flat = LayerGram(Vectors()), LayerGram(Vectors()), LayerGram(Vectors(-2))
    other.update(floats(3, 4), floats(3, 5))
    changed.update(floats(3, 4))
    changed.update(floats(3, 5))
    flat.update(floats(4))
    assert [one.trouble for one in (other, changed, flat)] == [
        "its data had another shape in the original",
        "its data change in size from feed to feed",
        "its data have rank 1",
    ]


@pytest.mark.parametrize(("total", "most"), [(10, 0), (10, 4), (10, 10), (100_000, 999), (0, 5)])
def test_places_are_spread_evenly(total: int, most: int) -> None:
    pieces = piecewise(total, most, 1000)
    which = np.concatenate([np.zeros(0, np.int64), *pieces])
    assert len(np.unique(which)) == len(which)
    assert all(len(piece) <= max((1 << 22) // 1000, 1) for piece in pieces)
    if most == 0 or most >= total:
        assert which.tolist() == list(range(total))
    else:
        assert 0.9 * most <= len(which) <= most
        assert np.diff(which, prepend=0, append=total).max() <= 3 * total / most

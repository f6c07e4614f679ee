"""no-op-views: a view goes where the shape that comes out is provably the one that went in."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.eliminate.no_op_views import NoOpViews


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def view(step: str, shape: str = "N, 4", version: int = 21, out: str | None = None, **weights: object) -> Applied:
    """What becomes of one step, between an Abs and a Neg."""
    head = f'<ir_version: 8, opset_import: ["": {version}]>'
    signature = f"g (float[{shape}] x) => (float[{shape if out is None else out}] y)"
    return apply(NoOpViews(), model(f"{head} {signature} {{ a = Abs(x)  b = {step}  y = Neg(b) }}", **weights))


def gone(done: Applied) -> bool:
    return done.body == "a = Abs(x)\ny = Neg(a)"


@pytest.mark.parametrize(
    ("step", "shape"),
    [
        ("Transpose<perm = [0, 1]>(a)", "N, 4"),
        ("Transpose<perm = [0, 2, 1, 3]>(a)", "N, 1, 1, 4"),
        ("Transpose(a)", "N"),
        ("Transpose(a)", "1, 1"),
    ],
)
def test_transposes_that_move_nothing(step: str, shape: str) -> None:
    assert gone(view(step, shape))


@pytest.mark.parametrize(
    ("step", "shape", "out"),
    [("Transpose<perm = [1, 0]>(a)", "4, 4", "4, 4"), ("Transpose<perm = [1, 0]>(a)", "1, N", "N, 1")],
)
def test_transposes_that_move_something(step: str, shape: str, out: str) -> None:
    assert view(step, shape, out=out).applied == ()


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ("N, 4", (-1, 4)),
        ("N, 4", (0, 4)),
        ("N, 4", (0, -1)),
        ("N", (-1,)),
        ("2, 4", (2, 4)),
        ("N, M, 4", (0, -1, 4)),
    ],
)
@pytest.mark.parametrize("version", [8, 13, 21])
def test_reshapes_to_the_same_shape(shape: str, target: tuple[int, ...], version: int) -> None:
    done = view("Reshape(a, s)", shape, version, s=ints(*target))
    assert gone(done) and not done.after.graph.initializer


@pytest.mark.parametrize(
    ("shape", "target", "out"),
    [
        ("N, 4", (-1, 2), "M, 2"),
        ("N, M", (-1, 0), "K, M"),
        ("4, 4", (2, 8), "2, 8"),
        ("N, 4", (4, -1), "4, N"),
        ("N, 4", (-1,), "M"),
    ],
)
def test_reshapes_to_another_shape(shape: str, target: tuple[int, ...], out: str) -> None:
    done = view("Reshape(a, s)", shape, out=out, s=ints(*target))
    assert gone(done) == (target == (-1, 0))  # there only the first axis is left to take what is left


def test_a_zero_that_is_no_copy() -> None:
    assert gone(view("Reshape(a, s)", "N, 4", s=ints(0, 4)))
    assert view("Reshape<allowzero = 1>(a, s)", "N, 0", s=ints(0, 0), out="0, 0").applied == ()


def test_reshape_to_a_shape_that_is_computed() -> None:
    text = "g (float[N, 4] x) => (float[N, 4] y) { s = Shape(x)  a = Abs(x)  b = Reshape(a, s)  y = Neg(b) }"
    assert "Reshape" not in apply(NoOpViews(), model(text)).body


def test_reshape_to_a_shape_known_at_run_time_only() -> None:
    text = "g (float[N, 4] x, int64[2] s) => (float[M, K] y) { b = Reshape(x, s)  y = Neg(b) }"
    assert apply(NoOpViews(), model(text), feeds=()).applied == ()


def test_flatten() -> None:
    assert gone(view("Flatten(a)"))
    assert gone(view("Flatten<axis = -1>(a)"))
    assert gone(view("Flatten<axis = 0>(a)", "1, 4"))
    assert view("Flatten(a)", "N, 2, 2", out="N, 4").applied == ()
    assert view("Flatten<axis = 0>(a)", "2, 4", out="1, 8").applied == ()


def test_squeeze_where_no_axis_is_1() -> None:
    assert gone(view("Squeeze(a)", "2, 4"))
    assert gone(view("Squeeze(a, e)", "2, 4", e=ints()))
    assert gone(view("Squeeze(a)", "2, 4", version=11))
    assert view("Squeeze(a)", "N, 4", out="K, L").applied == ()  # N may be 1
    assert view("Squeeze(a, e)", "1, 4", out="4", e=ints(0)).applied == ()
    assert view("Squeeze<axes = [0]>(a)", "1, 4", out="4", version=11).applied == ()


def test_unsqueeze_of_no_axes() -> None:
    assert gone(view("Unsqueeze(a, e)", e=ints()))
    assert view("Unsqueeze(a, e)", out="1, N, 4", e=ints(0)).applied == ()


@pytest.mark.parametrize("target", [(1, 1), (1, 4), (4,), (1,), (), (3, 4)])
def test_expand_to_no_more(target: tuple[int, ...]) -> None:
    assert gone(view("Expand(a, s)", "3, 4", s=ints(*target)))


@pytest.mark.parametrize(
    ("shape", "target", "out"), [("N, 4", (2, 4), "K, 4"), ("N, 4", (1, 1, 4), "1, N, 4"), ("1, 4", (3, 1), "3, 4")]
)
def test_expand_that_may_enlarge(shape: str, target: tuple[int, ...], out: str) -> None:
    assert (
        apply(
            NoOpViews(),
            model(f"g (float[{shape}] x) => (float[{out}] y) {{ b = Expand(x, s)  y = Neg(b) }}", s=ints(*target)),
            feeds=(),
        ).applied
        == ()
    )


def test_tile_and_blocks() -> None:
    assert gone(view("Tile(a, s)", s=ints(1, 1)))
    assert view("Tile(a, s)", out="N, 8", s=ints(1, 2)).applied == ()
    assert gone(view("DepthToSpace<blocksize = 1>(a)", "N, 4, 2, 2"))
    assert gone(view("SpaceToDepth<blocksize = 1>(a)", "N, 4, 2, 2"))
    assert view("SpaceToDepth<blocksize = 2>(a)", "N, 4, 2, 2", out="N, 16, 1, 1").applied == ()


def test_outputs_bodies_and_functions() -> None:
    done = apply(NoOpViews(), model("g (float[N] x) => (float[N] y) { y = Transpose<perm = [0]>(x) }"))
    assert_missed(done, "transpose", "'y' is a graph output and 'x' an input")
    text = """<ir_version: 10, opset_import: ["": 21, "f": 1]> g (bool c, float[N] x) => (float[N] z) {
        y = If(c)<then_branch = t () => (float[N] o) { p = Transpose<perm = [0]>(x)  o = Neg(p) },
                  else_branch = e () => (float[N] o) { o = Abs(x) }>
        z = f.go(y) }
    <domain: "f", opset_import: ["": 21]> go (x) => (y) { a = Transpose<perm = [0]>(x)  y = Neg(a) }"""
    assert "Transpose" not in apply(NoOpViews(), model(text)).body


def test_what_a_function_is_told_is_not_known() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "f": 1]> g (float[N, 4] x) => (float[K, L] y)
        { y = f.go<p = [1, 0]>(x) }
    <domain: "f", opset_import: ["": 21]> go <p> (x) => (y) { a = Transpose<perm: ints = @p>(x)  y = Neg(a) }"""
    assert apply(NoOpViews(), model(text)).applied == ()


def test_two_sizes_that_are_not_told() -> None:
    """One size may follow from the others; a second one is somebody else's."""
    text = "g (float[N, M] x, int64[2] t) => (float[A, B] y) { b = Reshape(x, t)  y = Neg(b) }"
    assert apply(NoOpViews(), model(text), feeds=()).applied == ()
    head = '<ir_version: 8, opset_import: ["": 17]> g (float[N, M, 4] x, float[A, B, 4] z) => (float[P, Q, 4] y)'
    body = """{ m = Shape<start = 1, end = 2>(W)  s = Concat<axis = 0>(k, m, f)  b = Reshape(x, s)  y = Neg(b) }"""
    own = apply(NoOpViews(), model(f"{head} {body.replace('W', 'x')}", k=ints(-1), f=ints(4)))
    assert own.body.endswith("y = Neg(x)")
    other = model(f"{head} {body.replace('W', 'z')}", k=ints(-1), f=ints(4))
    feeds = [{"x": np.ones((2, 3, 4), "f"), "z": np.ones((1, 2, 4), "f")}]
    assert apply(NoOpViews(), other, feeds=feeds).applied == ()


@pytest.mark.parametrize("version", [1, 4])
def test_reshapes_of_old_versions(version: int) -> None:
    proto = model(
        f"""<ir_version: 3, opset_import: ["": {version}]> g (float[3, 4] x) => (float[A, B] y) {{
            b = Reshape<shape = [3, 4]>(x)  y = Neg(b) }}"""
    )
    assert apply(NoOpViews(), proto, feeds=()).body == "y = Neg(x)"
    proto.graph.node[0].attribute[0].ints[:] = [4, 3]
    assert apply(NoOpViews(), proto, feeds=()).applied == ()


def test_flatten_of_a_matrix_at_each_axis() -> None:
    for axis, kept in ((1, True), (-1, True), (0, False), (2, False), (-2, False)):
        assert bool(view(f"Flatten<axis = {axis}>(a)", "N, 4", out="A, B").applied) == kept


def test_squeeze_that_names_axes_or_none() -> None:
    assert view("Squeeze(a, k)", "N, 1", out="N", k=ints(1)).applied == ()
    assert gone(view("Squeeze(a)", "3, 4"))
    assert view("Squeeze(a)", "N, 4", out="A, B").applied == ()
    assert gone(view("Squeeze(a)", "0, 4"))


def test_tiles_of_old_versions() -> None:
    text = '<ir_version: 8, opset_import: ["": {0}]> g (float[3, 4] x) => (float[A, B] y)'
    text += " {{ b = Tile(x, {1})  y = Neg(b) }}"
    six = model(text.format(6, "r"), r=ints(1, 1))
    assert apply(NoOpViews(), six, feeds=()).body == "y = Neg(x)"
    one = model(text.format(1, "r, k"), r=np.float32(1), k=np.float32(0))
    assert apply(NoOpViews(), one, feeds=()).applied == ()


@pytest.mark.parametrize("attribute", ["", "<allowzero = 1>"])
def test_one_size_that_follows_from_the_others(attribute: str) -> None:
    """Of a size that may be 0 the other one does not follow; but then no run gets by it."""
    head = '<ir_version: 8, opset_import: ["": 17]> g (float[N, M] x) => (float[P, Q] y)'
    body = "m = Shape<start = 1, end = 2>(x)  s = Concat<axis = 0>(k, m)"
    text = f"{head} {{ {body}  b = Reshape{attribute}(x, s)  y = Neg(b) }}"
    done = apply(NoOpViews(), model(text, k=ints(-1)), feeds=[{"x": np.ones((2, 3), "f")}])
    assert done.applied  # where the size is 0 and no copy, the original fails
    other = text.replace("start = 1, end = 2", "start = 0, end = 1")
    done = apply(NoOpViews(), model(other, k=ints(-1)), feeds=[{"x": np.ones((2, 3), "f")}])
    assert done.applied == ()

"""no-op-slices: what takes everything or adds nothing goes, and only that."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.testing import Applied, apply, assert_missed, model
from passes.eliminate.no_op_slices import NoOpSlices

MAX, MIN = 2**63 - 1, -(2**63)


def ints(*values: object) -> np.ndarray:
    return np.array(values, np.int64)


def cut(step: str, shape: str = "N, 4", version: int = 17, out: str | None = None, **weights: object) -> Applied:
    """What becomes of one step, between an Abs and a Neg."""
    head = f'<ir_version: 8, opset_import: ["": {version}]>'
    signature = f"g (float[{shape}] x) => (float[{shape if out is None else out}] y)"
    return apply(NoOpSlices(), model(f"{head} {signature} {{ a = Abs(x)  b = {step}  y = Neg(b) }}", **weights))


def gone(done: Applied) -> bool:
    return done.body == "a = Abs(x)\ny = Neg(a)" and not done.after.graph.initializer


WHOLE = [((0,), (MAX,), (0,)), ((0,), (2**31 - 1,), (0,)), ((MIN,), (MAX,), (0,)), ((0,), (4,), (1,))]
WHOLE += [((0,), (9,), (-1,)), ((-4,), (4,), (1,)), ((-9,), (4,), (1,)), ((0, 0), (MAX, 4), (0, 1))]
PARTS = [((0,), (100,), (0,), "M, 4"), ((1,), (MAX,), (0,), "M, 4"), ((0,), (3,), (1,), "N, 3")]
PARTS += [((-3,), (4,), (1,), "N, 3"), ((0,), (-1,), (1,), "N, 3"), ((-100,), (MAX,), (0,), "M, 4")]


@pytest.mark.parametrize(("starts", "ends", "axes"), WHOLE)
def test_slices_of_everything(starts: tuple[int, ...], ends: tuple[int, ...], axes: tuple[int, ...]) -> None:
    assert gone(cut("Slice(a, s, e, k)", s=ints(*starts), e=ints(*ends), k=ints(*axes)))


@pytest.mark.parametrize(("starts", "ends", "axes", "out"), PARTS)
def test_slices_of_parts(starts: tuple[int], ends: tuple[int], axes: tuple[int], out: str) -> None:
    assert cut("Slice(a, s, e, k)", out=out, s=ints(*starts), e=ints(*ends), k=ints(*axes)).applied == ()


def test_slices_with_steps() -> None:
    bounds = {"s": ints(0), "e": ints(MAX), "k": ints(0)}
    assert gone(cut("Slice(a, s, e, k, p)", p=ints(1), **bounds))
    assert gone(cut("Slice(a, s, e, k, p)", "1, 4", p=ints(2), **bounds))  # one element in steps of two
    assert cut("Slice(a, s, e, k, p)", out="M, 4", p=ints(2), **bounds).applied == ()
    backward = {"s": ints(-1), "e": ints(MIN), "k": ints(1), "p": ints(-1)}
    assert cut("Slice(a, s, e, k, p)", **backward).applied == ()


def test_slices_without_axes() -> None:
    assert gone(cut("Slice(a, s, e)", s=ints(0, 0), e=ints(MAX, 4)))


def test_ends_that_no_memory_holds() -> None:
    """Exporters write a billion for "to the end"."""
    bounds = {"s": ints(0), "e": ints(1_000_000_000), "k": ints(0)}
    assert gone(cut("Slice(a, s, e, k)", "N, 512, 256", **bounds))
    assert cut("Slice(a, s, e, k)", "N, 512", out="M, 512", **bounds).applied == ()
    assert cut("Slice(a, s, e, k)", "N, 512, 256, L", out="M, 512, 256, L", **bounds).applied == ()  # L may be 0


def test_slices_of_old_versions() -> None:
    assert gone(cut("Slice<starts = [0], ends = [2147483647], axes = [0]>(a)", version=9))
    assert gone(cut("Slice<starts = [0, 0], ends = [2147483647, 4]>(a)", version=9))
    assert cut("Slice<starts = [1], ends = [2147483647], axes = [0]>(a)", version=9, out="M, 4").applied == ()


def test_bounds_known_at_run_time_only() -> None:
    text = "g (float[N, 4] x, int64[1] e) => (float[M, 4] y) { b = Slice(x, s, e)  y = Neg(b) }"
    assert apply(NoOpSlices(), model(text, s=ints(0)), feeds=()).applied == ()


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pads_of_nothing(mode: str) -> None:
    assert gone(cut(f'Pad<mode = "{mode}">(a, p)', p=ints(0, 0, 0, 0)))
    assert gone(cut(f'Pad<mode = "{mode}", pads = [0, 0, 0, 0]>(a)', version=9))


def test_pads_of_something() -> None:
    assert cut("Pad(a, p)", out="N, 5", p=ints(0, 0, 0, 1)).applied == ()
    assert cut("Pad(a, p)", "3, 4", out="3, 4", p=ints(0, -1, 0, 1)).applied == ()


def test_split_into_one() -> None:
    assert gone(cut("Split<axis = 0, split = [3]>(a)", "3, 4", version=11))
    assert gone(cut("Split<axis = 0, num_outputs = 1>(a)", version=18))
    text = "g (float[4] x) => (float[2] y) { b, c = Split<num_outputs = 2>(x)  y = Add(b, c) }"
    assert apply(NoOpSlices(), model(text)).applied == ()


def test_concat_of_one_or_with_nothing() -> None:
    empty = np.zeros((0, 4), "f")
    assert gone(cut("Concat<axis = 0>(a)"))
    assert gone(cut("Concat<axis = 0>(e, a)", e=empty))
    assert gone(cut("Concat<axis = -2>(e, a, e)", e=empty))
    done = cut("Concat<axis = 0>(a, e, a)", out="M, 4", e=empty)
    assert done.body == "a = Abs(x)\nb = Concat<axis=0>(a, a)\ny = Neg(b)" and not done.after.graph.initializer
    assert cut("Concat<axis = 0>(a, a)", out="M, 4").applied == ()


def test_concat_along_another_axis() -> None:
    """What is empty along axis 0 is no reason to leave it out along axis 1: the result is empty."""
    done = cut("Concat<axis = 1>(a, e)", "0, 4", out="0, 7", e=np.zeros((0, 3), "f"))
    assert done.applied == ()


def test_concat_of_nothing_but_nothing() -> None:
    done = cut("Concat<axis = 0>(a, e)", "0, 4", e=np.zeros((0, 4), "f"))
    assert done.body == "a = Abs(x)\ny = Neg(a)"


def test_concats_of_concats() -> None:
    text = """g (float[N, 4] x) => (float[M, 4] y) {
        a = Concat<axis = 0>(x, k)  b = Abs(x)  c = Concat<axis = 0>(b, a)  d = Concat<axis = 0>(c, x)  y = Neg(d) }"""
    done = apply(NoOpSlices(), model(text, k=np.ones((1, 4), "f")))
    assert done.body == "b = Abs(x)\nd = Concat<axis=0>(b, x, k, x)\ny = Neg(d)"
    assert [(one.rule, one.node) for one in done.applied] == [("nested", "Concat(d)")]


@pytest.mark.parametrize(
    "steps",
    [
        "a = Concat<axis = 0>(x, x)  b = Concat<axis = 1>(a, a)  y = Neg(b)",
        "a = Concat<axis = 0>(x, x)  b = Concat<axis = 0>(a, a)  y = Neg(b)",
        "a = Concat<axis = 0>(x, x)  b = Concat<axis = 0>(a, x)  c = Exp(a)  d = Neg(b)  y = Concat<axis = 1>(d, d)",
    ],
)
def test_concats_that_stay_apart(steps: str) -> None:
    done = apply(NoOpSlices(), model(f"g (float[N, 4] x) => (float[K, L] y) {{ {steps} }}"))
    assert done.applied == ()


def test_a_concat_is_not_moved_into_a_body() -> None:
    text = """g (bool c, float[N] x) => (float[M] y) { a = Concat<axis = 0>(x, x)
        y = If(c)<then_branch = t () => (float[M] o) { p = Concat<axis = 0>(a, x)  o = Neg(p) },
                  else_branch = e () => (float[M] o) { o = Abs(x) }> }"""
    assert apply(NoOpSlices(), model(text)).applied == ()


def test_many_nested_concats_in_linear_time() -> None:
    steps = "  ".join(f"v{i + 1} = Concat<axis = 0>(v{i}, x)" for i in range(2000))
    before = model(f"g (float[N] x) => (float[M] y) {{ v0 = Abs(x)  {steps}  y = Neg(v2000) }}")
    done = apply(NoOpSlices(), before, feeds=(), laws=False)
    assert len(done.after.graph.node) == 3 and len(done.after.graph.node[1].input) == 2001


def test_gather_of_everything() -> None:
    assert gone(cut("Gather<axis = 1>(a, i)", i=ints(0, 1, 2, 3)))
    assert gone(cut("Gather<axis = -1>(a, i)", i=ints(0, -3, 2, -1)))
    assert gone(cut("Gather(a, i)", "1, 4", i=ints(0)))
    assert cut("Gather<axis = 1>(a, i)", i=ints(0, 2, 1, 3)).applied == ()
    assert cut("Gather<axis = 1>(a, i)", out="N, 3", i=ints(0, 1, 2)).applied == ()
    assert cut("Gather(a, i)", "1, 4", out="4", i=np.array(0)).applied == ()
    assert cut("Gather(a, i)", "1, 4", out="1, 1, 4", i=ints([0])).applied == ()
    text = "g (float[N] x) => (float[1] y) { b = Gather(x, i)  y = Neg(b) }"
    assert apply(NoOpSlices(), model(text, i=ints(0)), feeds=()).applied == ()


def test_scatters_of_nothing() -> None:
    nothing = np.zeros((0, 4))
    assert gone(cut("ScatterElements(a, i, u)", i=nothing.astype(np.int64), u=nothing.astype("f")))
    assert gone(cut("ScatterND(a, i, u)", i=np.zeros((0, 1), np.int64), u=nothing.astype("f")))


def scatter(indices: np.ndarray, reduction: str = "none") -> Applied:
    text = f"""g (float[2, 3] x, float[2, 3] u) => (float[2, 3] y) {{
        b = ScatterND<reduction = "{reduction}">(x, i, u)  y = Neg(b) }}"""
    return apply(NoOpSlices(), model(f'<ir_version: 8, opset_import: ["": 18]> {text}', i=indices))


def test_a_scatter_that_writes_everything() -> None:
    grid = np.moveaxis(np.indices((2, 3)), 0, -1)
    for indices in (ints([0], [1]), ints([0], [-1]), grid):
        done = scatter(indices)
        assert done.body == "y = Neg(u)" and [one.rule for one in done.applied] == ["overwrite"]
    assert scatter(ints([1], [0])).applied == ()
    assert scatter(ints([0], [0])).applied == ()
    assert scatter(ints([0], [1]), "add").applied == ()


def test_outputs_and_bodies() -> None:
    done = apply(NoOpSlices(), model("g (float[N] x) => (float[N] y) { y = Concat<axis = 0>(x) }"))
    assert_missed(done, "concat", "'y' is a graph output and 'x' an input")
    text = """g (bool c, float[N] x) => (float[N] y) {
        y = If(c)<then_branch = t () => (float[N] o) { p = Concat<axis = 0>(x)  o = Neg(p) },
                  else_branch = e () => (float[N] o) { o = Abs(x) }> }"""
    assert "Concat" not in apply(NoOpSlices(), model(text)).body


def test_an_overridable_default_is_no_constant() -> None:
    text = "g (float[N] x, int64[1] s) => (float[M] y) { b = Slice(x, s, e)  y = Neg(b) }"
    assert apply(NoOpSlices(), model(text, s=ints(0), e=ints(MAX)), feeds=()).applied == ()


def test_one_axis_that_is_cut_among_others_that_are_not() -> None:
    """Every axis has to be whole, wherever the one that is not stands."""
    for starts, ends in (((0, 1), (MAX, 4)), ((1, 0), (MAX, 4))):
        done = cut("Slice(a, s, e)", out="M, K", s=ints(*starts), e=ints(*ends))
        assert done.applied == ()


def test_one_axis_that_goes_backward() -> None:
    bounds = {"s": ints(0, -1), "e": ints(MAX, MIN), "k": ints(0, 1), "p": ints(1, -1)}
    assert cut("Slice(a, s, e, k, p)", **bounds).applied == ()
    unknown = "g (float[2, 4] x, int64[2] s) => (float[2, 4] y) { b = Slice(x, s, e, k, p)  y = Neg(b) }"
    given = {"e": ints(MAX, MIN), "k": ints(0, 1), "p": ints(1, -1)}
    assert apply(NoOpSlices(), model(unknown, **given), feeds=()).applied == ()


@pytest.mark.parametrize("version", [11, 13])
def test_pads_as_inputs_from_their_first_version_on(version: int) -> None:
    assert gone(cut("Pad(a, p)", version=version, p=ints(0, 0, 0, 0)))
    assert cut("Pad(a, p)", version=version, out="M, 4", p=ints(0, 0, 1, 0)).applied == ()


def test_gathers_of_another_number_or_rank() -> None:
    assert gone(cut("Gather<axis = 1>(a, i)", i=ints(0, 1, 2, 3)))
    assert cut("Gather<axis = 1>(a, i)", out="N, 3", i=ints(0, 1, 2)).applied == ()
    assert cut("Gather<axis = 1>(a, i)", out="N, 1, 4", i=ints(0, 1, 2, 3).reshape(1, 4)).applied == ()


def test_the_most_indices_that_are_looked_at() -> None:
    most = 1 << 16
    for count, looked in ((most, True), (most + 1, False)):
        text = f"g (float[{count}] x) => (float[{count}] y) {{ a = Abs(x)  b = Gather(a, i)  y = Neg(b) }}"
        assert bool(apply(NoOpSlices(), model(text, i=np.arange(count)), laws=False).applied) == looked


def test_scatters_of_the_whole_that_are_none() -> None:
    """The data may be larger than the updates, or the indices go through another part of them."""
    text = "g (float[3, 2] d, float[{0}] u) => (float[{1}] y) {{ a = ScatterND(d, i, u)  y = Neg(a) }}"
    every = np.arange(3).reshape(3, 1)
    done = apply(NoOpSlices(), model(text.format("3, 2", "3, 2"), i=every))
    assert [one.rule for one in done.applied] == ["overwrite"]
    two = apply(NoOpSlices(), model(text.format("2, 2", "3, 2"), i=every[:2]))
    assert two.applied == ()
    by_element = "g (float[3, 2] d, float[0, 2] u) => (float[3, 2] y) { a = ScatterElements(d, i, u)  y = Neg(a) }"
    assert apply(NoOpSlices(), model(by_element, i=np.zeros((0, 2), np.int64))).applied
    last = "g (float[3, 2] d, float[3, 0] u) => (float[3, 2] y) { a = ScatterElements(d, i, u)  y = Neg(a) }"
    assert apply(NoOpSlices(), model(last, i=np.zeros((3, 0), np.int64))).applied


def test_an_end_that_is_the_size_of_the_axis() -> None:
    text = """g (float[N, 4] x, float[M, 4] z) => (float[K, 4] y) {
        s = Shape<start = 0, end = 1>(q)  a = Slice(x, zero, s, zero)  y = Neg(a) }"""
    own = apply(NoOpSlices(), model('<ir_version: 8, opset_import: ["": 17]>' + text.replace("q", "x"), zero=ints(0)))
    assert own.body.endswith("y = Neg(x)")
    other = '<ir_version: 8, opset_import: ["": 17]>' + text.replace("q", "z")
    assert apply(NoOpSlices(), model(other, zero=ints(0))).applied == ()


def test_an_axis_beyond_the_last_one() -> None:
    """No shape inference lets it through; it is left, and nothing is raised."""
    for step in ("Slice(a, s, e, k)", "Concat<axis = 2>(a, x)", "Gather<axis = 2>(a, s)"):
        text = f"g (float[N, 4] x) => (float[N, 4] y) {{ a = Abs(x)  b = {step}  y = Neg(b) }}"
        assert apply(NoOpSlices(), model(text, s=ints(0), e=ints(9), k=ints(2)), laws=False).applied == ()


def test_the_axis_of_old_concatenations_is_the_second_one() -> None:
    for where, applied in (("3, 0", True), ("0, 4", False)):
        text = f'<ir_version: 3, opset_import: ["": 3]> g (float[3, 4] x, float[{where}] e) => (float[A, B] y)'
        done = apply(NoOpSlices(), model(text + " { a = Concat(x, e)  y = Neg(a) }"), feeds=(), laws=False)
        assert bool(done.applied) == applied


def test_axes_that_a_caller_gives_may_differ() -> None:
    head = '<ir_version: 8, opset_import: ["": 17, "d": 1]>'
    text = f"""{head} g (float[2, 2] x) => (float[4, 4] y) {{ y = d.Join<p = 0, q = 1>(x) }}
        <domain: "d", opset_import: ["": 17]> Join <p, q> (x) => (y) {{
            a = Concat<axis: int = @p>(x, x)  y = Concat<axis: int = @q>(a, a) }}"""
    assert apply(NoOpSlices(), model(text)).applied == ()
    one = text.replace("y = Concat", "b = Concat<axis: int = @p>(a, x)  y = Concat")
    assert apply(NoOpSlices(), model(one), feeds=(), laws=False).applied == ()


def test_indices_that_a_node_states() -> None:
    steps = "i = Constant<value_ints = [0, 1, 2]>()  a = Gather<axis = 1>(x, i)  y = Neg(a)"
    text = f"g (float[N, 3] x) => (float[N, 3] y) {{ {steps} }}"
    assert apply(NoOpSlices(), model(text)).body == "y = Neg(x)"


def test_what_is_left_of_a_join_with_nothing() -> None:
    done = cut("Concat<axis = 0>(a, e)", e=np.zeros((0, 4), np.float32))
    assert gone(done) and [one.rule for one in done.applied] == ["empty-input"]


@pytest.mark.parametrize("axis", [1, -1])
def test_the_last_end_that_memory_may_hold(axis: int) -> None:
    """A row of 2**20 numbers of 4 bytes each leaves room for 2**25 of them."""
    for end, whole in ((2**25, True), (2**25 - 1, False)):
        bounds = {"s": ints(0), "e": ints(end), "k": ints(axis)}
        shape = f"{2**20}, N"
        text = f"g (float[{shape}] x) => (float[{2**20}, M] y) {{ a = Abs(x)  b = Slice(a, s, e, k)  y = Neg(b) }}"
        assert bool(apply(NoOpSlices(), model(text, **bounds), laws=False).applied) == whole


def test_an_axis_that_is_the_size_of_another_value() -> None:
    text = f"""<ir_version: 8, opset_import: ["": 17]> g (float[{2**20}, N] x, float[M] z) => (float[A, B] y) {{
        k = Shape(z)  a = Slice(x, s, e, k)  y = Neg(a) }}"""
    assert apply(NoOpSlices(), model(text, s=ints(0), e=ints(2**25)), laws=False).applied == ()


def test_bounds_that_a_caller_gives() -> None:
    text = """<ir_version: 8, opset_import: ["": 9, "d": 1]>
        g (float[4] x) => (float[2] y) { y = d.Cut<b = [0], e = [2]>(x) }
        <domain: "d", opset_import: ["": 9]> Cut <b, e> (x) => (y) {
            y = Slice<starts: ints = @b, ends: ints = @e>(x) }"""
    assert apply(NoOpSlices(), model(text)).applied == ()


def test_two_axes_that_a_caller_gives() -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "d": 1]>
        g (float[2, 2] x) => (float[4, 4] y) { y = d.Join<p = 0, q = 1>(x) }
        <domain: "d", opset_import: ["": 17]> Join <p, q> (x) => (y) {
            a = Concat<axis: int = @p>(x, x)  b = Concat<axis: int = @p>(x, x)  y = Concat<axis: int = @q>(a, b) }"""
    assert apply(NoOpSlices(), model(text)).applied == ()

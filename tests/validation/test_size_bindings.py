"""Sizes for symbolic dims: the same name the same size, formulas followed, pins kept."""

from __future__ import annotations

import pytest

from graphopt.errors import UsageError
from graphopt.testing import model
from graphopt.validation.signature import required_inputs
from graphopt.validation.sizes import Symbols


def symbols(inputs: str, hints: dict[str, int] | None = None, pins: dict[str, int] | None = None) -> Symbols:
    proto = model(f"g ({inputs}) => (float[Z] zz) {{ zz = Constant <value_floats = [1.0]> () }}")
    return Symbols(required_inputs(proto), hints or {}, pins or {})


def named(*dims: str, element: str = "float") -> Symbols:
    """One input whose dims have names that the text form cannot spell."""
    proto = model(f"g ({element}[{','.join('?' * len(dims))}] x) => ({element} y) {{ y = ReduceMax(x) }}")
    for dim, name in zip(proto.graph.input[0].type.tensor_type.shape.dim, dims, strict=True):
        dim.dim_param = name
    return Symbols(required_inputs(proto), {}, {})


def test_bindings_are_many_and_each_comes_once() -> None:
    found = list(symbols("float[batch, seq, 8] x").ladder())
    assert len(found) > 8
    assert all(found.count(sizes) == 1 for sizes in found)
    assert found[0] == {"batch": 2, "seq": 8}  # unequal, so that mixed-up axes are noticed
    assert found[1] != found[0]


def test_fixed_dims_leave_nothing_to_bind() -> None:
    fixed = symbols("float[1, 3] x")
    assert fixed.free == ()
    assert list(fixed.ladder()) == [{}]


def test_a_total_is_past_and_sequence_together_first() -> None:
    each = symbols("int64[batch, seq] ids, int64[batch, total_seq] mask, float[batch, 4, past_seq, 8] past")
    first, second = list(each.ladder())[:2]
    assert first["total_seq"] == first["past_seq"] + first["seq"]
    assert second["total_seq"] == first["seq"]  # then as its name says


def test_dims_that_are_formulas_follow_from_their_names() -> None:
    each = named("past_sequence_length + 1", "2*heads", "past_sequence_length")
    for sizes in each.ladder():
        assert sizes["past_sequence_length + 1"] == sizes["past_sequence_length"] + 1
        assert sizes["2*heads"] == 2 * sizes["heads"]


@pytest.mark.parametrize(
    "name", ["batch-size", "images/height", "p2o.Dim.0", "unk__7", "f(x)", "a b", "1 +", "x" * 500]
)
def test_names_that_only_look_like_formulas_are_names(name: str) -> None:
    sizes = next(named(name, "n").ladder())
    assert sizes[name] > 0
    assert "size" not in sizes
    assert "height" not in sizes


def test_a_difference_of_dims_is_a_formula() -> None:
    sizes = next(named("total", "past", "total-past").ladder())
    assert sizes["total-past"] == sizes["total"] - sizes["past"] >= 0


def test_hints_and_pins_fix_sizes_and_pins_win() -> None:
    each = symbols("float[batch, C] x", hints={"C": 20}, pins={"batch": 7})
    assert each.free == ()
    assert list(each.ladder()) == [{"batch": 7, "C": 20}]
    both = symbols("float[batch, C] x", hints={"C": 20}, pins={"C": 21})
    assert {sizes["C"] for sizes in both.ladder()} == {21}


@pytest.mark.parametrize(
    ("inputs", "pins", "sentence"),
    [
        ("float[batch, seq] x", {"bach": 1}, "no input of the model has a dim named 'bach'; did you mean 'batch'?"),
        ("float[1, 2] x", {"batch": 1}, "no input of the model has a dim named 'batch'; every input has fixed dims"),
        ("float[batch] x", {"batch": -1}, "the dim 'batch' cannot have the size -1; give zero or more"),
    ],
)
def test_wrong_pins_get_one_sentence(inputs: str, pins: dict[str, int], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        symbols(inputs, pins=pins)
    assert str(caught.value) == sentence


def test_neighbours_change_one_group_and_keep_the_formulas() -> None:
    each = symbols("int64[batch, seq] ids, int64[batch, total_seq] mask, float[batch, 4, past_seq, 8] past")
    accepted = next(each.ladder())
    near = list(each.neighbours(accepted))
    assert near
    for sizes in near:
        assert sizes != accepted
        changed = {name for name in ("batch", "seq", "past_seq") if sizes[name] != accepted[name]}
        assert len(changed) <= 1


def test_the_state_of_a_network_shares_the_batch() -> None:
    proto = model("g (float[?, ?] audio, float[2, ?, 128] state) => (float y) { y = ReduceMax(state) }")
    found = Symbols(required_inputs(proto), {}, {})
    assert all(sizes["audio[0]"] == sizes["state[1]"] for sizes in found.ladder())
    assert found.text({"audio[0]": 2, "audio[1]": 512, "state[1]": 2}) == "audio[0]=2, audio[1]=512, state[1]=2"

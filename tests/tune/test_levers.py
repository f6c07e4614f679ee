"""Which passes are levers, which combinations are tried, and how a choice is spelled."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from graphopt.pipeline.pipeline import Pipeline
from graphopt.tune.levers import Choice, chosen, exactly, levers, subsets, with_levers


def parsed(text: str) -> Pipeline:
    return Pipeline.parse(text)


def test_lossy_passes_with_skip_are_levers() -> None:
    assert levers(parsed("identities,weight-int8,dead-nodes,static-int8,magnitude")) == (1, 3, 4)


def test_lossless_passes_are_none() -> None:
    assert levers(parsed("repeat(identities,dead-nodes),opset{to=21}")) == ()


def test_all_combinations_from_all_levers_to_none() -> None:
    found = subsets(parsed("static-int8,dynamic-int8"))
    assert found == (frozenset({0, 1}), frozenset({0}), frozenset({1}), frozenset())


def test_weights_come_before_activations() -> None:
    """static-int8 alone, without the pass that does its weights, is not worth a run."""
    found = subsets(parsed("weight-int8,static-int8"))
    assert found == (frozenset({0, 1}), frozenset({0}), frozenset())


def test_of_many_levers_not_every_combination() -> None:
    found = subsets(parsed("weight-int4,weight-int8,weight-int16,static-int8"))
    assert found[0] == frozenset({0, 1, 2, 3})
    assert found[-1] == frozenset()
    assert len(found) < 16
    assert frozenset({0}) in found
    assert frozenset({1, 2, 3}) in found


def test_a_pipeline_with_some_of_its_levers() -> None:
    some, steps = with_levers(parsed("identities,weight-int8,static-int8,dead-nodes"), frozenset({2}))
    assert str(some) == "identities,static-int8,dead-nodes"
    assert steps == (0, 2, 3)


def test_what_is_not_to_be_taken_is_skipped() -> None:
    made = chosen(parsed("weight-int8"), {0: Choice(("a", "b"), ("c",))})
    assert str(made) == 'weight-int8{skip=["c"]}'


def test_own_skips_stay() -> None:
    made = chosen(parsed('weight-int8{skip=["head*"]}'), {0: Choice(("a", "b"), ("c",))})
    assert str(made) == 'weight-int8{skip=["head*","c"]}'


def test_the_shorter_list_where_a_pass_has_only() -> None:
    made = chosen(parsed("dynamic-int8"), {0: Choice(("a",), ("b", "c"))})
    assert str(made) == 'dynamic-int8{only=["a"]}'


def test_a_lever_that_takes_nothing_is_left_out() -> None:
    made = chosen(parsed("identities,weight-int8,dynamic-int8"), {1: Choice((), ("a",)), 2: Choice(("a",), ())})
    assert str(made) == "identities,dynamic-int8"


def test_a_lever_without_candidates_stays() -> None:
    assert str(chosen(parsed("weight-int8"), {0: Choice((), ())})) == "weight-int8"


@pytest.mark.parametrize("name", ["a[0]", "what?", "*", "[!x]", "/layer.0/[q]*/MatMul"])
def test_names_are_spelled_so_that_only_they_fit(name: str) -> None:
    pattern = exactly(name)
    assert fnmatchcase(name, pattern)
    assert not fnmatchcase(name + "x", pattern)
    assert not fnmatchcase(name.replace("?", "y").replace("*", "zz") + "", pattern) or name == name.replace(
        "?", "y"
    ).replace("*", "zz")
    text = str(chosen(parsed("weight-int8"), {0: Choice(("other",), (name,))}))
    assert Pipeline.parse(text).steps[0].skip == (pattern,)  # type: ignore[union-attr]

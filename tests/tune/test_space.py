"""Where a search begins: only techniques that a model can use, each of which can be read."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import UsageError
from graphopt.ir import decode
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.recipe import TARGETS
from graphopt.storage.read import from_proto
from graphopt.testing import model
from graphopt.tune.space import (
    NAMELESS,
    OPENING,
    Traits,
    Wanted,
    first_generation,
    given,
    known,
    named_still,
    nameless,
)

EVERYTHING = Traits(True, True, True, True, True, True)
NOTHING = Traits()


def traits(text: str, **weights: np.ndarray) -> Traits:
    source = from_proto(model(text, **weights))
    return Traits.of(decode(source.proto, source.store))


def floats(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_traits_are_those_of_the_model() -> None:
    found = traits("g (float[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }", w=floats(64, 64))
    assert found == Traits(weights=True, layers=True, products=True)
    assert traits("g (float[2] x) => (float[2] y) { y = Relu(x) }") == NOTHING
    table = traits("g (int64[N] i) => (float[N,64] y) { y = Gather(t, i) }", t=floats(100, 64))
    assert table == Traits(weights=True, tables=True)
    small = traits("g (float[N,2] x) => (float[N,2] y) { y = MatMul(x, w) }", w=floats(2, 2))
    assert not small.weights and small.products


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("minimize", ["size", "latency", "energy-proxy"])
def test_every_first_generation_can_be_read_and_has_no_twins(minimize: str, target: str) -> None:
    found = first_generation(EVERYTHING, Wanted(minimize, target, packed=True))
    assert len(found) > 3 and found[0].technique == "clean"
    assert len({one.name for one in found}) == len(found)
    assert len({(one.pipeline, one.fit) for one in found}) == len(found)
    for one in found:
        assert str(Pipeline.parse(one.pipeline)) == one.pipeline


def test_a_model_without_weights_is_only_cleaned() -> None:
    assert {one.technique for one in first_generation(NOTHING, Wanted("size"))} == {"clean", "to the bit"}


def test_packed_bytes_bring_sparsity_in() -> None:
    def techniques(packed: bool) -> set[str]:
        return {one.technique for one in first_generation(EVERYTHING, Wanted("size", packed=packed))}

    assert "sparse" in techniques(True) - techniques(False)


def test_latency_on_onnxruntime_ends_in_its_operators() -> None:
    found = first_generation(EVERYTHING, Wanted("latency", "onnxruntime"))
    assert {"onnxruntime", "default"} <= {one.name for one in found}
    assert all("ort-conv" in one.pipeline for one in found)
    assert not any("ort-conv" in one.pipeline for one in first_generation(EVERYTHING, Wanted("latency")))


def test_weights_that_can_be_fed_are_made_weights_first() -> None:
    fed = Traits(weights=True, layers=True, products=True, fed=True)
    assert all(one.pipeline.startswith(OPENING) for one in first_generation(fed, Wanted("size")))
    (alone,) = given(["weight-int8"], "portable", fed)
    assert alone.pipeline == f"{OPENING},weight-int8"


def test_what_the_user_names_is_a_recipe_or_a_pipeline() -> None:
    found = given(["int8-weights", "identities,weight-int4", "int8-auto"], "portable", NOTHING)
    assert [one.name for one in found[:2]] == ["int8-weights", "given"]
    assert len(found) == 4 and all(one.fit for one in found[2:]), "what int8-auto chooses from"
    with pytest.raises(UsageError, match="weight-int9"):
        given(["weight-int9"], "portable", NOTHING)
    with pytest.raises(UsageError, match="no pipeline for the target qnn"):
        given(["int8-weights"], "qnn", NOTHING)


def test_every_technique_says_what_it_is() -> None:
    for one in known()["technique"]:
        assert set(one) <= {"name", "recipe", "pipeline", "needs", "for", "targets", "fit", "packed", "slow", "unless"}
        assert ("recipe" in one) != ("pipeline" in one)
        assert all(hasattr(NOTHING, need) for need in one.get("needs", ()))
        assert set(one.get("targets", ())) <= set(TARGETS)


def test_where_bytes_count_names_go_last_and_once() -> None:
    for wanted, ends in (("size", True), ("latency", False), ("energy-proxy", False)):
        assert all(one.pipeline.endswith(NAMELESS) == ends for one in first_generation(EVERYTHING, Wanted(wanted)))
    plain = Pipeline.parse("identities,weight-int8")
    short = nameless(plain)
    assert str(short) == f"identities,weight-int8,{NAMELESS}"
    assert nameless(short) == short and named_still(short) == plain and named_still(plain) == plain


def test_static_integers_are_tried_with_smoothed_activations() -> None:
    products = Traits(weights=True, layers=True, products=True)
    found = [one for one in first_generation(products, Wanted("latency")) if "smooth" in one.pipeline]
    assert any("static-int8" in one.pipeline.partition("smooth")[2] for one in found)

"""What later generations are made of: one change at a time, towards less where budgets are kept, else towards more."""

from __future__ import annotations

import pytest

from graphopt.pipeline.pipeline import Pipeline
from graphopt.tune.trial import Candidate
from graphopt.tune.variations import changed, fitting, joined, proposals


def texts(pipeline: str, kept: bool) -> dict[str, str]:
    return {str(one): words for words, one in changed(Pipeline.parse(pipeline), kept)}


def test_what_keeps_the_budgets_is_made_stronger() -> None:
    found = texts("identities,channels{share=0.2},neurons{share=0.1}", True)
    assert found["identities,channels{share=0.3},neurons{share=0.15}"] == "1.5 times as much"
    assert found["identities,channels{share=0.24},neurons{share=0.12}"] == "1.2 times as much"
    assert found["identities,channels{share=0.3},neurons{share=0.1}"] == "channels 1.5 times as much"
    assert not any("share=0.05" in one for one in found)


def test_what_does_not_is_made_gentler() -> None:
    found = texts("channels{share=0.4},gptq{bits=2}", False)
    assert found["channels,gptq{bits=2}"] == "0.5 times as much", "half of it is the default"
    assert any(words == "gptq of 4 bits" for words in found.values())


def test_fewer_bits_raise_the_opset_that_they_need() -> None:
    found = texts("opset,gptq", True)
    assert "opset{to=25},gptq{bits=2}" in found
    assert all(one.startswith("opset") for one in found)


def test_blocks_and_floors_and_grids_are_turned() -> None:
    found = texts("weight-int4", True)
    assert {"blocks of 64", "blocks of 128", "weight-int4 by channel", "smaller tensors too"} <= {*found.values()}
    assert "weight-int4{symmetric=false}" in found
    gentler = texts("weight-int4{block=64}", False)
    assert "weight-int4" in gentler, "blocks of 32 again"
    assert any(words == "large tensors only" for words in gentler.values())


@pytest.mark.parametrize("kept", [True, False])
def test_of_a_clean_up_nothing_can_be_made(kept: bool) -> None:
    assert texts("repeat{max=8}(identities,dead-nodes),unused-initializers", kept) == {}


def test_every_proposal_can_be_read_back() -> None:
    for text in ('channels,static-int8{target="onnxruntime"}', "hqq", "weight-codebook", "influence,adaround{bits=4}"):
        for kept in (True, False):
            for one, words in texts(text, kept).items():
                assert str(Pipeline.parse(one)) == one and one != text and words


def test_pruning_is_joined_before_quantization() -> None:
    pruning, quantizing = Pipeline.parse("identities,channels,neurons"), Pipeline.parse("dead-nodes,opset,gptq")
    assert str(joined(pruning, quantizing)) == "dead-nodes,channels,neurons,opset,gptq"
    assert joined(quantizing, pruning) is None, "nothing there prunes"
    assert joined(pruning, pruning) is None
    assert joined(pruning, Pipeline.parse("identities")) is None


def test_what_is_fitted_leaves_nodes_to_gentler_levers() -> None:
    strong, gentle = Pipeline.parse("opset,gptq,packed-tables"), Pipeline.parse("weight-int8,dequantize-as-cast")
    assert str(fitting(strong, gentle)) == "opset,gptq,weight-int8,packed-tables"
    assert fitting(strong, None) == strong
    assert fitting(Pipeline.parse("channels"), gentle) is None, "what prunes is made weaker instead"
    assert fitting(strong, strong) == strong


def test_proposals_take_turns_among_parents_and_skip_what_was_seen() -> None:
    parents = [
        (Candidate("p", "channels{share=0.2}", "pruned"), "channels{share=0.2}", True),
        (Candidate("q", "weight-int4", "int4"), "weight-int4", True),
    ]
    found = proposals(parents, lambda one: False, 4)
    assert [one.parent for one in found] == ["p", "q", "p", "q"]
    assert any(one.name == "p then q" and one.pipeline == "channels,weight-int4" for one in found)
    again = proposals(parents, lambda one: one in found, 100)
    assert not {one.pipeline for one in found} & {one.pipeline for one in again}
    assert proposals(parents, lambda one: True, 4) == []

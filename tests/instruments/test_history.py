"""What is kept of every rewrite: nodes before and after, true to the graph, within bounds; free when not asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from graphopt.contract import Contract
from graphopt.instruments import history as bounds
from graphopt.instruments.history import Frame, History
from graphopt.instruments.shadow import MOST, Described, Shadow
from graphopt.ir import Graph, Node, Tensor, decode
from graphopt.pipeline import manager
from graphopt.pipeline.gate import Limits
from graphopt.pipeline.instrument import Instrument, Place, Turn, Veto
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.protocol import Context, Pass, Remark
from graphopt.pipeline.recipe import Recipe
from graphopt.storage.read import from_proto, read
from graphopt.storage.source import Source
from graphopt.testing import model
from graphopt.testing.random_models import random_model

WEIGHT = np.ones((4, 3), np.float32)


def play(given: onnx.ModelProto | Source, pipeline: str | Pipeline, *others: Instrument, **options: Any) -> History:
    source = given if isinstance(given, Source) else from_proto(given, None)
    kept = options.pop("history", None) or History()
    steps = Pipeline.parse(pipeline) if isinstance(pipeline, str) else pipeline
    manager.run(lambda: decode(source.proto, source.store), steps, instruments=[kept, *others], **options)
    return kept


def sides(kept: History, frame: Frame) -> tuple[list[str], list[str], list[str]]:
    """Operators and labels of the nodes before, after and around."""
    texts, nodes = list(kept.tables.texts), list(kept.tables.nodes)
    before, after, around = (
        sorted(f"{texts[nodes[one][0]]} {texts[nodes[one][1]]}" for one in side)
        for side in (frame.before, frame.after, frame.around)
    )
    return before, after, around


class Honest(History):
    """Holds its descriptions to the graph after every rewrite."""

    checked = 0

    def before_pass(self, place: Place, graph: Graph) -> None:
        super().before_pass(place, graph)
        self._graph = graph

    def rewritten(self, remark: Remark, subject: Node | Tensor, names: Iterable[str]) -> None:
        super().rewritten(remark, subject, names)
        # `unused-functions` announces all functions before it takes any out: told apart at its end only.
        if remark.pass_name != "unused-functions" and (self.checked < 80 or self.checked % 40 == 0):
            self._compare(remark)
        self.checked += 1

    def after_pass(self, turn: Turn, graph: Graph) -> None:
        super().after_pass(turn, graph)
        if turn.changed:
            self._compare(turn)

    def _compare(self, moment: object) -> None:
        known, wanted = _contents(self._shadow), _contents(Shadow(self._graph))
        assert known.keys() == wanted.keys(), moment
        assert [(known[node], one) for node, one in wanted.items() if not known[node].same(one)] == [], moment


def _contents(shadow: Shadow) -> dict[Node, Described]:
    found: dict[Node, Described] = shadow._now
    return found


def test_a_rewrite_is_kept_with_what_it_did_and_what_is_next_to_it() -> None:
    proto = model("g (float[N,4] x) => (float[N,3] y) { a = Identity(x)  b = MatMul(a, w)  y = Relu(b) }", w=WEIGHT)
    kept = play(proto, "identities")
    (frame,) = kept.frames
    assert sides(kept, frame) == (["Identity Identity(a)", "MatMul MatMul(b)"], ["MatMul MatMul(b)"], ["Relu Relu(y)"])
    assert (frame.changed, frame.hidden, frame.nodes, frame.drawn) == (1, (0, 0), 2, True)
    assert (frame.remark.pass_name, frame.remark.number) == ("identities", 1)
    assert [turn.facts.nodes for turn in kept.turns] == [2]
    assert kept.start is not None
    assert kept.start.nodes == 3


def test_where_nothing_stays_the_neighbours_are_shown_on_both_sides() -> None:
    proto = model("g (float[N,4] x) => (float[N,4] y) { y = Relu(x)  d = Exp(y) }")
    kept = play(proto, "dead-nodes")
    assert sides(kept, kept.frames[0]) == (["Exp Exp(d)"], [], ["Relu Relu(y)"])


def test_a_switched_off_rewrite_is_not_played() -> None:
    proto = model("g (float[N,4] x) => (float[N,4] y) { a = Identity(x)  b = Relu(a)  y = Identity(b) }")
    kept = play(proto, "identities", gate=Limits(frozenset({("identities", 1)})))
    assert [frame.remark.number for frame in kept.frames] == [2]


def test_a_weight_that_changes_in_place_changes_who_reads_it() -> None:
    @dataclass(frozen=True)
    class Double(Pass):
        """Doubles every weight."""

        name = "double"
        contract = Contract.LOSSY

        def run(self, graph: Graph, ctx: Context) -> None:
            for weight in list(graph.initializers.declared()):
                if ctx.rewrite("double", weight):
                    graph.set_values(weight, weight.values * 2)

    proto = model("g (float[N,4] x) => (float[N,3] y) { b = MatMul(x, w)  y = Relu(b) }", w=WEIGHT)
    kept = play(proto, Pipeline((Double(),)))
    assert sides(kept, kept.frames[0]) == (["MatMul MatMul(b)"], ["MatMul MatMul(b)"], ["Relu Relu(y)"])
    assert {"float[4,3]", "float[4,3] (new values)"} <= kept.tables.texts.keys()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("g (float[N] x) => (float[N] y) { y = Relu(x) }", "y"),  # nothing but the graph's own ends beside it
        ("g (float[N,3] x) => (float[N,3] y) { a = Relu(w)  y = MatMul(x, a) }", "a"),  # only a reader, unchanged
        ("g (float[N] x) => (float[N] y) { y = Neg(x)  d = Relu(y) }", "d"),  # only a maker, unchanged
    ],
)
def test_a_node_that_is_replaced_between_unchanged_ones_is_seen(text: str, name: str) -> None:
    @dataclass(frozen=True)
    class Swap(Pass):
        """Puts Abs for Relu, making the very same value."""

        name = "swap"
        contract = Contract.LOSSY

        def run(self, graph: Graph, ctx: Context) -> None:
            for node in list(graph.nodes):
                if node.is_op("Relu") and ctx.rewrite("swap", node):
                    (value,), (made,) = list(node.inputs), list(node.outputs)
                    node.outputs.clear()
                    graph.remove(node)
                    graph.append(Node("Abs", "", {}, [value], [made]))

    weights = {"w": np.ones((3, 3), np.float32)} if "w" in text else {}
    kept = play(model(text, **weights), Pipeline((Swap(),)), history=Honest())
    before, after, _ = sides(kept, kept.frames[0])
    assert (before, after) == ([f"Relu Relu({name})"], [f"Abs Abs({name})"])


@pytest.mark.parametrize("seed", range(12))
def test_descriptions_stay_true_to_the_graph(seed: int) -> None:
    kept = play(random_model(seed, nodes=24), Recipe.load("default").pipeline, history=Honest())
    assert kept.rewrites == len(kept.frames)
    assert kept.rewrites > 0 or seed


def test_a_body_that_goes_away_takes_its_nodes_along() -> None:
    proto = model(
        """g (float[N] x) => (float[N] y) {
            c = Constant<value = bool {1}>()
            y = If(c) <then_branch = t () => (float[N] p) { q = Abs(x)  p = Relu(q) },
                       else_branch = e () => (float[N] r) { r = Neg(x) }>
        }"""
    )
    kept = play(proto, "inline-branches,dead-nodes", history=Honest())
    assert kept.rewrites >= 1
    assert kept.frames[-1].nodes == kept.turns[-1].facts.nodes


def test_a_function_that_goes_away_is_shown_whole() -> None:
    proto = model("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    nodes = [helper.make_node("Abs", ["p"], ["r"]), helper.make_node("Neg", ["q"], ["s"])]  # that share no value
    opsets = [helper.make_opsetid("", 17)]
    proto.functions.append(helper.make_function("local", "pair", ["p", "q"], ["r", "s"], nodes, opsets))
    proto.opset_import.append(helper.make_opsetid("local", 1))
    kept = play(proto, "unused-functions", history=Honest())
    assert sides(kept, kept.frames[0]) == (["Abs Abs(r)", "Neg Neg(s)"], [], [])
    assert kept.frames[0].nodes == 1


def test_a_replay_begins_again() -> None:
    class Refuse(Instrument):
        def after_pass(self, turn: Turn, graph: Graph) -> None:
            if turn.place.pass_.name == "idempotent":
                raise Veto("no")

    proto = model("g (float[N,4] x) => (float[N,4] y) { a = Identity(x)  b = Relu(a)  y = Relu(b) }")
    kept = play(proto, "identities,idempotent,dead-nodes", Refuse(), on_error="skip")
    assert [frame.remark.pass_name for frame in kept.frames] == ["identities"]
    assert kept.rewrites == 1


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = "  ".join(f"a{i + 1} = Identity(a{i})" for i in range(40))
    proto = model(f"g (float[N] a0) => (float[N] y) {{ {chain}  y = Relu(a40) }}")
    monkeypatch.setattr(bounds, "MAX_DRAWN", 2000)
    monkeypatch.setattr(bounds, "MAX_REWRITES", 30)
    kept = play(proto, "identities")
    drawn = [frame.drawn for frame in kept.frames]
    assert (kept.rewrites, len(drawn)) == (40, 30)
    assert drawn == sorted(drawn, reverse=True)
    assert 0 < sum(drawn) < 30
    assert not kept.frames[-1].before
    monkeypatch.setattr(bounds, "MAX_TEXT", 3000)
    assert 0 < len(play(proto, "identities").frames) < 30


def test_a_picture_shows_what_is_nearest_and_counts_the_rest() -> None:
    readers = "  ".join(f"b{i} = Neg(a)" for i in range(100))
    outs = ", ".join(f"float[N] b{i}" for i in range(100))
    kept = play(model(f"g (float[N] x) => ({outs}) {{ a = Identity(x)  {readers} }}"), "identities", history=Honest())
    (frame,) = kept.frames
    assert (len(frame.before), len(frame.after), frame.around) == (MOST, MOST - 1, ())
    assert frame.hidden == (101 - MOST, 100 - (MOST - 1))
    assert "Identity Identity(a)" in sides(kept, frame)[0]


def test_a_run_in_which_nobody_listens_tells_nobody() -> None:
    class Deaf(History):
        hears_rewrites = False

        def rewritten(self, remark: Remark, subject: Node | Tensor, names: Iterable[str]) -> None:
            raise AssertionError("nobody asked")

    proto = model("g (float[N] x) => (float[N] y) { a = Identity(x)  y = Relu(a) }")
    kept = play(proto, "identities", history=Deaf())
    assert kept.turns
    assert not kept.frames


@pytest.mark.corpus
@pytest.mark.skipif("GRAPHOPT_CORPUS" not in os.environ, reason="GRAPHOPT_CORPUS does not name a folder of real models")
@pytest.mark.parametrize("name", ["silero_vad", "scan_1", "magika_v3_3", "bert_squad_keras2onnx_opset11"])
def test_descriptions_stay_true_on_real_models(name: str) -> None:
    path = Path(os.environ["GRAPHOPT_CORPUS"]) / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    kept = play(read(path), Recipe.load("default").pipeline, history=Honest())
    assert kept.rewrites == len(kept.frames) > 20
    assert kept.tables.weight < bounds.MAX_TEXT

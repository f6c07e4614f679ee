"""Each law of `apply` is shown a pass that breaks it, and one that comes close and does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from graphopt.contract import Contract
from graphopt.ir import Graph, Node, Variable
from graphopt.pipeline import Context, Pass
from graphopt.testing import Applied, LawBroken, apply, model

Do = Callable[[Graph, Context], None]


def little(do: Do, contract: Contract = Contract.EXACT, **own: Any) -> Pass:
    """A pass that is one function."""

    def run(self: Pass, graph: Graph, ctx: Context) -> None:
        do(graph, ctx)

    fields = {"__doc__": "One function.", "name": "little", "contract": contract, "run": run, **own}
    made: type[Pass] = dataclass(frozen=True)(type("Little", (Pass,), fields))
    return made()


def chain(*ops: str) -> ModelProto:
    """`y = op(...op(x))`, each node named as its operator (and a number)."""
    names = ["x", *(f"v{i}" for i in range(len(ops) - 1)), "y"]
    proto = model("g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }")
    del proto.graph.node[:]
    for index, (op, (a, b)) in enumerate(zip(ops, itertools.pairwise(names), strict=True)):
        node = proto.graph.node.add(op_type=op, name=f"{op}{index or ''}")
        node.input.append(a)
        node.output.append(b)
    return proto


def breaks(do: Do, before: ModelProto, law: str, says: str, **options: Any) -> None:
    with pytest.raises(LawBroken, match=says) as caught:
        apply(little(do, **options), before)
    assert caught.value.law == law
    assert "\n" not in str(caught.value)


def keeps(do: Do, before: ModelProto, **options: Any) -> Applied:
    return apply(little(do, **options), before)


def node_of(graph: Graph, op: str) -> Node | None:
    return next((node for node in graph.nodes if node.op == op), None)


def skip(graph: Graph, ctx: Context, node: Node) -> None:
    """Let the readers of `node` read its input, as one rewrite."""
    if ctx.rewrite("skip", node):
        graph.replace_uses(node.outputs[0], node.inputs[0])
        graph.remove(node)


def test_a_pass_that_does_nothing_keeps_all_laws() -> None:
    result = keeps(lambda graph, ctx: None, chain("Relu", "Neg"))
    assert result.applied == () and result.after == chain("Relu", "Neg")


def test_valid() -> None:
    def do(graph: Graph, ctx: Context) -> None:
        node = node_of(graph, "Relu")
        if node is not None and ctx.rewrite("rename", node):
            node.op = "Rely"

    breaks(do, chain("Relu", "Neg"), "valid", "not a valid model: No Op registered for Rely")


def test_valid_by_the_full_checker() -> None:
    """An operator on a type it does not take: only shape inference finds that."""

    def do(graph: Graph, ctx: Context) -> None:
        node = node_of(graph, "Neg")
        if node is not None and ctx.rewrite("rename", node):
            node.op = "Not"

    breaks(do, chain("Relu", "Neg"), "valid", "not a valid model.*Not")


def test_input_untouched_message() -> None:
    def do(graph: Graph, ctx: Context) -> None:
        proto = graph.nodes[0].proto
        assert proto is not None
        proto.name += "x"

    breaks(do, chain("Relu", "Neg"), "input untouched", "message that its graph was decoded from")


def test_input_untouched_model() -> None:
    before = chain("Relu", "Neg")

    def do(graph: Graph, ctx: Context) -> None:
        before.graph.name = "other"

    breaks(do, before, "input untouched", "changed the model that it was given")


def test_signature_outputs() -> None:
    def do(graph: Graph, ctx: Context) -> None:
        if graph.outputs[0].name == "y" and ctx.rewrite("rename", graph.outputs[0]):
            graph.outputs[0].name = "z"

    breaks(do, chain("Relu", "Neg"), "signature", "changed the outputs of the model: they were y and are z")


def test_signature_symbolic_dims() -> None:
    def do(graph: Graph, ctx: Context) -> None:
        if graph.inputs[0].shape == ["N", 4] and ctx.rewrite("pin", graph.inputs[0]):
            graph.inputs[0].shape = [2, 4]

    breaks(do, chain("Relu"), "signature", "changed the inputs of the model: x is declared differently")


def test_signature_defaults() -> None:
    before = model("g (float[N, 4] x, float[4] d) => (float[N, 4] y) { y = Add(x, d) }", d=np.ones(4, np.float32))

    def do(graph: Graph, ctx: Context) -> None:
        (default,) = graph.defaults.values()
        if default.values[0] == 1 and ctx.rewrite("set", default):
            graph.set_values(default, np.zeros(4, np.float32))

    breaks(do, before, "signature", "changed the defaults of the model: d is declared differently")


def test_signature_opsets_and_its_exceptions() -> None:
    def do(graph: Graph, ctx: Context) -> None:
        if graph.opset != 20 and ctx.rewrite("opset", graph.nodes[0]):
            graph.opset = 20

    breaks(do, chain("Relu"), "signature", "changed the opsets of the model: ai.onnx is declared differently")
    assert keeps(do, chain("Relu"), changes=frozenset({"opsets"})).after.opset_import[0].version == 20
    assert apply(little(do), chain("Relu"), changes=["opsets"]).applied
    with pytest.raises(ValueError, match="'opset' is no part of a signature"):
        apply(little(do), chain("Relu"), changes=("opset",))  # type: ignore[arg-type]


def test_honest_about_a_change() -> None:
    def do(graph: Graph, ctx: Context) -> None:
        graph.nodes[0].name = "changed"

    breaks(do, chain("Relu"), "honest", "reports no rewrite, but the bytes of the model changed")


def test_honest_about_no_change() -> None:
    def do(graph: Graph, ctx: Context) -> None:
        ctx.rewrite("nothing", graph.nodes[0])

    breaks(do, chain("Relu"), "honest", "reports 1 rewrites, but the model is as it was")


def test_announced() -> None:
    def do(graph: Graph, ctx: Context) -> None:
        node = graph.nodes[0]
        graph.replace_uses(node.outputs[0], node.inputs[0])

    breaks(do, chain("Identity", "Neg"), "announced", "edited 'v0' without announcing a rewrite")


def test_gated() -> None:
    """An edit that is no method call and hides behind an announced one."""

    def do(graph: Graph, ctx: Context) -> None:
        graph.nodes[-1].name = "changed"
        for node in list(graph.nodes):
            if node.op == "Identity":
                skip(graph, ctx, node)

    breaks(do, chain("Identity", "Neg"), "gated", "with every rewrite refused by the gate")


def test_each_rewrite_stands_alone() -> None:
    """-(-x) is x, but the two halves of that are two rewrites here."""

    def do(graph: Graph, ctx: Context) -> None:
        for node in [node for node in graph.nodes if node.op == "Neg"]:
            skip(graph, ctx, node)

    breaks(do, chain("Neg", "Neg", "Relu"), "gated", "with only the first 1 of 2 rewrites: output 'y' differs")


def test_no_exceptions() -> None:
    def do(graph: Graph, ctx: Context) -> None:
        raise KeyError("lost")

    breaks(do, chain("Relu"), "no exceptions", "pass little failed: KeyError: 'lost'")


def test_idempotent() -> None:
    def do(graph: Graph, ctx: Context) -> None:
        node = graph.nodes[0]
        if node.name and ctx.rewrite("shorten", node):
            node.name = node.name[:-1]

    breaks(do, chain("Relu"), "idempotent", "on its own result, the pass applies 'shorten' to Relu 'Rel'")
    assert keeps(do, chain("Relu"), contract=Contract.LOSSY).after.graph.node[0].name == "Rel"


def test_deterministic_bytes() -> None:
    letters = iter("abcdefgh")

    def do(graph: Graph, ctx: Context) -> None:
        if graph.nodes[0].name == "Relu" and ctx.rewrite("name", graph.nodes[0]):
            graph.nodes[0].name = next(letters)

    breaks(do, chain("Relu"), "deterministic", "two runs of the pass on one model gave different bytes")


def test_deterministic_remarks() -> None:
    letters = iter("abcdefgh")

    def do(graph: Graph, ctx: Context) -> None:
        ctx.missed("rule", graph.nodes[0], next(letters))

    breaks(do, chain("Relu"), "deterministic", "two runs of the pass on one model gave different remarks")


def swap(old: str, new: str) -> Do:
    def do(graph: Graph, ctx: Context) -> None:
        node = node_of(graph, old)
        if node is not None and ctx.rewrite("swap", node):
            node.op = new

    return do


def test_outputs_of_an_exact_pass() -> None:
    breaks(swap("Abs", "Neg"), chain("Abs", "Relu"), "outputs", r"output 'y' differs .* contract EXACT")


def test_exact_sees_the_sign_of_zero() -> None:
    """x + 0 is x, apart from -0.0 + 0 = 0.0, which only the feed of special numbers holds."""
    before = model("g (float[N, 4] x) => (float[N, 4] y) { a = Add(x, o)  y = Identity(a) }", o=np.float32(0))

    def do(graph: Graph, ctx: Context) -> None:
        if (node := node_of(graph, "Add")) is not None:
            skip(graph, ctx, node)

    breaks(do, before, "outputs", "by at most 0 .on feed 2, contract EXACT")
    assert keeps(do, before, contract=Contract.ROUNDING).body == "y = Identity(x)"


def test_exact_sees_shapes_at_another_size() -> None:
    """A dim that is right at one binding of N only."""
    text = "g (float[N, 4] x) => (float[M, K] y) {{ s = Constant<value_ints = {}>()  y = Reshape(x, s) }}"

    def do(graph: Graph, ctx: Context) -> None:
        node = graph.nodes[0]
        if node.attrs["value_ints"] == [-1, 4] and ctx.rewrite("pin", node):
            node.attrs["value_ints"] = [2, 4]

    breaks(do, model(text.format("[-1, 4]")), "outputs", "does not run.*reshaped")


def test_outputs_of_a_rounding_pass() -> None:
    text = "g (float[N, 64] x) => (float[N, 3] y) { y = MatMul(x, w) }"
    weights = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)

    def scaled(by: float) -> Do:
        def do(graph: Graph, ctx: Context) -> None:
            (weight,) = graph.initializers
            if (weight.values == weights).all() and ctx.rewrite("scale", weight):
                graph.set_values(weight, (weights * np.float32(by)).astype(np.float32))

        return do

    before = model(text, w=weights)
    rounding = {"contract": Contract.ROUNDING}
    breaks(scaled(1.001), before, "outputs", "of its RMS, and its rounding noise allows", **rounding)
    assert keeps(scaled(1 + 2.0**-22), before, **rounding).applied
    assert keeps(scaled(1.001), before, contract=Contract.LOSSY).sqnr_db("y") == pytest.approx(60, abs=1)


def test_decisions_of_a_rounding_pass() -> None:
    text = "g (float[N, 8] x) => (int64[N, 1] y) {{ y = {}<axis = 1>(x) }}"
    rounding = {"contract": Contract.ROUNDING}
    breaks(
        swap("ArgMax", "ArgMin"), model(text.format("ArgMax")), "outputs", "that rounding does not decide", **rounding
    )


def test_outputs_of_a_lossy_pass() -> None:
    lossy = {"contract": Contract.LOSSY}
    breaks(swap("Abs", "Log"), chain("Abs", "Tanh"), "outputs", "NaN or infinite in it or in the original", **lossy)
    assert keeps(swap("Abs", "Neg"), chain("Abs", "Tanh"), **lossy).sqnr_db("y") < 10


def test_size() -> None:
    def do(graph: Graph, ctx: Context) -> None:
        if not len(graph.initializers) and ctx.rewrite("add", graph.nodes[0]):
            graph.constant(np.zeros(3, np.float32), "more")

    breaks(do, chain("Relu"), "size", r"the model grew from \d+ to \d+ bytes")
    assert keeps(do, chain("Relu"), contract=Contract.LOSSY).applied
    assert keeps(do, chain("Relu"), grows=True).applied
    assert apply(little(do), chain("Relu"), grows=True).applied


def test_links() -> None:
    def do(graph: Graph, ctx: Context) -> None:
        node = graph.nodes[1]
        if node.inputs[0] is not graph.inputs[0] and ctx.rewrite("reach behind", node):
            list.__setitem__(node.inputs, 0, graph.inputs[0])

    breaks(do, chain("Relu", "Identity"), "links", "'v0' and node 'Identity1' disagree on how often it reads it")


def test_a_value_out_of_sight() -> None:
    def do(graph: Graph, ctx: Context) -> None:
        node = graph.nodes[0]
        if node.inputs[0].name == "x" and ctx.rewrite("detach", node):
            graph.rewire(node, 0, Variable("nowhere"))

    breaks(do, chain("Relu"), "links", "'nowhere', read by node 'Relu' in the main graph, is neither made")

"""Random edits of random graphs, side by side with a plain model of what they should have done."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest
from ir_reference import Plain, Reference, Token, facts_of, graph_of, node_of, tensor_of, weight

from graphopt.errors import InternalError
from graphopt.ir import Graph, Node, Variable, decode, encode
from graphopt.testing.links import check_links


class Both:
    """A graph and its plain model, edited together."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.plain = Reference()
        self.count = 0
        x, c = Variable("x", np.float32, [2]), Variable("c", np.bool_, [])
        self.graph = Graph(inputs=[x, c], opset=21, name="main")
        self.plain.outputs[""] = []
        for _ in range(self.random.randrange(4, 12)):
            self.random.choice((self.do_insert, self.do_insert, self.do_insert_bodies, self.do_add_a_weight))()
        for _ in range(2):
            self.do_insert("")
            last = list(self.plain.nodes)[-1]
            tensor = tensor_of(self.graph, ("node", last, 0))
            tensor.dtype, tensor.shape = np.dtype(np.float32), [2]
            self.graph.outputs.append(tensor)
            self.plain.outputs[""].append(("node", last, 0))

    def step(self) -> str:
        steps = [name for name in vars(Both) if name.startswith("do_")]
        what = self.random.choice([*steps, "do_replace", "do_replace", "do_remove", "do_remove", "do_rewire"])
        getattr(self, what)()
        return what

    def scope(self) -> str:
        return self.random.choice(list(self.plain.outputs))

    def floats(self, scope: str, rank: int) -> list[Token]:
        return [token for token in self.plain.visible(scope, rank) if token != ("input", 1)]

    def place(self, node: Node, scope: str) -> None:
        graph = graph_of(self.graph, scope)
        beside = self.random.choice(list(graph.nodes)) if graph.nodes else None
        way = self.random.choice(("before", "after", "end"))
        graph.insert(node, **({} if beside is None or way == "end" else {way: beside}))

    def do_insert(self, scope: str | None = None) -> None:
        self.count += 1
        scope = self.scope() if scope is None else scope
        name = f"n{self.count}"
        reads = self.random.choices(self.floats(scope, self.count), k=self.random.randrange(1, 4))
        result = graph_of(self.graph, scope).variable(self.random.choice(("t", "x", "out")))
        self.place(Node("Sum", name, None, [tensor_of(self.graph, one) for one in reads], [result]), scope)
        self.plain.nodes[name] = Plain("Sum", scope, self.count, reads)

    def do_insert_bodies(self) -> None:
        if len(self.plain.outputs) > 9:
            return
        self.count += 1
        scope, name = self.scope(), f"n{self.count}"
        bodies = [Graph(name="then"), Graph(name="else")]
        attrs = dict(zip(("then_branch", "else_branch"), bodies, strict=True))
        result = graph_of(self.graph, scope).variable("chosen")
        self.place(Node("If", name, attrs, [self.graph.inputs[1]], [result]), scope)
        self.plain.nodes[name] = Plain("If", scope, self.count, [("input", 1)], 2)
        for index, body in enumerate(bodies):
            inner = f"{name}/{index}"
            self.plain.outputs[inner] = []
            self.do_insert(inner)
            made = f"n{self.count}"
            tensor = tensor_of(self.graph, ("node", made, 0))
            tensor.dtype, tensor.shape = np.dtype(np.float32), [2]
            body.outputs.append(tensor)
            self.plain.outputs[inner].append(("node", made, 0))

    def do_add_a_weight(self) -> None:
        self.count += 1
        scope = self.scope()
        graph_of(self.graph, scope).constant(weight(self.count), self.random.choice(("w", "t")))
        self.plain.weights["weight", float(self.count)] = scope

    def do_remove_a_weight(self) -> None:
        for token, scope in list(self.plain.weights.items())[:1]:
            constant = tensor_of(self.graph, token)
            assert constant.is_read == self.plain.is_read(token)
            if constant.is_read:
                with pytest.raises(InternalError, match="still read"):
                    graph_of(self.graph, scope).remove_initializer(constant)  # type: ignore[arg-type]
            else:
                graph_of(self.graph, scope).remove_initializer(constant)  # type: ignore[arg-type]
                del self.plain.weights[token]

    def do_remove(self) -> None:
        for name in self.random.sample(list(self.plain.nodes), min(3, len(self.plain.nodes))):
            if name not in self.plain.nodes:
                continue  # it went with the node whose body it was in
            node = node_of(self.graph, name)
            if self.plain.is_read(("node", name, 0)):
                with pytest.raises(InternalError, match="still read"):
                    self.graph.remove(node)
            else:
                self.graph.remove(node)
                self.plain.remove(name)

    def do_rewire(self) -> None:
        name = self.random.choice(list(self.plain.nodes))
        one = self.plain.nodes[name]
        if one.op == "Sum":
            slot, new = self.random.randrange(len(one.reads)), self.random.choice(self.floats(one.scope, one.rank))
            self.graph.rewire(node_of(self.graph, name), slot, tensor_of(self.graph, new))
            one.reads[slot] = new

    def do_replace(self) -> None:
        name = self.random.choice(list(self.plain.nodes))
        one = self.plain.nodes[name]
        old, new = ("node", name, 0), self.random.choice(self.floats(one.scope, one.rank))
        before, after = tensor_of(self.graph, old), tensor_of(self.graph, new)
        if self.graph.why_not_replace(before, after) is None:
            self.graph.replace_uses(before, after)
            self.plain.replace(old, new)
        else:
            with pytest.raises(InternalError, match="cannot be replaced"):
                self.graph.replace_uses(before, after)

    def do_rename(self) -> None:
        name = self.random.choice(list(self.plain.nodes))
        tensor_of(self.graph, ("node", name, 0)).name = self.graph.fresh_name(self.random.choice(("t", "renamed")))

    def do_sort(self) -> None:
        self.graph.toposort()

    def do_copy(self) -> None:
        self.graph = self.graph.copy()

    def do_write_and_read(self) -> None:
        encoded = encode(self.graph)
        self.graph = decode(encoded.proto, encoded.store)

    def do_clean(self) -> None:
        if self.random.random() < 0.1:
            self.graph.cleanup()
            self.plain = self.cleaned()

    def cleaned(self) -> Reference:
        """The plain model without what no output depends on, found by taking away again and again."""
        while True:
            dead = [n for n in self.plain.nodes if not self.plain.is_read(("node", n, 0))]
            if not dead:
                break
            self.plain.remove(dead[0])
        for token in [token for token in self.plain.weights if not self.plain.is_read(token)]:
            del self.plain.weights[token]
        return self.plain

    def check(self) -> None:
        check_links(self.graph)
        proto = encode(self.graph.copy().toposort()).proto
        assert facts_of(proto) == self.plain.facts()
        onnx.checker.check_model(proto, full_check=True)


@pytest.mark.parametrize("seed", range(60))
def test_random_edits(seed: int) -> None:
    both = Both(seed)
    both.check()
    for turn in range(60):
        what = both.step()
        if turn % 6 == 0:
            assert facts_of(encode(both.graph).proto) == both.plain.facts(), what
    both.check()

"""Slots and use lists: each behaves like a list, and both sides stay in step."""

from __future__ import annotations

import copy
import pickle
import random
from collections import Counter
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphopt.ir import Constant, Node, Variable


class Pair:
    """Nodes and tensors, and the plain lists that they should agree with."""

    def __init__(self, seed: int, nodes: int, tensors: int, most: int) -> None:
        self.random = random.Random(seed)
        self.most = most  # a list that is longer is not added to
        self.nodes = [Node("Op", f"n{i}") for i in range(nodes)]
        self.tensors = [Variable(f"t{i}") for i in range(tensors)]
        self.slots: dict[Node, list[Any]] = {node: [] for node in self.nodes}
        self.uses: dict[Variable, list[Any]] = {tensor: [] for tensor in self.tensors}

    def added(self, node: Node, tensor: Variable, slot: int | None = None, use: int | None = None) -> None:
        slots, uses = self.slots[node], self.uses[tensor]
        slots.insert(len(slots) if slot is None else slot, tensor)
        uses.insert(len(uses) if use is None else use, node)

    def draw(self, kind: str, amount: int) -> list[Any]:
        return [self.random.choice(self.tensors if kind == "slots" else self.nodes) for _ in range(amount)]

    def step(self) -> str:
        kind = self.random.choice(("slots", "uses"))
        owner = self.random.choice(self.nodes if kind == "slots" else self.tensors)
        real = owner.inputs if kind == "slots" else owner.outputs
        plain = (self.slots if kind == "slots" else self.uses)[owner]
        other = self.uses if kind == "slots" else self.slots
        grow = ("append", "extend", "insert", "iadd", "assign")
        shrink = ("remove", "pop", "delete", "delete slice", "clear")
        keep = ("set", "set slice", "reverse", "sort")
        long = len(plain) + 3 > self.most or any(len(one) + 3 > self.most for one in other.values())
        what = self.random.choice(shrink if long else grow * 2 + shrink + keep)
        if what in ("remove", "pop", "delete", "set") and not plain:
            return "nothing"
        getattr(self, "_" + what.replace(" ", "_"))(real, plain, other, owner, kind)
        return f"{kind} {what}"

    @staticmethod
    def _leave(other: dict[Any, list[Any]], gone: list[Any], owner: Any) -> None:
        for one in gone:
            other[one].pop(next(i for i, each in enumerate(other[one]) if each is owner))

    @staticmethod
    def _enter(other: dict[Any, list[Any]], fresh: list[Any], owner: Any) -> None:
        for one in fresh:
            other[one].append(owner)

    def _append(self, real: Any, plain: Any, other: Any, owner: Any, kind: str) -> None:
        (one,) = self.draw(kind, 1)
        real.append(one)
        plain.append(one)
        self._enter(other, [one], owner)

    def _extend(self, real: Any, plain: Any, other: Any, owner: Any, kind: str) -> None:
        many = self.draw(kind, 2)
        real.extend(iter(many))
        plain.extend(many)
        self._enter(other, many, owner)

    def _iadd(self, real: Any, plain: Any, other: Any, owner: Any, kind: str) -> None:
        many = self.draw(kind, 2)
        if kind == "slots":
            owner.inputs += many
        else:
            owner.outputs += many
        plain += many
        self._enter(other, many, owner)

    def _assign(self, real: Any, plain: Any, other: Any, owner: Any, kind: str) -> None:
        many = self.draw(kind, 3)
        setattr(owner, "inputs" if kind == "slots" else "outputs", iter(many))
        self._leave(other, plain, owner)
        plain[:] = many
        self._enter(other, many, owner)

    def _insert(self, real: Any, plain: Any, other: Any, owner: Any, kind: str) -> None:
        (one,), place = self.draw(kind, 1), self.random.randrange(-3, len(plain) + 2)
        real.insert(place, one)
        plain.insert(place, one)
        self._enter(other, [one], owner)

    def _remove(self, real: Any, plain: Any, other: Any, owner: Any, kind: str) -> None:
        one = self.random.choice(real)
        real.remove(one)
        plain.remove(one)
        self._leave(other, [one], owner)

    def _pop(self, real: Any, plain: Any, other: Any, owner: Any, kind: str) -> None:
        place = self.random.randrange(-len(plain), len(plain))
        one = real[place]
        assert real.pop(place) is one
        plain.remove(one) if self.most > 12 and kind == "uses" else plain.pop(place)
        self._leave(other, [one], owner)

    def _delete(self, real: Any, plain: Any, other: Any, owner: Any, kind: str) -> None:
        place = self.random.randrange(len(plain))
        one = real[place]
        del real[place]
        plain.remove(one) if self.most > 12 and kind == "uses" else plain.pop(place)
        self._leave(other, [one], owner)

    def _slice(self, plain: Any) -> slice:
        ends = sorted(self.random.randrange(len(plain) + 1) for _ in range(2))
        return slice(*ends)

    def _delete_slice(self, real: Any, plain: Any, other: Any, owner: Any, kind: str) -> None:
        part = self._slice(plain)
        gone = real[part]
        del real[part]
        self._cut(plain, part, gone, kind)
        self._leave(other, gone, owner)

    def _cut(self, plain: Any, part: slice, gone: Any, kind: str) -> None:
        if self.most > 12 and kind == "uses":  # the order of long use lists is not promised
            for one in gone:
                plain.remove(one)
        else:
            del plain[part]

    def _set(self, real: Any, plain: Any, other: Any, owner: Any, kind: str) -> None:
        (one,), place = self.draw(kind, 1), self.random.randrange(len(plain))
        old = real[place]
        real[place] = one
        self._leave(other, [old], owner)
        if self.most > 12 and kind == "uses":
            plain.remove(old)
            plain.append(one)
        else:
            plain[place] = one
        self._enter(other, [one], owner)

    def _set_slice(self, real: Any, plain: Any, other: Any, owner: Any, kind: str) -> None:
        many, part = self.draw(kind, 2), self._slice(plain)
        gone = real[part]
        real[part] = many
        self._cut(plain, part, gone, kind)
        plain[part.start : part.start] = many
        self._leave(other, gone, owner)
        self._enter(other, many, owner)

    def _clear(self, real: Any, plain: Any, other: Any, owner: Any, kind: str) -> None:
        real.clear()
        self._leave(other, plain, owner)
        plain.clear()

    def _reverse(self, real: Any, plain: Any, other: Any, owner: Any, kind: str) -> None:
        real.reverse()
        plain.reverse()

    def _sort(self, real: Any, plain: Any, other: Any, owner: Any, kind: str) -> None:
        real.sort(key=lambda one: one.name)
        plain.sort(key=lambda one: one.name)


@pytest.mark.parametrize("seed", range(40))
def test_short_lists_are_exactly_lists(seed: int) -> None:
    pair = Pair(seed, nodes=3, tensors=3, most=12)
    history = []
    for _ in range(150):
        history.append(pair.step())
        for node, plain in pair.slots.items():
            assert list(node.inputs) == plain, history[-3:]
        for tensor, readers in pair.uses.items():
            assert list(tensor.outputs) == readers, history[-3:]


@pytest.mark.parametrize("seed", range(15))
def test_long_lists_hold_the_same_and_slots_keep_their_order(seed: int) -> None:
    pair = Pair(seed, nodes=25, tensors=3, most=200)
    for _ in range(600):
        what = pair.step()
        for node, plain in pair.slots.items():
            if what.startswith("slots"):
                assert list(node.inputs) == plain, what
            else:
                assert Counter(node.inputs) == Counter(plain), what
                pair.slots[node] = list(node.inputs)
        for tensor, readers in pair.uses.items():
            assert Counter(tensor.outputs) == Counter(readers), what


def test_both_sides_of_outputs_too() -> None:
    node, tensor = Node("Op"), Variable("t")
    node.outputs.append(tensor)
    assert list(tensor.inputs) == [node]
    tensor.inputs.clear()
    assert list(node.outputs) == []
    tensor.inputs = [node, node]
    assert list(node.outputs) == [tensor, tensor]
    node.outputs = []
    assert list(tensor.inputs) == []


def test_elements_are_found_by_identity() -> None:
    one, twin = Variable("same"), Variable("same")
    node = Node("Op", inputs=[one])
    assert twin not in node.inputs and one in node.inputs
    assert node.inputs.count(twin) == 0 and node.inputs.index(one) == 0
    for attempt in (node.inputs.remove, node.inputs.index):
        with pytest.raises(ValueError, match=r"'same' is not in this list"):
            attempt(twin)
    stock = gs.Variable("same")  # compares by name
    assert stock not in node.inputs
    with pytest.raises(ValueError, match=r"'same' is not in this list"):
        node.inputs.remove(stock)
    with pytest.raises(ValueError, match=r"'n' is not in this list"):
        one.outputs.remove(Node("Op", "n"))
    assert list(node.inputs) == [one] and list(one.outputs) == [node]


@pytest.mark.parametrize("wrong", ["x", None, 3, np.ones(2), Node("Op")], ids=lambda wrong: type(wrong).__name__)
def test_what_is_no_tensor_is_refused_and_changes_nothing(wrong: Any) -> None:
    tensor = Variable("t")
    node = Node("Op", inputs=[tensor])
    for attempt in (
        lambda: node.inputs.append(wrong),
        lambda: node.inputs.insert(0, wrong),
        lambda: node.inputs.extend([wrong]),
        lambda: node.inputs.__setitem__(0, wrong),
        lambda: node.inputs.__setitem__(slice(None), [Variable("other"), wrong]),
        lambda: node.outputs.append(wrong),
    ):
        with pytest.raises(TypeError, match=rf"a {type(wrong).__name__} is no tensor"):
            attempt()
        assert list(node.inputs) == [tensor] and list(tensor.outputs) == [node]
    with pytest.raises(TypeError, match="is no node"):
        tensor.outputs.append(Variable("u"))


def test_copies_and_sums_are_plain_lists() -> None:
    tensor, few = Variable("t"), list[Variable]()
    node = Node("Op", inputs=[tensor, tensor])
    for plain in (node.inputs.copy(), copy.copy(node.inputs), copy.deepcopy(node.inputs), node.inputs + few):
        assert type(plain) is list and plain == [tensor, tensor]
        plain.clear()
    for plain in (tensor.outputs.copy(), copy.copy(tensor.outputs), copy.deepcopy(tensor.outputs)):
        assert type(plain) is list and plain == [node, node]
    assert [Variable("u"), *node.inputs][1:] == list(node.inputs) and len(tensor.outputs) == 2
    with pytest.raises(TypeError, match="cannot be repeated"):
        node.inputs *= 2
    with pytest.raises(TypeError, match="cannot be pickled; write the model instead"):
        pickle.dumps(node.inputs)


def test_stock_objects_join_on_contact() -> None:
    """A stock node appends itself to our use list, and takes itself out, behind our back."""
    hub = Variable("hub")
    ours = [Node("Op", f"n{i}", inputs=[hub]) for i in range(20)]
    stock = [gs.Node(op="Stock", name=f"s{i}", inputs=[hub, hub]) for i in range(3)]
    ours += [Node("Op", f"n{i}", inputs=[hub]) for i in range(20, 60)]
    for one in ours[:5]:
        one.inputs.clear()  # from here on the list is indexed
    stock[0].inputs.clear()  # what stood behind is in other places now
    left = ours[5:]
    for _ in range(20):
        left.pop().inputs[0] = Variable("other")
        left.pop(7).inputs.pop()
        assert Counter(map(id, hub.outputs)) == Counter(map(id, [*left, *stock[1:], *stock[1:]]))
    assert hub.readers == []  # none of them is in a graph
    hub.outputs.clear()
    assert not hub.outputs and not any(one.inputs for one in (*left, *stock))
    assert [type(one) for one in stock] == [gs.Node, Node, Node]


def test_a_tensor_turns_into_another_kind_with_its_links() -> None:
    tensor = Variable("t", np.float32, [2])
    node = Node("Op", inputs=[tensor])
    constant = tensor.to_constant(np.ones(2, np.float32))
    assert constant is tensor and isinstance(tensor, Constant) and node.inputs[0] is tensor  # type: ignore[unreachable]
    assert constant.readers == [] and list(constant.outputs) == [node]
    variable = constant.to_variable(shape=["N"])
    assert variable is tensor and variable.dtype == np.float32 and variable.shape == ["N"]
    with pytest.raises(TypeError, match="the values of constant 't' are a str, not an array"):
        variable.to_constant("text")  # type: ignore[arg-type]
    assert isinstance(variable, Variable) and list(variable.outputs) == [node]

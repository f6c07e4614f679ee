"""Sequences and optionals of wild models: made, changed, carried through loops, mapped, asked for."""

from __future__ import annotations

from onnx import NodeProto, TensorProto, TypeProto, helper

from graphopt.testing.wild.elementwise import Family
from graphopt.testing.wild.growing import Growing, Known


def _sequence_type(x: Known) -> TypeProto:
    return helper.make_sequence_type_proto(
        helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(x.dtype), None)
    )


def _made(g: Growing, x: Known) -> tuple[list[NodeProto], str]:
    """Nodes that make a sequence of two or three values like `x`, and its name."""
    many = g.name("many")
    count = g.rng.randint(1, 3)
    return [helper.make_node("SequenceConstruct", [x.name] * count, [many])], many


def _taken(g: Growing, nodes: list[NodeProto], many: str) -> list[Known]:
    """What is taken out of a sequence, in one of several ways."""
    out, kind = g.name("v"), g.rng.randrange(4)
    if kind == 0:
        nodes.append(helper.make_node("SequenceLength", [many], [out]))
    elif kind == 1:
        nodes.append(helper.make_node("ConcatFromSequence", [many], [out], axis=0, new_axis=g.rng.randrange(2)))
    else:
        nodes.append(helper.make_node("SequenceAt", [many, g.number(g.rng.choice((0, -1, 0, 1))).name], [out]))
    return g.chain(nodes, [out])


def carried(g: Growing) -> object:
    """A loop that puts a value into a sequence in each round."""
    x = g.pick("f")
    if x is None or g.opset < 13:
        return None
    nodes, many = _made(g, x)
    at, going, seen, on, grown, out = (g.name(stem) for stem in ("at", "going", "seen", "on", "grown", "many"))
    body = helper.make_graph(
        [
            helper.make_node("Identity", [going], [on]),
            helper.make_node("SequenceInsert", [seen, x.name], [grown]),
        ],
        g.name("round"),
        [
            helper.make_tensor_value_info(at, TensorProto.INT64, []),
            helper.make_tensor_value_info(going, TensorProto.BOOL, []),
            helper.make_value_info(seen, _sequence_type(x)),
        ],
        [helper.make_tensor_value_info(on, TensorProto.BOOL, []), helper.make_value_info(grown, _sequence_type(x))],
    )
    nodes.append(helper.make_node("Loop", [g.number(g.rng.choice((0, 1, 2))).name, "", many], [out], body=body))
    return _taken(g, nodes, out)


def mapped(g: Growing) -> object:
    """SequenceMap with one operator."""
    x = g.pick("f")
    if x is None or g.opset < 17:
        return None
    nodes, many = _made(g, x)
    one, made, out = g.name("one"), g.name("made"), g.name("many")
    dtype = helper.np_dtype_to_tensor_dtype(x.dtype)
    body = helper.make_graph(
        [helper.make_node(g.rng.choice(("Neg", "Relu", "Identity")), [one], [made])],
        g.name("each"),
        [helper.make_tensor_value_info(one, dtype, None)],
        [helper.make_tensor_value_info(made, dtype, None)],
    )
    nodes.append(helper.make_node("SequenceMap", [many], [out], body=body))
    return _taken(g, nodes, out)


def perhaps(g: Growing) -> object:
    """An optional that is there, what asks whether it is, and what takes it."""
    x = g.pick("")
    if x is None or g.opset < 15:
        return None
    there, out = g.name("perhaps"), g.name("v")
    nodes = [helper.make_node("Optional", [x.name], [there])]
    if g.chance(0.2):
        again = g.name("perhaps")
        nodes.append(helper.make_node("Identity", [there], [again]))
        there = again
    op = g.rng.choice(("OptionalGetElement", "OptionalGetElement", "OptionalHasElement"))
    nodes.append(helper.make_node(op, [there], [out]))
    return g.chain(nodes, [out])


def passed(g: Growing) -> object:
    """A sequence that goes through Identity, or the branches of an If, and is taken apart."""
    x = g.pick("f", lambda one: one.rank > 0)
    if x is None or g.opset < 14:
        return None
    nodes, many = _made(g, x)
    out = g.name("many")
    if g.chance(0.5):
        nodes.append(helper.make_node("Identity", [many], [out]))
        return _taken(g, nodes, out)
    sides = []
    for side in ("then", "else"):
        made = g.name("many")
        info = helper.make_value_info(made, _sequence_type(x))
        node = (
            helper.make_node("SequenceInsert", [many, x.name], [made])
            if g.chance(0.5)
            else helper.make_node("Identity", [many], [made])
        )
        sides.append(helper.make_graph([node], g.name(side), [], [info]))
    flag = next(one for one in g.visible() if one.name == "c")
    nodes.append(helper.make_node("If", [flag.name], [out], then_branch=sides[0], else_branch=sides[1]))
    return _taken(g, nodes, out)


COLLECTIONS: tuple[Family, ...] = (carried, mapped, perhaps, perhaps, passed)

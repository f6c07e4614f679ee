"""Operators of wild models that have bodies, and calls of functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import FunctionProto, GraphProto, helper

from graphopt.testing.wild.growing import DOMAIN, Growing, Known

Grow = Callable[[Growing], None]


def _filled(g: Growing, grow: Grow, count: int) -> Growing:
    body = Growing(g.stock, g)
    _more(body, grow, count)
    return body


def _more(body: Growing, grow: Grow, count: int) -> None:
    for _ in range(4 * count):
        if sum(node.op_type != "Constant" for node in body.nodes) >= count:
            return
        grow(body)


def _own(body: Growing, value: Known) -> Known:
    """`value` as something that a node of the body makes."""
    return value if any(one is value for one in body.made) else body.add("Identity", [value])[0]


def _alike(body: Growing, like: Known) -> Known:
    """A value of the body's that is of the type of `like`, with all its shapes."""
    shapes = [run.shape for run in like.runs]
    fits = [one for one in body.made if one.dtype == like.dtype and [run.shape for run in one.runs] == shapes]
    return body.rng.choice(fits) if fits and body.chance(0.8) else _own(body, like)


def branch(g: Growing, grow: Grow) -> object:
    """If, on an input, on a constant, or on what an If around it asks."""
    kind = g.rng.randrange(3)
    flags = [one for one in g.visible() if one.dtype.kind == "b" and one.rank == 0]
    if kind == 0:
        flag = g.constant(np.array(g.chance(0.5)))
    elif kind == 1 and flags:
        flag = g.rng.choice(flags)
    else:
        flag = next(one for one in g.visible() if one.name == "c")
    like = g.pick("fi")
    if like is None:
        return None
    graphs: list[GraphProto] = []
    both = g.chance(0.3)
    for side in ("then", "else"):
        body = _filled(g, grow, g.rng.randint(0, 4))
        outputs = [_own(body, _alike(body, like))]
        if both:
            outputs.append(_own(body, _alike(body, like)))
        if len({one.name for one in outputs}) < len(outputs):
            outputs[1] = body.add("Identity", [outputs[0]])[0]
        graphs.append(body.graph(g.name(side), outputs))
    return g.add("If", [flag], 1 + both, then_branch=graphs[0], else_branch=graphs[1])


def loop(g: Growing, grow: Grow) -> object:
    """Loop with no, one or a few rounds, known or not, with carried and collected values."""
    start = g.pick("f")
    if start is None:
        return None
    body = Growing(g.stock, g)
    at = Known(g.name("at"), (np.array(0, np.int64),) * 3)
    going = Known(g.name("going"), (np.array(True),) * 3)
    state = Known(g.name("state"), start.runs)
    for one in (at, going, state):
        body.inputs.append((one, one.info()))
    if g.chance(0.4):
        turn = body.one("Cast", at, to=helper.np_dtype_to_tensor_dtype(start.dtype))
        if turn is not None:
            body.one("Add", state, turn)
    if g.chance(0.7):
        body.one(g.rng.choice(("Tanh", "Neg", "Relu")), state)
    _more(body, grow, g.rng.randint(1, 4))
    kind = g.rng.randrange(4)
    on = _own(body, going if kind else body.constant(np.array(False)))
    shape = {run.shape for run in start.runs}
    outputs = [on, _own(body, _alike(body, state))] if shape else []
    scans = g.rng.randrange(2)
    if scans:
        made = [one for one in body.made if one is not on and one.dtype.kind in "fib"]
        outputs.append(_own(body, g.rng.choice(made)))
    if len({one.name for one in outputs}) < len(outputs):
        return None
    trips = g.rng.choice((0, 1, 1, 2, 3))
    count: Known | None = g.number(trips) if g.chance(0.8) else g.constant(np.array([trips], np.int64))
    if g.chance(0.2):
        x = g.pick("f", lambda one: one.rank > 0)
        count = g.one("Gather", g.one("Shape", x), g.number(0)) if x is not None else count
    first: Known | None = None
    if g.chance(0.4) or count is None:
        first = g.constant(np.array(g.chance(0.8)))
    graph = body.graph(g.name("round"), outputs)
    return g.add("Loop", [count, first, start], 1 + scans, body=graph)


def scan(g: Growing, grow: Grow) -> object:
    """Scan over the first dim, with a carried value."""
    x = g.pick("f", lambda one: one.rank > 0 and all(run.shape[0] for run in one.runs))
    if x is None:
        return None
    body = Growing(g.stock, g)
    start = g.constant(np.array(g.rng.choice((0.0, 1.0)), x.dtype))
    state = Known(g.name("state"), start.runs)
    row = Known(g.name("row"), tuple(run[0] for run in x.runs))
    body.inputs += [(state, state.info()), (row, row.info())]
    _more(body, grow, g.rng.randint(1, 3))
    out = _own(body, _alike(body, row))
    then = body.add("Neg", [state])
    if not then:
        return None
    return g.add("Scan", [start, x], 2, body=body.graph(g.name("scan"), [then[0], out]), num_scan_inputs=1)


def call(g: Growing, grow: Grow) -> object:
    """A call of a function with an attribute that its nodes refer to, or of one that calls another."""
    x = g.pick("f", lambda one: one.dtype == np.float32)
    if x is None:
        return None
    known = g.stock.functions
    if not known or g.chance(0.4):
        known.append(_function(g))
    function = g.rng.choice(known)
    given = {"slope": g.rng.choice((0.5, 1.0, 0.0))} if g.chance(0.6) or list(function.attribute) else {}
    return g.one(function.name, x, domain=DOMAIN, **given)


def _function(g: Growing) -> FunctionProto:
    rng = g.rng
    nodes, last = [], "a"
    calls = False
    for index in range(rng.randint(2, 5)):
        kind, out = rng.randrange(7), f"f{index}"
        if kind == 0:
            node = helper.make_node("LeakyRelu", [last], [out])
            attribute = node.attribute.add(name="alpha", type=1, ref_attr_name="slope")
            assert attribute.ref_attr_name
        elif kind == 1 and g.opset >= 12:
            nodes.append(helper.make_node("Constant", [], [f"k{index}"]))
            nodes[-1].attribute.add(name="value_float", type=1, ref_attr_name="slope")
            node = helper.make_node(rng.choice(("Add", "Mul")), [last, f"k{index}"], [out])
        elif kind == 2 and g.stock.functions and not calls:
            calls = True
            node = helper.make_node(rng.choice(g.stock.functions).name, [last], [out], domain=DOMAIN)
            node.attribute.add(name="slope", type=1, ref_attr_name="slope")
        elif kind == 3:
            value = helper.make_tensor("", 1, [], [rng.choice((0.0, 1.0, 2.0, -0.0))])
            nodes.append(helper.make_node("Constant", [], [f"k{index}"], value=value))
            node = helper.make_node(rng.choice(("Add", "Mul", "Sub", "Max")), [last, f"k{index}"], [out])
        elif kind == 4:
            node = helper.make_node("Add", [last, "a"], [out])
        else:
            node = helper.make_node(rng.choice(("Relu", "Neg", "Identity", "Abs", "Tanh")), [last], [out])
        nodes.append(node)
        if rng.random() < 0.85:
            last = out
    if last == "a":
        nodes.append(helper.make_node("Neg", ["a"], ["end"]))
        last = "end"
    used = any(one.ref_attr_name for node in nodes for one in node.attribute)
    opsets = [helper.make_opsetid("", g.opset), helper.make_opsetid(DOMAIN, 1)]
    name = f"fn{len(g.stock.functions)}"
    if used and g.chance(0.4):
        default = [helper.make_attribute("slope", 0.25)]
        return helper.make_function(DOMAIN, name, ["a"], [last], nodes, opsets, attribute_protos=default)
    return helper.make_function(DOMAIN, name, ["a"], [last], nodes, opsets, ["slope"])


BODIES = (branch, branch, branch, loop, loop, scan, call, call)

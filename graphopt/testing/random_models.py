"""Random small models, seeded: always valid, always runnable, and full of what passes must see.

The same seed gives the same model. What they hold is listed in `random_model`; a new operator
family is one function in `families`.
"""

from __future__ import annotations

from random import Random

import numpy as np
from onnx import FunctionProto, ModelProto, helper

from graphopt.testing.draft import BOOL, FLOAT, Draft, Shared, Type, Value
from graphopt.testing.families import FAMILIES, unary, with_constant

DOMAIN = "local"
_IR = {13: 8, 17: 8, 21: 10}


def random_model(seed: int, *, nodes: int = 14, bodies: bool = True, functions: bool = True) -> ModelProto:
    """A random model of about `nodes` nodes in its main graph.

    Typed values (float, int64, bool) with symbolic dims `N` and `M`; elementwise, matrix, convolution,
    reduction and shape operators; Identity and Dropout; weights as initializers, shared ones among
    them, and as Constant nodes; optional slots left out; outputs of Split, TopK and Dropout that
    nobody reads; dead branches; unread initializers; initializers that are outputs; inputs with
    defaults; with `bodies`, If and Loop whose bodies capture outer values; with `functions`,
    model-local functions. It passes onnx's full checker and runs in onnxruntime on what its inputs' types
    allow.
    """
    rng = Random(seed)
    shared = Shared(rng, rng.choice(tuple(_IR)))
    main = Draft(shared)
    main.input("x", FLOAT, ("N", 4))
    if rng.random() < 0.5:
        main.input("s", FLOAT, ("N", "M", 3))
    if rng.random() < 0.4:
        main.input("i", FLOAT, ("N", 2, 5, 5))
    default = _default(main) if rng.random() < 0.3 else None
    flag = main.input("c", BOOL, ()) if bodies else None
    while len(main.nodes) < nodes:
        chance = rng.random()
        if flag is not None and chance < 0.08:
            _branch(main, flag)
        elif bodies and chance < 0.14:
            _loop(main)
        elif functions and chance < 0.22:
            _call(main)
        else:
            rng.choice(FAMILIES)(main)
    return _finish(main, default, seed)


def _default(main: Draft) -> Value:
    """An input whose default callers may override."""
    before = len(main.weights)
    value = main.floats(4)
    while len(main.weights) == before:  # it came as a Constant node: again
        value = main.floats(4)
    main.inputs.append(value)
    return value


def _grow(body: Draft, nodes: int) -> None:
    while len(body.nodes) < nodes:
        if body.depth < 2 and body.rng.random() < 0.08:
            _loop(body)
        else:
            body.rng.choice(FAMILIES)(body)


def _own(body: Draft, value: Value) -> Value:
    """`value` as something that a node of the body makes."""
    if any(one is value for one in body.made):
        return value
    return body.add("Identity", [value], [(value.dtype, value.shape)])[0]


def _branch(draft: Draft, flag: Value) -> None:
    """An If with one output; its bodies give values of the same type."""
    template = draft.pick(lambda value: value.dtype == FLOAT)
    if template is None:
        return
    graphs = []
    for side in ("then", "else"):
        body = Draft(draft.shared, draft)
        _grow(body, draft.rng.randint(1, 4))
        fits = [one for one in body.visible() if one.dtype == FLOAT and one.shape == template.shape]
        graphs.append(body.graph(side, [_own(body, draft.rng.choice(fits))]))
    draft.add("If", [flag], [(FLOAT, template.shape)], then_branch=graphs[0], else_branch=graphs[1])


def _loop(draft: Draft) -> None:
    """A Loop of three rounds with one carried value, and perhaps one that is collected."""
    start = draft.pick(lambda value: value.dtype == FLOAT and len(value.shape) >= 1)
    if start is None:
        return
    body = Draft(draft.shared, draft)
    body.input("round", 7, ())
    going = body.input("going", BOOL, ())
    carried = body.input("state", FLOAT, start.shape)
    _grow(body, draft.rng.randint(1, 4))
    on = body.add("Identity", [going], [(BOOL, ())])[0]
    fits = [one for one in body.made if one.dtype == FLOAT and one.shape == start.shape]
    state = draft.rng.choice(fits) if fits else body.add("Tanh", [carried], [(FLOAT, start.shape)])[0]
    outputs = [on, state]
    types: list[Type] = [(FLOAT, start.shape)]
    if draft.rng.random() < 0.4:
        outputs.append(body.add("Abs", [state], [(FLOAT, start.shape)])[0])
        types.append((FLOAT, (3, *start.shape)))
    count = draft.weight(np.array(3, np.int64), "trips")
    draft.add("Loop", [count, None, start], types, body=body.graph("round", outputs))


def _call(draft: Draft) -> None:
    """A call of a model-local function, an old one or a new one; it keeps the shape of its input."""
    x = draft.pick(lambda value: value.dtype == FLOAT and bool(value.shape) and isinstance(value.shape[-1], int))
    if x is None:
        return
    known = draft.shared.functions
    if not known or draft.rng.random() < 0.5:
        known.append(_function(draft.shared))
    draft.add(draft.rng.choice(known).name, [x], [(FLOAT, x.shape)], domain=DOMAIN)


def _function(shared: Shared) -> FunctionProto:
    """A function of a few elementwise nodes, some of them dead."""
    draft = Draft(shared, function=True)
    value = draft.input("a", FLOAT, ("N", 1))  # 1: constants inside are scalars or of one element
    for _ in range(shared.rng.randint(1, 4)):
        shared.rng.choice((unary, with_constant))(draft)
    made = [one for one in draft.made if one.shape == value.shape] or draft.add("Neg", [value], [(FLOAT, value.shape)])
    return helper.make_function(
        DOMAIN,
        f"fn{len(shared.functions)}",
        [value.name],
        [shared.rng.choice(made).name],
        draft.nodes,
        [helper.make_opsetid("", shared.opset)],
    )


def _finish(main: Draft, default: Value | None, seed: int) -> ModelProto:
    """Choose the outputs, add what nobody reads, and close the model."""
    rng, shared = main.rng, main.shared
    outputs = rng.sample(main.made, min(len(main.made), rng.randint(1, 3)))
    if rng.random() < 0.2:
        main.floats(rng.randint(1, 6))
    if rng.random() < 0.15 and (free := [one for one, _ in main.weights if one is not default]):
        outputs.append(rng.choice(free))
    opsets = [helper.make_opsetid("", shared.opset)]
    if shared.functions:
        opsets.append(helper.make_opsetid(DOMAIN, 1))
    graph = main.graph(f"random{seed}", outputs, declare=rng.random() < 0.3)
    return helper.make_model(graph, opset_imports=opsets, functions=shared.functions, ir_version=_IR[shared.opset])

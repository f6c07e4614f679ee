"""The body of an If, Loop or Scan as a model of its own, on what the reference gives it.

Of an If the branch that is taken; of a Loop or Scan the body on what its first iteration gets, which is
where a body that is wrong shows first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, helper

from graphopt.debug.replaced import weight
from graphopt.debug.survey import Pairing
from graphopt.debug.taps import Model, Values
from graphopt.debug.wiring import bodies, captured
from graphopt.storage.source import Source
from graphopt.validation.likes import Like, typed


@dataclass(frozen=True)
class Inside:
    """Both bodies as models, the feeds for them, and the name of the body's attribute."""

    old: Model
    new: Model
    feeds: list[dict[str, Any]]
    attribute: str


def inside(pairing: Pairing, reference: str, candidate: str) -> Inside | None:
    """What is inside the nodes that make a pair of values; None where they have no bodies that can be compared."""
    old, new = pairing.old.wiring, pairing.new.wiring
    mine, theirs = old.node(reference), new.node(candidate)
    if mine is None or theirs is None or mine.op_type != theirs.op_type or mine.op_type not in ("If", "Loop", "Scan"):
        return None
    outer = dict.fromkeys(name for _, body in bodies(theirs) for name in captured(body) if name not in new.weights)
    names = {name: pairing.given.get(name, pairing.new.called(name)) for name in outer}
    explicit = [name for name in mine.input if name]
    ours = [name for _, body in bodies(mine) for name in captured(body)]
    known = _values(pairing, dict.fromkeys((*explicit, *ours, *names.values())))
    if known is None:
        return None
    attribute = _attribute(mine, known[0])
    first = [body for node in (mine, theirs) for name, body in bodies(node) if name == attribute]
    if len(first) != 2 or len(first[0].input) != len(first[1].input):
        return None
    feeds = []
    for values in known:
        if _attribute(mine, values) == attribute:
            given = _given(mine, values)
            inputs = {info.name: array for info, array in zip(first[0].input, given, strict=False)}
            feeds.append({**{name: values[name] for name in (*ours, *names.values()) if name in values}, **inputs})
    if not feeds or len(_given(mine, known[0])) != len(first[0].input):
        return None
    renamed = {two.name: one.name for one, two in zip(first[0].input, first[1].input, strict=True)}
    renamed |= {name: one for name, one in names.items() if name in captured(first[1])}
    sources = (
        _source(pairing.old, first[0], feeds, {}),
        _source(pairing.new, first[1], feeds, renamed),
    )
    return Inside(pairing.old.within(sources[0]), pairing.new.within(sources[1], renamed), feeds, attribute)


def _values(pairing: Pairing, names: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The reference's values of these names, a feed at a time; None where one of them cannot be had."""
    old = pairing.old.wiring
    made = [name for name in names if name in old.makers]
    fixed = {name: weight(old, name) for name in names if name in old.weights}
    if any(name not in pairing.old.tensors for name in made) or any(one is None for one in fixed.values()):
        return None
    found = []
    with ExitStack() as stack:
        tap = stack.enter_context(pairing.old.tap(made)) if made else None
        for feed in pairing.feeds:
            values = {**fixed, **{name: feed[name] for name in names if name in feed}}
            values |= tap.run(feed) if tap is not None else {}
            if any(name not in values for name in names):
                return None
            found.append(values)
    return found


def _attribute(node: NodeProto, values: Values) -> str:
    if node.op_type != "If":
        return "body"
    return "then_branch" if bool(np.asarray(values[node.input[0]]).reshape(-1)[0]) else "else_branch"


def _given(node: NodeProto, values: Values) -> list[Any]:
    """What the body's own inputs get in the first iteration."""
    if node.op_type == "If":
        return []
    if node.op_type == "Loop":
        return [np.array(0, np.int64), np.array(True), *(np.asarray(values[name]) for name in node.input[2:])]
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    count = int(attributes["num_scan_inputs"])
    states, scanned = node.input[: len(node.input) - count], node.input[len(node.input) - count :]
    axes = attributes.get("scan_input_axes", [0] * count)
    backwards = attributes.get("scan_input_directions", [0] * count)
    slices = [
        np.take(np.asarray(values[name]), -1 if back else 0, axis=axis)
        for name, axis, back in zip(scanned, axes, backwards, strict=True)
    ]
    return [*(np.asarray(values[name]) for name in states), *slices]


def _source(model: Model, body: GraphProto, feeds: Sequence[Values], renamed: Mapping[str, str]) -> Source:
    outer = model.wiring.source
    proto = onnx.ModelProto(ir_version=max(4, outer.proto.ir_version))
    proto.opset_import.extend(outer.proto.opset_import)
    proto.functions.extend(outer.proto.functions)
    proto.graph.CopyFrom(body)
    del proto.graph.input[:]
    taken = captured(body)
    for name in dict.fromkeys((*(info.name for info in body.input), *taken)):
        if name in model.wiring.tensors:
            proto.graph.initializer.add().CopyFrom(model.wiring.tensors[name])
        elif name not in model.wiring.weights:
            arrays = [np.asarray(feed[renamed.get(name, name)]) for feed in feeds]
            ranks = {array.ndim for array in arrays}
            rank = ranks.pop() if len(ranks) == 1 else None
            proto.graph.input.append(typed(name, Like(Like.of(arrays[0]).element, rank)))
    return Source(None, proto, outer.store)

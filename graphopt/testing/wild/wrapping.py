"""A few nodes of a finished model as a function, as the branches of an If, or as the one round of a Loop.

What they compute stays the same, so that every operator comes to stand in every kind of body.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TypeProto, ValueInfoProto, helper

from graphopt.debug.opening import rename
from graphopt.testing.wild.growing import DOMAIN, read_by

_LIFTED = (
    AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.INTS, AttributeProto.STRING, AttributeProto.TENSOR,
    AttributeProto.FLOATS,
)  # fmt: skip


class Window:
    """Some nodes of the main graph that stand together, what they read and what others read of them."""

    def __init__(self, proto: ModelProto, rng: Random) -> None:
        self.proto = proto
        nodes = list(proto.graph.node)
        count = rng.randint(1, min(rng.choice((5, 5, 20)), len(nodes)))
        self.start = rng.randrange(len(nodes) - count + 1)
        self.stop = self.start + count
        self.nodes = nodes[self.start : self.stop]
        self.made = {name for node in self.nodes for name in node.output if name}
        known = {one.name for one in (*proto.graph.input, *proto.graph.initializer)}
        known |= {name for node in nodes[: self.start] for name in node.output if name}
        read = dict.fromkeys(name for node in self.nodes for name in read_by(node))
        self.inputs = [name for name in read if name in known]
        later = {name for node in nodes[self.stop :] for name in read_by(node)}
        later |= {one.name for one in proto.graph.output}
        self.outputs = [name for node in self.nodes for name in node.output if name in later]
        self.types = _types(proto)

    def infos(self) -> list[ValueInfoProto] | None:
        """Declarations of the outputs, of their ranks only; None where a type is not known."""
        if any(name not in self.types for name in self.outputs):
            return None
        return [helper.make_value_info(name, _loose(self.types[name])) for name in self.outputs]

    def replaced(self, nodes: Iterable[NodeProto]) -> None:
        """Put other nodes in their place."""
        every = list(self.proto.graph.node)
        kept = [*every[: self.start], *nodes, *every[self.stop :]]
        copies = []
        for one in kept:
            copy = NodeProto()
            copy.CopyFrom(one)
            copies.append(copy)
        del self.proto.graph.node[:]
        self.proto.graph.node.extend(copies)


def as_function(proto: ModelProto, rng: Random) -> bool:
    """The nodes as a function, perhaps with an attribute of its own, or as one of several of one name."""
    window = Window(proto, rng)
    if not window.outputs or not window.inputs or proto.ir_version < 8:
        return False
    taken = {one.name for one in proto.functions}
    name = next(f"part{at}" for at in range(9) if f"part{at}" not in taken)
    overload = rng.choice(("", "", "a")) if proto.ir_version >= 10 else ""
    given: dict[str, AttributeProto] = {}
    nodes = []
    for node in window.nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        nodes.append(copy)
    share = rng.choice((0.2, 0.8))
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type in _LIFTED and not attribute.ref_attr_name and rng.random() < share and len(given) < 8:
                lifted = f"a{len(given)}"
                given[lifted] = AttributeProto()
                given[lifted].CopyFrom(attribute)
                given[lifted].name = lifted
                kind, old = attribute.type, attribute.name
                attribute.Clear()
                attribute.name, attribute.type, attribute.ref_attr_name = old, kind, lifted
    overridable = {one.name for one in proto.graph.input}
    stored = {one.name: one for one in proto.graph.initializer if one.name not in overridable}
    inside = [one for one in window.inputs if one in stored and rng.random() < share]
    outside = [one for one in window.inputs if one not in inside]
    if not outside:
        return False
    inputs = [f"{one}_in" if rng.random() < 0.3 else one for one in outside]
    names = dict(zip(outside, inputs, strict=True))
    nodes = [*(helper.make_node("Constant", [], [one], value=stored[one]) for one in inside), *nodes]
    renamed = []
    for node in nodes:
        renamed.append(NodeProto())
        rename(renamed[-1], node, lambda one: names.get(one, one))
    defaults = [one for one in given.values() if rng.random() < 0.4]
    kept = [one for one in given if one not in {each.name for each in defaults}]
    function = helper.make_function(
        DOMAIN, name, inputs, window.outputs, renamed, [*proto.opset_import, *_domain(proto)], kept, defaults
    )
    function.overload = overload
    call = helper.make_node(name, outside, window.outputs, domain=DOMAIN, overload=overload or None)
    call.attribute.extend(one for one in given.values() if one.name in kept or rng.random() < 0.5)
    proto.opset_import.extend(_domain(proto))
    proto.functions.append(function)
    window.replaced([call])
    return True


def as_branches(proto: ModelProto, rng: Random) -> bool:
    """The nodes as both branches of an If."""
    window = Window(proto, rng)
    infos = window.infos()
    if not infos or not window.outputs:
        return False
    if rng.random() < 0.5 or not any(one.name == "c" for one in proto.graph.input):
        flag = f"{window.outputs[0]}_flag"
        proto.graph.initializer.append(helper.make_tensor(flag, onnx.TensorProto.BOOL, [], [rng.random() < 0.5]))
    else:
        flag = "c"
    sides = []
    for side in ("t", "e"):
        names = {name: f"{name}_{side}" for name in window.made}
        nodes = []
        for node in window.nodes:
            nodes.append(NodeProto())
            rename(nodes[-1], node, lambda one, names=names: names.get(one, one))  # type: ignore[misc]
        outputs = []
        for info in infos:
            outputs.append(ValueInfoProto())
            outputs[-1].CopyFrom(info)
            outputs[-1].name = names[info.name]
        sides.append(helper.make_graph(nodes, f"{side}_{window.outputs[0]}", [], outputs))
    window.replaced([helper.make_node("If", [flag], window.outputs, then_branch=sides[0], else_branch=sides[1])])
    return True


def as_round(proto: ModelProto, rng: Random) -> bool:
    """The nodes as the one round of a Loop that collects what they make."""
    window = Window(proto, rng)
    infos = window.infos()
    if not infos or any(not one.type.HasField("tensor_type") for one in infos):
        return False
    stem = window.outputs[0]
    opset = next(one.version for one in proto.opset_import if not one.domain)
    if opset < 11:  # where a Loop carries something
        return False
    names = {name: f"{name}_r" for name in window.made}
    nodes = [helper.make_node("Identity", [f"{stem}_going"], [f"{stem}_on"])]
    for node in window.nodes:
        nodes.append(NodeProto())
        rename(nodes[-1], node, lambda one: names.get(one, one))
    outputs = [helper.make_tensor_value_info(f"{stem}_on", onnx.TensorProto.BOOL, [])]
    for info in infos:
        outputs.append(ValueInfoProto())
        outputs[-1].CopyFrom(info)
        outputs[-1].name = names[info.name]
    inputs = [
        helper.make_tensor_value_info(f"{stem}_at", onnx.TensorProto.INT64, []),
        helper.make_tensor_value_info(f"{stem}_going", onnx.TensorProto.BOOL, []),
    ]
    proto.graph.initializer.append(helper.make_tensor(f"{stem}_once", onnx.TensorProto.INT64, [], [1]))
    collected = [f"{name}_all" for name in window.outputs]
    body = helper.make_graph(nodes, f"{stem}_round", inputs, outputs)
    made = [helper.make_node("Loop", [f"{stem}_once", ""], collected, body=body)]
    if opset >= 13:
        proto.graph.initializer.append(helper.make_tensor(f"{stem}_axis", onnx.TensorProto.INT64, [1], [0]))
    for one, name in zip(collected, window.outputs, strict=True):
        if opset >= 13:
            made.append(helper.make_node("Squeeze", [one, f"{stem}_axis"], [name]))
        else:
            made.append(helper.make_node("Squeeze", [one], [name], axes=[0]))
    window.replaced(made)
    return True


WRAPPINGS = (as_function, as_function, as_branches, as_round)


def _domain(proto: ModelProto) -> list[onnx.OperatorSetIdProto]:
    return [] if any(one.domain == DOMAIN for one in proto.opset_import) else [helper.make_opsetid(DOMAIN, 1)]


def _types(proto: ModelProto) -> dict[str, TypeProto]:
    inferred = onnx.shape_inference.infer_shapes(proto)
    infos = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    return {one.name: one.type for one in infos if one.type.WhichOneof("value") is not None}


def _loose(given: TypeProto) -> TypeProto:
    """A type without the sizes of its dims."""
    if not given.HasField("tensor_type"):
        return given
    made = TypeProto()
    made.tensor_type.elem_type = given.tensor_type.elem_type
    if given.tensor_type.HasField("shape"):
        made.tensor_type.shape.SetInParent()
        for _ in given.tensor_type.shape.dim:
            made.tensor_type.shape.dim.add()
    return made

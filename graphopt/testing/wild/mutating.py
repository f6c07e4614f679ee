"""Near misses: a finished model with a thing or two off, so that what a pass looks for is nearly there.

One number of a constant, an attribute, the order of operands, another operator of the kind, one more
reader of something in the middle, a constant that becomes an input.
"""

from __future__ import annotations

from random import Random

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, helper, numpy_helper

_ALIKE = (
    ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"),
    ("Relu", "Abs", "Neg", "Tanh", "Sigmoid", "Erf", "Sqrt", "Reciprocal", "Identity", "Exp", "Softplus"),
    ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2", "ReduceSumSquare"),
    ("Softmax", "LogSoftmax", "Hardmax"), ("ArgMax", "ArgMin"), ("And", "Or", "Xor"),
    ("GlobalAveragePool", "GlobalMaxPool"), ("Greater", "Less", "Equal"), ("Floor", "Ceil", "Round", "Sign"),
)  # fmt: skip
_SPECIAL = (0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-40, 2.0, 1e-5, 0.5)


def nearly(proto: ModelProto, rng: Random) -> ModelProto:
    """A copy with one to three things off."""
    made = ModelProto()
    made.CopyFrom(proto)
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(_WAYS)(made, rng)
    return made


def another_number(proto: ModelProto, rng: Random) -> None:
    """One element, or all of them, of a constant."""
    if not proto.graph.initializer:
        return
    tensor = rng.choice(proto.graph.initializer)
    array = numpy_helper.to_array(tensor).copy()
    if array.size == 0 or array.dtype.kind not in "fiub":
        return
    if array.dtype.kind == "f":
        number = rng.choice(_SPECIAL)
    elif array.dtype.kind == "b":
        number = rng.random() < 0.5
    else:
        number = max(
            np.iinfo(array.dtype).min,
            min(np.iinfo(array.dtype).max, int(array.reshape(-1)[0]) + rng.choice((-1, 1, 2))),
        )
    if rng.random() < 0.3 or not array.ndim:
        array[...] = number
    else:
        array.reshape(-1)[rng.randrange(array.size)] = number
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def another_attribute(proto: ModelProto, rng: Random) -> None:
    """A number of an attribute, or one attribute less."""
    found = [(node, at) for node in proto.graph.node for at in node.attribute if at.type in (1, 2, 3, 6, 7)]
    if not found:
        return
    node, attribute = rng.choice(found)
    if rng.random() < 0.3 and node.op_type != "Constant":
        node.attribute.remove(attribute)
    elif attribute.type == AttributeProto.INT:
        attribute.i = rng.choice((attribute.i + 1, attribute.i - 1, 0, 1, -1))
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = rng.choice((attribute.f * 2, 0.0, 1.0, attribute.f + 0.01))
    elif attribute.type == AttributeProto.INTS and attribute.ints:
        at = rng.randrange(len(attribute.ints))
        if rng.random() < 0.5 and len(attribute.ints) > 1:
            other = rng.randrange(len(attribute.ints))
            attribute.ints[at], attribute.ints[other] = attribute.ints[other], attribute.ints[at]
        else:
            attribute.ints[at] += rng.choice((-1, 1))


def other_order(proto: ModelProto, rng: Random) -> None:
    """Two operands of a node."""
    found = [node for node in proto.graph.node if len(node.input) > 1 and all(node.input[:2])]
    if found:
        node = rng.choice(found)
        node.input[0], node.input[1] = node.input[1], node.input[0]


def other_operator(proto: ModelProto, rng: Random) -> None:
    """An operator of the same kind."""
    found = [(node, kin) for node in proto.graph.node for kin in _ALIKE if node.op_type in kin and not node.domain]
    if found:
        node, kin = rng.choice(found)
        node.op_type = rng.choice(kin)


def another_reader(proto: ModelProto, rng: Random) -> None:
    """A value in the middle that is given, or read by one more node that is."""
    outputs = {one.name for one in proto.graph.output}
    found = [name for node in proto.graph.node for name in node.output if name and name not in outputs]
    if not found:
        return
    name = rng.choice(found)
    if rng.random() < 0.5:
        proto.graph.node.append(helper.make_node("Identity", [name], [f"{name}_too"]))
        name = f"{name}_too"
    proto.graph.output.append(helper.make_value_info(name, helper.make_tensor_type_proto(1, None)))
    proto.graph.output[-1].ClearField("type")


def another_source(proto: ModelProto, rng: Random) -> None:
    """A constant that callers may override."""
    inputs = {one.name for one in proto.graph.input}
    found = [one for one in proto.graph.initializer if one.name not in inputs]
    if found:
        one = rng.choice(found)
        proto.graph.input.append(helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)))


def other_operand(proto: ModelProto, rng: Random) -> None:
    """An operand that is another value of the model."""
    nodes = list(proto.graph.node)
    at = rng.randrange(len(nodes))
    before = [name for node in nodes[:at] for name in node.output if name] + [one.name for one in proto.graph.input]
    slots = [slot for slot, name in enumerate(nodes[at].input) if name]
    if slots and before:
        nodes[at].input[rng.choice(slots)] = rng.choice(before)


def twin(proto: ModelProto, rng: Random) -> None:
    """A node twice, the second with other readers."""
    at = rng.randrange(len(proto.graph.node))
    node = proto.graph.node[at]
    readers = [
        one for one in list(proto.graph.node)[at + 1 :] if any(name in node.output for name in one.input if name)
    ]
    if not readers or node.op_type in ("If", "Loop", "Scan"):
        return
    copy = NodeProto()
    copy.CopyFrom(node)
    names = {name: f"{name}_twin" for name in node.output if name}
    for slot, name in enumerate(copy.output):
        copy.output[slot] = names.get(name, "")
    copy.name = ""
    reader = rng.choice(readers)
    for slot, name in enumerate(reader.input):
        reader.input[slot] = names.get(name, name)
    every = []
    for one in [*list(proto.graph.node)[: at + 1], copy, *list(proto.graph.node)[at + 1 :]]:
        every.append(NodeProto())
        every[-1].CopyFrom(one)
    del proto.graph.node[:]
    proto.graph.node.extend(every)


_WAYS = (
    another_number, another_number, another_attribute, another_attribute, other_order, other_operator, other_operator,
    another_reader, another_reader, another_source, other_operand, twin,
)  # fmt: skip

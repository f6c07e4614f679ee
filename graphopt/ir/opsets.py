"""Raising the opset of a model node by node, so that everything else stays as it is.

Most operators mean the same at two versions. Those that do not are converted one at a time by
ONNX's own version converter, on a model of that one node, and the nodes it gives are put in place:
the converter never sees, and so never loses, anything else of the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import onnx
from onnx import TensorProto, helper, version_converter

from graphopt.ir.decode import decode
from graphopt.ir.encode import encode
from graphopt.ir.graph import Graph
from graphopt.ir.node import Node
from graphopt.ir.schema import schema
from graphopt.ir.store import EMBEDDED, Store
from graphopt.ir.values import Constant, Dim, Tensor, Variable

Facts = Callable[[Tensor], tuple[int, tuple[Dim, ...] | None]]

_SAME_BODY_SINCE = 11  # If, Loop and Scan: later versions only widened the types they take
_MASK_KEEPS = 12  # all true where nothing is dropped; before that runtimes gave zeros
_SLOT = re.compile(r"(\d+)\.(in|out)\.(\d+)")
_SMALL = 4096  # elements of a constant input that the converter gets to see


@dataclass
class Plan:
    """How to raise a model to `version`: the nodes that change and what replaces them.

    `refused` says of nodes, in a clause each, why they cannot be converted; the plan can only be
    carried out when it is empty.
    """

    version: int
    replacements: dict[Node, list[Node]] = field(default_factory=dict)
    refused: dict[Node, str] = field(default_factory=dict)


def plan_opset(root: Graph, version: int, facts: Facts) -> Plan:
    """Find out what raising the main graph (bodies included) to opset `version` takes.

    `facts` gives element type (0: unknown) and shape of a value. Functions import opsets of
    their own and are left as they are; ONNX then wants all their operators to mean the same in the
    version of the model.
    """
    plan = Plan(version)
    for function in root.functions:
        plan.refused.update(left_behind(function, version))
    changing: list[Node] = []
    for graph in root.graphs():
        for node in graph.nodes:
            if not node.is_standard:
                continue
            old, new = schema(node.op, "", root.opset), schema(node.op, "", version)
            if old is None or new is None or new.deprecated:
                plan.refused[node] = f"{node.op} is not an operator of opset {root.opset if old is None else version}"
            elif old.since_version == new.since_version:
                continue
            elif not node.bodies:
                changing.append(node)
            elif old.since_version < _SAME_BODY_SINCE:
                plan.refused[node] = f"the body of {node.op} means something else before opset {_SAME_BODY_SINCE}"
    for node in changing:
        why = _untyped(node, facts) or _other_mask(node, root.opset, version)
        if why:
            plan.refused[node] = why
    if not plan.refused:
        _convert(plan, changing, root.opset, facts)
    return plan


def left_behind(function: Graph, version: int) -> dict[Node, str]:
    """The nodes of a function that would mean something else at `version`, and why that is in the way."""
    found: dict[Node, str] = {}
    for graph in function.graphs():
        for node in graph.nodes:
            if not node.is_standard:
                continue
            old, new = schema(node.op, "", function.opset), schema(node.op, "", version)
            if old is None or new is None or old.since_version != new.since_version:
                found[node] = (
                    f"{function.path} follows opset {function.opset}, whose {node.op} is not that of {version}"
                )
    return found


def _other_mask(node: Node, old: int, new: int) -> str:
    if node.is_op("Dropout") and old < _MASK_KEEPS <= new and len(node.outputs) > 1:
        mask = node.outputs[1]
        if mask.name and (mask.is_read or mask.graph_outputs):
            return f"the mask of Dropout says another thing since opset {_MASK_KEEPS}, and something needs it"
    return ""


def _untyped(node: Node, facts: Facts) -> str:
    for tensor in (*node.inputs, *node.outputs):
        if tensor.name and not isinstance(tensor, Constant) and not facts(tensor)[0]:
            return f"the type of {tensor.name!r} is not known"
    return ""


def _convert(plan: Plan, nodes: list[Node], old: int, facts: Facts) -> None:
    """Convert nodes in one model, side by side; where the converter balks, halve until it is
    one node that it refuses."""
    if not nodes:
        return
    try:
        converted = version_converter.convert_version(_side_by_side(nodes, old, facts), plan.version)
        # It keeps attributes that the new version does not know, makes bounds of one type for values of
        # another, and does not see that a result is of another type now: a mask that was a number.
        onnx.checker.check_model(_without_references(converted), full_check=True)
    except (RuntimeError, ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        # the first two are what the converter raises for an adapter it lacks
        if len(nodes) == 1:
            why = " ".join(str(error).split())[-160:]
            plan.refused[nodes[0]] = f"ONNX's converter refuses {nodes[0].op}: {why}"
        else:
            _convert(plan, nodes[: len(nodes) // 2], old, facts)
            _convert(plan, nodes[len(nodes) // 2 :], old, facts)
        return
    made = decode(converted, Store())
    groups: dict[int, list[Node]] = {}
    owner: dict[Tensor, int] = {t: int(t.name.partition(".")[0]) for t in made.outputs}
    made.toposort()
    for one in reversed(list(made.nodes)):
        index = next(owner[t] for t in one.outputs if t in owner)
        groups.setdefault(index, []).insert(0, one)
        owner.update((t, index) for t in one.inputs if t.inputs)
    for index, node in enumerate(nodes):
        group = groups[index]
        if not (len(group) == 1 and group[0].op == node.op and _same(group[0], node)):
            plan.replacements[node] = group


def _same(made: Node, node: Node) -> bool:
    return [bool(t.name) for t in made.inputs] == [bool(t.name) for t in node.inputs] and set(made.attrs) == set(
        node.attrs
    )


def _side_by_side(nodes: list[Node], opset: int, facts: Facts) -> onnx.ModelProto:
    """A model of unconnected nodes: slot j of node i reads the graph input `i.in.j` (a small
    constant: the initializer of that name) and makes the graph output `i.out.j`."""
    holder = Graph(name="side_by_side", opset=opset)
    for index, node in enumerate(nodes):
        ins: list[Tensor] = []
        for slot, tensor in enumerate(node.inputs):
            name = f"{index}.in.{slot}"
            if not tensor.name:
                ins.append(Variable.empty())
            elif isinstance(tensor, Constant) and tensor.values.size <= _SMALL:
                ins.append(Constant(name, tensor.values))
            else:
                variable = Variable(name, *facts(tensor))
                holder.inputs.append(variable)
                ins.append(variable)
        outs = [
            Variable(f"{index}.out.{slot}", *facts(t)) if t.name else Variable.empty()
            for slot, t in enumerate(node.outputs)
        ]
        holder.nodes.append(Node(node.op, "", dict(node.attrs), ins, outs, node.domain))
        holder.outputs.extend(out for out in outs if out.name)
    encoded = encode(holder)
    for tensor, constant in zip(encoded.proto.graph.initializer, holder.initializers, strict=True):
        if tensor.data_location == TensorProto.EXTERNAL:  # the converter cannot look into a store
            tensor.CopyFrom(onnx.numpy_helper.from_array(constant.values, constant.name))
    encoded.proto.ir_version = max(helper.find_min_ir_version_for(encoded.proto.opset_import, ignore_unknown=True), 4)
    return encoded.proto


def _without_references(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without nodes that hold a reference to stored elements, which the checker takes for a file."""
    if EMBEDDED.encode() not in model.SerializeToString():
        return model
    checked = onnx.ModelProto()
    checked.CopyFrom(model)
    gone = [node for node in checked.graph.node if EMBEDDED.encode() in node.SerializeToString()]
    made = {name for node in gone for name in node.output if name}
    for node in gone:
        checked.graph.node.remove(node)
    checked.graph.input.extend(one for one in checked.graph.output if one.name in made)
    return checked


def carry_out(root: Graph, plan: Plan) -> None:
    """Replace the nodes of a plan without refusals and let the main graph import the new version."""
    for node, made in plan.replacements.items():
        graph = node.graph
        assert graph is not None, "a plan is carried out on the graph it was made for"
        _splice(graph, node, made)
    root.opset = plan.version
    needed = helper.find_min_ir_version_for([helper.make_opsetid("", plan.version)], ignore_unknown=True)
    if root.ir_version is not None and root.ir_version < needed:
        root.ir_version = needed
    journal = root.journal
    if journal is not None:
        journal.note("order", (), ())


def _splice(graph: Graph, node: Node, made: list[Node]) -> None:
    inner: dict[Tensor, Tensor] = {}
    stem = node.outputs[0].name

    def place(tensor: Tensor) -> Tensor:
        if not tensor.name:
            return Variable.empty()
        if tensor not in inner:
            slot = _SLOT.fullmatch(tensor.name)
            if slot is not None:
                inner[tensor] = (node.inputs if slot[2] == "in" else outs)[int(slot[3])]
            elif isinstance(tensor, Constant):
                inner[tensor] = graph.constant(tensor.values, f"{stem}_constant")
            else:
                inner[tensor] = graph.variable(f"{stem}_{node.op}", tensor.dtype, tensor.shape)
        return inner[tensor]

    outs = list(node.outputs)
    planned = [(one, [place(t) for t in one.inputs], [place(t) for t in one.outputs]) for one in made]
    node.outputs.clear()
    for one, ins, results in planned:
        name = node.name if one.op == node.op else graph.fresh_name(f"{node.name or node.op}_{one.op}")
        graph.insert(Node(one.op, name, dict(one.attrs), ins, results, node.domain), before=node)
    graph.remove(node)

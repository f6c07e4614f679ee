"""Models with units of their groups taken out, and the same models with these units silenced instead."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto

from graphopt.analysis.channels import Group, Site, channel_groups
from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.shapes import infer
from graphopt.ir import Constant, Graph, Tensor
from graphopt.ir.decode import decode
from graphopt.ir.encode import encode
from graphopt.ir.store import Store
from graphopt.storage.wire import join
from graphopt.testing.feeds import feeds_for
from graphopt.testing.running import outputs_of
from graphopt.testing.validity import invalid
from passes.prune.narrowing import Narrowing, why_not_narrow

Array = np.ndarray[Any, Any]


def grouped(proto: ModelProto) -> tuple[Graph, list[Group]]:
    """A graph and its groups."""
    graph = decode(proto, Store())
    return graph, channel_groups(graph, infer(graph))


def data_of(graph: Graph) -> bytes:
    """The bytes of a graph."""
    encoded = encode(graph)
    return b"".join(join(encoded.proto, encoded.store))


def free_sizes(proto: ModelProto) -> list[int]:
    """Sizes of the groups that can be narrowed."""
    return [one.size for one in grouped(proto)[1] if why_not_narrow(one) is None]


def obstacles(proto: ModelProto) -> list[str]:
    """Why the other groups cannot be narrowed."""
    return [why for one in grouped(proto)[1] if (why := why_not_narrow(one)) is not None]


def assert_narrowing_is_silencing(
    proto: ModelProto, seed: int = 0, feeds: dict[str, Any] | None = None, matters: bool = True
) -> list[int]:
    """Take half of the units out of each group that allows it, one group at a time and then all groups together:
    outputs are those of the model in which all weights of these units are zero, and unless `matters` is
    false finite, other outputs than before. Returns the groups' sizes."""
    fault = invalid(proto.SerializeToString())
    assert not fault, fault
    _, groups = grouped(proto)
    free = [index for index, one in enumerate(groups) if why_not_narrow(one) is None]
    generator = np.random.default_rng(seed)
    chosen = {}
    for index in free:
        size = groups[index].size
        chosen[index] = np.sort(generator.permutation(size)[: max(size // 2, 1)])
    given = [feeds_for(proto)[0] if feeds is None else feeds]
    original = outputs_of(proto.SerializeToString(), given)[0]
    trials = [[index] for index in free] + ([free] if len(free) > 1 else [])
    for trial in trials:
        wide, groups = grouped(proto)
        for index in trial:
            silence(groups[index], np.setdiff1d(np.arange(groups[index].size), chosen[index]))
        slim, groups = grouped(proto)
        before = elements(slim)
        narrowing = Narrowing()
        for index in trial:
            narrowing.narrow(groups[index], chosen[index])
        data = data_of(slim)
        fault = invalid(data)
        assert not fault, fault
        expected, found = outputs_of(data_of(wide), given)[0], outputs_of(data, given)[0]
        where = [groups[index].subject.label for index in trial]
        for name, value in expected.items():
            assert np.shape(found[name]) == np.shape(value), where
            if not matters and not np.all(np.isfinite(value)):
                continue  # somebody divides by the weights that are zero now, say
            scale = float(np.abs(value).max()) if np.size(value) else 0.0
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5 * max(scale, 1), err_msg=str(where))
        assert not matters or any(not np.allclose(value, original[name]) for name, value in expected.items()), where
        assert elements(slim) < before, where
    return [groups[index].size for index in free]


def elements(graph: Graph) -> int:
    """How many elements all stored tensors of rank 2 and more have."""
    held = [one for scope in graph.scopes() for one in scope.initializers.declared()]
    values = [value for scope in graph.scopes() for node in scope.nodes for value in node.attrs.values()]
    held += [value for value in values if isinstance(value, Constant)]
    return sum(int(np.prod(one.shape)) for one in held if len(one.shape) > 1)


def silence(group: Group, gone: Array) -> None:
    """Make everything that the weights of these units hold zero."""
    held = {one: zero for site in (*group.makers, *group.readers) for one, zero in stored(site)}
    for member in group.members:
        constant = constant_of(member.tensor)
        if constant is not None and constant in held:
            values = constant.values.copy()
            np.moveaxis(values, member.axis, 0)[member.positions[gone].ravel()] = held[constant]
            if member.reader is None:
                group.graph.set_values(member.tensor, values)
                continue
            copy = group.graph.constant(values, member.tensor.name)
            for slot, one in enumerate(member.reader.inputs):
                if one is member.tensor:
                    group.graph.rewire(member.reader, slot, copy)


def stored(site: Site) -> list[tuple[Constant, int]]:
    """The stored tensors that the weight at a site is made of, and what stands for zero in each."""
    found: list[tuple[Constant, int]] = []
    pending: list[tuple[Tensor, int]] = [(site.tensor, 0)]
    while pending:
        tensor, zero = pending.pop()
        constant = constant_of(tensor)
        if constant is not None:
            found.append((constant, zero))
            continue
        for node in tensor.inputs:
            if node.op == "DequantizeLinear" and len(node.inputs) > 2:
                point = constant_values(node.inputs[2])
                zero = 0 if point is None else int(point.ravel()[0])
            if node.op == "QuantizeLinear":
                zero = 0
            pending.append((node.inputs[0], zero))
    return found

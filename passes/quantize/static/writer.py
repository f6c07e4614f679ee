"""Writes Q/DQ pairs: one for each value on a grid, whoever reads it."""

from __future__ import annotations

import math

from graphopt.analysis.constants import constant_values
from graphopt.ir import Graph, Node, Tensor
from passes.quantize.grid import Grid, codes, spread
from passes.quantize.static.choice import Choice, read_by
from passes.quantize.static.grids import activation_grid, holds
from passes.quantize.static.schemes import Scheme
from passes.quantize.static.units import Unit
from passes.quantize.static.weight_writer import WeightWriter, dequantized, drop_unread
from passes.quantize.static.weights import Weighted


class Writer:
    """Writes one unit after the other, in the order of the graph."""

    def __init__(self, choice: Choice, grids: dict[Tensor, Grid], scheme: Scheme) -> None:
        self._choice, self._grids, self._scheme = choice, grids, scheme
        self._pairs: dict[Tensor, Tensor] = {}
        self._parameters: dict[tuple[bytes, bytes, str], list[Tensor]] = {}
        self._constants: dict[tuple[Tensor, bytes], Tensor] = {}
        self._weights = WeightWriter()

    def write(self, unit: Unit, weighted: Weighted | None) -> None:
        """Let a unit read integers, and make them."""
        node = unit.node
        graph = node.graph
        assert graph is not None
        wanted = read_by(unit, self._scheme, self._choice.units)
        for slot in unit.data:
            value = node.inputs[slot]
            if value in wanted and value in self._grids:
                graph.rewire(node, slot, self._pair(value, graph))
        if weighted is not None:
            self._weights.write(unit, weighted)
        for slot in unit.constants if self._scheme.outputs else ():
            self._constant(unit, slot, graph)
        for result in unit.results:
            if self._choice.is_result(result) and result not in self._pairs:
                self._result(unit, result, graph)

    def _pair(self, value: Tensor, graph: Graph) -> Tensor:
        """The floats that a value's codes stand for, of a pair behind it that others read, too."""
        if value not in self._pairs:
            quantize, dequantize = self._nodes(value, graph)
            quantize.inputs[0] = value
            if value.inputs:
                graph.insert(quantize, after=value.inputs[0])
            else:
                graph.insert(quantize, before=graph.nodes[0])
            graph.insert(dequantize, after=quantize)
            self._pairs[value] = dequantize.outputs[0]
        return self._pairs[value]

    def _result(self, unit: Unit, result: Tensor, graph: Graph) -> None:
        """A pair behind what a unit makes, read by everything; a limit that the grid keeps is taken out."""
        quantize, dequantize = self._nodes(result, graph)
        made = dequantize.outputs[0]
        graph.insert(dequantize, after=result.inputs[0])
        source = result
        if graph.why_not_replace(result, made) is None:
            graph.replace_uses(result, made)
            if unit.absorbed is not None and holds(self._grids[result], unit.bounds):
                source = unit.absorbed.inputs[0]
        else:
            for reader in [one for one in result.readers if one.graph is graph]:
                for slot in [slot for slot, read in enumerate(reader.inputs) if read is result]:
                    graph.rewire(reader, slot, made)
        # Not earlier: its input would have been replaced with the others.
        quantize.inputs[0] = source
        graph.insert(quantize, after=result.inputs[0])
        if unit.absorbed is not None and source is not result:
            limits = [one for one in unit.absorbed.inputs[1:] if one.name]
            graph.remove(unit.absorbed)
            for one in limits:
                drop_unread(one, graph)
        self._pairs[result] = self._pairs[made] = made

    def _nodes(self, value: Tensor, graph: Graph) -> tuple[Node, Node]:
        """A pair for a value that its first node does not read yet."""
        stem, parameters = value.name, self._grid(value, graph)
        integers = graph.variable(f"{stem}_quantized")
        floats = graph.variable(f"{stem}_dequantized")
        first = graph.fresh_name(f"{stem}_QuantizeLinear")
        second = graph.fresh_name(f"{stem}_DequantizeLinear")
        return (
            Node("QuantizeLinear", first, {}, [parameters[0], *parameters], [integers]),
            Node("DequantizeLinear", second, {}, [integers, *parameters], [floats]),
        )

    def _grid(self, value: Tensor, graph: Graph) -> list[Tensor]:
        """The constants of a grid, which values on the same one share."""
        grid = self._grids[value]
        assert grid.zero is not None
        key = (grid.scale.tobytes(), grid.zero.tobytes(), str(grid.code))
        if key not in self._parameters:
            names = (f"{value.name}_scale", f"{value.name}_zero_point")
            self._parameters[key] = [graph.constant(grid.scale, names[0]), graph.constant(grid.zero, names[1])]
        return self._parameters[key]

    def _constant(self, unit: Unit, slot: int, graph: Graph) -> None:
        """A constant operand as codes: on the grid of what it is joined with, or on its own."""
        node = unit.node
        old = node.inputs[slot]
        values = constant_values(old)
        assert values is not None
        if unit.kind == "mover":
            grid = self._grids[unit.results[0]]
        else:
            found, code = spread(values, None), next(iter(self._grids.values())).code
            free = (-math.inf, math.inf)
            grid = activation_grid(float(found.low), float(found.high), code, symmetric=False, bounds=free)
        key = (old, grid.scale.tobytes())
        if key not in self._constants:
            stem = old.name or f"{node.label}_{slot}"
            self._constants[key] = dequantized(graph, node, stem, codes(values, grid), grid)
        graph.rewire(node, slot, self._constants[key])
        drop_unread(old, graph)

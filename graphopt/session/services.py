"""What passes may ask of a run: shapes, and the values of constants, computed in the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from onnx import NodeProto, TensorProto

from graphopt.analysis.constants import constant_values
from graphopt.analysis.determined import Determined
from graphopt.analysis.evaluated import Evaluated, evaluate_small
from graphopt.analysis.excerpt import Excerpt, Known, excerpt, version_of
from graphopt.analysis.extent import Extent, Extents, extents
from graphopt.analysis.shapes import Shapes, SharedShapes
from graphopt.ir import Graph, Tensor
from graphopt.ir.values import Array
from graphopt.limits import Limits, current
from graphopt.pipeline.protocol import Calibration, Measure, Training
from graphopt.pipeline.services import NoCalibration, NoTraining
from graphopt.runtime.client import Options, Worker, WorkerFailure
from graphopt.storage.refused import refusals
from graphopt.storage.wire import join

if TYPE_CHECKING:
    from graphopt.calibration.measuring import Baseline
    from graphopt.calibration.source import CalibrationData

_PLAIN = Options(optimize=False, prepack=False, threads=1)


class WorkerServices:
    """The services of a run with a worker, which starts when there is something to compute. `limits` (the
    current ones unless given) bound what is computed ahead; `reached` counts the values that each of them kept
    from it. `say` hears what takes long."""

    def __init__(
        self,
        worker: Worker,
        limits: Limits | None = None,
        data: CalibrationData | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.worker = worker
        self.limits = current() if limits is None else limits
        self._reached: dict[str, set[str]] = {}
        self._data, self._say = data, say
        self._shapes = SharedShapes()
        self._baseline: Baseline | None = None

    def shapes(self, graph: Graph) -> Shapes:
        """Dtypes and shapes by inference, in this process."""
        return self._shapes.of(graph)

    def calibration(self, graph: Graph) -> Calibration:
        """See `graphopt.pipeline.protocol.Calibration`."""
        if self._data is None:
            return NoCalibration("this run has no feeds")
        from graphopt.calibration.observe import Observer

        return Observer(graph, self.worker, self._data, self.shapes)

    def measure(self, graph: Graph) -> Measure:
        """See `graphopt.pipeline.protocol.Measure`. The outputs of the model as it was read are kept."""
        if self._data is None:
            return NoCalibration("this run has no feeds")
        from graphopt.calibration.measuring import Baseline, Measurer

        if self._baseline is None:
            self._baseline = Baseline()
        return Measurer(graph, self.worker, self._data, self._baseline, self.shapes)

    def training(self, graph: Graph) -> Training:
        """See `graphopt.pipeline.protocol.Training`."""
        if self._data is None:
            return NoTraining("this run has no feeds")
        from graphopt.training.trainer import Trainer

        return Trainer(graph, self.worker, self._data, self._say)

    @refusals()
    def evaluate(self, graph: Graph, values: Iterable[Tensor]) -> Evaluated:
        """See `graphopt.pipeline.protocol.Context.evaluate`. Small integers are computed here, everything
        else in one session of the worker, optimizations off, for each version of the operators.

        A value that makes a session fail is found by halving; the others are computed without it.
        """
        return _Evaluation(graph, self.worker, self.limits, self._reached).of(dict.fromkeys(values))

    @property
    def reached(self) -> dict[str, int]:
        """How many values each limit, a field of `Limits`, kept from being computed ahead."""
        return {name: len(values) for name, values in self._reached.items()}


@dataclass
class _Evaluation:
    """One question of a pass."""

    graph: Graph
    worker: Worker
    limits: Limits
    reached: dict[str, set[str]]
    answer: Evaluated = field(default_factory=Evaluated)
    attempts: int = 0

    def of(self, values: Mapping[Tensor, None]) -> Evaluated:
        self.determined = Determined(self.graph)
        for value in values:
            if (why := self.determined.why_not(value)) is not None:
                self.refuse(value, why)
        rest = [one for one in values if one not in self.answer.refused]
        self.known: Known = evaluate_small(rest, self.determined)
        groups: dict[tuple[int, int], list[Tensor]] = {}
        for value in rest:
            array = self.known.get(value)
            array = constant_values(value) if array is None else array
            if array is not None:
                self.answer.arrays[value] = array
            else:
                scope = value.inputs[0].graph
                groups.setdefault(version_of(scope), []).append(value)
        for group in groups.values():
            for batch in self.batches(group):
                self.run(batch)
        return self.answer

    def refuse(self, value: Tensor, why: str) -> None:
        self.answer.refused[value] = why

    def refuse_over(self, limit: str, value: Tensor, why: str) -> None:
        self.reached.setdefault(limit, set()).add(value.name)
        self.refuse(value, why)

    def cut(self, values: list[Tensor]) -> Excerpt:
        return excerpt(values, self.determined, self.graph.root, self.known)

    def batches(self, values: list[Tensor]) -> Iterator[list[Tensor]]:
        """The values that are within the limits, as many together as are within them."""
        whole = self.cut(values)
        sizes = extents(whole)
        faults = _faults(whole, sizes, self.limits)
        makers = {name: node for node in whole.proto.graph.node for name in node.output}
        batch, held, total = list[Tensor](), set[str](), 0
        for value in values:
            name = whole.names[value]
            if (why := faults.get(name)) is not None:
                limit, clause = why
                if limit:
                    self.refuse_over(limit, value, clause)
                else:
                    self.refuse(value, clause)
                continue
            more = _behind(name, makers, held)
            size = sum(_bytes(sizes, one) for one in more)
            if batch and total + size > self.limits.fold_together_bytes:
                yield batch
                batch, held, total = [], set(), 0
                more = _behind(name, makers, held)
                size = sum(_bytes(sizes, one) for one in more)
            most = self.limits.fold_together_bytes
            if size > most:
                self.refuse_over(
                    "fold_together_bytes", value, f"computing it takes {size} bytes, more than the {most} allowed"
                )
                continue
            batch.append(value)
            held |= more
            total += size
        if batch:
            yield batch

    def run(self, values: list[Tensor]) -> None:
        """Compute some values; where that fails, each half of them."""
        pending = [values]
        while pending:
            batch = pending.pop()
            if self.attempts >= self.limits.fold_attempts:
                for value in batch:
                    self.refuse_over(
                        "fold_attempts", value, f"onnxruntime failed on others, and {self.attempts} attempts were made"
                    )
                continue
            self.attempts += 1
            try:
                self.keep(batch, self.compute(batch))
            except WorkerFailure as failure:
                # Halves of what hangs would cost the whole clock each.
                if len(batch) == 1 or failure.kind == "hang":
                    for value in batch:
                        self.refuse(value, f"onnxruntime cannot compute it: {str(failure).rstrip('.')}")
                    continue
                middle = len(batch) // 2
                pending += [batch[middle:], batch[:middle]]

    def compute(self, values: list[Tensor]) -> dict[Tensor, object]:
        made = self.cut(values)
        sizes = extents(made)
        for value in values:
            size = sizes[made.names[value]]
            assert isinstance(size, Extent), "values without a size were refused"
            output = made.proto.graph.output.add(name=made.names[value])
            output.type.tensor_type.elem_type = size.onnx_dtype
            for dim in size.shape:
                output.type.tensor_type.shape.dim.add(dim_value=dim)
            output.type.tensor_type.shape.SetInParent()
        data = b"".join(join(made.proto, made.store))
        with self.worker.load(data, _PLAIN, label="a part of the model that is computed ahead") as session:
            results = session.run({})
        return {value: results[made.names[value]] for value in values}

    def keep(self, values: list[Tensor], results: Mapping[Tensor, object]) -> None:
        for value in values:
            result = results[value]
            if isinstance(result, np.ndarray):
                array: Array = np.ascontiguousarray(result) if result.ndim else result
                array.flags.writeable = False
                self.answer.arrays[value] = array
            else:
                self.refuse(value, "it is no tensor")


Fault = tuple[str, str]
"""Why a value may not be computed: the limit that says so, "" where none does, and a clause."""


def _faults(whole: Excerpt, sizes: Extents, limits: Limits) -> dict[str, Fault]:
    """Which values of an excerpt may not be computed, because of themselves or of what is behind them."""
    faults: dict[str, Fault] = {}
    for node in whole.proto.graph.node:
        why = next((faults[name] for name in node.input if name in faults), None)
        for name in node.output:
            fault = why or (_fault(node, sizes[name], limits) if name else None)
            if fault is not None:
                faults[name] = fault
    return faults


def _fault(node: NodeProto, size: Extent | None, limits: Limits) -> Fault | None:
    if size is None:
        return "", f"how much {node.op_type} gives cannot be told before it is computed"
    for name, count, what, most in (
        ("fold_elements", size.elements, "elements", limits.fold_elements),
        ("fold_bytes", size.bytes, "bytes", limits.fold_bytes),
    ):
        if count > most:
            return name, f"{node.op_type} gives {count} {what}, more than the {most} that are computed ahead"
    if size.onnx_dtype == TensorProto.UNDEFINED:
        return "", f"the element type that {node.op_type} gives cannot be told before it is computed"
    return None


def _behind(name: str, makers: Mapping[str, NodeProto], held: set[str]) -> set[str]:
    """The names of everything that `name` is computed from, itself included, except what is `held`."""
    found: set[str] = set()
    pending = [name]
    while pending:
        one = pending.pop()
        if one and one not in held and one not in found:
            found.add(one)
            maker = makers.get(one)
            if maker is not None:
                found.update(each for each in maker.output if each)
                pending.extend(maker.input)
    return found


def _bytes(sizes: Extents, name: str) -> int:
    size = sizes.get(name)
    return 0 if size is None else size.bytes

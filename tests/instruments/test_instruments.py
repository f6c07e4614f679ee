"""Check, size, timing, limit: what observers see and veto."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphopt.contract import Contract
from graphopt.errors import UsageError
from graphopt.instruments.check import Check, changed_parts, check_fault, signature
from graphopt.instruments.limit import Limit
from graphopt.instruments.size import Size
from graphopt.instruments.snapshot import Snapshots
from graphopt.instruments.timing import Timing
from graphopt.ir import decode
from graphopt.pipeline import manager
from graphopt.pipeline.instrument import Veto
from graphopt.pipeline.pipeline import Pipeline
from graphopt.storage.read import from_proto
from graphopt.testing import model
from passes.eliminate.dead_nodes import DeadNodes
from passes.eliminate.identities import Identities

LARGE = np.ones((32, 64), np.float32)


def large_model() -> onnx.ModelProto:
    return model("g (float[N,32] x) => (float[N,64] y) { a = Identity(x)  y = MatMul(a, w)  z = Exp(a) }", w=LARGE)


def run(proto: onnx.ModelProto, pipeline: Pipeline, *instruments: manager.Instrument) -> manager.Outcome:
    source = from_proto(proto, None)
    return manager.run(lambda: decode(source.proto, source.store), pipeline, instruments=instruments)


def test_the_checker_needs_no_weights() -> None:
    source = from_proto(large_model(), None)
    assert source.proto.graph.initializer[0].data_location == TensorProto.EXTERNAL
    assert check_fault(source.proto) is None


def test_the_checker_still_infers_shapes() -> None:
    proto = large_model()
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 63
    fault = check_fault(from_proto(proto, None).proto)
    assert fault is not None
    assert "63" in fault


def test_an_input_that_fails_the_checker_is_only_held_to_its_signature() -> None:
    proto = large_model()
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 63
    check = Check(from_proto(proto, None).proto)
    outcome = run(proto, Pipeline((Identities(),)), check)
    assert outcome.rewrites == 1
    assert check.input_fault is not None


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda p: p.graph.input[0].type.tensor_type.shape.dim[0].Clear(), ["inputs"]),
        (lambda p: setattr(p.graph.output[0], "name", "other"), ["outputs"]),
        (lambda p: setattr(p.opset_import[0], "version", 20), ["opsets"]),
        (lambda p: p.graph.input.append(helper.make_tensor_value_info("w", 1, [32, 64])), ["inputs", "defaults"]),
        (lambda p: setattr(p.graph.node[0], "name", "renamed"), []),
    ],
)
def test_a_signature_has_four_parts(change: object, parts: list[str]) -> None:
    before, after = large_model(), large_model()
    change(after)  # type: ignore[operator]
    assert changed_parts(signature(before), signature(after)) == parts


def test_size_and_timing_follow_each_turn() -> None:
    size, timing = Size(), Timing()
    run(large_model(), Pipeline((Identities(), DeadNodes(), DeadNodes())), size, timing)
    assert size.before is not None
    assert (size.before.nodes, size.before.parameters, size.before.weight_bytes) == (3, 2048, 8192)
    assert {turn: facts.nodes for turn, facts in size.after.items()} == {1: 2, 2: 1}
    assert size.last.nodes == 1
    assert sorted(timing.turns) == [1, 2, 3]
    assert set(timing.passes) == {"identities", "dead-nodes"}


def test_limit_until_stops_inside_a_group() -> None:
    pipeline = Pipeline.parse("repeat{max=4}(identities,dead-nodes)")
    outcome = run(large_model(), pipeline, Limit(pipeline, until="identities"))
    assert [turn.place.pass_.name for turn in outcome.turns] == ["identities"]


@pytest.mark.parametrize(("only", "until"), [(("nothing",), None), ((), "nothing")])
def test_limit_refuses_names_that_the_pipeline_lacks(only: tuple[str, ...], until: str | None) -> None:
    with pytest.raises(UsageError, match="nothing: the pipeline has no such pass; it has dead-nodes"):
        Limit(Pipeline((DeadNodes(),)), only, until)


def test_snapshots_refuse_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="this is a file"):
        Snapshots(tmp_path / "file")


def test_a_veto_ends_the_run() -> None:
    class Never(manager.Instrument):
        def after_pass(self, turn: object, graph: object) -> None:
            raise Veto("never")

    with pytest.raises(Veto, match="never"):
        run(large_model(), Pipeline((Identities(),)), Never())
    assert Contract.EXACT < Contract.LOSSY

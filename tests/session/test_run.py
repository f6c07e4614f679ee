"""The main job as Python code calls it: what is validated, what is written, and what is not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphopt
from graphopt import Context, Contract, Graph, Pass, Pipeline
from graphopt.errors import BadModel, InternalError, NotEquivalent, UsageError
from graphopt.pipeline.gate import Limits
from graphopt.session.job import Job, Target
from graphopt.session.run import run
from graphopt.storage.read import read
from graphopt.testing import model
from graphopt.validation.budget import parse_budgets
from graphopt.validation.verdict import Outcome

TEXT = "g (float[N,4] x) => (float[N,3] y) { a = Identity(x)  b = MatMul(a, w)  c = Relu(b)  y = Relu(c)  d = Exp(b) }"
WEIGHT = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


@dataclass(frozen=True)
class ReplaceOperator(Pass):
    """Turns Relu into another operator: a wrong rewrite with an honest face."""

    name = "replace-operator"
    contract = Contract.EXACT
    by: str = "Abs"

    def run(self, graph: Graph, ctx: Context) -> None:
        for node in list(graph.nodes):
            if node.is_op("Relu") and ctx.rewrite("replace", node):
                made = graphopt.Node(self.by, graph.fresh_name(self.by), {}, node.inputs, [graph.variable("r")])
                graph.insert(made, before=node)
                if node.outputs[0].graph_outputs:
                    graph.replace_uses(node.outputs[0], made.outputs[0])
                else:
                    graph.replace_uses(node.outputs[0], made.outputs[0])
                graph.remove(node)


@dataclass(frozen=True)
class Scale(Pass):
    """Multiplies every float weight by a factor."""

    name = "scale"
    contract = Contract.LOSSY
    factor: float = 1.0001

    def run(self, graph: Graph, ctx: Context) -> None:
        for constant in graph.initializers:
            if constant.dtype == np.float32 and ctx.rewrite("scale", constant):
                graph.set_values(constant, constant.values * np.float32(self.factor))


@dataclass(frozen=True)
class Raises(Pass):
    """Fails after an edit."""

    name = "raises"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        for node in list(graph.nodes):
            if node.is_op("Exp") and ctx.rewrite("half", node):
                graph.remove(node)
        raise KeyError("boom")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "model.onnx"
    path.parent.mkdir()
    onnx.save(model(TEXT, w=WEIGHT), path)
    return path


def job(*passes: Pass, **more: object) -> Job:
    return Job(Pipeline(tuple(passes)), **more)  # type: ignore[arg-type]


def files(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_a_wrong_rewrite_is_found_and_nothing_is_written(source: Path, tmp_path: Path) -> None:
    before = source.read_bytes()
    result = run(read(source), job(ReplaceOperator()), Target(tmp_path / "out.onnx"))
    assert result.verdict.outcome is Outcome.DIFFERENT
    assert result.exit_code == 1
    assert result.report.written == ()
    assert files(tmp_path) == ["in"]
    assert source.read_bytes() == before
    with pytest.raises(NotEquivalent):
        result.raise_unless_passed()


def test_keep_writes_it_all_the_same_and_says_so(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    result = run(read(source), job(ReplaceOperator()), Target(out, keep=True))
    assert result.exit_code == 1
    assert result.report.kept_despite
    assert "Abs" in {node.op_type for node in onnx.load(out).graph.node}


def test_an_existing_output_survives_a_failed_run(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    out.write_bytes(b"precious")
    run(read(source), job(ReplaceOperator()), Target(out))
    assert out.read_bytes() == b"precious"


def test_a_run_that_changes_nothing_copies_the_bytes(tmp_path: Path) -> None:
    proto = model("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    path, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    # Not the canonical order of fields: the graph's name comes first.
    path.write_bytes(proto.SerializeToString()[::1] + b"\x28\x07")
    result = run(read(path), job(ReplaceOperator(by="Relu"), gate=Limits(limit=0)), Target(out))
    assert not result.report.changed
    assert result.exit_code == 0
    assert out.read_bytes() == path.read_bytes()
    with pytest.raises(NotEquivalent, match="--require-change"):
        run(read(path), job(), Target(tmp_path / "other.onnx", require_change=True))
    assert not (tmp_path / "other.onnx").exists()


def test_a_lossy_pass_needs_a_budget_and_is_held_to_it(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="scale is LOSSY and needs a budget"):
        job(Scale())
    good = run(read(source), job(Scale(), budgets=parse_budgets(["sqnr_db>=60"])), Target(tmp_path / "a.onnx"))
    assert good.verdict.outcome is Outcome.WITHIN_BUDGET
    assert good.verdict.budgets[0].reached == pytest.approx(80, abs=1)
    bad = run(read(source), job(Scale(), budgets=parse_budgets(["sqnr_db>=100"])), Target(tmp_path / "b.onnx"))
    assert bad.exit_code == 1
    assert "over budget: sqnr_db reached 80 where sqnr_db>=100" in bad.verdict.sentence()
    assert files(tmp_path) == ["a.onnx", "in"]


def test_validate_each_names_the_step_and_skip_goes_on_without_it(source: Path, tmp_path: Path) -> None:
    from passes.eliminate.dead_nodes import DeadNodes
    from passes.eliminate.identities import Identities

    steps = (Identities(), ReplaceOperator(), DeadNodes())
    with pytest.raises(Exception, match="step replace-operator does not hold its contract"):
        run(read(source), job(*steps, validate="each"), Target(tmp_path / "out.onnx"))
    assert files(tmp_path) == ["in"]
    result = run(read(source), job(*steps, validate="each", on_error="skip"), Target(tmp_path / "out.onnx"))
    assert result.exit_code == 0
    assert [one.pass_name for one in result.report.skipped] == ["replace-operator"]
    without = run(read(source), job(Identities(), DeadNodes()), Target(tmp_path / "without.onnx"))
    assert without.exit_code == 0
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "without.onnx").read_bytes()


def test_a_pass_that_raises_stops_the_run_or_is_rolled_back(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="pass raises failed: KeyError: 'boom'"):
        run(read(source), job(Raises()), Target(tmp_path / "out.onnx"))
    result = run(read(source), job(Raises(), on_error="skip"), Target(tmp_path / "out.onnx"))
    assert "Exp" in {node.op for node in result.graph.nodes}
    assert not result.report.changed


def test_check_vetoes_an_invalid_model(source: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"pass replace-operator made an invalid model: .*NoSuchOperator"):
        run(read(source), job(ReplaceOperator(by="NoSuchOperator")), Target(tmp_path / "out.onnx"))
    assert files(tmp_path) == ["in"]


def test_in_place_needs_to_be_asked_for(source: Path) -> None:
    from passes.eliminate.identities import Identities

    with pytest.raises(UsageError, match="in-place"):
        run(read(source), job(Identities()), Target(source))
    result = run(read(source), job(Identities()), Target(source, in_place=True))
    assert result.exit_code == 0
    assert "Identity" not in {node.op_type for node in onnx.load(source).graph.node}
    assert files(source.parent) == ["model.onnx"]


def test_snapshots_only_where_something_changed(source: Path, tmp_path: Path) -> None:
    from passes.eliminate.dead_nodes import DeadNodes
    from passes.eliminate.identities import Identities

    shots = tmp_path / "shots"
    run(read(source), job(Identities(), Identities(), DeadNodes(), snapshots=shots))
    assert files(shots) == [
        "000-input.txt",
        "001-identities.onnx",
        "001-identities.txt",
        "003-dead-nodes.onnx",
        "003-dead-nodes.txt",
    ]
    assert "Identity" not in (shots / "001-identities.txt").read_text()
    onnx.checker.check_model(str(shots / "003-dead-nodes.onnx"), full_check=True)
    with pytest.raises(UsageError, match="holds other files"):
        run(read(source), job(snapshots=shots))


def test_only_until_and_disabled_rewrites(source: Path) -> None:
    from passes.eliminate.dead_nodes import DeadNodes
    from passes.eliminate.identities import Identities

    steps = (Identities(), DeadNodes())
    only = run(read(source), job(*steps, only=("dead-nodes",)))
    assert [row.name for row in only.report.passes] == ["dead-nodes"]
    until = run(read(source), job(*steps, until="identities"))
    assert [row.name for row in until.report.passes] == ["identities"]
    gate = Limits(disabled=frozenset({("identities", 1)}))
    disabled = run(read(source), job(*steps, gate=gate))
    assert "Identity" in {node.op for node in disabled.graph.nodes}
    assert [one.kind for one in disabled.report.remarks if one.pass_name == "identities"] == ["disabled"]
    with pytest.raises(UsageError, match="--only nothing: the pipeline has no such pass"):
        run(read(source), job(*steps, only=("nothing",)))


def test_latency_is_measured_on_request(source: Path) -> None:
    from passes.eliminate.identities import Identities

    result = run(read(source), job(Identities(), latency=True))
    assert result.report.latency is not None
    assert result.report.latency.pairs >= 7
    assert 0.2 < result.report.latency.ratio < 5


def test_the_report_is_plain_data(source: Path) -> None:
    import json

    from passes.eliminate.identities import Identities

    result = run(read(source), job(Identities(), recipe="mine"))
    plain = json.loads(json.dumps(result.report.to_json()))
    assert plain["format"] == 1
    assert plain["after"]["nodes"] == plain["before"]["nodes"] - 1
    assert plain["passes"][0]["name"] == "identities"
    assert plain["before"]["macs"] == 12


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda g: g.node[0].input.__setitem__(0, "nowhere"), "nowhere"),
        (lambda g: setattr(g.node[1], "op_type", "NoSuchOperator"), "NoSuchOperator"),
        (lambda g: g.node[0].input.__setitem__(0, "y"), "sorted"),
    ],
)
def test_an_input_that_nobody_takes_for_a_model_is_refused(broken: object, said: str, tmp_path: Path) -> None:
    proto = model(TEXT, w=WEIGHT)
    broken(proto.graph)  # type: ignore[operator]
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(BadModel, match=f"not a valid model: .*{said}"):
        run(read(tmp_path / "m.onnx"), job(), Target(tmp_path / "out.onnx"))
    assert files(tmp_path) == ["m.onnx"]


def test_an_input_that_runs_although_the_checker_objects_is_optimized(tmp_path: Path) -> None:
    from passes.eliminate.identities import Identities

    proto = model(TEXT, w=WEIGHT)
    first, second = proto.graph.node[0], proto.graph.node[1]
    copied = onnx.NodeProto()
    copied.CopyFrom(first)
    first.CopyFrom(second)
    second.CopyFrom(copied)  # not in topological order any more
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    result = run(read(tmp_path / "m.onnx"), job(Identities()), Target(tmp_path / "out.onnx"))
    assert result.exit_code == 0
    assert any("does not pass ONNX's checker" in warning for warning in result.report.warnings)


def test_what_cannot_be_measured_is_refused_before_any_pass_runs(source: Path, tmp_path: Path) -> None:
    from graphopt.validation.plan import FeedPlan

    shots = tmp_path / "shots"
    for more, said in (
        ({"feeds": FeedPlan(tmp_path / "none.npz")}, "none.npz"),
        ({"metric": "top1"}, "needs labels"),
        ({"budgets": parse_budgets(["top1_drop<=0.1"])}, "needs labels"),
    ):
        with pytest.raises(UsageError, match=said):
            run(read(source), job(Raises(), snapshots=shots, **more))
    assert not shots.exists()


def test_what_did_not_fit_in_memory_is_said_of_the_run() -> None:
    """Data of 160 MB that a MatMul reads do not fit where the worker may take 60 MB."""
    text = """g (float[N,64] x) => (float[N,4] y) {
        a = Expand(x, wide)  b = MatMul(a, w)  c = ReduceSum<keepdims=0>(b, first)  y = MatMul(c, v)
    }"""
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.standard_normal((64, 64)).astype(np.float32),
        "v": rng.standard_normal((64, 4)).astype(np.float32),
    }
    proto = model(text, wide=np.array([40_000, 16, 64]), first=np.array([0]), **weights)
    feeds = [{"x": rng.standard_normal((16, 64)).astype(np.float32)} for _ in range(2)]
    found = graphopt.optimize(
        proto,
        pipeline="opset{to=21},gptq{min-elements=1}",
        budget="sqnr_db>=1",
        calibration=feeds,
        validate="none",
        check=False,
        worker_memory=60_000_000,
    )
    assert any("ran out of memory" in warning for warning in found.report.warnings)
    roomy = graphopt.optimize(
        proto, pipeline="dead-nodes", calibration=feeds, validate="none", worker_memory=60_000_000
    )
    assert not any("ran out of memory" in warning for warning in roomy.report.warnings)

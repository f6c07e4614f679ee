"""Code of others as passes: one rewrite, held to a contract, its signature kept, rolled back, and refused in files."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.contract import Contract
from graphopt.errors import InternalError, OverLimit, Unsafe, UsageError
from graphopt.instruments.check import Check
from graphopt.interop import PASSES
from graphopt.interop.command import Command
from graphopt.interop.foreign import Foreign
from graphopt.interop.onnx_ir import OnnxIr
from graphopt.interop.onnxscript import OnnxscriptRules
from graphopt.interop.script import Graphsurgeon
from graphopt.ir import Graph, decode, encode
from graphopt.pipeline import Registry, manager
from graphopt.pipeline.code import code_of, refuse_code
from graphopt.pipeline.gate import Limits
from graphopt.pipeline.instrument import Veto
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.recipe import Recipe
from graphopt.session.api import optimize
from graphopt.session.bisecting import bisect
from graphopt.session.job import Job
from graphopt.storage.read import from_proto
from graphopt.testing import body, check_links, model
from graphopt.validation.verdict import Outcome

CLASSES = (Command, Graphsurgeon, OnnxIr, OnnxscriptRules)
TEXT = "g (float[N,4] x) => (float[N,4] y) { a = Identity(x)  m = MatMul(a, w)  t = Tanh(m)  y = Abs(t) }"
WEIGHT = np.arange(16, dtype=np.float32).reshape(4, 4)
SURGERY = """
import onnx_graphsurgeon as gs
import numpy as np

def surgery(graph):
    for node in list(graph.nodes):
        if node.op == "Tanh":
            half = gs.Constant("half", np.float32([0.5]))
            out = gs.Variable("scaled", dtype=np.float32)
            graph.nodes.append(gs.Node("Mul", "new", inputs=[node.outputs[0], half], outputs=[out]))
            graph.outputs[0].inputs[0].inputs = [out]
    graph.toposort()
"""
EDIT = """
import sys, onnx
model = onnx.load(sys.argv[1])
for node in model.graph.node:
    if node.op_type == "{old}":
        node.op_type = "{new}"
onnx.save(model, sys.argv[2])
"""


@pytest.fixture
def registry() -> Registry:
    known = Registry.load()
    return known if "command" in known.names() else known.including(CLASSES)


def graph_of(proto: onnx.ModelProto) -> Graph:
    source = from_proto(proto)
    return decode(source.proto, source.store)


def ran(proto: onnx.ModelProto, *passes: Foreign, **options: object) -> manager.Outcome:
    return manager.run(lambda: graph_of(proto), Pipeline.of(*passes), **options)  # type: ignore[arg-type]


def nodes(outcome: manager.Outcome) -> str:
    check_links(outcome.graph)
    return body(encode(outcome.graph).proto)


def script(tmp_path: Path, text: str, name: str = "work.py") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def editing(tmp_path: Path, old: str, new: str) -> Command:
    """A command that puts one operator for another."""
    work = script(tmp_path, EDIT.format(old=old, new=new), f"{old}-{new}.py")
    return Command(line=f"{sys.executable} {work} {{in}} {{out}}")


def test_the_table_names_them_all() -> None:
    assert {one.name: f"{one.__module__}:{one.__qualname__}" for one in CLASSES} == PASSES


def test_a_command_is_one_rewrite(tmp_path: Path) -> None:
    outcome = ran(model(TEXT, w=WEIGHT), editing(tmp_path, "Abs", "Neg"))
    assert nodes(outcome) == "a = Identity(x)\nm = MatMul(a, w)\nt = Tanh(m)\ny = Neg(t)"
    (remark,) = outcome.remarks
    assert (remark.kind, remark.pass_name, remark.number) == ("applied", "command", 1)
    assert "the command" in remark.why


def test_a_command_that_changes_nothing_is_no_rewrite(tmp_path: Path) -> None:
    outcome = ran(model(TEXT, w=WEIGHT), editing(tmp_path, "Sin", "Cos"))
    assert (outcome.rewrites, outcome.remarks) == (0, [])


def test_other_passes_go_on_with_what_it_made(tmp_path: Path, registry: Registry) -> None:
    text = f"dead-nodes,{Pipeline.of(editing(tmp_path, 'Abs', 'Neg'))},identities,dead-nodes,unused-initializers"
    pipeline = Pipeline.parse(text, registry)
    assert Pipeline.parse(str(pipeline), registry) == pipeline
    outcome = manager.run(lambda: graph_of(model(TEXT, w=WEIGHT)), pipeline)
    assert nodes(outcome) == "m = MatMul(x, w)\nt = Tanh(m)\ny = Neg(t)"
    assert outcome.graph.fresh_name("m") != "m"


def test_a_gate_keeps_it_from_happening(tmp_path: Path) -> None:
    outcome = ran(model(TEXT, w=WEIGHT), editing(tmp_path, "Abs", "Neg"), gate=Limits(frozenset(), 0))
    assert nodes(outcome).endswith("y = Abs(t)")


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ("false {in} {out}", InternalError, "exits with 1"),
        ("true {in} {out}", InternalError, "wrote no model"),
        ("sh -c 'echo nonsense > $1; exit 3' sh {out} {in}", InternalError, "exits with 3"),
        ("sh -c 'echo nonsense > $1' sh {out} {in}", InternalError, "wrote no model that can be read"),
        ("sh -c 'echo the reason; exit 9' {in} {out}", InternalError, "exits with 9: the reason"),
        ("no-such-optimizer {in} {out}", UsageError, "no such file"),
        ("a 'quote {in} {out}", UsageError, "cannot be split"),
        ("sleep 60 {in} {out}", InternalError, "exits with"),
    ],
)
def test_a_command_that_fails_fails_the_pass(line: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        ran(model(TEXT, w=WEIGHT), Command(line=line))


def test_a_command_has_a_clock() -> None:
    with pytest.raises(OverLimit, match=r"took longer than 0.2 s"):
        ran(model(TEXT, w=WEIGHT), Command(line="sh -c 'sleep 60' {in} {out}", seconds=0.2))


def test_a_failure_is_rolled_back(tmp_path: Path) -> None:
    broken = script(tmp_path, "def surgery(graph):\n    graph.nodes.clear()\n    raise KeyError('boom')\n")
    outcome = ran(
        model(TEXT, w=WEIGHT), editing(tmp_path, "Abs", "Neg"), Graphsurgeon(script=str(broken)), on_error="skip"
    )
    assert nodes(outcome).endswith("y = Neg(t)")
    assert "KeyError" in outcome.skipped[0].why


def test_a_lost_output_is_vetoed(tmp_path: Path) -> None:
    text = TEXT.replace("(float[N,4] y)", "(float[N,4] y, float[N,4] t)")
    proto = model(text, w=WEIGHT)
    drop = script(
        tmp_path, "import sys, onnx\nm = onnx.load(sys.argv[1])\ndel m.graph.output[1]\nonnx.save(m, sys.argv[2])\n"
    )
    line = f"{sys.executable} {drop} {{in}} {{out}}"
    with pytest.raises(Veto, match="pass command changed the model's signature: outputs"):
        ran(proto, Command(line=line), instruments=[Check(proto)])
    allowed = Command(line=line, allowed=("outputs",))
    assert len(ran(proto, allowed, instruments=[Check(proto)]).graph.outputs) == 1
    assert Command.changes == ("opsets",)


def test_validation_holds_it_to_its_contract(tmp_path: Path) -> None:
    good = editing(tmp_path, "Abs", "Abs")
    wrong = editing(tmp_path, "Tanh", "Sigmoid")
    verdict = optimize(model(TEXT, w=WEIGHT), pipeline=Pipeline.of(wrong)).verdict
    assert (verdict.outcome, verdict.contract) == (Outcome.DIFFERENT, Contract.ROUNDING)
    exact = dataclasses.replace(editing(tmp_path, "Identity", "Identity"), promise="exact")
    assert exact.contract is Contract.EXACT
    assert optimize(model(TEXT, w=WEIGHT), pipeline=Pipeline.of(good, exact)).verdict.exit_code == 0
    with pytest.raises(UsageError, match="LOSSY and needs a budget"):
        Job(Pipeline.of(dataclasses.replace(wrong, promise="lossy")))


def test_bisection_names_it(tmp_path: Path) -> None:
    steps = (editing(tmp_path, "Sin", "Cos"), editing(tmp_path, "Tanh", "Sigmoid"))
    found = bisect(from_proto(model(TEXT, w=WEIGHT)), Job(Pipeline.of(*steps)))
    assert (found.outcome, found.handle) == ("rewrite", "command:1")
    assert any("Sigmoid" in line for line in found.after)


def test_a_script_edits_with_stock_objects(tmp_path: Path) -> None:
    work = script(tmp_path, SURGERY)
    outcome = ran(model(TEXT, w=WEIGHT), Graphsurgeon(script=str(work)))
    assert nodes(outcome) == "a = Identity(x)\nm = MatMul(a, w)\nt = Tanh(m)\nscaled = Mul(t, half)\ny = Abs(scaled)"
    assert outcome.rewrites == 1
    onnx.checker.check_model(encode(outcome.graph).proto, full_check=True)


def test_the_code_of_a_script_does_not_touch_the_model_it_was_given(tmp_path: Path) -> None:
    work = script(tmp_path, SURGERY)
    outcome = ran(model(TEXT, w=WEIGHT), Graphsurgeon(script=str(work)), gate=Limits(frozenset(), 0))
    assert nodes(outcome) == "a = Identity(x)\nm = MatMul(a, w)\nt = Tanh(m)\ny = Abs(t)"


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("x = 1", UsageError, "defines no function surgery"),
        ("def surgery(graph): return 3", UsageError, "returned a int"),
        ("def surgery(graph): raise SystemExit(3)", InternalError, "failed: SystemExit"),
        ("1 / 0", InternalError, "failed when it was read: ZeroDivisionError"),
        ("def surgery(graph): graph.nodes[0].attrs['a'] = object()", InternalError, "failed: TypeError"),
    ],
)
def test_a_script_that_fails_fails_the_pass(text: str, kind: type[Exception], said: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=said):
        ran(model(TEXT, w=WEIGHT), Graphsurgeon(script=str(script(tmp_path, text))))


def test_what_is_missing_is_said() -> None:
    for one, said in (
        (Command(), 'the pass command needs the option run, for example command{run="onnxslim'),
        (Graphsurgeon(), "needs the option script"),
        (Graphsurgeon(script="none.py"), "there is no script 'none.py'"),
        (OnnxIr(), "needs the option pass"),
        (OnnxscriptRules(), "needs the option rules"),
    ):
        with pytest.raises(UsageError, match=said.replace("{", r"\{")):
            ran(model(TEXT, w=WEIGHT), one)


def test_options_are_written_as_users_write_them(registry: Registry) -> None:
    text = "command{run='onnxslim {in} {out}' contract=exact seconds=5.0 changes=[outputs]},onnx-ir{pass='a:B'}"
    (command, ir) = Pipeline.parse(text, registry).passes()
    assert command == Command(line="onnxslim {in} {out}", seconds=5.0, promise="exact", allowed=("outputs",))
    assert command.contract is Contract.EXACT
    assert ir == OnnxIr(which="a:B")
    for wrong, said in (
        ("command{run='onnxslim {in}'}", "needs {in} and {out}"),
        ("command{run='a {in} {out}' seconds=0}", "greater than zero"),
        ("command{contract=sloppy}", "contract"),
    ):
        with pytest.raises(UsageError, match=said.replace("{", r"\{")):
            Pipeline.parse(wrong, registry)


def test_a_recipe_that_would_run_code_is_refused(registry: Registry, tmp_path: Path) -> None:
    recipe = Recipe.parse(
        "name = 'r'\npipeline = '''command{run=\"rm {in} {out}\"},graphsurgeon{script=x.py}'''", registry
    )
    with pytest.raises(
        Unsafe, match=r"command runs the command 'rm \{in\} \{out\}'; graphsurgeon runs the script 'x.py'"
    ) as no:
        refuse_code("the recipe r", code_of(recipe.pipeline), False)
    assert no.value.exit_code == 4
    refuse_code("the recipe r", code_of(recipe.pipeline), True)
    for one in (OnnxIr(which="a:B"), OnnxscriptRules(rules="a:B")):
        assert "'a:B'" in code_of(Pipeline.of(one))[0]


def test_a_pass_of_onnx_ir() -> None:
    pytest.importorskip("onnx_ir", reason="onnx-ir is not installed")
    outcome = ran(model(TEXT, w=WEIGHT), OnnxIr(which="onnx_ir.passes.common:IdentityEliminationPass"))
    assert "Identity" not in nodes(outcome)
    assert outcome.rewrites == 1
    for wrong, said in (
        ("onnx_ir.passes.common:NoSuchPass", "has no 'NoSuchPass'"),
        ("no_such_module:X", "did not import"),
        ("nonsense", "not of the form module:NAME"),
        ("collections:OrderedDict", "no pass of onnx_ir"),
    ):
        with pytest.raises(UsageError, match=said):
            ran(model(TEXT, w=WEIGHT), OnnxIr(which=wrong))


def test_rules_of_onnxscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    script(
        tmp_path,
        "from onnxscript.rewriter import pattern\n"
        "RULES = [pattern.RewriteRule(lambda op, x: op.Abs(op.Tanh(x)), lambda op, x: op.Tanh(op.Abs(x)))]\n",
        "rules_of_mine.py",
    )
    monkeypatch.chdir(tmp_path)
    outcome = ran(model(TEXT, w=WEIGHT), OnnxscriptRules(rules="rules_of_mine:RULES"))
    assert [node.op for node in outcome.graph.nodes][-2:] == ["Abs", "Tanh"]


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript.rewriter", None)
    with pytest.raises(UsageError, match="the pass onnxscript-rules needs onnxscript"):
        ran(model(TEXT, w=WEIGHT), OnnxscriptRules(rules="a:B"))

"""Reduction: what is left of a model is the smallest part that fails, fed with the values of a real run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from renaming import renamed

from graphopt.debug.command import Command
from graphopt.debug.reduced import Reduced
from graphopt.errors import CouldNotTell, UsageError
from graphopt.ir import Graph
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.protocol import Context, Contract, Pass
from graphopt.session.job import Job
from graphopt.session.reducing import reduce
from graphopt.storage.read import from_proto
from graphopt.testing import body, model
from graphopt.validation.plan import FeedPlan


@dataclass(frozen=True)
class Swap(Pass):
    """Another operator for each one of a kind, which is wrong."""

    name = "swap"
    contract = Contract.ROUNDING
    old: str = "Tanh"
    new: str = "Sigmoid"

    def run(self, graph: Graph, ctx: Context) -> None:
        for scope in graph.scopes():
            for node in list(scope.nodes):
                if node.is_op(self.old) and ctx.rewrite("swap", node):
                    if self.new == "raise":
                        raise KeyError("boom")
                    node.op = self.new
                    scope.set_values(scope.constant(np.zeros(1, np.float32)), np.zeros(1, np.float32))


WEIGHT = np.random.default_rng(3).standard_normal((16, 16)).astype(np.float32)
LONG = "".join(f"v{i + 1} = Abs(v{i})  " for i in range(40))
TEXT = f"""g (float[N,16] v0, float[N,16] z) => (float[N,16] y, float[N,16] q) {{
    {LONG} m = MatMul(v40, w)  t = Tanh(m)  s = Add(t, v7)  y = MatMul(s, w)  r = Neg(z)  q = Abs(r)
}}"""


def found(proto: onnx.ModelProto, *steps: Pass, **options: object) -> Reduced:
    feeds = options.pop("feeds", None)
    job = Job(Pipeline.of(*steps), feeds=FeedPlan(feeds))  # type: ignore[arg-type]
    return reduce(from_proto(proto), job, **options)  # type: ignore[arg-type]


def read(folder: Path) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    with np.load(folder / "feeds.npz") as stored:
        return onnx.load(folder / "repro.onnx"), dict(stored)


def script(folder: Path) -> str:
    """What the script of a folder prints."""
    done = subprocess.run([sys.executable, str(folder / "repro.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_pipeline_that_breaks_one_node_of_many(tmp_path: Path) -> None:
    x, z = (np.random.default_rng(one).standard_normal((3, 16)).astype(np.float32) for one in (1, 2))
    one = found(model(TEXT, w=WEIGHT), Swap(), feeds={"v0": x, "z": z}, folder=tmp_path / "out")
    assert (one.outcome, one.before, one.after, one.smallest) == ("reduced", 46, 1, True)
    assert one.exit_code == 1
    assert one.evaluations <= 40
    proto, feeds = read(tmp_path / "out")
    assert body(proto) == "t = Tanh(m)"
    assert feeds["m"].size == 1  # the failure survives one row and one column
    assert feeds["m"].ravel()[0] == pytest.approx((np.abs(x) @ WEIGHT)[0, 0], rel=1e-5)
    assert sorted(one.files) == ["feeds.npz", "repro.onnx", "repro.py", "result.onnx"]
    assert "t differs" in script(tmp_path / "out")
    onnx.checker.check_model(proto, full_check=True)


def test_the_script_is_ten_lines_or_so_and_needs_nothing_of_ours(tmp_path: Path) -> None:
    found(model(TEXT, w=WEIGHT), Swap(), folder=tmp_path / "out")
    lines = (tmp_path / "out" / "repro.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 12
    assert "graphopt" not in "".join(line for line in lines if "import" in line)


def test_a_pass_that_raises(tmp_path: Path) -> None:
    one = found(model(TEXT, w=WEIGHT), Swap(new="raise"), folder=tmp_path / "out")
    assert one.after == 1
    assert "pass swap failed: KeyError" in one.why
    assert "t [" in script(tmp_path / "out")


def test_a_command_judges_parts_and_their_feeds(tmp_path: Path) -> None:
    check = tmp_path / "check.py"
    check.write_text(
        "import sys, onnx, numpy\n"
        "names = {one.name for one in onnx.load(sys.argv[1]).graph.input}\n"
        "assert names == set(numpy.load(sys.argv[2]).files)\n"
        "sys.exit(any(one.op_type == 'Neg' for one in onnx.load(sys.argv[1]).graph.node))\n"
    )
    line = f"{sys.executable} {check} {{model}} {{feeds}}"
    one = found(model(TEXT, w=WEIGHT), check=Command(line), folder=tmp_path / "out")
    assert one.after == 1
    proto, _ = read(tmp_path / "out")
    assert body(proto) == "r = Neg(z)"
    assert script(tmp_path / "out").startswith("r ")


def test_two_nodes_that_fail_together_both_stay(tmp_path: Path) -> None:
    line = "! (grep -q Tanh {model} && grep -q Neg {model})"
    found(model(TEXT, w=WEIGHT), check=Command(line), folder=tmp_path / "out")
    proto, feeds = read(tmp_path / "out")
    assert [node.op_type for node in proto.graph.node] == ["Tanh", "Neg"]
    assert set(feeds) == {"m", "z"}


def test_against_another_model_under_other_names(tmp_path: Path) -> None:
    proto = model(TEXT, w=WEIGHT)
    wrong = renamed(proto)
    next(node for node in wrong.graph.node if node.op_type == "Tanh").op_type = "Sigmoid"
    one = found(proto, against=from_proto(wrong), folder=tmp_path / "out")
    assert one.after == 1
    assert "other.onnx" in one.files
    other = onnx.load(tmp_path / "out" / "other.onnx")
    assert body(other) == "t = Sigmoid(m)"
    assert "t differs" in script(tmp_path / "out")
    assert found(proto, against=from_proto(renamed(proto))).outcome == "nothing"


def test_against_a_model_that_fuses_several_nodes(tmp_path: Path) -> None:
    text = (
        "g (float[N,16] x) => (float[N,16] y) { a = Abs(x)  m = MatMul(a, w)  b = Add(m, c)  r = Relu(b)  y = Neg(r) }"
    )
    fused = text.replace("m = MatMul(a, w)  b = Add(m, c)", "b = Gemm(a, w, d)")
    c = np.arange(16, dtype=np.float32)
    one = found(
        model(text, w=WEIGHT, c=c), against=from_proto(model(fused, w=WEIGHT, d=c + 1)), folder=tmp_path / "out"
    )
    proto, feeds = read(tmp_path / "out")
    assert one.after == 2
    assert [node.op_type for node in proto.graph.node] == ["MatMul", "Add"]
    assert set(feeds) == {"a"}


def test_an_if_is_opened_at_the_branch_that_is_taken(tmp_path: Path) -> None:
    text = """g (bool c, float[4] x) => (float[4] y) {
        u = Abs(x)
        y = If (c) <then_branch = t () => (float[4] p) { p = Neg(u) },
            else_branch = e () => (float[4] q) { k = Sin(u)  l = Tanh(k)  q = Cos(l) }>
    }"""
    feeds = {"c": np.array(False), "x": np.ones(4, np.float32)}
    found(model(text), Swap(), feeds=feeds, folder=tmp_path / "out")
    proto, made = read(tmp_path / "out")
    assert body(proto) == "l = Tanh(k)"
    assert made["k"].ravel()[0] == pytest.approx(np.sin(1.0))


@pytest.mark.parametrize("operator", ["Loop", "Scan"])
def test_loops_and_scans_are_opened_at_a_round(operator: str, tmp_path: Path) -> None:
    loop = """n = Constant<value_int = 3>()  t = Constant<value = bool {1}>()
        f = Loop (n, t, x) <body = b (int64 i, bool c, float[4] s) => (bool d, float[4] e) {
            d = Identity(c)  k = Add(s, o)  l = Tanh(k)  e = Abs(l) }>"""
    scan = """f, g = Scan (x, rows) <num_scan_inputs = 1,
        body = b (float[4] s, float[4] row) => (float[4] e, float[4] h) {
            a = Mul(s, row)  k = Add(a, o)  l = Tanh(k)  e = Abs(l)  h = Identity(l) }>"""
    text = (
        f"""g (float[4] x, float[3,4] rows) => (float[4] y) {{ {loop if operator == "Loop" else scan}  y = Neg(f) }}"""
    )
    feeds = {"x": np.zeros(4, np.float32), "rows": np.ones((3, 4), np.float32)}
    found(model(text, o=np.full(4, 2, np.float32)), Swap(), feeds=feeds, folder=tmp_path / "out")
    proto, made = read(tmp_path / "out")
    assert body(proto) == "l = Tanh(k)"
    assert made["k"].ravel()[0] == pytest.approx(2.0)


def test_a_round_that_begins_with_zeros_is_no_obstacle(tmp_path: Path) -> None:
    """In the first round the sum is 0, and tanh(0) is what the wrong operator gives, too."""
    text = """g (float[4] x) => (float[4] y) {
        n = Constant<value_int = 3>()  t = Constant<value = bool {1}>()
        y = Loop (n, t, x) <body = b (int64 i, bool c, float[4] s) => (bool d, float[4] e) {
            d = Identity(c)  l = Tanh(s)  e = Add(l, o) }>
    }"""
    feeds = {"x": np.zeros(4, np.float32)}
    found(model(text, o=np.ones(4, np.float32)), Swap(new="Relu"), feeds=feeds, folder=tmp_path / "out")
    proto, made = read(tmp_path / "out")
    assert body(proto) == "l = Tanh(s)"
    assert made["s"].all()


def test_what_is_computed_from_constants_stays_constant(tmp_path: Path) -> None:
    text = "g (float[4,16] x) => (float[4,16] y) { a = Neg(w)  b = Abs(a)  m = MatMul(x, b)  y = Tanh(m) }"
    check = Command("! grep -q MatMul {model}")
    found(model(text, w=WEIGHT), check=check, folder=tmp_path / "out")
    proto, feeds = read(tmp_path / "out")
    assert (body(proto), set(feeds)) == ("m = MatMul(x, b)", {"x"})
    assert [one.name for one in proto.graph.initializer] == ["b"]


def test_weights_shrink_where_the_failure_survives(tmp_path: Path) -> None:
    text = "g (float[2,16] x) => (float[2,16] y) { m = MatMul(x, w)  y = Add(m, c) }"
    check = Command("! grep -q MatMul {model}")
    one = found(model(text, w=WEIGHT, c=WEIGHT[0]), check=check, folder=tmp_path / "out")
    proto, _ = read(tmp_path / "out")
    assert list(proto.graph.initializer[0].dims) == [1, 1]
    assert one.bytes_after < one.bytes_before / 5


def test_sequences_are_no_borders(tmp_path: Path) -> None:
    text = """g (float[2] x) => (float[2] y) {
        a = Abs(x)  s = SequenceConstruct(a, x)  i = Constant<value_int = 0>()  y = SequenceAt(s, i)
    }"""
    check = Command("! grep -q SequenceAt {model}")
    found(model(text), check=check, folder=tmp_path / "out")
    proto, _ = read(tmp_path / "out")
    assert [node.op_type for node in proto.graph.node] == ["SequenceConstruct", "SequenceAt"]


def test_texts_are_fed_as_texts(tmp_path: Path) -> None:
    text = "g (string[2] x) => (string[2] y) { a = Identity(x)  b = Identity(a)  y = Identity(b) }"
    check = Command("! grep -q b {model}")
    feeds = {"x": np.array(["one", "two"], object)}
    found(model(text), check=check, feeds=feeds, folder=tmp_path / "out")
    _, made = read(tmp_path / "out")
    assert [one.dtype.kind for one in made.values()] == ["U"]
    assert "one" in script(tmp_path / "out")


@pytest.mark.parametrize("kind", ["seq(float[2])", "bfloat16[2]"])
def test_inputs_that_no_file_of_arrays_holds_are_refused_first(kind: str) -> None:
    call = "ConcatFromSequence<axis = 0>(x)" if "seq" in kind else "Cast<to = 1>(x)"
    text = f"g ({kind} x) => (float[2] y) {{ y = {call} }}"
    with pytest.raises(UsageError, match=r"which an \.npz file cannot hold"):
        found(model(text), check=Command("false {model}"))


def test_inputs_may_be_called_anything(tmp_path: Path) -> None:
    proto = model("g (float[2] file, float[2] b) => (float[2] y) { y = Add(file, b) }")
    proto.graph.input[1].name = proto.graph.node[0].input[1] = "allow_pickle"
    found(proto, check=Command("! grep -q Add {model}"), folder=tmp_path / "out")
    _, feeds = read(tmp_path / "out")
    assert set(feeds) == {"file", "allow_pickle"}
    assert "y [" in script(tmp_path / "out")


def test_a_model_without_inputs(tmp_path: Path) -> None:
    text = "g () => (float[16,16] y) { r = Neg(w)  t = Tanh(r)  y = Abs(t) }"
    one = found(model(text, w=WEIGHT), Swap(), folder=tmp_path / "out")
    proto, feeds = read(tmp_path / "out")
    assert (body(proto), feeds, one.after) == ("t = Tanh(r)", {}, 1)
    assert "t differs" in script(tmp_path / "out")


def test_nothing_fails(tmp_path: Path) -> None:
    one = found(model(TEXT, w=WEIGHT), check=Command("true {model}"), folder=tmp_path / "out")
    assert (one.outcome, one.exit_code) == ("nothing", 0)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_told() -> None:
    with pytest.raises(CouldNotTell, match="nothing can be said of the whole model: the check exits with 125"):
        found(model(TEXT, w=WEIGHT), check=Command("exit 125; {model}"))


def test_a_command_that_cannot_be_run_is_no_failure() -> None:
    with pytest.raises(CouldNotTell, match="the command cannot be run: the check exits with 127"):
        found(model(TEXT, w=WEIGHT), check=Command("no-such-command {model}"))


def test_a_search_that_is_cut_short_says_so() -> None:
    one = found(model(TEXT, w=WEIGHT), Swap(), most=8)
    assert one.outcome == "reduced"
    assert not one.smallest
    assert one.evaluations == 8
    assert one.after < one.before


def test_a_folder_that_is_taken_is_refused_before_the_search(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    for folder, said in (
        (tmp_path, "the folder holds other files"),
        (tmp_path / "note.txt", "this is not a folder"),
        (tmp_path / "none" / "out", "there is no folder"),
    ):
        with pytest.raises(UsageError, match=said):
            found(model(TEXT, w=WEIGHT), Swap(), folder=folder)
    assert (tmp_path / "note.txt").read_text() == "mine"

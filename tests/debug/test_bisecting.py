"""Bisection of runs of small models: the rewrite, its company, what is skipped, and what is said."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.debug.bisect import Answer
from graphopt.debug.command import Command
from graphopt.debug.finding import Finding
from graphopt.errors import CouldNotTell, UsageError
from graphopt.ir import Graph, Node
from graphopt.pipeline.gate import Limits
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.protocol import Context, Contract, Pass
from graphopt.session.bisecting import bisect
from graphopt.session.job import Job
from graphopt.storage.read import read
from graphopt.testing import model
from graphopt.validation.budget import parse_budgets


def chain(length: int) -> onnx.ModelProto:
    """Relu after Relu: what leaves one out, or doubles one, can be told."""
    names = ["x", *(f"v{index}" for index in range(1, length)), "y"]
    nodes = "  ".join(f"{new} = Relu({old})" for old, new in itertools.pairwise(names))
    return model(f"g (float[4] x) => (float[4] y) {{ {nodes} }}")


@dataclass(frozen=True)
class Exchange(Pass):
    """Each Relu by another one; those in `wrong` by an Abs, those in `doubled` (numbers from 1) by two."""

    name = "exchange"
    contract = Contract.EXACT
    wrong: tuple[int, ...] = ()
    raises: int = 0
    operator: str = "Neg"

    def run(self, graph: Graph, ctx: Context) -> None:
        for number, node in enumerate([one for one in graph.nodes if one.is_op("Relu")], 1):
            if not ctx.rewrite("exchange", node):
                continue
            if number == self.raises:
                raise KeyError("boom")
            out = graph.variable("new")
            op = self.operator if number in self.wrong else "Relu"
            graph.insert(Node(op, graph.fresh_name("made"), {}, list(node.inputs), [out]), before=node)
            graph.replace_uses(node.outputs[0], out)
            graph.remove(node)


@dataclass(frozen=True)
class Scale(Pass):
    """Each weight times a factor: only several together go over the budget."""

    name = "scale"
    contract = Contract.LOSSY
    factor: float = 1.04

    def run(self, graph: Graph, ctx: Context) -> None:
        for constant in list(graph.initializers):
            if ctx.rewrite("scale", constant):
                graph.set_values(constant, constant.values * np.float32(self.factor))


@dataclass(frozen=True)
class Needs(Pass):
    """A wrong rewrite that is only there once another one was carried out."""

    name = "needs"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        for node in list(graph.nodes):
            if node.is_op("Relu") and node.inputs[0].inputs and node.inputs[0].inputs[0].is_op("Abs"):
                if ctx.rewrite("neg", node):
                    self.by(graph, node, "Neg")
            elif node.is_op("Relu") and ctx.rewrite("abs", node):
                self.by(graph, node, "Abs")

    def by(self, graph: Graph, node: Node, op: str) -> None:
        out = graph.variable("new")
        graph.insert(Node(op, graph.fresh_name("made"), {}, list(node.inputs), [out]), before=node)
        graph.replace_uses(node.outputs[0], out)
        graph.remove(node)


@dataclass(frozen=True)
class Breaks(Pass):
    """Fails on every graph."""

    name = "breaks"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        raise KeyError("boom")


def saved(tmp_path: Path, proto: onnx.ModelProto) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    return path


def found(tmp_path: Path, proto: onnx.ModelProto, *steps: Pass, **options: object) -> Finding:
    job = {key: options.pop(key) for key in ("budgets", "gate", "validate") if key in options}
    return bisect(read(saved(tmp_path, proto)), Job(Pipeline.of(*steps), **job), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("guilty", [1, 2, 250, 499, 500])
def test_one_of_five_hundred_in_at_most_twelve_evaluations(tmp_path: Path, guilty: int) -> None:
    one = found(tmp_path, chain(500), Exchange(wrong=(guilty,)))
    assert (one.outcome, one.rewrites, one.position, one.handle) == ("rewrite", 500, guilty, f"exchange:{guilty}")
    assert one.evaluations <= 12
    assert one.alone
    assert one.rest is Answer.GOOD
    assert one.exit_code == 1


def test_the_command_also_takes_at_most_twelve(tmp_path: Path) -> None:
    check = Command("! grep -q Neg {model}")
    one = found(tmp_path, chain(500), Exchange(wrong=(333,)), check=check, validate="none")
    assert one.handle == "exchange:333"
    assert one.again.endswith("--disable exchange:333 --check '! grep -q Neg {model}'")
    assert one.evaluations <= 12
    assert one.rest is None


def test_what_is_said_of_it(tmp_path: Path) -> None:
    one = found(tmp_path, chain(4), Exchange(), Exchange(), Exchange(wrong=(2,)))
    assert one.guilty is not None
    assert (one.handle, one.position) == ("exchange:10", 10)
    assert one.guilty.before == ("new_5",)
    assert one.origins == ("v2",)
    assert any(line.startswith("new_5 = Relu(") for line in one.before)
    assert any(" = Neg(" in line for line in one.after)
    assert "different (EXACT)" in one.why
    assert "graphopt optimize" in one.go_on
    assert one.go_on.endswith("--disable exchange:10")


def test_nothing_is_wrong(tmp_path: Path) -> None:
    one = found(tmp_path, chain(5), Exchange())
    assert (one.outcome, one.exit_code, one.evaluations, one.rewrites) == ("nothing", 0, 1, 5)
    assert found(tmp_path, chain(5)).evaluations == 0


def test_what_is_switched_off_stays_so_and_the_next_one_is_found(tmp_path: Path) -> None:
    first = found(tmp_path, chain(20), Exchange(wrong=(5, 9)))
    assert (first.handle, first.rest) == ("exchange:5", Answer.BAD)
    assert first.again.startswith("graphopt bisect ")
    assert first.again.endswith("--disable exchange:5")
    gate = Limits(frozenset({("exchange", 5)}))
    second = found(tmp_path, chain(20), Exchange(wrong=(5, 9)), gate=gate)
    assert (second.handle, second.rest) == ("exchange:9", Answer.GOOD)
    assert "--disable exchange:5 --disable exchange:9" in second.go_on
    both = Limits(frozenset({("exchange", 5), ("exchange", 9)}))
    assert found(tmp_path, chain(20), Exchange(wrong=(5, 9)), gate=both).outcome == "nothing"


def test_several_that_are_only_wrong_together_are_a_smallest_set(tmp_path: Path) -> None:
    nodes = "  ".join(f"v{i + 1} = Mul(v{i}, w{i})" for i in range(8))
    weights = {f"w{i}": np.full(4, 1.0 + i, np.float32) for i in range(8)}
    proto = model(f"g (float[4] v0) => (float[4] v8) {{ {nodes} }}", **weights)
    one = found(tmp_path, proto, Scale(), budgets=parse_budgets(["sqnr_db>=18"]))
    # 1.04 ** 3 is off by 12.5 %, which is 18.06 dB; a fourth goes below 18.
    assert one.position == 4
    assert one.alone is False
    assert len(one.together) == 4
    assert one.smallest
    assert one.rest is Answer.BAD


def test_a_rewrite_that_another_one_makes_possible_is_named_with_it(tmp_path: Path) -> None:
    check = Command("! grep -q Neg {model}")
    one = found(tmp_path, chain(9), Needs(), check=check, validate="none")
    assert one.guilty is not None
    assert (one.guilty.rule, one.alone) == ("neg", False)
    assert [remark.rule for remark in one.together] == ["abs", "neg"]
    assert one.smallest


def test_at_most_so_many_models_are_judged_for_a_set(tmp_path: Path) -> None:
    nodes = "  ".join(f"v{i + 1} = Mul(v{i}, w{i})" for i in range(24))
    weights = {f"w{i}": np.full(4, 1.0 + i / 100, np.float32) for i in range(24)}
    proto = model(f"g (float[4] v0) => (float[4] v24) {{ {nodes} }}", **weights)
    one = found(tmp_path, proto, Scale(1.005), budgets=parse_budgets(["sqnr_db>=20"]), most=12)
    assert (one.alone, one.smallest) == (False, False)
    assert one.evaluations <= 12 + 1


@dataclass(frozen=True)
class After(Pass):
    """A wrong rewrite that is only there once each Relu was exchanged: nothing can be left out."""

    name = "after"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        relus = [node for node in graph.nodes if node.is_op("Relu")]
        if all(node.name.startswith("made") for node in relus) and ctx.rewrite("neg", relus[0]):
            out = graph.variable("new")
            graph.insert(Node("Neg", graph.fresh_name("made"), {}, list(relus[0].inputs), [out]), before=relus[0])
            graph.rewire(relus[0], 0, out)


def test_runs_that_are_not_judged_are_bounded_as_well(tmp_path: Path) -> None:
    one = found(tmp_path, chain(30), Exchange(), After(), most=4)
    assert (one.handle, one.alone, one.smallest) == ("after:1", False, False)
    assert one.runs <= 10 * 4 + 10
    whole = found(tmp_path, chain(5), Exchange(), After())
    assert (len(whole.together), whole.smallest) == (6, True)


def test_a_pass_that_fails_because_of_a_rewrite(tmp_path: Path) -> None:
    one = found(tmp_path, chain(9), Exchange(raises=6))
    assert (one.outcome, one.handle) == ("rewrite", "exchange:6")
    assert one.why == "pass exchange failed: KeyError: 'boom'"
    assert one.before == one.after == ()


def test_a_pass_that_fails_anyhow(tmp_path: Path) -> None:
    one = found(tmp_path, chain(9), Exchange(), Breaks())
    assert (one.outcome, one.pass_name, one.guilty, one.exit_code) == ("pass", "breaks", None, 1)


def test_a_result_that_the_checker_refuses_is_wrong(tmp_path: Path) -> None:
    one = found(tmp_path, chain(9), Exchange(wrong=(7,), operator="Nonsense"))
    assert one.handle == "exchange:7"
    assert "invalid model" in one.why
    assert any(" = Nonsense(" in line for line in one.after)


def test_nothing_can_be_said_of_a_model_that_draws_random_numbers(tmp_path: Path) -> None:
    text = "g (float[2] x) => (float[2] y) { a = Relu(x)  r = RandomNormalLike(a)  y = Add(a, r) }"
    with pytest.raises(CouldNotTell, match="nothing can be said of the whole pipeline's result"):
        found(tmp_path, model(text), *Pipeline.parse("identities").steps, Needs())


def test_skipped_prefixes_make_a_range(tmp_path: Path) -> None:
    # Only the input and the whole result can be told: everything between is skipped.
    script = 'n=$(grep -ao "made" {model} | wc -l); [ "$n" = 0 ] && exit 0; [ "$n" = 6 ] && exit 1; exit 125'
    one = found(tmp_path, chain(6), Exchange(), check=Command(script), validate="none")
    assert one.outcome == "range"
    assert [remark.number for remark in one.suspects] == [1, 2, 3, 4, 5, 6]
    assert one.exit_code == 1


@pytest.mark.parametrize(
    ("check", "kind", "why"),
    [
        ("exit 3 # {model}", UsageError, "the check exits with 3); it has to exit with 0 on the input"),
        ("echo no; exit 1 # {model}", UsageError, "the check exits with 1: no); it has to exit with 0"),
        ("no-such-command {model}", UsageError, "see that the command can be run"),
        ("exit 125 # {model}", CouldNotTell, "the check could not tell about the input itself"),
        ("kill -9 $$ # {model}", UsageError, "ended by signal 9"),
    ],
)
def test_a_check_that_does_not_hold_for_the_input(tmp_path: Path, check: str, kind: type[Exception], why: str) -> None:
    with pytest.raises(kind) as error:
        found(tmp_path, chain(3), Exchange(wrong=(2,)), check=Command(check), validate="none")
    assert why in str(error.value)


def test_a_check_that_takes_too_long_tells_nothing_and_leaves_nothing_running(tmp_path: Path) -> None:
    mark = tmp_path / "late"
    judged = Command(f"sleep 2; touch {mark} # {{model}}", 0.2).judge(tmp_path)
    assert judged.answer is Answer.SKIP
    assert "took longer than 0.2 s" in judged.why
    time.sleep(2.2)
    assert not mark.exists()


def test_a_check_needs_the_place_of_the_model_and_quotes_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no \{model\}"):
        Command("true")
    odd = tmp_path / "a b;c"
    odd.write_text("x")
    assert Command("test -f {model}").judge(odd).answer is Answer.GOOD


def test_the_check_runs_in_the_user_s_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = tmp_path / "shell"
    shell.write_text("#!/bin/sh\nexit 125\n")
    shell.chmod(0o755)
    monkeypatch.setenv("SHELL", str(shell))
    assert Command("true {model}").judge(tmp_path).answer is Answer.SKIP
    monkeypatch.setenv("SHELL", "/no/such/shell")
    assert Command("true {model}").judge(tmp_path).answer is Answer.GOOD


@dataclass(frozen=True)
class Same(Pass):
    """Gives each weight the values that it has."""

    name = "same"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        for constant in list(graph.initializers):
            if ctx.rewrite("same", constant):
                graph.set_values(constant, constant.values.copy())


def test_equal_models_are_judged_once(tmp_path: Path) -> None:
    nodes = "  ".join(f"v{i + 1} = Mul(v{i}, w{i})" for i in range(8))
    weights = {f"w{i}": np.full(4, 1.0 + i, np.float32) for i in range(8)}
    proto = model(f"g (float[4] v0) => (float[4] y) {{ {nodes}  y = Relu(v8) }}", **weights)
    one = found(tmp_path, proto, Same(), Exchange(wrong=(1,)))
    assert (one.handle, one.position) == ("exchange:1", 9)
    assert [tried.what for tried in one.tries if tried.cached] != []
    assert one.evaluations < len(one.tries)

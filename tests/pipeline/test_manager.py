"""Running pipelines: rounds, failures and replays, instruments, the gate over a whole run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from graphopt.contract import Contract
from graphopt.errors import BadModel, InternalError, OverLimit
from graphopt.ir import Graph, decode, encode
from graphopt.ir.store import Store
from graphopt.pipeline import Context, Pass, Pipeline, Repeat, option
from graphopt.pipeline.gate import Limits
from graphopt.pipeline.instrument import Instrument, Place, StepDone, Turn, Veto
from graphopt.pipeline.manager import Outcome, Skipped, run
from graphopt.testing import body, model

CHAIN = model("g (float[N] x) => (float[N] y) { a = Relu(x)  b = Abs(a)  c = Relu(b)  d = Abs(c)  y = Neg(d) }")


def fresh() -> Graph:
    return decode(CHAIN, Store())


def nodes(outcome: Outcome) -> str:
    return " ".join(node.op for node in outcome.graph.nodes)


def encoded(outcome: Outcome) -> bytes:
    data: bytes = encode(outcome.graph).proto.SerializeToString(deterministic=True)
    return data


def skip_first(graph: Graph, ctx: Context, op: str) -> None:
    """Take out the first node of an operator that makes no output."""
    for node in graph.nodes:
        if node.op == op and not node.outputs[0].graph_outputs:
            if ctx.rewrite("skip", node):
                graph.replace_uses(node.outputs[0], node.inputs[0])
                graph.remove(node)
            return


@dataclass(frozen=True)
class SkipRelu(Pass):
    """Take out one Relu a turn."""

    name = "skip-relu"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        skip_first(graph, ctx, "Relu")


@dataclass(frozen=True)
class SkipAbs(Pass):
    """Take out one Abs a turn, but only when no Relu is left."""

    name = "skip-abs"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        if all(node.op != "Relu" for node in graph.nodes):
            skip_first(graph, ctx, "Abs")


@dataclass(frozen=True)
class Rename(Pass):
    """Name the last node, over and over."""

    name = "rename"
    contract = Contract.EXACT
    to: str = option("z", "its name")

    def run(self, graph: Graph, ctx: Context) -> None:
        if ctx.rewrite("rename", graph.nodes[-1]):
            graph.nodes[-1].name += self.to


@dataclass(frozen=True)
class Fails(Pass):
    """Edit the graph, and then fail, from the round on that is given."""

    name = "fails"
    contract = Contract.EXACT
    error: str = option("value", "which error")
    relus: int = option(2, "fail when no more than this many Relu are left")

    def run(self, graph: Graph, ctx: Context) -> None:
        if sum(node.op == "Relu" for node in graph.nodes) > self.relus:
            return
        skip_first(graph, ctx, "Abs")
        raise _ERRORS[self.error]


_ERRORS: dict[str, BaseException] = {
    "value": ValueError("a value\nof two lines"),
    "memory": MemoryError(),
    "model": BadModel("the model is bad"),
    "interrupt": KeyboardInterrupt(),
}


class Log(Instrument):
    """Writes down what it hears, and vetoes where `when` says so."""

    def __init__(self, tag: str, heard: list[str], when: Callable[[Turn | StepDone], bool] | None = None) -> None:
        self.tag, self.heard, self.when = tag, heard, when

    def say(self, what: str) -> None:
        self.heard.append(f"{self.tag}:{what}")

    def begins(self, graph: Graph) -> None:
        self.say("begins")

    def before_pass(self, place: Place, graph: Graph) -> None:
        self.say(f"before {place.pass_.name}")

    def after_pass(self, turn: Turn, graph: Graph) -> None:
        self.say(f"after {turn.place.pass_.name}{' again' if turn.replayed else ''}")
        if self.when is not None and self.when(turn):
            raise Veto(f"{turn.place.pass_.name} is not wanted")

    def after_step(self, done: StepDone, graph: Graph) -> None:
        self.say(f"step {done.step}{' again' if done.replayed else ''}")
        if self.when is not None and self.when(done):
            raise Veto(f"step {done.text} is not wanted")

    def skipped(self, place: Place, error: Exception) -> None:
        self.say(f"skipped {place.pass_.name}")

    def ends(self, graph: Graph) -> None:
        self.say("ends")


def test_a_pipeline_runs_its_passes_in_order() -> None:
    outcome = run(fresh, Pipeline.of(SkipRelu(), Rename(to="u")))
    assert nodes(outcome) == "Abs Relu Abs Neg"
    assert outcome.graph.nodes[-1].name == "u"
    assert [(turn.place.step, turn.place.turn, turn.applied) for turn in outcome.turns] == [(0, 1, 1), (1, 2, 1)]
    assert outcome.rewrites == 2
    assert [(done.text, done.rounds, done.changed) for done in outcome.steps] == [
        ("skip-relu", 1, True),
        ('rename{to="u"}', 1, True),
    ]


def test_the_empty_pipeline() -> None:
    outcome = run(fresh, Pipeline())
    assert (outcome.rewrites, outcome.turns, outcome.remarks) == (0, [], [])
    assert outcome.contract is Contract.EXACT


def test_the_contract_of_a_run_is_the_loosest_that_changed_something() -> None:
    assert run(fresh, Pipeline.of(SkipRelu(), Rename())).contract is Contract.ROUNDING
    assert run(fresh, Pipeline.of(SkipAbs(), Rename())).contract is Contract.EXACT
    only_abs = decode(model("g (float[N] x) => (float[N] y) { y = Abs(x) }"), Store())
    assert run(lambda: only_abs, Pipeline.of(SkipRelu())).contract is Contract.EXACT


def test_a_group_runs_until_nothing_changes() -> None:
    """skip-abs has something to do only two rounds after skip-relu began."""
    outcome = run(fresh, Pipeline.of(Repeat(8, (SkipAbs(), SkipRelu()))))
    assert nodes(outcome) == "Neg"
    (done,) = outcome.steps
    assert (done.rounds, done.changed, done.contract) == (5, True, Contract.ROUNDING)
    assert [turn.place.round for turn in outcome.turns] == [
        1,
        1,
        2,
        2,
        3,
        3,
        4,
        4,
        5,
    ]  # nothing has changed since skip-relu looked


def test_a_group_ends_after_its_last_round() -> None:
    outcome = run(fresh, Pipeline.of(Repeat(3, (Rename(),))))
    assert outcome.graph.nodes[-1].name == "zzz"
    assert outcome.steps[0].rounds == 3


def test_a_group_that_finds_nothing_runs_once() -> None:
    outcome = run(fresh, Pipeline.of(Repeat(8, (SkipAbs(),))))
    assert (outcome.steps[0].rounds, outcome.steps[0].changed) == (1, False)


@pytest.mark.parametrize(
    ("error", "raised", "says"),
    [
        ("value", InternalError, "pass fails failed: ValueError: a value of two lines"),
        ("memory", OverLimit, "pass fails ran out of memory; the input is untouched"),
        ("model", BadModel, "the model is bad"),
    ],
)
def test_a_failure_stops_the_run_with_one_sentence(error: str, raised: type[Exception], says: str) -> None:
    with pytest.raises(raised) as caught:
        run(fresh, Pipeline.of(SkipRelu(), Fails(error=error)))
    assert str(caught.value) == says
    if error == "value":
        assert isinstance(caught.value.__cause__, ValueError)


def test_an_interrupt_is_no_failure_of_a_pass() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(fresh, Pipeline.of(Fails(error="interrupt")), on_error="skip")


def test_after_a_failure_the_graph_hears_no_journal() -> None:
    graphs: list[Graph] = []

    def kept() -> Graph:
        graphs.append(fresh())
        return graphs[-1]

    run(kept, Pipeline.of(Fails(), SkipRelu()), on_error="skip")
    assert len(graphs) == 2 and all(graph.journal is None for graph in graphs)


@pytest.mark.parametrize(
    ("pipeline", "without", "name", "step"),
    [
        (Pipeline.of(Fails(), SkipRelu(), Rename()), Pipeline.of(SkipRelu(), Rename()), "fails", 0),
        (Pipeline.of(SkipRelu(), Fails(), Rename()), Pipeline.of(SkipRelu(), Rename()), "fails", 1),
        (Pipeline.of(SkipRelu(), Rename(), Fails()), Pipeline.of(SkipRelu(), Rename()), "fails", 2),
        (
            Pipeline.of(Repeat(8, (Fails(), SkipRelu(), SkipAbs()))),
            Pipeline.of(Repeat(8, (SkipRelu(), SkipAbs()))),
            "fails",
            0,
        ),
    ],
)
def test_a_failed_pass_is_left_out_as_if_it_had_not_been_there(
    pipeline: Pipeline, without: Pipeline, name: str, step: int
) -> None:
    outcome = run(fresh, pipeline, on_error="skip")
    assert outcome.skipped == [Skipped(step, name, "pass fails failed: ValueError: a value of two lines")]
    expected = run(fresh, without)
    assert encoded(outcome) == encoded(expected)
    assert body(encode(outcome.graph).proto) == body(encode(expected.graph).proto)
    assert [(one.pass_name, one.node, one.number) for one in outcome.remarks] == [
        (one.pass_name, one.node, one.number) for one in expected.remarks
    ]


def test_a_pass_that_fails_late_in_a_group_keeps_its_earlier_rounds() -> None:
    """`fails` is content for two rounds: only from the third on is it left out."""
    outcome = run(fresh, Pipeline.of(Repeat(8, (SkipRelu(), Fails(relus=0), SkipAbs()))), on_error="skip")
    assert nodes(outcome) == "Neg"
    assert [skipped.pass_name for skipped in outcome.skipped] == ["fails"]
    assert [turn.place.round for turn in outcome.turns if turn.place.pass_.name == "fails"] == [1]


def test_two_failures_are_both_left_out() -> None:
    pipeline = Pipeline.of(Fails(), SkipRelu(), Fails(error="model"), Rename())
    outcome = run(fresh, pipeline, on_error="skip")
    assert [(skipped.step, skipped.why) for skipped in outcome.skipped] == [
        (0, "pass fails failed: ValueError: a value of two lines"),
        (2, "the model is bad"),
    ]
    assert encoded(outcome) == encoded(run(fresh, Pipeline.of(SkipRelu(), Rename())))


def test_an_unannounced_edit_is_a_failure() -> None:
    @dataclass(frozen=True)
    class Sly(Pass):
        """Edit without a word."""

        name = "sly"
        contract = Contract.EXACT

        def run(self, graph: Graph, ctx: Context) -> None:
            graph.toposort()
            graph.replace_uses(graph.nodes[1].outputs[0], graph.nodes[0].outputs[0])

    with pytest.raises(InternalError, match="pass sly edited 'b' without announcing a rewrite"):
        run(fresh, Pipeline.of(Sly()))
    outcome = run(fresh, Pipeline.of(Sly(), SkipRelu()), on_error="skip")
    assert encoded(outcome) == encoded(run(fresh, Pipeline.of(SkipRelu())))


def of_pass(name: str) -> Callable[[Turn | StepDone], bool]:
    return lambda event: isinstance(event, Turn) and event.place.pass_.name == name


def of_step(step: int) -> Callable[[Turn | StepDone], bool]:
    return lambda event: isinstance(event, StepDone) and event.step == step


@pytest.mark.parametrize(
    ("when", "skipped"),
    [
        (of_pass("rename"), Skipped(1, "rename", "rename is not wanted")),
        (of_step(1), Skipped(1, "rename", "step rename is not wanted")),
    ],
)
def test_a_veto_is_a_failure(when: Callable[[Turn | StepDone], bool], skipped: Skipped) -> None:
    pipeline = Pipeline.of(SkipRelu(), Rename(), SkipRelu())
    with pytest.raises(Veto, match="is not wanted"):
        run(fresh, pipeline, instruments=[Log("a", [], when)])
    outcome = run(fresh, pipeline, instruments=[Log("a", [], when)], on_error="skip")
    assert outcome.skipped == [skipped]
    assert encoded(outcome) == encoded(run(fresh, Pipeline.of(SkipRelu(), SkipRelu())))


def test_a_veto_of_a_group_leaves_all_of_it_out() -> None:
    pipeline = Pipeline.of(SkipRelu(), Repeat(8, (SkipRelu(), SkipAbs())), Rename())
    outcome = run(fresh, pipeline, instruments=[Log("a", [], of_step(1))], on_error="skip")
    assert outcome.skipped == [Skipped(1, str(Pipeline(pipeline.steps[1:2])), outcome.skipped[0].why)]
    assert encoded(outcome) == encoded(run(fresh, Pipeline.of(SkipRelu(), Rename())))
    assert [done.step for done in outcome.steps] == [0, 2]


def test_instruments_nest_like_brackets() -> None:
    heard: list[str] = []
    run(fresh, Pipeline.of(SkipRelu(), Rename()), instruments=[Log("a", heard), Log("b", heard)])
    assert heard == [
        *("a:begins", "b:begins"),
        *("a:before skip-relu", "b:before skip-relu", "b:after skip-relu", "a:after skip-relu", "b:step 0", "a:step 0"),
        *("a:before rename", "b:before rename", "b:after rename", "a:after rename", "b:step 1", "a:step 1"),
        *("b:ends", "a:ends"),
    ]


def test_a_replay_is_told_as_such() -> None:
    """Observers may forget all at `begins`; what passed its checks before says so."""
    heard: list[str] = []
    run(fresh, Pipeline.of(SkipRelu(), Fails(), Rename()), instruments=[Log("a", heard)], on_error="skip")
    assert heard == [
        *("a:begins", "a:before skip-relu", "a:after skip-relu", "a:step 0", "a:before fails", "a:skipped fails"),
        *("a:begins", "a:before skip-relu", "a:after skip-relu again", "a:step 0 again"),
        *("a:step 1", "a:before rename", "a:after rename", "a:step 2", "a:ends"),
    ]


def test_instruments_decide_what_runs() -> None:
    asked: list[str] = []

    class Not(Instrument):
        def __init__(self, name: str) -> None:
            self.name = name

        def should_run(self, place: Place) -> bool:
            asked.append(place.pass_.name)
            return place.pass_.name != self.name

    outcome = run(fresh, Pipeline.of(SkipRelu(), Rename()), instruments=[Not("skip-relu"), Not("other")])
    assert [turn.place.pass_.name for turn in outcome.turns] == ["rename"]
    assert asked == ["skip-relu", "skip-relu", "rename", "rename"]


def test_a_pass_that_is_left_out_is_still_passed_by() -> None:
    """Stopping after a pass works also when that pass failed."""

    class Until(Instrument):
        over = False

        def begins(self, graph: Graph) -> None:
            self.over = False

        def should_run(self, place: Place) -> bool:
            was, self.over = self.over, self.over or place.pass_.name == "fails"
            return not was

    outcome = run(fresh, Pipeline.of(SkipRelu(), Fails(), Rename()), instruments=[Until()], on_error="skip")
    assert [turn.place.pass_.name for turn in outcome.turns] == ["skip-relu"]
    veto = Log("a", [], of_step(1))
    pipeline = Pipeline.of(SkipRelu(), Fails(relus=0), Rename())
    outcome = run(fresh, pipeline, instruments=[Until(), veto], on_error="skip")
    assert [turn.place.pass_.name for turn in outcome.turns] == ["skip-relu"]


def test_numbers_count_the_candidates_of_a_pass_over_the_run() -> None:
    outcome = run(fresh, Pipeline.of(Repeat(8, (SkipRelu(), SkipAbs()))))
    assert [(one.pass_name, one.number, one.node) for one in outcome.remarks] == [
        ("skip-relu", 1, "Relu(a)"),
        ("skip-relu", 2, "Relu(c)"),
        ("skip-abs", 1, "Abs(b)"),
        ("skip-abs", 2, "Abs(d)"),
    ]


def test_a_disabled_rewrite_stays_disabled_in_every_round() -> None:
    gate = Limits(frozenset({("skip-relu", 1)}))
    outcome = run(fresh, Pipeline.of(Repeat(8, (SkipRelu(), Rename()))), gate=gate)
    assert nodes(outcome) == "Relu Abs Relu Abs Neg"
    disabled = [one for one in outcome.remarks if one.kind == "disabled"]
    assert [(one.node, one.number) for one in disabled] == [("Relu(a)", 1)]
    assert sum(turn.disabled for turn in outcome.turns) == 1


@pytest.mark.parametrize(
    ("limit", "left"),
    [(0, "Relu Abs Relu Abs Neg"), (1, "Abs Relu Abs Neg"), (3, "Abs Neg"), (99, "Neg")],
)
def test_a_limit_on_rewrites(limit: int, left: str) -> None:
    outcome = run(fresh, Pipeline.of(Repeat(8, (SkipRelu(), SkipAbs()))), gate=Limits(limit=limit))
    assert nodes(outcome) == left
    assert outcome.rewrites == min(limit, 4)


def test_the_same_run_twice_is_the_same() -> None:
    pipeline = Pipeline.of(Repeat(8, (SkipRelu(), SkipAbs())), Rename())
    one, two = run(fresh, pipeline), run(fresh, pipeline)
    assert encoded(one) == encoded(two)
    assert (one.remarks, one.origins, one.steps) == (two.remarks, two.origins, two.steps)


def test_provenance_covers_the_whole_run() -> None:
    outcome = run(fresh, Pipeline.of(Repeat(8, (SkipRelu(), SkipAbs()))))
    assert outcome.origins["x"] == ("x", "a", "b", "c", "d")

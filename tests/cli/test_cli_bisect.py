"""`bisect`, `replay` and the remarks of `optimize`: what is printed, what is written, and how it ends."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import onnx
import pytest
from command_lines import Cli

from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context
from graphopt.testing import model
from passes.eliminate.dead_nodes import DeadNodes
from passes.eliminate.identities import Identities

TEXT = """g (float[N,4] x) => (float[N,4] y) {
    a = Identity(x)  b = Relu(a)  c = Identity(b)  d = Exp(c)  e = Identity(d)  f = Abs(e)  h = Identity(f)
    y = Sqrt(h)  dead = Neg(f)
}"""


def faulty(self: Identities, graph: Graph, ctx: Context) -> None:
    """Removes Identity nodes; the third is replaced by a Neg."""
    for node in list(graph.nodes):
        if not node.is_op("Identity") or not ctx.rewrite("identity", node):
            continue
        new = node.inputs[0]
        if node.outputs[0].name == "e":
            new = graph.variable("e_new")
            graph.insert(Node("Neg", "", {}, list(node.inputs), [new]), before=node)
        graph.replace_uses(node.outputs[0], new)
        graph.remove(node)


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "chain.onnx"
    onnx.save(model(TEXT), path)
    return path


@pytest.fixture
def broken(chain: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose third Identity is removed wrongly. No operator behind it hides the sign."""
    text = TEXT.replace("f = Abs(e)", "f = Exp(e)")
    onnx.save(model(text), chain)
    monkeypatch.setattr(Identities, "run", faulty)
    return chain


def test_the_pass_the_rewrite_and_how_to_go_on(cli: Cli, broken: Path) -> None:
    ran = cli("bisect", broken)
    assert (ran.code, ran.err) == (1, "")
    assert "pass identities, rewrite identities:3" in ran.out
    assert "identities:3 identity on Identity(e), number 3 of 5 in all" in ran.out
    assert "- e = Identity(d)" in ran.out
    assert "+ e_new = Neg(d)" in ran.out
    assert "it is wrong alone" in ran.out
    assert "without it the rest holds" in ran.out
    assert f"graphopt optimize {broken} -o OUT.onnx --disable identities:3" in ran.out
    assert "models judged" in ran.out


def test_the_line_that_goes_on_does(cli: Cli, broken: Path, tmp_path: Path) -> None:
    line = cli("bisect", broken, "--recipe", "clean", "--json").json["go_on"].split()
    assert line[:2] == ["graphopt", "optimize"]
    assert cli(*[word if word != "OUT.onnx" else str(tmp_path / "out.onnx") for word in line[1:]]).code == 0
    assert cli("bisect", broken, "--disable", "identities:3").code == 0


def test_json_has_the_facts(cli: Cli, broken: Path) -> None:
    ran = cli("bisect", broken, "-p", "identities,dead-nodes", "--json")
    facts = ran.json
    assert (ran.code, facts["exit_code"], facts["outcome"], facts["disable"]) == (1, 1, "rewrite", "identities:3")
    assert facts["guilty"]["before"] == ["e"]
    assert facts["tries"][0]["what"] == "everything"
    assert facts["evaluations"] <= 12


def test_nothing_wrong_is_exit_code_0(cli: Cli, chain: Path) -> None:
    ran = cli("bisect", chain)
    assert ran.code == 0
    assert "nothing is wrong with the whole pipeline" in ran.out
    assert cli("bisect", chain, "-q").out == ""
    assert "so no bundle was written" in cli("bisect", chain, "--bundle", chain.parent / "b.zip").out
    assert not (chain.parent / "b.zip").exists()


def test_a_check_of_one_s_own(cli: Cli, broken: Path) -> None:
    ran = cli("bisect", broken, "--check", "! grep -q Neg_of_e {model} && ! grep -aq e_new {model}", "-v")
    assert ran.code == 1
    assert "identities:3" in ran.out
    assert "good the input: the check exits with 0" in ran.out


def test_could_not_tell_is_exit_code_6(cli: Cli, random: Path) -> None:
    ran = cli("bisect", random)
    assert ran.code == 6
    assert ran.sentence.startswith("nothing can be said of the whole pipeline's result: could not tell")


def test_the_bundle_of_a_bisection_ends_with_the_guilty_rewrite(cli: Cli, broken: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.zip"
    ran = cli("bisect", broken, "--bundle", path)
    assert f"wrote {path}, which `graphopt replay` runs again" in ran.out
    facts = json.loads(zipfile.ZipFile(path).read("bundle.json"))
    assert facts["job"]["limit"] == 3
    assert facts["outcome"] == "different"
    again = cli("replay", path)
    assert again.code == 0
    assert "bit-identical after 1 run of passes" in again.out
    assert "outputs different (EXACT)" in again.out


def test_a_replay_with_a_pass_that_was_mended_differs(
    cli: Cli, broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.zip"
    cli("bisect", broken, "--bundle", path, "-q")
    monkeypatch.undo()
    ran = cli("replay", path)
    assert ran.code == 1
    assert "the model differs after identities (turn 2): sha256" in ran.out
    assert cli("replay", path, "--json").json["identical"] is False


def test_optimize_writes_a_bundle(cli: Cli, chain: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.zip"
    assert cli("optimize", chain, "-o", tmp_path / "out.onnx", "--bundle", path).code == 0
    assert cli("replay", path).code == 0
    light = tmp_path / "light.zip"
    assert cli("optimize", chain, "-o", tmp_path / "out.onnx", "--bundle", light, "--no-weights").code == 0
    assert cli("replay", light).sentence.startswith(f"'{light}' was written without the model; give it with --model")
    assert cli("replay", light, "--model", chain).code == 0


def test_a_bundle_on_failure_is_only_written_then(
    cli: Cli, chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.zip"
    command = ("optimize", chain, "-o", tmp_path / "out.onnx", "--bundle-on-failure", path)
    assert cli(*command).code == 0
    assert not path.exists()

    def fail(self: DeadNodes, graph: Graph, ctx: Context) -> None:
        raise KeyError("boom")

    monkeypatch.setattr(DeadNodes, "run", fail)
    failed = cli(*command)
    assert failed.code == 70
    assert f"pass dead-nodes failed: KeyError: 'boom'; the run is packed in '{path}'" in failed.sentence
    ran = cli("replay", path)
    assert ran.code == 0
    assert "it fails as it did: pass dead-nodes failed: KeyError: 'boom'" in ran.out


def test_a_bundle_on_failure_of_validation(cli: Cli, broken: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.zip"
    ran = cli("optimize", broken, "-o", tmp_path / "out.onnx", "--bundle-on-failure", path)
    assert ran.code == 1
    assert f"the run is packed in '{path}'" in ran.out
    assert not (tmp_path / "out.onnx").exists()
    assert cli("replay", path).code == 0


def test_remarks_as_lines(cli: Cli, net: Path, tmp_path: Path) -> None:
    path, report = tmp_path / "remarks.jsonl", tmp_path / "report.json"
    pipeline = ("-p", "identities,dead-nodes,weight-int8{min-elements=9999}", "--disable", "identities:1")
    command = ("optimize", net, "-o", tmp_path / "out.onnx", "--validate", "none", *pipeline)
    assert cli(*command, "--remarks", path, "--report", report).code == 0
    remarks = [json.loads(line) for line in path.read_text().splitlines()]
    assert remarks == json.loads(report.read_text())["remarks"]
    assert {one["kind"] for one in remarks} == {"applied", "disabled", "missed"}
    (disabled,) = [one for one in remarks if one["kind"] == "disabled"]
    assert (disabled["pass_name"], disabled["number"], disabled["values"]) == ("identities", 1, ["a"])
    missed = [one for one in remarks if one["kind"] == "missed"]
    assert all(one["why"] and one["number"] is None for one in missed)


@pytest.mark.parametrize(
    ("pattern", "shown", "hidden"),
    [
        ("identit*", "applied identities identity on Identity(a) (1), Identity(c) (2)", "dead-nodes unread"),
        ("EXP", "", "identities"),
        ("neg", "applied dead-nodes unread on Neg(dead) (1)", "Identity(a)"),
        ("Identity(?)", "applied identities identity on Identity(a) (1)", "Neg(dead)"),
        ("batchnorm*", "none: of ", "Identity(a)"),
    ],
)
def test_remarks_for_a_pattern(cli: Cli, chain: Path, tmp_path: Path, pattern: str, shown: str, hidden: str) -> None:
    ran = cli(
        "optimize", chain, "-o", tmp_path / "out.onnx", "--validate", "none", "--recipe", "clean",
        "--remarks-for", pattern,
    )  # fmt: skip
    assert ran.code == 0
    _, _, part = ran.out.partition(f"remarks for {pattern}")
    assert shown in part
    assert hidden not in part


def test_why_something_was_not_done_is_found_by_the_names_it_had_and_got(cli: Cli, tmp_path: Path) -> None:
    text = "g (float[2] x) => (float[2] y, float[2] z) { a = Relu(x)  y = Identity(a)  z = Identity(a) }"
    onnx.save(model(text), tmp_path / "m.onnx")
    report = tmp_path / "r.json"
    assert cli(
        "optimize", tmp_path / "m.onnx", "-o", tmp_path / "o.onnx", "--recipe", "clean", "--report", report
    ).code == 0  # fmt: skip
    by_value = cli("explain", "z", "--report", report)
    assert "are both graph outputs" in by_value.out
    by_old_name = cli("explain", "a", "--report", report)
    assert "y now stands for it" in by_old_name.out


MISTAKES: list[tuple[tuple[str, ...], str, int]] = [
    (
        ("bisect", "IN", "--check", "true"),
        "--check 'true' has no {model}, which is where the path of the model goes",
        2,
    ),
    (
        ("bisect", "IN", "--check", "false {model}"),
        "--check finds the input itself bad (the check exits with 1); it has to exit with 0 on the input, so that "
        "what is wrong is the passes' doing",
        2,
    ),
    (
        ("bisect", "IN", "--check", "true {model}", "--feeds", "f.npz"),
        "with --check the command alone judges, and --feeds says nothing to it; leave one of them out",
        2,
    ),
    (("bisect", "IN", "--most", "x"), "--most expects a whole number of zero or more, not 'x'", 2),
    (
        ("bisect", "IN", "-p", "weight-int8"),
        "the pass weight-int8 is LOSSY and needs a budget, for example --budget 'sqnr_db>=30'",
        2,
    ),
    (
        ("bisect", "IN", "--disable", "deadnodes"),
        "--disable deadnodes: the pipeline has no such pass; did you mean 'dead-nodes'?",
        2,
    ),
    (("bisect", "IN", "--bundle", "IN"), "--bundle IN: this is the input; choose another file for the bundle", 2),
    (("bisect", "IN", "--bundle", "no/b.zip"), "--bundle no/b.zip: there is no folder 'no'; create it first", 2),
    (
        ("optimize", "IN", "-o", "OUT", "--no-weights"),
        "--no-weights leaves the model out of a bundle; give --bundle FILE with it",
        2,
    ),
    (("bisect",), "missing argument 'MODEL'; see `graphopt bisect --help`", 2),
    (("replay",), "missing argument 'BUNDLE'; see `graphopt replay --help`", 2),
    (("replay", "IN"), "'IN' is no bundle, or a damaged one: File is not a zip file", 2),
    (
        ("replay", "no.zip"),
        "'no.zip' does not exist; name a bundle, which `graphopt optimize --bundle FILE` writes",
        2,
    ),
    (
        ("optimize", "IN", "-o", "OUT", "--remarks", "OUT"),
        "--remarks OUT: this is the output; choose another file for the remarks",
        2,
    ),
    (
        ("optimize", "IN", "-o", "OUT", "--remarks", "r", "--report", "r"),
        "--remarks r: this is the file of --report; choose another file for the remarks",
        2,
    ),
    (("optimize", "IN", "-o", "OUT", "--bundle", "."), "--bundle .: this is a folder; name a file in it", 2),
]


@pytest.mark.parametrize(("arguments", "sentence", "code"), MISTAKES, ids=[" ".join(one[0]) for one in MISTAKES])
def test_a_mistake_is_one_sentence(
    cli: Cli, chain: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str, code: int
) -> None:
    chain.rename(chain.parent / "IN")
    monkeypatch.chdir(chain.parent)
    ran = cli(*arguments)
    assert (ran.code, ran.sentence) == (code, sentence)
    assert [path.name for path in chain.parent.iterdir()] == ["IN"]


def test_a_bundle_that_would_run_code_is_refused_unless_allowed(cli: Cli, chain: Path, tmp_path: Path) -> None:
    path, other = tmp_path / "run.zip", tmp_path / "code.zip"
    assert cli("optimize", chain, "-o", tmp_path / "out.onnx", "--bundle", path).code == 0
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "bundle.json":
                facts = json.loads(data)
                facts["job"]["metric"] = "math:floor"
                data = json.dumps(facts).encode()
            new.writestr(name, data)
    ran = cli("replay", other)
    assert ran.code == 4
    assert ran.sentence == (
        f"the bundle '{other}' would run code: the metric math:floor; say --allow-code if you trust where it comes from"
    )
    allowed = cli("replay", other, "--allow-code")
    assert allowed.code != 4
    assert "math:floor" in allowed.err  # it ran, and does not take these arguments


def test_a_recipe_that_would_run_code_is_refused_unless_allowed(
    cli: Cli, chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeadNodes, "code", lambda self: "the script surgery.py")
    recipe = tmp_path / "mine.toml"
    recipe.write_text('name = "mine"\npipeline = "dead-nodes"\n')
    for command in (("optimize", chain, "-o", tmp_path / "out.onnx"), ("bisect", chain)):
        ran = cli(*command, "--recipe", recipe)
        assert ran.code == 4
        assert ran.sentence == (
            "the recipe mine would run code: dead-nodes runs the script surgery.py; say --allow-code if you trust "
            "where it comes from"
        )
        assert cli(*command, "--recipe", recipe, "--allow-code").code == 0
        assert cli(*command, "-p", "dead-nodes").code == 0

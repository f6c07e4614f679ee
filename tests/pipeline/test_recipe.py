"""Recipes: files and built-in ones, read and written, and every way in which one can be wrong."""

from __future__ import annotations

import os
import random
import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from graphopt.errors import UsageError
from graphopt.pipeline import Contract, Pass, Pipeline, Recipe, Registry, Repeat

GOOD = """
name = "two-steps"
description = "Sweep, then paint."
pipeline = 'repeat{max=4}(sweep,polish),paint{skip-rooms=["/head/*"]}'
budget = ["sqnr_db >= 30", "top1_drop<=0.005"]
"""


def paint(registry: Registry, **options: Any) -> Any:
    pass_class: Any = registry.get("paint")
    return pass_class(**options)


def test_a_recipe_file(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD, "utf-8")
    recipe = Recipe.load(path, registry)
    assert recipe == Recipe.load(str(path), registry) == Recipe.parse(GOOD, registry)
    assert (recipe.name, recipe.description) == ("two-steps", "Sweep, then paint.")
    assert recipe.budget == ("sqnr_db>=30", "top1_drop<=0.005"), "bounds lose their spaces"
    assert recipe.pipeline == Pipeline.of(
        Repeat(4, (registry.get("sweep")(), registry.get("polish")())),
        paint(registry, skip_rooms=("/head/*",)),
    )


def test_a_planned_recipe_and_back(registry: Registry) -> None:
    text = """
    name = "best"
    planner = "auto"
    candidates = ["paint{wet=true}", "sweep,paint"]
    budget = ["sqnr_db>=30", "bytes <= 2.5 MB"]
    """
    recipe = Recipe.parse(text, registry)
    assert recipe.budget == ("sqnr_db>=30", "bytes<=2.5MB")
    planner = recipe.planned_for("portable")
    assert planner is not None
    assert [str(one) for one in planner.candidates] == ["paint{wet=true}", "sweep,paint"]
    assert (planner.name, planner.timed) == ("auto", True)
    assert str(recipe.pipeline) == str(recipe.made_for("qnn")) == "paint{wet=true}"
    assert Recipe.parse(recipe.dump(), registry) == recipe


def test_a_fitted_recipe_and_back(registry: Registry) -> None:
    text = 'name = "x"\nplanner = "fit"\npipeline = "paint"\nbudget = ["sqnr_db>=3"]\n[targets]\nqnn = "sweep,paint"\n'
    recipe = Recipe.parse(text, registry)
    planner = recipe.planned_for("qnn")
    assert planner is not None
    assert [str(one) for one in planner.candidates] == ["sweep,paint"]
    assert not planner.timed
    assert Recipe.parse(recipe.dump(), registry) == recipe


def test_a_recipe_without_a_planner(registry: Registry) -> None:
    assert Recipe.parse(GOOD, registry).planned_for("portable") is None


def test_a_byte_order_mark_and_windows_line_ends(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert Recipe.load(path, registry) == Recipe.parse(GOOD, registry)


def test_a_path_in_this_folder(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clean.toml").write_text(GOOD, "utf-8")
    monkeypatch.chdir(tmp_path)
    assert Recipe.load("clean.toml", registry).name == "two-steps", "a file, not the built-in recipe"
    assert Recipe.load("./clean.toml", registry).name == "two-steps"


def test_a_pipeline_over_several_lines(registry: Registry) -> None:
    text = 'name = "x"\npipeline = """\n  sweep,   # first\n  polish{rounds=2},\n"""\n'
    assert str(Recipe.parse(text, registry).pipeline) == "sweep,polish{rounds=2}"


def test_a_pipeline_as_tables(registry: Registry) -> None:
    text = """
    name = "tables"
    budget = ["sqnr_db>=30"]
    [[pipeline]]
    repeat = 4
    passes = [{pass = "sweep"}, {pass = "polish", rounds = 5}]
    [[pipeline]]
    pass = "paint"
    wet = true
    scale = 1
    skip-rooms = ["a", "b"]
    limit = "none"
    ratio = "none"
    edge = "none"
    tone = "ice cold"
    """
    assert str(Recipe.parse(text, registry).pipeline) == (
        'repeat{max=4}(sweep,polish{rounds=5}),paint{wet=true scale=1.0 tone="ice cold" skip-rooms=["a","b"] '
        'ratio=none edge="none"}'
    )


def test_the_empty_pipeline_is_a_recipe(registry: Registry) -> None:
    for value in ('""', "[]"):
        assert Recipe.parse(f'name = "nothing"\npipeline = {value}', registry).pipeline == Pipeline()


def test_written_recipes_are_read_back(registry: Registry) -> None:
    rng = random.Random(5)
    alphabet = "ab \"'\\\n\r\t\x00\x1f\x7f\x85é图🙂\u2028#[]={}"
    for _ in range(200):
        text = "".join(rng.choices(alphabet, k=rng.randrange(12)))
        pipeline = Pipeline.of(paint(registry, title=text, skip_rooms=(text,)))
        recipe = Recipe("some-name", pipeline, description=text, budget=("sqnr_db>=-1.5e3",))
        written = recipe.dump()
        assert Recipe.parse(written, registry) == recipe, written
        assert set(tomllib.loads(written)) <= {"name", "description", "pipeline", "budget"}


def test_what_a_written_recipe_looks_like(registry: Registry) -> None:
    assert Recipe.parse(GOOD, registry).dump() == (
        'name = "two-steps"\n'
        'description = "Sweep, then paint."\n'
        """pipeline = 'repeat{max=4}(sweep,polish),paint{skip-rooms=["/head/*"]}'\n"""
        'budget = ["sqnr_db>=30", "top1_drop<=0.005"]\n'
    )
    assert Recipe("empty", Pipeline()).dump() == 'name = "empty"\npipeline = ""\n'


def test_a_base_runs_first() -> None:
    based = Recipe.parse('name = "x"\nbase = "clean"\npipeline = "common-subexpressions"')
    assert str(based.pipeline) == f"{Recipe.load('clean').pipeline},common-subexpressions"
    assert Recipe.parse(based.dump()) == based


def test_pipelines_of_targets(registry: Registry) -> None:
    text = 'name = "x"\npipeline = "sweep"\n[targets]\nqnn = "polish"\nonnxruntime = [{pass = "sweep"}]'
    recipe = Recipe.parse(text, registry)
    assert [str(recipe.made_for(one)) for one in ("portable", "qnn", "onnxruntime")] == ["sweep", "polish", "sweep"]
    assert Recipe.parse(recipe.dump(), registry) == recipe
    with pytest.raises(UsageError, match="no pipeline for the target openvino; it has portable, qnn, onnxruntime"):
        recipe.made_for("openvino")


NESTED = (
    "a repeat group cannot stand inside another; put its passes into the outer group, "
    "which runs until nothing changes anyway"
)
HEAD = 'name = "x"\n'
WRONG = {
    # the file as TOML
    "name = ": ", line 1, at its end: not valid TOML (invalid value)",
    'name = "x"\nname = "y"': ", line 2, at its end: not valid TOML (cannot overwrite a value)",
    'name = "x"\n  pipeline "sweep"\n': ", line 2, column 12: not valid TOML "
    "(expected '=' after a key in a key/value pair)",
    "x = [" * 30_000: None,
    f"x = {'[' * 60_000}": " is nested too deeply",
    f"x = {'9' * 9999}": None,
    'name = "x\x00"': ", line 1, column 10: not valid TOML (illegal character '\\x00')",
    # keys
    "": ": the key 'name' is missing",
    HEAD: ": the key 'pipeline' is missing",
    HEAD + 'pipeline = ""\nbase = "defualt"': ": base expects the name of a built-in recipe, not 'defualt'; "
    "did you mean 'default'?",
    HEAD + 'pipeline = ""\nbase = 3': ": base expects the name of a built-in recipe, not '3'",
    HEAD + 'pipeline = ""\ntargets = ["qnn"]': ": targets expects a table of pipelines, not a list",
    HEAD + 'pipeline = ""\n[targets]\nqn = ""': ": targets has no 'qn'; did you mean 'qnn'?",
    HEAD + 'pipeline = ""\n[targets]\nqnn = 3': ": the target qnn expects a text or an array of tables, not 3",
    HEAD + 'pipeline = ""\n[targets]\nqnn = "paint"': ": a recipe of lossy passes states its budget, and this one "
    'runs paint without; add a line such as budget = ["sqnr_db>=30"]',
    'nmae = "x"': ": unknown key 'nmae'; did you mean 'name'?",
    HEAD + 'pipeline = ""\nBudgets = []': ": unknown key 'Budgets'; did you mean 'budget'?",
    HEAD + 'pipeline = ""\n[feeds]\nx = 1': ": unknown key 'feeds'; the keys are name, description, base, "
    "pipeline, budget, targets, planner, candidates",
    'name = 3\npipeline = ""': ": name expects a text, not 3",
    'name = "My Recipe"\npipeline = ""': ": the name 'My Recipe' is not in kebab-case (such as int8-weights)",
    HEAD + 'pipeline = ""\ndescription = ["x"]': ": description expects a text, not a list",
    HEAD + "pipeline = true": ": pipeline expects a text or an array of tables, not true",
    HEAD + "[pipeline]\nx = 1": ": pipeline expects a text or an array of tables, not a table",
    # the pipeline as text
    HEAD + 'pipeline = "swep"': ": pipeline, column 1: no pass is called 'swep'; did you mean 'sweep'?",
    HEAD + 'pipeline = """\nsweep,\n  polish{round=1}\n"""': ": pipeline, line 2, column 10: "
    "polish has no option 'round'; did you mean 'rounds'?",
    # the pipeline as tables
    HEAD + 'pipeline = ["sweep"]': ': pipeline, step 1: expects a table such as {pass = "dead-nodes"}, '
    "not the text 'sweep'",
    HEAD + 'pipeline = [{pass = "sweep"}, {pass = "swep"}]': ": pipeline, step 2: no pass is called 'swep'; "
    "did you mean 'sweep'?",
    HEAD + "pipeline = [{}]": ": pipeline, step 1: the table names no pass",
    HEAD + 'pipeline = [{name = "sweep"}]': ": pipeline, step 1: the table names no pass; "
    "did you mean 'pass' instead of 'name'?",
    HEAD + "pipeline = [{pass = 1}]": ": pipeline, step 1: pass expects the name of a pass, not 1",
    HEAD + 'pipeline = [{pass = "polish", rouds = 1}]': ": pipeline, step 1: polish has no option 'rouds'; "
    "did you mean 'rounds'?",
    HEAD + 'pipeline = [{pass = "polish", rounds = 1.5}]': ": pipeline, step 1: "
    "polish: rounds expects a whole number, not 1.5",
    HEAD + 'pipeline = [{pass = "polish", rounds = 2000-01-01}]': ": pipeline, step 1: "
    "polish: rounds expects a whole number, not a value of type date",
    HEAD + 'pipeline = [{pass = "paint", scale = inf}]': ": pipeline, step 1: "
    "paint: scale expects a number that is finite",
    HEAD + 'pipeline = [{pass = "paint", bits = "8"}]': ": pipeline, step 1: "
    "paint: bits expects one of 4, 8, auto, true, not the text '8'; write it without quotes",
    HEAD + 'pipeline = [{pass = "paint", coats = -1}]': ": pipeline, step 1: paint: coats must not be negative, not -1",
    HEAD + 'pipeline = [{repeat = 2, passes = [{pass = "paint"}]}]': ": pipeline, step 1: "
    "paint cannot stand in a repeat group, because it is LOSSY and every round would move the outputs further; "
    "put it outside the group",
    HEAD + "pipeline = [{repeat = 2, passes = [{repeat = 2, passes = []}]}]": f": pipeline, step 1, pass 1: {NESTED}",
    HEAD + "pipeline = [{repeat = 2}]": ": pipeline, step 1: a repeat group holds at least one pass",
    HEAD + "pipeline = [{repeat = 0, passes = [{pass = 'sweep'}]}]": ": pipeline, step 1: "
    "the max of repeat must be a whole number from 1 to 1000, not 0",
    HEAD + "pipeline = [{repeat = true, passes = []}]": ": pipeline, step 1: "
    "repeat expects a whole number of rounds, not true",
    HEAD + "pipeline = [{repeat = 'x', passes = []}]": ": pipeline, step 1: "
    "repeat expects a whole number of rounds, not the text 'x'",
    HEAD + "pipeline = [{repeat = 2, passes = 'sweep'}]": ": pipeline, step 1: "
    "passes expects a list of tables, not the text 'sweep'",
    HEAD + "pipeline = [{repeat = 2, pases = []}]": ": pipeline, step 1: a repeat group has no key 'pases'; "
    "did you mean 'passes'?",
    HEAD + "pipeline = [{repeat = 2, passes = [{pass = 'sweep'}], max = 3}]": ": pipeline, step 1: "
    "a repeat group has no key 'max'; it has repeat and passes",
    # planners
    HEAD + 'pipeline = ""\nplanner = "fitt"': ": planner expects fit or auto, not the text 'fitt'",
    HEAD + 'pipeline = ""\nplanner = 3': ": planner expects fit or auto, not 3",
    HEAD + 'planner = "fit"': ": the key 'pipeline' is missing",
    HEAD + 'candidates = ["sweep"]': ': candidates are what a planner chooses from; add planner = "auto"',
    HEAD + 'planner = "fit"\npipeline = ""\ncandidates = []': ": the planner fit takes the pipeline; leave out "
    'candidates, or say planner = "auto"',
    HEAD + 'planner = "auto"\npipeline = ""\ncandidates = ["sweep"]': ": the planner auto chooses among candidates; "
    "put what pipeline has there",
    HEAD + 'planner = "auto"\ncandidates = ["sweep"]\n[targets]\nqnn = ""': ": the planner auto chooses among "
    "candidates; put what targets has there",
    HEAD + 'planner = "auto"': ": candidates expects a list of recipes and pipelines as texts, the preferred one first",
    HEAD + 'planner = "auto"\ncandidates = "sweep"': ": candidates expects a list of recipes and pipelines as texts, "
    "the preferred one first, not the text 'sweep'",
    HEAD + 'planner = "auto"\ncandidates = []': ": candidates expects a list of recipes and pipelines as texts, "
    "the preferred one first, and this one is empty",
    HEAD + 'planner = "auto"\ncandidates = [3]': ": candidates expects a list of recipes and pipelines as texts, "
    "the preferred one first, and one of its items is 3",
    HEAD + 'planner = "auto"\ncandidates = ["swep"]': ": pipeline, column 1: no pass is called 'swep'; "
    "did you mean 'sweep'?",
    HEAD + 'planner = "auto"\ncandidates = ["paint"]': ": a recipe of lossy passes states its budget, and this one "
    'runs paint without; add a line such as budget = ["sqnr_db>=30"]',
    # budgets
    HEAD + 'pipeline = "paint"\nbudget = ["sqnr_db>=3MB"]': ": budget: 'sqnr_db>=3MB' has a unit of bytes, "
    "and only the metric bytes has one",
    HEAD + 'pipeline = "paint"': ": a recipe of lossy passes states its budget, and this one runs paint without; "
    'add a line such as budget = ["sqnr_db>=30"]',
    HEAD + 'pipeline = "paint"\nbudget = []': ": a recipe of lossy passes states its budget, "
    'and this one runs paint without; add a line such as budget = ["sqnr_db>=30"]',
    HEAD + 'pipeline = "paint"\nbudget = "sqnr_db>=30"': ": budget expects a list of texts such as "
    "[\"sqnr_db>=30\"], not the text 'sqnr_db>=30'",
    HEAD + 'pipeline = ""\nbudget = [30]': ': budget expects a list of texts such as ["sqnr_db>=30"], '
    "and one of its items is 30",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: repr(text)[:50])
def test_the_sentence(registry: Registry, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Recipe.parse(text, registry, shown="recipe 'x.toml'")
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    expected = WRONG[text]
    if expected is None:  # the parser's own words differ between versions of Python
        assert message.startswith("recipe 'x.toml'")
    else:
        assert message == f"recipe 'x.toml'{expected}"


@pytest.mark.parametrize(
    "bound",
    ["", "sqnr_db", "sqnr_db>30", "sqnr_db=>30", "sqnr_db==30", "sqnr_db>=", ">=30", "sqnr_db>=x", "sqnr_db>=inf",
     "sqnr_db>=nan", "sqnr_db>=1e999", "sqnr-db>=3", "sqnr_db>=3 dB", "a>=1,b>=2", "os:system>=1", "x>=1_0",
     "sqnr_db>=30%", "0x>=1", "x>=."],
)  # fmt: skip
def test_a_malformed_bound(bound: str) -> None:
    with pytest.raises(UsageError) as caught:
        Recipe("x", Pipeline(), budget=(bound,))
    assert str(caught.value) == f"budget: {bound!r} is not of the form metric>=number or metric<=number"


@pytest.mark.parametrize("bound", ["sqnr_db>=30", "top1_drop<=.005", "x>=-1.5e-3", "X2<=+4."])
def test_a_well_formed_bound(bound: str) -> None:
    assert Recipe("x", Pipeline(), budget=(f"  {bound} ",)).budget == (bound,)


def test_recipes_built_in_python_keep_the_laws(registry: Registry) -> None:
    with pytest.raises(UsageError, match="a recipe of lossy passes states its budget"):
        Recipe("x", Pipeline.parse("sweep,paint", registry))
    with pytest.raises(UsageError, match=r"^the description is not text that a file can hold$"):
        Recipe("x", Pipeline(), "\ud800")
    assert Recipe("x", Pipeline.parse("polish", registry)).budget == ()


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, " does not exist"),
        (Path.mkdir, " is a folder, not a file"),
        (make_pipe, " is not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), " is not a regular file"),
        (lambda path: path.symlink_to(path.name), " cannot be opened: Too many levels of symbolic links"),
        (lambda path: path.write_bytes(b"#" * (256 * 1024 + 1)), " is larger than 256 KiB, which no recipe is"),
        (lambda path: path.write_bytes(b"# \n# \xff\n"), " is not UTF-8 text: line 2 has the byte 0xff"),
        (lambda path: path.write_bytes("name = 1".encode("utf-16")), " is not UTF-8 text: line 1 has the byte 0xff"),
        (lambda path: path.write_bytes(b""), ": the key 'name' is missing"),
    ],
)
def test_files_that_are_no_recipe(tmp_path: Path, make: Any, sentence: str) -> None:
    path = tmp_path / "x.toml"
    make(path)
    with pytest.raises(UsageError) as caught:
        Recipe.load(path, Registry.of([]))
    assert str(caught.value) == f"recipe '{path}'{sentence}"


def test_paths_that_are_no_recipe(tmp_path: Path) -> None:
    for path in (tmp_path / "model.onnx", tmp_path, f"{tmp_path}/", "./clean"):
        with pytest.raises(
            UsageError, match=r"is not a \.toml file; a recipe is one, or the name of a built-in recipe"
        ):
            Recipe.load(path)
    with pytest.raises(UsageError, match="cannot be opened: embedded null byte"):
        Recipe.load("a\0b.toml")
    with pytest.raises(UsageError, match="cannot be opened: File name too long"):
        Recipe.load("a" * 5000 + ".toml")


def test_names_of_recipes() -> None:
    with pytest.raises(UsageError) as caught:
        Recipe.load("claen")
    assert str(caught.value) == "no recipe is called 'claen'; did you mean 'clean'?"
    with pytest.raises(UsageError) as caught:
        Recipe.load("xyzzy")
    assert str(caught.value) == (
        f"no recipe is called 'xyzzy'; there are {', '.join(Recipe.list())}, and files that end in .toml"
    )


def stand_ins() -> Registry:
    """Passes called as the built-in recipes call theirs, so that this test needs none of the catalogue."""
    folder = files("graphopt.pipeline") / "recipes"
    tables = [tomllib.loads(one.read_text("utf-8")) for one in folder.iterdir() if one.name.endswith(".toml")]
    texts = [one["pipeline"] for one in tables if "pipeline" in one]
    names = {name for text in texts for name in re.findall(r"[a-z][a-z0-9-]*(?=[,(){]|$)", text)} - {"repeat"}
    lossy = {"weight-int8", "magnitude"}
    contracts = {name: Contract.LOSSY if name in lossy else Contract.EXACT for name in names}
    run = {"run": lambda self, graph, ctx: None}
    return Registry.of(
        dataclass(frozen=True)(type("StandIn", (Pass,), {"name": name, "contract": contract, **run}))
        for name, contract in contracts.items()
    )


def test_the_built_in_recipes() -> None:
    names = ("clean", "prune-50")
    assert {*names, "default", "int8-weights"} <= set(Recipe.list())
    loaded = {name: Recipe.load(name, stand_ins()) for name in names}
    for name, recipe in loaded.items():
        assert recipe.name == name and recipe.description.endswith(".")
    assert str(loaded["clean"].pipeline) == "repeat{max=8}(identities,dead-nodes),unused-initializers"
    assert loaded["clean"].pipeline.contract is Contract.EXACT and loaded["clean"].budget == ()
    assert loaded["prune-50"].budget == ("sqnr_db>=5",)
    assert loaded["prune-50"].pipeline.contract is Contract.LOSSY
    assert str(loaded["prune-50"].pipeline).startswith(str(loaded["clean"].pipeline)), "clean comes first"


@pytest.mark.parametrize("name", Recipe.list())
def test_the_built_in_recipes_load_with_the_installed_passes(name: str) -> None:
    recipe = Recipe.load(name)
    assert Recipe.parse(recipe.dump()) == recipe
    assert (recipe.pipeline.contract is Contract.LOSSY) == bool(recipe.budget)
    assert recipe.pipeline.contract is Contract.EXACT or name != "clean"

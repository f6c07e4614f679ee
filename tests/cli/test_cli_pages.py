"""`passes`, `explain`, `validate`, `inspect` and `demo`: pages for people and the same facts as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from command_lines import Cli

from graphopt.pipeline.recipe import Recipe
from graphopt.pipeline.registry import Registry


def test_passes_lists_every_pass_and_recipe(cli: Cli) -> None:
    ran = cli("passes")
    assert (ran.code, ran.err) == (0, "")
    for name in (*Registry.load().names(), *Recipe.list()):
        assert f"\n{name} " in f"\n{ran.out}"
    listed = cli("passes", "--json").json
    assert {one["name"] for one in listed["passes"]} == set(Registry.load().names())
    assert {one["name"] for one in listed["recipes"]} == set(Recipe.list())
    assert listed["broken"] == listed["broken_recipes"] == []
    (dead,) = [one for one in listed["passes"] if one["name"] == "dead-nodes"]
    assert (dead["family"], dead["contract"], dead["distribution"]) == ("eliminate", "EXACT", "graphopt")


@pytest.mark.parametrize("name", Registry.load().names())
def test_every_pass_has_a_page(cli: Cli, name: str) -> None:
    ran = cli("explain", name)
    facts = cli("explain", name, "--json").json
    assert ran.code == 0
    assert ran.out.startswith(f"{name}  {facts['contract']}")
    assert facts["summary"] in ran.out
    assert all(f"\n{title}\n" in ran.out for title in facts["sections"])
    assert all(one["help"].split()[0] in ran.out for one in facts["options"])


def test_the_page_of_a_recipe(cli: Cli) -> None:
    ran = cli("explain", "int8-weights")
    assert "weight-int8" in ran.out
    assert "sqnr_db>=20" in ran.out
    assert cli("explain", "int8-weights", "--json").json["budget"] == ["sqnr_db>=20"]


@pytest.fixture
def report(cli: Cli, net: Path, tmp_path: Path) -> Path:
    """The report of a run in which something was applied, disabled and missed."""
    pipeline = "identities,dead-nodes,weight-int8{min-elements=9999}"
    path = tmp_path / "report.json"
    ran = cli("optimize", net, "-o", tmp_path / "out.onnx", "-p", pipeline, "--validate", "none", "--disable",
              "dead-nodes:1", "--report", path)  # fmt: skip
    assert ran.code == 0
    return path


def test_explain_a_pass_and_the_recipe_of_the_same_name(cli: Cli) -> None:
    ran = cli("explain", "low-rank")
    assert "two thin ones" in ran.out
    assert ran.out.index("What it does") < ran.out.index("LOSSY  recipe")
    facts = cli("explain", "low-rank", "--json").json
    assert facts["recipe"]["budget"] == ["sqnr_db>=10"]


def test_explain_a_value_that_another_one_stands_for(cli: Cli, report: Path) -> None:
    ran = cli("explain", "a", "--report", report)
    assert ran.code == 0
    assert "x now stands for it" in ran.out
    assert "identities:1" in ran.out
    assert "x  " not in cli("explain", "a", "--report", report, "--json").json["now"]
    assert "stands for a" in cli("explain", "x", "--report", report).out


def test_explain_a_node_whose_rewrite_was_switched_off(cli: Cli, report: Path) -> None:
    story = cli("explain", "Exp(d)", "--report", report, "--json").json
    assert [(one["pass_name"], one["number"]) for one in story["disabled"]] == [("dead-nodes", 1)]
    assert "switched off" in cli("explain", "Exp(d)", "--report", report).out


def test_explain_why_a_weight_was_missed(cli: Cli, report: Path) -> None:
    ran = cli("explain", "w", "--report", report)
    assert "nearly touched by" in ran.out
    assert "because it has 3072 elements, fewer than min-elements=9999" in ran.out


def test_explain_a_rewrite_by_its_number(cli: Cli, report: Path) -> None:
    assert cli("explain", "identities:1", "--report", report, "--json").json["applied"][0]["node"] == "Identity(a)"


def test_explain_a_name_that_the_report_does_not_have(cli: Cli, report: Path) -> None:
    ran = cli("explain", "Expp(d)", "--report", report)
    assert ran.code == 2
    assert "says nothing about 'Expp(d)'" in ran.sentence
    assert ran.sentence.endswith("; did you mean 'Exp(d)'?")


def test_validate_two_equivalent_models(cli: Cli, net: Path, tmp_path: Path) -> None:
    cli("optimize", net, "-o", tmp_path / "b.onnx", "--validate", "none")
    ran = cli("validate", net, tmp_path / "b.onnx", "--contract", "exact")
    assert ran.code == 0
    assert ran.out.startswith("✓ equivalent (EXACT): all outputs bit for bit the same")
    rounding = cli("validate", net, tmp_path / "b.onnx", "--json").json
    assert (rounding["contract"], rounding["exit_code"], rounding["passed"]) == ("ROUNDING", 0, True)


def test_validate_a_model_that_differs_by_more_than_rounding_and_less_than_a_budget(
    cli: Cli, net: Path, tmp_path: Path
) -> None:
    b = tmp_path / "b.onnx"
    cli("optimize", net, "-o", b, "--recipe", "int8-weights", "--validate", "none")
    differs = cli("validate", net, b)
    assert differs.code == 1
    assert "✗ different (ROUNDING)" in differs.out
    assert "dB" in differs.out
    kept = cli("validate", net, b, "--budget", "sqnr_db>=20", "--json")
    assert (kept.code, kept.json["contract"], kept.json["outcome"]) == (0, "LOSSY", "within budget")
    assert cli("validate", net, b, "--budget", "sqnr_db>=200").code == 1


def test_validate_a_model_of_other_outputs(cli: Cli, net: Path, tidy: Path) -> None:
    ran = cli("validate", net, tidy, "--json")
    assert ran.code == 1
    assert ran.json["outcome"] == "different"


def test_validate_could_not_tell(cli: Cli, random: Path) -> None:
    ran = cli("validate", random, random)
    assert ran.code == 6
    assert ran.out.startswith("? could not tell (ROUNDING)")


def test_inspect_shows_the_facts_of_a_model(cli: Cli, net: Path) -> None:
    ran = cli("inspect", net)
    assert ran.code == 0
    for text in ("float[N,64]", "float[N,48]", "MatMul 1", "float[64,48]", "ai.onnx 21, IR 10", "12.3 KB"):
        assert text in ran.out
    facts = cli("inspect", net, "--json").json
    assert facts["operators"] == {"Exp": 1, "Identity": 1, "MatMul": 1, "Relu": 1}
    assert (facts["parameters"], facts["weight_bytes"], facts["macs"]) == (3072, 12288, 3072)
    assert facts["weights"][0]["shape"] == [64, 48]
    assert facts["path"] == str(net)


def test_demo_needs_no_output_and_shows_accuracy_before_and_after(cli: Cli, tmp_path: Path) -> None:
    ran = cli("demo", "--report", tmp_path / "r.json", "-o", tmp_path / "digits.onnx", "--json")
    facts = ran.json
    assert ran.code == 0
    assert facts["recipe"] == "int8-weights"
    assert facts["verdict"]["outcome"] == "within budget"
    assert facts["accuracy"]["rows"] == 896
    assert facts["accuracy"]["before"] > 0.98
    assert facts["accuracy"]["after"] > 0.98
    assert facts["after"]["bytes"] < 0.4 * facts["before"]["bytes"]
    onnx.checker.check_model(tmp_path / "digits.onnx")
    assert json.loads((tmp_path / "r.json").read_text())["recipe"] == "int8-weights"


def test_demo_with_another_recipe_on_the_screen(cli: Cli) -> None:
    ran = cli("demo", "--recipe", "clean")
    assert ran.code == 0
    assert "recipe clean" in ran.out
    assert "nothing was written" in ran.out
    assert "accuracy on 896 labelled test images: 99.00 % before, 99.00 % after" in ran.out

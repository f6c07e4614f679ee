"""`optimize --html`: the page is written whole, beside everything else, and knows what the run knew."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import pytest
from command_lines import Cli
from onnx import helper

import graphopt
from graphopt.testing import model


def facts(path: Path) -> Any:
    """The data block of a page."""
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', path.read_text(encoding="utf-8"))
    assert found is not None
    return json.loads(found[1])


def test_the_page_holds_the_rewrites_of_the_run(cli: Cli, net: Path, tmp_path: Path) -> None:
    ran = cli(
        "optimize", net, "-o", tmp_path / "out.onnx", "--html", tmp_path / "r.html", "--report", tmp_path / "r.json"
    )
    assert ran.code == 0
    shown, told = facts(tmp_path / "r.html"), json.loads((tmp_path / "r.json").read_text())
    applied = [one for one in told["remarks"] if one["kind"] == "applied"]
    assert len(shown["frames"]) == shown["rewrites"] == len(applied) > 0
    first = shown["frames"][0]
    assert (shown["passes"][first[0]][0], first[1]) == (applied[0]["pass_name"], applied[0]["number"])
    assert shown["texts"][first[3]] == applied[0]["node"]
    assert shown["start"][0] == told["before"]["nodes"]
    assert shown["turns"][-1][4] == told["after"]["nodes"]
    assert shown["verdict"][3] == told["verdict"]["sentence"]


def test_a_step_and_the_result_have_their_errors(cli: Cli, net: Path, tmp_path: Path) -> None:
    options = ("-p", "identities,weight-int8", "--budget", "sqnr_db>=10", "--validate", "each")
    cli("optimize", net, "-o", tmp_path / "out.onnx", "--html", tmp_path / "r.html", *options)
    shown = facts(tmp_path / "r.html")
    assert [step[0] for step in shown["steps"]] == ["identities", "weight-int8"]
    assert shown["steps"][0][6] == "inf"
    assert shown["steps"][1][6] > 10
    assert [step[1] for step in shown["steps"]] == [1, 2]


def test_an_older_page_is_replaced_and_a_failed_run_leaves_it(cli: Cli, net: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    page.write_text("older")
    page.chmod(0o640)
    failed = cli("optimize", net, "-o", tmp_path / "out.onnx", "--html", page, "--only", "no-such-pass")
    assert (failed.code, page.read_text()) == (2, "older")
    assert cli("optimize", net, "-o", tmp_path / "out.onnx", "--html", page, "--validate", "none").code == 0
    assert facts(page)["model"] == "net.onnx"
    assert page.stat().st_mode & 0o777 == 0o640
    assert [one.name for one in tmp_path.iterdir() if one.suffix == ".partial"] == []


def test_the_page_is_the_same_each_time_but_for_times(cli: Cli, net: Path, tmp_path: Path) -> None:
    pages = []
    for name in ("a.html", "b.html"):
        cli("optimize", net, "-o", tmp_path / "out.onnx", "--html", tmp_path / name, "--validate", "none")
        shown = facts(tmp_path / name)
        for row in shown["passes"]:
            row[6] = 0
        pages.append(shown)
    assert pages[0] == pages[1]


def test_nothing_of_the_model_is_markup_and_nothing_is_fetched(cli: Cli, tmp_path: Path) -> None:
    made = model("g (float[N] x) => (float[N] y) { a = Identity(x)  y = Relu(a) }")
    made.graph.node[0].name = "</script><script src=http://example.com>&\u2028\x00'\""
    path = tmp_path / "<i>{{data}}.onnx"
    onnx.save(made, path)
    cli("optimize", path, "-o", tmp_path / "out.onnx", "--html", tmp_path / "r.html", "--validate", "none")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("<script") == page.count("</script>") == 2
    assert "<i>" not in page
    assert page.count("<!--") == 0
    assert facts(tmp_path / "r.html")["model"] == path.name
    assert "</script><script src=http://example.com>&\\u2028\\x00'\"" in facts(tmp_path / "r.html")["texts"]
    assert re.findall(r"\b(?:src|href)=.?[^#\s]\w+", page.split('<script id="data"')[0]) == []
    assert set(re.findall(r"https?://[\w./]+", page)) <= {"http://www.w3.org/2000/svg", "http://example.com"}


@pytest.mark.parametrize("letter", ["n", "名", "<"])
def test_the_page_is_small_however_long_the_names_are(letter: str, tmp_path: Path) -> None:
    names = ["x", *(f"{letter * 500}{i:06}" for i in range(1500)), "y"]
    nodes = [helper.make_node("Identity", [one], [other], name=f"node {other}") for one, other in pairwise(names[:-1])]
    nodes.append(helper.make_node("Relu", [names[-2]], ["y"], name="end"))
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N"]) for name in ("x", "y")]
    made = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    graphopt.optimize(made, pipeline="identities", validate="none", html=tmp_path / "r.html")
    assert (tmp_path / "r.html").stat().st_size < 5_000_000
    shown = facts(tmp_path / "r.html")
    assert shown["rewrites"] == 1500
    assert shown["frames"][0][9]
    if letter != "n":
        assert shown["notes"][0].startswith("Only the first ")


def test_python_code_gets_the_page_as_well(net: Path, tmp_path: Path) -> None:
    result = graphopt.optimize(net, pipeline="identities,dead-nodes", html=tmp_path / "r.html")
    assert len(facts(tmp_path / "r.html")["frames"]) == len(
        [one for one in result.report.remarks if one.kind == "applied"]
    )

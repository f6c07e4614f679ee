"""`graphopt localize` and `graphopt profile-error` as command lines: pages, JSON, exit codes, mistakes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_lines import TEXT, WEIGHT, Cli

from graphopt.testing import model


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """The model `net` with its weight transposed in half of it."""
    weight = WEIGHT.copy()
    weight[:32] *= -1
    path = tmp_path / "wrong.onnx"
    onnx.save(model(TEXT, w=weight), path)
    return path


def test_equal_models_end_with_0(cli: Cli, net: Path) -> None:
    done = cli("localize", net, net)
    assert done.code == 0
    assert "nothing diverges" in done.out


def test_the_first_value_is_named_and_the_end_is_1(cli: Cli, net: Path, wrong: Path) -> None:
    done = cli("localize", net, wrong)
    assert done.code == 1
    assert "the first value that diverges: b" in done.out
    assert "born here" in done.out
    assert "inherited" in done.out
    assert "█" in done.out


def test_json_has_the_same_facts(cli: Cli, net: Path, wrong: Path) -> None:
    done = cli("localize", net, wrong, "--json")
    assert done.code == 1
    first = done.json["first"]
    assert first["value"] == "b"
    assert first["born_here"] is True
    assert first["inherited"]["differing"] == 0
    assert sum(first["histograms"]["born"]) == first["total"]["elements"]


def test_a_report_leads_from_new_names_to_old(cli: Cli, net: Path, tmp_path: Path) -> None:
    report, made = tmp_path / "report.json", tmp_path / "made.onnx"
    assert cli("optimize", net, "-o", made, "--report", report).code == 0
    assert cli("localize", net, made, "--report", report).code == 0


@pytest.mark.parametrize("command", ["localize", "profile-error"])
def test_what_cannot_be_used_is_said_in_a_sentence(cli: Cli, command: str, net: Path, tmp_path: Path) -> None:
    assert "there is no file" in cli(command, net, tmp_path / "none.onnx").sentence
    assert cli(command, net, tmp_path / "none.onnx").code == 3
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    done = cli(command, net, net, "--report", broken)
    assert done.code == 2
    assert "is not JSON" in done.sentence
    other = tmp_path / "other.onnx"
    onnx.save(model("g (float[2] p, float[2] q) => (float[2] y) { y = Add(p, q) }"), other)
    done = cli(command, net, other)
    assert done.code == 2
    assert "has an input 'p' that the first has not" in done.sentence


@pytest.mark.parametrize("text", ["", "loud", "nan", "inf"])
def test_decibels_are_numbers(cli: Cli, net: Path, text: str) -> None:
    done = cli("localize", net, net, "--sqnr-db", text)
    assert done.code == 2
    assert "--sqnr-db expects decibels" in done.sentence


def test_a_model_that_does_not_run_cannot_be_told(cli: Cli, net: Path, tmp_path: Path) -> None:
    failing = tmp_path / "failing.onnx"
    onnx.save(model("g (float[N,64] x) => (float[N,48] y) { y = MatMul(x, w) }", w=WEIGHT[:60]), failing)
    done = cli("localize", net, failing)
    assert done.code == 6
    assert "the second model cannot be looked into" in done.sentence


def test_a_profile_as_a_table_as_json_and_as_a_plot(cli: Cli, net: Path, wrong: Path, tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    done = cli("profile-error", net, wrong, "--plot", plot)
    assert done.code == 0
    assert "MatMul" in done.out
    assert "recovers most" in done.out
    root = ET.parse(plot).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert any("MatMul" in (one.text or "") for one in root.iter("{http://www.w3.org/2000/svg}title"))
    facts = cli("profile-error", net, wrong, "--json", "--top", 1).json
    (product,) = (one for one in facts["values"] if one["value"] == "b")
    assert product["split"]["weight"]["sqnr_db"] == product["born"]["sqnr_db"]
    assert product["split"]["activation"]["differing"] == 0
    assert [one["values"] for one in facts["recoveries"]] == [["b"]]


def test_a_plot_names_come_out_escaped(tmp_path: Path, cli: Cli) -> None:
    weight = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)
    paths = []
    for number, array in enumerate((weight, weight * np.float32(1.1))):
        made = model("g (float[N,4] x) => (float[N,4] y) { a = MatMul(x, w)  y = Relu(a) }", w=array)
        made.graph.node[0].output[0] = made.graph.node[1].input[0] = "<script>&"
        paths.append(tmp_path / f"{number}.onnx")
        onnx.save(made, paths[-1])
    plot = tmp_path / "plot.svg"
    assert cli("profile-error", *paths, "--plot", plot).code == 0
    assert "<script>" not in plot.read_text()
    ET.parse(plot)


@pytest.mark.parametrize(
    ("name", "said"),
    [("plot.png", "plots are SVG"), ("none/plot.svg", "there is no folder"), ("folder.svg", "no regular file")],
)
def test_places_where_no_plot_can_be(cli: Cli, net: Path, tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder.svg").mkdir()
    done = cli("profile-error", net, net, "--plot", tmp_path / name)
    assert done.code == 2
    assert said in done.sentence

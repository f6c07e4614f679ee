"""`graphopt sensitivity` as a command line: the page, JSON, files, exit codes, mistakes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_lines import Cli

from graphopt.report.sensitivity_files import read_table
from graphopt.testing import model


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """Five layers."""
    rng = np.random.default_rng(1)
    nodes = "  ".join(f"a{i} = MatMul(r{i}, w{i})  r{i + 1} = Relu(a{i})" for i in range(4))
    text = f"g (float[N, 16] r0) => (float[N, 16] y) {{ {nodes}  y = MatMul(r4, w4) }}"
    weights = {f"w{i}": rng.standard_normal((16, 16)).astype(np.float32) for i in range(5)}
    path = tmp_path / "deep.onnx"
    onnx.save(model(text, **weights), path)
    return path


@pytest.fixture
def feeds(tmp_path: Path) -> Path:
    path = tmp_path / "feeds.npz"
    np.savez(path, r0=np.random.default_rng(2).standard_normal((24, 16)).astype(np.float32))
    return path


def test_the_page_has_a_line_for_each_layer(cli: Cli, deep: Path, feeds: Path) -> None:
    done = cli("sensitivity", deep, "--feeds", feeds, "--quick", "--verify", 5)
    assert done.code == 0
    assert "5 layers" in done.out
    for name in ("w0", "w4", "int8-channel", "channels-25", "bits"):
        assert name in done.out
    assert "int8-channel verified on 5 layers: rank correlation" in done.out
    assert "dB off in the median" in done.out
    assert done.err == ""


def test_json_and_the_table_are_the_same(cli: Cli, deep: Path, feeds: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    facts = cli("sensitivity", deep, "--feeds", feeds, "--quick", "--json", "--table", table, "--layers", "w[01]").json
    assert [one["name"] for one in facts["layers"]] == ["w0", "w1"]
    assert facts["layers"][0]["predicted_db"]["int8-channel"] > 30
    found = read_table(table)
    assert found.to_json() == facts
    assert found["w1"].errors["int4-block"] > found["w1"].errors["int8-channel"]


def test_the_page_and_the_plot_are_whole_files(cli: Cli, deep: Path, feeds: Path, tmp_path: Path) -> None:
    html, plot = tmp_path / "page.html", tmp_path / "plot.svg"
    assert cli("sensitivity", deep, "--feeds", feeds, "--quick", "--html", html, "--plot", plot, "-q").out == ""
    root = ET.parse(plot).getroot()
    assert root.tag.endswith("svg")
    assert len(root.findall(".//{*}circle")) >= 5 * 3
    text = html.read_text()
    assert "<script" not in text
    assert "default-src 'none'" in text.replace("&#x27;", "'")
    assert text.count("<tr>") == 6
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")


def test_names_of_a_model_cannot_write_the_page(cli: Cli, feeds: Path, tmp_path: Path) -> None:
    made = model("g (float[N, 16] r0) => (float[N, 4] y) { y = MatMul(r0, w) }", w=np.ones((16, 4), np.float32))
    made.graph.initializer[0].name = made.graph.node[0].input[1] = "<script>alert(1)</script>"
    onnx.save(made, tmp_path / "bad.onnx")
    html = tmp_path / "page.html"
    assert cli("sensitivity", tmp_path / "bad.onnx", "--feeds", feeds, "--quick", "--html", html).code == 0
    assert "<script" not in html.read_text()


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (("--ladder", "a,b"), 2, "--ladder expects numbers with commas"),
        (("--ladder", "-1"), 2, "must be more than 0"),
        (("--seeds", "many"), 2, "--seeds expects a whole number"),
        (("--verify", "some"), 2, "--verify expects a whole number"),
        (("--layers", "nothing"), 2, "no layer is called nothing"),
        (("--plot", "plot.png"), 2, "plots are SVG"),
        (("--feeds", "nowhere.npz"), 2, "there is no file"),
        (("--html", "no/such/folder/a.html"), 2, "there is no folder"),
    ],
)
def test_mistakes_end_with_a_sentence(cli: Cli, deep: Path, options: tuple[str, ...], code: int, why: str) -> None:
    done = cli("sensitivity", deep, *options)
    assert done.code == code
    assert why in done.sentence


def test_files_may_not_replace_what_is_read_or_each_other(cli: Cli, deep: Path, feeds: Path, tmp_path: Path) -> None:
    assert "this is the model" in cli("sensitivity", deep, "--html", deep).sentence
    assert "this is the file of --feeds" in cli("sensitivity", deep, "--feeds", feeds, "--table", feeds).sentence
    both = tmp_path / "both.html"
    assert "this is the file of" in cli("sensitivity", deep, "--html", both, "--table", both).sentence


def test_no_model_and_no_telling_have_their_own_codes(cli: Cli, tmp_path: Path) -> None:
    assert cli("sensitivity", tmp_path / "none.onnx").code == 3
    drawing = tmp_path / "drawing.onnx"
    text = "g (float[N, 4] x) => (float[N, 4] y) { r = RandomNormalLike(x)  s = Add(x, r)  y = MatMul(s, w) }"
    onnx.save(model(text, w=np.ones((4, 4), np.float32)), drawing)
    done = cli("sensitivity", drawing)
    assert done.code == 6
    assert done.sentence.startswith("could not tell: RandomNormalLike")


OVERFLOWING = (
    '{"format": 1, "model": "m", "layers": [], "left": [], "feeds": "f", "ladder": [], "seeds": 1e999, "checks": [], '
    '"warnings": [], "runs": 1, "work": 1, "seconds": 1}'
)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '{"format": 1}', OVERFLOWING])
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(text)
    from graphopt.errors import UsageError

    with pytest.raises(UsageError, match="table"):
        read_table(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_table(tmp_path / "nowhere.json")

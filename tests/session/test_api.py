"""load, save, optimize and validate as a user of the package calls them."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphopt
from graphopt.errors import UsageError
from graphopt.session.choice import plan
from graphopt.testing import model

TEXT = "g (float[N,4] x) => (float[N,3] y) { a = Identity(x)  b = MatMul(a, w)  y = Relu(b)  d = Exp(b) }"
WEIGHT = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, graphopt; print([m for m in ('onnx', 'numpy', 'onnxruntime', 'typer') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_others_are_not() -> None:
    for name in graphopt.__all__:
        assert getattr(graphopt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = graphopt.nonsense  # type: ignore[attr-defined]


def test_a_loaded_and_saved_model_has_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model(TEXT, w=WEIGHT).SerializeToString() + b"\x28\x07")
    graph = graphopt.load(path)
    for node in graph.nodes:
        assert node.attrs is not None
    graphopt.save(graph, tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == path.read_bytes()
    graph.nodes[0].name = "renamed"
    graphopt.save(graph, tmp_path / "changed.onnx")
    assert onnx.load(tmp_path / "changed.onnx").graph.node[0].name == "renamed"


def test_save_over_the_file_it_was_loaded_from_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model(TEXT, w=WEIGHT).SerializeToString())
    graph = graphopt.load(path)
    graph.nodes[0].name = "renamed"
    with pytest.raises(UsageError, match=r"in.place"):
        graphopt.save(graph, path)
    graphopt.save(graph, path, in_place=True)
    assert onnx.load(path).graph.node[0].name == "renamed"


@pytest.mark.parametrize("kind", ["path", "proto", "graph"])
def test_optimize_takes_paths_messages_and_graphs_and_changes_none(kind: str, tmp_path: Path) -> None:
    proto = model(TEXT, w=WEIGHT)
    frozen = proto.SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(frozen)
    given = {"path": path, "proto": proto, "graph": graphopt.load(path)}[kind]
    result = graphopt.optimize(given)
    assert result.verdict.passed
    assert [node.op_type for node in result.to_proto().graph.node] == ["MatMul", "Relu"]
    assert proto.SerializeToString() == frozen
    assert path.read_bytes() == frozen
    if isinstance(given, graphopt.Graph):
        assert len(given.nodes) == 4


def test_feeds_labels_and_a_metric(tmp_path: Path) -> None:
    x = np.random.default_rng(2).standard_normal((32, 4)).astype(np.float32)
    labels = np.argmax(np.maximum(x @ WEIGHT, 0), axis=1)
    result = graphopt.optimize(model(TEXT, w=WEIGHT), feeds={"x": x}, labels=labels, metric="top1")
    assert result.verdict.metric_before == result.verdict.metric_after == 1.0


def test_validate_compares_two_models() -> None:
    other = WEIGHT.copy()
    other[0, 0] *= 1.01
    one, two = model(TEXT, w=WEIGHT), model(TEXT, w=other)
    assert graphopt.validate(one, one).passed
    assert not graphopt.validate(one, two).passed
    assert graphopt.validate(one, two, budget="sqnr_db>=20").passed


def test_recipe_and_pipeline_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="either a recipe or a pipeline"):
        graphopt.optimize(model(TEXT, w=WEIGHT), recipe="clean", pipeline="dead-nodes")


def test_a_target_picks_the_recipe() -> None:
    dense = "g (float[N,4] x) => (float[N,3] y) { a = Gemm(x, w)  y = Relu(a) }"
    portable = graphopt.optimize(model(dense, w=WEIGHT), target="portable")
    assert [node.op for node in portable.graph.nodes] == ["Gemm", "Relu"]
    fused = graphopt.optimize(model(dense, w=WEIGHT), target="onnxruntime")
    assert [(node.domain, node.op) for node in fused.graph.nodes] == [("com.microsoft", "FusedGemm")]
    assert fused.verdict.passed
    assert fused.report.recipe == "onnxruntime"


def test_a_target_picks_among_the_pipelines_of_a_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "two.toml"
    recipe.write_text('name = "two"\npipeline = ""\n[targets]\nqnn = "dead-nodes"\n')
    steps, name, _, _ = plan(recipe=recipe, pipeline=None, budget=None, target="qnn")
    assert (str(steps), name) == ("dead-nodes", "two")
    assert str(plan(recipe=recipe, pipeline=None, budget=None, target="portable")[0]) == ""


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"target": "tflite"}, "target expects portable, onnxruntime, tensorrt, openvino or qnn, not 'tflite'"),
        ({"target": "qnn"}, "the target qnn is for quantized models; name a recipe too, such as int8-static"),
        ({"target": "qnn", "recipe": "clean"}, "the recipe clean has no pipeline for the target qnn; it has portable"),
        (
            {"target": "qnn", "pipeline": "dead-nodes"},
            "a target picks among the pipelines of a recipe, and one is given",
        ),
    ],
)
def test_targets_that_cannot_be(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        graphopt.optimize(model(TEXT, w=WEIGHT), **given)  # type: ignore[arg-type]


def test_write_a_pass_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of the page is run, in order, in one namespace."""
    page = Path(__file__).resolve().parents[2] / "docs" / "write-a-pass.md"
    monkeypatch.chdir(tmp_path)
    onnx.save(model("g (float[N] x) => (float[N] y) { a = Relu(x)  b = Relu(a)  y = Neg(b) }"), "model.onnx")
    page_module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page_module)  # dataclasses look their module up
    space = page_module.__dict__
    blocks = page.read_text().split("```python\n")[1:]
    assert len(blocks) >= 4
    for block in blocks:
        exec(compile(block.split("```")[0], str(page), "exec"), space)
    assert space["result"].report.changed


def test_bisect_says_that_nothing_is_wrong_or_what_a_check_calls_wrong(tmp_path: Path) -> None:
    proto = model(TEXT, w=WEIGHT)
    assert graphopt.bisect(proto, recipe="clean").outcome == "nothing"
    onnx.save(proto, tmp_path / "m.onnx")
    found = graphopt.bisect(tmp_path / "m.onnx", recipe="clean", check="grep -q Exp {model}")
    assert (found.handle, found.exit_code) == ("dead-nodes:1", 1)

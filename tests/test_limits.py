"""Limits: their words, where they bite, and that nothing of the size is made before."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import graphopt
from graphopt.cli.app import app
from graphopt.errors import OverLimit, UsageError
from graphopt.limits import Limits, current, described, limited, over, size_text
from graphopt.report.brief import brief
from graphopt.storage.read import from_proto

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]


def made(nodes: list[onnx.NodeProto], functions: tuple[onnx.FunctionProto, ...] = ()) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", [X], [Y])
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=8, functions=list(functions))


def nested(depth: int) -> onnx.ModelProto:
    """An If in an If in an If: `depth` bodies within each other."""
    value = helper.make_tensor_value_info
    inner = [helper.make_node("Relu", ["x"], ["y0"])]
    for level in range(1, depth + 1):
        bodies = [
            helper.make_graph(inner, "b", [], [value(f"y{level - 1}", TensorProto.FLOAT, None)]) for _ in ("yes", "no")
        ]
        inner = [helper.make_node("If", ["c"], [f"y{level}"], then_branch=bodies[0], else_branch=bodies[1])]
        if level > 3:  # the second body as deep as the first would double the file at each level
            inner[0].attribute[1].g.CopyFrom(
                helper.make_graph(
                    [helper.make_node("Relu", ["x"], [f"y{level - 1}"])],
                    "b",
                    [],
                    [value(f"y{level - 1}", TensorProto.FLOAT, None)],
                )
            )
    graph = helper.make_graph(
        [*inner, helper.make_node("Identity", [f"y{depth}"], ["y"])],
        "g",
        [X, value("c", TensorProto.BOOL, [])],
        [Y],
    )
    return helper.make_model(graph, opset_imports=OPSETS[:1], ir_version=8)


def calls(row: int, times: int = 1) -> onnx.ModelProto:
    """Functions that each call the next `times` times, `row` of them."""
    functions = []
    for index in range(row):
        body = [helper.make_node("Relu", ["a"], ["b"])]
        if index < row - 1:
            names = ["a", *(f"t{i}" for i in range(times - 1)), "b"]
            body = [helper.make_node(f"f{index + 1}", [a], [b], domain="local") for a, b in itertools.pairwise(names)]
        functions.append(helper.make_function("local", f"f{index}", ["a"], ["b"], body, OPSETS))
    return made([helper.make_node("f0", ["x"], ["y"], domain="local")], tuple(functions))


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["cals=5"], "knows no limit 'cals'; did you mean 'calls'?"),
        (["zzzzz=5"], "knows no limit 'zzzzz'; there are model-bytes, "),
        ([""], "knows no limit ''"),
        (["calls"], "expects calls=NUMBER, as calls=100"),
        (["calls="], "NAME expects a whole number of at most 100, not ''"),
        (["calls=-1"], "NAME expects a whole number of at most 100, not '-1'"),
        (["calls=101"], "NAME expects a whole number of at most 100, not '101'"),
        (["calls=\u0663"], "NAME expects a whole number of at most 100, not '\u0663'"),
        (["calls=1e400"], "NAME expects a whole number of at most 100, not '1e400'"),
        (["calls=nan"], "NAME expects a whole number"),
        (["calls=" + "9" * 5000], "NAME expects a whole number"),
        (["fold-elements=1KB"], "NAME expects a whole number, not '1KB'"),
        (["fold-bytes=-1MB"], "NAME expects a size such as 512MB, not '-1MB'"),
        (["fold-bytes=1XB"], "NAME expects a size such as 512MB, not '1XB'"),
        (["fold-bytes=" + "9" * 18 + "TB"], "NAME expects a size such as 512MB"),
        (["parsed-bytes=3GB"], "NAME expects a size such as 512MB of at most 2147483647, not '3GB'"),
        (["calls=5", "calls=6"], "sets calls twice; keep one of them"),
    ],
)
def test_every_mistake_in_a_limit_has_its_sentence(texts: list[str], sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        Limits.parse(texts)
    name = texts[0].partition("=")[0]
    assert f"--max {sentence.replace('NAME', name)}" in str(error.value)


def test_limits_are_read_as_they_are_written() -> None:
    given = Limits.parse(["fold-bytes=64MB", "dense-bytes=1GiB", "parts=0", " calls = 7 "])
    assert (given.fold_bytes, given.dense_bytes, given.parts, given.calls) == (64_000_000, 1 << 30, 0, 7)
    assert Limits.parse(given.changed()) == given
    assert Limits().changed() == []
    assert size_text(4 << 30) == "4 GiB" and size_text(1000) == "1000 bytes" and size_text(0) == "0 bytes"
    assert {name for name, _, _ in described()} >= {"fold-bytes", "nesting", "name-characters"}


def test_limits_hold_within_their_block_and_no_longer() -> None:
    with limited(Limits(calls=1)), pytest.raises(ValueError, match="mine"):
        with limited(Limits(calls=2)):
            assert current().calls == 2
        assert current().calls == 1
        raise ValueError("mine")
    assert current() == Limits()


@pytest.mark.parametrize(
    ("model", "limits", "sentence"),
    [
        (nested(5), Limits(nesting=4), "bodies nested deeper than the limit of 4, in node ''"),
        (calls(6), Limits(calls=5), "6 functions that call one another in a row, more than the limit of 5"),
        (calls(101), Limits(), "101 functions that call one another in a row, more than the limit of 100"),
        (
            calls(90, 2),
            Limits(),
            r"has 1\.\d+e\+27 nodes once its functions are inlined, more than",
        ),
        (calls(4, 2), Limits(inlined_nodes=20), "has 23 nodes once its functions are inlined.*--max inlined-nodes=N"),
    ],
)
def test_what_a_model_would_grow_to_is_refused_while_reading(
    model: onnx.ModelProto, limits: Limits, sentence: str
) -> None:
    with pytest.raises(OverLimit, match=sentence):
        from_proto(model, limits=limits)
    with limited(limits), pytest.raises(OverLimit, match=sentence):
        graphopt.optimize(model)


def test_at_the_limit_a_model_is_read() -> None:
    from_proto(nested(4), limits=Limits(nesting=4))
    from_proto(calls(5), limits=Limits(calls=5))
    from_proto(calls(4, 2), limits=Limits(inlined_nodes=23))


def constant_sum(elements: int) -> onnx.ModelProto:
    """y = x + the largest of `elements` numbers that are computed from constants; folding makes the file smaller."""
    size = helper.make_tensor("n", TensorProto.INT64, [1], np.array([elements], np.int64).tobytes(), raw=True)
    fill = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("ConstantOfShape", ["n"], ["big"], value=fill),
        helper.make_node("ReduceMax", ["big"], ["top"], keepdims=0),
        helper.make_node("Add", ["x", "top"], ["y"]),
    ]
    model = made(nodes)
    model.graph.initializer.append(size)
    return model


def test_a_fold_that_would_be_too_large_is_left_and_the_report_says_so() -> None:
    whole = graphopt.optimize(constant_sum(1000), pipeline="fold-constants")
    assert [node.op for node in whole.graph.nodes] == ["Add"] and not whole.report.warnings[1:]
    kept = graphopt.optimize(constant_sum(1000), pipeline="repeat(fold-constants)", limits=Limits(fold_elements=999))
    assert [node.op for node in kept.graph.nodes] == ["ConstantOfShape", "ReduceMax", "Add"]
    assert over("fold_elements", 1, Limits(fold_elements=999)) in kept.report.warnings
    assert any("gives 1000 elements, more than the 999" in one.why for one in kept.report.remarks)


def test_sizes_beyond_any_memory_are_computed_not_made() -> None:
    found = graphopt.optimize(constant_sum(1 << 40), pipeline="fold-constants", validate="none")
    assert len(found.graph.nodes) == 3
    assert any("1099511627776 elements" in one.why for one in found.report.remarks)


def test_a_sparse_tensor_is_made_dense_within_its_limit() -> None:
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [2.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [3])
    model = made([helper.make_node("Add", ["x", "w"], ["y"])])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 3]))
    source = from_proto(model)
    from graphopt.ir import decode

    constant = next(iter(decode(source.proto, source.store).initializers))
    with (
        limited(Limits(dense_bytes=23)),
        pytest.raises(OverLimit, match=r"6 elements when dense.*dense-bytes=N"),
    ):
        _ = constant.values
    assert constant.values.reshape(-1)[3] == 2.0


def test_long_names_are_in_reports_by_beginning_length_and_hash(tmp_path: Path) -> None:
    long = "n" * 5000
    model = made(
        [helper.make_node("Identity", ["x"], [long + "v"], name=long), helper.make_node("Relu", [long + "v"], ["y"])]
    )
    onnx.save(model, tmp_path / "m.onnx")
    report, remarks = tmp_path / "r.json", tmp_path / "r.jsonl"
    arguments = ["optimize", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "o.onnx"), "--validate", "none", "--quiet"]
    arguments += ["--report", str(report), "--remarks", str(remarks), "--max", "name-characters=50"]
    with pytest.raises(SystemExit) as end:
        app(arguments)
    assert end.value.code == 0
    texts = [text for text in (report.read_text(), remarks.read_text()) if "n" * 51 not in text]
    assert len(texts) == 2 and all("(5000 characters, sha256 " in text for text in texts)
    node = json.loads(remarks.read_text().splitlines()[0])["node"]
    with limited(Limits(name_characters=50)):
        assert node == brief(long) and brief("n" * 50) == "n" * 50
        from graphopt.report.explanation import explain
        from graphopt.report.saved import read_report

        assert explain(read_report(report), long).applied


def test_the_command_line_moves_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(calls(6), tmp_path / "m.onnx")
    for command in (["inspect"], ["optimize", "-o", str(tmp_path / "o.onnx")]):
        with pytest.raises(SystemExit) as end:
            app([*command, str(tmp_path / "m.onnx"), "--max", "calls=5"])
        assert end.value.code == 5
        assert "more than the limit of 5" in capsys.readouterr().err
    assert current() == Limits()
    with pytest.raises(SystemExit) as end:
        app(["explain", "limits", "--json"])
    assert end.value.code == 0
    assert json.loads(capsys.readouterr().out)["calls"]["default"] == "100"

"""`graphopt optimize` where all goes well, and where the result is not good enough."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_lines import WEIGHT, Cli

from graphopt.testing import model


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_the_default_recipe_cleans_validates_and_writes(cli: Cli, net: Path, tmp_path: Path) -> None:
    before = net.read_bytes()
    ran = cli("optimize", net, "-o", tmp_path / "out.onnx")
    assert (ran.code, ran.err) == (0, "")
    assert operators(tmp_path / "out.onnx") == ["MatMul", "Relu"]
    assert "recipe default" in ran.out
    assert "equivalent (EXACT): all outputs bit for bit the same" in ran.out
    assert f"wrote {tmp_path / 'out.onnx'}" in ran.out
    assert net.read_bytes() == before


def test_a_target_picks_the_recipe(cli: Cli, net: Path, tmp_path: Path) -> None:
    ran = cli("optimize", net, "-o", tmp_path / "out.onnx", "--target", "onnxruntime")
    assert (ran.code, ran.err) == (0, "")
    assert "recipe onnxruntime" in ran.out
    ran = cli("optimize", net, "-o", tmp_path / "out.onnx", "--target", "portable")
    assert "recipe default" in ran.out


def test_what_goes_to_a_file_or_pipe_has_no_colour_and_no_wrapped_lines(cli: Cli, net: Path, tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 60) / ("b" * 60)
    deep.mkdir(parents=True)
    ran = cli("optimize", net, "-o", deep / "out.onnx", "--validate", "none")
    assert "\x1b" not in ran.out
    assert f"wrote {deep / 'out.onnx'} in" in ran.out
    assert not any(line.endswith(" ") for line in ran.out.splitlines())


def test_json_is_one_object_with_the_facts_of_the_report_file(cli: Cli, net: Path, tmp_path: Path) -> None:
    ran = cli("optimize", net, "-o", tmp_path / "out.onnx", "--report", tmp_path / "r.json", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.json == json.loads((tmp_path / "r.json").read_text())
    assert ran.json["before"]["nodes"] == 4
    assert ran.json["after"]["nodes"] == 2
    assert ran.json["verdict"]["outcome"] == "equivalent"
    assert ran.json["written"] == [str(tmp_path / "out.onnx")]
    assert list(tmp_path.glob(".graphopt*")) == []


def test_quiet_prints_nothing(cli: Cli, net: Path, tmp_path: Path) -> None:
    ran = cli("optimize", net, "-o", tmp_path / "out.onnx", "-q", "--validate", "none")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert (tmp_path / "out.onnx").exists()


def test_verbose_shows_what_was_missed_and_twice_everything(cli: Cli, net: Path, tmp_path: Path) -> None:
    pipeline = "identities,dead-nodes,weight-int8{min-elements=9999}"
    command = ("optimize", net, "-o", tmp_path / "out.onnx", "--validate", "none", "-p", pipeline)
    short, more, most = (cli(*command, *extra).out for extra in ((), ("-v",), ("-vv",)))
    missed = "weight-int8 quantize on w because it has 3072 elements, fewer than min-elements=9999"
    assert missed not in short
    assert missed in more
    assert "identities:1" not in more
    assert "identities:1" in most


def test_nothing_to_do_copies_the_input(cli: Cli, tidy: Path, tmp_path: Path) -> None:
    ran = cli("optimize", tidy, "-o", tmp_path / "out.onnx")
    assert ran.code == 0
    assert "nothing to change" in ran.out
    assert (tmp_path / "out.onnx").read_bytes() == tidy.read_bytes()


def test_require_change_makes_that_a_failure(cli: Cli, tidy: Path, tmp_path: Path) -> None:
    ran = cli("optimize", tidy, "-o", tmp_path / "out.onnx", "--require-change")
    assert ran.code == 1
    assert ran.sentence == "nothing was changed, and --require-change asks for a change; nothing was written"
    assert not (tmp_path / "out.onnx").exists()


def test_in_place_replaces_the_input(cli: Cli, net: Path) -> None:
    assert cli("optimize", net, "--in-place").code == 0
    assert operators(net) == ["MatMul", "Relu"]


def test_a_recipe_s_budget_holds_and_a_flag_overrides_it(cli: Cli, net: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    kept = cli("optimize", net, "-o", out, "--recipe", "int8-weights", "--json")
    assert kept.code == 0
    assert [one["budget"] for one in kept.json["verdict"]["budgets"]] == ["sqnr_db>=20"]
    other = cli("optimize", net, "-o", out, "--recipe", "int8-weights", "--budget", "cosine>=0.9", "--json")
    assert [one["budget"] for one in other.json["verdict"]["budgets"]] == ["cosine>=0.9"]


def test_over_budget_says_the_figure_and_writes_nothing(cli: Cli, net: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    out.write_bytes(b"what stood here")
    ran = cli("optimize", net, "-o", out, "--recipe", "int8-weights", "--budget", "sqnr_db>=200")
    assert ran.code == 1
    assert "where sqnr_db>=200 was asked for" in ran.out
    assert "nothing was written" in ran.out
    assert out.read_bytes() == b"what stood here"


def test_keep_writes_it_all_the_same(cli: Cli, net: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    ran = cli("optimize", net, "-o", out, "--recipe", "int8-weights", "--budget", "sqnr_db>=200", "--keep")
    assert ran.code == 1
    assert "despite the verdict (--keep)" in ran.out
    assert "DequantizeLinear" in operators(out)


def test_could_not_tell_has_its_own_exit_code_and_writes_nothing(cli: Cli, random: Path, tmp_path: Path) -> None:
    ran = cli("optimize", random, "-o", tmp_path / "out.onnx")
    assert ran.code == 6
    assert "could not tell" in ran.out
    assert not (tmp_path / "out.onnx").exists()


def test_a_model_that_hangs_could_not_be_told_about(cli: Cli, tmp_path: Path) -> None:
    text = """g (float[2] x) => (float[2] y) {
      n = Constant<value = int64 {2000000000}>()  c = Constant<value = bool {1}>()  a = Identity(x)
      y = Loop(n, c, a) <body = b (int64 i, bool k, float[2] v) => (bool l, float[2] w) { l = Identity(k)  w = Sin(v) }>
    }"""
    onnx.save(model(text), tmp_path / "slow.onnx")
    ran = cli("optimize", tmp_path / "slow.onnx", "-o", tmp_path / "out.onnx", "--timeout", "0.5")
    assert ran.code == 6
    assert "no answer within 0.5 s" in ran.out


def test_validation_that_is_switched_off_is_said_so(cli: Cli, random: Path, tmp_path: Path) -> None:
    ran = cli("optimize", random, "-o", tmp_path / "out.onnx", "--validate", "none")
    assert ran.code == 0
    assert "not validated: validation was switched off" in ran.out


def test_validate_each_shows_each_step(cli: Cli, net: Path, tmp_path: Path) -> None:
    command = ("optimize", net, "-o", tmp_path / "out.onnx", "--recipe", "int8-weights", "--validate", "each", "--json")
    steps = cli(*command).json["step_verdicts"]
    assert [one["step"].split("{")[0] for one in steps] == ["repeat", "weight-int8"]
    assert all(one["verdict"]["passed"] for one in steps)


def test_feeds_labels_and_metric(cli: Cli, net: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((32, 64)).astype(np.float32)
    np.savez(tmp_path / "feeds.npz", x=x)
    np.save(tmp_path / "labels.npy", np.maximum(x @ WEIGHT, 0).argmax(-1))
    data = ("--feeds", tmp_path / "feeds.npz", "--labels", tmp_path / "labels.npy", "--metric", "top1")
    recipe = ("--recipe", "int8-weights", "--budget", "top1_drop<=0.1")
    ran = cli("optimize", net, "-o", tmp_path / "out.onnx", *recipe, *data, "--json")
    assert ran.code == 0
    assert ran.json["verdict"]["metric"]["name"] == "top1"
    assert ran.json["verdict"]["metric"]["before"] == 1.0
    assert ran.json["verdict"]["feeds"]["generated"] is False


def test_dims_and_input_values_pin_generated_feeds(cli: Cli, net: Path, tmp_path: Path) -> None:
    ran = cli("optimize", net, "-o", tmp_path / "out.onnx", "--dim", "N=5", "--input-value", "x=0.5", "--json")
    assert ran.json["verdict"]["feeds"]["shapes"] == ["x[5,64]"]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (("--disable", "identities"), ["Identity", "MatMul", "Relu"]),
        (("--disable", "dead-nodes:1"), ["MatMul", "Relu", "Exp"]),
        (("--only", "identities"), ["MatMul", "Relu", "Exp"]),
        (("--until", "identities"), ["MatMul", "Relu", "Exp"]),
        (("--limit", "0"), ["Identity", "MatMul", "Relu", "Exp"]),
        (("--limit", "1"), ["MatMul", "Relu", "Exp"]),
    ],
)
def test_which_rewrites_happen(cli: Cli, net: Path, tmp_path: Path, options: tuple[str, ...], left: list[str]) -> None:
    assert cli("optimize", net, "-o", tmp_path / "out.onnx", "--validate", "none", *options).code == 0
    assert operators(tmp_path / "out.onnx") == left


def test_snapshots(cli: Cli, net: Path, tmp_path: Path) -> None:
    options = ("--recipe", "clean", "--validate", "none", "--snapshots", tmp_path / "steps")
    cli("optimize", net, "-o", tmp_path / "out.onnx", *options)
    assert sorted(path.name for path in (tmp_path / "steps").iterdir()) == [
        "000-input.txt", "001-identities.onnx", "001-identities.txt", "002-dead-nodes.onnx", "002-dead-nodes.txt",
    ]  # fmt: skip


def test_latency_is_measured_when_asked_for(cli: Cli, net: Path, tmp_path: Path) -> None:
    ran = cli("optimize", net, "-o", tmp_path / "out.onnx", "--latency", "--json")
    assert 0 < ran.json["latency"]["ratio"] < 100
    assert ran.json["latency"]["pairs"] >= 1


def test_the_report_file_replaces_an_older_one_and_keeps_its_permissions(cli: Cli, net: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    report.write_text("older")
    report.chmod(0o640)
    cli("optimize", net, "-o", tmp_path / "out.onnx", "--validate", "none", "--report", report)
    assert json.loads(report.read_text())["format"] == 1
    assert report.stat().st_mode & 0o777 == 0o640


def test_names_of_a_model_cannot_forge_lines_or_colours_of_the_report(cli: Cli, tmp_path: Path) -> None:
    made = model("g (float[2] x) => (float[2] y) { y = Identity(x) }")
    made.graph.node[0].name = "n\n  ✓ outputs equivalent\x1b[32m [red]x[/red] :smile:"
    onnx.save(made, tmp_path / "odd.onnx")
    ran = cli("optimize", tmp_path / "odd.onnx", "-o", tmp_path / "out.onnx", "--validate", "none", "-vv")
    assert r"n\n  ✓ outputs equivalent\x1b[32m [red]x[/red] :smile:" in ran.out
    assert "\x1b" not in ran.out


def test_a_model_beside_its_external_data(cli: Cli, net: Path, tmp_path: Path) -> None:
    folder = tmp_path / "split"
    folder.mkdir()
    onnx.save(onnx.load(net), folder / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    ran = cli("optimize", folder / "m.onnx", "-o", folder / "out.onnx")
    assert ran.code == 0
    assert operators(folder / "out.onnx") == ["MatMul", "Relu"]
    refused = cli("optimize", folder / "m.onnx", "-o", folder / "new.onnx", "--report", folder / "m.data")
    assert refused.sentence.endswith("this is external data of the input; choose another file for the report")
    shutil.rmtree(folder)

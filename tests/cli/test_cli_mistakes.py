"""Mistakes on the command line: one sentence each, exit code 2, and nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_lines import Cli

OUT = ("-o", "OUT")

MISTAKES: list[tuple[tuple[str, ...], str]] = [
    ((), "name the output with -o OUT, or say --in-place to replace the input"),
    ((*OUT, "--in-place"), "give either -o OUT or --in-place, not both"),
    (("-o", "IN"), "'IN' is the input itself; choose another output, or say --in-place to replace it"),
    (("-o", "nowhere/out.onnx"), "cannot write 'nowhere/out.onnx': there is no folder 'TMP/nowhere'; create it first"),
    (("-o", "."), "cannot write '.': it is a directory; name a file in it"),
    (("-o",), "option '-o' requires an argument; see `graphopt optimize --help`"),
    ((*OUT, "extra"), "there are 2 models; name the folder of their results with --out-dir DIR"),
    ((*OUT, "--recpie", "clean"), "there is no option --recpie; did you mean '--recipe'?"),
    ((*OUT, "--xyzzy"), "there is no option --xyzzy; see `graphopt optimize --help`"),
    ((*OUT, "--recipe", "clean", "-p", "dead-nodes"), "give either a recipe or a pipeline, not both"),
    ((*OUT, "--recipe", "claen"), "no recipe is called 'claen'; did you mean 'clean'?"),
    ((*OUT, "--target", "onnx"), "--target expects portable, onnxruntime, tensorrt, openvino or qnn, not 'onnx'"),
    (
        (*OUT, "--target", "qnn", "--recipe", "clean"),
        "the recipe clean has no pipeline for the target qnn; it has portable",
    ),
    ((*OUT, "--recipe", "no.toml"), "recipe 'no.toml' does not exist"),
    ((*OUT, "-p", "dead-node"), "pipeline, column 1: no pass is called 'dead-node'; did you mean 'dead-nodes'?"),
    (
        (*OUT, "-p", "weight-int8"),
        "the pass weight-int8 is LOSSY and needs a budget, for example --budget 'sqnr_db>=30'",
    ),
    ((*OUT, "--limit", "-1"), "--limit expects a whole number of zero or more, not '-1'"),
    ((*OUT, "--limit", "1.5"), "--limit expects a whole number of zero or more, not '1.5'"),
    ((*OUT, "--limit", "٣"), "--limit expects a whole number of zero or more, not '٣'"),
    ((*OUT, "--seed", "-1"), "--seed expects a whole number of zero or more, not '-1'"),
    ((*OUT, "--seed", "1" * 30), f"--seed expects a whole number of zero or more, not '{'1' * 30}'"),
    ((*OUT, "--timeout", "0"), "--timeout expects seconds, a number greater than zero, not '0'"),
    ((*OUT, "--timeout", "inf"), "--timeout expects seconds, a number greater than zero, not 'inf'"),
    ((*OUT, "--timeout", "soon"), "--timeout expects seconds, a number greater than zero, not 'soon'"),
    ((*OUT, "--memory", "lots"), "--memory expects a size such as 512MB, 2GB or a number of bytes, not 'lots'"),
    ((*OUT, "--memory", "-2GB"), "--memory expects a size such as 512MB, 2GB or a number of bytes, not '-2GB'"),
    ((*OUT, "--memory", "2iB"), "--memory expects a size such as 512MB, 2GB or a number of bytes, not '2iB'"),
    ((*OUT, "--memory", "0"), "--memory expects a size such as 512MB, 2GB or a number of bytes, not '0'"),
    ((*OUT, "--dim", "N=some"), "--dim N=some needs a whole number of zero or more, for example N=4"),
    ((*OUT, "--dim", "N"), "--dim 'N' is not of the form NAME=VALUE, for example batch=4"),
    ((*OUT, "--dim", "N=2", "--dim", "N=3"), "--dim names the same one twice: N=2, N=3; keep one of them"),
    ((*OUT, "--input-value", "x"), "--input-value 'x' is not of the form NAME=VALUE, for example sr=16000"),
    (
        (*OUT, "--feeds", "f.npz", "--dim", "N=2"),
        "--input-value and --dim pin generated feeds; leave them out when giving --feeds",
    ),
    ((*OUT, "--labels", "l.npy"), "--labels needs --feeds, the inputs that the labels belong to"),
    (
        (*OUT, "--metric", "top2"),
        "there is no metric 'top2'; the metrics are top1, agreement, or module:function of your own",
    ),
    (
        (*OUT, "--metric", "top1"),
        "the metric top1 needs labels; give --labels, or use agreement, which needs none",
    ),
    ((*OUT, "--feeds", "f.npz"), "there is no file 'f.npz'; give an .npz file"),
    ((*OUT, "--budget", "sqnr>=20"), "the budget 'sqnr>=20' names an unknown metric 'sqnr'; did you mean 'sqnr_db'?"),
    (
        (*OUT, "--budget", "sqnr_db>=20", "--budget", "sqnr_db>=30"),
        "the metric 'sqnr_db' has two budgets, sqnr_db>=20 and sqnr_db>=30; keep one",
    ),
    ((*OUT, "--validate", "eech"), "--validate expects end, segments, each or none, not 'eech'; did you mean 'each'?"),
    ((*OUT, "--on-error", "go"), "--on-error expects stop or skip, not 'go'"),
    ((*OUT, "--only", "identites"), "--only identites: the pipeline has no such pass; did you mean 'identities'?"),
    (
        (*OUT, "--recipe", "clean", "--until", "weight-int8"),
        "--until weight-int8: the pipeline has no such pass; it has dead-nodes, identities, unused-initializers",
    ),
    (
        (*OUT, "--disable", "deadnodes:1"),
        "--disable deadnodes: the pipeline has no such pass; did you mean 'dead-nodes'?",
    ),
    ((*OUT, "--disable", "dead-nodes:0"), "--disable dead-nodes:0: '0' is not the number of a rewrite (1, 2, ...)"),
    ((*OUT, "--disable", "dead-nodes:x"), "--disable dead-nodes:x: 'x' is not the number of a rewrite (1, 2, ...)"),
    ((*OUT, "--report", "."), "--report .: this is a folder; name a file in it"),
    ((*OUT, "--report", "OUT"), "--report OUT: this is the output; choose another file for the report"),
    ((*OUT, "--report", "IN"), "--report IN: this is the input; choose another file for the report"),
    (
        (*OUT, "--feeds", "full/file", "--report", "full/file"),
        "--report full/file: this is the file of --feeds; choose another file for the report",
    ),
    (("-o", "full/file", "--feeds", "full/file"), "-o full/file: this is the file of --feeds; choose another output"),
    ((*OUT, "--report", "no/r.json"), "--report no/r.json: there is no folder 'no'; create it first"),
    ((*OUT, "--report", "/dev/null"), "--report /dev/null: this is not a regular file"),
    ((*OUT, "--html", "."), "--html .: this is a folder; name a file in it"),
    ((*OUT, "--html", "OUT"), "--html OUT: this is the output; choose another file for the page"),
    ((*OUT, "--html", "IN"), "--html IN: this is the input; choose another file for the page"),
    (
        (*OUT, "--report", "r", "--html", "full/../r"),
        "--html full/../r: this is the file of --report; choose another file for the page",
    ),
    ((*OUT, "--html", "no/r.html"), "--html no/r.html: there is no folder 'no'; create it first"),
    ((*OUT, "--html", "/dev/null"), "--html /dev/null: this is not a regular file"),
    (
        (*OUT, "--snapshots", "full"),
        "--snapshots full: the folder holds other files; name an empty or a new one",
    ),
    ((*OUT, "--custom-ops", "ops.so"), "there is no custom operator library 'TMP/ops.so'"),
]


@pytest.fixture(autouse=True)
def here(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder holds IN and a folder `full` that is not empty."""
    net.rename(tmp_path / "IN")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("options", "sentence"), MISTAKES, ids=[" ".join(one) or "no output" for one, _ in MISTAKES])
def test_a_mistake_is_one_sentence(cli: Cli, tmp_path: Path, options: tuple[str, ...], sentence: str) -> None:
    ran = cli("optimize", "IN", *options)
    assert ran.code == 2
    assert ran.sentence.replace(str(tmp_path.resolve()), "TMP") == sentence
    assert sorted(path.name for path in tmp_path.iterdir()) == ["IN", "full"]


@pytest.mark.parametrize(("options", "sentence"), MISTAKES[:8])
def test_with_json_it_is_one_object(cli: Cli, tmp_path: Path, options: tuple[str, ...], sentence: str) -> None:
    ran = cli("optimize", "--json", "IN", *options)
    assert (ran.code, ran.err) == (2, "")
    assert ran.json["exit_code"] == 2
    assert ran.json["error"].replace(str(tmp_path.resolve()), "TMP") == sentence


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("optimise", "IN"), "there is no sub-command 'optimise'; did you mean 'optimize'?"),
        (("frobnicate",), "there is no sub-command 'frobnicate'; see `graphopt --help`"),
        (("--verison",), "there is no option --verison; did you mean '--version'?"),
        (("optimize",), "missing argument 'IN'; see `graphopt optimize --help`"),
        (("validate", "IN"), "missing argument 'B'; see `graphopt validate --help`"),
        (
            ("validate", "IN", "IN", "--contract", "exakt"),
            "--contract expects exact, rounding or lossy, not 'exakt'; did you mean 'exact'?",
        ),
        (
            ("validate", "IN", "IN", "--contract", "lossy"),
            "lossy passes need a budget, for example --budget 'sqnr_db>=30'",
        ),
        (("validate", "IN", "IN", "--seed", "x"), "--seed expects a whole number of zero or more, not 'x'"),
        (("validate", "IN", "IN", "--labels", "x"), "--labels needs --feeds, the inputs that the labels belong to"),
        (("demo", "--recipe", "int8-weight"), "no recipe is called 'int8-weight'; did you mean 'int8-weights'?"),
        (("explain", "dead-node"), "no pass is called 'dead-node'; did you mean 'dead-nodes'?"),
        (("explain", "cleen"), "no pass or recipe is called 'cleen'; did you mean 'clean'?"),
        (
            ("explain", "xyzzy"),
            "no pass or recipe is called 'xyzzy': `graphopt passes` lists them, and for a node of a model "
            "give the --report of its run",
        ),
        (
            ("explain", "x", "--report", "no.json"),
            "report 'no.json' does not exist; `graphopt optimize --report FILE` writes one",
        ),
    ],
)
def test_mistakes_of_the_other_sub_commands(cli: Cli, arguments: tuple[str, ...], sentence: str) -> None:
    ran = cli(*arguments)
    assert ran.code == 2
    assert ran.sentence == sentence


@pytest.mark.parametrize(
    ("text", "number"),
    [("2GB", 2 * 10**9), ("512mb", 512 * 10**6), ("1.5 GiB", 3 << 29), ("4096", 4096), ("64k", 64_000), ("7B", 7)],
)
def test_sizes(text: str, number: int) -> None:
    from graphopt.cli.options import size

    assert size("--memory", text) == number

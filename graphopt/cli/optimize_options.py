"""The options that only `optimize` has."""

from __future__ import annotations

from typing import Annotated

import typer

from graphopt.cli.options import CHOOSE, JUDGE, RUN, SHOW, WRITE, one_of, passes

BATCH = "Many models"

VALIDATE = ("end", "segments", "each", "none")
ON_ERROR = ("stop", "skip")
TARGETS = ("portable", "onnxruntime", "tensorrt", "openvino", "qnn")

In = Annotated[
    list[str],
    typer.Argument(
        metavar="IN", help="the ONNX model to optimize; it is only read. Several, or a folder, with --out-dir"
    ),
]
OutDir = Annotated[
    str | None,
    typer.Option(
        "--out-dir",
        metavar="DIR",
        help="optimize each of several models, of folders or patterns (URLs too), into a folder, with a manifest",
        rich_help_panel=BATCH,
    ),
]
Workers = Annotated[
    str,
    typer.Option("--workers", metavar="N", help="processes that models run in; 1 unless given", rich_help_panel=BATCH),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="a Dask scheduler, as tcp://host:8786, whose workers do it; local starts one (extra cluster)",
        rich_help_panel=BATCH,
    ),
]
Retries = Annotated[
    str,
    typer.Option(
        "--retries",
        metavar="N",
        help="attempts more for a model whose worker dies; 1 unless given",
        rich_help_panel=BATCH,
    ),
]
Out = Annotated[
    str | None, typer.Option("-o", "--output", metavar="OUT", help="where to write the result", rich_help_panel=WRITE)
]
InPlace = Annotated[bool, typer.Option("--in-place", help="replace IN by the result", rich_help_panel=WRITE)]
Ort = Annotated[
    str | None,
    typer.Option(
        "--ort",
        metavar="FILE.ort",
        help="also write the result in onnxruntime's own format, for its mobile and reduced builds, and the operators "
        "that it needs to FILE.required_operators.config",
        rich_help_panel=WRITE,
    ),
]
Keep = Annotated[
    bool, typer.Option("--keep", help="write the result even when it is not equivalent", rich_help_panel=WRITE)
]
RequireChange = Annotated[
    bool, typer.Option("--require-change", help="exit with 1 when nothing was changed", rich_help_panel=WRITE)
]
Snapshots = Annotated[
    str | None,
    typer.Option(
        "--snapshots",
        metavar="DIR",
        help="write the model after each pass that changed it to an empty or new folder",
        rich_help_panel=WRITE,
    ),
]
ReportFile = Annotated[
    str | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="write everything that is known about the run as JSON; `graphopt explain NODE --report FILE` reads it",
        rich_help_panel=WRITE,
    ),
]
RemarksFile = Annotated[
    str | None,
    typer.Option(
        "--remarks",
        metavar="FILE",
        help="write what each pass did, and nearly did and why not, as one JSON object a line",
        rich_help_panel=WRITE,
    ),
]
Bundle = Annotated[
    str | None,
    typer.Option(
        "--bundle",
        metavar="FILE",
        help="pack the run (model, feeds, options, hashes after each pass) for `graphopt replay`",
        rich_help_panel=WRITE,
    ),
]
BundleOnFailure = Annotated[
    str | None,
    typer.Option(
        "--bundle-on-failure",
        metavar="FILE",
        help="the same, but only when a pass fails or the result does not hold",
        rich_help_panel=WRITE,
    ),
]
NoWeights = Annotated[
    bool,
    typer.Option(
        "--no-weights", help="leave the model out of the bundle, its text and the feeds aside", rich_help_panel=WRITE
    ),
]
RemarksFor = Annotated[
    str | None,
    typer.Option(
        "--remarks-for",
        metavar="PATTERN",
        help="show the remarks whose pass, rule, node or operator fits, as 'batchnorm*'",
        rich_help_panel=SHOW,
    ),
]
HtmlFile = Annotated[
    str | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="write a page that shows every rewrite before and after; one file that needs no network",
        rich_help_panel=WRITE,
    ),
]
PipelineText = Annotated[
    str | None,
    typer.Option(
        "-p",
        "--pipeline",
        metavar="PIPELINE",
        help="passes instead of a recipe, as 'repeat(identities,dead-nodes),weight-int8{min-elements=256}'",
        rich_help_panel=RUN,
    ),
]
TargetOf = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="TARGET",
        help="what the result is for: portable (standard ONNX, any runtime; unless given), onnxruntime (its CPU, "
        "with operators that only it has), or, for recipes that quantize, tensorrt, openvino or qnn",
        rich_help_panel=RUN,
        autocompletion=one_of(*TARGETS),
    ),
]
ConstantInputs = Annotated[
    bool,
    typer.Option(
        "--constant-inputs",
        help="first make inputs that have a default value constants, as weights are: callers can no longer feed them",
        rich_help_panel=RUN,
    ),
]
Student = Annotated[
    str | None,
    typer.Option(
        "--student",
        metavar="FILE",
        help="a smaller model with the same inputs and outputs: the passes start from it, and IN is what it learns "
        "from and is validated against",
        rich_help_panel=RUN,
    ),
]
SensitivityFile = Annotated[
    str | None,
    typer.Option(
        "--sensitivity",
        metavar="FILE",
        help="the table that `graphopt sensitivity --table FILE` wrote: planning measures less with it, "
        "and channels go where the outputs lose little",
        rich_help_panel=RUN,
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="GOAL",
        help="how far to prune: latency=0.7, macs=0.8 or bytes=0.5 of the original's, or budget, as far as that "
        "allows; all that pruning passes take is turned by one factor",
        rich_help_panel=RUN,
    ),
]
Until = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="PASS",
        help="stop after this pass has run once",
        rich_help_panel=CHOOSE,
        autocompletion=passes,
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="PASS",
        help="run this pass only; repeatable",
        rich_help_panel=CHOOSE,
        autocompletion=passes,
    ),
]
Disable = Annotated[
    list[str] | None,
    typer.Option(
        "--disable",
        metavar="PASS[:REWRITE]",
        help="leave out a pass, or one of its rewrites by the number that the report gives it; repeatable",
        rich_help_panel=CHOOSE,
        autocompletion=passes,
    ),
]
Limit = Annotated[
    str | None,
    typer.Option("--limit", metavar="N", help="carry out at most N rewrites in all", rich_help_panel=CHOOSE),
]
OnErrorOf = Annotated[
    str,
    typer.Option(
        "--on-error",
        metavar="stop|skip",
        help="when a pass fails: stop, or go on without it; stop unless given",
        rich_help_panel=CHOOSE,
        autocompletion=one_of(*ON_ERROR),
    ),
]
ValidateWhen = Annotated[
    str,
    typer.Option(
        "--validate",
        metavar="end|segments|each|none",
        help="compare outputs at the end, with the models run a segment at a time, after each step too, or not at "
        "all; end unless given, by segments where the model would not fit in memory",
        rich_help_panel=JUDGE,
        autocompletion=one_of(*VALIDATE),
    ),
]
Latency = Annotated[
    bool, typer.Option("--latency", help="measure the latency of input and result", rich_help_panel=SHOW)
]

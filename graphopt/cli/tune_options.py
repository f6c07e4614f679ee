"""The options that only `tune` has."""

from __future__ import annotations

from typing import Annotated

import typer

from graphopt.cli.optimize_options import TARGETS
from graphopt.cli.options import JUDGE, LIMIT, RUN, WRITE, one_of

SEARCH = "Search"

MINIMIZE = ("size", "latency", "energy-proxy")

In = Annotated[str, typer.Argument(metavar="MODEL", help="the ONNX model to find a pipeline for; it is only read")]
Out = Annotated[
    str | None,
    typer.Option(
        "-o", "--output", metavar="OUT", help="where to write the model that was chosen", rich_help_panel=WRITE
    ),
]
RecipeOut = Annotated[
    str | None,
    typer.Option(
        "--recipe-out",
        metavar="FILE",
        help="write a recipe that makes the chosen model again without a search, for `graphopt optimize --recipe FILE`",
        rich_help_panel=WRITE,
    ),
]
ReportFile = Annotated[
    str | None,
    typer.Option(
        "--report", metavar="FILE", help="write every candidate with its figures as JSON", rich_help_panel=WRITE
    ),
]
For = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="mobile|edge|server-cpu|gpu",
        help="what is taken for granted of target and objective where --target and --minimize do not say; "
        "the report has it in sentences",
        rich_help_panel=SEARCH,
        autocompletion=one_of("mobile", "edge", "server-cpu", "gpu"),
    ),
]
HtmlFile = Annotated[
    str | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="write a page that shows the front, every candidate and the recipe; one file that needs no network",
        rich_help_panel=WRITE,
    ),
]
Minimize = Annotated[
    str | None,
    typer.Option(
        "--minimize",
        metavar="size|latency|energy-proxy",
        help="what is made small: bytes of the file, time against the original's, or what arithmetic and memory "
        "traffic would take; size unless given",
        rich_help_panel=SEARCH,
        autocompletion=one_of(*MINIMIZE),
    ),
]
BudgetOf = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="BUDGET",
        help="what must be kept, as 'top1_drop<=0.005' or 'sqnr_db>=30'; one of the outputs at least; repeatable",
        rich_help_panel=JUDGE,
    ),
]
TargetOf = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="TARGET",
        help="what the result is for, as for `optimize`: portable unless given, onnxruntime, tensorrt, openvino, qnn",
        rich_help_panel=RUN,
        autocompletion=one_of(*TARGETS),
    ),
]
Tries = Annotated[
    list[str] | None,
    typer.Option(
        "--try",
        metavar="PIPELINE|RECIPE",
        help="begin with this pipeline or recipe instead of with all that fits the model; repeatable",
        rich_help_panel=SEARCH,
    ),
]
Minutes = Annotated[
    str,
    typer.Option(
        "--minutes",
        metavar="M",
        help="of search, then the best so far is taken; 15 unless given",
        rich_help_panel=SEARCH,
    ),
]
Generations = Annotated[
    str,
    typer.Option(
        "--generations",
        metavar="N",
        help="at most; 1 tries what comes first and nothing made of it; 12 unless given",
        rich_help_panel=SEARCH,
    ),
]
Workers = Annotated[
    str,
    typer.Option(
        "--workers",
        metavar="N",
        help="processes that candidates are tried in; 1 unless given. The result does not depend on it",
        rich_help_panel=SEARCH,
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="a Dask scheduler, as tcp://host:8786, whose workers see the same files; local starts one (extra cluster)",
        rich_help_panel=SEARCH,
    ),
]
JournalFile = Annotated[
    str | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        help="keep each candidate's verdict as a line of JSON; in the user's folder of caches unless given",
        rich_help_panel=LIMIT,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="go on from the journal: what was tried on this model and these feeds is not tried again",
        rich_help_panel=LIMIT,
    ),
]

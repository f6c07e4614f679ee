"""The options that sub-commands share, and the values that their texts stand for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphopt.errors import UsageError
from graphopt.limits import Limits, limited, size_of

if TYPE_CHECKING:
    from graphopt.validation.plan import FeedPlan

RUN = "What to run"
JUDGE = "Validation"
CHOOSE = "Which rewrites"
WRITE = "Output"
LIMIT = "Limits"
SHOW = "Report"


def recipes(incomplete: str) -> list[str]:
    """The recipes whose names begin with what was typed, for shell completion."""
    from graphopt.pipeline.recipe import Recipe

    return [name for name in Recipe.list() if name.startswith(incomplete)]


def passes(incomplete: str) -> list[str]:
    """The passes whose names begin with what was typed, for shell completion."""
    from graphopt.pipeline.registry import Registry

    return [name for name in Registry.load().names() if name.startswith(incomplete)]


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Completion for an option of a few words."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="print one JSON object with the same facts", rich_help_panel=SHOW)]
Verbose = Annotated[int, typer.Option("-v", "--verbose", count=True, help="show more: -v, -vv", rich_help_panel=SHOW)]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="print nothing but errors", rich_help_panel=SHOW)]
Debug = Annotated[bool, typer.Option("--debug", help="show a traceback when something fails", rich_help_panel=SHOW)]

Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE",
        help="a built-in recipe (`graphopt passes` lists them), or a TOML file; default unless given",
        rich_help_panel=RUN,
        autocompletion=recipes,
    ),
]
Feeds = Annotated[
    str | None,
    typer.Option(
        "--feeds",
        metavar="FEEDS",
        help="inputs to compare on: an .npz file, a folder of them, or module:function; generated unless given",
        rich_help_panel=JUDGE,
    ),
]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        metavar="FEEDS",
        help="inputs that passes learn from, as for --feeds, whose first half they are unless given",
        rich_help_panel=JUDGE,
    ),
]
CacheDir = Annotated[
    str | None,
    typer.Option(
        "--cache-dir",
        metavar="DIR",
        help="keep what passes learn from samples in a folder, and use what is there of earlier runs",
        rich_help_panel=LIMIT,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="the same in the user's folder of caches, so that a run that was stopped goes on where it was",
        rich_help_panel=LIMIT,
    ),
]
LabelsOf = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="LABELS",
        help="the right answers for --feeds: an .npy file, an .npz file, or FILE.npz:ARRAY",
        rich_help_panel=JUDGE,
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="METRIC",
        help="measured before and after: top1, agreement, or module:function; higher is better",
        rich_help_panel=JUDGE,
        autocompletion=one_of("top1", "agreement"),
    ),
]
BudgetOf = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="BUDGET",
        help="how far lossy passes may go, as 'sqnr_db>=30' or 'top1_drop<=0.005'; instead of the recipe's; repeatable",
        rich_help_panel=JUDGE,
    ),
]
InputValues = Annotated[
    list[str] | None,
    typer.Option(
        "--input-value",
        metavar="NAME=VALUE",
        help="fix an input of generated feeds, as sr=16000; repeatable",
        rich_help_panel=JUDGE,
    ),
]
Dims = Annotated[
    list[str] | None,
    typer.Option(
        "--dim",
        metavar="NAME=SIZE",
        help="fix a symbolic dimension of generated feeds, as batch=4; repeatable",
        rich_help_panel=JUDGE,
    ),
]
Seed = Annotated[
    str,
    typer.Option("--seed", metavar="N", help="of generated feeds; 0 unless given", rich_help_panel=JUDGE),
]
CustomOps = Annotated[
    list[str] | None,
    typer.Option(
        "--custom-ops",
        metavar="LIB",
        help="a library of custom operators, which only the worker process loads; repeatable",
        rich_help_panel=JUDGE,
    ),
]
AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code",
        help="run the code that a recipe or bundle names: scripts, commands, functions, libraries",
        rich_help_panel=LIMIT,
    ),
]
Timeout = Annotated[
    str,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        help="for each request to onnxruntime's worker process; 600 unless given",
        rich_help_panel=LIMIT,
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="that models may take in the worker, as 2GB or 512MB; nine tenths of what is free unless given",
        rich_help_panel=LIMIT,
    ),
]


def _limit(ctx: typer.Context, given: list[str] | None) -> None:
    if given:
        ctx.with_resource(limited(Limits.parse(given)))


Max = Annotated[
    list[str] | None,
    typer.Option(
        "--max",
        metavar="LIMIT=N",
        callback=_limit,
        expose_value=False,
        help="move a limit on what a model may make graphopt hold or do, as fold-bytes=64MB; "
        "`graphopt explain limits` lists them; repeatable",
        rich_help_panel=LIMIT,
    ),
]
"""Holds for all that the sub-command does, so that none of them hands it on."""

MadeBy = Annotated[
    str | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="what `optimize --report FILE` wrote when it made B from A",
        rich_help_panel=JUDGE,
    ),
]


def whole(flag: str, text: str) -> int:
    """The whole number of zero or more that `text` is; UsageError otherwise."""
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise UsageError(f"{flag} expects a whole number of zero or more, not {text!r}")
    return int(text)


def positive(flag: str, text: str) -> int:
    """The whole number from 1 to 1024 that `text` is; UsageError otherwise."""
    number = whole(flag, text)
    if not 1 <= number <= 1024:
        raise UsageError(f"{flag} expects a whole number from 1 to 1024, not {text!r}")
    return number


def _number(text: str) -> float:
    """The number that `text` is in plain digits; NaN for anything else."""
    if not text.isascii() or "_" in text:
        return math.nan
    try:
        return float(text)
    except ValueError:
        return math.nan


def seconds(flag: str, text: str) -> float:
    """The seconds that `text` gives, more than zero; UsageError otherwise. So do other units of time."""
    number = _number(text)
    if not (math.isfinite(number) and number > 0):
        unit = flag.lstrip("-") if flag == "--minutes" else "seconds"
        raise UsageError(f"{flag} expects {unit}, a number greater than zero, not {text!r}")
    return number


def decibels(flag: str, text: str) -> float:
    """The decibels that `text` gives, any finite number; UsageError otherwise."""
    number = _number(text)
    if not math.isfinite(number):
        raise UsageError(f"{flag} expects decibels, a number such as 40, not {text!r}")
    return number


def numbers(flag: str, text: str) -> list[float]:
    """The finite numbers that a text such as 0.01,0.1 gives; UsageError for anything else."""
    found = [_number(one) for one in text.split(",")]
    if not all(math.isfinite(one) for one in found):
        raise UsageError(f"{flag} expects numbers with commas between them, such as 0.01,0.1, not {text!r}")
    return found


def size(flag: str, text: str | None) -> int | None:
    """Bytes from a text such as 512MB, 2GB, 1.5GiB or 1000000; UsageError for anything else, and for none at all."""
    if text is None:
        return None
    number = size_of(text)
    if number is None:
        raise UsageError(f"{flag} expects a size such as 512MB, 2GB or a number of bytes, not {text!r}")
    return number


def choice(flag: str, text: str, words: Sequence[str]) -> Any:
    """`text`, which must be one of `words`; UsageError with the nearest of them otherwise."""
    if text in words:
        return text
    from graphopt.pipeline.nearest import did_you_mean

    raise UsageError(f"{flag} expects {', '.join(words[:-1])} or {words[-1]}, not {text!r}{did_you_mean(text, words)}")


def cache(folder: str | None, resume: bool) -> Path | None:
    """The folder of --cache-dir, or the one of --resume."""
    if folder is not None:
        return Path(folder)
    if not resume:
        return None
    from graphopt.calibration.cache import default_folder

    return default_folder()


def learned(calibration: str | None) -> FeedPlan | None:
    """The feeds of --calibration, if there are any."""
    from graphopt.validation.plan import FeedPlan

    return None if calibration is None else FeedPlan(calibration)


def feed_plan(
    feeds: str | None, labels: str | None, values: Sequence[str] | None, dims: Sequence[str] | None
) -> FeedPlan:
    """What the user said about inputs; UsageError for what does not go together."""
    from graphopt.validation.pins import parse_sizes, parse_values
    from graphopt.validation.plan import FeedPlan

    if labels is not None and feeds is None:
        raise UsageError("--labels needs --feeds, the inputs that the labels belong to")
    plan = FeedPlan(feeds, parse_values(values or ()), parse_sizes(dims or ()))
    for flag, given, read in (("--input-value", values, plan.values), ("--dim", dims, plan.sizes)):
        if len(given or ()) != len(read):
            raise UsageError(f"{flag} names the same one twice: {', '.join(given or ())}; keep one of them")
    if feeds is not None and (plan.values or plan.sizes):
        raise UsageError("--input-value and --dim pin generated feeds; leave them out when giving --feeds")
    return plan

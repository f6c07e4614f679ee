"""Several models in one call of `graphopt optimize`: its command line again for each, in a worker of its own."""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import typer

from graphopt.cli.output import Output
from graphopt.cli.signals import ending
from graphopt.errors import InternalError, UsageError

if TYPE_CHECKING:
    from graphopt.scale.manifest import Row

_ITS_OWN = {"models", "out_dir", "workers", "cluster", "retries", "resume", "json", "verbose", "quiet", "debug"}
_OF_ONE = (
    "out",
    "in_place",
    "ort",
    "report",
    "html",
    "remarks",
    "bundle",
    "bundle_on_failure",
    "snapshots",
    "remarks_for",
)
_LONGEST = 400  # characters of a sentence


def run(
    ctx: typer.Context, models: list[str], out_dir: str, workers: int, cluster: str | None, retries: int, output: Output
) -> int:
    """Optimize all models into a folder, print what became of them; the exit code."""
    params = {param.name: param for param in ctx.command.params}
    for name in _OF_ONE:
        if ctx.params.get(name):
            raise UsageError(f"{params[name].opts[-1]} is for one model; with --out-dir leave it out")
    from graphopt import __version__
    from graphopt.instruments.progress import Progress
    from graphopt.report.batched import batch_json, print_batch
    from graphopt.scale.batch import run_batch
    from graphopt.scale.executor import executor_of

    options = again(ctx)
    progress = Progress()
    ended = ""

    def heard(row: Row, done: int, all_of: int) -> None:
        nonlocal ended
        ended = f"{done} of {all_of} models"
        if not output.quiet:
            progress.say(ended)

    try:
        with executor_of(workers, cluster, retries=retries) as executor:
            found = run_batch(
                models,
                out_dir,
                options,
                one,
                executor,
                workers=workers,
                version=__version__,
                resume=bool(ctx.params.get("resume")),
                heard=heard,
            )
    except KeyboardInterrupt as stop:
        raise ending(stop, f"{ended} are done and stay; --resume goes on with the others" if ended else "") from stop
    finally:
        progress.stop()
    output.show(lambda: batch_json(found), lambda console: print_batch(found, console, output.verbose))
    return found.exit_code


def again(ctx: typer.Context) -> list[str]:
    """The options of this call as a command line has them, those of the batch itself left out."""
    from graphopt.limits import current

    words = []
    for param in ctx.command.params:
        name = str(param.name)
        value = ctx.params.get(name)
        if param.param_type_name != "option" or name in _ITS_OWN or value in (None, False, (), [], param.default):
            continue
        flag = param.opts[-1]
        if value is True:
            words.append(flag)
        elif isinstance(value, list | tuple):
            words += [word for each in value for word in (flag, str(each))]
        else:
            words += [flag, str(value)]
    return words + [word for text in current().changed() for word in ("--max", text)]


def one(model: str, target: str, options: list[str]) -> dict[str, Any]:
    """`graphopt optimize` for one model, in a worker: the facts of its row."""
    from graphopt.cli.app import app

    page, errors = io.StringIO(), sys.stderr
    try:
        sys.stderr = io.StringIO()  # with --json everything that is said is in the object
        with redirect_stdout(page):
            code = app(["optimize", model, "-o", target, "--json", *options], standalone_mode=False)
    finally:
        sys.stderr = errors
    try:
        said = json.loads(page.getvalue())
    except ValueError:
        raise InternalError(f"the run ended with {code} and said nothing that can be read") from None
    if "error" in said:
        return {"exit_code": code, "sentence": said["error"][:_LONGEST], "output": None}
    before, after = said["before"], said["after"]
    return {
        "exit_code": code,
        "sentence": "nothing to change" if not said["changed"] else said["verdict"]["sentence"][:_LONGEST],
        "output": target if said["written"] else None,
        "bytes_before": before["bytes"],
        "bytes_after": after["bytes"],
        "nodes_before": before["nodes"],
        "nodes_after": after["nodes"],
        "changed": said["changed"],
    }

"""The options of sub-commands that run models on feeds, stated once.

    @running
    def command(ctx: typer.Context, model: ..., run: Run) -> None: ...

has its own options and those of `run`, which says what was given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import typer

from graphopt.cli import options
from graphopt.cli.options import Debug, Json, Quiet, Verbose
from graphopt.cli.output import Output

if TYPE_CHECKING:
    from graphopt.validation.plan import FeedPlan


class RunOptions(TypedDict):
    """What all functions of the Python API take that run models."""

    seed: int
    worker_seconds: float
    worker_memory: int | None
    custom_ops: Sequence[str]


@dataclass(frozen=True)
class Run:
    """What the options say: where output goes, on what a model is run, and within which limits."""

    output: Output
    feeds: str | None
    input_value: Sequence[str] | None
    dim: Sequence[str] | None
    limits: RunOptions
    verbose: int
    progress: bool

    def plan(self, labels: str | None = None) -> FeedPlan:
        """The feeds to run on; UsageError for what does not go together."""
        return options.feed_plan(self.feeds, labels, self.input_value, self.dim)


def running(command: Callable[..., None]) -> Callable[..., None]:
    """A sub-command with the options of `Run` behind its own."""
    own = [one for one in inspect.signature(command, eval_str=True).parameters.values() if one.name != "run"]
    shared = [one for one in inspect.signature(_run, eval_str=True).parameters.values() if one.name != "ctx"]
    names = {one.name for one in shared}

    def made(**given: Any) -> None:
        run = _run(given["ctx"], **{name: value for name, value in given.items() if name in names})
        command(**{name: value for name, value in given.items() if name not in names}, run=run)

    made.__doc__ = command.__doc__
    made.__annotations__ = {one.name: one.annotation for one in (*own, *shared)}
    made.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    return made


def _run(
    ctx: typer.Context,
    feeds: options.Feeds = None,
    input_value: options.InputValues = None,
    dim: options.Dims = None,
    seed: options.Seed = "0",
    custom_ops: options.CustomOps = None,
    timeout: options.Timeout = "600",
    memory: options.Memory = None,
    max_: options.Max = None,
    json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> Run:
    output: Output = ctx.obj.ask(json=json, quiet=quiet, debug=debug, verbose=verbose)
    limits = RunOptions(
        seed=options.whole("--seed", seed),
        worker_seconds=options.seconds("--timeout", timeout),
        worker_memory=options.size("--memory", memory),
        custom_ops=custom_ops or (),
    )
    return Run(output, feeds, input_value, dim, limits, verbose, not (quiet or json))

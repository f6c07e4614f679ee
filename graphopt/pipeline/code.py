"""Passes that run code which is not graphopt's, a plug-in's or in the model: whoever wrote the pipeline wrote it."""

from __future__ import annotations

from graphopt.errors import Unsafe
from graphopt.pipeline.pipeline import Pipeline


def code_of(pipeline: Pipeline) -> tuple[str, ...]:
    """What code the passes of a pipeline would run, each in words."""
    found = ((one.name, one.code()) for one in pipeline.passes())
    return tuple(f"{name} runs {code}" for name, code in found if code)


def refuse_code(what: str, would_run: tuple[str, ...], allowed: bool) -> None:
    """Refuse `what` (such as "the recipe 'x.toml'") if it would run code and that is not allowed.

    Raises Unsafe with a sentence that shows the code.
    """
    if would_run and not allowed:
        raise Unsafe(
            f"{what} would run code: {'; '.join(would_run)}; say --allow-code if you trust where it comes from"
        )

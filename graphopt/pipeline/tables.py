"""Pipelines as TOML: an array of tables, each a pass with its options or a `repeat` group.

[[pipeline]]
repeat = 8
passes = [{pass = "identities"}, {pass = "dead-nodes"}]

[[pipeline]]
pass = "weight-int8"
skip = ["/head/*"]
"""

from __future__ import annotations

from graphopt.errors import UsageError
from graphopt.pipeline.kinds import given
from graphopt.pipeline.nearest import did_you_mean
from graphopt.pipeline.options import build, find_option
from graphopt.pipeline.pipeline import NESTED, Pipeline, Repeat, Step
from graphopt.pipeline.protocol import Pass
from graphopt.pipeline.registry import Registry
from graphopt.pipeline.tokens import shorten

__all__ = ["from_tables"]


def from_tables(tables: list[object], registry: Registry) -> Pipeline:
    """The pipeline that parsed TOML tables stand for; UsageError says which step is wrong and why."""
    return Pipeline(tuple(_step(table, f"pipeline, step {n}", registry) for n, table in enumerate(tables, 1)))


def _step(table: object, place: str, registry: Registry) -> Step:
    if isinstance(table, dict) and "repeat" in table:
        return _repeat(table, place, registry)
    return _pass(table, place, registry)


def _repeat(table: dict[str, object], place: str, registry: Registry) -> Repeat:
    for key in table:
        if key not in ("repeat", "passes"):
            near = did_you_mean(key, ("repeat", "passes")) or "; it has repeat and passes"
            raise UsageError(f"{place}: a repeat group has no key {shorten(key)!r}{near}")
    rounds, passes = table["repeat"], table.get("passes", [])
    if isinstance(rounds, bool) or not isinstance(rounds, int):
        raise UsageError(f"{place}: repeat expects a whole number of rounds, not {given(rounds)}")
    if not isinstance(passes, list):
        raise UsageError(f"{place}: passes expects a list of tables, not {given(passes)}")
    group = [_pass(one, f"{place}, pass {n}", registry) for n, one in enumerate(passes, 1)]
    try:
        return Repeat(rounds, tuple(group))
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from error


def _pass(table: object, place: str, registry: Registry) -> Pass:
    if not isinstance(table, dict):
        raise UsageError(f'{place}: expects a table such as {{pass = "dead-nodes"}}, not {given(table)}')
    if "repeat" in table:
        raise UsageError(f"{place}: {NESTED}")
    name = table.get("pass")
    if name is None:
        near = next((f"; did you mean 'pass' instead of {key!r}?" for key in table if key.lower() == "name"), "")
        raise UsageError(f"{place}: the table names no pass{near}")
    if not isinstance(name, str):
        raise UsageError(f"{place}: pass expects the name of a pass, not {given(name)}")
    try:
        pass_class = registry.get(name)
        values = dict(_setting(pass_class, key, value) for key, value in table.items() if key != "pass")
        return build(pass_class, values)
    except (UsageError, ValueError) as error:
        raise UsageError(f"{place}: {error}") from error


def _setting(pass_class: type[Pass], key: str, value: object) -> tuple[str, object]:
    """The field and the typed value of one option; ValueError names the option and says what is wrong."""
    option = find_option(pass_class, key)
    try:
        return option.field, option.kind.from_toml(value)
    except ValueError as error:
        raise ValueError(f"{pass_class.name}: {key} {error}") from error

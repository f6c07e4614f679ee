"""The options of a pass: its dataclass fields, read once, and passes built from given options."""

from __future__ import annotations

import dataclasses
import functools
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass

from graphopt.errors import UsageError
from graphopt.pipeline.kinds import Kind
from graphopt.pipeline.nearest import did_you_mean
from graphopt.pipeline.protocol import Pass
from graphopt.pipeline.tokens import shorten

__all__ = ["Option", "build", "check_values", "find_option", "is_kebab", "options_of"]

_KEBAB = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


@dataclass(frozen=True)
class Option:
    """One option. `name` has dashes (text and TOML), `field` underscores (Python)."""

    name: str
    field: str
    kind: Kind
    default: object
    help: str

    @property
    def type_text(self) -> str:
        """The type as a table shows it."""
        return self.kind.label

    @property
    def default_text(self) -> str:
        """The default as pipeline text."""
        return self.kind.to_text(self.default)


def is_kebab(name: str) -> bool:
    """Whether `name` is in kebab-case: lower-case words and digits, joined by single dashes."""
    return _KEBAB.fullmatch(name) is not None


@functools.cache
def options_of(pass_class: type[Pass]) -> tuple[Option, ...]:
    """The options of a pass in the order of its fields.

    ValueError, with a clause about the class, when a field cannot be an option: it has no default,
    a type that text cannot give, or a default of another type.
    """
    fields = dataclasses.fields(pass_class)
    try:
        hints = typing.get_type_hints(pass_class) if fields else {}
    except Exception as error:  # annotations are expressions, and evaluating one may raise anything
        raise ValueError(f"the types of its options cannot be read ({error})") from error
    return tuple(_option(field, hints[field.name]) for field in fields)


def _option(field: dataclasses.Field[object], hint: object) -> Option:
    name = str(field.metadata.get("name") or field.name.replace("_", "-"))
    if field.name in ("name", "contract"):
        raise ValueError(f"{field.name!r} is annotated, which makes it an option: write `{field.name} = ...`")
    if not is_kebab(name):
        raise ValueError(f"the option {field.name!r} is not in lower case with single underscores")
    if not field.init:
        raise ValueError(f"the field {field.name!r} is no option (init=False), and passes keep no state")
    if field.default is not dataclasses.MISSING:
        default = field.default
    elif field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    else:
        raise ValueError(f"the option {name!r} has no default")
    try:
        kind = Kind.of(hint)
    except ValueError as error:
        raise ValueError(f"the option {name!r} {error}") from error
    try:
        kind.check(default)
    except ValueError as error:
        raise ValueError(f"the default of the option {name!r} is wrong: it {error}") from error
    return Option(name, field.name, kind, default, str(field.metadata.get("help", "")))


def find_option(pass_class: type[Pass], name: str) -> Option:
    """The option of that name (with dashes); ValueError with the nearest name, or with all names."""
    options = options_of(pass_class)
    for option in options:
        if option.name == name:
            return option
    known = [option.name for option in options]
    if not known:
        raise ValueError(f"{pass_class.name} takes no options, so there is no {shorten(name)!r}")
    ending = did_you_mean(name, known) or f"; it has {', '.join(known)}"
    raise ValueError(f"{pass_class.name} has no option {shorten(name)!r}{ending}")


def build(pass_class: type[Pass], values: Mapping[str, object]) -> Pass:
    """The pass with these options, by field and already typed; ValueError says what the pass refused."""
    try:
        return pass_class(**values)
    except ValueError as error:
        raise ValueError(f"{pass_class.name}: {' '.join(str(error).split())}") from error


def check_values(one: Pass) -> None:
    """Hold the options of a pass that was built in Python to their types; UsageError names the option."""
    for option in options_of(type(one)):
        try:
            option.kind.check(getattr(one, option.field))
        except ValueError as error:
            raise UsageError(f"{one.name}: the option {option.field!r} {error}") from error

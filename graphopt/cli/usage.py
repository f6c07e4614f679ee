"""Mistakes on the command line as one sentence with the nearest name, and the help of sub-commands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand

# Whether typer brings its own click or uses the installed one, this is the base of its errors.
CLICK_ERROR: Any = typer.BadParameter.__mro__[2]

_EXTRA = re.compile(r"Got unexpected extra argument(?:s|\(s\))? \((.*)\)")


def usage_sentence(error: Any, arguments: Sequence[str]) -> str:
    """One sentence for an error of the parser in `arguments`."""
    kind, context = type(error).__name__, getattr(error, "ctx", None)
    message = " ".join(str(error.format_message()).split()).rstrip(".")
    command = "".join(f" {one}" for one in arguments[:1] if not one.startswith("-"))
    path = str(getattr(context, "command_path", f"graphopt{command}"))
    if kind == "NoSuchOption":
        given = str(error.option_name)
        near = _nearest(given.lstrip("-"), _options_of(context))
        message = f"there is no option {given}" + near.replace("mean '", "mean '--")
    elif message.startswith("No such command"):
        given = message.split("'")[1]
        message = f"there is no sub-command {given!r}" + _nearest(given, _commands_of(context))
    elif extra := _EXTRA.fullmatch(message):
        message = f"there are arguments too many: {extra[1]}"
    message = message[:1].lower() + message[1:]
    return message if "did you mean" in message else f"{message}; see `{path} --help`"


def _nearest(given: str, known: list[str]) -> str:
    from graphopt.pipeline.nearest import did_you_mean

    return did_you_mean(given, known)


def _options_of(context: Any) -> list[str]:
    if context is None:
        return []
    found = [name for param in context.command.get_params(context) for name in param.opts]
    return [name.removeprefix("--") for name in found if name.startswith("--")]


def _commands_of(context: Any) -> list[str]:
    return [] if context is None else [str(name) for name in context.command.list_commands(context)]


class _AsParsed:
    """Hands the values of an option on as the parser gives them: texts, lists of texts, flags and counts.

    That is all that our commands declare. Typer's own converters would make the same of them, and
    importing what they are built on takes longer than everything else on the way to a command.
    """

    @staticmethod
    def coerce(value: Any, param: Any, ctx: Any) -> Any:
        if value is None:
            return () if param.multiple else None
        return list(value) if param.multiple else value


def take_as_parsed(params: Sequence[Any]) -> None:
    """Have these options and arguments handed on as they are parsed."""
    for param in params:
        if getattr(param, "_runtime_param", param) is None:  # only in versions of typer that convert this way
            param._runtime_param = _AsParsed


class SubCommand(TyperCommand):
    """A sub-command whose help is in sections and names its values as the documentation does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command's own arguments."""
        take_as_parsed(self.get_params(ctx))
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What stands behind the command's name in its usage line."""
        names = [_label(param) for param in self.get_params(ctx) if param.param_type_name == "argument"]
        return [*names, "[OPTIONS]"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options by section, in the order of their declaration."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if getattr(param, "hidden", False):
                continue
            argument = param.param_type_name == "argument"
            title = "Arguments" if argument else getattr(param, "rich_help_panel", None) or "Other"
            sections.setdefault(title, []).append((_label(param), getattr(param, "help", None) or ""))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def _label(param: Any) -> str:
    if param.param_type_name == "argument":
        name = str(param.metavar or param.name)
        return name if param.required else f"[{name}]"
    names = ", ".join(sorted(param.opts, key=len))
    takes_value = not (getattr(param, "is_flag", False) or getattr(param, "count", False))
    return f"{names} {param.metavar}" if takes_value and param.metavar else names

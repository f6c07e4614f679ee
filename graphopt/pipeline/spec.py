"""Pipelines as text, read and written: `repeat{max=8}(identities,dead-nodes),weight-int8{skip=["/head/*"]}`.

Steps are separated by commas. A step is the name of a pass, perhaps with options in braces, or
`repeat`, perhaps with `{max=N}`, and passes in parentheses. An option is `name=value`; a bare name
means `name=true`. Values are `true`, `false`, `none`, numbers, words, texts in single or double
quotes, and lists of these in brackets. White space and line ends are free between the pieces,
`#` starts a comment that ends with its line, and a list may end with a comma.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.errors import UsageError
from graphopt.pipeline.kinds import Kind
from graphopt.pipeline.nearest import did_you_mean
from graphopt.pipeline.options import build, find_option, options_of
from graphopt.pipeline.pipeline import DEFAULT_ROUNDS, NESTED, Pipeline, Repeat, Step, repeat_fault
from graphopt.pipeline.protocol import Pass
from graphopt.pipeline.registry import Registry
from graphopt.pipeline.tokens import Bare, Token, Tokens, shorten

__all__ = ["parse", "render"]

_ROUNDS = Kind(int)


def parse(text: str, registry: Registry | None = None) -> Pipeline:
    """The pipeline that a text stands for; UsageError says where and why it cannot be read."""
    reader = _Reader(Tokens(text), registry)
    return Pipeline(tuple(reader.steps()))


def render(pipeline: Pipeline, *, full: bool = False) -> str:
    """The text of a pipeline, on one line; with `full`, options that have their default are shown too."""
    return ",".join(_render_step(step, full) for step in pipeline.steps)


def _render_step(step: Step, full: bool) -> str:
    if isinstance(step, Repeat):
        return f"repeat{{max={step.max}}}({','.join(_render_step(one, full) for one in step.steps)})"
    options: list[str] = []
    for option in options_of(type(step)):
        # Texts are compared, not values: 0.0 equals -0.0.
        text = option.kind.to_text(getattr(step, option.field))
        if full or text != option.default_text:
            options.append(f"{option.name}={text}")
    return f"{step.name}{{{' '.join(options)}}}" if options else step.name


@dataclass(frozen=True)
class _Setting:
    """One `name=value` as written; a bare name has no value, and its own place as the value's."""

    name: Token
    value: Bare | str | list[Bare | str] | None
    place: Token


class _Reader:
    """Recursive descent, one method for each piece of the grammar."""

    def __init__(self, tokens: Tokens, registry: Registry | None) -> None:
        self._tokens = tokens
        self._registry = registry

    def steps(self) -> list[Step]:
        """The steps up to the end of the text."""
        steps: list[Step] = []
        while self._tokens.next.kind != "end":
            name = self._name()
            steps.append(self._repeat(name) if name.text == "repeat" else self._pass(name))
            self._comma_or_end("")
        return steps

    def _comma_or_end(self, closing: str) -> None:
        """Take the comma behind a step, if there is one; only the end or `closing` may stand there else."""
        token = self._tokens.next
        if token.kind == "end" or self._tokens.accept(",") or (closing and token.is_mark(closing)):
            return
        if token.is_mark(")"):
            raise self._fail(token, "this ')' closes nothing")
        raise self._fail(token, f"expected ',' between two steps, not {token.shown}")

    def _name(self) -> Token:
        token = self._tokens.take()
        if token.kind != "word":
            raise self._fail(token, f"expected the name of a pass, not {token.shown}")
        return token

    def _repeat(self, name: Token) -> Repeat:
        rounds = self._rounds()
        opening = self._tokens.accept("(")
        if opening is None:
            example = f"repeat{{max={DEFAULT_ROUNDS}}}(identities,dead-nodes)"
            raise self._fail(name, f"repeat needs passes in parentheses, such as {example}")
        group: list[Pass] = []
        while not self._tokens.accept(")"):
            if self._tokens.next.kind == "end":
                raise self._fail(opening, "this '(' is never closed")
            inner = self._name()
            if inner.text == "repeat":
                raise self._fail(inner, NESTED)
            one = self._pass(inner)
            if (reason := repeat_fault(one)) is not None:
                raise self._fail(inner, reason)
            group.append(one)
            self._comma_or_end(")")
        try:
            return Repeat(rounds, tuple(group))
        except UsageError as error:
            raise self._fail(name, str(error)) from error

    def _rounds(self) -> int:
        rounds = DEFAULT_ROUNDS
        for setting in self._settings():
            if setting.name.text != "max":
                near = did_you_mean(setting.name.text, ["max"]) or "; it has max"
                raise self._fail(setting.name, f"repeat has no option {setting.name.text!r}{near}")
            value = self._value("repeat", setting, _ROUNDS)
            assert isinstance(value, int)
            rounds = value
        return rounds

    def _pass(self, name: Token) -> Pass:
        if self._registry is None:
            self._registry = Registry.load()
        try:
            pass_class = self._registry.get(name.text)
        except UsageError as error:
            raise self._fail(name, str(error)) from error
        values: dict[str, object] = {}
        for setting in self._settings():
            try:
                option = find_option(pass_class, setting.name.text)
            except ValueError as error:
                raise self._fail(setting.name, str(error)) from error
            values[option.field] = self._value(pass_class.name, setting, option.kind)
        if self._tokens.next.is_mark("("):
            clause = f"{pass_class.name} is a pass, and only repeat takes passes in parentheses"
            raise self._fail(self._tokens.next, clause)
        try:
            return build(pass_class, values)
        except ValueError as error:
            raise self._fail(name, str(error)) from error

    def _value(self, owner: str, setting: _Setting, kind: Kind) -> object:
        if setting.value is None and (kind.base is not bool or kind.many):
            raise self._fail(setting.name, f"{owner}: {setting.name.text} needs a value, {kind.expected}")
        try:
            return kind.from_text(Bare("true") if setting.value is None else setting.value)
        except ValueError as error:
            raise self._fail(setting.place, f"{owner}: {setting.name.text} {error}") from error

    def _settings(self) -> list[_Setting]:
        """What the braces hold, if there are any: `name=value` and bare names, each name once."""
        opening = self._tokens.accept("{")
        settings: dict[str, _Setting] = {}
        while opening is not None and not self._tokens.accept("}"):
            name = self._tokens.take()
            if name.kind == "end":
                raise self._fail(opening, "this '{' is never closed")
            if name.kind != "word":
                raise self._fail(name, f"expected the name of an option or '}}', not {name.shown}")
            if name.text in settings:
                raise self._fail(name, f"the option {shorten(name.text)!r} is given twice")
            settings[name.text] = self._setting(name)
            self._tokens.accept(",")
        return list(settings.values())

    def _setting(self, name: Token) -> _Setting:
        if not self._tokens.accept("="):
            return _Setting(name, None, name)
        opening = self._tokens.accept("[")
        if opening is None:
            place = self._tokens.next
            return _Setting(name, self._scalar(), place)
        items: list[Bare | str] = []
        while not self._tokens.accept("]"):
            if self._tokens.next.kind == "end":
                raise self._fail(opening, "this '[' is never closed")
            items.append(self._scalar())
            token = self._tokens.next
            if not (self._tokens.accept(",") or token.is_mark("]") or token.kind == "end"):
                raise self._fail(token, f"expected ',' or ']' in a list, not {token.shown}")
        return _Setting(name, items, opening)

    def _scalar(self) -> Bare | str:
        token = self._tokens.take()
        if token.kind == "word":
            return Bare(token.text)
        if token.kind == "string":
            return token.text
        if token.is_mark("["):
            raise self._fail(token, "a list cannot stand inside a list")
        raise self._fail(token, f"expected a value, not {token.shown}")

    def _fail(self, token: Token, clause: str) -> UsageError:
        return self._tokens.fail(token.start, clause)

"""The types that an option of a pass may have, and one conversion for text, TOML and Python.

A `Kind` is made from a type annotation: `bool`, `int`, `float`, `str`, `Literal[...]` of texts,
whole numbers or booleans, an `enum.Enum` with such values, `tuple[T, ...]` of one of these, and
`Optional` of any of them. Every failure is a `ValueError` whose message is a clause that says what
was expected and what was given; the caller knows the place and makes the sentence.
"""

from __future__ import annotations

import enum
import math
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass

from graphopt.pipeline.nearest import did_you_mean
from graphopt.pipeline.tokens import Bare, is_word, quote, shorten

__all__ = ["Kind", "given"]

_WHOLE = re.compile(r"[+-]?[0-9]+(?:_[0-9]+)*")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WHOLE_LIMIT = 2**63  # whole numbers are those of TOML: 64 bits, signed
_FLOAT_LIMIT = 2**53  # beyond it not every whole number has a float
_MANY_DIGITS = 40  # far more than 64 bits have; int() is slow, and refuses, on thousands
_SINGULAR = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
_PLURAL = {bool: "true or false values", int: "whole numbers", float: "numbers", str: "texts"}
_LABEL = {bool: "bool", int: "int", float: "float", str: "text"}


@dataclass(frozen=True)
class Kind:
    """The type of an option: one scalar (`base`, or one of `choices`), perhaps in a list, perhaps none.

    `choices` pairs the text of each choice with its Python value. `many` makes it a list, kept as
    a tuple. `optional` admits None, spelled `none`.
    """

    base: type
    choices: tuple[tuple[str, object], ...] = ()
    many: bool = False
    optional: bool = False

    @classmethod
    def of(cls, hint: object) -> Kind:
        """The kind that a type annotation stands for; ValueError when no option can have that type."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            inner = [argument for argument in arguments if argument is not type(None)]
            if len(inner) == 1:
                kind = cls.of(inner[0])
                return cls(kind.base, kind.choices, kind.many, optional=True)
        elif origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
            kind = cls.of(arguments[0])
            if not kind.many and not kind.optional:
                return cls(kind.base, kind.choices, many=True)
        elif origin is typing.Literal:
            named = [value for value in arguments if value is not None]
            return cls(object, _choices((v, v) for v in named), optional=len(named) < len(arguments))
        elif isinstance(hint, type) and issubclass(hint, enum.Enum) and not issubclass(hint, enum.Flag):
            return cls(hint, _choices((member.value, member) for member in hint))
        else:
            for base in _SINGULAR:
                if hint is base:
                    return cls(base)
        name = hint.__name__ if isinstance(hint, type) and not arguments else str(hint)
        raise ValueError(
            f"has the type {shorten(name)}, but options are bool, int, float, str, Literal, Enum, "
            "tuple[T, ...] of these, or one of all these or None"
        )

    @property
    def label(self) -> str:
        """The type as a table shows it: `int`, `channel|tensor`, `[text, ...]`, `float or none`."""
        label = "|".join(text for text, _ in self.choices) if self.choices else _LABEL[self.base]
        if self.many:
            label = f"[{label}, ...]"
        return f"{label} or none" if self.optional else label

    @property
    def expected(self) -> str:
        """The type as a sentence says it: `a whole number`, `a list of texts in brackets, or none`."""
        known = ", ".join(text for text, _ in self.choices)
        if self.many:
            phrase = f"a list of {f'items out of {known}' if known else _PLURAL[self.base]} in brackets"
        else:
            phrase = f"one of {known}" if known else _SINGULAR[self.base]
        return f"{phrase}, or none" if self.optional else phrase

    def from_text(self, raw: Bare | str | list[Bare | str]) -> object:
        """The value that pipeline text stands for: a bare word, a quoted text, or a list of these."""
        if self.optional and isinstance(raw, Bare) and raw.text == "none":
            return None
        if isinstance(raw, list) != self.many:
            raise self._refusal(raw)
        if isinstance(raw, list):
            return tuple(self._scalar_from_text(item) for item in raw)
        return self._scalar_from_text(raw)

    def from_toml(self, value: object) -> object:
        """The value that a TOML value stands for.

        TOML has no null: the text "none" is None, unless the option can hold that text itself.
        """
        if self.optional and value == "none" and (self.many or not self._holds("none")):
            return None
        if isinstance(value, list) != self.many:
            raise self._refusal(value)
        if isinstance(value, list):
            return tuple(self._scalar(item) for item in value)
        return self._scalar(value)

    def check(self, value: object) -> None:
        """Hold a Python value to this kind: ValueError unless it is one that text can give as well."""
        if value is None and self.optional:
            return
        if isinstance(value, tuple) != self.many:
            raise ValueError(f"expects a tuple, not {given(value)}") if self.many else self._refusal(value)
        for item in value if isinstance(value, tuple) else (value,):
            if self.choices:
                self._check_choice(item)
            elif isinstance(item, enum.Enum):
                raise self._refusal(item)
            else:
                self._scalar(item)

    def to_text(self, value: object) -> str:
        """A checked value as pipeline text, so that `from_text` gives an equal value back."""
        if value is None:
            return "none"
        if isinstance(value, tuple):
            return f"[{','.join(self._scalar_to_text(item) for item in value)}]"
        return self._scalar_to_text(value)

    def _holds(self, text: str) -> bool:
        return self.base is str or any(choice == text for choice, _ in self.choices)

    def _scalar_from_text(self, raw: Bare | str) -> object:
        if isinstance(raw, str):
            return self._scalar(raw)
        text = raw.text
        if self.choices:
            for choice, value in self.choices:
                if choice == text:
                    return value
            raise self._refusal(raw, did_you_mean(text, [choice for choice, _ in self.choices]))
        if self.base is str:
            return text
        if self.base is bool and text in ("true", "false"):
            return text == "true"
        if self.base is int and _WHOLE.fullmatch(text):
            return self._scalar(int(text) if len(text) <= _MANY_DIGITS else _WHOLE_LIMIT)
        if self.base is float and _NUMBER.fullmatch(text):
            return self._scalar(float(text))
        raise self._refusal(raw)

    def _scalar(self, value: object) -> object:
        if self.choices:
            return self._choice(value)
        if self.base is bool and isinstance(value, bool):
            return value
        if self.base is str and isinstance(value, str):
            return value
        if self.base is int and isinstance(value, int) and not isinstance(value, bool):
            if not -_WHOLE_LIMIT <= value < _WHOLE_LIMIT:
                raise ValueError(f"expects {self.expected}, and this one does not fit 64 bits")
            return value
        if self.base is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            if isinstance(value, int) and abs(value) > _FLOAT_LIMIT:
                raise ValueError(f"expects {self.expected}, and this one needs a decimal point or an exponent")
            if not math.isfinite(value):
                raise ValueError(f"expects {self.expected} that is finite")
            return float(value)
        raise self._refusal(value)

    def _choice(self, value: object) -> object:
        for _, choice in self.choices:
            plain = choice.value if isinstance(choice, enum.Enum) else choice
            if type(plain) is type(value) and plain == value:
                return choice
        texts = [text for text, _ in self.choices]
        if isinstance(value, str):
            near = "; write it without quotes" if value in texts else did_you_mean(value, texts)
            raise self._refusal(value, near)
        raise self._refusal(value)

    def _check_choice(self, value: object) -> None:
        if self._text_of(value) is None:
            if issubclass(self.base, enum.Enum):
                raise ValueError(f"expects a member of {self.base.__name__}, not {given(value)}")
            self._choice(value)

    def _text_of(self, value: object) -> str | None:
        for text, choice in self.choices:
            if type(choice) is type(value) and choice == value:
                return text
        return None

    def _scalar_to_text(self, value: object) -> str:
        text = self._text_of(value)
        if text is not None:
            # A quoted text never stands for a number or a boolean, a bare one may.
            plain = value.value if isinstance(value, enum.Enum) else value
            bare = not isinstance(plain, str) or (is_word(text) and not (self.optional and text == "none"))
            return text if bare else quote(text)
        match value:
            case bool():
                return "true" if value else "false"
            case str():
                return quote(value)
            case int() | float():
                # float() and int() drop subclasses such as numpy's, whose repr is no number.
                return repr(float(value)) if self.base is float else str(int(value))
        raise self._refusal(value)

    def _refusal(self, value: object, ending: str = "") -> ValueError:
        return ValueError(f"expects {self.expected}, not {given(value)}{ending}")


def given(value: object) -> str:
    """What was given, in words: a number as it is, a text in quotes, a container by its type only."""
    match value:
        case Bare():
            return shorten(value.text)
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the text {shorten(value)!r}"
        case float():
            return repr(float(value))
        case int():
            return str(int(value)) if abs(value) < _WHOLE_LIMIT else "a number that large"
        case list():
            return "a list"
        case tuple():
            return "a tuple"
        case dict():
            return "a table"
        case type():
            return f"the class {value.__name__}"
    return f"a value of type {type(value).__name__}"


def _choices(pairs: Iterable[tuple[object, object]]) -> tuple[tuple[str, object], ...]:
    choices: dict[str, object] = {}
    for plain, value in pairs:
        if not isinstance(plain, (str, int)):
            raise ValueError(f"has a choice that is {given(plain)}, but choices are texts, whole numbers or booleans")
        text = plain if isinstance(plain, str) else str(plain).lower()
        if text in choices:
            raise ValueError(f"has two choices that are both written {text}")
        choices[text] = value
    if not choices:
        raise ValueError("has no choices")
    return tuple(choices.items())

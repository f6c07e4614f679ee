"""The types of options: which annotations are types of options, and how they are shown."""

from __future__ import annotations

import enum
from typing import Any, Literal, Optional, Union

import pytest

from graphopt.pipeline.kinds import Kind, given
from graphopt.pipeline.tokens import Bare


class Shade(enum.Enum):
    DARK = "dark"
    PALE = 2


class Number(enum.IntEnum):
    ONE = 1


class Flags(enum.Flag):
    A = 1


class Twice(enum.Enum):
    A = "1"
    B = 1


class Fractions(enum.Enum):
    HALF = 0.5


class Empty(enum.Enum):
    pass


@pytest.mark.parametrize(
    ("hint", "label", "expected"),
    [
        (bool, "bool", "true or false"),
        (int, "int", "a whole number"),
        (float, "float", "a number"),
        (str, "text", "a text"),
        (int | None, "int or none", "a whole number, or none"),
        (Optional[str], "text or none", "a text, or none"),  # noqa: UP045 - the old spelling
        (Union[None, float], "float or none", "a number, or none"),  # noqa: UP007 - the old spelling
        (tuple[int, ...], "[int, ...]", "a list of whole numbers in brackets"),
        (tuple[bool, ...] | None, "[bool, ...] or none", "a list of true or false values in brackets, or none"),
        (Literal["a", "b"], "a|b", "one of a, b"),
        (Literal["a", 2, False, None], "a|2|false or none", "one of a, 2, false, or none"),
        (tuple[Literal["a", "b"], ...], "[a|b, ...]", "a list of items out of a, b in brackets"),
        (Shade, "dark|2", "one of dark, 2"),
        (tuple[Shade, ...] | None, "[dark|2, ...] or none", "a list of items out of dark, 2 in brackets, or none"),
        (Number, "1", "one of 1"),
    ],
)
def test_the_kinds(hint: object, label: str, expected: str) -> None:
    kind = Kind.of(hint)
    assert (kind.label, kind.expected) == (label, expected)


@pytest.mark.parametrize(
    "hint",
    [
        object, Any, dict, list[int], tuple, tuple[int, int], tuple[int], tuple[tuple[int, ...], ...], set[str], None,
        tuple[int | None, ...], int | str, int | str | None, bytes, complex, Flags, Literal, "int",
    ],
)  # fmt: skip
def test_annotations_that_no_option_can_have(hint: object) -> None:
    with pytest.raises(ValueError, match=r"has the type .*, but options are bool, int, float, str"):
        Kind.of(hint)


@pytest.mark.parametrize(
    ("hint", "clause"),
    [
        (Twice, "has two choices that are both written 1"),
        (Literal["true", True], "has two choices that are both written true"),
        (Fractions, "has a choice that is 0.5, but choices are texts, whole numbers or booleans"),
        (Literal[b"x"], "has a choice that is a value of type bytes, but choices are texts, whole numbers or booleans"),
        (Empty, "has no choices"),
    ],
)
def test_choices_that_have_no_text(hint: object, clause: str) -> None:
    with pytest.raises(ValueError) as caught:
        Kind.of(hint)
    assert str(caught.value) == clause


@pytest.mark.parametrize(
    ("hint", "value", "result"),
    [
        (float, 3, 3.0),
        (float, -(2**53), -(2.0**53)),
        (int, 3, 3),
        (int | None, "none", None),
        (tuple[str, ...] | None, "none", None),
        (tuple[str, ...], ["none"], ("none",)),
        (str | None, "none", "none"),
        (Literal["none", "x"] | None, "none", "none"),
        (Literal["x"] | None, "none", None),
        (Shade, "dark", Shade.DARK),
        (tuple[Shade, ...], [2, "dark"], (Shade.PALE, Shade.DARK)),
        (Literal[4, 8], 8, 8),
    ],
)
def test_values_from_toml(hint: object, value: object, result: object) -> None:
    found = Kind.of(hint).from_toml(value)
    assert found == result and type(found) is type(result)


@pytest.mark.parametrize(
    ("hint", "value", "clause"),
    [
        (int, True, "expects a whole number, not true"),
        (int, 1.0, "expects a whole number, not 1.0"),
        (int, float("nan"), "expects a whole number, not nan"),
        (int, "none", "expects a whole number, not the text 'none'"),
        (bool, 0, "expects true or false, not 0"),
        (float, True, "expects a number, not true"),
        (float, float("inf"), "expects a number that is finite"),
        (float, 2**53 + 1, "expects a number, and this one needs a decimal point or an exponent"),
        (str, 3, "expects a text, not 3"),
        pytest.param(str, 10**5000, "expects a text, not a number that large", id="huge"),
        (str, {"a": 1}, "expects a text, not a table"),
        (str, "x" * 99, None),
        (int, "x" * 99, f"expects a whole number, not the text '{'x' * 57}...'"),
        (tuple[int, ...], 3, "expects a list of whole numbers in brackets, not 3"),
        (tuple[int, ...], [[3]], "expects a list of whole numbers in brackets, not a list"),
        (Literal[4, 8], True, "expects one of 4, 8, not true"),
        (Literal[4, 8], 4.0, "expects one of 4, 8, not 4.0"),
        (Shade, "drak", "expects one of dark, 2, not the text 'drak'; did you mean 'dark'?"),
    ],
)
def test_values_that_toml_cannot_give(hint: object, value: object, clause: str | None) -> None:
    if clause is None:
        assert Kind.of(hint).from_toml(value) == value
        return
    with pytest.raises(ValueError) as caught:
        Kind.of(hint).from_toml(value)
    assert str(caught.value) == clause


@pytest.mark.parametrize(
    ("hint", "value", "clause"),
    [
        (Shade, "dark", "expects a member of Shade, not the text 'dark'"),
        (Shade, Number.ONE, "expects a member of Shade, not 1"),
        (int, Number.ONE, "expects a whole number, not 1"),
        (tuple[int, ...], [1], "expects a tuple, not a list"),
        (int, (1,), "expects a whole number, not a tuple"),
        (int, None, "expects a whole number, not none"),
        (str, b"x", "expects a text, not a value of type bytes"),
        (str, str, "expects a text, not the class str"),
    ],
)
def test_python_values_of_another_type(hint: object, value: object, clause: str) -> None:
    with pytest.raises(ValueError) as caught:
        Kind.of(hint).check(value)
    assert str(caught.value) == clause


def test_a_word_that_looks_like_none_is_quoted_where_none_is_possible() -> None:
    kind = Kind.of(Literal["none", "x"] | None)
    assert kind.to_text("none") == '"none"' and kind.to_text(None) == "none"
    assert kind.from_text("none") == "none" and kind.from_text(Bare("none")) is None


def test_what_was_given_is_never_spelled_out_when_it_is_nested() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert given(deep) == "a list"
    while deep:
        deep = deep.pop()  # type: ignore[assignment]

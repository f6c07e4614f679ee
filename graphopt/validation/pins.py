"""`--input-value NAME=VALUE` and `--dim NAME=SIZE`: what the user fixes of generated feeds."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from graphopt.errors import UsageError
from graphopt.validation.signature import Input
from graphopt.validation.values import Array, is_float

_TRUTH = {"true": 1, "false": 0, "yes": 1, "no": 0}


def parse_values(texts: Iterable[str]) -> dict[str, str]:
    """`sr=16000` or `sizes=1,2,3` to a mapping. Raises `UsageError` where there is no `=`."""
    return dict(_split(text, "--input-value", "sr=16000") for text in texts)


_DIGITS = 18  # what fits 64 bits in any case


def parse_sizes(texts: Iterable[str]) -> dict[str, int]:
    """`batch=4` to a mapping. Raises `UsageError` where the size is not a whole number."""
    sizes = {}
    for name, text in (_split(text, "--dim", "batch=4") for text in texts):
        if not (text.isascii() and text.isdecimal()) or len(text) > _DIGITS:
            raise UsageError(f"--dim {name}={text} needs a whole number of zero or more, for example {name}=4")
        sizes[name] = int(text)
    return sizes


def check_pins(values: Mapping[str, Any], inputs: tuple[Input, ...]) -> dict[str, Array]:
    """Each pinned value as an array of its input's type. Raises `UsageError`.

    A single number fills the input; a list must have as many numbers as the input, or as its
    last axis.
    """
    by_name = {each.name: each for each in inputs}
    pins = {}
    for name, value in values.items():
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=1, cutoff=0.0)
            hint = f"did you mean {near[0]!r}?" if near else "the model has no inputs"
            raise UsageError(f"the model has no input named {name!r}; {hint}")
        if by_name[name].form != "tensor":
            raise UsageError(f"the input {name!r} is a {by_name[name].form} and cannot be pinned; give --feeds")
        pins[name] = (
            _parse(value, by_name[name]) if isinstance(value, str) else _fitted(np.asarray(value), by_name[name])
        )
    return pins


def _split(text: str, flag: str, example: str) -> tuple[str, str]:
    name, sign, value = text.rpartition("=")
    if not sign or not name or not value:
        raise UsageError(f"{flag} {text!r} is not of the form NAME=VALUE, for example {example}")
    return name, value


def _parse(text: str, wanted: Input) -> Array:
    parts = [part.strip() for part in text.strip("[]() ").split(",")]
    if wanted.dtype == np.dtype(object):
        return np.array(parts, dtype=object)
    try:
        numbers = [_TRUTH[part.lower()] if part.lower() in _TRUTH else float(part) for part in parts]
    except ValueError:
        raise UsageError(
            f"the value {text!r} for the input {wanted.name!r} is not a number or a comma list of numbers"
        ) from None
    return _fitted(np.array(numbers, np.float64), wanted)


def _fitted(array: Array, wanted: Input) -> Array:
    """In the input's type, where that keeps the value; rounding to a float type is allowed."""
    with np.errstate(all="ignore"):
        converted: Array = array.astype(wanted.dtype)
    if (
        array.dtype != object
        and not is_float(wanted.dtype)
        and not bool(np.all(converted.astype(array.dtype) == array))
    ):
        raise UsageError(f"the value {array.tolist()} does not fit the input {wanted.name!r}, which is {wanted.text}")
    return converted

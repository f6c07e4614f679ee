"""Whether what a caller feeds is what a session takes, said before onnxruntime sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from graphopt.errors import UsageError
from graphopt.runtime.elements import STRING, Array, dtype_of, element_of, number_of
from graphopt.runtime.options import Port, Value


def checked_feeds(
    feeds: Mapping[str, Any], required: Sequence[Port], others: Sequence[Port], model: str
) -> dict[str, Value]:
    """The feeds, as arrays of the declared types.

    required: ports that must be fed, unless their type is optional. others: overridable
    initializers. Raises UsageError naming what is missing, unknown or of another type.
    """
    ports = {port.name: port for port in (*required, *others)}
    _known(feeds, ports, "input", model)
    missing = [p for p in required if p.name not in feeds and not p.type_text.startswith("optional")]
    if missing:
        listed = ", ".join(f"'{port.name}' ({port.type_text})" for port in missing)
        raise UsageError(f"{model} needs a value for its input{'s'[: len(missing) > 1]} {listed}.")
    return {name: _fitting(value, ports[name]) for name, value in feeds.items()}


def checked_outputs(names: Iterable[str] | None, ports: Sequence[Port], model: str) -> list[str]:
    """The outputs asked for, all by default. Raises UsageError naming one that is not there."""
    known = {port.name: port for port in ports}
    wanted = list(known) if names is None else list(names)
    _known(wanted, known, "output", model)
    return wanted


def _known(names: Iterable[str], ports: Mapping[str, Port], what: str, model: str) -> None:
    for name in names:
        if name not in ports:
            near = get_close_matches(str(name), ports, n=1)
            hint = f"; the nearest is '{near[0]}'" if near else ""
            listed = ", ".join(f"'{each}'" for each in list(ports)[:8]) or "none"
            raise UsageError(f"{model} has no {what} '{name}'{hint} (it has {listed}).")


def _fitting(value: Any, port: Port) -> Value:
    text = port.type_text
    if text.startswith("optional("):
        if value is None:
            return None
        text = text.removeprefix("optional(").removesuffix(")")
    if text.startswith("sparse_tensor("):
        raise UsageError(f"input '{port.name}' is a {text}, which graphopt cannot feed; give it dense.")
    if text.startswith("seq("):
        if not isinstance(value, (list, tuple)):
            raise _misfit(value, port, "a list")
        if text.startswith("seq(tensor("):
            return [_tensor(each, text, port) for each in value]
        return list(value)
    if text.startswith("map("):
        if not isinstance(value, Mapping):
            raise _misfit(value, port, "a dict")
        return dict(value)
    return _tensor(value, text, port)


def _tensor(value: Any, text: str, port: Port) -> Array:
    element = element_of(text)
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray):
        raise _misfit(value, port, "an array")
    if element is None or number_of(value.dtype) == element:
        if element == STRING:
            _all_text(value, port)
        return value
    wanted = dtype_of(element) if element != STRING else np.dtype(object)
    # numpy's .npy files keep the bytes of bfloat16 and its like, but not their names.
    if value.dtype.name == f"void{8 * wanted.itemsize}" and element != STRING:
        return value.view(wanted)
    raise _misfit(value, port, f"an array of {'str' if element == STRING else wanted.name}")


def _all_text(value: Array, port: Port) -> None:
    for each in value.reshape(-1).tolist():
        if not isinstance(each, str):
            raise UsageError(
                f"input '{port.name}' ({port.type_text}) takes an array of str, but one of its elements "
                f"is of type {type(each).__name__}."
            )
        try:
            each.encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"input '{port.name}' ({port.type_text}) holds a string that is not Unicode: {each[:40]!a}."
            ) from None


def _misfit(value: Any, port: Port, wanted: str) -> UsageError:
    if isinstance(value, np.ndarray):
        given = f"an array of {value.dtype.name}"
    else:
        given = "nothing (None)" if value is None else f"a value of type {type(value).__name__}"
    return UsageError(f"input '{port.name}' ({port.type_text}) takes {wanted}, but it was given {given}.")

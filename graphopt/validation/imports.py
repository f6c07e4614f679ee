"""Functions that the user names as `module:function` for feeds or a metric."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graphopt.errors import OverLimit, UsageError
from graphopt.validation.aside import within_clock

_LONGEST = 300


@contextmanager
def calling(doing: str) -> Iterator[None]:
    """Turn whatever the user's own code raises meanwhile, an end of the program too, into a `UsageError` that begins
    with `doing`."""
    try:
        yield
    except (UsageError, OverLimit):
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{doing} {_said(error)}") from error


def _said(error: BaseException) -> str:
    try:
        message = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - the user's own exception, and so is its text
        message = ""
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def load_function(text: str, what: str) -> Callable[..., Any]:
    """Import `module:function`; the current folder is searched too.

    This runs the user's code, which is what the flag asks for, within its clock. Raises `UsageError` with the
    reason where the module does not import or has no such function.
    """
    module_name, _, name = text.partition(":")
    if not module_name or not name or not all(part.isidentifier() for part in module_name.split(".")):
        raise UsageError(f"the {what} {text!r} is not of the form module:function")
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        with calling(f"the module {module_name!r} of the {what} did not import:"):
            module = within_clock(
                f"the import of the module {module_name!r} of the {what}", lambda: importlib.import_module(module_name)
            )
    finally:
        if added:
            sys.path.remove(here)
    found: Any = module
    with calling(f"the module {module_name!r} does not give its {name!r}:"):
        for part in name.split("."):
            found = getattr(found, part, None)
    if not callable(found):
        raise UsageError(f"the module {module_name!r} has no function {name!r} for the {what}")
    function: Callable[..., Any] = found
    return function

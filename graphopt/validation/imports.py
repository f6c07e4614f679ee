"""Functions that the user names as `module:function` for feeds or a metric."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graphopt.errors import UsageError


def load_function(text: str, what: str) -> Callable[..., Any]:
    """Import `module:function`; the current folder is searched too.

    This runs the user's code, which is what the flag asks for. Raises `UsageError` with the
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
        module = importlib.import_module(module_name)
    except Exception as error:  # importing the user's module may raise anything
        raise UsageError(
            f"the module {module_name!r} of the {what} did not import: {type(error).__name__}: {error}"
        ) from error
    finally:
        if added:
            sys.path.remove(here)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise UsageError(f"the module {module_name!r} has no function {name!r} for the {what}")
    function: Callable[..., Any] = found
    return function

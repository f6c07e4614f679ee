"""What users name as `module:name`, and libraries that need not be installed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from graphopt.errors import UsageError


def named(text: str, what: str) -> Any:
    """The object `module:name`; the current folder is searched, too. This runs the module.

    Raises UsageError where the module does not import or has no such name.
    """
    module, _, name = text.partition(":")
    if not module or not name or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise UsageError(f"the {what} {text!r} is not of the form module:NAME")
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # importing the user's module may raise anything
        raise UsageError(f"the module {module!r} did not import: {type(error).__name__}: {error}") from error
    finally:
        if added:
            sys.path.remove(here)
    for part in name.split("."):
        if not hasattr(found, part):
            raise UsageError(f"the module {module!r} has no {name!r}")
        found = getattr(found, part)
    return found


def library(name: str, distribution: str, who: str) -> Any:
    """A library that is no requirement of graphopt. Raises UsageError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        reason = f"{distribution} is not installed" if isinstance(error, ModuleNotFoundError) else str(error)
        raise UsageError(f"the pass {who} needs {distribution}: {reason}; pip install {distribution}") from None

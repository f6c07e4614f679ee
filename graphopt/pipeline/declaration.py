"""What makes a class a pass: the checks that a declaration must survive before it is used."""

from __future__ import annotations

import dataclasses
import inspect

from graphopt.contract import Contract
from graphopt.pipeline.options import is_kebab, options_of
from graphopt.pipeline.protocol import Pass

__all__ = ["RESERVED", "fault", "one_line", "page_fault", "written_docstring"]

RESERVED = frozenset({"repeat"})  # names that mean something else in pipeline text


def fault(candidate: object) -> str | None:
    """Why `candidate` cannot run as a pass, as a clause about it; None when it can."""
    if not isinstance(candidate, type):
        return f"is a {type(candidate).__name__}, not a subclass of Pass"
    if not issubclass(candidate, Pass):
        return "is not a subclass of Pass"
    if candidate is Pass:
        return "is Pass itself, not a subclass"
    # A subclass inherits its parent's parameters: only its own say that it was decorated.
    parameters = candidate.__dict__.get("__dataclass_params__")
    if parameters is None or not parameters.frozen:
        return "is not a frozen dataclass: decorate it with @dataclass(frozen=True)"
    if inspect.isabstract(candidate):
        return f"does not implement {', '.join(sorted(candidate.__abstractmethods__))}"
    return _name_fault(candidate) or _contract_fault(candidate) or _options_fault(candidate)


def page_fault(candidate: type[Pass]) -> str | None:
    """Why a pass that could run cannot be listed: it has no page to show. None when it has."""
    return None if written_docstring(candidate) else "has no docstring"


def written_docstring(candidate: type[Pass]) -> str:
    """The docstring that somebody wrote, cleaned of its indentation; "" when there is none."""
    text = candidate.__dict__.get("__doc__")
    # `dataclass` fills an empty docstring with the class's signature.
    if not isinstance(text, str) or text.startswith(f"{candidate.__name__}("):
        return ""
    return inspect.cleandoc(text)


def one_line(error: BaseException) -> str:
    """An exception as one line: its type and message."""
    try:
        message = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - the exception is a plug-in's, and so is its __str__
        message = ""
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."


def _name_fault(candidate: type[Pass]) -> str | None:
    name = getattr(candidate, "name", None)
    # A field that is called `name` or `contract` is an option by mistake; options_of says so.
    if any(field.name in ("name", "contract") for field in dataclasses.fields(candidate)):
        return None
    if name is None:
        return "has no name"
    if not isinstance(name, str) or not is_kebab(name):
        return f"has the name {name!r}, which is not in kebab-case (such as dead-nodes)"
    if name in RESERVED:
        return f"has the name {name!r}, which means something else in a pipeline"
    return None


def _contract_fault(candidate: type[Pass]) -> str | None:
    contract = getattr(candidate, "contract", None)
    if contract is None:
        return "has no contract"
    return None if isinstance(contract, Contract) else f"has the contract {contract!r}, which is not a Contract"


def _options_fault(candidate: type[Pass]) -> str | None:
    try:
        options_of(candidate)
    except ValueError as error:
        return f"cannot be used: {error}"
    try:
        candidate()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the constructor is a plug-in's, it may raise anything
        return f"cannot be built from its defaults ({one_line(error)})"
    return None

"""What cannot be trained through, said in one sentence."""

from __future__ import annotations

from graphopt.errors import UsageError


class Unsupported(UsageError):
    """The model has an operator, an attribute or an element type that has no torch function here."""

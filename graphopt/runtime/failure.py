"""What can go wrong with onnxruntime in the worker, and how it is said in one sentence."""

from __future__ import annotations

import re
from typing import Final, Literal

from graphopt.errors import GraphoptError

Kind = Literal["rejected", "failed", "crash", "hang", "memory"]

_LONGEST: Final = 300
_PREFIX: Final = re.compile(
    r"^\s*(?:\[ONNXRuntimeError\] : \d+ : \w+ : |Exception during (?:loading|initialization): "
    r"|Load model from .*? failed: ?)"
)
_NODE: Final = re.compile(
    r"Non-zero status code returned while running (\S+) node\. Name:'(.*?)' Status Message: ", re.DOTALL
)
_SOURCE: Final = re.compile(r"(?:/\S*/)?[\w.]+\.(?:cc|cpp|h|hpp|inl):\d+ ")
_FUNCTION: Final = re.compile(r"[A-Z][a-z0-9]+[A-Z]\w* (?=[A-Z])")
_MEMORY: Final = re.compile(
    r"bad_alloc|bad_array_new_length|Failed to allocate memory|[Cc]annot allocate memory|MemoryError"
    r"|out of memory|Unable to allocate"
)


class WorkerFailure(GraphoptError):
    """onnxruntime could not do what was asked; the tool goes on, and the worker is usable again.

    kind: `rejected` (it refuses to load the model), `failed` (a run raised), `crash` (its process
    died), `hang` (no answer within the clock), `memory` (it ran out of memory, or into the limit).
    """

    exit_code = 6

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(kind, message)
        self.kind: Kind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message


def is_memory(text: str) -> bool:
    """Whether an error text of onnxruntime, C++ or Python says that memory was not to be had."""
    return _MEMORY.search(text) is not None


def shorten(text: str) -> str:
    """The useful part of an onnxruntime message: one line, printable, at most about 300 characters.

    Error numbers, source paths and C++ signatures are dropped; the operator and the name of the
    node that failed are kept.
    """
    text = _without_prefix(text)
    node = _NODE.search(text)
    label = ""
    if node:
        label = f"{node[1]} node {node[2]!r}: " if node[2] else f"{node[1]} node: "
        text = text[node.end() :]
    text = _without_prefix(_without_source(text))
    return label + clean(text)


def clean(text: str, longest: int = _LONGEST) -> str:
    """`text` on one line, control characters escaped, cut to about `longest`, no full stop at the end."""
    line = " ".join(text.split())
    line = "".join(each if each.isprintable() else repr(each)[1:-1] for each in line)
    if len(line) > longest:
        line = line[: longest - 1].rstrip() + "…"
    return line.rstrip(". ") or "no reason given"


def sentence(text: str) -> str:
    """`text` with a full stop, unless it was cut."""
    return text if text.endswith("…") else f"{text}."


def _without_prefix(text: str) -> str:
    while found := _PREFIX.match(text):
        text = text[found.end() :]
    return text


def _without_source(text: str) -> str:
    """Drop each `path.cc:12 type ns::function(arguments)` that onnxruntime puts before a reason."""
    found = _SOURCE.search(text)
    while found:
        head, rest = text[: found.start()], text[found.end() :]
        rest = _FUNCTION.sub("", rest, count=1) if _FUNCTION.match(rest) else _after_signature(rest)
        text = f"{head.rstrip()} {rest}".strip()
        found = _SOURCE.search(text, len(head))
    return text


def _after_signature(text: str) -> str:
    """What follows a C++ signature at the start of `text`; all of it when there is none."""
    opening = text.find("(")
    if opening < 0 or not re.fullmatch(r"[\w:<>,~&*\s]+", text[:opening]):
        return text
    depth = 0
    for place in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            rest = re.sub(r"^\s*(?:const\b)?\s*(?:\[with [^\]]*\])?", "", text[place + 1 :]).lstrip()
            return rest or text
    return text

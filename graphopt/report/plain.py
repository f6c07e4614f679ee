"""Text that comes out of models, plug-ins and files, made fit for a rich page.

A name may hold anything: markup brackets that would vanish, a newline that would fake a line of
the report, escape sequences that a terminal obeys.
"""

from __future__ import annotations

from rich.markup import escape


def plain(text: str) -> str:
    """`text` for rich markup: shown character by character, unprintable ones escaped (`\\n`, `\\x1b`)."""
    return escape(printable(text))


def printable(text: str) -> str:
    """`text` on one line, with unprintable characters escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def cut(text: str, longest: int) -> str:
    """`text`, printable, in at most `longest` characters; its end is kept, which is what tells names apart."""
    text = printable(text)
    if len(text) <= longest:
        return text
    head = (longest - 1) // 3
    return f"{text[:head]}…{text[len(text) - (longest - 1 - head) :]}"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")

"""The words and marks of pipeline text, with their places, and how a text is quoted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from graphopt.errors import UsageError

__all__ = ["MAX_TEXT", "Bare", "Token", "Tokens", "is_word", "quote", "shorten"]

MAX_TEXT = 64 * 1024  # characters; the longest pipeline that is read

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_WORD = re.compile(r"[A-Za-z0-9_.+\-/*:?]+")
_MARKS = ",{}[]()="
_PLAIN = re.compile(r"""[^"'\\\n]*""")
_HEX = re.compile(r"[0-9A-Fa-f]+")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}
_SPELLED = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", '"': '\\"'}


@dataclass(frozen=True)
class Bare:
    """A word that stood without quotes: a name, a number, true, false, none, or a plain text."""

    text: str


@dataclass(frozen=True)
class Token:
    """One piece of pipeline text. `start` counts characters from 0; `text` of a string is unquoted."""

    kind: Literal["word", "string", "mark", "end"]
    text: str
    start: int

    def is_mark(self, mark: str) -> bool:
        """Whether this is that mark (a quoted text is not)."""
        return self.kind == "mark" and self.text == mark

    @property
    def shown(self) -> str:
        """The token as an error message names it."""
        if self.kind == "end":
            return "the end of the text"
        return f"the quoted text {shorten(self.text)!r}" if self.kind == "string" else repr(shorten(self.text))


def is_word(text: str) -> bool:
    """Whether `text` can stand in pipeline text without quotes."""
    return _WORD.fullmatch(text) is not None


def quote(text: str) -> str:
    """`text` in double quotes, in printable characters only."""
    return f'"{"".join(_spell(character) for character in text)}"'


def shorten(text: str, limit: int = 60) -> str:
    """`text`, cut to `limit` characters for an error message."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _spell(character: str) -> str:
    if character in _SPELLED:
        return _SPELLED[character]
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


class Tokens:
    """Reads pipeline text from left to right, one token ahead; `fail` makes errors that say where."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_TEXT:
            raise UsageError(f"the pipeline has {len(text)} characters, more than the {MAX_TEXT} that are read")
        self._text = text
        self._next = self._scan(0)

    @property
    def next(self) -> Token:
        """The token that `take` gives, without taking it."""
        return self._next

    def take(self) -> Token:
        """Give the next token and go on to the one behind it."""
        token = self._next
        if token.kind != "end":
            self._next = self._scan(self._end)
        return token

    def accept(self, mark: str) -> Token | None:
        """Take the next token if it is this mark."""
        return self.take() if self._next.is_mark(mark) else None

    def fail(self, start: int, clause: str) -> UsageError:
        """The error that says where in the text: the column, and the line if there are several."""
        line = self._text.count("\n", 0, start) + 1
        column = start - (self._text.rfind("\n", 0, start) + 1) + 1
        place = f"line {line}, column {column}" if "\n" in self._text.strip() or line > 1 else f"column {column}"
        return UsageError(f"pipeline, {place}: {clause}")

    def _scan(self, start: int) -> Token:
        blank = _SPACE.match(self._text, start)
        start = blank.end() if blank else start
        if start == len(self._text):
            self._end = start
            return Token("end", "", start)
        character = self._text[start]
        if character in _MARKS:
            self._end = start + 1
            return Token("mark", character, start)
        if character in "\"'":
            return self._string(start, character)
        word = _WORD.match(self._text, start)
        if word is None:
            shown = character if character.isprintable() else f"U+{ord(character):04X}"
            raise self.fail(start, f"unexpected character {shown!r}; a text with such characters goes in double quotes")
        self._end = word.end()
        return Token("word", word[0], start)

    def _string(self, start: int, mark: str) -> Token:
        pieces: list[str] = []
        position = start + 1
        while True:
            plain = _PLAIN.match(self._text, position)
            if plain:
                pieces.append(plain[0])
                position = plain.end()
            character = self._text[position : position + 1]
            if character in ("", "\n"):
                raise self.fail(start, "the quoted text that begins here is not closed on its line")
            if character == "\\":
                piece, position = self._escape(position)
                pieces.append(piece)
                continue
            position += 1
            if character == mark:
                self._end = position
                return Token("string", "".join(pieces), start)
            pieces.append(character)

    def _escape(self, position: int) -> tuple[str, int]:
        letter = self._text[position + 1 : position + 2]
        if letter in _ESCAPES:
            return _ESCAPES[letter], position + 2
        if letter in ("u", "U"):
            end = position + (6 if letter == "u" else 10)
            digits = self._text[position + 2 : end]
            if len(digits) == end - position - 2 and _HEX.fullmatch(digits) and int(digits, 16) <= 0x10FFFF:
                return chr(int(digits, 16)), end
        known = r"\" \' \\ \n \t \r \uXXXX \UXXXXXXXX"
        raise self.fail(position, f"unknown escape in a quoted text; the known ones are {known}")

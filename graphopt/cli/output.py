"""What a sub-command prints: a page for people, or one JSON object for programs.

All of standard output goes through `Output`, which keeps three promises: with `--json` nothing
but the object is printed, whatever code of the user's own prints goes to standard error; a
reader that closes the pipe early (`| head`) changes neither what is done nor the exit code; and
no control character of a model reaches the terminal.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from graphopt.errors import OverLimit

if TYPE_CHECKING:
    from rich.console import Console

_LONGEST = 4000  # characters of a sentence; paths may have nearly as many
_UNBOUNDED = 4096  # columns where no terminal wraps lines
_PADDING = re.compile(r" +$", re.MULTILINE)  # that tables leave behind their last column
# Of the escape sequences only those that rich makes for colour and weight are let through.
_CONTROL = re.compile(r"\x1b\[[0-9;]*m|[^\n\x20-\x7e\xa0-\U0010ffff]")


@dataclass
class Output:
    """How one run of the command line reports. `json` and `debug` are known before the options are
    parsed, so that a mistake in the options is reported as asked for, too."""

    json: bool = False
    debug: bool = False
    quiet: bool = False
    verbose: int = 0
    stream: TextIO | None = None

    @classmethod
    def wanted(cls, arguments: Sequence[str]) -> Output:
        """The output that the command line's arguments ask for, on the present standard output."""
        options = arguments[: arguments.index("--")] if "--" in arguments else arguments
        return cls(json="--json" in options, debug="--debug" in options, stream=sys.stdout)

    def ask(self, *, json: bool = False, debug: bool = False, quiet: bool = False, verbose: int = 0) -> Output:
        """The same output with the options of the sub-command."""
        self.json, self.debug, self.quiet, self.verbose = json, debug, quiet, verbose
        return self

    def show(self, facts: Callable[[], Any], draw: Callable[[Console], None]) -> None:
        """Print `facts()` as JSON with `--json`, else what `draw` draws, unless quiet."""
        if self.json:
            self.write(to_json(facts()))
        elif not self.quiet:
            page = io.StringIO()
            console = self.console(page)
            draw(console)
            coloured = console.color_system is not None
            text = _CONTROL.sub(lambda found: _harmless(found[0], coloured), page.getvalue())
            self.write(text if coloured else _PADDING.sub("", text))

    def console(self, page: TextIO) -> Console:
        """A rich console that draws on `page` as is fit for standard output: without a terminal there is
        no colour, and nothing is wrapped."""
        from rich.console import Console

        terminal = self.stream is not None and self.stream.isatty()
        return Console(
            file=page,
            force_terminal=True if terminal else None,  # None leaves it to FORCE_COLOR
            width=None if terminal else _UNBOUNDED,
            highlight=False,
            emoji=False,
        )

    def write(self, text: str) -> None:
        """Write text to standard output and flush it.

        Raises OverLimit when the disk behind it is full; a reader who has gone is no error.
        """
        if self.stream is None:  # closed before the start: `graphopt ... >&-`
            return
        try:
            self.stream.write(text)
            self.stream.flush()
        except BrokenPipeError:
            self._discard()
        except OSError as error:
            self._discard()
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            raise OverLimit(f"cannot write to standard output: {reason}; what was to be done is done") from None

    def error(self, sentence: str, code: int) -> None:
        """Report the end of a failed run: one JSON object, or one line on standard error."""
        if self.json:
            with contextlib.suppress(OverLimit):
                self.write(to_json({"error": sentence, "exit_code": code}))
        elif sys.stderr is not None:
            with contextlib.suppress(OSError):
                sys.stderr.write(f"graphopt: {sentence}\n")
                sys.stderr.flush()

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """With `--json`, what other code prints meanwhile goes to standard error."""
        if self.json:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        else:
            yield

    def _discard(self) -> None:
        """Let go of a standard output that nobody reads, so that the interpreter's exit does not fail on it."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())  # type: ignore[union-attr]
            os.close(nowhere)
        self.stream = None


def to_json(facts: Any) -> str:
    """One JSON object as text; infinities and NaN, which JSON lacks, become the strings inf, -inf and nan."""
    import json

    return json.dumps(_finite(facts), indent=2, allow_nan=False) + "\n"


def one_line(text: str) -> str:
    """A message as one line in which every character that a terminal might obey is escaped; its middle is left out
    where it quotes what is endless."""
    line = " ".join(text.splitlines())
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    return "".join(char if char.isprintable() else _escaped(char) for char in line)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def _harmless(found: str, coloured: bool) -> str:
    if len(found) > 1 and coloured:
        return found
    return "".join(_escaped(char) if char < " " or char > "~" else char for char in found)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")

"""The command group: parses the arguments and turns every end of a run into a sentence and an exit code."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from graphopt.cli.output import Output, one_line
from graphopt.cli.signals import ending, stoppable
from graphopt.cli.usage import CLICK_ERROR, take_as_parsed, usage_sentence
from graphopt.errors import OUT_OF_MEMORY, GraphoptError, InternalError, OverLimit, ran_out
from graphopt.stopping import settle

_AGAIN = "; run it again with --debug to see where"


class Commands(TyperGroup):
    """The group of all sub-commands."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line `args`; exits, or with `standalone_mode` off returns the exit code."""
        given = list(sys.argv[1:] if args is None else args)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a file name need not be text that the terminal can show
                stream.reconfigure(errors="backslashreplace")
        output = Output.wanted(given)
        parse = super().main

        def run() -> Any:
            return parse(given, "graphopt", complete_var, False, windows_expand_args, obj=output, **extra)

        with warnings.catch_warnings(), stoppable(output.debug):
            if not output.debug and not sys.warnoptions:
                warnings.simplefilter("ignore")  # libraries warn their callers, not our users
            code = _guarded(run, output, given)
        if standalone_mode:
            sys.exit(code)
        return code

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse what stands before the sub-command; nothing at all is a mistake that the help answers."""
        if not args and not ctx.resilient_parsing:
            sys.stderr.write(f"{ctx.get_help()}\n")
            raise typer.Exit(2)
        take_as_parsed(self.get_params(ctx))
        return super().parse_args(ctx, args)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the sub-command. What typer would end the program for becomes an error that is said."""
        output: Output = ctx.obj
        try:
            with output.undisturbed():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise ending(stop) from stop
        except (BrokenPipeError, EOFError) as error:
            raise InternalError(f"internal error ({type(error).__name__}: {error})") from error
        except SystemExit as error:
            raise InternalError(f"code that graphopt called ended the program (sys.exit({error.code!r}))") from error


def _guarded(run: Callable[[], Any], output: Output, given: Sequence[str]) -> int:
    """Run to the end; report how it ended unless it ended well. Returns the exit code."""
    try:
        try:
            code = run()
        finally:
            settle()
        return code if isinstance(code, int) else 0
    except CLICK_ERROR as error:
        sentence, code = usage_sentence(error, given), 2
    except typer.Abort:
        sentence, code = "interrupted", 130
    except KeyboardInterrupt as stop:
        ended = ending(stop)
        sentence, code = str(ended), ended.exit_code
    except GraphoptError as error:
        _trace(output)
        sentence, code = str(error), error.exit_code
        if isinstance(error, InternalError) and not output.debug:
            sentence = sentence.rstrip(".") + _AGAIN
    except OSError as error:
        _trace(output)
        from graphopt.storage.refused import unforeseen

        refused = unforeseen(error)
        sentence, code = str(refused), refused.exit_code
    except Exception as error:  # noqa: BLE001 - a fault of ours ends in a sentence, too
        _trace(output)
        if ran_out(error):
            sentence, code = OUT_OF_MEMORY, OverLimit.exit_code
        else:
            sentence, code = f"internal error ({type(error).__name__}: {error})", InternalError.exit_code
            sentence += "" if output.debug else _AGAIN
    output.error(one_line(sentence).rstrip("."), code)
    return code


def _trace(output: Output) -> None:
    if output.debug:
        import traceback

        traceback.print_exc(file=sys.stderr)

"""Command lines, each in a process of its own that needs no imports: forked from one that has them all.

Run as a script it is that process: a line of JSON in for each command line, a line with its process number out, and
one with its exit code and processor seconds when it has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn


def serve() -> None:
    """Answer requests until the input ends."""
    _warm_up()
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(request)
        _say(child)
        _, status, used = os.wait4(child, 0)
        _say(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime)


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def _warm_up() -> None:
    """Import what a run imports on its way, by a run."""
    import passes  # noqa: F401
    from graphopt.session.api import optimize
    from graphopt.testing import model

    text = "g (float[2] x) => (float[2] y) { a = Identity(x)  y = Abs(a) }"
    optimize(model(text))
    sys.argv = ["graphopt", "inspect", "nothing.onnx"]
    from graphopt.cli.app import main

    with Path(os.devnull).open("w") as sink, contextlib.redirect_stderr(sink), contextlib.suppress(SystemExit):
        main()


def _become(request: dict[str, Any]) -> NoReturn:
    os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, path in ((0, os.devnull), (1, request["out"]), (2, request["err"])):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    import tempfile

    tempfile.tempdir = None
    sys.argv = ["graphopt", *request["arguments"]]
    code = 70
    try:
        from graphopt.cli.app import main

        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - what the interpreter would print
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    import atexit

    atexit._run_exitfuncs()
    os._exit(code)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    serve()

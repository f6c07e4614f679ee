"""What every hostile model costs and comes to, each command line a process of its own as a user starts it.

    python tests/hostile/measure.py [NAME ...]             the table of these tests
    python tests/hostile/measure.py --folder PATH          a folder with a manifest.json and a folder for each case

For each: exit code, seconds, processors' seconds, peak megabytes of the process and its children, and what was not as
expected: a traceback, a file opened elsewhere, something left behind, an input that differs.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from casebook import Case  # noqa: E402
from commandrun import Cold  # noqa: E402
from table import CASES  # noqa: E402
from trials import Tried, attempt  # noqa: E402

COMMANDS = {
    "optimize": ("optimize", "{model}", "-o", "{out}"),
    "validate": ("validate", "{model}", "{model}"),
    "inspect": ("inspect", "{model}"),
    "diff": ("diff", "{model}", "{model}"),
    "bisect": ("bisect", "{model}"),
    "reduce": ("reduce", "{model}", "-o", "{out}"),
    "localize": ("localize", "{model}", "{model}"),
    "replay": ("replay", "{model}"),
    "sensitivity": ("sensitivity", "{model}"),
    "profile-error": ("profile-error", "{model}", "{model}"),
}
_EXPECTED = {"reject": (1, 2, 3, 4, 5, 6), "contain": (3, 4), "accept": (0,), "either": (0, 1, 2, 3, 4, 5, 6)}
_DOCUMENTED = (0, 1, 2, 3, 4, 5, 6)


def main() -> int:
    """Run, print a line for each, and a last one; the exit code is 1 where one was not as expected."""
    options = _options()
    cases = list(_of_folder(options.folder)) if options.folder is not None else CASES
    cases = [one for one in cases if not options.names or one.name in options.names or one.family in options.names]
    commands = list(COMMANDS) if options.command == "all" else [options.command]
    failed, longest, most = 0, 0.0, 0
    for case in cases:
        for command in commands:
            place = Path(tempfile.mkdtemp(prefix="hostile-"))
            arguments = None if command == "optimize" else COMMANDS[command]
            tried = attempt(case, place, Cold(), arguments, _beside(options.folder, case))
            wrong = list(_wrong(case, tried, command))
            failed += bool(wrong)
            longest, most = max(longest, tried.ended.worked), max(most, tried.ended.peak)
            _tell(case, command, tried, wrong)
            shutil.rmtree(place)
    sys.stdout.write(
        f"{len(cases) * len(commands) - failed} of {len(cases) * len(commands)} as expected; "
        f"at most {longest:.1f} s of work and {most >> 20} MB\n"
    )
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="*", help="cases or families, all by default")
    parser.add_argument("--folder", type=Path, help="a corpus of another origin, with its manifest.json")
    parser.add_argument("--command", choices=[*COMMANDS, "all"], default="optimize")
    return parser.parse_args()


def _beside(folder: Path | None, case: Case) -> list[Path]:
    """What a case of another corpus may name by an absolute path or a link."""
    beside = None if folder is None else folder / f"{case.name}.outside"
    return [beside] if beside is not None and beside.exists() else []


def _of_folder(folder: Path) -> Iterator[Case]:
    """The cases of a corpus that somebody else made: copied, with links as they are."""
    for row in json.loads((folder / "manifest.json").read_text()):

        def build(place: Path, name: str = row["name"]) -> None:
            shutil.copytree(folder / name, place, symlinks=True, dirs_exist_ok=True)
            beside = folder / f"{name}.outside"
            if beside.exists():
                shutil.copytree(beside, place.parent / f"{name}.outside")

        fed = Path(row["path"]).parent / "feeds.npz"
        options = ("--feeds", f"{{case}}/{fed}") if row.get("feeds") else ()
        yield Case(
            row["name"], row["group"], row["why"], build, _EXPECTED[row["expect"]], "", tuple(row.get("keep", ())),
            row["path"], None, options, min(10.0, row.get("max_s", 10.0)), row.get("max_rss_mb", 1500),
        )  # fmt: skip


def _wrong(case: Case, tried: Tried, command: str) -> Iterator[str]:
    ended = tried.ended
    expected = case.code if command == "optimize" else _DOCUMENTED
    if ended.code not in expected:
        yield f"exit code {ended.code}"
    if command == "optimize" and not re.search(case.says, tried.said):
        yield "another sentence"
    if ended.err and ended.err.count("\n") != 1 and command == "optimize":
        yield "more than a sentence"
    if "Traceback" in tried.said:
        yield "a traceback"
    if ended.worked > case.seconds:
        yield f"{ended.worked:.1f} s of work"
    if ended.peak > case.megabytes << 20:
        yield f"{ended.peak >> 20} MB"
    for what, paths in (("opened", tried.opened), ("left", tried.left), ("changed", tried.changed)):
        if paths:
            yield f"{what} {', '.join(paths)}"


def _tell(case: Case, command: str, tried: Tried, wrong: list[str]) -> None:
    ended = tried.ended
    sys.stdout.write(
        f"{case.family}/{case.name} {command}: {ended.code}, {ended.seconds:.1f} s ({ended.worked:.1f} s of work), "
        f"{ended.peak >> 20} MB{'; WRONG: ' if wrong else ''}{'; '.join(wrong)}\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""Damaged files through the whole command: each run ends as it is documented, and nothing else happens.

    python -m graphopt.testing.fuzz.files --seeds 0:2000
    python -m graphopt.testing.fuzz.files --seeds 17:18 --save found

Each run is a fork of a process in which the command is loaded already. It must end within its
time and memory with one of the exit codes that are documented, one sentence and no traceback; a
refusal must leave every file as it was, and no other.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from graphopt.runtime.procfs import process_memory
from graphopt.testing.fuzz.damage import damaged
from graphopt.testing.fuzz.victims import VICTIMS, Victim, prepare

DOCUMENTED = (0, 1, 2, 3, 4, 5, 6)
SECONDS = 20.0
MEMORY = 1_500_000_000  # bytes that the main process may have had resident
_ROOM = 6 << 30  # of address space, so that a runaway allocation is one that fails
_WHOLE = 4  # one run in so many validates what it made, which starts the worker
_EVERY = 30.0
_WARM = (
    "graphopt.session.run", "graphopt.session.job", "graphopt.report.text", "graphopt.validation.validate",
    "graphopt.session.replaying", "graphopt.report.saved", "rich.console", "graphopt.pipeline",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a run of the command ended."""

    code: int
    out: str
    err: str
    seconds: float
    memory: int  # over that of the process that it was forked from


def run(arguments: Sequence[str], folder: Path) -> Ended:
    """Run the command in `folder`, in a fork."""
    begun = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        held = (process_memory() or {}).get("VmRSS", 0)  # which the fork has from its beginning
        pid = os.fork()
        if pid == 0:
            _become(arguments, folder, out.fileno(), err.fileno())
        status, used = _wait(pid, begun + 3 * SECONDS)
        texts = []
        for one in (out, err):
            one.seek(0)
            texts.append(one.read().decode("utf-8", "replace"))
    took = time.monotonic() - begun
    return Ended(os.waitstatus_to_exitcode(status), texts[0], texts[1], took, max(0, used.ru_maxrss * 1024 - held))


def _become(arguments: Sequence[str], folder: Path, out: int, err: int) -> None:
    """What the fork does; never returns."""
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        resource.setrlimit(resource.RLIMIT_AS, (_ROOM, _ROOM))
        os.environ["TMPDIR"] = str(folder.parent)
        sys.argv = ["graphopt", *arguments]
        try:
            command()()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001  (of a fork, whose end says it)
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        code = 99
    finally:
        os._exit(code)


def _wait(pid: int, until: float) -> tuple[int, resource.struct_rusage]:
    pause = 0.002
    while time.monotonic() < until:
        found, status, used = os.wait4(pid, os.WNOHANG)
        if found:
            return status, used
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)
    os.killpg(pid, signal.SIGKILL)
    _, status, used = os.wait4(pid, 0)
    return status, used


def command() -> Callable[[], object]:
    """The command as it is installed."""
    (found,) = importlib.metadata.entry_points(group="console_scripts", name="graphopt")
    loaded: Callable[[], object] = found.load()
    return loaded


def warm() -> None:
    """Import what the command needs in most runs, so that forks find it there."""
    command()
    for name in _WARM:
        importlib.import_module(name)


def one_file(seed: int, source: Path, save: Path | None = None) -> tuple[str, int, str]:
    """Damage the file of a seed, run its command, and judge: whose file it was, the exit code, and what
    was wrong, "" for nothing."""
    rng = Random(seed)
    victim = VICTIMS[seed % len(VICTIMS)]
    with tempfile.TemporaryDirectory(prefix="graphopt-files-") as place:
        folder = Path(place) / "work"
        folder.mkdir()
        for name in (victim.file, *victim.files):
            shutil.copyfile(source / name, folder / name)
        how, data = damaged((source / victim.file).read_bytes(), rng)
        (folder / victim.file).write_bytes(data)
        before = _listed(folder)
        whole = rng.randrange(_WHOLE) == 0
        ended = run([*victim.arguments, *(() if whole else victim.quick)], folder)
        fault = _fault(ended, victim, before, _listed(folder)) or _left(Path(place))
        if fault and save is not None:
            shutil.copytree(folder, save / str(seed), dirs_exist_ok=True)
            (save / str(seed) / "case.txt").write_text(
                f"{how}\n{' '.join(victim.arguments)}\n{fault}\nexit {ended.code}\n{ended.out}\n{ended.err}\n",
                encoding="utf-8",
            )
    return victim.name, ended.code, f"{fault} ({how})" if fault else ""


def _fault(ended: Ended, victim: Victim, before: dict[str, bytes], after: dict[str, bytes]) -> str:
    said = " ".join(ended.err.split())[-300:]
    if "Traceback (most recent" in ended.err + ended.out:
        return f"a traceback: {said}"
    if ended.code not in DOCUMENTED:
        return f"exit code {ended.code}: {said}"
    if ended.seconds > SECONDS:
        return f"it took {ended.seconds:.0f} s"
    if ended.memory > MEMORY:
        return f"it took {ended.memory / 1e9:.1f} GB"
    if ended.code in (2, 3, 4, 5):
        lines = [one for one in ended.err.splitlines() if one.strip()]
        if len(lines) != 1 or not lines[0].startswith("graphopt: "):
            return f"not one sentence: {said}"
    changed = [name for name, data in before.items() if after.get(name) != data]
    if changed:
        return f"the input {changed[0]} was changed"
    more = set(after) - set(before)
    if ended.code and more:
        return f"exit code {ended.code}, and {sorted(more)[0]} was written"
    if not ended.code and "-o" in victim.arguments and "out.onnx" not in more:
        return "it was done, and nothing was written"
    return ""


def _left(place: Path) -> str:
    """What lies beside the folder of the run, where only it may leave something."""
    found = sorted(one.name for one in place.iterdir() if one.name != "work")
    return f"{found[0]} was left behind" if found else ""


def _listed(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line: 1 when anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m graphopt.testing.fuzz.files", description="Damage files.")
    parser.add_argument("--seeds", default="0:1000000", metavar="A:B")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--save", metavar="FOLDER", help="keep the files of what went wrong there")
    options = parser.parse_args(arguments)
    first, last = (int(one) for one in options.seeds.split(":"))
    save = Path(options.save) if options.save else None
    warm()
    begun = said = time.monotonic()
    codes: dict[str, Counter[int]] = {one.name: Counter() for one in VICTIMS}
    wrong = done = 0
    with tempfile.TemporaryDirectory(prefix="graphopt-files-") as place:
        prepare(Path(place), run)
        for seed in range(first, last):
            if time.monotonic() - begun > 60 * options.minutes:
                break
            name, code, fault = one_file(seed, Path(place), save)
            codes[name][code] += 1
            done += 1
            if fault:
                wrong += 1
                sys.stdout.write(f"seed {seed}: {name}: {fault}\n")
                sys.stdout.flush()
            if time.monotonic() - said > _EVERY:
                said = time.monotonic()
                sys.stderr.write(f"{done} files, next seed {seed + 1}, {wrong} wrong\n")
    for name, found in codes.items():
        listed = ", ".join(f"exit {code}: {count}" for code, count in sorted(found.items()))
        sys.stdout.write(f"{name:32} {sum(found.values()):6}  {listed}\n")
    took = time.monotonic() - begun
    sys.stdout.write(f"{done} files, seeds {first} to {first + done - 1}, {wrong} wrong, {done / took:.1f} a second\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Every fault at every site of every scene; prints what does not hold, and how many were injected.

    python tests/faults/every_site.py [--scenes new,over] [--faults once,signals,memory] [--stride 1] [--seed 0]

`--stride 10` tries every tenth site, from a place that the seed decides.
"""

from __future__ import annotations

import argparse
import errno
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import interposer
from interposer import KINDS, SHORT, SIGNAL
from invariant import Baseline, externals, faults, undisturbed
from scenes import SCENES, set_up
from warmed import Fault, Warmed

CALLS = tuple(one for one in KINDS if one != "allocate")

LOST = ("read", "write", "fsync", "name", "mkdir", "ftruncate")

ERRORS: dict[str, tuple[int, ...]] = {
    "open": (errno.EACCES, errno.EIO),
    "write": (errno.EIO,),
    "name": (errno.EIO, errno.ENOSPC),
    "look": (errno.EACCES,),
    "start": (errno.EAGAIN,),
    "talk": (errno.ECONNRESET,),
}
"""What calls fail with besides the error that is most usual for their kind."""

FAMILIES = ("once", "errors", "from", "short", "interrupted", "signals", "memory")


def templates(family: str) -> Iterator[tuple[str, Fault]]:
    """The faults of a family, each to be set at every site of its kinds."""
    if family == "once":
        yield "once", Fault(CALLS)
    elif family == "errors":
        for kind, errors in ERRORS.items():
            for error in errors:
                yield f"{kind} {errno.errorcode[error]}", Fault((kind,), error=error)
    elif family == "from":
        yield "disk full from", Fault(("write", "mkdir", "ftruncate"), error=errno.ENOSPC, on=True)
        yield (
            "disk lost from",
            Fault(LOST, error=errno.EIO, on=True),
        )
        yield "no descriptors from", Fault(("open", "list", "start"), error=errno.EMFILE, on=True)
        yield "no names from", Fault(("name",), error=errno.EACCES, on=True)
        yield "no maps from", Fault(("mmap",), error=errno.ENOMEM, on=True)
    elif family == "short":
        yield "short", Fault(("read", "write"), action=SHORT)
    elif family == "interrupted":
        yield "EINTR", Fault(("open", "read", "write", "fsync", "ftruncate", "talk"), error=errno.EINTR)
    elif family == "signals":
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            yield signal.Signals(number).name, Fault(CALLS, error=int(number), action=SIGNAL)
    elif family == "memory":
        yield "allocation", Fault(("allocate",), error=errno.ENOMEM, smallest=4096)


def sites(base: Baseline, fault: Fault, root: Path, warmed: Warmed) -> int:
    """How many sites an undisturbed run has for a fault."""
    set_up(base.scene, root)
    counted = Fault(fault.kinds, smallest=fault.smallest)
    ended = warmed.run(root, base.scene.arguments, counted)
    assert ended.status == base.scene.code, ended
    return ended.sites


def tried(base: Baseline, fault: Fault, root: Path, warmed: Warmed) -> tuple[list[str], str]:
    """Run a scene with a fault: what does not hold, and where the fault was."""
    set_up(base.scene, root)
    ended = warmed.run(root, base.scene.arguments, fault)
    killed = fault.action == SIGNAL and fault.error == signal.SIGKILL
    # Libraries in C may not ask whether they got their memory: then the system ends the process, and it has no say.
    killed |= fault.kinds == ("allocate",) and ended.status in (-signal.SIGSEGV, -signal.SIGABRT)
    found = faults(base, root, ended, killed, unavoidable=killed or fault.on)
    if (killed or fault.on) and not found:
        told = ended.out + ended.err  # a file that was named as left over is left for its owner
        left = [one for one in next_run(base, root, warmed) if one.removeprefix("left: ") not in told]
        found += [f"after the next run: {one}" for one in left]
    where = f"{ended.log[0] if ended.log else '-'} | status {ended.status} {ended.err.strip()[:300]}"
    return found, where


def next_run(base: Baseline, root: Path, warmed: Warmed) -> list[str]:
    """After a run that left something: the next one clears up, and what it writes is whole."""
    work = root / "work"
    for one in ("snapshots", "small"):  # folders that must be new
        shutil.rmtree(work / one, ignore_errors=True)
    ended = warmed.run(root, base.scene.arguments)
    found = [f"left: {one}" for one in hidden(root)]
    if ended.status not in (base.scene.code, 0):
        found.append(f"it ended with {ended.status}: {ended.err}")
    if base.scene.output is not None:
        output = work / base.scene.output
        used = externals(output.read_bytes()) if output.exists() else set()
        found += [f"there is no {one}" for one in used if not (output.parent / one).is_file()]
        data = {one.name for one in output.parent.glob(f"{output.name}*.data")}
        found += [f"left: {one}" for one in data - used]
    return found


def hidden(root: Path) -> list[str]:
    return [str(one) for one in root.rglob(".graphopt-*")] + [str(one) for one in (root / "tmp").iterdir()]


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scenes", default=",".join(SCENES))
    parser.add_argument("--faults", default=",".join(FAMILIES))
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="only faults with this in their name")
    parser.add_argument("--at", type=int, default=-1)
    parser.add_argument("--layer", choices=("interposer", "patched"), default="interposer")
    asked = parser.parse_args()
    for word, given, known in (("scene", asked.scenes, tuple(SCENES)), ("family of faults", asked.faults, FAMILIES)):
        strange = [one for one in given.split(",") if one not in known]
        if strange:
            parser.error(f"there is no {word} {strange[0]!r}; there are {', '.join(known)}")
    why = interposer.why_not() if asked.layer == "interposer" else None
    if why is not None:
        say(why)
        return 2
    draw = random.Random(asked.seed)
    warmed = Warmed(asked.layer == "interposer")
    total = broken = 0
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        root = Path(folder)
        for name in asked.scenes.split(","):
            base = undisturbed(SCENES[name], root, warmed)
            for family in asked.faults.split(","):
                for what, fault in templates(family):
                    if asked.only not in what:
                        continue
                    begun, count = time.monotonic(), sites(base, fault, root, warmed)
                    places = range(draw.randrange(asked.stride), count, asked.stride)
                    bad = 0
                    for at in places if asked.at < 0 else [asked.at]:
                        found, where = tried(base, replace(fault, at=at), root, warmed)
                        if found:
                            bad += 1
                            say(f"{name}: {what} at {at}: {'; '.join(found)}\n    {where}"[:700])
                    total, broken = total + len(places), broken + bad
                    told = f"{count} sites, {len(places)} tried, {bad} broken, {time.monotonic() - begun:.0f} s"
                    say(f"{name}: {what}: {told}")
    warmed.close()
    say(f"{total} faults injected, {broken} broke a promise")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())

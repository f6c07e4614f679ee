"""Peak memory and time of graphopt on a large decoder model, against a plain copy.

usage: python -m benchmarks.large [--bytes 10GB] [--folder FOLDER] [--only NAME ...] [--limit 2GB]

Makes the model with benchmarks.decoder in FOLDER (a temporary one unless given), then runs each command in processes of
its own that get no more private memory than the same command takes on a model of 4 MB plus --limit (RLIMIT_DATA), and
prints, summed over these processes and over what the small model takes: "own", RssAnon and RssShmem; "resident",
that and the pages of mapped files. Both are sampled every 10 ms. Outputs are removed at once, so that the
model, one output and what a run keeps beside it are all that is on the disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.decoder import byte_count, shape_of, write
from benchmarks.watched import Watched, watched

_LOSSY = ("--budget", "sqnr_db>=1")
_OUT = ("--validate", "none", "-q", "-o", "{out}")

COMMANDS: dict[str, tuple[str, ...]] = {
    "inspect": ("inspect", "{model}"),
    "diff": ("diff", "{model}", "{model}"),
    "default": ("optimize", "{model}", *_OUT),
    "default, all reports": (
        "optimize", "{model}", *_OUT, "--report", "{out}.json", "--html", "{out}.html", "--remarks", "{out}.jsonl",
    ),
    "in place": ("optimize", "{model}", "--in-place", "--validate", "none", "-q", "-p", "shape-arithmetic"),
    "weight-int8": ("optimize", "{model}", *_OUT, *_LOSSY, "-p", "weight-int8"),
    "weight-int4, max": ("optimize", "{model}", *_OUT, *_LOSSY, "-p", 'opset{{to=21}},weight-int4{{range="max"}}'),
    "weight-int4": ("optimize", "{model}", *_OUT, *_LOSSY, "-p", "opset{{to=21}},weight-int4"),
    "weight-half": ("optimize", "{model}", *_OUT, *_LOSSY, "-p", "weight-half"),
    "magnitude": ("optimize", "{model}", *_OUT, *_LOSSY, "-p", "magnitude"),
    "magnitude 2:4": ("optimize", "{model}", *_OUT, *_LOSSY, "-p", 'magnitude{{pattern="2:4"}}'),
    "influence": ("optimize", "{model}", *_OUT, *_LOSSY, "-p", 'influence{{importance="magnitude" update=false}}'),
}  # fmt: skip


def run(name: str, model: Path, limit: int | None) -> tuple[Watched, int]:
    """Run a command on a model: how it went, and the bytes that it wrote."""
    with tempfile.TemporaryDirectory(dir=model.parent.parent) as folder:
        words = [word.format(model=model, out=f"{folder}/out.onnx") for word in COMMANDS[name]]
        seen = watched([sys.executable, "-m", "graphopt", *words], limit)
        written = sum(one.stat().st_size for one in Path(folder).iterdir())
    return seen, written


def copied(model: Path) -> float:
    """Seconds of copying the model and its data, to the disk."""
    with tempfile.TemporaryDirectory(dir=model.parent.parent) as folder:
        start = time.perf_counter()
        for one in model.parent.iterdir():
            with one.open("rb") as source, (Path(folder) / one.name).open("wb") as target:
                shutil.copyfileobj(source, target, 4 << 20)
                target.flush()
                os.fsync(target.fileno())
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", default="10GB")
    parser.add_argument("--folder", type=Path, help="where the model is made, and stays for the next time")
    parser.add_argument("--only", nargs="*", choices=tuple(COMMANDS), default=tuple(COMMANDS))
    parser.add_argument("--limit", default="2GB", help="private memory over what a small model takes, for each process")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as work:
        folder = arguments.folder or Path(work)
        small = write(Path(work) / "small", shape_of(byte_count("4MB")))
        model = folder / "large" / "model.onnx"
        if not model.exists():
            write(model.parent, shape_of(byte_count(arguments.bytes)))
        size = sum(one.stat().st_size for one in model.parent.iterdir())
        plain = copied(model)
        print(f"{size / 1e9:.2f} GB, copied in {plain:.0f} s")
        heads = f"{'own':>9} {'resident':>9} {'seconds':>8} {'CPU':>8} {'of a copy':>9} {'written':>9}"
        print(f"{'command':22} {'code':>4} {heads}")
        for name in arguments.only:
            base, _ = run(name, small, None)
            seen, written = run(name, model, base.own + byte_count(arguments.limit))
            own, resident = seen.own - base.own, seen.resident - base.resident
            print(
                f"{name:22} {seen.code:4} {own / 1e6:6.0f} MB {resident / 1e6:6.0f} MB {seen.seconds:8.0f}"
                f" {seen.cpu:8.0f} {seen.seconds / plain:9.1f} {written / 1e9:6.2f} GB",
                flush=True,
            )
            if seen.code:
                print(f"    {seen.output.strip()[-300:]}")


if __name__ == "__main__":
    main()

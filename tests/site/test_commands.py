"""Every command that README and docs show, run as it stands there: `make commands` runs these, `make test` does not.

The folder that they run in has the files that they name, made from the embedded network; every page has a folder of
its own, and its commands run in order, since later ones read what earlier ones write.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO = REPOSITORY / "graphopt" / "demo"
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]

pytestmark = pytest.mark.site

_FINDS = {"bisect": (0, 1), "diff": (0, 1), "localize": (0, 1), "reduce": (0, 1), "validate": (0, 1), "bench": (0, 1)}
"""Sub-commands that say with 1 that they found something, as `diff` does."""


def commands(page: Path) -> Iterator[str]:
    """The lines of a page's console blocks that begin with `$ `, each with the lines that continue it."""
    block, pending = False, ""
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            block, pending = line.strip() == "```console", ""
        elif block and (pending or line.startswith("$ ")):
            pending = pending[:-1] + line.strip() if pending else line[2:]
            if not pending.endswith("\\"):
                yield re.sub(r"\s+# .*$", "", pending)
                pending = ""


def wanted(command: str) -> bool:
    """Whether a line can be run as it is, with what is installed."""
    needed = {"onnxscript": "onnxscript", "onnx_ir": "onnx_ir", "distill": "torch", "compress": "torch"}
    if any(word in command and importlib.util.find_spec(module) is None for word, module in needed.items()):
        return False
    if command.startswith("python -m benchmarks "):  # what measures or fetches takes hours, or a network
        return command.split()[3] in ("compare", "report") or "--quick" in command
    return command.startswith("graphopt ") and "PASS" not in command


def furnished(folder: Path) -> Path:
    """A folder with the files that commands name."""
    digits = np.load(DEMO / "digits.npz")
    images = digits["test_x"][:200, None].astype(np.float32)
    labels = digits["test_y"][:200]
    for name in ("model.onnx", "other.onnx", "a.onnx", "b.onnx"):
        (folder / name).write_bytes((DEMO / "digits_cnn.onnx").read_bytes())
    for name in ("samples.npz", "x.npz", "calibration.npz", "test.npz", "held_out.npz", "inputs.npz", "train.npz"):
        np.savez(folder / name, image=images)
    for name in ("y.npy", "labels.npy"):
        np.save(folder / name, labels)
    for name in ("results.jsonl", "old.jsonl", "new.jsonl"):
        (folder / name).write_bytes((REPOSITORY / "benchmarks" / "results" / "quantization.jsonl").read_bytes())
    (folder / "page.md").write_text("<!-- benchmark:quantization -->\n<!-- /benchmark -->\n")
    (folder / "test.sh").write_text("#!/bin/sh\nexit 0\n")
    (folder / "test.sh").chmod(0o755)
    (folder / "compare.py").write_text("")
    (folder / "surgery.py").write_text("def surgery(graph):\n    return graph\n")
    for folder_name in ("models", "train"):
        (folder / folder_name).mkdir()
        np.savez(folder / folder_name / "0.npz", image=images[:16])
    (folder / "models" / "one.onnx").write_bytes((DEMO / "digits_cnn.onnx").read_bytes())
    tools = folder / "bin"
    tools.mkdir()
    for name in ("tool", "onnxslim"):
        (tools / name).write_text('#!/bin/sh\ncp "$1" "$2"\n')
        (tools / name).chmod(0o755)
    for options in (
        "-o optimized.onnx --report report.json --snapshots snapshots",
        "-o quantized.onnx --recipe int8-weights",
        "-o tiny.onnx -p 'channels{share=0.3}' --feeds samples.npz --validate none",
    ):
        made = run(f"graphopt optimize model.onnx {options}", folder)
        assert made.returncode == 0, made.stderr
    return folder


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    for name, module in (("graphopt", "-m graphopt"), ("python", "")):
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        script.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


def node_of(report: Path) -> str:
    """A node that a report says something about."""
    return next(one["node"] for one in json.loads(report.read_text())["remarks"] if one["node"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_command_of_a_page(page: Path, tmp_path: Path) -> None:
    shown = [one for one in commands(page) if wanted(one)]
    if not shown:
        pytest.skip("it shows no commands")
    folder = furnished(tmp_path)
    failed = []
    for command in shown:
        if "explain NODE" in command:
            done = run(command.partition("&&")[0], folder)
            command = f"graphopt explain '{node_of(folder / 'run.json')}' --report run.json"
        shutil.rmtree(folder / "model-repro", ignore_errors=True)
        done = run(command, folder)
        word = command.split()[3 if command.startswith("python ") else 1]
        allowed = _FINDS.get(word, (0,))
        if "--to latency" in command:  # which a busy machine may not reach, and then says so
            allowed = (0, 1)
        if done.returncode not in allowed:
            said = (done.stderr or done.stdout).strip().splitlines()[-1:]
            failed.append(f"{command}\n    ended with {done.returncode}: {' '.join(said)[:300]}")
    assert not failed, "\n".join(failed)


def test_commands_are_found() -> None:
    assert sum(wanted(one) for one in commands(PAGES[0])) > 25

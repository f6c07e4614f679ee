"""Tools that make a model smaller without changing what it computes: how each is run, as a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_OURS: Final = "import sys; sys.argv[0] = 'graphopt'; from graphopt.cli.app import main; main()"
_LOADED: Final = "import sys, onnx; "
_SCRIPT: Final = "import onnxscript.optimizer as s; onnx.save(s.optimize(onnx.load(sys.argv[1])), sys.argv[2])"
_OPTIMIZER: Final = "import onnxoptimizer as s; onnx.save(s.optimize(onnx.load(sys.argv[1])), sys.argv[2])"
_SIM: Final = "import onnxsim as s; onnx.save(s.simplify(onnx.load(sys.argv[1]))[0], sys.argv[2])"
_ORT: Final = (
    "import os, sys, onnxruntime as ort; o = ort.SessionOptions(); o.log_severity_level = 4; "
    "o.intra_op_num_threads = 1; "
    "o.graph_optimization_level = getattr(ort.GraphOptimizationLevel, sys.argv[3]); "
    "o.optimized_model_filepath = sys.argv[2]; "
    # Weights that lie in a file of their own are looked for beside the result unless it gets one, too.
    "os.path.exists(sys.argv[1] + '.data') and o.add_session_config_entry("
    "'session.optimized_model_external_initializers_file_name', os.path.basename(sys.argv[2]) + '.data'); "
    "ort.InferenceSession(sys.argv[1], o, providers=['CPUExecutionProvider'])"
)

FIRST: Final = "graphopt:default"
"""The contender that the others' CPU seconds are divided by."""
PORTABLE: Final = (
    FIRST, "graphopt:clean", "onnxslim", "onnxsim", "onnxoptimizer", "onnxscript", "onnxruntime:basic",
)  # fmt: skip
TARGETED: Final = ("graphopt:onnxruntime", "onnxruntime:extended")
CONTENDERS: Final = (*PORTABLE, *TARGETED)
"""First those whose results run anywhere, then those that are for onnxruntime only."""


def tool(contender: str) -> str:
    """The peer that a contender belongs to."""
    return contender.partition(":")[0]


def pythons(peers: Mapping[str, Path]) -> dict[str, Path]:
    """The interpreter of each tool; onnxruntime's own optimizer is at hand wherever graphopt is."""
    here = Path(sys.executable)
    return {"onnxruntime": here, **peers, "graphopt": here}


def command(contender: str, python: Path, source: Path, target: Path) -> list[str]:
    """The command that reads a model and writes another. Raises KeyError for a contender that is none."""
    name, _, way = contender.partition(":")
    places = [str(source.absolute()), str(target.absolute())]
    if name == "graphopt":
        options = ["--recipe", way, "--validate", "none", "--quiet"]
        return [str(python), "-c", _OURS, "optimize", places[0], "-o", places[1], *options]
    if name == "onnxruntime":
        return [str(python), "-c", _ORT, *places, {"basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}[way]]
    if name == "onnxslim":
        return [str(python), "-m", "onnxslim", *places]
    text = {"onnxsim": _SIM, "onnxoptimizer": _OPTIMIZER, "onnxscript": _SCRIPT}[name]
    return [str(python), "-c", _LOADED + text, *places]

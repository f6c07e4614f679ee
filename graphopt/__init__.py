"""graphopt: a post-export optimizer for ONNX models that validates what it makes.

    import graphopt

    result = graphopt.optimize("model.onnx")
    print(result.verdict.sentence())
    graphopt.save(result.graph, "model.optimized.onnx")

Everything is imported when first used, so that `import graphopt` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphopt.contract import Contract
    from graphopt.errors import GraphoptError
    from graphopt.ir import Constant, Function, Graph, Node, Variable
    from graphopt.pipeline.pipeline import Pipeline, Repeat
    from graphopt.pipeline.protocol import Context, Pass, Remark, option
    from graphopt.pipeline.recipe import Recipe
    from graphopt.session.api import bisect, load, optimize, save, validate
    from graphopt.session.result import Result
    from graphopt.session.sensing import sensitivity
    from graphopt.session.tuning import tune_model
    from graphopt.validation.verdict import Verdict

__version__ = "0.1.0"

__all__ = [
    "Constant",
    "Context",
    "Contract",
    "Function",
    "Graph",
    "GraphoptError",
    "Node",
    "Pass",
    "Pipeline",
    "Recipe",
    "Remark",
    "Repeat",
    "Result",
    "Variable",
    "Verdict",
    "bisect",
    "load",
    "optimize",
    "option",
    "save",
    "sensitivity",
    "tune_model",
    "validate",
]

_HOMES = {
    "graphopt.contract": ("Contract",),
    "graphopt.errors": ("GraphoptError",),
    "graphopt.ir": ("Constant", "Function", "Graph", "Node", "Variable"),
    "graphopt.pipeline.pipeline": ("Pipeline", "Repeat"),
    "graphopt.pipeline.protocol": ("Context", "Pass", "Remark", "option"),
    "graphopt.pipeline.recipe": ("Recipe",),
    "graphopt.session.api": ("bisect", "load", "optimize", "save", "validate"),
    "graphopt.session.run": ("Result",),
    "graphopt.session.sensing": ("sensitivity",),
    "graphopt.session.tuning": ("tune_model",),
    "graphopt.validation.verdict": ("Verdict",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'graphopt' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Applies rewrite rules of onnxscript to the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphopt.interop.foreign import Foreign
from graphopt.interop.named import library, named
from graphopt.interop.onnx_ir import through
from graphopt.ir import Graph
from graphopt.pipeline.protocol import option


@dataclass(frozen=True)
class OnnxscriptRules(Foreign):
    """Apply rewrite rules of onnxscript to the model.

    What it does
        Applies a rule, a list of rules or a rule set to the model, as `onnxscript.rewriter.rewrite` does.
        `module:NAME` names them, or a function that makes them without arguments. It counts as one rewrite,
        or as none when the model comes out as it went in. Needs the package onnxscript.

    Example
        `onnxscript-rules{rules="my_rules:RULES"}`

    When not
        Rules that raise fail the pass.

    Contract
        Whatever `contract` says, ROUNDING unless given. The signature has to stay, but for versions of operator sets
        and what `changes` names.
    """

    name = "onnxscript-rules"
    rules: str = option("", "the rules, as module:NAME")

    def code(self) -> str:
        return f"the onnxscript rules {self.rules!r}"

    def made(self, graph: Graph) -> Graph:
        self.needed("rules", self.rules, 'rules="my_rules:RULES"')
        rewriter = library("onnxscript.rewriter", "onnxscript", self.name)
        ir = library("onnx_ir", "onnx-ir", self.name)
        found = named(self.rules, "rules")

        def work(model: Any) -> Any:
            rules = found() if callable(found) and not hasattr(found, "apply_to_model") else found
            many = [rules] if hasattr(rules, "try_rewrite") else rules
            return rewriter.rewrite(model, pattern_rewrite_rules=many)

        return through(self, graph, ir, work)

"""Other people's optimizers as passes: commands, scripts, rewrite rules, with the checks of every pass."""

from graphopt.interop.command import Command
from graphopt.interop.onnx_ir import OnnxIr
from graphopt.interop.onnxscript import OnnxscriptRules
from graphopt.interop.script import Graphsurgeon

PASSES = (Command, Graphsurgeon, OnnxscriptRules, OnnxIr)

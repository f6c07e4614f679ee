"""Other people's optimizers as passes: commands, scripts, rewrite rules, with the checks of every pass."""

PASSES = {
    "command": "graphopt.interop.command:Command",
    "graphsurgeon": "graphopt.interop.script:Graphsurgeon",
    "onnx-ir": "graphopt.interop.onnx_ir:OnnxIr",
    "onnxscript-rules": "graphopt.interop.onnxscript:OnnxscriptRules",
}
"""By name, imported when a pipeline asks for it."""

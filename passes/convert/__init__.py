"""Passes that change how a model is expressed: its opset version, its functions, its sizes, its inputs."""

PASSES = {
    "dynamic-batch": "passes.convert.dynamic_batch:DynamicBatch",
    "freeze-dims": "passes.convert.freeze_dims:FreezeDims",
    "initializers-from-inputs": "passes.convert.overridable_inputs:InitializersFromInputs",
    "inline-functions": "passes.convert.inline_functions:InlineFunctions",
    "inputs-from-initializers": "passes.convert.overridable_inputs:InputsFromInitializers",
    "opset": "passes.convert.opset:Opset",
}
"""By name, imported when a pipeline asks for it."""

"""Passes that change how a model is expressed: its opset version, its functions, its sizes, its inputs."""

from passes.convert.dynamic_batch import DynamicBatch
from passes.convert.freeze_dims import FreezeDims
from passes.convert.inline_functions import InlineFunctions
from passes.convert.opset import Opset
from passes.convert.overridable_inputs import InitializersFromInputs, InputsFromInitializers

PASSES = (DynamicBatch, FreezeDims, InitializersFromInputs, InlineFunctions, InputsFromInitializers, Opset)

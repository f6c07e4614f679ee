"""Passes that change how a model is expressed: its opset version."""

from passes.convert.opset import Opset

PASSES = (Opset,)

"""Passes and what is made of them: the protocol, pipelines, recipes and the registry of passes."""

from graphopt.pipeline.pipeline import Pipeline, Repeat, Step
from graphopt.pipeline.protocol import Context, Contract, Pass, Remark, option
from graphopt.pipeline.recipe import Recipe
from graphopt.pipeline.registry import Registry

__all__ = [
    "Context",
    "Contract",
    "Pass",
    "Pipeline",
    "Recipe",
    "Registry",
    "Remark",
    "Repeat",
    "Step",
    "option",
]

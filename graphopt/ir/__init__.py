"""The graph that passes see: graphsurgeon's objects with identity, lossless in and out."""

from graphopt.ir.decode import decode
from graphopt.ir.encode import Encoded, encode
from graphopt.ir.graph import Function, Graph
from graphopt.ir.node import Node
from graphopt.ir.values import Constant, Tensor, Variable

__all__ = ["Constant", "Encoded", "Function", "Graph", "Node", "Tensor", "Variable", "decode", "encode"]

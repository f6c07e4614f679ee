from onnx_graphsurgeon.ir.function import Function as Function
from onnx_graphsurgeon.ir.graph import Graph as Graph
from onnx_graphsurgeon.ir.node import Node as Node
from onnx_graphsurgeon.ir.tensor import Constant as Constant
from onnx_graphsurgeon.ir.tensor import Tensor as Tensor
from onnx_graphsurgeon.ir.tensor import Variable as Variable

__version__: str

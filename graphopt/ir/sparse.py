"""New sparse tensors: values and where they stand, written as the tensor of a Constant node.

A `sparse_initializer` would hold the same message, but ONNX's type inference takes one for a sparse
tensor, which no operator but a few accepts; the `sparse_value` of a Constant is dense to its readers.
"""

from __future__ import annotations

import numpy as np
from onnx import AttributeProto

from graphopt.ir.attributes import Opaque
from graphopt.ir.dtypes import Array
from graphopt.ir.node import Node
from graphopt.ir.tensors import to_tensor_proto
from graphopt.ir.values import Variable

INDEX_BYTES = 8
"""Bytes of one index: ONNX's checker wants int64, of the flattened tensor."""


def sparse_constant(values: Array, output: Variable, name: str = "") -> Node:
    """A Constant node (opset 11) that makes the dense tensor `values`, of one axis at least, as
    `output`, but stores its non-zero elements only, each with its index in row-major order (ONNX IR,
    `SparseTensorProto` with indices [NNZ])."""
    flat = np.ascontiguousarray(values).reshape(-1)
    places = np.flatnonzero(flat)
    attribute = AttributeProto(name="sparse_value", type=AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.dims.extend(values.shape)
    attribute.sparse_tensor.values.CopyFrom(to_tensor_proto("", flat[places]))
    attribute.sparse_tensor.indices.CopyFrom(to_tensor_proto("", places.astype(np.int64)))
    return Node("Constant", name, {"sparse_value": Opaque(attribute)}, [], [output])

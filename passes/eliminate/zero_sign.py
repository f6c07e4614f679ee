"""Whether anything in a model can tell -0.0 from 0.0 in a value."""

from __future__ import annotations

from graphopt.analysis.movement import MOVERS
from graphopt.ir import Tensor
from passes.eliminate.bypass import number
from passes.eliminate.uniform import FLOATS

_MOST = 256  # reads that are followed

# Here both zeros give the same, or the sign is lost in a sum of many terms.
_LOSE = frozenset(
    (
        *("Abs", "Exp", "Sigmoid", "HardSigmoid", "Softmax", "LogSoftmax", "Softplus", "Sign", "Cos", "Log"),
        *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "IsNaN", "IsInf"),
        *("MatMul", "Gemm", "Conv", "ConvTranspose", "Shape", "Size", "ArgMax", "ArgMin", "QuantizeLinear"),
    )
)
# Here it may come out again.
_CARRY = frozenset(
    (
        *("Add", "Sub", "Mul", "Neg", "Relu", "LeakyRelu", "PRelu", "Elu", "Clip", "Min", "Max", "Sum", "Mean"),
        *("Sqrt", "Tanh", "Erf", "Sin", "Ceil", "Floor", "Round", "Gelu", "HardSwish", "Where", "BatchNormalization"),
        *("Concat", "Slice", "Split", "Gather", "Pad", "Expand", "Tile", "MaxPool", "AveragePool", "Resize"),
        *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "GlobalAveragePool", "LayerNormalization"),
        *("DepthToSpace", "SpaceToDepth", "InstanceNormalization", "Dropout", "LSTM", "GRU", "RNN", *MOVERS),
    )
)


def why_sign_matters(value: Tensor) -> str | None:
    """Where the sign of a zero in `value` may decide about more than the sign of another zero, in a
    clause; None where nothing that reads it, near or far, can tell."""
    seen, pending, reads = {value}, [value], 0
    while pending:
        one = pending.pop()
        if any(place.is_body or place.is_function for place in one.graph_outputs):
            return f"{one.name!r} leaves a body or function, and what reads it there is not looked at"
        reads += len(one.outputs)
        if reads > _MOST:
            return "too many values depend on it to see that none can tell -0.0 from 0.0"
        for node in one.readers:
            if node.is_op("Div") and node.inputs[1] is not one:
                carries = True
            elif node.is_op("Cast"):
                carries = number(node, "to", 1) in FLOATS
            elif node.is_op(*_LOSE):
                carries = False
            elif node.is_op(*_CARRY):
                carries = True
            else:
                return f"{node.op} {node.label!r} may tell -0.0 from 0.0"
            for output in node.outputs if carries else ():
                if output not in seen:
                    seen.add(output)
                    pending.append(output)
    return None

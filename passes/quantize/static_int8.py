"""Compute in integers on grids that calibration chooses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.static.calibrate import Ranges, Wanted, units_reading
from passes.quantize.static.choice import Choice, choose
from passes.quantize.static.correction import Correction
from passes.quantize.static.fringe import cheap_first
from passes.quantize.static.schemes import CODES, SCHEMES, Scheme
from passes.quantize.static.units import Unit, matching, unit_of
from passes.quantize.static.weights import Codes, Weighted, Wishes, codes_of, integers_of
from passes.quantize.static.writer import Writer

RULE = "quantize"

_FIRST = 10  # the opset in which QuantizeLinear appeared
_INITIALIZERS = 4  # the IR version in which initializers need not be graph inputs
_WIDE = 21  # ... could write 16-bit integers


@dataclass(frozen=True)
class StaticInt8(Pass):
    """Let operators compute on 8-bit integers, activations on grids found by calibration (Q/DQ).

    What it does
        Puts QuantizeLinear and DequantizeLinear around activations, and integers in the place of weights
        and biases, so that a runtime with integer kernels computes Conv, MatMul, Gemm and what lies
        between them on integers. Two runs over the calibration feeds tell the range of every such
        value; range=mse takes the one with the least mean square error, min-max all that was seen, percentile
        cuts off the rarest, entropy keeps the most information (Kullback-Leibler).

        Operators are quantized in chains: one without weights only where that saves more
        conversions than it causes. A value has one pair, whoever reads it; what is only moved (Reshape,
        MaxPool, Concat ...) keeps its grid. A Relu or Clip behind a quantized operator goes
        where the grid limits the values to the same bounds, to the bit. Weights get symmetric codes, one
        scale for each output channel, or keep the codes that a pass before gave them; a bias has 32 bits
        and the scale of the products, and no sum of products can leave 32 bits.

        Then the mean of each output channel of Conv, ConvTranspose, MatMul and Gemm is compared with what it was,
        and the operator's own part of the difference goes into its bias (bias-correction rounds).

        target says for which runtime. onnxruntime: results are quantized, too, uint8; so Conv, MatMul, Gemm,
        Add, Mul, pools, Sigmoid, LeakyRelu, Softmax and Concat have kernels. portable: the same
        without Sigmoid, LeakyRelu and Softmax. tensorrt: symmetric int8 with zero at 0, only what
        operators with weights read, and the other operand of an Add that a convolution is added to; the
        bias stays float. openvino: uint8, only inputs, pools, Add and Mul too; the bias stays float.
        qnn: everything, inputs and outputs of the model included.

    Example
        before: c = Conv(x, w, b)    y = Relu(c)
        after:  c = Conv(DQ(Q(x)), DQ(w_int8), DQ(b_int32))    y = DQ(Q(c))

    When not
        Left, with the reason: nodes in bodies and functions, where activations cannot be observed; what
        is quantized already; weights that callers may override or that are computed; types other than
        float32; operators without a kernel. Feeds that are not like the real ones give wrong ranges: the
        CLI warns when it had to generate them. Needs opset 10, 13 for one scale a channel,
        21 for 16 bits: raise it with the pass opset.

        Fold BatchNormalization first (recipe default). A model with the weights only behind
        DequantizeLinear is slower than floats; here both sides are integers. uint8 activations with int8 weights
        overflow 16-bit sums on CPUs without VNNI: reduce-range keeps weights in 7 bits. A depthwise
        convolution alone is slower in integers; skip it when it stands alone. The first convolutions of a
        network have few products to sum, so that integers save no time, and their rounding errors
        are seen by all others: min-products=64 leaves them.

        Cost: one run of the float model over the calibration feeds, one of the
        quantized model for each round of bias correction; nothing kept but 2,048 counts a value.

    Contract
        LOSSY: needs a budget. Convolutional networks usually keep 20 to 30 dB at 8 bits; equalize or adaround
        before gain some of what is lost.

    Source
        ONNX operators QuantizeLinear and DequantizeLinear (10, 13, 19, 21, 23 ...). Jacob et al.,
        "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR
        2018. Nagel et al., "A White Paper on Neural Network Quantization", 2021, on ranges. Nagel et al., "Data-Free
        Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2. Migacz, "8-bit
        Inference with TensorRT", GTC 2017, on entropy. Runtimes: see passes/quantize/static/schemes.py.
    """

    name = "static-int8"
    contract = Contract.LOSSY
    calibrates = True

    target: Literal["portable", "onnxruntime", "tensorrt", "openvino", "qnn"] = option(
        "portable", "the runtime: which operators get Q/DQ and where, and the codes unless activations says them"
    )
    range: Literal["mse", "min-max", "percentile", "entropy"] = option("mse", "how the ranges of activations are found")
    percentile: float = option(99.99, "of the values in the range, for range=percentile")
    activations: Literal["target", "uint8", "int8", "uint16", "int16"] = option(
        "target", "the codes of activations; those of the target unless given"
    )
    symmetric: bool = option(False, "put zero in the middle of the codes of activations, whatever the target")
    granularity: Literal["channel", "tensor"] = option(
        "channel", "one scale for each output channel of a weight, or one"
    )
    fit: bool = option(False, "steps of weights with the least squared error, not those of the largest weight")
    products: bool = option(False, "quantize MatMul of two activations as well, whatever the target")
    bias_correction: int = option(1, "rounds in which biases take out the mean error of their operators; 0 for none")
    reduce_range: bool = option(False, "weights in 7 bits, for CPUs without VNNI")
    min_products: int = option(0, "leave the first convolutions floating point that sum fewer products an output")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of nodes, values and weights to leave as they are")
    only: tuple[str, ...] = option((), "patterns of the nodes, values and weights to quantize; all when empty")

    def __post_init__(self) -> None:
        if not 50 <= self.percentile <= 100:
            raise ValueError(f"percentile must be from 50 to 100, and {self.percentile:g} is not")
        if self.bias_correction < 0:
            raise ValueError(f"bias-correction must not be negative, and {self.bias_correction} is")
        if self.min_products < 0:
            raise ValueError(f"min-products must not be negative, and {self.min_products} is")

    def run(self, graph: Graph, ctx: Context) -> None:
        scheme = self._scheme()
        units = self._units(graph, scheme, ctx)
        if not units:
            return
        why = self._why_not(graph, scheme) or ctx.calibration.why_not
        if why is not None:
            for unit in units:
                ctx.missed(RULE, unit.node, why)
            return
        correction = Correction(units if self.bias_correction else ())
        wanted = Wanted(self.range, self.percentile, scheme.code, scheme.symmetric)
        ranges = Ranges(ctx, wanted, correction.questions)
        choice, weighted = self._settle(graph, units, scheme, ranges, ctx)
        grids = ranges.grids(choice, scheme)
        writer = Writer(choice, grids, scheme)
        written = set[Unit]()
        for unit in choice.units:
            if ctx.rewrite(RULE, unit.node, _detail(unit, choice)):
                writer.write(unit, weighted.get(unit))
                written.add(unit)
        correction.run(ctx, written, self.bias_correction)

    def _scheme(self) -> Scheme:
        scheme = SCHEMES[self.target]
        if self.activations != "target":
            scheme = replace(scheme, code=CODES[self.activations])
        return replace(scheme, symmetric=scheme.symmetric or self.symmetric, products=scheme.products or self.products)

    def _why_not(self, graph: Graph, scheme: Scheme) -> str | None:
        if graph.ir_version is not None and graph.ir_version < _INITIALIZERS:
            old = f"the model has IR version {graph.ir_version}, where every initializer is an input"
            return f"{old}: run initializers-from-inputs first"
        least = _WIDE if scheme.code.itemsize > 1 else _FIRST
        opset = graph.opset_of()
        if opset >= least:
            return None
        what = "16-bit activations" if least == _WIDE else "QuantizeLinear"
        return f"{what} needs opset {least} and the model has {opset}: raise it with opset{{to={least}}} first"

    def _units(self, graph: Graph, scheme: Scheme, ctx: Context) -> list[Unit]:
        """Every operator that could be quantized; the others are missed, with the reason."""
        found: list[Unit] = []
        absorbed: set[Node] = set()
        for scope in graph.scopes():
            for node in scope.nodes:
                if node in absorbed:
                    continue
                unit = unit_of(node, scheme, ctx)
                if isinstance(unit, Unit) and unit.absorbed is not None:
                    absorbed.add(unit.absorbed)
                why = unit if isinstance(unit, str) else None
                if isinstance(unit, Unit):
                    why = self._unwanted(node)
                    if scope is not graph.root:
                        why = "activations inside bodies and functions cannot be observed"
                    if why is None:
                        found.append(unit)
                if why is not None:
                    ctx.missed(RULE, node, why)
        return found

    def _unwanted(self, node: Node) -> str | None:
        pattern = matching(node, self.skip)
        if pattern is not None:
            return f"skip has {pattern!r}"
        return "only has no pattern for it" if self.only and matching(node, self.only) is None else None

    def _settle(
        self, graph: Graph, units: list[Unit], scheme: Scheme, ranges: Ranges, ctx: Context
    ) -> tuple[Choice, dict[Unit, Weighted]]:
        """Choose until everything that is chosen has a range and integers for its weight."""
        wishes = Wishes(self.granularity == "channel", self.reduce_range, self.fit)
        codes: dict[Unit, Codes] = {}
        lost = cheap_first(graph.nodes, units, self.min_products)
        for unit in units:
            if unit.weight is not None:
                found = codes_of(unit, scheme, wishes)
                if isinstance(found, str):
                    lost[unit] = found
                else:
                    codes[unit] = found
        while True:
            for unit, why in lost.items():
                ctx.missed(RULE, unit.node, why)
            units = [unit for unit in units if unit not in lost]
            choice = choose(units, scheme, ctx.shapes)
            lost = units_reading(choice, ranges.learn(choice))
            if lost:
                continue
            grids = ranges.grids(choice, scheme)
            weighted: dict[Unit, Weighted] = {}
            for unit in choice.units:
                if unit in codes:
                    made = integers_of(unit, scheme, wishes, codes[unit], grids[unit.read[0]])
                    if isinstance(made, str):
                        lost[unit] = made
                    else:
                        weighted[unit] = made
            if not lost:
                for node, why in choice.given_up.items():
                    ctx.missed(RULE, node, why)
                return choice, weighted


def _detail(unit: Unit, choice: Choice) -> str:
    made = all(choice.is_result(result) for result in unit.results)
    text = "reads and makes integers" if made else "reads integers"
    return f"{text}, and {unit.absorbed.op} goes into the range" if made and unit.absorbed is not None else text

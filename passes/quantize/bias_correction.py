"""Take the mean error of quantized operators out through their biases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphopt.analysis.activations import Observation, Original
from graphopt.analysis.quantized import quantized_weight
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.static.biases import LINEAR, Site, shift, site_of, sums, why_not
from passes.quantize.static.drift import Drift
from passes.quantize.static.units import matching

RULE = "correct-bias"


@dataclass(frozen=True)
class BiasCorrection(Pass):
    """Shift the biases of quantized operators so that every output channel keeps its mean.

    What it does
        Rounding weights and limiting activations moves the mean of what an operator makes, and such
        shifts add up from layer to layer. On the calibration feeds, the mean of each output channel of
        Conv, ConvTranspose, Gemm and MatMul with a quantized weight is compared with the mean that the
        value of the same name has in the model as it was read, and the difference goes into the bias:
        32-bit codes on their scale, a float bias, or the Add behind a MatMul. What the operators
        before carry along (the shift of what is read, times the weights) is not the operator's own
        and is left to theirs, so that one run serves all; `rounds` compares again.

        A value is compared only where both are the same but for an error: in most channels, the error
        around its mean is below the variation of the value itself.

    Example
        before: y = Conv(DQ(Q(x)), DQ(w_int8), DQ(b_int32))    mean of y - original y = 0.3 in channel 2
        after:  b_int32 of channel 2 is smaller by 0.3 / scale

    When not
        Left, with the reason: operators without a bias; values whose name the model as it was read does not
        have, or gave to another value, as folding before does (static-int8 corrects by itself, and knows the
        values of the folded graph; this pass is for what other passes quantized); nodes in bodies and functions.
        Few feeds give poor means.

        Cost: each round runs the model and the original once over the calibration feeds.

    Contract
        LOSSY: a different function, nearer to the original on data like the calibration feeds. Needs a budget.

    Source
        Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
        section 4.2, empirical. Finkelstein et al., "Fighting Quantization Bias With Bias", 2019.
    """

    name = "bias-correction"
    contract = Contract.LOSSY
    calibrates = True

    rounds: int = option(1, "times that all means are compared and corrected")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of nodes and values to leave as they are")
    only: tuple[str, ...] = option((), "patterns of the nodes and values to correct; all when empty")

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, and {self.rounds} is not")

    def run(self, graph: Graph, ctx: Context) -> None:
        sites = list(self._sites(graph, ctx))
        agreed: set[Site] | None = None
        for _ in range(self.rounds):
            asked = {site: _questions(site) for site in sites if agreed is None or site in agreed}
            if not asked:
                return
            refused = ctx.calibration.observe([one for pair in asked.values() for one in pair]).refused
            kept = set[Site]()
            for site, pair in asked.items():
                made, read = (one.accumulator for one in pair)
                assert isinstance(made, Drift) and isinstance(read, Drift)
                why = refused.get(pair[0]) or refused.get(pair[1]) or made.why_not() or read.why_not()
                if why is not None:
                    ctx.missed(RULE, site.node, why)
                elif agreed is not None or ctx.rewrite(RULE, site.node, _detail(made)):
                    shift(site, made.mean - sums(site.node) @ read.mean)
                    kept.add(site)
            agreed = kept

    def _sites(self, graph: Graph, ctx: Context) -> Iterator[Site]:
        for scope in graph.scopes():
            for node in scope.nodes:
                if not node.is_op(*LINEAR) or quantized_weight(node.inputs[1]) is None:
                    continue
                why = self._unwanted(node)
                if scope is not graph.root:
                    why = "activations inside bodies and functions cannot be observed"
                site = why or site_of(node)
                why = site if isinstance(site, str) else why_not(site)
                if isinstance(site, Site) and why is None:
                    yield site
                elif why is not None:
                    ctx.missed(RULE, node, why)

    def _unwanted(self, node: Node) -> str | None:
        pattern = matching(node, self.skip)
        if pattern is not None:
            return f"skip has {pattern!r}"
        return "only has no pattern for it" if self.only and matching(node, self.only) is None else None


def _questions(site: Site) -> tuple[Observation, Observation]:
    """How far the result has moved, and how far what is read."""
    return (
        Observation((site.result, _original(site.result)), Drift(site.axis)),
        Observation((site.read, _original(site.read)), Drift(site.axis)),
    )


def _original(tensor: Tensor) -> Original:
    """What the value was called before a pair was put behind it: static-int8 names the floats of a pair
    so, and where they took the name of a graph output, what they are made of."""
    return Original(tensor.name.removesuffix("_dequantized"))


def _detail(drift: Drift) -> str:
    return f"means are off by up to {drift.largest:.2g} standard deviations"

"""Attention over several heads as ONNX's own operator."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.dim_bounds import at_least
from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.fuse.onnxruntime.attention import Masks, put, why_not_masked
from passes.fuse.onnxruntime.heads import Heads, attention_at
from passes.fuse.onnxruntime.site import Site

RULE = "attention"
_FIRST, _LAST = 23, 24  # the opsets whose operator runtimes have a kernel for


@dataclass(frozen=True)
class Attention(Pass):
    """Recognize attention over several heads: Attention.

    What it does
        Precondition: opset 23 or 24; float32; query, key and value are cut into heads by a Reshape and a
        Transpose each (or by one Reshape, one Transpose and a Split or three Gather for all of them), MatMul,
        perhaps times a positive constant number in any place, perhaps plus a mask, Softmax, MatMul, Transpose,
        Reshape; all in one graph and read by nobody else, with number and size of heads, batch and
        lengths proven to be the same where they have to be, and to be at least 1. Rewrite: one Attention.
        A mask with one row for all queries is expanded to all rows. Main graph and bodies.

    Example
        before: s = MatMul(Transpose(Reshape(q, ...)), Transpose(Reshape(k, ...)))    w = Softmax(Mul(s, 0.5))
                y = Reshape(Transpose(MatMul(w, Transpose(Reshape(v, ...)))), ...)
        after:  y = Attention<kv_num_heads=2, q_num_heads=2, scale=0.5>(q, k, v)

    When not
        Opsets before 23, and from 25 on, where onnxruntime has no kernel and runs the definition. Batches and
        lengths that may be 0, which its kernel refuses: `empty` says that symbolic sizes never are. Keys and
        values that are no Reshape. Rows that a mask of -inf hides altogether are NaN before and 0 after.

    Contract
        ROUNDING. Query and key are scaled by the root instead of the products by the whole.

    Source
        Vaswani et al., "Attention is all you need", 2017, section 3.2; ONNX operator Attention (23, 24).
    """

    name = "attention"
    contract = Contract.ROUNDING
    empty: bool = option(True, "whether batches and sequences of unknown size may be empty")

    def run(self, graph: Graph, ctx: Context) -> None:
        site = Site(graph, ctx)
        masks: Masks = {}
        for node in site.nodes():
            if not node.is_op("Softmax") or not node.inputs:
                continue
            found = attention_at(site, node)
            if isinstance(found, str):
                ctx.missed(RULE, node, found)
            elif found is not None:
                why = self._why_not(site, found)
                if why is not None:
                    ctx.missed(RULE, node, why)
                elif site.may(RULE, found.root, found.nodes, "Attention", ""):
                    heads = {"q_num_heads": found.heads, "kv_num_heads": found.heads}
                    put(site, found, masks, "Attention", "", heads | {"scale": found.scale})

    def _why_not(self, site: Site, found: Heads) -> str | None:
        scope = found.root.graph
        assert scope is not None, "a node that is fused is in a graph"
        if not _FIRST <= scope.opset <= _LAST:
            return f"Attention with a kernel needs opset {_FIRST} or {_LAST}, the model has {scope.opset}"
        if not site.is_float(found.query.source):
            return "it is not known to be float32"
        if found.key.form == "heads":
            return "key and value have the heads in front, and the query does not"
        for one in (found.query.dims[0], found.query.dims[2], found.key.dims[2]):
            if self.empty and not at_least(one, 1):
                return f"the size {one} may be 0, which the kernel refuses"
        return why_not_masked(site, found)

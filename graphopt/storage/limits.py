"""How much of what a reader accepts before it says no."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Ceilings for reading one model; going over one is `OverLimit`.

    `model_bytes` of the model file, `external_bytes` of all its external files together,
    `parsed_bytes` of what is left to parse when the weights are taken out (protobuf itself ends
    at 2 GiB), `fields` looked at while taking them out (a model of 100,000 nodes has about that
    many), `inlined_nodes` that the main graph would have with its functions inlined. How deep
    messages may nest is protobuf's own limit, 100.
    """

    model_bytes: int = 1 << 40
    external_bytes: int = 1 << 42
    parsed_bytes: int = (1 << 31) - 1
    fields: int = 20_000_000
    inlined_nodes: int = 1_000_000

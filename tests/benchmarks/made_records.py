"""Records that nobody measured, as results files hold them."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.record import Record


def made(
    contender: str = "graphopt:a", failure: str = "", words: Mapping[str, str] | None = None, **figures: float
) -> Record:
    return Record("quantization", "m", contender, "1", figures, words or {}, failure)


def paired(value: float, half: float = 0.005, **more: float) -> dict[str, float]:
    """A latency ratio whose interval reaches half a share to both sides."""
    ends = {"latency_ratio_low": value * (1 - half), "latency_ratio_high": value * (1 + half)}
    return {"latency_ratio": value, **ends, **more}


def quantized(contender: str, ratio: float = 0.5, model: str = "m", failure: str = "", **figures: float) -> Record:
    """A record with all that tables of quantizers show."""
    ends = {"latency_ratio": ratio, "latency_ratio_low": ratio - 0.001, "latency_ratio_high": ratio + 0.001}
    values = {} if failure else {"bytes": 10.0, "bytes_ratio": 0.3, "sqnr_db": 30.0, **ends, **figures}
    return Record("quantization", model, contender, "1.0", values, {}, failure)

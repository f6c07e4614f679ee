"""Searches as `graphopt tune` returns them, made up: of five candidates, of two hundred, and of none."""

from __future__ import annotations

import math
import random

from graphopt.tune.trial import FAILED, KEPT, MISSED, Candidate, Ratio, Trial, Tuned

RECIPE = """name = "tuned"
description = "Found for net.onnx by a search that made its size small (int4 weights): 4612345 of 18906040 bytes."
pipeline = 'opset{to=21},gptq{symmetric=false},weight-int4{symmetric=false}'
budget = ["sqnr_db>=20"]
"""
ORIGINAL = Trial(Candidate("original", "", "original"), 2, 128, KEPT, "", "", 18_906_040, 17_400_000, 385_187_552,
                 Ratio(1.0, 1.0, 1.0), 1.0, {"sqnr_db": math.inf, "top1": 0.75}, 0.6)  # fmt: skip


def trial(
    name: str,
    technique: str,
    share: float,
    sqnr: float,
    *,
    rung: int = 2,
    parent: str | None = None,
    ratio: float = 0.8,
) -> Trial:
    status = KEPT if sqnr >= 20 else MISSED
    why = "" if status == KEPT else f"sqnr_db {sqnr:.4g}, where sqnr_db>=20 was asked for"
    return Trial(
        Candidate(name, f"topological-order,opset{{to=21}},{technique.replace(' ', '-')}", technique, parent),
        rung, 8 * 4**rung, status, why, "", int(ORIGINAL.bytes * share), int(ORIGINAL.compressed * share * 0.93),
        ORIGINAL.macs, Ratio(ratio, ratio * 0.97, ratio * 1.04), share * 0.9,
        {"sqnr_db": sqnr, "top1_drop": max(0.0, (32 - sqnr) / 2500)}, 4.2,
    )  # fmt: skip


def few() -> Tuned:
    failed = Trial(
        Candidate("low-rank", "low-rank", "low rank"), 0, 8, FAILED, "onnxruntime failed while running it", "low-rank"
    )
    trials = (
        trial("default", "clean", 0.985, math.inf, ratio=0.96),
        trial("int8-static", "int8 static", 0.278, 27.4, ratio=0.52),
        trial("int4-small", "int4 weights", 0.21, 20.8, ratio=1.1),
        trial("int4-small 2", "int4 weights", 0.162, 14.2, parent="int4-small", rung=1, ratio=1.1),
        failed,
    )
    return Tuned(
        "/models/net.onnx", "size", ("sqnr_db>=20", "top1_drop<=0.01"), ORIGINAL, trials, (2, 1, 0), 2,
        ("bytes", "sqnr_db"), {"sqnr_db": 20.3, "top1_drop": 0.0052, "cosine": 0.99521}, RECIPE,
        "256 x samples.npz, the first half", "", (), (), "", 1, 42.0,
    )  # fmt: skip


TECHNIQUES = (
    "clean", "int8 weights", "int8 static", "int8 dynamic", "int4 weights", "8-bit codebooks", "half", "int16 weights",
    "4-bit codebooks", "int4 and int8 weights", "int2 and int4 weights", "pruned", "pruned, int4 weights", "low rank",
    "sparse", "sparse, int8 weights",
)  # fmt: skip


def many(count: int = 200) -> Tuned:
    chance = random.Random(5)
    trials = []
    for number in range(count):
        technique = TECHNIQUES[number % len(TECHNIQUES)] if number < 32 else chance.choice(TECHNIQUES)
        kind = TECHNIQUES.index(technique)
        share = (1.0, 0.27, 0.28, 0.3, 0.16, 0.26, 0.5, 0.52, 0.15, 0.2, 0.11, 0.7, 0.14, 0.6, 0.45, 0.2)[kind]
        share *= chance.uniform(0.8, 1.25) if kind else 0.98
        sqnr = 41 + 24 * math.log10(share) + chance.gauss(0, 5) - (8 if number % 7 == 0 else 0)
        name = f"{technique.replace(', ', '-').replace(' ', '-')} {number}"
        parent = None if number < 16 else f"{TECHNIQUES[kind].replace(' ', '-')} {kind}"
        rung = 0 if chance.random() < 0.45 else 1 if chance.random() < 0.5 else 2
        trials.append(trial(name, technique, share, sqnr, rung=rung, parent=parent, ratio=chance.uniform(0.5, 1.2)))
    ended = [place for place, one in enumerate(trials) if one.rung == 2]
    best = sorted(ended, key=lambda place: trials[place].compressed)
    front, reached = [], -math.inf
    for place in best:
        if trials[place].reached["sqnr_db"] > reached:
            reached = trials[place].reached["sqnr_db"]
            front.append(place)
    chosen = next(place for place in front if trials[place].status == KEPT)
    return Tuned(
        "/models/efficientnet_lite0.onnx", "size", ("sqnr_db>=20", "top1_drop<=0.005"), ORIGINAL, tuple(trials),
        tuple(front), chosen, ("compressed", "sqnr_db"), {"sqnr_db": 20.9, "top1_drop": 0.003}, RECIPE,
        "256 x samples.npz, the first half", "mobile",
        ("Compressed bytes count.", "Latency is measured on the CPU of this machine, not on the target."),
        ("the inputs were generated, not real data",), "the time was up", 2, 893.0,
    )  # fmt: skip


def nothing() -> Tuned:
    """A search whose candidates all missed the budgets."""
    trials = (trial("int2", "int2 weights", 0.1, 3.0), trial("int4", "int4 weights", 0.2, 12.0))
    return Tuned("net.onnx", "latency", ("sqnr_db>=20",), ORIGINAL, trials, (1, 0), None, ("latency", "sqnr_db"))

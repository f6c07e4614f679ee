"""Some sites of some scenes, drawn by a seed; `every_site.py` in this folder tries all of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from every_site import sites, templates, tried
from invariant import Baseline
from scenes import set_up
from warmed import Fault, Warmed

SECONDS = 2.5  # for the faults of one test; at least `LEAST` are injected
LEAST = 2
SEED = 20261125

Of = Callable[[Warmed, str], Baseline]


def sampled(base: Baseline, fault: Fault, root: Path, warmed: Warmed, seed: object) -> list[str]:
    """Inject a fault at sites in an order that the seed draws, until the time is over: what does not hold."""
    places = list(range(sites(base, fault, root, warmed)))
    assert places, "there is something to disturb"
    random.Random(f"{SEED} {seed}").shuffle(places)
    end, wrong = time.monotonic() + SECONDS, list[str]()
    for done, at in enumerate(places):
        if done >= LEAST and time.monotonic() > end:
            break
        found, where = tried(base, replace(fault, at=at), root, warmed)
        wrong += [f"at {at}: {'; '.join(found)}\n    {where}"] if found else []
    return wrong


@pytest.mark.parametrize("family", ["once", "from", "signals", "memory"])
@pytest.mark.parametrize("scene", ["external-over", "everything"])
def test_no_fault_breaks_a_promise(warmed: Warmed, baselines: Of, root: Path, scene: str, family: str) -> None:
    several = list(templates(family))
    what, fault = random.Random(f"{SEED} {scene} {family}").choice(several)
    wrong = sampled(baselines(warmed, scene), fault, root, warmed, (scene, what))
    assert not wrong, "\n".join([what, *wrong])


@pytest.mark.parametrize("scene", ["in-place", "copied"])
def test_none_that_python_sees_does(patched: Warmed, baselines: Of, root: Path, scene: str) -> None:
    for family in ("once", "signals"):
        what, fault = next(iter(templates(family)))
        wrong = sampled(baselines(patched, scene), fault, root, patched, scene)
        assert not wrong, "\n".join([what, *wrong])


def test_an_interrupted_call_is_made_again(warmed: Warmed, baselines: Of, root: Path) -> None:
    base = baselines(warmed, "external")
    for family in ("interrupted", "short"):
        for _, fault in templates(family):
            assert not sampled(base, fault, root, warmed, family)


def test_the_faults_arrive(warmed: Warmed, baselines: Of, root: Path) -> None:
    """Or nothing here would mean anything: the first fsync fails, and the message says so."""
    base = baselines(warmed, "over")
    set_up(base.scene, root)
    ended = warmed.run(root, base.scene.arguments, Fault(("fsync",), at=0))
    assert (ended.fired, ended.status) == (1, 2)
    assert ended.err == "graphopt: cannot write 'out.onnx': input/output error; nothing was changed\n"

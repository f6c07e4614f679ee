"""What a run had summed up when it was stopped comes back whole, and what was measured is not measured again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asking import Asking

from graphopt.analysis.activations import Observation, Original
from graphopt.analysis.layer_fit import Distance, LayerFit
from graphopt.analysis.layer_inputs import Vectors
from graphopt.analysis.scale_fit import ScaleFit
from graphopt.calibration.cache import SHARED
from graphopt.calibration.stream import Stream
from graphopt.session.sensing import sensitivity
from graphopt.testing import model
from graphopt.tolerance.study import Study
from passes.quantize.row_sample import RowSample
from passes.quantize.smoothing_error import ChannelRanges
from passes.quantize.static.drift import Drift

RANDOM = np.random.default_rng(3)
PAIRS = [tuple(RANDOM.standard_normal((2, 4, 6)).astype(np.float32)) for _ in range(3)]
TEXT = "g (float[N,4] x) => (float[N,3] y) { a = MatMul(x, w)  b = Relu(a)  c = MatMul(b, v)  y = Exp(c) }"
W = RANDOM.normal(0, 0.3, (4, 5)).astype(np.float32)
V = RANDOM.normal(0, 0.3, (5, 3)).astype(np.float32)
ROWS = RANDOM.normal(0, 1, (12, 4)).astype(np.float32)

MADE: dict[str, Any] = {
    "layer fit": lambda: LayerFit(Vectors()),
    "distance": Distance,
    "scale fit": ScaleFit,
    "drift": lambda: Drift(1),
    "ranges": ChannelRanges,
    "rows": lambda: RowSample(5),
}


def plain(one: Any) -> dict[str, Any]:
    return {name: np.asarray(value).tolist() for name, value in one.state().items()}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("seen", [0, 1, 3])
def test_sums_go_on_where_they_were(name: str, seen: int) -> None:
    """Stopped after some feeds and gone on with the others, bit for bit what all of them give."""
    whole, first, second = MADE[name](), MADE[name](), MADE[name]()
    fed = [pair[: 1 if name in ("ranges", "rows") else 2] for pair in PAIRS]
    for values in fed:
        whole.update(*values)
    for values in fed[:seen]:
        first.update(*values)
    second.restore({key: np.array(value) for key, value in first.state().items()})
    assert plain(second) == plain(first)
    for values in fed[seen:]:
        second.update(*values)
    assert plain(second) == plain(whole)


@pytest.mark.parametrize("name", [one for one in MADE if one not in ("layer fit", "scale fit")])
def test_the_state_of_another_kind_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="another accumulator"):
        MADE[name]().restore({"something": np.zeros(2)})


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    SHARED.clear()
    seen, original = list[int](), Stream._pass

    def counted(self: Stream, group: Any, *rest: Any) -> None:
        seen.append(len(group))
        original(self, group, *rest)

    monkeypatch.setattr(Stream, "_pass", counted)
    yield seen
    SHARED.clear()


def test_the_fit_of_a_layer_is_kept_in_the_folder(tmp_path: Path, runs: list[int]) -> None:
    found = []
    for _ in range(2):
        SHARED.clear()  # another process
        asked = Asking(model(TEXT, w=W, v=V), [{"x": ROWS}])
        asked.data.folder = tmp_path
        fit, apart = LayerFit(Vectors()), Distance()
        value = asked.value("b")
        asked.observe(Observation((value, Original("a")), apart), Observation((value, Original("c")), fit))
        found.append((plain(fit), plain(apart)))
    assert len(runs) == 1
    assert found[0] == found[1]


def test_a_study_that_was_stopped_measures_the_other_layers_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = list[str]()
    original = Study._row

    def stopped(self: Study, layer: Any, *rest: Any) -> Any:
        if measured:
            raise KeyboardInterrupt
        measured.append(layer.name)
        return original(self, layer, *rest)

    def counted(self: Study, layer: Any, *rest: Any) -> Any:
        measured.append(layer.name)
        return original(self, layer, *rest)

    ask: dict[str, Any] = {"feeds": {"x": ROWS}, "quick": True}
    made = model(TEXT, w=W, v=V)
    with monkeypatch.context() as patch:
        patch.setattr(Study, "_row", stopped)
        with pytest.raises(KeyboardInterrupt):
            sensitivity(made, cache_dir=tmp_path, **ask)
    assert measured == ["w"]
    monkeypatch.setattr(Study, "_row", counted)
    resumed = sensitivity(made, cache_dir=tmp_path, **ask)
    assert measured == ["w", "v"]
    assert sensitivity(made, cache_dir=tmp_path, **ask).rows == resumed.rows
    assert measured == ["w", "v"]
    assert sensitivity(made, **ask).rows == resumed.rows
    other = {**ask, "feeds": {"x": ROWS + 1}}
    sensitivity(made, cache_dir=tmp_path, **other)
    assert measured == ["w", "v", "w", "v", "w", "v"]
    for one in tmp_path.iterdir():
        one.write_text("{}")
    assert sensitivity(made, cache_dir=tmp_path, **ask).rows == resumed.rows

"""The plots of a report: where marks lie, what is hollow, what is joined by lines."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from made_records import quantized

from benchmarks.record import Record
from benchmarks.report_lines import line_plot
from benchmarks.report_plots import axis, dot_plot, front_plot, kinds
from benchmarks.steady import NOISE

WILD = "<script>alert(1)</script>\"'&]]>\x1b\n| -- -->"


def marks(plot: str) -> list[tuple[float, float, str, str]]:
    """Place, style and words of each mark."""
    found = []
    for group in ET.fromstring(plot).iter("{http://www.w3.org/2000/svg}g"):
        path, title = list(group)
        x, y = (float(each) for each in re.findall(r"[\d.-]+", path.attrib["transform"]))
        found.append((x, y, group.attrib["class"], title.text or ""))
    return found


def test_the_front_joins_what_nothing_beats() -> None:
    records = [
        quantized("graphopt:small", bytes_ratio=0.1, sqnr_db=20.0),
        quantized("other:beaten", bytes_ratio=0.4, sqnr_db=25.0),
        quantized("graphopt:good", bytes_ratio=0.3, sqnr_db=40.0),
        quantized("other:exact", bytes_ratio=1.0, sqnr_db=300.0),
        quantized("other:none", failure="it fell"),
    ]
    found = {said.split(":")[1]: (x, y, style) for x, y, style, said in marks(front_plot(records, kinds(records)))}
    assert {name for name, one in found.items() if one[2].endswith("onfront")} == {"small", "good", "exact"}
    assert found["small"][0] < found["good"][0] < found["beaten"][0] < found["exact"][0]
    assert found["exact"][1] < found["good"][1] < found["beaten"][1] < found["small"][1]
    assert front_plot([records[-1]], {"other": 0}) == ""


def test_our_mark_is_the_first() -> None:
    assert kinds([quantized("b:x"), quantized("a:y"), quantized("graphopt:z"), quantized("b:z")]) == {
        "graphopt": 0,
        "b": 1,
        "a": 2,
    }


def test_noisy_ratios_are_hollow_dots_with_bars() -> None:
    noisy = Record(
        "pruning",
        "m",
        "other:b",
        "1",
        {"latency_ratio": 2.0, "latency_ratio_low": 1.0, "latency_ratio_high": 4.0},
        {"noise": NOISE},
    )
    plot = dot_plot({"m": [quantized("graphopt:a"), noisy]}, "latency_ratio", "latency", {"graphopt": 0, "other": 1})
    a, b = marks(plot)
    assert a[0] < b[0]
    assert a[2] == "mark t0 onfront"
    assert b[2] == "mark t1 missed"
    assert "2 (1 to 4), too noisy" in b[3]
    assert plot.count('class="span') == 2
    assert dot_plot({"m": [quantized("graphopt:a")]}, "nodes_ratio", "nodes", {"graphopt": 0}) == ""


def test_what_size_costs_is_a_line_for_each_contender() -> None:
    records = [
        Record("scale", f"n{size}", name, "1", {"nodes_before": size, "cpu_seconds": size * cost})
        for name, cost in (("graphopt:a", 1e-5), (WILD, 1e-3))
        for size in (1e4, 1e3, 1e5)
    ]
    plot = line_plot(records, kinds(records), "nodes_before", "nodes", "cpu_seconds", "CPU seconds")
    found = marks(plot)
    ours, theirs = found[:3], found[3:]
    assert [x for x, *_ in ours] == sorted(x for x, *_ in ours)
    assert all(other[1] < one[1] for one, other in zip(ours, theirs, strict=True))
    assert plot.count('class="run') == 2
    assert line_plot(records[:1], kinds(records), "nodes_before", "nodes", "cpu_seconds", "CPU seconds") == ""


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0], [-1.0, 5.0], [0.2, 90.0], [1e-9, 1e9], [5.0, 5.0001]])
def test_axes_have_room_for_all_values(values: list[float]) -> None:
    found = axis(values, 10.0, 110.0)
    assert all(10.0 <= found.at(one) <= 110.0 for one in values)
    assert all(10.0 <= found.at(one) <= 110.0 for one in found.ticks())

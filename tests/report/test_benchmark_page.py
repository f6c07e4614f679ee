"""The page of the benchmarks in a browser: nothing runs over, nothing is asked of a network, light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, DRIVER, Browser

from benchmarks.report_page import page
from benchmarks.report_text import told
from benchmarks.results import read

EXAMPLE = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "quantization.jsonl"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("chromium or chromedriver is not installed (Debian: apt-get install chromium chromium-driver)")
    folder = tmp_path_factory.mktemp("pages")
    (folder / "benchmarks.html").write_text(page(told(read(EXAMPLE))), encoding="utf-8")
    browser = Browser(folder / "profile")
    browser.open((folder / "benchmarks.html").as_uri())
    yield browser
    browser.close()


def test_it_asks_nothing_of_a_network_and_breaks_no_policy(shown: Browser) -> None:
    assert shown.run("return performance.getEntriesByType('resource').length") == 0
    assert shown.complaints() == []
    assert shown.run("return document.querySelectorAll('svg.front').length") == 2
    assert shown.run("return getComputedStyle(document.querySelector('section')).borderRadius") == "10px"


def test_nothing_runs_over_its_edge(shown: Browser) -> None:
    shown.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    for width in ("420px", "900px", ""):
        shown.run("document.body.style.width = arguments[0]", width)
        wide = "return [...document.querySelectorAll('section')].every(one => one.scrollWidth <= one.clientWidth + 1)"
        assert shown.run(wide), width
    assert shown.run("return document.documentElement.scrollWidth <= window.innerWidth")


def test_dark_colours_are_dark(shown: Browser) -> None:
    colours = []
    for theme in ("dark", "light"):
        shown.run("document.documentElement.dataset.theme = arguments[0]", theme)
        for what in ("backgroundColor", "color"):
            found = shown.run(f"return getComputedStyle(document.body).{what}")
            colours.append(sum(int(each) for each in re.findall(r"\d+", found)[:3]))
    ground, ink, light_ground, light_ink = colours
    assert ground < 150 < 500 < ink
    assert light_ink < 150 < 500 < light_ground

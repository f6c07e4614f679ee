"""The page of a search: its plot, its table, and what a browser makes of them."""

from __future__ import annotations

import dataclasses
import html
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, DRIVER, Browser
from made_searches import ORIGINAL, few, many, nothing, trial

from graphopt.report.tuned_page import save_tuned_page, tuned_page
from graphopt.report.tuned_plot import HEIGHT, WIDTH, legend_mark, tuned_plot
from graphopt.tune.trial import FAILED, Tuned

UNMEASURED = dataclasses.replace(trial("a", "t", 0.2, 20.0), reached={"sqnr_db": math.nan})
NAMESPACE = "{http://www.w3.org/2000/svg}"


def marks(found: Tuned) -> dict[int, tuple[float, float]]:
    """Where the mark of each trial is drawn."""
    places = {}
    for link in ET.fromstring(tuned_plot(found)).iter(f"{NAMESPACE}a"):
        numbers: list[tuple[float, float]] = []
        for shape in link:
            if "points" in shape.attrib:
                pairs = [tuple(map(float, each.split(","))) for each in shape.attrib["points"].split()]
                numbers += [(one, other) for one, other in pairs]
            elif shape.get("class") != "ring" and "cx" in shape.attrib:
                numbers.append((float(shape.attrib["cx"]), float(shape.attrib["cy"])))
        places[int(link.attrib["href"].removeprefix("#trial-"))] = (
            sum(one for one, _ in numbers) / len(numbers),
            sum(other for _, other in numbers) / len(numbers),
        )
    return places


@pytest.mark.parametrize("found", [few(), many(), nothing()], ids=["few", "many", "nothing"])
def test_every_trial_with_both_figures_has_a_mark_inside_the_plot(found: Tuned) -> None:
    drawn = marks(found)
    assert set(drawn) == {place for place, one in enumerate(found.trials) if one.status != FAILED}
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in drawn.values())


def test_smaller_is_to_the_left_and_nearer_is_upwards() -> None:
    drawn = marks(few())
    assert drawn[2][0] < drawn[1][0] < drawn[0][0]
    assert drawn[0][1] < drawn[1][1] < drawn[2][1] < drawn[3][1]


@pytest.mark.parametrize("axis", ["max_error", "top1_drop"])
def test_less_is_upwards_where_less_is_better(axis: str) -> None:
    trials = tuple(
        dataclasses.replace(one, reached={axis: value})
        for one, value in zip(few().trials, (0.0, 0.01, 0.2), strict=False)
    )
    drawn = marks(dataclasses.replace(few(), trials=trials, budgets=(f"{axis}<=0.05",), axes=("bytes", axis)))
    assert drawn[0][1] < drawn[1][1] < drawn[2][1]


def test_cosines_near_one_are_told_apart() -> None:
    values = (0.9, 0.99, 0.999)
    trials = tuple(
        dataclasses.replace(one, reached={"cosine": each}) for one, each in zip(few().trials, values, strict=False)
    )
    drawn = marks(dataclasses.replace(few(), trials=trials, budgets=("cosine>=0.99",), axes=("bytes", "cosine")))
    steps = [drawn[0][1] - drawn[1][1], drawn[1][1] - drawn[2][1]]
    assert steps[0] == pytest.approx(steps[1], rel=0.1), "each nine is worth as much"
    assert steps[0] > 50


def test_what_a_budget_forbids_is_shaded() -> None:
    found = few()
    plot = ET.fromstring(tuned_plot(found))
    shade = next(one for one in plot.iter(f"{NAMESPACE}rect") if one.get("class") == "forbidden")
    edge, drawn = float(shade.attrib["y"]), marks(found)
    for place, one in enumerate(found.trials):
        if one.status != FAILED:
            assert (drawn[place][1] <= edge) == (one.reached["sqnr_db"] >= 20)


def test_a_few_that_are_far_off_squeeze_nobody() -> None:
    found = few()
    far = (*found.trials, trial("int2", "int2", 0.1, -300.0))
    drawn = marks(dataclasses.replace(found, trials=far))
    assert drawn[1][1] < drawn[2][1] - 30
    assert drawn[5][1] <= HEIGHT


@pytest.mark.parametrize(
    "change",
    [
        {"trials": (), "front": (), "chosen": None},
        {"trials": few().trials[4:], "front": (), "chosen": None},
        {"trials": few().trials[:1], "front": (0,), "chosen": 0},
        {"axes": ("latency", "cosine")},
        {"axes": ("energy", "sqnr_db"), "minimize": "energy-proxy"},
        {"axes": ("macs", "agreement")},
        {"original": dataclasses.replace(ORIGINAL, bytes=0, latency=None, energy=None)},
        {"budgets": ("sqnr_db>=20", "bytes<=0.3")},
        {"budgets": ()},
        {"held_out": {}, "recipe": "", "feeds": ""},
        {"trials": (UNMEASURED,), "front": (0,), "chosen": 0},
        {"trials": tuple(trial(f"{n}", "t", 0.2, 20.0) for n in range(3)), "front": (0,), "chosen": 0},
    ],
)  # fmt: skip
def test_odd_searches_have_a_page(change: dict[str, object]) -> None:
    page = tuned_page(dataclasses.replace(few(), **change))  # type: ignore[arg-type]
    assert page.endswith("</html>\n")
    assert "nan" not in re.sub(r"<style>.*?</style>|<script>.*?</script>", "", page, flags=re.DOTALL).lower()


def test_the_page_has_what_a_reader_asks_for() -> None:
    page = html.unescape(tuned_page(many()))
    for said in (
        "for mobile", "sqnr_db>=20", "200 candidates tried", "The search ended early: the time was up",
        "Compressed bytes count.",
        "the inputs were generated, not real data", "asked: top1_drop<=0.005", "128 rows", 'name = "tuned"', "held-out",
    ):  # fmt: skip
        assert said in page
    assert "Nothing that was tried keeps the budgets" in html.unescape(tuned_page(nothing()))


def test_no_two_techniques_look_alike() -> None:
    looks = [legend_mark(number) for number in range(64)]
    assert len(set(looks)) == 64


def test_names_are_text_whatever_is_in_them() -> None:
    wild = "<script>alert(1)</script>\"'&]]>\x1b\n"
    one = dataclasses.replace(trial(wild, wild, 0.2, 25.0), pipeline=wild, why=wild)
    found = dataclasses.replace(
        few(), model=f"/a/{wild}", trials=(one,), front=(0,), chosen=0, recipe=wild, feeds=wild, preset=wild,
        assumptions=(wild,), warnings=(wild,), stopped=wild,
    )  # fmt: skip
    page = tuned_page(found)
    assert "<script>alert" not in page
    assert "\x1b" not in page
    ET.fromstring(tuned_plot(found))


def test_saving_replaces_the_page_whole(tmp_path: Path) -> None:
    path = tmp_path / "search.html"
    path.write_text("old")
    save_tuned_page(path, few())
    assert path.read_text(encoding="utf-8") == tuned_page(few())


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("chromium or chromedriver is not installed (Debian: apt-get install chromium chromium-driver)")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    path = tmp_path_factory.mktemp("pages") / "search.html"
    save_tuned_page(path, many())
    browser.open(path.as_uri())
    return browser


def column(browser: Browser, number: int) -> list[str]:
    rows = "document.querySelectorAll('table.trials tbody tr')"
    script = f"return [...{rows}].map(row => row.children[arguments[0]].innerText)"
    found: list[str] = browser.run(script, number)
    return found


def test_it_asks_nothing_of_a_network_and_breaks_no_policy(page: Browser) -> None:
    assert page.run("return performance.getEntriesByType('resource').length") == 0
    assert page.complaints() == []
    assert page.run("return document.querySelectorAll('table.trials tbody tr').length") == 201


def test_the_table_sorts_by_figures_both_ways(page: Browser) -> None:
    heads = page.run("return [...document.querySelectorAll('table.trials th')].map(one => one.innerText)")
    at = heads.index("SQNR")
    page.run("document.querySelectorAll('table.trials th button')[arguments[0]].click()", at)
    up = column(page, at)
    assert up[0] == "exact", "the original stays first"
    decibels = [float(each.removesuffix(" dB")) for each in up[1:]]
    assert decibels == sorted(decibels)
    page.run("document.querySelectorAll('table.trials th button')[arguments[0]].click()", at)
    assert [float(each.removesuffix(" dB")) for each in column(page, at)[1:]] == sorted(decibels, reverse=True)
    assert page.run("return document.querySelectorAll('th[aria-sort]').length") == 1


def test_a_mark_leads_to_its_row(page: Browser) -> None:
    found = many()
    mark = f"document.querySelector('a[href=\"#trial-{found.chosen}\"]')"
    page.run(f"{mark}.dispatchEvent(new MouseEvent('click', {{bubbles: true}}))")
    assert page.run("return document.querySelector(':target td.candidate .name').innerText").startswith(
        found.trials[found.chosen or 0].candidate.name
    )


def test_nothing_runs_over_its_edge(page: Browser) -> None:
    assert page.run("return document.documentElement.scrollWidth <= window.innerWidth")
    for width in ("600px", "1200px"):
        page.run("document.body.style.width = arguments[0]", width)
        wide = "return [...document.querySelectorAll('section')].every(one => one.scrollWidth <= one.clientWidth + 1)"
        assert page.run(wide), width
    page.run("document.body.style.width = ''")


def test_dark_colours_are_dark(page: Browser) -> None:
    page.run("document.documentElement.dataset.theme = 'dark'")
    colours = page.run("return getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color")
    dark, light = (
        [int(each) for each in re.findall(r"\d+", part)] for part in colours.replace(")rgb", ")|rgb").split("|")
    )
    page.run("document.documentElement.dataset.theme = 'auto'")
    assert sum(dark) < 150 < 500 < sum(light)

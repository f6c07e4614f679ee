"""The report page in a browser: opened, clicked, typed at, looked at; and with a model that wants to break it."""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from browser import CHROMIUM, DRIVER, Browser

from graphopt.instruments.history import History
from graphopt.pipeline.gate import Limits
from graphopt.report.html import page
from graphopt.session.choice import plan
from graphopt.session.job import Job
from graphopt.session.run import run
from graphopt.storage.read import read
from graphopt.testing import model

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="chromium or chromedriver is not installed (Debian: apt-get install chromium chromium-driver)",
)

TEXT = """g (float[N,64] x) => (float[N,48] y) {
    a = Identity(x)  b = MatMul(a, w)  c = Relu(b)  e = Relu(c)  y = Identity(e)  d = Exp(b)
}"""
WEIGHT = np.random.default_rng(7).standard_normal((64, 48)).astype(np.float32)
PIPELINE = "repeat(identities,idempotent,dead-nodes),weight-int8"
HOSTILE = {
    "a": "</script><b>bold</b>",
    "b": '"quo\'tes" & <img src=x onerror="window.owned=1">',
    "c": "{{css}} back\\slash </style>",
    "e": "new\nline \u202e rtl",
}
OF_THE_MODEL = "img, #model *, .canvas script, .canvas b, #remark script, #remark b, #hits script, #hits b"  # elements


def report(path: Path, folder: Path, pipeline: str | None = PIPELINE, **options: Any) -> Path:
    steps, name, budgets, _ = plan(recipe=None, pipeline=pipeline, budget="sqnr_db>=10" if pipeline else None)
    history = History()
    made = run(read(path), Job(steps, name, budgets, **options), None, None, history)
    found = folder / "report.html"
    found.write_text(page(made.report, history), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("net")
    onnx.save(model(TEXT, w=WEIGHT), folder / "net.onnx")
    gate = Limits(frozenset({("identities", 2)}))
    return report(folder / "net.onnx", folder, validate="each", latency=True, gate=gate)


def at(browser: Browser) -> int:
    return int(browser.run("return document.body.dataset.at"))


def test_it_opens_at_the_input_and_asks_nothing_of_a_network(browser: Browser, net: Path) -> None:
    browser.open(net.as_uri())
    assert browser.text("#model") == "net.onnx"
    assert browser.text("#position") == "The input before 4 rewrites"
    assert "Recipe" not in browser.text("#remark")
    assert browser.run("return performance.getEntriesByType('resource').length") == 0
    assert browser.complaints() == []


def test_buttons_slider_and_strip_move_through_the_run(browser: Browser, net: Path) -> None:
    browser.open(net.as_uri())
    browser.click("#next")
    assert at(browser) == 1
    assert browser.text("#remark .title").startswith("identities:1 identity on Identity")
    assert browser.run("return document.querySelectorAll('#before g.gone').length") == 1
    assert browser.run("return document.querySelectorAll('#after g.gone').length") == 0
    ports = browser.run("return [...document.querySelectorAll('#before g.port text')].map((one) => one.textContent)")
    assert ports == ["x"]  # all other values have their nodes in the picture
    assert browser.run("return document.querySelectorAll('#before path.edge').length") == 4
    assert browser.run("return document.querySelectorAll('#after g.moved').length") == 1
    browser.click("#last")
    assert at(browser) == 4
    assert "weight-int8:1" in browser.text("#remark")
    assert browser.text("#after g.came .op") == "DequantizeLinear"
    browser.run("const s = document.getElementById('slider'); s.value = 2; s.dispatchEvent(new Event('input'))")
    assert browser.text("#position") == "Rewrite 2 of 4, idempotent"
    browser.click("#first")
    assert at(browser) == 0
    browser.click("#table button")
    assert at(browser) == 1
    assert browser.complaints() == []


def test_keys_move_by_rewrites_and_by_passes(browser: Browser, net: Path) -> None:
    browser.open(net.as_uri())
    steps = [("right", 1), ("right", 2), ("left", 1), ("end", 4), ("right", 4), ("home", 0), ("page down", 1)]
    steps += [("page down", 2), ("page up", 1), ("page up", 0)]
    for key, place in steps:
        browser.press(key)
        assert (key, at(browser)) == (key, place)
    browser.click("#slider")  # where the arrows are the slider's own
    here = at(browser)
    browser.press("right")
    assert at(browser) == here + 1


def test_search_finds_what_touched_a_tensor_and_what_did_not_happen(browser: Browser, net: Path) -> None:
    browser.open(net.as_uri())
    browser.press("/")
    assert browser.run("return document.activeElement.id") == "search"
    browser.press("Relu(", "enter")
    assert browser.run("return document.querySelectorAll('#hits [role=option]').length") >= 1
    assert at(browser) >= 1
    assert "switched off (2): identity on Identity(y)" in _found(browser, "Identity(y)")
    first = _found(browser, "w")
    assert "weight-int8:1" in first
    browser.press("escape")
    assert not browser.run("return document.getElementById('hits').checkVisibility()")
    browser.press("left")  # the keys are the page's again
    assert browser.complaints() == []


def _found(browser: Browser, name: str) -> str:
    script = "const s = document.getElementById('search'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))"
    browser.run(script, name)
    return browser.text("#hits")


def test_a_node_shows_its_details_by_mouse_and_by_keyboard(browser: Browser, net: Path) -> None:
    browser.open(f"{net.as_uri()}#rewrite=1")
    browser.click("#after g.moved")
    assert "float[64,48]" in browser.text("#details")
    browser.press("right")
    assert not browser.run("return document.getElementById('details').checkVisibility()")
    browser.run("document.querySelector('#before g[role=button]').focus()")
    browser.press("enter")
    assert "Makes" in browser.text("#details")


def test_lines_and_waterfall_say_what_was_measured(browser: Browser, net: Path) -> None:
    browser.open(f"{net.as_uri()}#rewrite=4")
    heads = browser.run("return [...document.querySelectorAll('.chart .head span')].map(one => one.textContent)")
    assert [one.removesuffix(" (noisy)") for one in heads] == [
        "Nodes",
        "Weights",
        "MACs",
        "Latency",
        "SQNR of the step",
    ]
    assert "dB" in browser.text("#charts")
    bars = browser.text("#waterfall")
    assert "bit for bit" in bars
    assert "result against the input" in bars


def test_an_address_holds_the_place_and_the_colours(browser: Browser, net: Path, tmp_path: Path) -> None:
    pages = {}
    for theme in ("light", "dark"):
        browser.open(f"{net.as_uri()}#rewrite=3&theme={theme}&search=y")
        assert at(browser) == 3
        pages[theme] = _ground(browser.screenshot(tmp_path / f"{theme}.png"))
    assert pages["light"] > 200 > 90 > pages["dark"]
    browser.press("t")
    time.sleep(0.5)  # the address follows a moment later
    assert "theme" not in browser.run("return location.hash")  # the next after dark is the system's
    for wild in ("rewrite=99999", "rewrite=-3", "rewrite=x&theme=%22%3E&search=%00", "%%%"):
        browser.open(f"{net.as_uri()}#{wild}")
        assert 0 <= at(browser) <= 4
    assert browser.complaints() == []


def _ground(png: bytes) -> float:
    """Brightness of the top left pixel of a screenshot, which is the page's ground."""
    place, rows = 8, b""
    while place < len(png):
        size, kind = struct.unpack(">I4s", png[place : place + 8])
        rows += png[place + 8 : place + 8 + size] if kind == b"IDAT" else b""
        place += 12 + size
    return sum(zlib.decompress(rows)[1:4]) / 3


def test_colours_have_contrast_in_both_themes(browser: Browser, net: Path) -> None:
    script = """
        const style = getComputedStyle(document.documentElement);
        return arguments[0].map((name) => style.getPropertyValue(name).trim());
    """
    for theme in ("light", "dark"):
        browser.open(f"{net.as_uri()}#theme={theme}")
        for ink in ("--ink", "--soft", "--accent"):
            for ground in ("--page", "--card", "--node", "--gone", "--came", "--moved"):
                one, other = browser.run(script, [ink, ground])
                if ink != "--accent" or ground in ("--page", "--card"):
                    assert _contrast(one, other) >= 4.5, (theme, ink, ground)


def _contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_everything_to_press_has_a_name(browser: Browser, net: Path) -> None:
    browser.open(f"{net.as_uri()}#rewrite=2")
    script = """
        return [...document.querySelectorAll('button, input, [role=button], [tabindex]')]
          .filter((one) => one.tabIndex >= 0)
          .filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim() || one.title))
          .map((one) => one.outerHTML);
    """
    assert browser.run(script) == []


def test_names_of_the_model_stay_text(browser: Browser, tmp_path: Path) -> None:
    made = model(TEXT, w=WEIGHT)
    for node in made.graph.node:
        node.input[:] = [HOSTILE.get(name, name) for name in node.input]
        node.output[:] = [HOSTILE.get(name, name) for name in node.output]
    made.graph.node[0].name = "<script>window.owned=1</script>"
    made.graph.node[1].name = "']];--> ]]> ${1+1} &lt;"
    path = tmp_path / "<b>{{js}}'\"&net.onnx"
    onnx.save(made, path)
    found = report(path, tmp_path)
    browser.open(f"{found.as_uri()}#search=quo")
    assert browser.text("#model") == path.name
    count = int(browser.run("return document.getElementById('slider').max"))
    assert count == 5
    seen = ""
    for place in range(count + 1):
        browser.open(f"{found.as_uri()}#rewrite={place}&search={'%3Cscript%3E' if place % 2 else 'quo'}")
        browser.run("for (const one of document.querySelectorAll('#before g')) one.dispatchEvent(new Event('click'))")
        seen += browser.run("return document.body.innerText + document.body.outerHTML")
        assert browser.run("return document.querySelectorAll(arguments[0]).length", OF_THE_MODEL) == 0
        assert browser.run("return document.scripts.length") == 2
    assert browser.run("return window.owned") is None
    assert "<script>window.owned=1</script>" in seen
    assert "new\\nline \\u202e rtl" in seen
    assert browser.complaints() == []


def test_a_run_that_changed_nothing_has_a_page(browser: Browser, tmp_path: Path) -> None:
    onnx.save(model("g (float[2] x) => (float[2] y) { y = Relu(x) }"), tmp_path / "tidy.onnx")
    browser.open(report(tmp_path / "tidy.onnx", tmp_path, "identities").as_uri())
    assert browser.text("#position") == "Nothing was changed"
    browser.press("right", "end", "page down", "page up", "/")
    assert at(browser) == 0
    assert browser.complaints() == []


@pytest.mark.corpus
@pytest.mark.skipif("GRAPHOPT_CORPUS" not in os.environ, reason="GRAPHOPT_CORPUS does not name a folder of real models")
def test_the_largest_run_is_small_and_opens_at_once(browser: Browser, tmp_path: Path) -> None:
    path = Path(os.environ["GRAPHOPT_CORPUS"]) / "models" / "bert_squad_keras2onnx_opset11.onnx"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    found = report(path, tmp_path, None, validate="none")
    assert found.stat().st_size < 5_000_000
    browser.open(found.as_uri())
    assert int(browser.run("return document.body.dataset.ready")) < 2000  # ms since the page was asked for
    count = int(browser.run("return document.getElementById('slider').max"))
    assert count > 1000
    seconds = browser.run(
        """
        const start = performance.now(), slider = document.getElementById('slider');
        for (let place = 0; place <= arguments[0]; place += 1) {
          slider.value = place;
          slider.dispatchEvent(new Event('input'));
        }
        return (performance.now() - start) / 1000;
        """,
        count,
    )
    assert seconds / count < 0.05  # each picture of the run, drawn
    assert browser.complaints() == []

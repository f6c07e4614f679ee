"""Pipeline text: what it stands for, and that writing and reading it are inverse."""

from __future__ import annotations

import random
from typing import Any

import pytest

from graphopt.pipeline import Contract, Pipeline, Registry, Repeat

ODD_TEXTS = [
    "", " ", "none", "true", "8", "a,b", "{x}", "[y]", "(z)", 'say "hi"', "it's", "back\\slash", "#no comment",
    "/head/*", "a=b", "tab\there", "line\nbreak", "cr\rlf", "naïve", "图", "\u202e", "\x00\x07", "\ud800", "🙂",
    "\U0010ffff", "\\n", "\ufeff", "e\u0301",
]  # fmt: skip
ODD_FLOATS = [0.0, -0.0, 1e-3, 1e-5, 1e16, -1.5e300, 5e-324, 0.1, 1.0, 123456789.0, 2**53, -7]
ODD_INTS = [0, 1, -1, 8, 255, 10**6, 2**63 - 1, -(2**63)]


def build(registry: Registry, name: str, **options: Any) -> Any:
    pass_class: Any = registry.get(name)
    return pass_class(**options)


def paint(registry: Registry, **options: Any) -> Any:
    return build(registry, "paint", **options)


def random_paint(registry: Registry, rng: random.Random) -> Any:
    tone: Any = type(paint(registry).tone)

    def several(values: list[Any]) -> tuple[Any, ...]:
        return tuple(rng.choice(values) for _ in range(rng.randrange(4)))

    pool: dict[str, Any] = {
        "wet": rng.choice([True, False]),
        "coats": abs(rng.choice(ODD_INTS)) % 2**62,
        "scale": rng.choice([*ODD_FLOATS, rng.uniform(-1e9, 1e9), rng.random() * 10.0 ** rng.randint(-300, 300)]),
        "title": rng.choice([*ODD_TEXTS, "".join(chr(rng.randrange(0x11000)) for _ in range(5))]),
        "side": rng.choice(["left", "right", "on top"]),
        "bits": rng.choice([4, 8, "auto", True]),
        "tone": rng.choice(list(tone)),
        "skip_rooms": several(ODD_TEXTS),
        "widths": several(ODD_INTS),
        "mix": several(ODD_FLOATS),
        "tones": several(list(tone)),
        "switches": several([True, False]),
        "limit": rng.choice([None, *ODD_INTS]),
        "ratio": rng.choice([None, *ODD_FLOATS]),
        "note": rng.choice([None, *ODD_TEXTS]),
        "doors": rng.choice([None, several(ODD_TEXTS)]),
        "edge": rng.choice([None, "none", "round"]),
    }
    return paint(registry, **{key: pool[key] for key in rng.sample(sorted(pool), rng.randrange(len(pool)))})


def random_pipeline(registry: Registry, rng: random.Random) -> Pipeline:
    def harmless() -> Any:
        return rng.choice([build(registry, "sweep"), build(registry, "polish", rounds=rng.choice(ODD_INTS))])

    def step() -> Any:
        kind = rng.randrange(3)
        if kind == 0:
            return Repeat(rng.randint(1, 1000), tuple(harmless() for _ in range(rng.randint(1, 3))))
        return random_paint(registry, rng) if kind == 1 else harmless()

    return Pipeline(tuple(step() for _ in range(rng.randrange(5))))


@pytest.mark.parametrize("seed", range(8))
def test_reading_what_was_written_gives_an_equal_pipeline(registry: Registry, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        pipeline = random_pipeline(registry, rng)
        for text in (str(pipeline), pipeline.text(full=True)):
            again = Pipeline.parse(text, registry)
            assert again == pipeline, text
            assert repr(again) == repr(Pipeline.parse(str(again), registry)), "also in types and signs of zero"
            assert again.text() == str(pipeline) and again.text(full=True) == pipeline.text(full=True)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_every_text_survives_as_an_option(registry: Registry, text: str) -> None:
    pipeline = Pipeline.of(paint(registry, title=text, skip_rooms=(text, text), note=text))
    written = str(pipeline)
    assert written.isprintable(), "a pipeline is one line that a terminal can show"
    assert Pipeline.parse(written, registry) == pipeline


def test_negative_zero_keeps_its_sign(registry: Registry) -> None:
    (one,) = Pipeline.parse("paint{ratio=-0.0}", registry).passes()
    assert str(one.ratio) == "-0.0"  # type: ignore[attr-defined]
    assert str(Pipeline.of(paint(registry, ratio=-0.0))) == "paint{ratio=-0.0}"


def test_the_canonical_text(registry: Registry) -> None:
    text = (
        """ repeat{max = 4}( sweep , polish{rounds=3}, ) , # tidy up first\r\n"""
        """\tpaint { skip-rooms = [ '/head/*', b ,] wet, coats=1_000\n side="on top" tone=warm } ,"""
    )
    assert str(Pipeline.parse(text, registry)) == (
        'repeat{max=4}(sweep,polish),paint{wet=true coats=1000 side="on top" skip-rooms=["/head/*","b"]}'
    )


def test_full_text_shows_every_option(registry: Registry) -> None:
    assert Pipeline.parse("polish", registry).text(full=True) == "polish{rounds=3}"
    assert Pipeline.parse("paint", registry).text(full=True) == (
        'paint{wet=false coats=2 scale=0.5 title="wall" side=left bits=8 tone=warm skip-rooms=[] widths=[1,2] '
        'mix=[] tones=[] switches=[] limit=none ratio=0.25 note="dry" doors=["front"] edge=round}'
    )


@pytest.mark.parametrize("text", ["", "  \n\t", "# nothing\n", "# nothing"])
def test_a_text_without_steps_is_the_empty_pipeline(registry: Registry, text: str) -> None:
    pipeline = Pipeline.parse(text, registry)
    assert pipeline == Pipeline() and str(pipeline) == "" and pipeline.contract is Contract.EXACT
    assert list(pipeline.passes()) == []


@pytest.mark.parametrize(
    ("setting", "field", "value"),
    [
        ("wet", "wet", True),
        ("wet=false", "wet", False),
        ("coats=+5", "coats", 5),
        ("coats=007", "coats", 7),
        ("limit=-1_0", "limit", -10),
        ("scale=3", "scale", 3.0),
        ("scale=1e-3", "scale", 0.001),
        ("scale=.5", "scale", 0.5),
        ("scale=-5.", "scale", -5.0),
        ("scale=1_0.5E+2", "scale", 1050.0),
        ("scale=100000000000000000000", "scale", 1e20),
        ("title=bare-word/with:*?", "title", "bare-word/with:*?"),
        ("title=8", "title", "8"),
        ("title=true", "title", "true"),
        ("title=none", "title", "none"),
        ("title='single \"inside\"'", "title", 'single "inside"'),
        (r'title="\u00e9\U0001F642\n\t\r\\\"\'"', "title", "é🙂\n\t\r\\\"'"),
        ('title="# no comment"', "title", "# no comment"),
        ("note=none", "note", None),
        ('note="none"', "note", "none"),
        ("limit=none", "limit", None),
        ("doors=none", "doors", None),
        ("doors=[]", "doors", ()),
        ("doors=[none]", "doors", ("none",)),
        ("edge=none", "edge", None),
        ('edge="none"', "edge", "none"),
        ("bits=4", "bits", 4),
        ("bits=auto", "bits", "auto"),
        ("bits=true", "bits", True),
        ('side="on top"', "side", "on top"),
        ("side=right", "side", "right"),
        ("widths=[]", "widths", ()),
        ("widths=[1,-2,]", "widths", (1, -2)),
        ("switches=[true,false]", "switches", (True, False)),
    ],
)
def test_values(registry: Registry, setting: str, field: str, value: object) -> None:
    (one,) = Pipeline.parse(f"paint{{{setting}}}", registry).passes()
    found = getattr(one, field)
    assert found == value and type(found) is type(value)


def test_enum_values(registry: Registry) -> None:
    (one,) = Pipeline.parse('paint{tone="ice cold" tones=[0,warm]}', registry).passes()
    tone: Any = one.tone  # type: ignore[attr-defined]
    assert tone.name == "COLD" and [t.name for t in one.tones] == ["MUTE", "WARM"]  # type: ignore[attr-defined]


def test_options_may_be_separated_by_commas(registry: Registry) -> None:
    assert Pipeline.parse("paint{wet,coats=1,}", registry) == Pipeline.parse("paint{coats=1 wet}", registry)


def test_repeat_has_a_default(registry: Registry) -> None:
    assert str(Pipeline.parse("repeat(sweep)", registry)) == "repeat{max=8}(sweep)"


def test_reading_is_linear_in_the_text(registry: Registry) -> None:
    text = "sweep," * 10_000  # close to the limit of the text
    assert len(Pipeline.parse(text, registry).steps) == 10_000
    quoted = f'paint{{title="{"x" * 60_000}"}}'
    assert str(Pipeline.parse(quoted, registry)) == quoted

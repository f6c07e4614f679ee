"""Bundles: one run packed in a zip file, so that it can be run again anywhere.

bundle.json      what was run, with what, and what came out of it (see `Manifest`)
remarks.jsonl    the remarks of the run
model/...        the model and its external data, as they were; or
model.txt        its text, weights as hashes, where weights are left out
feeds/0000.npz   the inputs that outputs were compared on, in order
calibration/...  the inputs that passes learned from, in the same form
labels.npy       the right answers for the feeds
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Final

from graphopt.debug.archive import Archive
from graphopt.errors import UsageError
from graphopt.ir.wording import shown_path

FORMAT: Final = 1
KIND: Final = "graphopt bundle"
MANIFEST: Final = "bundle.json"
REMARKS: Final = "remarks.jsonl"
MODEL: Final = "model/"
MODEL_TEXT: Final = "model.txt"
FEEDS: Final = "feeds/"
CALIBRATION: Final = "calibration/"
LABELS: Final = "labels.npy"
_LARGEST: Final = 1 << 63


@dataclass(frozen=True)
class PackedJob:
    """The fields of a job as plain values; texts are spelled as on the command line."""

    pipeline: str
    recipe: str | None = None
    budgets: list[str] = field(default_factory=list)
    feeds: str | None = None
    values: list[str] = field(default_factory=list)
    sizes: list[str] = field(default_factory=list)
    labels: str | None = None
    metric: str | None = None
    validate: str = "end"
    on_error: str = "stop"
    disabled: list[str] = field(default_factory=list)
    limit: int | None = None
    only: list[str] = field(default_factory=list)
    until: str | None = None
    check: bool = True
    seed: int = 0
    custom_ops: list[str] = field(default_factory=list)
    worker_seconds: float = 600.0
    worker_memory: int | None = None
    calibration: str | None = None
    limits: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PackedModel:
    """The input: its file's name, the SHA-256 of that and of each file of external data by its location, and
    whether they are in the bundle."""

    name: str
    sha256: str
    external: dict[str, str]
    included: bool


@dataclass(frozen=True)
class PassHash:
    """SHA-256 of the model, weights inside, after one run of a pass that changed it."""

    turn: int
    pass_name: str
    round: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything about a run besides its files.

    `feeds` counts the feeds that are packed; 0 where they are made again, from the seed or the text
    in `job`. `learned` counts those that passes learned from. `outcome` is the verdict's, None where the
    run failed, which `failure` then says.
    """

    versions: dict[str, str]
    job: PackedJob
    model: PackedModel
    passes: list[PassHash]
    feeds: int = 0
    labels: bool = False
    outcome: str | None = None
    verdict: str | None = None
    failure: str | None = None
    notes: list[str] = field(default_factory=list)
    learned: int = 0

    def dump(self) -> bytes:
        """As `bundle.json`."""
        plain = {"kind": KIND, "format": FORMAT, **dataclasses.asdict(self)}
        return json.dumps(plain, indent=1).encode() + b"\n"


def read_manifest(archive: Archive, path: str) -> Manifest:
    """The manifest of a bundle. Raises UsageError with one sentence for anything else."""
    what = shown_path(path)
    try:
        plain = json.loads(archive.text(MANIFEST).decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise UsageError(f"{what} is damaged: its {MANIFEST} is not JSON") from None
    if not isinstance(plain, dict) or plain.get("kind") != KIND:
        raise UsageError(f"{what} is no bundle of graphopt; `graphopt optimize --bundle FILE` writes one")
    if plain.get("format") != FORMAT:
        raise UsageError(f"{what} has the format {plain.get('format')!r} and this graphopt reads {FORMAT}")
    try:
        return Manifest(
            job=_built(PackedJob, plain.get("job")),
            model=_built(PackedModel, plain.get("model")),
            passes=[_built(PassHash, one) for one in _listed(plain.get("passes"), "passes")],
            **_fields(Manifest, plain, {"job", "model", "passes"}),
        )
    except (ValueError, TypeError) as error:
        raise UsageError(f"{what} is damaged: {error}") from None


_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
    "float": (int, float),
    "bool": (bool,),
    "list[str]": (list,),
    "dict[str, str]": (dict,),
}

_LATER: Final = frozenset(("calibration", "learned"))  # not in bundles of the first versions, which had no such thing


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _built(kind: Any, plain: Any) -> Any:
    if not isinstance(plain, dict):
        raise ValueError(f"a {kind.__name__} is not an object")
    return kind(**_fields(kind, plain, set()))


def _fields(kind: Any, plain: dict[str, Any], besides: set[str]) -> dict[str, Any]:
    """The fields of a dataclass from plain data, each of its declared type; ValueError otherwise."""
    found: dict[str, Any] = {}
    for one in dataclasses.fields(kind):
        if one.name in besides:
            continue
        if one.name not in plain:
            if one.name in _LATER:
                continue
            raise ValueError(f"{one.name!r} is missing")
        value = plain[one.name]
        if not isinstance(value, _KINDS[str(one.type)]) or (isinstance(value, bool) and one.type != "bool"):
            raise ValueError(f"{one.name!r} is not of the kind {one.type}")
        if isinstance(value, int | float) and not abs(value) < _LARGEST:
            raise ValueError(f"{one.name!r} is out of range")
        texts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
        if any(not isinstance(text, str) for text in texts):
            raise ValueError(f"{one.name!r} holds something that is no text")
        found[one.name] = value
    return found


def _listed(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name!r} is not a list")
    return value

"""The models that benchmarks are run on, of `models.toml`: where each comes from, and what it is measured on."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.corpus_data.catalogue import CASES
from benchmarks.corpus_data.digits import digits
from benchmarks.corpus_data.evidence import Corpus, Loader
from benchmarks.corpus_data.made import OrMade
from benchmarks.suites import SUITES, Model
from graphopt import demo
from graphopt.errors import UsageError

LIST: Final = Path(__file__).with_name("models.toml")
_SCALE: Final = "scale"
_MODELED: Final = tuple(name for name in SUITES if name not in (_SCALE, "startup"))
_SAMPLES: Final = 64


@dataclass(frozen=True)
class Entry:
    """A model: of a member of a wheel, of a maker, or shipped with graphopt; exactly one of the three.

    most: samples that a measurement takes at most, None for all. quick: whether it takes part in a quick run.
    """

    name: str
    kind: str
    package: str = ""
    version: str = ""
    member: str = ""
    sha256: str = ""
    maker: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    ships: str = ""
    data: str = ""
    most: int | None = _SAMPLES
    quick: bool = False
    suites: tuple[str, ...] = _MODELED

    def __post_init__(self) -> None:
        if sum(map(bool, (self.package, self.maker, self.ships))) != 1:
            raise ValueError(f"{self.name} needs one of package, maker and ships")
        if self.package and not (self.version and self.member and self.sha256):
            raise ValueError(f"{self.name} needs version, member and sha256 of its package")
        if unknown := set(self.suites) - set(SUITES):
            raise ValueError(f"{self.name} is for {sorted(unknown)[0]!r}, which is no suite")

    @property
    def requirement(self) -> str:
        """Its package as pip takes it."""
        return f"{self.package}=={self.version}"

    def path(self, folder: Path) -> Path:
        """Where it lies when `fetch` brought it to a folder; a made one is in a folder of its own, with its data."""
        if self.ships:
            return demo.model_path()
        models = folder / "models"
        return models / self.name / "model.onnx" if self.maker else models / f"{self.name}.onnx"

    def model(self, folder: Path, data: Path | None = None) -> Model:
        """As suites take it; `data` is a folder of labelled data, without which inputs are generated."""
        loader = OrMade(self._loader())
        corpus = Corpus(folder if data is None else data)
        return Model(self.name, self.path(folder), self.kind, corpus, loader, self.most)

    def _loader(self) -> Loader | None:
        if self.data == "digits":
            return digits
        return next(one for one in CASES if one.name == self.data).loader if self.data else None


def entries(path: Path = LIST) -> dict[str, Entry]:
    """All models by name, in the order of the file. Raises UsageError where the file is not one of models."""
    try:
        tables = tomllib.loads(path.read_text())
        return {name: _entry(name, table) for name, table in tables.items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path.name} is no list of models: {error}") from None


def _entry(name: str, table: Mapping[str, Any]) -> Entry:
    facts = dict(table)
    if facts.get("most") == 0:  # TOML has no None
        facts["most"] = None
    if "suites" in facts:
        facts["suites"] = tuple(facts["suites"])
    known = {"digits", *(one.name for one in CASES)}
    if facts.get("data", "digits") not in known:
        raise ValueError(f"{name} has data {facts['data']!r}, which no loader reads")
    return Entry(name, **facts)


def chosen(names: Sequence[str] = (), path: Path = LIST) -> list[Entry]:
    """The models of these names, all for none. Raises UsageError for a name that is none."""
    known = entries(path)
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"there is no model {unknown[0]!r}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(known.values())


def cache() -> Path:
    """Where models and peers are kept unless a folder is named: `graphopt-benchmarks` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "graphopt-benchmarks"

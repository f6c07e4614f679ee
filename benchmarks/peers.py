"""The tools of others, each in a virtual environment of its own: `python -m benchmarks fetch --peers [--to DIR]`.

`peers.toml` pins what is installed. What came of it is a file `peer.json` in the peer's folder: the versions that the
environment itself states, or why there is none. A peer that does not install is a row with its reason.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from graphopt.errors import UsageError

LIST: Final = Path(__file__).with_name("peers.toml")
_RECORD: Final = "peer.json"
_MINUTES: Final = 20  # that pip may take for one peer
_VERSIONS: Final = (
    "import json; from importlib import metadata; "
    "print(json.dumps({one.metadata['Name']: one.version for one in metadata.distributions()}))"
)


@dataclass(frozen=True)
class Peer:
    """A tool: the packages of its environment with their versions, its own first, and in a few words what it does."""

    name: str
    packages: tuple[str, ...]
    about: str

    @property
    def distribution(self) -> str:
        """The package whose version is the tool's."""
        return self.packages[0].partition("==")[0]


@dataclass(frozen=True)
class Installed:
    """What came of installing a peer: every package that its environment has, or in a sentence why it has none.

    packages: those that were asked for, so that a changed list is seen.
    """

    peer: str
    packages: tuple[str, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""

    @property
    def version(self) -> str:
        """The tool's own, as its metadata state it; empty where it is not installed."""
        wanted = _canonical(self.packages[0].partition("==")[0])
        return next((version for name, version in self.versions.items() if _canonical(name) == wanted), "")


def peers(path: Path = LIST) -> dict[str, Peer]:
    """All peers by name, in the order of the file. Raises UsageError where the file is not one of peers."""
    try:
        tables = tomllib.loads(path.read_text())
        return {
            name: Peer(name, tuple(str(one) for one in table["packages"]), str(table.get("about", "")))
            for name, table in tables.items()
            if table["packages"]
        }
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise UsageError(f"{path.name} is no list of peers: {error}") from None


def chosen(names: Sequence[str] | None = None) -> list[Peer]:
    """The peers of these names, all of them for None. Raises UsageError for a name that is none."""
    known = peers()
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise UsageError(f"there is no peer {unknown[0]!r}; there are {', '.join(known)}")
    return [known[name] for name in names] if names is not None else list(known.values())


def install(
    folder: Path,
    names: Sequence[str] | None = None,
    *,
    say: Callable[[str], None] = lambda text: None,
    make: Callable[[Peer, Path], str] | None = None,
) -> list[Installed]:
    """Give each peer its environment below `folder`, where it has not got what the list says already.

    `make` builds one and returns why that failed, "" where it did not. Raises UsageError for unknown names and where
    the folder cannot be made; a peer that does not install is a row with its `failure`.
    """
    wanted = chosen(names)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"no folder for the peers can be made at {folder} ({error.strerror})") from None
    found = []
    for peer in wanted:
        place = folder / peer.name
        before = _recorded(place)
        if before is not None and before.packages == peer.packages and not before.failure and _python(place).is_file():
            found.append(before)
            continue
        say(f"{peer.name}: installing {', '.join(peer.packages)}")
        failure = (make or _made)(peer, place)
        versions: dict[str, str] = {}
        if not failure:
            versions, failure = _versions(_python(place))
        row = Installed(peer.name, peer.packages, versions, failure)
        place.mkdir(exist_ok=True)
        (place / _RECORD).write_text(json.dumps(asdict(row), indent=1) + "\n")
        say(f"{peer.name}: {failure or row.version}")
        found.append(row)
    return found


def installed(folder: Path, names: Sequence[str] | None = None) -> list[Installed]:
    """What `install` left in a folder. Raises UsageError where the folder is missing or holds no peer."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder of peers at {folder}; python -m benchmarks fetch --peers makes it")
    rows = [_recorded(folder / peer.name) for peer in chosen(names)]
    found = [row for row in rows if row is not None]
    if not found:
        raise UsageError(f"{folder} holds no peers; python -m benchmarks fetch --peers brings them")
    return found


def python_of(peer: str, folder: Path) -> Path:
    """The interpreter of a peer's environment. Raises UsageError with the reason where there is none."""
    (row,) = chosen([peer])
    found = _recorded(folder / row.name)
    if found is not None and found.failure:
        raise UsageError(f"{peer} is not installed: {found.failure}")
    if found is None or not _python(folder / peer).is_file():
        raise UsageError(f"{peer} is not installed in {folder}; python -m benchmarks fetch --peers brings it")
    return _python(folder / peer)


def pythons(folder: Path, names: Sequence[str] | None = None) -> dict[str, Path]:
    """The interpreters of all peers that are installed, by name. Errors as of `installed`."""
    return {row.peer: _python(folder / row.peer) for row in installed(folder, names) if not row.failure}


def version_at(peer: str, python: Path) -> str:
    """A peer's own version, as the environment of an interpreter states it; empty where it does not."""
    (own,) = chosen([peer])
    versions, _ = _versions(python)
    return Installed(peer, own.packages, versions).version


def _made(peer: Peer, place: Path) -> str:
    """Make an environment and install the packages from wheels; why that failed, in a sentence, "" where it did not."""
    try:
        venv.EnvBuilder(clear=True, with_pip=True).create(place)
    except (OSError, subprocess.SubprocessError) as error:
        return f"no virtual environment could be made ({str(error)[:120]})"
    command = [str(_python(place)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary", ":all:", *peer.packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60 * _MINUTES)
    except subprocess.TimeoutExpired:
        return f"pip was not through after {_MINUTES} minutes"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1][:200].removeprefix("ERROR: ")
    return ""


def _versions(python: Path) -> tuple[dict[str, str], str]:
    """The packages that an environment states to have, and why it does not say."""
    try:
        done = subprocess.run([str(python), "-I", "-c", _VERSIONS], capture_output=True, text=True, check=True)
        return {str(name): str(version) for name, version in sorted(json.loads(done.stdout).items())}, ""
    except (OSError, subprocess.SubprocessError, ValueError, AttributeError) as error:
        return {}, f"its environment does not run ({type(error).__name__})"


def _recorded(place: Path) -> Installed | None:
    """What the record of a peer's folder says; None where there is none that can be read."""
    try:
        facts = json.loads((place / _RECORD).read_text())
        return Installed(**{**facts, "packages": tuple(facts["packages"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _python(place: Path) -> Path:
    return place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

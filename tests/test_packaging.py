"""The distribution: what its metadata say, and what a wheel built from this tree holds."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from graphopt.pipeline import Registry

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FAMILIES: dict[str, str] = PROJECT["entry-points"]["graphopt.passes"]


def package_files() -> set[str]:
    """Every file of both packages in this tree, as paths inside a wheel."""
    found = (path for package in ("graphopt", "passes") for path in (REPOSITORY / package).rglob("*"))
    return {
        path.relative_to(REPOSITORY).as_posix()
        for path in found
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed, so no wheel can be built here")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_installed_version_is_the_project_s() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", PROJECT["version"])
    assert metadata.version("graphopt") == PROJECT["version"]


def test_every_family_of_passes_is_an_entry_point() -> None:
    folders = {path.parent.name for path in (REPOSITORY / "passes").glob("*/__init__.py")}
    assert set(FAMILIES) == {*folders, "interop"}
    expected = {name: f"passes.{name}:PASSES" for name in folders} | {"interop": "graphopt.interop:PASSES"}
    assert expected == FAMILIES
    installed = metadata.entry_points(group="graphopt.passes")
    assert {entry.name: entry.value for entry in installed if entry.dist and entry.dist.name == "graphopt"} == FAMILIES


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_an_entry_point_loads_a_table_of_passes(family: str) -> None:
    entries = metadata.entry_points(group="graphopt.passes", name=family)
    (passes,) = [entry.load() for entry in entries if entry.dist and entry.dist.name == "graphopt"]
    assert isinstance(passes, dict)
    assert passes
    registry = Registry.load()
    for name, target in passes.items():
        entry = registry.entry(name)
        assert target == f"{entry.pass_class.__module__}:{entry.pass_class.__qualname__}"
        assert target.startswith(FAMILIES[family].partition(":")[0] + ".")
        assert entry.family == family


def test_the_command_is_installed_and_loads() -> None:
    assert PROJECT["scripts"] == {
        "graphopt": "graphopt.cli.start:main",
        "graphopt-check": "graphopt.integrations.check:main",
    }
    for module, _, name in (target.partition(":") for target in PROJECT["scripts"].values()):
        assert callable(getattr(importlib.import_module(module), name))


def test_the_wheel_holds_both_packages_whole(wheel: zipfile.ZipFile) -> None:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == package_files()
    assert {"graphopt/py.typed", "passes/py.typed", "graphopt/demo/digits_cnn.onnx", "graphopt/demo/digits.npz"} <= held


def test_the_wheel_carries_licence_notice_and_metadata(wheel: zipfile.ZipFile) -> None:
    info = f"graphopt-{PROJECT['version']}.dist-info"
    licence = wheel.read(f"{info}/licenses/LICENSE").decode()
    assert "Apache License" in licence
    assert "Copyright The graphopt authors" in licence
    assert "CC BY 4.0" in wheel.read(f"{info}/licenses/NOTICE").decode()
    stated = wheel.read(f"{info}/METADATA").decode()
    assert "Requires-Python: >=3.11" in stated
    assert "License-Expression: Apache-2.0" in stated
    entries = wheel.read(f"{info}/entry_points.txt").decode()
    assert "graphopt = graphopt.cli.start:main" in entries
    assert all(f"{name} = {value}" in entries for name, value in FAMILIES.items())


def test_the_demo_takes_under_500_kb_of_the_wheel(wheel: zipfile.ZipFile) -> None:
    sizes = [entry.file_size for entry in wheel.infolist() if entry.filename.startswith("graphopt/demo/")]
    assert len(sizes) >= 4
    assert sum(sizes) < 500_000


def test_the_licence_is_the_whole_apache_text() -> None:
    text = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert text.lstrip().startswith("Apache License\n                           Version 2.0, January 2004")
    assert [f"{number}. " in text for number in range(1, 10)] == [True] * 9
    assert "END OF TERMS AND CONDITIONS" in text


def test_what_the_source_distribution_names_is_not_named_twice() -> None:
    tool = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    included: list[str] = tool["targets"]["sdist"]["include"]
    assert len(included) == len(set(included))
    assert {*PROJECT["license-files"], PROJECT["readme"], *tool["targets"]["wheel"]["packages"]} <= set(included)

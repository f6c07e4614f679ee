"""Models many times as large as the memory that a run may take: weights go through it one at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.decoder import shape_of, write

MEGABYTE = 10**6
LIMIT = 80 * MEGABYTE

_CHILD = """
import resource, sys
from pathlib import Path
import graphopt.ir.resident, graphopt.ir.shelf, graphopt.session.api
from graphopt.pipeline.registry import Registry
from graphopt.runtime.procfs import process_memory

Registry.load()
graphopt.ir.shelf.KEPT = graphopt.ir.resident.LARGE = graphopt.ir.shelf._SCRATCH = 1 << 24
how = {"pipeline": sys.argv[5], "budget": "sqnr_db>=1"} if sys.argv[5] else {}
limit, source, target = int(sys.argv[1]), sys.argv[2], sys.argv[3]
graphopt.session.api.optimize(sys.argv[4], validate="none", output=target + ".small.onnx")  # imports what it needs
before = process_memory()
resource.setrlimit(resource.RLIMIT_DATA, (before["VmData"] + limit,) * 2)
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
graphopt.session.api.optimize(source, validate="none", output=target, **how)
print(process_memory()["VmHWM"] - before["VmRSS"])
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts memory here")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of 220 MB, of which a table and a head are 66 MB each, and a small one."""
    folder = tmp_path_factory.mktemp("decoder")
    large = write(folder / "large", shape_of(220 * MEGABYTE, hidden=512, vocab=32000))
    return large, write(folder / "small", shape_of(MEGABYTE))


@pytest.mark.parametrize(
    ("pipeline", "share"),
    [
        ("", 1.0),
        ("weight-int8", 0.25),
        ('opset{to=21},weight-int4{range="max"}', 0.16),
        ("magnitude", 1.0),
    ],
)
def test_a_model_is_optimized_in_less_memory_than_it_takes(
    models: tuple[Path, Path], tmp_path: Path, pipeline: str, share: float
) -> None:
    large, small = models
    out = tmp_path / "out.onnx"
    command = [sys.executable, "-c", _CHILD, str(LIMIT), str(large), str(out), str(small), pipeline]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    peak = int(done.stdout.split()[-1])
    assert peak < 2.5 * LIMIT, f"{peak / MEGABYTE:.0f} MB were resident"
    size = sum(one.stat().st_size for one in tmp_path.iterdir() if ".small" not in one.name)
    whole = sum(one.stat().st_size for one in large.parent.iterdir())
    assert size == pytest.approx(share * whole, rel=0.03)
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".graphopt")]

"""Several models side by side: files, counts, outputs against the first, load, latency, memory, operators."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphopt.analysis.cost import facts
from graphopt.contract import Contract
from graphopt.errors import CouldNotTell, UsageError
from graphopt.ir import decode
from graphopt.ir.wording import shown_path
from graphopt.measure.contest import Setting, contest
from graphopt.report.benchmark import Benchmark, Contestant
from graphopt.report.summary import versions
from graphopt.runtime.client import Worker, WorkerFailure
from graphopt.runtime.options import CPU
from graphopt.session.evidence import input_row
from graphopt.storage.read import read
from graphopt.storage.source import Source
from graphopt.validation.plan import FeedPlan
from graphopt.validation.validate import Validator
from graphopt.validation.verdict import Verdict

if TYPE_CHECKING:
    from graphopt.validation.labels import Labels
    from graphopt.validation.metrics import Function

PROVIDERS: Final = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "dnnl": "DnnlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}
"""Short names of onnxruntime's execution providers."""


def bench(
    models: Sequence[str | os.PathLike[str]],
    *,
    feeds: FeedPlan | None = None,
    labels: Labels | None = None,
    metric: str | Function | None = None,
    setting: Setting | None = None,
    compare: bool = True,
    profiled: bool = False,
    seed: int = 0,
    custom_ops: Sequence[str | os.PathLike[str]] = (),
    worker_seconds: float = 600.0,
    worker_memory: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Benchmark:
    """Measure models side by side, each against the first, on the first of the feeds.

    Outputs are compared on all of them, unless `compare` is off. With `profiled`, each has the time of its operators
    from onnxruntime's profiler. Raises UsageError for what cannot be, BadModel and the like for a model that cannot
    be read, CouldNotTell where the first takes no generated feed.
    """
    setting = Setting() if setting is None else setting
    if not models:
        raise UsageError("name at least one model to measure")
    paths = [Path(one) for one in models]
    sources = [read(path) for path in paths]
    rows = [input_row(one, facts(decode(one.proto, one.store))) for one in sources]

    def fresh() -> Worker:
        return Worker(seconds=worker_seconds, memory=worker_memory, custom_ops=[Path(one) for one in custom_ops])

    with fresh() as worker, tempfile.TemporaryDirectory(prefix="graphopt-"):
        _refuse_provider(worker, setting.provider)
        metric = "top1" if metric is None and labels is not None else metric
        with Validator(
            paths[0], worker=worker, plan=feeds, source=sources[0], labels=labels, metric=metric, seed=seed
        ) as validator:
            validator.prepare(Contract.ROUNDING)
            try:
                gathered = validator.feeds()
            except WorkerFailure as failure:
                raise CouldNotTell(f"{shown_path(paths[0])} cannot be run: {failure}") from failure
            feed = next(iter(gathered)).values
            entries = contest(paths, feed, setting, fresh, profiled=profiled, say=say)
            verdicts: list[Verdict | None] = [None] * len(paths)
            for place in range(1, len(paths) if compare else 1):
                if entries[place].fault is None:
                    say(f"comparing the outputs of {paths[place].name}")
                    verdicts[place] = validator.check(paths[place], Contract.ROUNDING)
            if metric is not None and len(paths) == 1:
                verdicts[0] = validator.check(paths[0], Contract.ROUNDING)
    contestants = tuple(map(Contestant, map(str, paths), rows, entries, verdicts))
    report = gathered.report
    return Benchmark(
        contestants,
        setting,
        f"{report.count} x {report.source}",
        metric if isinstance(metric, str) or metric is None else getattr(metric, "__name__", "metric"),
        (*gathered.warnings, *_doubts(contestants, sources)),
        machine(),
    )


def provider_of(name: str) -> str:
    """onnxruntime's name of an execution provider that a user names, as `cuda` or in full. Raises UsageError."""
    if name.lower() in PROVIDERS:
        return PROVIDERS[name.lower()]
    if name.endswith("ExecutionProvider") and name.isidentifier():
        return name
    raise UsageError(f"--provider expects {', '.join(PROVIDERS)} or onnxruntime's own name, not {name!r}")


def machine() -> dict[str, Any]:
    """What a figure depends on besides the models: processor, cores, system, versions."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):  # elsewhere than on Linux what Python says of the processor stays
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": model, "cores": cores, "system": platform.platform(), "versions": versions()}


def _refuse_provider(worker: Worker, provider: str) -> None:
    worker.ready()
    if provider not in worker.providers:
        have = ", ".join(worker.providers)
        raise UsageError(f"the installed onnxruntime has no {provider}; it has {have}")


def _doubts(contestants: Sequence[Contestant], sources: Sequence[Source]) -> list[str]:
    said = []
    noisy = [one.path for one in contestants if one.entry.against is not None and one.entry.against.noisy]
    if noisy:
        said.append(
            f"the machine is too noisy to tell {len(noisy)} of {len(contestants) - 1} ratios within 5 %: give it more "
            "--seconds, or fewer neighbours"
        )
    if os.getloadavg()[0] > len(os.sched_getaffinity(0)) + 1:
        said.append(f"the machine is busy (load {os.getloadavg()[0]:.1f}), and latencies are worse than they would be")
    shas = [one.sha256() for one in sources]
    for place, sha in enumerate(shas[1:], 1):
        if sha in shas[:place] and not sources[place].external:
            said.append(f"{contestants[place].path} is the same file as {contestants[shas.index(sha)].path}")
    return said

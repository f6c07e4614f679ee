"""What a results file says of the machine that it was measured on; nothing that names a person or a place."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

_PACKAGES: Final = ("graphopt", "onnx", "onnxruntime", "numpy", "onnx-graphsurgeon")
_PASSING: Final = ("load", "date")


def machine() -> dict[str, Any]:
    """Facts as a line of JSON holds them: memory in bytes, the load of the last minute, the date in UTC."""
    return {
        "kind": "machine",
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "os": f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        "load": round(os.getloadavg()[0], 2),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def lasting(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that two runs on one machine share."""
    return {name: value for name, value in facts.items() if name not in _PASSING}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""

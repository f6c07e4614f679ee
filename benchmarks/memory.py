"""Anonymous memory of `clean` on a large model with external data, validation off.

usage: python -m benchmarks.memory [--gigabytes 1.5] [--embedded]

A child process imports graphopt, notes its RssAnon, runs `clean` and reports how far RssAnon rose
at its peak (sampled every 5 ms by a thread). The model is a chain of MatMuls over random weights
with an Identity and a dead branch, so that it is really rewritten.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

_WIDTH = 4096  # one weight is 64 MiB


def make(path: Path, size: float, embedded: bool) -> int:
    """Write the model; returns the bytes of weights."""
    import numpy as np
    from onnx import TensorProto, helper

    count = max(1, round(size * 1e9 / (_WIDTH * _WIDTH * 4)))
    nodes = [helper.make_node("Identity", ["x"], ["h0"], name="identity")]
    weights = []
    random = np.random.default_rng(0)
    block = random.standard_normal(_WIDTH * _WIDTH, dtype=np.float32) / np.float32(64)
    with (path.parent / "weights.bin").open("wb") as file:
        for index in range(count):
            tensor = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=[_WIDTH, _WIDTH])
            data = np.roll(block, index).tobytes()
            if embedded:
                tensor.raw_data = data
            else:
                tensor.data_location = TensorProto.EXTERNAL
                offset = file.tell()
                for key, value in (("location", "weights.bin"), ("offset", offset), ("length", len(data))):
                    tensor.external_data.add(key=key, value=str(value))
                file.write(data)
            weights.append(tensor)
            nodes.append(helper.make_node("MatMul", [f"h{index}", f"w{index}"], [f"h{index + 1}"], name=f"mm{index}"))
    nodes.append(helper.make_node("Relu", ["h0"], ["dead"], name="dead"))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", _WIDTH]) for name in ("x", f"h{count}")]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    return count * _WIDTH * _WIDTH * 4


def anonymous() -> int:
    """This process's RssAnon in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not say RssAnon")


def child(source: str, target: str) -> dict[str, Any]:
    """Optimize, watching RssAnon."""
    import graphopt.session.api
    from graphopt.pipeline.registry import Registry

    Registry.load()
    base, peak, over = anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.is_set():
            peak = max(peak, anonymous())
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    start = time.perf_counter()
    result = graphopt.session.api.optimize(source, recipe="clean", validate="none", output=target)
    seconds = time.perf_counter() - start
    over.set()
    thread.join()
    rewrites = sum(row.applied for row in result.report.passes)
    return {"base": base, "rise": peak - base, "seconds": seconds, "rewrites": rewrites}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.5)
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(*arguments.child)))
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "large.onnx"
        weights = make(source, arguments.gigabytes, arguments.embedded)
        command = [sys.executable, "-m", "benchmarks.memory", "--child", str(source), f"{folder}/out.onnx"]
        facts = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    kind = "embedded" if arguments.embedded else "external"
    print(
        f"{weights / 1e9:.2f} GB {kind}: {facts['rewrites']} rewrites in {facts['seconds']:.1f} s, "
        f"RssAnon +{facts['rise'] / 1e6:.0f} MB over {facts['base'] / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()

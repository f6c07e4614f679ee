"""The commands that faults are injected into, each with the files it starts from and the file it makes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from graphopt.testing import model

RANDOM = np.random.default_rng(7)
WEIGHT = RANDOM.standard_normal((64, 48)).astype(np.float32)
SECOND = RANDOM.standard_normal((48, 32)).astype(np.float32)
SAMPLES = RANDOM.standard_normal((6, 64)).astype(np.float32)
TEXT = """g (float[N,64] x) => (float[N,32] z) {
    a = Identity(x)  b = MatMul(a, w)  y = Relu(b)  d = Exp(b)  c = MatMul(y, v)  z = Relu(c)
}"""
PLAIN = "g (float[N,64] x) => (float[N,32] z) { b = MatMul(x, w)  y = Relu(b)  c = MatMul(y, v)  z = Relu(c) }"

Make = Callable[[Path], None]


@dataclass(frozen=True)
class Scene:
    """A command line in a folder. `output` is the model it makes, None where it makes none; `beside` are
    the other files it writes, `code` how it ends undisturbed."""

    name: str
    make: Make
    arguments: tuple[str, ...]
    output: str | None = "out.onnx"
    beside: tuple[str, ...] = ()
    code: int = 0
    modules: tuple[str, ...] = ()


def net(folder: Path) -> None:
    """A model with an Identity and a dead node."""
    onnx.save(model(TEXT, w=WEIGHT, v=SECOND), folder / "net.onnx")


def net_external(folder: Path) -> None:
    """The same with its weights in a file of their own, whose name is not one of ours."""
    onnx.save_model(
        model(TEXT, w=WEIGHT, v=SECOND), folder / "net.onnx", save_as_external_data=True, location="weights.bin",
        size_threshold=0,
    )  # fmt: skip


def own_external(folder: Path) -> None:
    """The same with the name that this tool gives such a file."""
    onnx.save_model(
        model(TEXT, w=WEIGHT, v=SECOND), folder / "net.onnx", save_as_external_data=True, location="net.onnx.data",
        size_threshold=0,
    )  # fmt: skip


def old_output(folder: Path) -> None:
    """Another model where the output goes."""
    onnx.save(model(PLAIN, w=-WEIGHT, v=SECOND), folder / "out.onnx")


def old_external(folder: Path) -> None:
    """Another model with external data where the output goes."""
    onnx.save_model(
        model(PLAIN, w=-WEIGHT, v=SECOND), folder / "out.onnx", save_as_external_data=True, location="out.onnx.data",
        size_threshold=0,
    )  # fmt: skip


def nothing_to_do(folder: Path) -> None:
    """A model that is written as it was read, with its external data, into another folder."""
    onnx.save_model(
        model(PLAIN, w=WEIGHT, v=SECOND), folder / "net.onnx", save_as_external_data=True, location="weights.bin",
        size_threshold=0,
    )  # fmt: skip
    (folder / "there").mkdir()


def samples(folder: Path) -> None:
    np.savez(folder / "learn.npz", x=SAMPLES)
    np.savez(folder / "judge.npz", x=SAMPLES[::-1] * np.float32(0.9))


def all_of(*makes: Make) -> Make:
    def make(folder: Path) -> None:
        for one in makes:
            one(folder)

    return make


def two_models(folder: Path) -> None:
    net(folder)
    onnx.save(model(PLAIN, w=WEIGHT, v=SECOND * np.float32(1.5)), folder / "other.onnx")


CLEAN = ("-p", "identities,dead-nodes")
SCENES = {
    one.name: one
    for one in (
        Scene("new", net, ("optimize", "net.onnx", "-o", "out.onnx", *CLEAN)),
        Scene("over", all_of(net, old_output), ("optimize", "net.onnx", "-o", "out.onnx", *CLEAN)),
        Scene("in-place", net, ("optimize", "net.onnx", "--in-place", *CLEAN), "net.onnx"),
        Scene("external", net_external, ("optimize", "net.onnx", "-o", "out.onnx", *CLEAN)),
        Scene("external-over", all_of(net_external, old_external), ("optimize", "net.onnx", "-o", "out.onnx", *CLEAN)),
        Scene(
            "external-in-place",
            own_external,
            (
                "optimize",
                "net.onnx",
                "--in-place",
                "-p",
                "identities,dead-nodes,weight-int8",
                "--budget",
                "sqnr_db>=20",
            ),
            "net.onnx",
        ),
        Scene("copied", nothing_to_do, ("optimize", "net.onnx", "-o", "there/out.onnx", *CLEAN), "there/out.onnx"),
        Scene(
            "everything",
            net,
            (
                "optimize",
                "net.onnx",
                "-o",
                "out.onnx",
                *CLEAN,
                "--report",
                "r.json",
                "--html",
                "r.html",
                "--remarks",
                "r.jsonl",
                "--bundle",
                "r.zip",
                "--snapshots",
                "snapshots",
                "--validate",
                "each",
            ),
            beside=("r.json", "r.html", "r.jsonl", "r.zip", "snapshots/"),
        ),
        Scene(
            "learned",
            all_of(net, samples),
            (
                "optimize",
                "net.onnx",
                "-o",
                "out.onnx",
                "-p",
                "identities,static-int8",
                "--budget",
                "sqnr_db>=5",
                "--calibration",
                "learn.npz",
                "--feeds",
                "judge.npz",
                "--cache-dir",
                "cache",
            ),
            beside=("cache/",),
        ),
        Scene(
            "refused",
            all_of(net, old_output),
            (
                "optimize",
                "net.onnx",
                "-o",
                "out.onnx",
                "-p",
                "weight-int8",
                "--budget",
                "sqnr_db>=200",
                "--bundle-on-failure",
                "failed.zip",
                "--report",
                "r.json",
            ),
            beside=("failed.zip", "r.json"),
            code=1,
        ),
        Scene("validate", two_models, ("validate", "net.onnx", "other.onnx"), None, code=1),
        Scene("localize", two_models, ("localize", "net.onnx", "other.onnx"), None, code=1),
        Scene(
            "bisect",
            net,
            ("bisect", "net.onnx", "-p", "identities,weight-int8", "--budget", "sqnr_db>=200", "--bundle", "b.zip"),
            None,
            ("b.zip",),
            1,
        ),
        Scene(
            "reduce",
            net,
            ("reduce", "net.onnx", "-p", "identities,weight-int8", "--budget", "sqnr_db>=200", "-o", "small"),
            None,
            ("small/",),
            1,
        ),
        Scene(
            "sensitivity",
            all_of(net, samples),
            ("sensitivity", "net.onnx", "--feeds", "judge.npz", "--quick", "--table", "s.json", "--html", "s.html"),
            None,
            ("s.json", "s.html"),
        ),
    )
}


def set_up(scene: Scene, root: Path) -> Path:
    """A fresh folder `work` for a scene, and an empty temporary folder beside it."""
    shutil.rmtree(root, ignore_errors=True)
    work = root / "work"
    work.mkdir(parents=True)
    (root / "tmp").mkdir()
    scene.make(work)
    return work

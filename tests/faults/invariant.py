"""What must hold after any fault: nothing of the user's is lost, nothing half-written, no litter, a true message."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from scenes import Scene, set_up
from warmed import Ended, Warmed

CODES = {0, 1, 2, 3, 4, 5, 6, 129, 130, 143}
"""How a command may end; 70, a fault of the tool itself, is none of them."""

_UNFIT = ("Traceback", "Exception ignored", "Fatal Python error", "Error in sys.", "core dumped", "terminate called")

Files = dict[str, bytes]

_NOT_WRITTEN = re.compile(
    r"nothing was changed|nothing was written|was not written|is unchanged|cannot write 'out|cannot write 'net"
)
_LEFT_OUT = re.compile(r"while\s+passes\s+asked\s+it\s+for\s+something")
_WRITTEN = re.compile(r"is written|was written|what was to be done is done")


@dataclass(frozen=True)
class Baseline:
    """A scene undisturbed: the files before and after it, and how it ended."""

    scene: Scene
    before: Files
    after: Files
    ended: Ended


def files(folder: Path) -> Files:
    """The files below a folder, empty folders among them."""
    found: Files = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            if not any(path.iterdir()):
                found[name + "/"] = b""
        else:
            found[name] = path.read_bytes()
    return found


def undisturbed(scene: Scene, root: Path, warmed: Warmed) -> Baseline:
    """Run a scene without a fault; a second time, when everything is imported."""
    for _ in range(2):
        work = set_up(scene, root)
        before = files(work)
        ended = warmed.warm(root, scene.arguments)
        assert ended.status == scene.code, (scene.name, ended)
    return Baseline(scene, before, files(work), ended)


def externals(data: bytes) -> set[str]:
    """The external files that a model names."""
    made = onnx.ModelProto.FromString(data)
    return {
        entry.value
        for tensor in made.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }


def faults(base: Baseline, root: Path, ended: Ended, killed: bool = False, unavoidable: bool = False) -> list[str]:
    """Everything that does not hold; `killed`: the process had no say. Where leftovers are `unavoidable`, they are
    for the next run to remove, which finds them by their names and by the notes in them."""
    scene, now = base.scene, files(root / "work")
    found = []
    state = "none"
    litter = dict(now)
    if scene.output is not None:
        state, used = _state(scene.output, base, now, ended.out if ended.status == 0 else "")
        if state == "broken":
            found.append(f"{scene.output} is neither the old one nor the new one")
        for name in used:
            litter.pop(name, None)
        if state == "new":
            late = {one for one in base.before if one not in base.after and one in now}
            if late and not any(one in ended.out + ended.err for one in late) and not unavoidable:
                found.append(f"external data of the old model is left, and nothing is said of it: {sorted(late)}")
            for one in late:
                litter.pop(one, None)
    for name, data in base.before.items():
        if name in litter:
            if litter.pop(name) != data:
                found.append(f"{name} has changed")
        elif name not in now and not (name.endswith("/") and any(one.startswith(name) for one in now)):
            found += [] if state == "new" and name not in base.after else [f"{name} is gone"]
    for name in list(litter):
        if any(name == one or (one.endswith("/") and name.startswith(one)) for one in scene.beside):
            why = _whole(name, litter.pop(name), hidden=unavoidable)
            if why:
                found.append(why)
    rest = [one for one in litter if not (unavoidable and _ours(one, scene, base))]
    if rest:
        found.append(f"left behind: {rest}")
    left = [one for one in files(root / "tmp") if not (unavoidable and ".graphopt-" in one)]
    if left:
        found.append(f"left in the temporary folder: {left}")
    if ended.left:
        found.append("a process is left")
    if ended.named_memory:
        found.append("a file in /dev/shm was opened")
    if not killed:
        found += _said(base, state, now, ended)
    return found


def _ours(name: str, scene: Scene, base: Baseline) -> bool:
    """Whether a file is a hidden one, or external data that was in place before its model."""
    hidden = any(part.startswith(".graphopt-") for part in name.split("/"))
    return hidden or (name in base.after and name != scene.output and scene.output is not None)


def _state(output: str, base: Baseline, now: Files, said: str) -> tuple[str, set[str]]:
    """Whether the model there is the old or the new one, with its external data, and its files; another one is right
    where a run says that its passes had to do without something."""
    folder = output.rpartition("/")[0]
    matches = []
    for state, then in (("old", base.before), ("new", base.after)):
        if now.get(output) != then.get(output):
            continue
        if output not in then:
            return state, set()
        names = {f"{folder}/{one}".lstrip("/") for one in externals(then[output])}
        if all(now.get(one) == then[one] for one in names):
            matches.append((state, {output, *names}))
    if not matches:
        if _LEFT_OUT.search(said) and output in now and onnx.load_from_string(now[output]).graph.node:
            return "other", {output, *(f"{folder}/{one}".lstrip("/") for one in externals(now[output]))}
        return "broken", {output}
    return matches[-1] if len(matches) == 1 else ("same", matches[0][1] | matches[1][1])


def _whole(name: str, data: bytes, hidden: bool) -> str | None:
    """Why a file beside the output is not a whole one."""
    dotted = [part for part in name.split("/") if part.startswith(".")]
    if dotted:
        return None if hidden and dotted[0].startswith(".graphopt-") else f"left behind: {name}"
    try:
        if name.endswith(".json"):
            json.loads(data)
        elif name.endswith(".jsonl"):
            for line in data.splitlines():
                json.loads(line)
            assert not data or data.endswith(b"\n")
        elif name.endswith(".html"):
            assert data.rstrip().endswith(b"</html>")
        elif name.endswith((".zip", ".npz")):
            import io

            if name.endswith(".npz"):
                with np.load(io.BytesIO(data)) as stored:
                    for one in stored.files:
                        stored[one]
            else:
                assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None
        elif name.endswith(".onnx"):
            onnx.checker.check_model(onnx.ModelProto.FromString(data))
        elif name.endswith(".txt"):
            assert data.endswith(b"\n") or data.rstrip().endswith(b"}"), data[-40:]
    except Exception as error:  # noqa: BLE001
        return f"{name} is not whole: {type(error).__name__} {error}"
    return None


def _reader_gone(ended: Ended) -> bool:
    return any(one.startswith("write ") and one.endswith("out.txt") for one in ended.log)


def _said(base: Baseline, state: str, now: Files, ended: Ended) -> list[str]:
    found = []
    said = ended.err + ended.out
    if ended.status is None:
        return ["it hung"]
    if ended.status not in CODES and not (ended.status == 70 and "does not read back" in said):
        found.append(f"it ended with {ended.status}")
    found += [f"{word!r} is printed" for word in _UNFIT if word in said]
    one_line = re.fullmatch(r"graphopt: [^\n]+\n", ended.err)
    if ended.status == 0:
        if ended.err:
            found.append("it ended well and complains")
        if state == "old":
            found.append("it ended well and the output is the old one")
        lacking = [
            one
            for one in base.scene.beside
            if any(name == one or name.startswith(one) for name in base.after)
            and not any(name == one or name.startswith(one) for name in now)
        ]
        if lacking and not all(one.rstrip("/") in ended.out for one in lacking):
            found.append(f"it ended well without {lacking}")
    # Where the reader of standard output has gone, nobody is left to read the verdict.
    elif not one_line and not (ended.status in (1, 6) and not ended.err and (ended.out or _reader_gone(ended))):
        found.append("it failed and says not one line of why")
    if ended.status != 0 and one_line:
        if state == "new" and (_NOT_WRITTEN.search(ended.err) or not _WRITTEN.search(ended.err)):
            found.append("the output is written, and the message does not say so")
        if state == "old" and re.search(rf"'{base.scene.output}' (is|was) written", ended.err):
            found.append("the message says that something is written, and the output is the old one")
    return found

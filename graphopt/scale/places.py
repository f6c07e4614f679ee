"""Where the models of a batch are and where its results go: local paths, or anything that fsspec reaches."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from graphopt.errors import BadModel, GraphoptError, UsageError
from graphopt.ir.wording import shown, shown_path

_MAGIC = set("*?[")


def is_url(text: str) -> bool:
    """Whether a text names something elsewhere, as `s3://bucket/model.onnx`."""
    scheme, mark, _ = text.partition("://")
    return bool(mark) and scheme.replace("+", "").replace("-", "").isalnum()


def expanded(texts: Sequence[str]) -> list[str]:
    """The models that texts stand for: files, patterns, and folders, whose `.onnx` files below are meant.

    Raises UsageError for one that stands for nothing.
    """
    found: dict[str, None] = {}
    for text in texts:
        some = sorted(_remote(text) if is_url(text) else _local(text))
        if not some:
            raise UsageError(f"there are no models at {shown_path(text)}; name .onnx files, or a folder that has some")
        found.update(dict.fromkeys(some))
    return list(found)


def _local(text: str) -> Iterator[str]:
    path = Path(text)
    if path.is_dir():
        yield from (str(one) for one in path.rglob("*.onnx") if one.is_file())
    elif path.exists() or not _MAGIC.intersection(text):
        yield text  # where there is none, its own run says so
    else:
        found = glob.glob(text, recursive=True)  # noqa: PTH207 - a pattern may be absolute
        yield from (one for one in found if Path(one).is_file())


def _remote(text: str) -> Iterator[str]:
    system, path = filesystem(text)
    scheme = text.partition("://")[0]
    with _reaching(UsageError, f"{shown(text)} cannot be listed"):
        if _MAGIC.intersection(path):
            names = system.glob(path)
        elif system.isdir(path):
            names = [one for one in system.find(path) if one.endswith(".onnx")]
        else:
            names = [path]
    yield from (f"{scheme}://{str(one).lstrip('/') if scheme not in _ROOTED else one}" for one in names)


_ROOTED = ("file", "local", "memory")


def filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it. Raises UsageError where fsspec, or the driver, is missing."""
    try:
        import fsspec
    except ImportError:
        raise UsageError(
            f"{shown(url)} is a URL, and those need fsspec; install it with pip install 'graphopt[cluster]'"
        ) from None
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{shown(url)} cannot be reached: {' '.join(str(error).split())}") from None
    return system, str(path)


@contextmanager
def _reaching(kind: type[GraphoptError], what: str) -> Iterator[None]:
    """Whatever a file system raises, as an error of ours: each of them has exceptions of its own."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        raise kind(f"{what} ({type(error).__name__})") from None


def common_folder(models: Sequence[str]) -> str:
    """The folder below which all models are, so that two of one name do not meet in the results; "" for none."""
    remote = [is_url(one) for one in models]
    if len(models) == 1 or any(remote) != all(remote):
        return ""
    if not all(remote):
        return os.path.commonpath([Path(one).absolute().parent for one in models])
    schemes, _, rests = zip(*(one.rpartition("/")[0].partition("://") for one in models), strict=True)
    return f"{schemes[0]}://{os.path.commonpath(rests)}" if len(set(schemes)) == 1 else ""


def place_of(model: str, root: str) -> PurePosixPath:
    """Where the result of a model goes in the folder of results: as it lies below `root`, else its name alone."""
    whole = model if is_url(model) else str(Path(model).absolute())
    if root and whole.startswith(root.rstrip("/") + "/"):
        return PurePosixPath(whole[len(root.rstrip("/")) + 1 :])
    return PurePosixPath(whole.rsplit("/", 1)[-1])


def fetched(model: str, folder: Path) -> Path:
    """A model that is elsewhere, with its external data, copied to `folder`. Raises BadModel where that fails."""
    import onnx
    from google.protobuf.message import DecodeError

    system, path = filesystem(model)
    target = folder / path.rsplit("/", 1)[-1]
    with _reaching(BadModel, f"{shown(model)} cannot be fetched"):
        system.get(path, str(target))
    try:
        graph = onnx.load(target, load_external_data=False)
    except (DecodeError, ValueError, OSError):
        return target  # what is wrong with it is said when it is read
    base = path.rsplit("/", 1)[0]
    for location in sorted(_locations(graph)):
        inner = PurePosixPath(location)
        if inner.is_absolute() or ".." in inner.parts or target.name == location:
            continue  # refused when the model is read
        beside = folder / inner
        beside.parent.mkdir(parents=True, exist_ok=True)
        with _reaching(BadModel, f"{shown(model)}: its data {shown(location)} cannot be fetched"):
            system.get(f"{base}/{location}", str(beside))
    return target


def _locations(model: Any) -> set[str]:
    """Where a message says that its external data is, wherever in it a tensor is."""
    found: set[str] = set()
    pending = [model]
    while pending:
        message = pending.pop()
        for field, value in message.ListFields():
            if field.type != field.TYPE_MESSAGE:
                continue
            for one in value if isinstance(value, Sequence) or hasattr(value, "__len__") else (value,):
                if field.name == "external_data":
                    found.update((one.value,) if one.key == "location" else ())
                else:
                    pending.append(one)
    return found


def delivered(files: Sequence[Path], base: Path, url: str) -> list[str]:
    """Copy written files, by their place below `base`, under the folder `url`; the model itself comes last."""
    system, path = filesystem(url)
    sent = []
    for file in sorted(files, key=lambda one: one.suffix == ".onnx"):
        place = f"{path.rstrip('/')}/{file.relative_to(base).as_posix()}"
        with _reaching(UsageError, f"{shown(place)} cannot be written"):
            system.makedirs(place.rsplit("/", 1)[0], exist_ok=True)
            system.put(str(file), place)
        sent.append(place)
    return sent

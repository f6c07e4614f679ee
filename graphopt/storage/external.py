"""External data: files that a model names, opened only when they are in the model's own folder.

A location is text from a stranger. It is resolved first, links included, and must then lie in
the folder of the model's path as given or in the folder of the file that the path resolves to:
model caches keep a folder of links into a folder of blobs, and both spellings are the user's
choice. Only then is the file opened, and only if it is a regular one; what is outside is never
opened. (CVE-2022-25882, CVE-2024-27318 and their successors are readers without these checks.)
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from graphopt.errors import BadModel, GraphoptError, OverLimit, Unsafe
from graphopt.ir.resident import watch
from graphopt.ir.wording import shown, shown_path

_MAPS = 64
"""Maps of external files kept open at a time; a map keeps a file descriptor."""

_MEMORY_MARKER = "_ORT_MEM_ADDR_"
"""A location by which onnxruntime means a pointer into its own memory; never let in from a file."""


@dataclass(frozen=True)
class ExternalFile:
    """One external file: its location as the model writes it, the real file, its size in bytes."""

    location: str
    path: Path
    size: int
    identity: tuple[int, int]


def open_regular(path: Path) -> int:
    """A descriptor of the regular file `path`, which is no link. Raises OSError (EINVAL: not regular).

    Never blocks and never runs anything: a FIFO, device or socket is looked at, not opened.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return descriptor


def map_file(descriptor: int) -> memoryview:
    """All bytes of an open file, mapped read-only."""
    if os.fstat(descriptor).st_size == 0:
        return memoryview(b"")
    return memoryview(watch(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)))


class Maps:
    """Maps of external files, made when asked for; the least recently used ones are let go."""

    def __init__(self) -> None:
        self._views: OrderedDict[Path, memoryview] = OrderedDict()

    def view(self, file: ExternalFile) -> memoryview:
        """The bytes of `file`. Raises BadModel when it is not the file that was checked any more."""
        view = self._views.get(file.path)
        if view is None:
            view = self._views[file.path] = self._map(file)
            while len(self._views) > _MAPS:
                self._views.popitem(last=False)
        else:
            self._views.move_to_end(file.path)
        return view

    def keep(self, file: ExternalFile, descriptor: int) -> None:
        """Map `file`, which is open, as long as there is room: it stays readable if it is renamed."""
        if len(self._views) < _MAPS:
            self._views.setdefault(file.path, map_file(descriptor))

    @staticmethod
    def _map(file: ExternalFile) -> memoryview:
        try:
            descriptor = open_regular(file.path)
        except OSError as error:
            raise _unreadable(file.location, "", error) from None
        try:
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) != file.identity or status.st_size != file.size:
                raise BadModel(f"external file {shown(file.location)} was changed while the model was in use")
            return map_file(descriptor)
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class Mapped:
    """An external file that can be looked into."""

    file: ExternalFile
    maps: Maps

    def view(self) -> memoryview:
        return self.maps.view(self.file)


class Folder:
    """The folder (or two) that a model's external files may lie in."""

    def __init__(self, model: Path | None, folder: Path, budget: int) -> None:
        given = Path(os.path.realpath(folder))
        real = given if model is None else Path(os.path.realpath(model)).parent
        self.roots = tuple(dict.fromkeys((given, real)))
        self.maps = Maps()
        self._files: dict[str, ExternalFile] = {}
        self._paths: set[Path] = set()
        self._left = budget

    def find(self, location: str, tensor: str) -> ExternalFile:
        """The file that tensor `tensor` (for messages) names; opened once, to see that it can be read.

        Raises Unsafe when it would be outside, BadModel when it is missing or not a regular file,
        OverLimit when all files together are larger than allowed.
        """
        known = self._files.get(location)
        if known is None:
            known = self._files[location] = self._find(location, tensor)
        return known

    def files(self) -> tuple[ExternalFile, ...]:
        """All files found so far, in the order in which tensors name them."""
        return tuple(self._files.values())

    def mapped(self, file: ExternalFile) -> Mapped:
        return Mapped(file, self.maps)

    def _find(self, location: str, tensor: str) -> ExternalFile:
        refuse(location, tensor)
        path = self._resolve(location, tensor)
        try:
            descriptor = open_regular(path)
        except OSError as error:
            raise _unreadable(location, tensor, error) from None
        try:
            status = os.fstat(descriptor)
            file = ExternalFile(location, path, status.st_size, (status.st_dev, status.st_ino))
            if path not in self._paths:
                self._paths.add(path)
                self._left -= status.st_size
            if self._left < 0:
                raise OverLimit(f"external file {shown(location)} brings the external data over the limit")
            self.maps.keep(file, descriptor)
        finally:
            os.close(descriptor)
        return file

    def _resolve(self, location: str, tensor: str) -> Path:
        problem: OSError | None = None
        for root in self.roots:
            try:
                path = Path(os.path.realpath(root / location, strict=True))
            except OSError as error:
                problem = problem or error
                continue
            if any(path.is_relative_to(inside) for inside in self.roots):
                return path
            raise Unsafe(
                f"tensor {shown(tensor)} names external file {shown(location)}, a link that leads out of "
                "the model's folder; only files inside it are read"
            )
        assert problem is not None
        raise _unreadable(location, tensor, problem, self.roots[0])


def refuse(location: str, tensor: str) -> None:
    """Raise Unsafe (or BadModel) for a location that no model may have, wherever it would lead."""
    what = f"tensor {shown(tensor)} names external file {shown(location)}"
    if "\0" in location:
        raise BadModel(f"{what}, which is not a file name")
    if _MEMORY_MARKER in location:
        raise Unsafe(f"{what}, which onnxruntime would take for an address in memory; it is refused")
    path = PurePosixPath(location)
    if path.is_absolute():
        raise Unsafe(f"{what} by an absolute path; external data must lie in the model's folder")
    if ".." in path.parts:
        raise Unsafe(f"{what}, which leads out of the model's folder; external data must lie inside it")


def _unreadable(location: str, tensor: str, error: OSError, folder: Path | None = None) -> GraphoptError:
    what = f"external file {shown(location)}"
    if tensor:
        what = f"tensor {shown(tensor)} has its values in {what}"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        where = f" in {shown_path(folder)}" if folder is not None else ""
        return BadModel(f"{what}, which does not exist{where}; put it next to the model")
    if error.errno in (errno.EINVAL, errno.ENXIO, errno.EISDIR):
        return BadModel(f"{what}, which is not a regular file")
    if error.errno == errno.ELOOP:
        return BadModel(f"{what}, which is a link that leads back to itself")
    return BadModel(f"{what}, which cannot be read ({os.strerror(error.errno or 0)})")

"""Zip archives that may be anybody's: everything is checked before anything is unpacked."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

from graphopt.errors import OverLimit, Unsafe, UsageError
from graphopt.ir.wording import shown, shown_path

_BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    struct.error,
    OSError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)
_PIECE: Final = 1 << 20
_PLAIN: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DATE: Final = (1980, 1, 1, 0, 0, 0)  # of all members, so that equal runs give equal bundles


@dataclass(frozen=True)
class ZipLimits:
    """Ceilings of an archive: members, bytes that all of them unpack to, bytes of one that is read into memory."""

    members: int = 100_000
    unpacked: int = 1 << 38
    text: int = 1 << 28


class Archive:
    """An open archive whose directory has passed all checks. Use `opened`."""

    def __init__(self, archive: zipfile.ZipFile, path: Path, limits: ZipLimits) -> None:
        self._archive, self._path, self._limits = archive, path, limits
        self.names = tuple(info.filename for info in archive.infolist() if not info.filename.endswith("/"))

    def text(self, name: str) -> bytes:
        """A member that is read into memory; UsageError when there is none, OverLimit when it is too large."""
        info = self._info(name)
        if info.file_size > self._limits.text:
            raise OverLimit(
                f"{shown_path(self._path)}: {shown(name)} has {info.file_size} bytes, more than the limit of "
                f"{self._limits.text}"
            )
        with self._reading(name), self._archive.open(info) as stream:
            return stream.read()

    def unpack(self, folder: Path, wanted: Callable[[str], bool]) -> None:
        """Write the members that are wanted below `folder`, which is new and empty."""
        infos = [self._info(name) for name in self.names if wanted(name)]
        total, free = sum(info.file_size for info in infos), shutil.disk_usage(folder).free
        if total > free:
            raise OverLimit(f"{shown_path(self._path)} unpacks to {total} bytes and {free} are free; make room")
        for info in infos:
            with self._reading(info.filename):
                target = folder / PurePosixPath(info.filename)
                target.parent.mkdir(parents=True, exist_ok=True)
                with self._archive.open(info) as stream, target.open("xb") as file:
                    shutil.copyfileobj(stream, file, _PIECE)

    def _info(self, name: str) -> zipfile.ZipInfo:
        if name not in self.names:
            raise UsageError(f"{shown_path(self._path)} is no bundle of graphopt: it has no {shown(name)}")
        return self._archive.getinfo(name)

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except _BROKEN as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise OverLimit(f"there is no room to unpack {shown_path(self._path)} to; make some") from None
            raise UsageError(f"{shown_path(self._path)} is damaged at {shown(name)}: {_reason(error)}") from None


@contextmanager
def opened(path: Path, limits: ZipLimits = ZipLimits()) -> Iterator[Archive]:
    """An archive to read.

    Raises UsageError when it is none, or is encrypted, damaged or packed in a way that we do not read;
    Unsafe when a name in it leads out of a folder, is there twice or is a link; OverLimit when it
    unpacks to more than `limits`.
    """
    what = shown_path(path)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "does not exist"
        raise UsageError(f"{what} {kind}; name a bundle, which `graphopt optimize --bundle FILE` writes")
    try:
        archive = zipfile.ZipFile(path)
    except _BROKEN as error:
        raise UsageError(f"{what} is no bundle, or a damaged one: {_reason(error)}") from None
    with archive:
        _check(archive, what, path.stat().st_size, limits)
        yield Archive(archive, path, limits)


def _check(archive: zipfile.ZipFile, what: str, size: int, limits: ZipLimits) -> None:
    infos = archive.infolist()
    if len(infos) > limits.members:
        raise OverLimit(f"{what} has {len(infos)} members, more than the limit of {limits.members}")
    total = sum(info.file_size for info in infos)
    if total > limits.unpacked:
        raise OverLimit(f"{what} unpacks to {total} bytes, more than the limit of {limits.unpacked}")
    if sum(info.compress_size for info in infos) > size:
        raise Unsafe(f"{what} has members that overlap, as archives have that unpack to more than they hold")
    seen: set[str] = set()
    for info in infos:
        why = _fault(info)
        # Some file systems take two names for one that differ in letters' case or composition.
        folded = unicodedata.normalize("NFC", info.filename).casefold()
        if why is None and folded in seen:
            why = "is there twice"
        if why is not None:
            raise Unsafe(f"{what}: the member {shown(info.filename)} {why}")
        seen.add(folded)
        if info.flag_bits & 1:
            raise UsageError(f"{what} is encrypted; a bundle is not")
        if info.compress_type not in _PLAIN:
            raise UsageError(f"{what}: {shown(info.filename)} is packed by a method that bundles do not use")


def _fault(info: zipfile.ZipInfo) -> str | None:
    """Why a member must not be unpacked, in a clause."""
    # zipfile cuts a name at a NUL and turns the system's separators into slashes; what stood there counts.
    original = info.orig_filename
    name = info.filename.rstrip("/")
    parts = name.split("/")
    if not name or "\0" in original or "\\" in original or ":" in parts[0] or not name.isprintable():
        return "has a name that is none"
    if name.startswith("/") or any(part in ("", ".", "..") for part in parts):
        return "leads out of the folder that it would be unpacked to"
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is not a regular file but a link or a device"
    return None


class Packing:
    """A new archive on a stream: members are stored as they are, or packed where they are text."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._archive = zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, allowZip64=True)

    def __enter__(self) -> Packing:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._archive.close()
        except Exception:
            if kind is None:  # else it is not whole anyway, and what has ended it is what counts
                raise

    def text(self, name: str, data: bytes) -> None:
        """A member that is worth packing."""
        info = zipfile.ZipInfo(name, _DATE)
        info.compress_type = zipfile.ZIP_DEFLATED
        self._archive.writestr(info, data)

    @contextmanager
    def member(self, name: str) -> Iterator[IO[bytes]]:
        """A stream whose bytes become a member, of any size."""
        with self._archive.open(zipfile.ZipInfo(name, _DATE), "w", force_zip64=True) as stream:
            yield stream

    def file(self, name: str, path: Path) -> None:
        """A file as a member."""
        with path.open("rb") as source, self.member(name) as stream:
            shutil.copyfileobj(source, stream, _PIECE)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno).lower()
    return str(error).strip().rstrip(".") or type(error).__name__

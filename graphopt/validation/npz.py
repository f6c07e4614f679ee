"""Reading `.npz` and `.npy` files that may be anything: no pickles, no bombs, no half files.

A member's header is read and held against the size limit and the directory of the archive before
any of its data is.
"""

from __future__ import annotations

import re
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.lib import format as npy

from graphopt.errors import OverLimit, UsageError
from graphopt.validation.values import Array

LIMIT: Final = 8 << 30  # bytes that one file may unpack to
_LONGEST: Final = 200  # characters of a reason: some quote what they could not read
_HEADER: Final = 1 << 16  # bytes that the header of an array may take
_BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    struct.error,
    OSError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    # what numpy's reading of a header, an expression of Python, raises besides
    tokenize.TokenError,
    SyntaxError,
    TypeError,
    RecursionError,
    MemoryError,
)


def read_npz(path: Path, limit: int = LIMIT) -> dict[str, Array]:
    """All arrays of an `.npz` file by name.

    Raises `UsageError` naming the file and the array: not there, not a zip archive, truncated,
    encrypted, a member that is no array, an array of Python objects; `OverLimit` where it
    would unpack to more than `limit` bytes.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {str(path)!r}; give an .npz file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.filename.endswith("/")]
            total = sum(info.file_size for info in members)
            if total > limit:
                raise OverLimit(
                    f"{path.name} would unpack to {total} bytes, more than the limit of {limit}; "
                    "split it into a folder of smaller files"
                )
            names = [info.filename for info in members]
            if len(set(names)) < len(names):
                twice = next(name for index, name in enumerate(names) if name in names[:index])
                raise UsageError(f"{path.name} holds {twice!r} twice; save it again with numpy.savez")
            return {info.filename.removesuffix(".npy"): _member(archive, info, path) for info in members}
    except _BROKEN as error:
        raise UsageError(f"{path.name} is not a readable .npz file: {_reason(error)}") from None


def read_npy(path: Path, limit: int = LIMIT) -> Array:
    """The array of an `.npy` file; raises as `read_npz` does."""
    if not path.is_file():
        raise UsageError(f"there is no file {str(path)!r}; give an .npy or .npz file")
    if path.stat().st_size > limit:
        raise OverLimit(f"{path.name} has {path.stat().st_size} bytes, more than the limit of {limit}")
    try:
        with path.open("rb") as stream:
            return _array(stream, path.stat().st_size, path.name, path.name)
    except _BROKEN as error:
        raise UsageError(f"{path.name} is not a readable .npy file: {_reason(error)}") from None


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Sort key that puts `part2` before `part10`."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts if part]


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Array:
    if info.flag_bits & 1:
        raise UsageError(f"{path.name} is encrypted; give a plain .npz file")
    if not info.filename.endswith(".npy"):
        raise UsageError(
            f"{path.name} holds {info.filename!r}, which is not an array; give a file that numpy.savez wrote"
        )
    with archive.open(info) as stream:
        return _array(stream, info.file_size, f"array {info.filename.removesuffix('.npy')!r} of {path.name}", path.name)


def _array(stream: IO[bytes], size: int, label: str, name: str) -> Array:
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = npy.read_array_header_1_0(stream, max_header_size=_HEADER)
    elif version == (2, 0):
        shape, fortran, dtype = npy.read_array_header_2_0(stream, max_header_size=_HEADER)
    else:
        raise UsageError(
            f"{label} has the .npy version {version[0]}.{version[1]}, which is not supported; "
            "save it again with numpy.save"
        )
    if dtype.hasobject:
        raise UsageError(f"{label} holds Python objects, which would need unpickling; save it with a plain dtype")
    if dtype.names is not None:
        raise UsageError(f"{label} is a structured array; save each field as an array of its own")
    count = 1
    for length in shape:
        count *= length
    expected = count * dtype.itemsize
    if expected != size - stream.tell():
        raise UsageError(
            f"{label} says it has {expected} bytes of data and {name} holds {size - stream.tell()}; the file is damaged"
        )
    data = bytearray(stream.read(expected))
    if len(data) != expected:
        raise UsageError(f"{label} is truncated; save it again")
    flat = np.frombuffer(data, dtype=dtype) if expected else np.zeros(count, dtype)
    array: Array = flat.reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("=")) if not dtype.isnative else array


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."

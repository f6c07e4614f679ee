"""Reading a model: mapped, checked, and with one sentence for everything that can be wrong."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from google.protobuf.message import DecodeError, EncodeError
from onnx import ModelProto, SparseTensorProto

from graphopt.errors import BadModel, GraphoptError, OverLimit
from graphopt.ir.store import Store
from graphopt.ir.wording import shown, shown_path
from graphopt.limits import Limits, current, how_to_move
from graphopt.storage.check import check_sparse, check_tensor
from graphopt.storage.diagnose import no_graph, unparsable
from graphopt.storage.external import Folder, map_file
from graphopt.storage.functions import check_functions
from graphopt.storage.header import check_header
from graphopt.storage.memory import skeleton_of
from graphopt.storage.names import check_names
from graphopt.storage.nesting import check_nesting
from graphopt.storage.places import tensors
from graphopt.storage.source import Source
from graphopt.storage.walk import Malformed, TooMany
from graphopt.storage.wire import split

__all__ = ["Limits", "Source", "from_proto", "read"]


def read(path: str | os.PathLike[str], limits: Limits | None = None) -> Source:
    """Read the model at `path`; weights stay in the file, which is mapped and never written.

    Every tensor is checked against its dims and type, and external data against the rules of
    `graphopt.storage.external`. Raises BadModel (not a model, damaged, too new), Unsafe (external
    data outside the model's folder) or OverLimit (nested too deeply, larger than `limits`: the
    current ones unless given), each with one sentence that names the file or the tensor.
    """
    limits = current() if limits is None else limits
    path = Path(path)
    what = shown_path(path)
    descriptor = _open(path, what)
    try:
        status = os.fstat(descriptor)
        if status.st_size == 0:
            raise BadModel(f"{what} is empty; download or export the model again")
        if status.st_size > limits.model_bytes:
            raise OverLimit(
                f"{what} has {status.st_size} bytes, more than the limit of {limits.model_bytes}; "
                + how_to_move("model_bytes")
            )
        buffer = map_file(descriptor)
    except OSError as error:
        raise BadModel(f"{what} cannot be read ({os.strerror(error.errno or 0)})") from None
    finally:
        os.close(descriptor)
    store = Store(path.parent)
    try:
        proto = _parse(buffer, store, what, limits)
    except MemoryError:
        raise OverLimit(f"{what} needs more memory than there is to be parsed") from None
    if not proto.HasField("graph"):
        raise no_graph(proto, buffer, what)
    folder = Folder(path, path.parent, limits.external_bytes)
    _check(proto, what, folder, store)
    check_nesting(proto, what, limits)
    check_functions(proto, what, limits)
    return Source(path, proto, store, folder.files(), status.st_size, (status.st_dev, status.st_ino), buffer)


def from_proto(proto: ModelProto, folder: str | os.PathLike[str] | None = None, limits: Limits | None = None) -> Source:
    """A source of a model that is in memory; `folder` is where its external data is, if it has any.

    `proto` is not changed, and its large initializers are not copied: leave it alone while the
    source is in use. Raises as `read` does.
    """
    what = "the model"
    limits = current() if limits is None else limits
    if not isinstance(proto, ModelProto):
        raise BadModel(f"the model is a {type(proto).__name__}, not a ModelProto")
    if not proto.HasField("graph"):
        raise BadModel(f"{what} has no graph, so there is nothing to optimize; export it again")
    store = Store(None if folder is None else Path(folder))
    skeleton = skeleton_of(proto, store)
    place = None if folder is None else Folder(None, Path(folder), limits.external_bytes)
    _check(skeleton, what, place, store)
    check_nesting(skeleton, what, limits)
    check_functions(skeleton, what, limits)
    return Source(None, skeleton, store, () if place is None else place.files())


def _open(path: Path, what: str) -> int:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise BadModel(f"{what} is a directory; name the model file in it{_suggestion(path)}")
        if not stat.S_ISREG(mode):
            raise BadModel(f"{what} is not a regular file but a {_KINDS.get(stat.S_IFMT(mode), 'special file')}")
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BadModel(_cannot_open(path, what, error)) from None
    except ValueError:
        raise BadModel(f"{what} is not a file name") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadModel(f"{what} is not a regular file")
    return descriptor


_KINDS = {
    stat.S_IFIFO: "named pipe",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFSOCK: "socket",
}


def _suggestion(path: Path) -> str:
    try:
        models = sorted(one.name for one in path.iterdir() if one.suffix == ".onnx")
    except OSError:
        return ""
    return f", for example {shown(models[0])}" if models else ""


def _cannot_open(path: Path, what: str, error: OSError) -> str:
    if error.errno == errno.ENOENT and path.is_symlink():
        return f"{what} is a link to a file that does not exist; fetch the file it points to"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"there is no file {what}; check the path"
    if error.errno == errno.ELOOP:
        return f"{what} is a link that leads back to itself"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{what} cannot be read: permission denied"
    return f"{what} cannot be read ({os.strerror(error.errno or 0)})"


def _parse(buffer: memoryview, store: Store, what: str, limits: Limits) -> ModelProto:
    try:
        skeleton = split(buffer, store.hold(buffer), limits.parts)
    except Malformed:
        raise unparsable(buffer, what) from None
    except TooMany:
        raise OverLimit(
            f"{what} has more than {limits.parts} parts, the limit on what is read; {how_to_move('parts')}"
        ) from None
    if len(skeleton) > limits.parsed_bytes:
        raise OverLimit(
            f"{what} has {len(skeleton)} bytes beside its raw weights, more than the limit of {limits.parsed_bytes}; "
            + how_to_move("parsed_bytes")
        )
    proto = ModelProto()
    try:
        proto.ParseFromString(skeleton)
    except DecodeError as error:
        if "alloc" in str(error).lower():  # the only sign that protobuf gives of it
            raise MemoryError from None
        raise unparsable(buffer, what) from None
    return proto


def _check(proto: ModelProto, what: str, folder: Folder | None, store: Store) -> None:
    check_header(proto, what)
    try:
        canonical = proto.SerializeToString()
    except (EncodeError, ValueError):
        raise OverLimit(f"{what} has more than 2 GB beside its raw weights, more than protobuf can hold") from None
    check_names(proto, canonical, what)
    try:
        for tensor in tensors(canonical):
            if isinstance(tensor, SparseTensorProto):
                check_sparse(tensor, store, folder)
            else:
                check_tensor(tensor, store, folder)
    except GraphoptError as error:
        raise type(error)(f"{what}: {error}") from None
    if folder is not None:
        for file in folder.files():
            store.attach(file.location, folder.mapped(file))

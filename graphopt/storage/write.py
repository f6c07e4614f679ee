"""Writing a model so that whoever looks finds the old one or the new one, whole, at any moment.

The new model is made complete in a hidden folder beside the target, goes to the disk and is read
back; then its external file is put in place, which changes nothing for readers of the old model,
and last the model file is renamed over the old one. The input is never opened for writing.

A target that is a link is followed: the file that it names is replaced, in that file's folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from onnx import ModelProto

from graphopt.errors import InternalError, UsageError
from graphopt.ir.store import Store
from graphopt.ir.wording import shown, shown_path
from graphopt.limits import Limits
from graphopt.storage.copying import digest, same_content, sync_folder, write_file
from graphopt.storage.external import ExternalFile
from graphopt.storage.hidden import Hidden
from graphopt.storage.layout import EMBEDDED_LIMIT, External, Layout
from graphopt.storage.leftovers import old_sidecars, remove_unused, sidecar_name
from graphopt.storage.read import read
from graphopt.storage.source import Source
from graphopt.storage.target import Target, aim, check_room, writing
from graphopt.storage.walk import resolved

__all__ = ["Staged", "Written", "stage"]

_OWN = Limits(model_bytes=1 << 62, external_bytes=1 << 62, parts=1 << 62)


@dataclass(frozen=True)
class Written:
    """What is in place now: the model file, its external files, and the bytes of all of them."""

    path: Path
    sidecars: tuple[Path, ...]
    bytes: int


@contextmanager
def stage(
    target: str | os.PathLike[str],
    *,
    source: Source | None = None,
    in_place: bool = False,
    embedded_limit: int = EMBEDDED_LIMIT,
) -> Iterator[Staged]:
    """Prepare a model for `target`: within the block `put` or `copy`, look at it, and `commit` it.

    `source` is the input, which is protected; `in_place` allows `target` to be the input itself.
    A model file that would be larger than `embedded_limit` bytes gets external data. Leaving the
    block without a commit leaves nothing behind. Raises UsageError, Unsafe or OverLimit, each with
    one sentence, and nothing has changed then.
    """
    aimed = aim(Path(target), source, in_place)
    with writing(aimed.asked):
        hidden = Hidden(aimed.folder)
    try:
        yield Staged(aimed, hidden, source, embedded_limit)
    finally:
        hidden.remove()


class Staged:
    """A model on its way: complete in a hidden folder, not yet in place."""

    def __init__(self, target: Target, hidden: Hidden, source: Source | None, limit: int) -> None:
        self._target = target
        self._hidden = hidden
        self._files = hidden.files
        self.path = hidden.files / target.name
        """The complete model, loadable with its external data from where it is now."""
        self._source = source
        self._limit = limit
        self._placed: list[Path] = []
        self._made: list[Path] = []
        self._new: list[PurePosixPath] = []
        self._sidecars: list[PurePosixPath] = []
        self._complete = self._done = False

    @property
    def folder(self) -> Path:
        """A folder on the target's file system, for files that nobody needs any more when the block is left."""
        return self._hidden.path

    def put(self, proto: ModelProto, store: Store, external: External = "auto") -> Source:
        """Write the skeleton `proto` with the payloads that `store` knows: the source of what was written.

        "auto" keeps embedded what is embedded and external what is external, all in one file beside
        the model, new values as most are, and lets weights out when the model file would be too
        large; "never" embeds all, "always" lets out all payloads from 1 KiB. Raises OverLimit when
        the model cannot be written in that form.
        """
        self._begin()
        layout = Layout(proto, store)
        layout.decide(external, self._limit)
        offsets = layout.place()
        name = ""
        check_room(self._target, layout.size(offsets))
        with writing(self._target.asked):
            if offsets:
                self._refuse_link()
                data = self._hidden.path / "data"
                write_file(data, layout.external_file)
                name = self._settle(data)
            pieces = layout.model_file(name, offsets)
            write_file(self.path, lambda: resolved(pieces))
        return self._finish()

    def copy(self, source: Source) -> Source:
        """Write `source` as it is, byte for byte: the source of what was written.

        External files that are in the target's folder already are shared; elsewhere they are copied
        under the same names, and where one of the names belongs to another file the model is
        written by `put` instead.
        """
        self._begin()
        shared = self._shared(source)
        if source.buffer is None or shared is None:
            return self.put(source.proto, source.store)
        buffer = source.buffer
        with writing(self._target.asked):
            if source.external:
                self._refuse_link()
            files = {PurePosixPath(file.location): file for file in source.external}
            self._sidecars = list(files)
            self._new = [place for place in files if place not in shared]
            if files and not self._new:
                self.path = self._hidden.beside
            else:
                check_room(self._target, source.size + sum(file.size for file in files.values()))
                for place, file in files.items():
                    self._bring(source, file, place)
            write_file(self.path, lambda: [buffer])
        return self._finish()

    def _bring(self, source: Source, file: ExternalFile, place: PurePosixPath) -> None:
        inside = self._files / place
        inside.parent.mkdir(parents=True, exist_ok=True)
        write_file(inside, lambda: [source.store.file(file.location).view()])

    def commit(self) -> Written:
        """Put the model in place: external files first, then the model, by one rename.

        Raises UsageError when the folder has changed under us or refuses; nothing has changed then.
        """
        if not self._complete or self._done:
            raise InternalError("there is no staged model to commit")
        target = self._target
        old = old_sidecars(target.path, self._source) if target.mode is not None else []
        with writing(target.asked):
            try:
                for place in self._new:
                    self._place(place)
                for folder in dict.fromkeys(path.parent for path in self._placed + self._made):
                    sync_folder(folder)
                if target.mode is not None:
                    self.path.chmod(target.mode)
                size = self.path.stat().st_size
                self.path.replace(target.path)
            except BaseException:
                self._withdraw()
                raise
        self._done = True
        try:
            sync_folder(target.folder)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise UsageError(
                f"{shown_path(target.asked)} is written, but the disk does not confirm it ({reason}); check the disk"
            ) from None
        sidecars = tuple(target.folder / place for place in self._sidecars)
        remove_unused([path for path in old if path not in sidecars], target.path)
        return Written(target.asked, sidecars, size + sum(path.stat().st_size for path in sidecars))

    def _begin(self) -> None:
        if self._complete:
            raise InternalError("the staged model is written already")

    def _finish(self) -> Source:
        written = read(self.path, _OWN)
        self._complete = True
        return written

    def _refuse_link(self) -> None:
        if self._target.through_link:
            raise UsageError(
                f"{shown_path(self._target.asked)} is a link into another folder, where readers would not find "
                f"the model's external data; write to {shown_path(self._target.path)} itself"
            )

    def _settle(self, data: Path) -> str:
        """Give the external file just written a name that is free in the target's folder, or is its own."""
        sha = ""
        for digits in (0, 8, 16, 64):
            sha = sha or (digest(data) if digits else "")
            name = sidecar_name(self._target.name, sha[:digits])
            final = self._target.folder / name
            taken = os.path.lexists(final)
            if taken and not same_content(final, data):
                continue
            data.rename(self._files / name)
            self._sidecars.append(PurePosixPath(name))
            if not taken:
                self._new.append(PurePosixPath(name))
            return name
        raise UsageError(f"all names for external data of {shown(self._target.name)} are taken; choose another output")

    def _shared(self, source: Source) -> set[PurePosixPath] | None:
        """The external files that are in place already; None when one of the names is another file's."""
        shared = set()
        for file in source.external:
            place = PurePosixPath(file.location)
            final = self._target.folder / place
            if place.parts[0] == self._target.name:
                return None
            if final.exists() and final.samefile(file.path):
                shared.add(place)
            elif os.path.lexists(final) or not _plain_way(self._target.folder, place):
                return None
        return shared

    def _place(self, place: PurePosixPath) -> None:
        """Move one external file to its final name, which must still be free."""
        final = self._target.folder / place
        missing = [one for one in final.parents if not one.exists()]
        for folder in reversed(missing):
            folder.mkdir()
            self._made.append(folder)
        if os.path.lexists(final):
            raise UsageError(f"{shown_path(final)} has appeared in the meantime; run again")
        _move(self._files / place, final)
        self._placed.append(final)

    def _withdraw(self) -> None:
        """Take back what was put in place before the model: files, then the folders made for them."""
        for path in self._placed:
            path.unlink(missing_ok=True)
        for folder in reversed(self._made):
            with suppress(OSError):
                folder.rmdir()


def _plain_way(folder: Path, place: PurePosixPath) -> bool:
    """Whether the folders on the way to `place` are real ones in `folder`, or can be made."""
    for part in place.parts[:-1]:
        folder = folder / part
        if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
            return False
    return True


def _move(path: Path, new: Path) -> None:
    """Rename a file to a name that is not taken: by a link where they work, because a rename replaces."""
    try:
        os.link(path, new, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        path.rename(new)
    else:
        path.unlink()

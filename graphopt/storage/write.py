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
from graphopt.stopping import held
from graphopt.storage.copying import digest, same_content, sync_folder, write_file
from graphopt.storage.external import ExternalFile
from graphopt.storage.hidden import Hidden, remove_file
from graphopt.storage.layout import EMBEDDED_LIMIT, External, Layout
from graphopt.storage.leftovers import old_sidecars, remove_unused, sidecar_name
from graphopt.storage.moving import is_same, move, plain_way, stamp
from graphopt.storage.read import read
from graphopt.storage.refused import why
from graphopt.storage.source import Source
from graphopt.storage.target import Target, aim, check_room, writing
from graphopt.storage.turn import turn
from graphopt.storage.walk import resolved

__all__ = ["Staged", "Written", "stage"]

_OWN = Limits(model_bytes=1 << 62, external_bytes=1 << 62, parts=1 << 62)


@dataclass(frozen=True)
class Written:
    """What is in place now: the model file, its external files, and the bytes of all of them; and what may be
    left over of the model that it has replaced."""

    path: Path
    sidecars: tuple[Path, ...]
    bytes: int
    left: tuple[Path, ...] = ()


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
        self._sidecars: list[PurePosixPath] = []
        self._there: dict[PurePosixPath, tuple[int, ...]] = {}
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
            self._there = {place: stamp((self._target.folder / place).stat()) for place in shared}
            if files and shared.issuperset(files):
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
        with writing(target.asked), turn(target.folder):
            self._see_input()
            old, left = old_sidecars(target.path, self._source) if target.path.exists() else ([], [])
            try:
                for place in self._sidecars:
                    self._place(place)
                for folder in dict.fromkeys(path.parent for path in self._placed + self._made):
                    sync_folder(folder)
                if target.mode is not None:
                    self.path.chmod(target.mode)
                sidecars = tuple(target.folder / place for place in self._sidecars)
                size = self.path.stat().st_size + sum(path.stat().st_size for path in sidecars)
                for path in old:  # nobody's, once the new model is there
                    if path not in sidecars:
                        self._hidden.note(PurePosixPath(path.name), path)
                with held():  # until all that belongs to it is done: a signal waits
                    self._replace()
                    return self._settled(sidecars, size, old, left)
            except BaseException:
                if not self._done:
                    self._withdraw()
                raise

    def _settled(self, sidecars: tuple[Path, ...], size: int, old: list[Path], left: list[Path]) -> Written:
        """What is left to do once the new model is in place."""
        target = self._target
        try:
            sync_folder(target.folder)
        except OSError as error:
            rest = [path for path in (*left, *old) if path not in sidecars]  # a crash may bring the old model back
            kept = f"; {', '.join(map(shown_path, rest))} of the old model may be left" if rest else ""
            raise UsageError(
                f"{shown_path(target.asked)} is written, but the disk does not confirm it ({why(error)}); "
                f"check the disk{kept}"
            ) from None
        left = left + remove_unused([path for path in old if path not in sidecars], target.path)
        return Written(target.asked, sidecars, size, tuple(path for path in left if path not in sidecars))

    def _see_input(self) -> None:
        """Refuse to go on where the input, which the result was held against, is another file by now."""
        source = self._source
        if source is None or (source.path is not None and self._is_result(source, source.path)):
            return
        for path, identity, size in [
            *([(source.path, source.identity, source.size)] if source.path is not None else []),
            *((file.path, file.identity, file.size) for file in source.external),
        ]:
            try:
                status = path.stat()
                same = (status.st_dev, status.st_ino) == identity and status.st_size == size
            except FileNotFoundError:
                same = False
            if not same:
                raise UsageError(
                    f"{shown_path(path)} was changed while it was being optimized; run again, nothing was changed"
                )

    @staticmethod
    def _is_result(source: Source, path: Path) -> bool:
        """Whether what stands in the place of the input was put there for the same input before."""
        with suppress(FileNotFoundError):
            return stamp(path.stat()) in source.results
        return False

    def _replace(self) -> None:
        """The rename after which the new model is in place; whatever happens to it, `_done` says whether it is."""
        status = self.path.stat()
        try:
            self.path.replace(self._target.path)
        except BaseException:
            self._done = is_same(self._target.path, status)  # a network may lose the answer alone
            if not self._done:
                raise
        self._done = True
        if self._source is not None:
            self._source.results.add(stamp(status))

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
            if taken:
                self._there[PurePosixPath(name)] = stamp(final.stat())
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
            elif os.path.lexists(final) or not plain_way(self._target.folder, place):
                return None
        return shared

    def _place(self, place: PurePosixPath) -> None:
        """Give one external file its final name, which must still be free, or be that of the same bytes."""
        final, own = self._target.folder / place, self._files / place
        if os.path.lexists(final):
            there = self._there.get(place)
            if there == stamp(final.lstat()) or (own.exists() and same_content(final, own)):
                return
            raise UsageError(f"{shown_path(final)} has appeared in the meantime; run again, nothing was changed")
        if not own.exists():
            raise UsageError(f"{shown_path(final)} was removed in the meantime; run again, nothing was changed")
        missing = [one for one in final.parents if not one.exists()]
        for folder in reversed(missing):
            with held():
                folder.mkdir()
                self._made.append(folder)
        self._hidden.note(place, own)
        with held():
            move(own, final, self._placed)

    def _withdraw(self) -> None:
        """Take back what was put in place before the model: files, then the folders made for them."""
        for path in self._placed:
            remove_file(path)
        for folder in reversed(self._made):
            with suppress(OSError):
                folder.rmdir()

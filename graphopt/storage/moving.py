"""Files that change their names, and what tells one from another."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath


def plain_way(folder: Path, place: PurePosixPath) -> bool:
    """Whether the folders on the way to `place` are real ones in `folder`, or can be made."""
    for part in place.parts[:-1]:
        folder = folder / part
        if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
            return False
    return True


def move(path: Path, new: Path, moved: list[Path]) -> None:
    """Rename a file to a name that is not taken: by a link where they work, because a rename replaces.

    Then it is one of those `moved`. Its old name must go before the model is there: some readers refuse data
    that have two."""
    try:
        os.link(path, new, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        path.rename(new)
        moved.append(new)
    else:
        moved.append(new)
        path.unlink()


def stamp(status: os.stat_result) -> tuple[int, ...]:
    """What tells a file from another one, or from itself before it was changed."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def is_same(path: Path, status: os.stat_result) -> bool:
    """Whether a file is the one with this status."""
    try:
        found = path.stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino)

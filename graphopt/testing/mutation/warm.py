"""A mutant put in the place of the code that is loaded, in a process that ends with it."""

from __future__ import annotations

import functools
import gc
import importlib.machinery
import importlib.util
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from graphopt.pipeline import registry
from graphopt.testing.mutation.sites import Site, Source

Place = tuple[str, str, int]  # file, qualified name, first line


class Loaded:
    """The functions of the files looked at that are alive now, by where they were written."""

    def __init__(self, sources: Sequence[Source]) -> None:
        files = {str(one.path) for one in sources}
        self.functions: dict[Place, list[FunctionType]] = defaultdict(list)
        self.caches: list[Any] = []
        for one in gc.get_objects():
            if isinstance(one, FunctionType) and one.__code__.co_filename in files:
                self.functions[_place(one.__code__)].append(one)
            elif isinstance(one, functools._lru_cache_wrapper):
                self.caches.append(one)

    def put(self, code: CodeType) -> bool:
        """Give the functions that are different in `code` their new code; False when none of them is alive,
        or one closes over other variables than it did.

        What holds a function goes on holding it: whoever imported it sees the change.
        """
        swapped = False
        for new in _codes(code):
            for function in self.functions.get(_place(new), ()):
                if function.__code__ == new:
                    continue
                if function.__code__.co_freevars != new.co_freevars:
                    return False
                function.__code__ = new
                swapped = True
        for cache in self.caches if swapped else ():
            if str(getattr(cache, "__module__", "")).startswith(("passes.", "graphopt.analysis")):
                cache.cache_clear()
        return swapped


def mutated(source: Source, site: Site) -> CodeType:
    """The module's code with the change of the site, which stays in the tree."""
    site.edit.swap()
    return compile(source.tree, str(source.path), "exec", dont_inherit=True)


def forget(code: CodeType, module: str, tests: Sequence[Path]) -> None:
    """Have passes, and tests of these files, imported anew, and `module` from `code`."""
    names = {one.stem for one in tests}
    for name in list(sys.modules):
        if name == "passes" or name.startswith("passes.") or name in names:
            del sys.modules[name]
    sys.meta_path.insert(0, _Finder(code, module))
    registry._installed.cache_clear()


class _Finder:
    def __init__(self, code: CodeType, module: str) -> None:
        self.code, self.module = code, module

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name != self.module:
            return None
        return importlib.util.spec_from_file_location(
            name, self.code.co_filename, loader=_Loader(name, self.code.co_filename, self.code)
        )


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)


def _place(code: CodeType) -> Place:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _codes(code: CodeType) -> Iterator[CodeType]:
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield one
            yield from _codes(one)

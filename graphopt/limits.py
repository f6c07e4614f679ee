"""Ceilings on what a model may make this process hold or do, and the words in which users move them.

Every size is computed from what the file says, with numbers of any length, before anything of that size is
made. A ceiling that bites while reading is an `OverLimit`; one that bites while passes run leaves that one
thing undone, and the report says so.
"""

from __future__ import annotations

import contextvars
import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

from graphopt.errors import UsageError


def _limit(default: int, help: str, *, size: bool = False, most: int = 1 << 62) -> int:  # noqa: A002
    made: int = field(default=default, metadata={"help": help, "size": size, "most": most})
    return made


@dataclass(frozen=True)
class Limits:
    """Ceilings, in bytes where a name ends in `bytes`, else in pieces. `0` is a ceiling too.

    Reading: `model_bytes` of the model file, `external_bytes` of all its external files together, `parsed_bytes`
    of what is left to parse when the weights are taken out (protobuf itself ends at 2 GiB), `parts` looked at
    while taking them out (a model of 100,000 nodes has some millions), `nesting` of bodies within bodies,
    `calls` of functions that call functions, `inlined_nodes` of the main graph with its functions inlined,
    `dense_bytes` of a sparse tensor written out.
    Folding: `fold_elements` and `fold_bytes` of one value that is computed ahead, on the way or as a result,
    `fold_together_bytes` of all that one session holds, `fold_attempts` sessions when some of them fail.
    Running: `loop_trips` of a Loop whose condition is always true; a model with more is not run.
    Looking inside: `value_bytes` of a value that `localize` and `profile-error` read out of a model.
    The user's own: `function_seconds` of a function of the user's that is named for feeds or as a metric, and of the
    import of its module.
    Telling: `name_characters` of a name in reports, remarks, bundles and logs.
    """

    model_bytes: int = _limit(1 << 40, "the model file", size=True)
    external_bytes: int = _limit(1 << 42, "all files of external data together", size=True)
    parsed_bytes: int = _limit((1 << 31) - 1, "a model beside its raw weights", size=True, most=(1 << 31) - 1)
    parts: int = _limit(20_000_000, "parts that a model file is made of")
    nesting: int = _limit(32, "bodies (of If, Loop, Scan) within bodies", most=32)
    calls: int = _limit(100, "functions that call functions, in a row", most=100)
    inlined_nodes: int = _limit(1_000_000, "nodes once all functions are inlined")
    dense_bytes: int = _limit(4 << 30, "a sparse tensor written out", size=True)
    fold_elements: int = _limit(1 << 26, "elements of a value that is computed ahead")
    fold_bytes: int = _limit(1 << 28, "a value that is computed ahead", size=True)
    fold_together_bytes: int = _limit(1 << 30, "all values that are computed ahead at once", size=True)
    fold_attempts: int = _limit(64, "sessions for what is computed ahead, when some of them fail")
    loop_trips: int = _limit(1 << 33, "trips of a Loop that only its count ends, in a model that is to be run")
    function_seconds: int = _limit(
        600, "seconds of a feeds function or a metric that is named as module:function", most=1 << 31
    )
    value_bytes: int = _limit(1 << 27, "a value inside of a model that is compared with another's", size=True)
    name_characters: int = _limit(1000, "characters of a name in reports, remarks and logs", most=1 << 20)

    def changed(self) -> list[str]:
        """What differs from the defaults, as `--max` takes it."""
        return [
            f"{_name(one.name)}={getattr(self, one.name)}"
            for one in fields(self)
            if getattr(self, one.name) != one.default
        ]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Limits:
        """From texts such as `fold-bytes=64MB`; UsageError for an unknown name, a bad value, or the same one twice."""
        known = {_name(one.name): one for one in fields(cls)}
        given: dict[str, int] = {}
        for text in texts:
            name, equals, value = text.partition("=")
            name = name.strip()
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                near = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"
                raise UsageError(f"--max knows no limit {name!r}{near}")
            one = known[name]
            if not equals:
                raise UsageError(f"--max expects {name}=NUMBER, as {name}={one.default}")
            if one.name in given:
                raise UsageError(f"--max sets {name} twice; keep one of them")
            given[one.name] = _number(name, value, one.metadata["size"], one.metadata["most"])
        return cls(**given)


_DEFAULT = Limits()
_CURRENT: contextvars.ContextVar[Limits] = contextvars.ContextVar("graphopt limits", default=_DEFAULT)


def how_to_move(name: str) -> str:
    """How a user moves a limit (a field of `Limits`), in a clause that ends a sentence."""
    return f"--max {_name(name)}=N moves it"


def over(name: str, count: int, limits: Limits) -> str:
    """What a limit (a field of `Limits`) kept from being computed ahead, in a sentence for a report."""
    values = "a value" if count == 1 else f"{count} values"
    return (
        f"the limit {_name(name)}={getattr(limits, name)} kept {values} from being computed ahead; "
        f"--max {_name(name)}=N moves it"
    )


def described() -> list[tuple[str, str, str]]:
    """Every limit: its name, its default as text, and what it is of."""
    return [
        (_name(name), size_text(default) if metadata["size"] else f"{default:,}", metadata["help"])
        for name, default, metadata in ((one.name, getattr(_DEFAULT, one.name), one.metadata) for one in fields(Limits))
    ]


def current() -> Limits:
    """The limits that hold here: those of the innermost `limited` block, else the defaults."""
    return _CURRENT.get()


@contextmanager
def limited(limits: Limits) -> Iterator[Limits]:
    """Let `limits` hold within the block, for everything that it reads and runs."""
    token = _CURRENT.set(limits)
    try:
        yield limits
    finally:
        _CURRENT.reset(token)


_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([kmgt]?)(i?)b?", re.IGNORECASE | re.ASCII)


def size_of(text: str) -> int | None:
    """Bytes from a text such as 512MB, 2GB, 1.5GiB or 1000000; None for anything else, and for none at all."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        return None
    number = float(match[1]) * (1024 if match[3] else 1000) ** "_kmgt".index(match[2].lower() or "_")
    return int(number) if 1 <= number < 2**63 else None


def size_text(count: int) -> str:
    """A number of bytes in the largest unit that it is a whole number of, as `4 GiB` or `2147483647 bytes`."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count and count % (1 << power) == 0:
            return f"{count >> power} {unit}"
    return f"{count} bytes"


def _number(name: str, text: str, size: bool, most: int) -> int:
    text = text.strip()
    number: int | None = None
    if text.isascii() and text.isdigit() and len(text) <= 18:
        number = int(text)
    elif size:
        number = size_of(text)
    if number is None or number > most:
        what = "a size such as 512MB" if size else "a whole number"
        bound = "" if most == 1 << 62 else f" of at most {most}"
        raise UsageError(f"--max {name} expects {what}{bound}, not {text!r}")
    return number


def _name(field_name: str) -> str:
    return field_name.replace("_", "-")

"""Names of any length as reports keep them: long ones by their beginning, their length and a hash."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Any

from graphopt.limits import current
from graphopt.pipeline.protocol import Remark

_NAMES = ("before", "after", "values")


def brief(name: str) -> str:
    """`name`, or of one longer than the limit on names its beginning, its length and a hash that tells it from others.

    A name of a million characters would otherwise be in a report once for each remark about it.
    """
    most = current().name_characters
    if len(name) <= most:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{name[:most]}... ({len(name)} characters, sha256 {digest})"


def briefs(names: Iterable[str]) -> list[str]:
    """Each of some names as `brief` has it."""
    return [brief(one) for one in names]


def plain_data(remark: Remark) -> dict[str, Any]:
    """A remark as plain data for `json.dumps`."""
    data = dataclasses.asdict(remark)
    data |= {"node": brief(remark.node), "op": brief(remark.op), "scope": brief(remark.scope), "why": brief(remark.why)}
    return data | {one: briefs(data[one]) for one in _NAMES}

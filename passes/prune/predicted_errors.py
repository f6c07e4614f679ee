"""What a table of sensitivities says the outputs lose with a layer's channels, as a measure for groups of channels.

The error of a group as the layers that read it see it says which channels are cheap, but not how much the outputs
care for those layers. A table has that from noise: the error of the outputs when a quarter of the channels of
one layer goes. So the curve of a group is drawn in the table's measure: at a quarter it is what the table says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.analysis.channels import Group

Array = np.ndarray[Any, Any]

_SHARE = 0.25  # of the channels, that the table is about


def parsed(texts: Sequence[str]) -> dict[str, float]:
    """The errors by name of texts such as conv1.weight=0.01. Raises ValueError for anything else."""
    found = {}
    for text in texts:
        name, sign, number = text.rpartition("=")
        try:
            error = float(number)
        except ValueError:
            error = np.nan
        if not sign or not name or not (np.isfinite(error) and error >= 0):
            raise ValueError(f"predicted expects NAME=ERROR, such as conv1.weight=0.01, not {text!r}")
        found[name] = error
    return found


def weighed(groups: Sequence[Group], curves: Sequence[Array], errors: Mapping[str, float]) -> list[Array]:
    """The curves of the errors of groups, so that the outputs' error with a quarter gone is what is predicted of the
    layers that make them; those of which nothing is known count as the others do in the middle."""
    factors = [_factor(group, curve, errors) for group, curve in zip(groups, curves, strict=True)]
    known = [one for one in factors if one is not None]
    if not known:
        return list(curves)
    middle = float(np.exp(np.mean(np.log(known))))
    return [curve * np.sqrt(middle if one is None else one) for curve, one in zip(curves, factors, strict=True)]


def _factor(group: Group, curve: Array, errors: Mapping[str, float]) -> float | None:
    told = 0.0
    for site in group.makers:
        names = [name for name in (site.tensor.name, site.node.name) if name in errors]
        told += max((errors[name] for name in names), default=0.0)
    now = float(np.interp(_SHARE * group.size, np.arange(len(curve)), curve))
    return told / now if told > 0 and now > 0 and np.isfinite(told / now) else None

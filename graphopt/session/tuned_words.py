"""The sentences in which a report says what was particular about a search."""

from __future__ import annotations

from typing import Final

HAIR: Final = "on the searched samples, which is a matter of one or two of them; on the others it kept it"
OPENED: Final = (
    "the weights of this model are inputs too, so that callers could feed others; in the result they are constants"
)
UNNAMED: Final = (
    "values inside of the result have short names, and nodes none: to see the names of the original, leave the last "
    "step, strip, off the recipe"
)
GENERATED_FEEDS: Final = (
    "the search saw generated feeds, which may be unlike real ones, so expect a worse result; give some dozens of "
    "samples with --feeds"
)

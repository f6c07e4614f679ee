"""The default recipe on models that only look as if they could be simplified, held to every law."""

from __future__ import annotations

import pytest
from lookalike_models import LOOKALIKES

from graphopt.pipeline.recipe import Recipe
from graphopt.testing import apply, model


@pytest.mark.parametrize("why", LOOKALIKES)
def test_nothing_goes_wrong(why: str) -> None:
    one = LOOKALIKES[why]
    apply(Recipe.load("default").pipeline, model(one.text, **one.weights), feeds=one.feeds)

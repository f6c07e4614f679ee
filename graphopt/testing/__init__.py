"""For tests of passes: models from text, and `apply`, which holds a pass to all its laws.

    from graphopt.testing import apply, body, model

    def test_an_identity_goes() -> None:
        before = model("g (float[N] x) => (float[N] y) { a = Identity(x)  y = Relu(a) }")
        assert apply(Identities(), before).body == "y = Relu(x)"

`apply` fails with a `LawBroken` that says in one sentence which law the pass broke.
"""

from graphopt.testing.apply import Applied, apply, assert_missed, remarks_of
from graphopt.testing.breach import LawBroken
from graphopt.testing.links import check_links
from graphopt.testing.random_models import random_model
from graphopt.testing.text import body, model

__all__ = [
    "Applied",
    "LawBroken",
    "apply",
    "assert_missed",
    "body",
    "check_links",
    "model",
    "random_model",
    "remarks_of",
]

"""Hold passes to their laws on random models, hour after hour, and say which seeds fail.

    python -m graphopt.testing.fuzz --seeds 0:1000
    python -m graphopt.testing.fuzz --seeds 0:100 --pipeline default --minutes 5
    python -m graphopt.testing.fuzz --seeds 7:8 --pipeline merge-views --save found

A seed gives one model and the pipelines that it is held under: each pass by itself in turn, ordered pairs of
passes so that a long run covers all of them, random pipelines, the default recipe, and LOSSY passes, which
may change numbers but neither raise nor break a model. Models run in a process that may die of one:
what it was at is known, and the next seeds run in another.
"""

from graphopt.testing.fuzz.choosing import KINDS, candidates, pipelines
from graphopt.testing.fuzz.holding import Failure, blame, held

__all__ = ["KINDS", "Failure", "blame", "candidates", "held", "pipelines"]

"""Random models from a wide range of operators, grown by running every node as it is added.

python -m graphopt.testing.fuzz --seeds 0:1000 --pipeline default
"""

from graphopt.testing.wild.models import wild_model

__all__ = ["wild_model"]

"""What changes how a model is written, not what it computes."""

from passes.tidy.strip import Strip
from passes.tidy.topological_order import TopologicalOrder

PASSES = (Strip, TopologicalOrder)

"""What changes how a model is written, not what it computes."""

from passes.tidy.refresh_value_info import RefreshValueInfo
from passes.tidy.strip import Strip
from passes.tidy.topological_order import TopologicalOrder
from passes.tidy.unique_names import UniqueNames

PASSES = (RefreshValueInfo, Strip, TopologicalOrder, UniqueNames)

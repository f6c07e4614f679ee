"""What changes how a model is written, not what it computes."""

PASSES = {
    "refresh-value-info": "passes.tidy.refresh_value_info:RefreshValueInfo",
    "strip": "passes.tidy.strip:Strip",
    "topological-order": "passes.tidy.topological_order:TopologicalOrder",
    "unique-names": "passes.tidy.unique_names:UniqueNames",
}
"""By name, imported when a pipeline asks for it."""

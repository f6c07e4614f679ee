"""Which axes of which tensors get shorter together, so that channels, neurons and heads can be taken out.

`channel_groups` says it for a whole model; facts only, `passes/prune/narrowing` makes the edits.
"""

from graphopt.analysis.channels.assembly import channel_groups
from graphopt.analysis.channels.groups import Group, Member, Parameter, Site

__all__ = ["Group", "Member", "Parameter", "Site", "channel_groups"]

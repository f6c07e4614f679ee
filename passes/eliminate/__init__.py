"""What can go without anybody noticing: dead nodes, unread weights, operators that do nothing."""

from passes.eliminate.dead_nodes import DeadNodes
from passes.eliminate.identities import Identities
from passes.eliminate.unused_initializers import UnusedInitializers

PASSES = (DeadNodes, UnusedInitializers, Identities)

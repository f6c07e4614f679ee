"""What can go without anybody noticing: dead nodes, unread weights, what is there twice, what does nothing."""

from passes.eliminate.common_subexpressions import CommonSubexpressions
from passes.eliminate.dead_nodes import DeadNodes
from passes.eliminate.duplicate_initializers import DuplicateInitializers
from passes.eliminate.identities import Identities
from passes.eliminate.unused_functions import UnusedFunctions
from passes.eliminate.unused_initializers import UnusedInitializers
from passes.eliminate.unused_opset_imports import UnusedOpsetImports

PASSES = (
    DeadNodes,
    UnusedInitializers,
    Identities,
    CommonSubexpressions,
    DuplicateInitializers,
    UnusedFunctions,
    UnusedOpsetImports,
)

"""What can go without anybody noticing: dead nodes, unread weights, what is there twice, what does nothing."""

from passes.eliminate.common_subexpressions import CommonSubexpressions
from passes.eliminate.dead_nodes import DeadNodes
from passes.eliminate.duplicate_initializers import DuplicateInitializers
from passes.eliminate.idempotent import Idempotent
from passes.eliminate.identities import Identities
from passes.eliminate.implied_expands import ImpliedExpands
from passes.eliminate.no_op_arithmetic import NoOpArithmetic
from passes.eliminate.no_op_but_zero_sign import NoOpButZeroSign
from passes.eliminate.no_op_casts import NoOpCasts
from passes.eliminate.no_op_quantization import NoOpQuantization
from passes.eliminate.no_op_reductions import NoOpReductions
from passes.eliminate.no_op_resize import NoOpResize
from passes.eliminate.no_op_slices import NoOpSlices
from passes.eliminate.no_op_views import NoOpViews
from passes.eliminate.unread_outputs import UnreadOutputs
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
    Idempotent,
    ImpliedExpands,
    NoOpArithmetic,
    NoOpButZeroSign,
    NoOpCasts,
    NoOpQuantization,
    NoOpReductions,
    NoOpResize,
    NoOpSlices,
    NoOpViews,
    UnreadOutputs,
)

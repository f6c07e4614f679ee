"""What can go without anybody noticing: dead nodes, unread weights, what is there twice, what does nothing."""

PASSES = {
    "dead-nodes": "passes.eliminate.dead_nodes:DeadNodes",
    "unused-initializers": "passes.eliminate.unused_initializers:UnusedInitializers",
    "identities": "passes.eliminate.identities:Identities",
    "common-subexpressions": "passes.eliminate.common_subexpressions:CommonSubexpressions",
    "duplicate-initializers": "passes.eliminate.duplicate_initializers:DuplicateInitializers",
    "unused-functions": "passes.eliminate.unused_functions:UnusedFunctions",
    "unused-opset-imports": "passes.eliminate.unused_opset_imports:UnusedOpsetImports",
    "idempotent": "passes.eliminate.idempotent:Idempotent",
    "implied-expands": "passes.eliminate.implied_expands:ImpliedExpands",
    "no-op-arithmetic": "passes.eliminate.no_op_arithmetic:NoOpArithmetic",
    "no-op-but-zero-sign": "passes.eliminate.no_op_but_zero_sign:NoOpButZeroSign",
    "no-op-casts": "passes.eliminate.no_op_casts:NoOpCasts",
    "no-op-quantization": "passes.eliminate.no_op_quantization:NoOpQuantization",
    "no-op-reductions": "passes.eliminate.no_op_reductions:NoOpReductions",
    "no-op-resize": "passes.eliminate.no_op_resize:NoOpResize",
    "no-op-slices": "passes.eliminate.no_op_slices:NoOpSlices",
    "no-op-views": "passes.eliminate.no_op_views:NoOpViews",
    "unread-outputs": "passes.eliminate.unread_outputs:UnreadOutputs",
}
"""By name, imported when a pipeline asks for it."""

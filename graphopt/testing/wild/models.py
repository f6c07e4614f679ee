"""Seeded random models of many operators: valid by the full checker, and runnable in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import ml_dtypes
import numpy as np
import onnx
from onnx import ModelProto, helper

from graphopt.errors import GraphoptError
from graphopt.testing.feeds import feeds_for
from graphopt.testing.running import outputs_of
from graphopt.testing.validity import invalid
from graphopt.testing.wild.attention import ATTENTION
from graphopt.testing.wild.blocks import BLOCKS
from graphopt.testing.wild.bodies import BODIES
from graphopt.testing.wild.collections import COLLECTIONS
from graphopt.testing.wild.dressing import dressed
from graphopt.testing.wild.elementwise import ELEMENTWISE
from graphopt.testing.wild.grids import GRIDS
from graphopt.testing.wild.growing import Growing, Known, Stock
from graphopt.testing.wild.linear import LINEAR
from graphopt.testing.wild.mutating import nearly
from graphopt.testing.wild.odd_types import ODD_TYPES
from graphopt.testing.wild.sizes import SIZES
from graphopt.testing.wild.spatial import SPATIAL
from graphopt.testing.wild.views import VIEWS
from graphopt.testing.wild.wrapping import WRAPPINGS

OPSETS = (*range(7, 26), 13, 17, 17, 18, 21, 21, 23)

_GROUPS = (
    ELEMENTWISE, ELEMENTWISE, ELEMENTWISE, VIEWS, VIEWS, VIEWS, SIZES, SIZES, LINEAR, LINEAR, BLOCKS, BLOCKS, BLOCKS,
    ATTENTION, ATTENTION, SPATIAL, GRIDS, ODD_TYPES, COLLECTIONS,
)  # fmt: skip
_INPUTS = (
    ("x", np.float32, ("N", 4)),
    ("s", np.float32, ("N", "M", 6)),
    ("i", np.float32, ("N", 4, 6, 6)),
    ("t", np.float32, (1, 3, 1, 4)),
    ("h", np.float16, ("N", 4)),
    ("d", np.float64, ("M", 3)),
    ("k", np.int64, ("N", 3)),
    ("j", np.int32, ("M",)),
    ("u", np.uint8, ("N", 4)),
    ("b", np.bool_, ("N", 4)),
    ("v", np.float32, ("M",)),
    ("q", np.float32, ()),
    ("a", np.float32, ("N", 3, 4)),
    ("e", np.float32, ("N", 0)),
    ("w", np.object_, (4,)),
    ("m", ml_dtypes.bfloat16, ("N", 4)),
    ("g", np.float32, (1, 2, 4, 3)),
    ("y", np.int8, ("N", 4)),
    ("z", np.uint32, (3,)),
)


def wild_model(seed: int, *, nodes: int = 14, discarded: Callable[[str], object] = lambda why: None) -> ModelProto:
    """The random model of a seed, with about `nodes` nodes in its main graph.

    What it holds: views of all kinds, slices, gathers and scatters; arithmetic on shapes; elementwise
    operators with broadcasting constants, in several types; casts; reductions; linear operators with
    scales, biases and pads around; spelled-out normalizations and activations; Q/DQ pairs; bodies,
    nested ones and such on constant conditions; functions with attribute references; sequences; inputs
    with defaults; outputs in the middle. Opsets are those of `OPSETS`. `discarded` hears of each attempt
    that gave no valid model that runs, and why.
    """
    for attempt in range(20):
        made = _attempt(Random(f"{seed} {attempt}"), seed, nodes)
        if not isinstance(made, str):
            return made
        discarded(made)
    raise RuntimeError(f"no attempt at the model of seed {seed} gave a valid one")


def _attempt(rng: Random, seed: int, nodes: int) -> ModelProto | str:
    main = Growing(Stock(rng, rng.choice(OPSETS)))
    _inputs(main)
    default = _default(main) if main.chance(0.25) else None
    for _ in range(6 * nodes):
        if sum(node.op_type != "Constant" for node in main.nodes) >= nodes:
            break
        grow(main)
    leaves = main.leaves()
    outputs = rng.sample(leaves, min(len(leaves), rng.choice((1, 3, 8, 8, 8))))
    if main.chance(0.3):
        outputs += [one for one in (rng.choice(main.made),) if one not in outputs]
    if main.chance(0.8):
        main.drop_unread()
    made = {name for node in main.nodes for name in node.output}
    outputs = [one for one in outputs if one.name in made]
    if not outputs:
        return "nothing is made"
    graph = main.graph(f"wild{seed}", outputs)
    if default is not None and any(one is default for one, _ in main.weights):
        graph.input.append(default.info(default.shape))
    if main.opset <= 9 and main.chance(0.3):  # IR 3: every initializer is an input with a default
        graph.input.extend(one.info(one.shape) for one, _ in main.weights if one is not default)
        proto = main.model(graph, 3)
    else:
        proto = main.model(graph, 10)
    if proto.functions and proto.ir_version < 8:
        return "functions in an old file format"
    declare = main.chance(0.4)
    last = _closed(proto, declare)
    if isinstance(last, str):
        return last
    for way in (_wrapped, _nearly, dressed):
        if rng.random() < 0.5:  # what gives no model is as if it had not been tried
            made = _closed(way(last, rng), declare)
            last = last if isinstance(made, str) else made
    return last


def _wrapped(proto: ModelProto, rng: Random) -> ModelProto:
    made = ModelProto()
    made.CopyFrom(proto)
    for _ in range(rng.choice((1, 1, 2))):
        rng.choice(WRAPPINGS)(made, rng)
    return made


def _nearly(proto: ModelProto, rng: Random) -> ModelProto:
    """A near miss, with types of the outputs that it has more."""
    made = nearly(proto, rng)
    if all(one.type.WhichOneof("value") for one in made.graph.output):
        return made
    return onnx.shape_inference.infer_shapes(made)


def grow(graph: Growing) -> None:
    """Propose one more node, or a few."""
    if graph.depth < 2 and graph.chance(0.1):
        graph.rng.choice(BODIES)(graph, grow)
    else:
        graph.rng.choice(graph.rng.choice(_GROUPS))(graph)


def _inputs(main: Growing) -> None:
    chosen = [_INPUTS[0], *(one for one in _INPUTS[1:] if main.chance(0.6 if one[0] in "si" else 0.2))]
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), dims)
        for name, dtype, dims in chosen
    ]
    infos.append(helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, ()))
    empty = helper.make_graph([], "inputs", infos, [])
    feeds = feeds_for(helper.make_model(empty))[:3]
    for info in infos:
        main.inputs.append((Known(info.name, tuple(feed[info.name] for feed in feeds)), info))


def _default(main: Growing) -> Known:
    """An input whose default callers may override."""
    array = np.array([main.rng.choice((0.0, 1.0, 2.0)) for _ in range(4)], np.float32)
    known = Known("default", (array,) * 3)
    main.weights.append((known, onnx.numpy_helper.from_array(array, "default")))
    return known


def _closed(proto: ModelProto, declare: bool) -> ModelProto | str:
    """The model with its values declared or not; why not, when it is not valid or does not run on its feeds."""
    data = proto.SerializeToString()
    if invalid(data):
        return "not valid"
    if declare:
        proto = onnx.shape_inference.infer_shapes(proto)
        data = proto.SerializeToString()
        if invalid(data):
            return "not valid with its values declared"
    try:
        outputs_of(data, feeds_for(proto))
    except GraphoptError:
        return "does not run as a whole"
    return proto

"""Seeded random models of many operators: valid by the full checker, and runnable in onnxruntime."""

from __future__ import annotations

import functools
from collections.abc import Callable
from random import Random

import ml_dtypes
import numpy as np
import onnx
from onnx import ModelProto, ValueInfoProto, helper

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
from graphopt.testing.wild.patterns import PATTERNS
from graphopt.testing.wild.sizes import SIZES
from graphopt.testing.wild.spatial import SPATIAL
from graphopt.testing.wild.views import VIEWS
from graphopt.testing.wild.wrapping import WRAPPINGS

FORMS = 8

OPSETS = (*range(7, 26), 13, 17, 17, 18, 21, 21, 23)

_GROUPS = (
    ELEMENTWISE, ELEMENTWISE, ELEMENTWISE, VIEWS, VIEWS, VIEWS, SIZES, SIZES, LINEAR, LINEAR, BLOCKS, BLOCKS, BLOCKS,
    PATTERNS, PATTERNS, PATTERNS, ATTENTION, SPATIAL, GRIDS, ODD_TYPES, COLLECTIONS,
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
    """The random model of a seed, with at most about `nodes` nodes in its main graph.

    What it holds: views of all kinds, slices, gathers and scatters; arithmetic on shapes; elementwise
    operators with broadcasting constants; every element type that onnxruntime runs; reductions; linear
    operators, pools, recurrences, resizes; attention, normalizations and activations written out and as
    operators; grids; bodies, nested ones and such on constant conditions; functions with attribute references
    and overloads; sequences and optionals; inputs with defaults; outputs in the middle. Opsets are those of
    `OPSETS`.

    `FORMS` seeds in a row are forms of one model that grew: as it grew, then with nodes of it in functions and
    bodies, with a thing or two off, and stored in other ways. `discarded` hears of each attempt that gave
    no valid model that runs, and why.
    """
    base, heard = _grown(seed // FORMS, nodes)
    if seed % FORMS == 0:
        for why in heard:
            discarded(why)
    if base is None:
        raise RuntimeError(f"no attempt at the model of seed {seed} gave a valid one")
    proto: ModelProto = ModelProto.FromString(base)
    return _formed(proto, Random(f"form {seed}"), seed % FORMS)


@functools.lru_cache(maxsize=2)
def _grown(seed: int, nodes: int) -> tuple[bytes | None, tuple[str, ...]]:
    """The file of a model that grew, and why each attempt before it was given up."""
    heard: list[str] = []
    for attempt in range(20):
        made = _attempt(Random(f"{seed} {attempt}"), seed, nodes)
        if not isinstance(made, str):
            return made.SerializeToString(), tuple(heard)
        heard.append(made)
    return None, tuple(heard)


def _formed(proto: ModelProto, rng: Random, form: int) -> ModelProto:
    """One of the forms of a model; what gives no model that runs is as if it had not been tried."""
    declare = bool(proto.graph.value_info)
    for at, way in enumerate((_wrapped, _nearly, dressed)):
        tries = 0 if form == 0 else 3 if form % 3 == at else int(rng.random() < 0.3)
        for _ in range(tries):
            made = _closed(way(proto, rng), declare)
            if not isinstance(made, str):
                proto = made
                break
    return proto


def _attempt(rng: Random, seed: int, nodes: int) -> ModelProto | str:
    main = Growing(Stock(rng, rng.choice(OPSETS)))
    nodes = rng.choice((nodes // 4, nodes // 3, nodes * 2 // 3, nodes))
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
    inner = any(at.g.initializer for node in main.nodes for at in node.attribute)
    if main.opset <= 9 and main.chance(0.3) and not inner:  # IR 3: every initializer is an input with a default
        graph.input.extend(one.info(one.shape) for one, _ in main.weights if one is not default)
        proto = main.model(graph, 3)
    else:
        proto = main.model(graph, 10)
    if proto.functions and proto.ir_version < 8:
        return "functions in an old file format"
    return _closed(proto, main.chance(0.4))


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
        results = outputs_of(data, feeds_for(proto))
    except GraphoptError:
        return "does not run as a whole"
    if any(not _as_declared(one, result[one.name]) for one in proto.graph.output for result in results):
        return "gives another shape than it declares"  # behind a body, where no checker sees it
    return proto


def _as_declared(info: ValueInfoProto, value: object) -> bool:
    kind = info.type.tensor_type
    if not isinstance(value, np.ndarray) or not kind.HasField("shape"):
        return True
    dims = [one.dim_value if one.HasField("dim_value") else None for one in kind.shape.dim]
    return len(dims) == value.ndim and all(a is None or a == b for a, b in zip(dims, value.shape, strict=True))

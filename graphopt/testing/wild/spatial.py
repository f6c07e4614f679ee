"""Operators on images and sequences of wild models, with all their attributes: pools, resizes, recurrences."""

from __future__ import annotations

import numpy as np

from graphopt.testing.wild.elementwise import Family
from graphopt.testing.wild.growing import Growing, Known
from graphopt.testing.wild.linear import channelled

_MODES = (
    "half_pixel",
    "asymmetric",
    "align_corners",
    "pytorch_half_pixel",
    "half_pixel_symmetric",
    "tf_crop_and_resize",
)


def pools(g: Growing) -> object:
    """Pools with every attribute, and the places that MaxPool gives."""
    x = g.pick("f", channelled) or g.pick("i", channelled)
    if x is None:
        return None
    spatial = x.rank - 2
    op = g.rng.choice(("MaxPool", "MaxPool", "AveragePool", "LpPool"))
    given: dict[str, object] = {"kernel_shape": [g.rng.choice((1, 1, 2, 3)) for _ in range(spatial)]}
    if g.chance(0.4):
        given["pads"] = [g.rng.choice((0, 0, 1)) for _ in range(2 * spatial)]
    elif g.chance(0.3):
        given["auto_pad"] = g.rng.choice(("SAME_UPPER", "SAME_LOWER", "VALID"))
    if g.chance(0.5):
        given["strides"] = [g.rng.choice((1, 1, 2)) for _ in range(spatial)]
    if g.chance(0.3) and g.opset >= 10 and op != "LpPool":
        given["ceil_mode"] = 1
    if g.chance(0.2) and ((op == "MaxPool" and g.opset >= 10) or g.opset >= 19):
        given["dilations"] = [g.rng.choice((1, 2)) for _ in range(spatial)]
    if op == "AveragePool":
        given["count_include_pad"] = g.rng.choice((0, 1, None))
    if op == "LpPool":
        given["p"] = g.rng.choice((1, 2))
    return g.add(op, [x], 2 if op == "MaxPool" and g.chance(0.2) else 1, **given)


def resizes(g: Growing) -> object:
    """Resize by scales or sizes, those that change nothing among them, in every mode."""
    x = g.pick("f", lambda one: 3 <= one.rank <= 4) if g.chance(0.8) else g.pick("i", lambda one: 3 <= one.rank <= 4)
    if x is None or g.opset < 10:
        return None
    mode = g.rng.choice(("nearest", "nearest", "linear", "cubic"))
    factors = [1.0, 1.0, *(g.rng.choice((1.0, 1.0, 2.0, 0.5, 1.5)) for _ in range(x.rank - 2))]
    if g.chance(0.3):
        factors = [1.0] * x.rank
    scales = g.constant(np.array(factors, np.float32))
    if g.opset < 11:
        return g.one("Resize", x, scales, mode=mode if mode != "cubic" else "nearest")
    given: dict[str, object] = {"mode": mode}
    if g.chance(0.6):
        given["coordinate_transformation_mode"] = g.rng.choice(_MODES)
    if mode == "nearest" and g.chance(0.5):
        given["nearest_mode"] = g.rng.choice(("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"))
    if g.opset >= 18 and g.chance(0.15):
        given["antialias"] = 1
    region = (
        None if g.opset >= 13 and g.chance(0.8) else g.constant(np.array([0.0] * x.rank + [1.0] * x.rank, np.float32))
    )
    if g.chance(0.4):
        if g.opset >= 18 and g.chance(0.4):
            axes = list(range(2, x.rank))
            return g.one(
                "Resize",
                x,
                region if g.chance(0.1) else None,
                None,
                g.ints(*(x.shape[at] if g.chance(0.5) else 4 for at in axes)),
                axes=axes,
                **given,
            )
        sizes = list(x.shape)
        if g.chance(0.5):
            sizes[-1] = g.rng.choice((2, 3, 8))
        return g.one("Resize", x, region, None, g.ints(*sizes), **given)
    return g.one("Resize", x, region, scales, **given)


def recurrences(g: Growing) -> object:
    """LSTM, GRU and RNN with every slot and attribute."""
    x = g.pick("f", lambda one: one.rank == 3 and one.settled[-1] and one.dtype == np.float32)
    if x is None:
        return None
    op, gates, most = g.rng.choice((("LSTM", 4, 3), ("GRU", 3, 2), ("RNN", 1, 2)))
    hidden, way = g.rng.randint(1, 2), g.rng.choice(("forward", "reverse", "bidirectional"))
    ways = 2 if way == "bidirectional" else 1
    layout = 1 if g.opset >= 14 and g.chance(0.1) else None
    batch = x.shape[0] if layout else x.shape[1]
    fits = x.settled[0] if layout else x.settled[1]
    slots: list[Known | None] = [x, g.numbers(ways, gates * hidden, x.shape[-1], plain=True)]
    slots.append(g.numbers(ways, gates * hidden, hidden, plain=True))
    slots.append(g.numbers(ways, 2 * gates * hidden, plain=True) if g.chance(0.6) else None)
    slots.append(g.constant(np.full([batch], x.shape[0], np.int32)) if fits and g.chance(0.15) else None)
    for _ in range(2 if op == "LSTM" else 1):
        state = [batch, ways, hidden] if layout else [ways, batch, hidden]
        slots.append(g.numbers(*state) if fits and g.chance(0.3) else None)
    if op == "LSTM" and g.chance(0.2):
        slots.append(g.numbers(ways, 3 * hidden, plain=True))
    while slots[-1] is None:
        slots.pop()
    given: dict[str, object] = {"hidden_size": hidden, "direction": way if g.chance(0.8) else None, "layout": layout}
    if op == "GRU":
        given["linear_before_reset"] = g.rng.choice((None, 0, 1))
    if g.chance(0.1):
        given["clip"] = 1.0
    if g.chance(0.15):
        names = {"LSTM": ["Sigmoid", "Tanh", "Relu"], "GRU": ["Sigmoid", "Relu"], "RNN": ["Relu"]}[op]
        given["activations"] = names * ways
    return g.add(op, slots, g.rng.randint(1, most), **given)


def rearranged_blocks(g: Growing) -> object:
    """Depth to space and back, patches, crops, samples of a grid."""
    x = g.pick("f", lambda one: one.rank == 4 and one.settled[1])
    if x is None:
        return None
    kind = g.rng.randrange(4)
    if kind == 0:
        mode = g.rng.choice(("DCR", "CRD", None)) if g.opset >= 11 else None
        y = g.one("DepthToSpace", x, blocksize=g.rng.choice((1, 2)), mode=mode)
        return g.one("SpaceToDepth", y, blocksize=g.rng.choice((1, 2))) if y is not None and g.chance(0.5) else y
    if kind == 1:
        return g.one("SpaceToDepth", x, blocksize=g.rng.choice((1, 2)))
    if kind == 2:
        return g.one("CenterCropPad", x, g.ints(3, 4), axes=[2, 3])
    grid = g.numbers(1, 2, 2, 2, like=x)
    return g.one("GridSample", x, grid, align_corners=g.rng.randrange(2)) if x.shape[0] == 1 else None


def channel_shuffle(g: Growing) -> object:
    """Channels in groups, turned, and back: with a group count that fits or does not."""
    x = g.pick("f", lambda one: one.rank == 4 and all(one.settled[1:]))
    if x is None:
        return None
    groups = g.rng.choice([one for one in (1, 2, 4) if x.shape[1] % one == 0])
    y = g.one("Reshape", x, g.ints(0, groups, x.shape[1] // groups, *x.shape[2:]))
    y = g.one("Transpose", y, perm=[0, 2, 1, 3, 4])
    return g.one("Reshape", y, g.ints(0, -1, *x.shape[2:]))


def einsums(g: Growing) -> object:
    """Products by letters: views, sums, diagonals, several operands."""
    if g.opset < 12:
        return None
    x = g.pick("f", lambda one: 1 < one.rank <= 4 and one.settled[-1])
    if x is None:
        return None
    letters = "abcd"[: x.rank]
    kind = g.rng.randrange(5)
    if kind == 0:
        shuffled = list(letters)
        g.rng.shuffle(shuffled)
        return g.one("Einsum", x, equation=f"{letters}->{''.join(shuffled)}")
    if kind == 1:
        return g.one("Einsum", x, equation=f"{letters}->{letters[: g.rng.randrange(x.rank)]}")
    if kind == 2:
        return g.one(
            "Einsum",
            x,
            g.numbers(x.shape[-1], 2, like=x, plain=True),
            equation=f"{letters},{letters[-1]}z->{letters[:-1]}z",
        )
    if kind == 3:
        return g.one("Einsum", x, x, equation=f"{letters},{letters}->{letters[:-1]}")
    return g.one(
        "Einsum", x, g.numbers(3, x.shape[-1], like=x, plain=True), equation=f"...{letters[-1]},z{letters[-1]}->...z"
    )


def deformed(g: Growing) -> object:
    """ConvInteger and MatMulInteger, dynamically quantized or not."""
    x = g.pick("f", lambda one: one.rank > 1 and one.settled[-1] and one.dtype == np.float32)
    if x is None or g.opset < 11:
        return None
    made = g.add("DynamicQuantizeLinear", [x], 3)
    if not made:
        return None
    codes, scale, zero = made
    images = x.rank == 4 and x.settled[1] and g.chance(0.6)
    shape = (2, x.shape[1], 2, 2) if images else (x.shape[-1], 3)
    kind = g.rng.choice((np.int8, np.uint8))
    weight = g.constant(np.array([g.rng.randint(0, 9) for _ in range(int(np.prod(shape)))], kind).reshape(shape))
    slots = [codes, weight, *([zero] if g.chance(0.8) else [])]
    y = g.one("ConvInteger" if images else "MatMulInteger", *slots)
    y = g.one("Cast", y, to=1) if y is not None else None
    if y is None:
        return None
    by = g.one("Mul", scale, g.number_like(x, 0.1)) if g.chance(0.7) else scale
    return g.one("Mul", y, by) if by is not None else y


SPATIAL: tuple[Family, ...] = (
    pools, pools, resizes, resizes, recurrences, recurrences, rearranged_blocks, channel_shuffle, einsums, einsums,
    deformed,
)  # fmt: skip

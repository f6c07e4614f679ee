"""Convolutions, pools and resizing: sizes of the axes after batch and channels."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import TensorProto

from graphopt.analysis.dim_bounds import at_least
from graphopt.analysis.dim_functions import ceil_div, floor_div, nonempty
from graphopt.analysis.dims import Dim
from graphopt.analysis.inference.fact import Call, Dims, Fact, Rule, Unknown
from graphopt.analysis.inference.moving import sized

_EXACT = 1e4  # sizes up to which a product in single precision is as good as exact


def window(call: Call, sizes: Sequence[Dim], kernel: Sequence[Dim], pool: bool = False) -> list[Dim]:
    """How many places a window takes along each axis."""
    rank = len(sizes)
    strides, dilations = _each(call, "strides", rank), _each(call, "dilations", rank)
    pads = call.listed("pads") or [0] * (2 * rank)
    auto = call.text("auto_pad", "NOTSET")
    if len(pads) != 2 * rank or len(kernel) != rank or min([*strides, *dilations], default=1) < 1:
        raise Unknown
    up = pool and bool(call.integer("ceil_mode", 0))
    found: list[Dim] = []
    for axis, (size, width, stride, dilation) in enumerate(zip(sizes, kernel, strides, dilations, strict=True)):
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            found.append(ceil_div(size, stride))
            continue
        around = 0 if auto == "VALID" else pads[axis] + pads[axis + rank]
        room = size + around - ((width - 1) * dilation + 1)
        if up:
            found.append(_rounded_up(size, room, pads[axis], stride, call))
        else:
            # Of windows that do not fit runtimes make what they like, unless the stride is 1 (where
            # the run ends). Axes with nothing in them are not looked at that closely.
            fits = stride == 1 or at_least(nonempty(room), 0)
            found.append(floor_div(room, stride) + 1 if fits else call.fresh())
    if any(isinstance(one, int) and one < 0 for one in found):
        raise Unknown
    return found


def _rounded_up(size: Dim, room: Dim, before: int, stride: int, call: Call) -> Dim:
    """With ceil_mode a window may hang over the end, but has to start inside of the axis or the pads before it."""
    count = ceil_div(room, stride) + 1
    if not isinstance(count, int) or not isinstance(size, int):
        return call.fresh()
    # Runtimes differ in whether a last window that starts in the padding is dropped.
    return call.fresh() if (count - 1) * stride >= size + before else count


def _each(call: Call, name: str, rank: int) -> list[int]:
    found = call.listed(name) or [1] * rank
    if len(found) != rank:
        raise Unknown
    return found


def _convolution(dtype: int, x: Dims | None, w: Dims | None, call: Call) -> Fact:
    if x is None and w is None:
        return Fact(dtype)
    rank = len(x if x is not None else w or ())
    channels = w[0] if w is not None else call.fresh()
    batch = x[0] if x is not None else call.fresh()
    kernel: Sequence[Dim] | None = call.listed("kernel_shape") or (None if w is None else w[2:])
    if x is None or kernel is None:
        return Fact(dtype, (batch, channels, *(call.fresh() for _ in range(rank - 2))))
    return Fact(dtype, (batch, channels, *window(call, x[2:], kernel)))


def _conv(call: Call) -> Fact:
    return _convolution(call.dtype(0), call.fact(0).dims, call.fact(1).dims, call)


def _conv_integer(call: Call) -> Fact:
    return _convolution(TensorProto.INT32, call.fact(0).dims, call.fact(1).dims, call)


def _qlinear_conv(call: Call) -> Fact:
    return _convolution(call.dtype(7), call.fact(0).dims, call.fact(3).dims, call)


def _conv_transpose(call: Call) -> Fact:
    dtype, x, w = call.dtype(0), call.dims(0), call.dims(1)
    rank = len(x) - 2
    channels = w[1] * call.integer("group", 1)
    given = call.listed("output_shape")
    if given is not None:
        return Fact(dtype, (x[0], channels, *given[-rank:]))
    kernel: Sequence[Dim] = call.listed("kernel_shape") or w[2:]
    strides, dilations = _each(call, "strides", rank), _each(call, "dilations", rank)
    pads, extra = call.listed("pads") or [0] * (2 * rank), call.listed("output_padding") or [0] * rank
    auto = call.text("auto_pad", "NOTSET")
    dims: list[Dim] = []
    for axis in range(rank):
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            if extra[axis]:
                raise Unknown
            dims.append(x[axis + 2] * strides[axis])
            continue
        around = 0 if auto == "VALID" else pads[axis] + pads[axis + rank]
        dims.append(
            (x[axis + 2] - 1) * strides[axis] + extra[axis] + ((kernel[axis] - 1) * dilations[axis] + 1) - around
        )
    return Fact(dtype, (x[0], channels, *dims))


def _pool(call: Call) -> list[Fact]:
    dtype, x = call.dtype(0), call.dims(0)
    kernel = call.listed("kernel_shape")
    if kernel is None:
        raise Unknown
    dims = (*x[:2], *window(call, x[2:], kernel, pool=True))
    return [Fact(dtype, dims), Fact(TensorProto.INT64, dims)]


def _global_pool(call: Call) -> Fact:
    x = call.dims(0)
    return Fact(call.dtype(0), (*x[:2], *(1 for _ in x[2:])))


def _resize(call: Call) -> Fact:
    dtype, x = call.dtype(0), call.dims(0)
    axes = call.listed("axes")
    places = list(range(len(x))) if axes is None else [axis % len(x) for axis in axes]
    dims = list(x)
    for axis in places:
        dims[axis] = call.fresh()
    scales = call.fact(2 if call.opset >= 11 else 1).floats
    if call.opset >= 11 and call.given(3):
        sizes = call.fact(3).value
        if sizes is not None and call.text("keep_aspect_ratio_policy", "stretch") == "stretch":
            for axis, size in zip(places, sizes.reshape(-1), strict=True):
                dims[axis] = sized(size, call)
    elif scales and call.text("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize":
        for axis, scale in zip(places, scales, strict=True):
            dims[axis] = _scaled(x[axis], scale, call)
    return Fact(dtype, tuple(dims))


def _scaled(dim: Dim, scale: float, call: Call) -> Dim:
    """The size of a resized axis where no rounding can matter."""
    if scale == int(scale):
        return dim * int(scale)
    if isinstance(dim, int):
        size = dim * scale
        if size < _EXACT and (min(size % 1, 1 - size % 1) > 1e-3 or size == int(size)):
            return int(size)
    return call.fresh()


RULES: dict[str, Rule] = {
    "Conv": _conv,
    "ConvInteger": _conv_integer,
    "QLinearConv": _qlinear_conv,
    "ConvTranspose": _conv_transpose,
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _pool),
    **dict.fromkeys(("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"), _global_pool),
    "Resize": _resize,
    "Upsample": _resize,
}

CONTRIB: dict[str, Rule] = {
    "FusedConv": _conv,
    "QLinearAveragePool": _pool,
    "QLinearGlobalAveragePool": _global_pool,
}

"""Pooling.

TFLite pools images only, with undilated windows. A line is an image of one row; a volume is
pooled along H and W, then along D. A dilated window of a maximum is laid out: gathers bring
its elements side by side, and windows no longer overlap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgec.ir import Array, DType, Graph, Node, Op
from edgec.ops import (
    Activation,
    AveragePool,
    DilatedAveragePool,
    GlobalAveragePool,
    GlobalLpPool,
    GlobalMaxPool,
    LpPool,
    MaxPool,
    Pool,
)
from edgec.ops.window import Pads, Window
from edgec.targets.tflite.kernels.kernel import (
    FLOAT,
    SAME,
    VALID,
    Constraint,
    Kernel,
    cast,
    is_integer,
)
from edgec.targets.tflite.kernels.reduce import reduction
from edgec.targets.tflite.kernels.spatial import as_image, image_fields, padded, put_image
from edgec.targets.tflite.lower import Lowering
from edgec.targets.tflite.padding import counts, padding

__all__ = ["CONSTRAINTS", "LOWERINGS"]


@dataclass(frozen=True, slots=True)
class _Slide:
    """One window that slides over images.

    Parameters
    ----------
    images
        ``[N, H, W, C]``: what it slides over.
    out
        How many windows there are along H and W.
    """

    images: tuple[int, ...]
    window: Window
    pad: Pads
    out: tuple[int, ...]

    @property
    def is_dilated(self) -> bool:
        """Whether the window has gaps, which builtin pools do not know of."""
        return any(d != 1 for d in self.window.dilation)

    @property
    def result(self) -> tuple[int, ...]:
        """``[N, OH, OW, C]``."""
        return (self.images[0], *self.out, self.images[3])


def _slides(op: Pool, node: Node) -> list[_Slide]:
    """Return the windows over images that make up a window over any spatial axes."""
    n, c, *size = node.inputs[0].type.ints
    out = node.output.type.ints[2:]
    w, pad = op.window, op.pad
    if len(size) == 1:
        row = Window((1, *w.kernel), (1, *w.stride), (1, *w.dilation))
        return [_Slide((n, 1, *size, c), row, (0, pad[0], 0, pad[1]), (1, *out))]
    if len(size) == 2:
        return [_Slide((n, *size, c), w, pad, out)]
    depth, oh, ow = size[0], *out[1:]
    plane = Window(w.kernel[1:], w.stride[1:], w.dilation[1:])
    column = Window((w.kernel[0], 1), (w.stride[0], 1), (w.dilation[0], 1))
    return [
        _Slide((n * depth, *size[1:], c), plane, (*pad[1:3], *pad[4:]), (oh, ow)),
        _Slide((n, depth, oh * ow, c), column, (pad[0], 0, pad[3], 0), (out[0], oh * ow)),
    ]


Step = Callable[[int, _Slide, int], None]
"""Pools from one tensor into another."""


def _pool(
    b: Lowering,
    node: Node,
    op: Pool,
    source: int,
    step: Step,
    finish: Callable[[int, int], None] | None = None,
) -> None:
    """Pool from `source` into a node's output, slide by slide.

    Parameters
    ----------
    finish
        Computes the output from what the last slide gave, if that is not the output.
    """
    slides = _slides(op, node)

    def write(target: int) -> None:
        tensor = source
        for slide in slides:
            info = b.info(tensor)
            result = target
            if finish is not None or slide is not slides[-1]:
                result = b.tensor(f"{b.layer}/slid", info.dtype, slide.result, quant=info.quant)
            step(b.reshaped(tensor, slide.images), slide, result)
            tensor = result
        if finish is not None:
            finish(tensor, target)

    put_image(b, node, write, form=slides[-1].result, dtype=b.info(source).dtype)


def _builtin(
    b: Lowering, code: str, source: int, slide: _Slide, target: int, *, same: bool = False
) -> None:
    b.operator(
        code,
        [source],
        [target],
        "Pool2D",
        2 if b.info(source).dtype is DType.INT8 else 1,
        padding=SAME if same else VALID,
        fusedActivationFunction=0,
        filterHeight=slide.window.kernel[0],
        filterWidth=slide.window.kernel[1],
        **image_fields(strideX=slide.window.stride),
    )


# ---- the largest element


def _max_pool(b: Lowering, node: Node, op: MaxPool) -> None:
    source = as_image(b, node.inputs[0], integer=is_integer(b, node))
    if b.info(source).quant is None:
        source = cast(b, source, DType.FLOAT32)  # holds all of 8 bits
    fill = _lowest(b, node, source)

    def step(images: int, slide: _Slide, target: int) -> None:
        if slide.is_dilated:
            _laid_out(b, images, slide, target)
            return
        pads = padding(slide.window, slide.images[1:3], slide.pad, slide.out)
        images = padded(b, images, pads.explicit, fill)
        _builtin(b, "MAX_POOL_2D", images, slide, target, same=pads.same)

    _pool(b, node, op, source, step)


def _laid_out(b: Lowering, images: int, slide: _Slide, target: int) -> None:
    """Gather the elements of each window side by side; one in the padding is another again."""
    kernel = slide.window.kernel
    for i in (0, 1):
        length, out = slide.images[1 + i], slide.out[i]
        start = np.arange(out) * slide.window.stride[i] - slide.pad[i]
        places = start[:, None] + np.arange(kernel[i]) * slide.window.dilation[i]
        inside = (places >= 0) & (places < length)
        first = np.take_along_axis(places, inside.argmax(1)[:, None], 1)
        indices = np.where(inside, places, first).astype(np.int32).ravel()
        if np.array_equal(indices, np.arange(length)):
            continue
        info = b.info(images)
        shape = (*info.shape[: 1 + i], len(indices), *info.shape[2 + i :])
        gathered = b.tensor(f"{b.layer}/windows", info.dtype, shape, quant=info.quant)
        where = b.constant(f"{b.layer}/places", indices)
        version = 2 if info.dtype is DType.INT8 else 1
        b.operator("GATHER", [images, where], [gathered], "Gather", version, axis=1 + i)
        images = gathered
    apart = _Slide(b.info(images).shape, Window(kernel, kernel), slide.pad, slide.out)
    _builtin(b, "MAX_POOL_2D", images, apart, target)


def _lowest(b: Lowering, node: Node, source: int) -> Array | None:
    """Return what never wins a maximum; ``None`` where zero does not either."""
    info = b.info(source)
    if info.quant is not None:
        lowest, _ = info.dtype.limits
        lowest_of_all = np.array(lowest, info.dtype.numpy)
        return None if info.quant.zero_point[0] == lowest else lowest_of_all
    producer = b.graph.producers.get(node.inputs[0])
    activation = getattr(producer.op, "activation", None) if producer else None
    if activation in (Activation.RELU, Activation.RELU6):
        return None
    return np.array(np.finfo(np.float32).min, np.float32)


# ---- means and norms


def _average_pool(b: Lowering, node: Node, op: AveragePool) -> None:
    source = as_image(b, node.inputs[0], integer=is_integer(b, node))

    def step(images: int, slide: _Slide, target: int) -> None:
        pads = padding(slide.window, slide.images[1:3], slide.pad, slide.out)
        factor = _correction(slide, counted=op.count_include_pad)
        if pads.same and not op.count_include_pad and not slide.is_dilated:
            _builtin(b, "AVERAGE_POOL_2D", images, slide, target, same=True)
        else:
            _mean(b, images, slide, target, factor)

    _pool(b, node, op, source, step)


def _correction(slide: _Slide, *, counted: bool) -> Array | None:
    """Return by what means over whole windows are too small; ``None`` if they are not."""
    full = math.prod(slide.window.kernel)
    per_axis = counts(slide.window, slide.images[1:3], slide.pad, slide.out, padded=counted)
    held = np.outer(*per_axis)
    if (held == full).all():
        return None
    return (full / held).astype(np.float32)[None, :, :, None]


def _mean(b: Lowering, images: int, slide: _Slide, target: int, factor: Array | None) -> None:
    """Fill `target` with means, zeros around the images counted, times `factor`."""
    pads = padding(slide.window, slide.images[1:3], slide.pad, slide.out, builtin=False)
    images = padded(b, images, pads.explicit)
    mean = target
    if factor is not None:
        mean = b.tensor(f"{b.layer}/mean", DType.FLOAT32, slide.result)
    if not slide.is_dilated:
        _builtin(b, "AVERAGE_POOL_2D", images, slide, mean)
    else:
        _dilated_mean(b, images, slide, mean)
    if factor is not None:
        by = b.constant(f"{b.layer}/factor", factor)
        b.operator("MUL", [mean, by], [target], "Mul", fusedActivationFunction=0)


def _dilated_mean(b: Lowering, images: int, slide: _Slide, target: int) -> None:
    """A mean as a depthwise convolution, whose window may be dilated."""
    channels = slide.images[3]
    weight = np.full((1, *slide.window.kernel, channels), 1, np.float32)
    weight /= math.prod(slide.window.kernel)
    kernel = b.constant(f"{b.layer}/kernel", weight)
    bias = b.constant(f"{b.layer}/bias", np.zeros(channels, np.float32))
    b.operator(
        "DEPTHWISE_CONV_2D",
        [images, kernel, bias],
        [target],
        "DepthwiseConv2D",
        2,
        padding=VALID,
        depthMultiplier=1,
        fusedActivationFunction=0,
        **image_fields(strideX=slide.window.stride, dilationXFactor=slide.window.dilation),
    )


def _lp_pool(b: Lowering, node: Node, op: LpPool) -> None:
    source = _power(b, as_image(b, node.inputs[0]), op.p)

    def step(images: int, slide: _Slide, target: int) -> None:
        full = np.array(math.prod(slide.window.kernel), np.float32)
        _mean(b, images, slide, target, None if full == 1 else full)

    finish = (lambda total, target: _root(b, total, op.p, target)) if op.p != 1 else None
    _pool(b, node, op, source, step, finish)


def _power(b: Lowering, tensor: int, p: int) -> int:
    """Return ``abs(x) ** p``."""
    info = b.info(tensor)
    out = b.tensor(f"{b.layer}/power", info.dtype, info.shape)
    if p == 2:
        b.operator("SQUARE", [tensor], [out], "Square")
        return out
    b.operator("ABS", [tensor], [out], "Abs")
    if p == 1:
        return out
    raised = b.tensor(f"{b.layer}/power", info.dtype, info.shape)
    exponent = b.constant(f"{b.layer}/p", np.array(p, np.float32))
    b.operator("POW", [out, exponent], [raised], "Pow")
    return raised


def _root(b: Lowering, total: int, p: int, target: int) -> None:
    """Fill `target` with ``total ** (1 / p)``."""
    if p == 2:
        b.operator("SQRT", [total], [target])
        return
    exponent = b.constant(f"{b.layer}/root", np.array(1 / p, np.float32))
    b.operator("POW", [total, exponent], [target], "Pow")


# ---- the whole input as one window


def _global(code: str) -> Callable[[Lowering, Node, Op], None]:
    def run(b: Lowering, node: Node, op: Op) -> None:
        reduction(b, node, code, tuple(range(2, node.inputs[0].type.rank)), keepdims=True)

    return run


def _global_lp_pool(b: Lowering, node: Node, op: GlobalLpPool) -> None:
    x = node.inputs[0]
    perm = b.order_of(x)
    powers = _power(b, b.get(x, perm), op.p)
    target = b.put(node, perm)
    axes = b.ints("axes", [k for k, axis in enumerate(perm) if axis > 1])
    total = target
    if op.p != 1:
        total = b.tensor(f"{b.layer}/total", DType.FLOAT32, b.info(target).shape)
    b.operator("SUM", [powers, axes], [total], "Reducer", keepDims=True)
    if op.p != 1:
        _root(b, total, op.p, target)


# ---- rules


def _no_empty_window(graph: Graph, node: Node) -> str | None:
    """Every window holds an element of the input."""
    op = node.op
    if not isinstance(op, Pool):
        return None
    size, out = node.inputs[0].type.ints[2:], node.output.type.ints[2:]
    held = counts(op.window, size, op.pad, out, padded=False)
    return None if all(n.all() for n in held) else "one lies in the padding alone"


_BYTES = FLOAT | {DType.INT8, DType.UINT8}

LOWERINGS = {
    AveragePool: Kernel(_average_pool),
    DilatedAveragePool: Kernel(_average_pool),
    GlobalAveragePool: Kernel(_global("MEAN")),
    GlobalLpPool: Kernel(_global_lp_pool),
    GlobalMaxPool: Kernel(_global("REDUCE_MAX")),
    LpPool: Kernel(_lp_pool),
    MaxPool: Kernel(_max_pool, _BYTES),
}

CONSTRAINTS = (
    Constraint((MaxPool, AveragePool), _no_empty_window, "make the padding smaller"),
)

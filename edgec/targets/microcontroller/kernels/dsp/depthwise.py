"""Depthwise convolutions of 3x3: four channels at a time, vertical pairs.

Two rows of four channels become four planes, one a channel: each word holds a pixel and the
one below it. One LDRD brings two columns of a pair of rows, and SMLAD multiplies two pixels
with two weights. From four columns of two pairs come two by two results, with 6 multiplications
each for 9 multiply-accumulates. The pairs take turns in two places, so every row is spread
once; code for each order saves swapping them.

Channels are the outer loop. All of a block's rows are read before results that lie over them
are written, and results of a block lie over the same channels of the operand if both start at
the same byte: so layers of equal width work in place.
"""

from __future__ import annotations

from edgec.program import Layer
from edgec.program.operators import DepthwiseConv
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.dsp.assembly import Output
from edgec.targets.microcontroller.kernels.dsp.depthwise_planes import SPREAD_PAIR, Planes
from edgec.targets.microcontroller.kernels.dsp.depthwise_rows import shape_of, stream, turns
from edgec.targets.microcontroller.kernels.dsp.sums import Sums, Window
from edgec.targets.microcontroller.kernels.dsp.tiling import slack_of

__all__ = ["depthwise"]


def depthwise(layer: Layer, core: Core) -> Code | None:
    """Kernels of 3x3 with strides of 1 or 2, over channels in blocks of four."""
    if "dsp" not in core.tiers or not isinstance(layer.op, DepthwiseConv):
        return None
    window, sums = Window.of(layer), Sums.of(layer)
    if window is None or sums is None or window.channels != window.filters:
        return None
    if window.kernel != (3, 3) or window.dilations != (1, 1) or window.channels % 4:
        return None
    if window.strides not in ((1, 1), (2, 2)):
        return None
    planes = Planes.of(window)
    if planes.filled <= 0 or not planes.reachable:
        return None
    rescaling = sums.rescaling((1,))
    if rescaling is None:
        return None
    output = Output.of(rescaling)
    shape, functions = shape_of(window, planes, output, sums.zero, 4)
    pixels = window.height * window.width
    return Code(
        f"{shape}{_WALK.name}({{x0}}, {{y0}}, {{weights}}, {{scratch}}, &shape);",
        (*functions, _WALK),
        {"weights": sums.table(stream(sums, rescaling, window.strides[0]), rescaling)},
        scratch=4 * planes.stride,
        in_place=frozenset({0} if slack_of(pixels, turns(window)) >= 0 else ()),
        macs=window.places * window.filters * 9,
    )


_WALK = Function(
    "$depthwise_3x3",
    "void $depthwise_3x3(const int8_t *input, int8_t *output, const uint32_t *weights,\n"
    "    int8_t *scratch, const $depthwise_shape *shape)",
    """\
{
    uint32_t *planes = (uint32_t *)(void *)scratch;
    /* Columns beside the picture keep what stands for zero. */
    for (int32_t i = 0; i < 8 * shape->width; i++) {
        planes[i] = shape->zero;
    }
    for (int32_t c = 0; c < shape->channels; c += 4) {
        int8_t *result = output + c;
        $spread_pair(input + c, -shape->top, 0, planes, shape);
        for (int32_t j = 0; j < shape->passes; j++) {
            const int32_t next = j + 1;
            $spread_pair(input + c, 2 * next - shape->top, next & 1, planes, shape);
            shape->rows[next == shape->passes ? 2 : j & 1](planes, weights, result);
            result += shape->step;
        }
        weights += shape->words;
    }
}
""",
    needs=(SPREAD_PAIR,),
)

"""Depthwise convolutions of 3x3 with several filters for each channel.

Rows become planes of vertical pairs as they do for one filter, and all filters of a channel
go over its plane one after the other: what brings pixels into planes is paid once for all of
them.

Rows are the outer loop, and four channels at a time the inner one. Each pair of rows is brought
twice, which costs little beside several filters; in return there are planes of four channels
alone, and the result, which is the larger one, may follow closely behind its operand.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgec.program import Layer
from edgec.program.operators import DepthwiseConv
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.dsp.assembly import Output
from edgec.targets.microcontroller.kernels.dsp.depthwise_planes import (
    SHAPE,
    SPREAD_PAIR,
    Planes,
)
from edgec.targets.microcontroller.kernels.dsp.depthwise_rows import passes, shape_of, stream
from edgec.targets.microcontroller.kernels.dsp.sums import Sums, Window
from edgec.targets.microcontroller.kernels.dsp.tiling import slack_of

__all__ = ["depthwise_multiple"]

_LARGEST_PLANES = 16_384
"""In bytes."""

_FARTHEST = 4095
"""Bytes from pixel to pixel that offsets of STRB reach."""


def depthwise_multiple(layer: Layer, core: Core) -> Code | None:
    """Kernels of 3x3 with strides of 1 or 2, and any number of channels."""
    if "dsp" not in core.tiers or not isinstance(layer.op, DepthwiseConv):
        return None
    window, sums = Window.of(layer), Sums.of(layer)
    if window is None or sums is None or window.channels == window.filters:
        return None
    if window.kernel != (3, 3) or window.dilations != (1, 1):
        return None
    if window.strides not in ((1, 1), (2, 2)) or window.filters > _FARTHEST:
        return None
    planes = Planes.of(window)
    if planes.filled <= 0 or not planes.reachable:
        return None
    rescaling = sums.rescaling((1,))
    if rescaling is None:
        return None
    block = window.channels if window.channels % 4 else 4
    if block * planes.stride > _LARGEST_PLANES:
        return None
    shape, functions = shape_of(window, planes, Output.of(rescaling), sums.zero, block)
    walk = _walk(fours=window.channels >= 4, rest=window.channels % 4 > 0)
    return Code(
        f"{shape}{walk.name}({{x0}}, {{y0}}, {{weights}}, {{scratch}}, &shape, {block}, "
        f"{window.filters // window.channels});",
        (*functions, walk),
        {"weights": sums.table(stream(sums, rescaling, window.strides[0]), rescaling)},
        scratch=block * planes.stride,
        slack={0: slack_of(layer.input(0).size, _turns(window))},
        macs=window.places * window.filters * 9,
    )


def _turns(window: Window) -> Iterator[tuple[int, int]]:
    """Yield what is still needed in each pass, and what is written until its end."""
    rows = 1 if window.strides[0] == 2 else 2
    row, result = window.width * window.channels, window.columns * window.filters
    for j in range(passes(window)):
        needed = min(max(2 * j - window.pads[0][0], 0), window.height - 1)
        yield needed * row, min((j + 1) * rows, window.rows) * result


_SPREAD_CHANNEL = Function(
    "$spread_channel",
    "void $spread_channel(const int8_t *input, int32_t row, int32_t slot, uint32_t *planes,\n"
    "    const $depthwise_shape *shape)",
    """\
{
    /* One channel of a row and the one below it, where there are not four. */
    const int8_t zero = (int8_t)(uint8_t)(shape->zero & 0xFF);
    const int32_t inside[2] = {
        0 <= row && row < shape->height, 0 <= row + 1 && row + 1 < shape->height
    };
    const int8_t *upper = inside[0] ? input + row * shape->row : &zero;
    const int8_t *lower = inside[1] ? input + (row + 1) * shape->row : &zero;
    const int32_t down = inside[0] ? shape->channels : 0;
    const int32_t along = inside[1] ? shape->channels : 0;
    uint32_t *plane = planes + slot * shape->width + shape->left;
    const uint32_t *const end = plane + shape->spread[0] / 4;
    while (plane != end) {
        *plane++ = ((uint32_t)*upper & 0xFFFFu) | (uint32_t)*lower << 16;
        upper += down;
        lower += along;
    }
}
""",
    types=(SHAPE,),
)

_FOURS = """\
    for (; c + 4 <= count; c += 4) {
        $spread_pair(input + c, row, slot, planes + 2 * c * shape->width, shape);
    }
"""

_REST = """\
    for (; c < count; c++) {
        $spread_channel(input + c, row, slot, planes + 2 * c * shape->width, shape);
    }
"""


def _walk(*, fours: bool, rest: bool) -> Function:
    """Return the walk over a picture whose channels are in fours, or not, or some of them."""
    suffix = "" if fours and rest else "_fours" if fours else "_ones"
    spread = Function(
        f"$spread_channels{suffix}",
        f"void $spread_channels{suffix}(const int8_t *input, int32_t row, int32_t slot,\n"
        "    uint32_t *planes, const $depthwise_shape *shape, int32_t count)",
        f"{{\n    int32_t c = 0;\n{_FOURS * fours}{_REST * rest}}}\n",
        needs=(*[SPREAD_PAIR] * fours, *[_SPREAD_CHANNEL] * rest),
        types=(SHAPE,),
    )
    name = f"$depthwise_3x3_multiple{suffix}"
    return Function(
        name,
        f"void {name}(const int8_t *input, int8_t *output, const uint32_t *weights,\n"
        "    int8_t *scratch, const $depthwise_shape *shape, int32_t together,\n"
        "    int32_t multiple)",
        f"""\
{{
    uint32_t *planes = (uint32_t *)(void *)scratch;
    /* Columns beside the picture keep what stands for zero. */
    for (int32_t i = 0; i < 2 * together * shape->width; i++) {{
        planes[i] = shape->zero;
    }}
    for (int32_t j = 0; j < shape->passes; j++) {{
        const int32_t row = 2 * j - shape->top;
        const uint32_t *stream = weights;
        for (int32_t c = 0; c < shape->channels; c += together) {{
            {spread.name}(input + c, row, 0, planes, shape, together);
            {spread.name}(input + c, row + 2, 1, planes, shape, together);
            shape->rows[j + 1 == shape->passes ? 2 : 0](planes, stream, output + c * multiple);
            stream += shape->words;
        }}
        output += shape->step;
    }}
}}
""",
        needs=(spread,),
        types=(SHAPE,),
    )

"""Depthwise convolutions of any kernel: pointers to a pixel's taps.

With one filter for each channel four channels are computed a step. With several a channel's
taps become pairs of halfwords once, and all filters of the channel are multiplied with them.
"""

from __future__ import annotations

import numpy as np

from edgec.program import Layer
from edgec.program.operators import DepthwiseConv
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.dsp.assembly import Assembly, Output
from edgec.targets.microcontroller.kernels.dsp.gather import place_of_tap
from edgec.targets.microcontroller.kernels.dsp.sums import Ints, Sums, Window
from edgec.targets.microcontroller.kernels.dsp.tiling import (
    block,
    layer_function,
    slack_of,
    turns_within_rows,
)
from edgec.targets.microcontroller.kernels.requantization import Rescaling

__all__ = ["depthwise_taps", "depthwise_taps_multiple"]

_MOST_TAPS = 128


def depthwise_taps(layer: Layer, core: Core) -> Code | None:
    """Any kernel, stride and dilation; channels in fours."""
    if "dsp" not in core.tiers or not isinstance(layer.op, DepthwiseConv):
        return None
    window, sums = Window.of(layer), Sums.of(layer)
    if window is None or sums is None or window.channels != window.filters:
        return None
    if window.channels % 4:
        return None
    rescaling = sums.rescaling((1,))
    if rescaling is None:
        return None
    output = Output.of(rescaling)
    taps = window.kernel[0] * window.kernel[1]
    function = _pixel(output)
    driver = _driver(window, function, sums.zero, (window.channels, taps), 4 * taps)
    return Code(
        f"{driver.name}({{x0}}, {{y0}}, {{weights}}, {{scratch}});",
        (driver,),
        {"weights": sums.table(_stream(sums, rescaling), rescaling)},
        scratch=4 * taps + window.channels,
        slack={0: slack_of(layer.input(0).size, turns_within_rows(window))},
        macs=window.places * window.filters * taps,
    )


def _stream(sums: Sums, rescaling: Rescaling) -> Ints:
    """Return biases, weights and constants of every four channels."""
    fours = sums.filters // 4
    biases = sums.biases_with(rescaling).reshape(fours, 4)
    bytes_ = (sums.weights & 0xFF).reshape(fours, 4, -1) << np.arange(0, 32, 8)[:, None]
    words = bytes_.sum(1)
    constants = np.array(rescaling.words, np.int64).reshape(fours, -1)
    stream: Ints = np.concatenate([biases, words, constants], axis=1).ravel()
    return stream


def _pixel(output: Output) -> Function:
    """Return the function for all channels of a pixel."""
    name = f"$depthwise_taps_{output.label}"
    asm = Assembly(name, 8, "one pixel, four channels at a time; taps are pointers to pixels")
    # r0 weights, r1 taps, r2 result, r3 end of the taps, r4 to r7 the sums, r12 the channel.
    asm("ldrd r4, r5, [r3]", "add r3, r1, r5, lsl #2", "strd r1, r4, [sp]", "mov r12, #0")
    asm("1:", "ldm r0!, {r4, r5, r6, r7}", "ldr r1, [sp]")
    asm("2:", "ldr lr, [r1], #4", "ldr r8, [lr, r12]", "ldr r10, [r0], #4")
    asm("sxtb16 r9, r8, ror #8", "sxtb16 r8, r8", "sxtb16 r11, r10, ror #8", "sxtb16 r10, r10")
    asm("smlabb r4, r8, r10, r4", "smlabb r5, r9, r11, r5")
    asm("smlatt r6, r8, r10, r6", "smlatt r7, r9, r11, r7", "cmp r1, r3", "bne 2b")
    for total in ("r4", "r5", "r6", "r7"):
        output.channel(asm, [total], 0, ("r8", "r9", "r10"))
        asm(f"strb {total}, [r2], #1")
    asm("add r12, r12, #4", "ldr lr, [sp, #4]", "cmp r12, lr", "bne 1b")
    return asm.function(
        f"void {name}(const uint32_t *weights, const int8_t *const *taps, int8_t *output,\n"
        "    const int32_t *shape)"
    )


def depthwise_taps_multiple(layer: Layer, core: Core) -> Code | None:
    """Any kernel, stride, dilation and number of channels, with several filters for each."""
    if "dsp" not in core.tiers or not isinstance(layer.op, DepthwiseConv):
        return None
    window, sums = Window.of(layer), Sums.of(layer)
    if window is None or sums is None or window.channels == window.filters:
        return None
    taps = window.kernel[0] * window.kernel[1]
    rescaling = sums.rescaling((1,))
    if rescaling is None or taps > _MOST_TAPS:
        return None
    fours = -(-taps // 4)
    function = _pixel_multiple(Output.of(rescaling), fours)
    # Pointers in fours, the pairs, and a pixel of zeros.
    zeros = 16 * fours + 8 * fours
    shape = (window.channels, window.filters // window.channels)
    driver = _driver(window, function, sums.zero, shape, zeros, 4 * fours - taps)
    return Code(
        f"{driver.name}({{x0}}, {{y0}}, {{weights}}, {{scratch}});",
        (driver,),
        {"weights": sums.table(_stream_multiple(sums, rescaling), rescaling)},
        scratch=zeros + window.channels,
        slack={0: slack_of(layer.input(0).size, turns_within_rows(window))},
        macs=window.places * window.filters * taps,
    )


def _stream_multiple(sums: Sums, rescaling: Rescaling) -> Ints:
    """Return bias, weights in fours and constants of each filter."""
    flat = sums.weights.reshape(sums.filters, -1) & 0xFF
    fours = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 4))).reshape(sums.filters, -1, 4)
    words = (fours << np.arange(0, 32, 8)).sum(2)
    constants = np.array(rescaling.words, np.int64)
    biases = sums.biases_with(rescaling)[:, None]
    stream: Ints = np.concatenate([biases, words, constants], axis=1).ravel()
    return stream


def _pixel_multiple(output: Output, fours: int) -> Function:
    """Return the function for all filters of a pixel, for a number of taps in fours."""
    name = f"$depthwise_taps_{4 * fours}_multiple_{output.label}"
    about = "one pixel; a channel's taps become pairs, and its filters go over them"
    asm = Assembly(name, 16, about)
    few = fours <= 3  # pairs of so many stay in registers
    pairs = [(f"r{6 + 2 * k}", f"r{7 + 2 * k}") for k in range(3)]
    # r0 weights, r1 taps and then pairs, r2 result, r3 filters left, r4 the sum; on the stack:
    # taps, channels, filters of each, channel.
    asm("ldrd r4, r5, [r3]", "strd r1, r4, [sp]", "str r5, [sp, #8]", "mov r12, #0")
    asm("1:", "ldr r1, [sp]")
    if few:
        for first, second in pairs[:fours]:
            asm(f"ldm r1!, {{r3, r4, r5, {first}}}")
            asm("ldrsb r3, [r3, r12]", "ldrsb r4, [r4, r12]", "ldrsb r5, [r5, r12]")
            asm(f"ldrsb {second}, [{first}, r12]")
            asm(f"pkhbt {first}, r3, r5, lsl #16", f"pkhbt {second}, r4, {second}, lsl #16")
    else:
        asm("mov lr, r1")
        asm.advance("lr", 16 * fours)
        asm("mov r3, lr", "2:", "ldm r1!, {r4, r5, r6, r7}")
        asm(*(f"ldrsb r{k}, [r{k}, r12]" for k in range(4, 8)))
        asm("pkhbt r4, r4, r6, lsl #16", "pkhbt r5, r5, r7, lsl #16", "strd r4, r5, [lr], #8")
        asm("cmp r1, r3", "bne 2b")
    asm("ldr r3, [sp, #8]", "str r12, [sp, #12]", "3:", "ldr r4, [r0], #4")
    for k in range(fours):
        first, second = pairs[k] if few else pairs[0]
        if not few:
            asm(f"ldrd {first}, {second}, [r1, #{8 * k}]")
        asm("ldr r5, [r0], #4", "sxtb16 r12, r5", "sxtb16 r5, r5, ror #8")
        asm(f"smlad r4, {first}, r12, r4", f"smlad r4, {second}, r5, r4")
    output.channel(asm, ["r4"], 0, ("r5", "r12", "lr"))
    asm("strb r4, [r2], #1", "subs r3, r3, #1", "bne 3b")
    asm("ldr r12, [sp, #12]", "ldr r4, [sp, #4]", "add r12, r12, #1")
    asm("cmp r12, r4", "bne 1b")
    return asm.function(
        f"void {name}(const uint32_t *weights, const int8_t *const *taps, int8_t *output,\n"
        "    const int32_t *shape)"
    )


def _driver(
    window: Window,
    function: Function,
    zero: int,
    shape: tuple[int, int],
    zeros: int,
    more: int = 0,
) -> Function:
    """Return the walk over places.

    Parameters
    ----------
    shape
        What the function for a pixel is told.
    zeros
        Where in the scratch a pixel of zeros is.
    more
        How many pointers to it follow those to the taps.
    """
    kh, kw = window.kernel
    channels = window.channels
    row, places = place_of_tap(window)
    tap = f"{places}\n*tap++ = inside ? input + place * {channels} : zeros;"
    kernel = block(
        f"for (int32_t ky = 0; ky < {kh}; ky++)",
        f"{row}\n{block(f'for (int32_t kx = 0; kx < {kw}; kx++)', tap)}",
    )
    pixel = (
        f"const int8_t **tap = taps;\n{kernel}\n"
        f"{function.name}(weights, taps, output, shape);\n"
        f"output += {window.filters};"
    )
    across = block(f"for (int32_t x = 0; x < {window.columns}; x++)", pixel)
    rest = "".join(f"taps[{kh * kw + k}] = zeros;\n" for k in range(more))
    text = (
        f"static const int32_t shape[2] = {{{shape[0]}, {shape[1]}}};\n"
        "const int8_t **taps = (const int8_t **)(void *)scratch;\n"
        f"int8_t *zeros = scratch + {zeros};\n"
        f"for (int32_t i = 0; i < {channels}; i++) {{\n    zeros[i] = {zero};\n}}\n{rest}"
        + block(f"for (int32_t y = 0; y < {window.rows}; y++)", across)
    )
    several = "" if window.filters == channels else f"_{window.filters}"
    label = f"{window.label}{several}_z{zero & 0xFF}"
    name = f"$depthwise_{label}_{function.name.removeprefix('$')}"
    return layer_function(
        name,
        "Each pixel gets pointers to its taps; those outside lead to zeros.",
        text,
        (function,),
    )

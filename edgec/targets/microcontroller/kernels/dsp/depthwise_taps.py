"""Depthwise convolutions of any kernel: pointers to a pixel's taps, four channels a step."""

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

__all__ = ["depthwise_taps"]


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
    driver = _driver(window, function, sums.zero)
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


def _driver(window: Window, function: Function, zero: int) -> Function:
    kh, kw = window.kernel
    channels, taps = window.channels, kh * kw
    row, places = place_of_tap(window)
    tap = f"{places}\n*tap++ = inside ? input + place * {channels} : zeros;"
    kernel = block(
        f"for (int32_t ky = 0; ky < {kh}; ky++)",
        f"{row}\n{block(f'for (int32_t kx = 0; kx < {kw}; kx++)', tap)}",
    )
    pixel = (
        f"const int8_t **tap = taps;\n{kernel}\n"
        f"{function.name}(weights, taps, output, shape);\n"
        f"output += {channels};"
    )
    across = block(f"for (int32_t x = 0; x < {window.columns}; x++)", pixel)
    text = (
        f"static const int32_t shape[2] = {{{channels}, {taps}}};\n"
        "const int8_t **taps = (const int8_t **)(void *)scratch;\n"
        f"int8_t *zeros = scratch + {4 * taps};\n"
        f"for (int32_t i = 0; i < {channels}; i++) {{\n    zeros[i] = {zero};\n}}\n"
        + block(f"for (int32_t y = 0; y < {window.rows}; y++)", across)
    )
    name = f"$depthwise_{window.label}_z{zero & 0xFF}_{function.name.removeprefix('$')}"
    return layer_function(
        name,
        "Each pixel gets pointers to its taps; those outside lead to zeros.",
        text,
        (function,),
    )

"""Depthwise convolutions with small kernels, four channels at a time.

Four rows of the picture are brought into planes first, one for each of four channels, in which
the four bytes of a column lie together: then a window of four rows and columns is one vector.
Its products with the weights, zeros beside them, are added by one instruction; the same vector
serves the results beside and below with the weights moved by a column or a row.

Channels are the outer loop, and the planes of what comes next are made before results are
written. So the result may lie over the operand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from edgec.program import Layer
from edgec.program.operators import DepthwiseConv
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function, Kind, Table
from edgec.targets.microcontroller.kernels.dsp.assembly import Assembly
from edgec.targets.microcontroller.kernels.dsp.sums import Ints, Sums, Window
from edgec.targets.microcontroller.kernels.dsp.tiling import block, layer_function, slack_of
from edgec.targets.microcontroller.kernels.mve.moving import FILL
from edgec.targets.microcontroller.kernels.mve.results import Rounding, rounding_of

__all__ = ["depthwise"]

_SIDE = 4
"""Rows and columns of a vector."""


def depthwise(layer: Layer, core: Core) -> Code | None:
    """Kernels of up to four rows and columns, and channels in fours."""
    if "mve" not in core.tiers or not isinstance(layer.op, DepthwiseConv):
        return None
    window, sums = Window.of(layer), Sums.of(layer)
    if window is None or sums is None or window.channels % 4 or window.dilations != (1, 1):
        return None
    if max(window.kernel) > _SIDE:
        return None
    found = rounding_of(sums)
    if found is None or found[0].form == "any":
        return None
    rounding, constants = found
    planes = _Planes.of(window)
    driver = _driver(window, planes, rounding, sums)
    turns = _turns(window, planes)
    pixels = window.height * window.width
    return Code(
        f"{driver.name}({{x0}}, {{y0}}, {{weights}}, {{scratch}});",
        (driver,),
        {"weights": _table(sums, constants)},
        scratch=2 * planes.size,
        in_place=frozenset({0} if slack_of(pixels, turns) >= 0 else ()),
        macs=window.places * window.filters * window.kernel[0] * window.kernel[1],
    )


@dataclass(frozen=True, slots=True)
class _Planes:
    """How four rows of four channels lie while results are computed from them.

    Parameters
    ----------
    square
        Vectors serve two rows and two columns of results; else each serves one result.
    columns
        Of a plane, those beside the picture included.
    """

    square: bool
    columns: int
    rows: int

    @classmethod
    def of(cls, window: Window) -> _Planes:
        """Return those of a layer."""
        square = window.strides == (1, 1) and max(window.kernel) < _SIDE
        width = 2 if square else 4
        tiles = -(-window.columns // width)
        reach = 2 * tiles + 2 if square else (4 * tiles - 1) * window.strides[1] + _SIDE
        columns = max(window.pads[1][0] + window.width, reach)
        return cls(square, columns, -(-window.rows // (2 if square else 1)))

    @property
    def plane(self) -> int:
        """Bytes of a plane."""
        return _SIDE * self.columns

    @property
    def size(self) -> int:
        """Bytes of four planes."""
        return 4 * self.plane

    @property
    def width(self) -> int:
        """Columns of results that are computed together."""
        return 2 if self.square else 4

    @property
    def height(self) -> int:
        """Rows of results that are computed together."""
        return 2 if self.square else 1

    def first_row(self, window: Window, turn: int) -> int:
        """Return the first row of the picture that a turn needs; it may lie above."""
        return turn * self.height * window.strides[0] - window.pads[0][0]

    def valid(self, window: Window, turn: int) -> tuple[int, int]:
        """Return which of the four rows are in the picture, and needed: from, to."""
        first = self.first_row(window, turn)
        needed = window.kernel[0] + (self.height - 1)
        begin = min(max(-first, 0), needed)
        return begin, max(min(window.height - first, needed), begin)


def _turns(window: Window, planes: _Planes) -> Iterator[tuple[int, int]]:
    """Yield what is still needed of a channel, and what is written, in pixels."""
    for turn in range(planes.rows):
        later = turn + 2 >= planes.rows
        first = window.height if later else planes.first_row(window, turn + 2)
        done = min((turn + 1) * planes.height, window.rows)
        yield min(max(first, 0), window.height) * window.width, done * window.columns


def _table(sums: Sums, constants: Ints) -> Table:
    """Return the weights of each channel, four rows of a column in a word, and constants."""
    count, rows, columns = sums.weights.shape
    lanes = np.zeros((count, columns, _SIDE), np.int8)
    lanes[:, :, :rows] = sums.weights.transpose(0, 2, 1)
    words = lanes.reshape(count, -1).view("<u4")
    biases = sums.biases - sums.zero * sums.weights.sum((1, 2))
    rest = np.stack([biases, *constants], 1).astype(np.int32).view(np.uint32)
    array = np.concatenate([words, rest], 1).reshape(-1).astype(np.uint32)
    kinds: dict[Kind, int] = {
        "weights": sums.weights.size,
        "biases": 4 * count,
        "requantization": 8 * count,
        "other": array.nbytes - sums.weights.size - 12 * count,
    }
    return Table(array, kinds, align=8)


# ---- planes


def _planes_function(begin: int, end: int) -> Function:
    """Return what makes planes of rows of which only some are in the picture.

    Its shape: width, bytes of a row, channels, bytes of a plane, what stands for zero.
    """
    name = f"$planes_{begin}_{end}"
    asm = Assembly(name, 0, "four channels of four rows into planes, columns together")
    asm("vpush {d8-d15}", "ldrd r3, r4, [r2]", "ldrd r5, r6, [r2, #8]", "ldr r7, [r2, #16]")
    rows = ("r0", "r8", "r9", "r10")[: end - begin]
    asm(*(f"add {b}, {a}, r4" for a, b in pairwise(rows)))
    asm("add r11, r1, r6", "add r12, r11, r6", "add r6, r12, r6")
    asm("mov r2, #0", "vidup.u32 q7, r2, #1", "vmul.i32 q7, q7, r5", "lsl r5, r5, #2")
    asm("vdup.8 q5, r7", "dlstp.32 lr, r3", "1:")
    for k in range(_SIDE):
        inside = begin <= k < end
        asm(f"vldrw.u32 q{k}, [{rows[k - begin]}, q7]" if inside else f"vmov q{k}, q5")
    asm("vadd.i32 q7, q7, r5")
    # Bytes of two rows change places, then pairs of bytes.
    for size, pairs in ((16, ((0, 1), (2, 3))), (32, ((0, 2), (1, 3)))):
        for a, b in pairs:
            asm(f"vshr.u{size} q4, q{a}, #{size // 2}")
            asm(f"vmovnt.i{size} q{a}, q{b}", f"vmovnb.i{size} q{b}, q4")
    for q, plane in enumerate(("r1", "r11", "r12", "r6")):
        asm(f"vstrw.32 q{q}, [{plane}], #16")
    asm("letp lr, 1b", "vpop {d8-d15}")
    made = asm.function(
        f"void {name}(const int8_t *rows, int8_t *planes, const int32_t *shape)"
    )
    return replace(made, helium=True)


# ---- results


@dataclass(frozen=True, slots=True)
class _Results:
    """The function for a row of results, or two, of four channels.

    Its shape: four places of results, how many tiles are full, how far from a tile to the next,
    bytes of a plane, zero point, range.

    Parameters
    ----------
    kernel
        Columns.
    stride
        From column to column, where vectors do not serve squares.
    both
        Whether both rows of a square are results.
    rest
        Columns of results behind the last full tile.
    """

    square: bool
    kernel: int
    stride: int
    both: bool
    rest: int
    rounding: Rounding

    @property
    def name(self) -> str:
        """It says all that the code depends on."""
        kind = f"square{'' if self.both else '_half'}" if self.square else f"line_{self.stride}"
        return f"$depthwise_{kind}_{self.kernel}_{self.rest}_{self.rounding.label}"

    def function(self) -> Function:
        """Return the code."""
        asm = Assembly(self.name, 12, "four channels, each from its plane")
        asm("vpush {d8-d15}", "mov r9, r0", "mov r11, r3", "strd r1, r2, [sp, #64]")
        asm("mov r0, #4", "str r0, [sp, #72]", "vldrw.u32 q2, [r11]", "ldr r8, [r11, #28]")
        asm("1:", "vldrw.u32 q4, [r9]", "mov r12, #0")
        asm(*(f"vmov.32 q4[{k}], r12" for k in range(self.kernel, _SIDE)))
        if self.square:
            for to, start, bits in (("q5", "q4", 8), ("q6", "q4", 32), ("q7", "q5", 32)):
                asm(f"vmov {to}, {start}", f"vshlc {to}, r12, #{bits}")
        asm(f"ldr r3, [r9, #{4 * self.kernel}]", f"ldrd r5, r7, [r9, #{4 * self.kernel + 4}]")
        asm(f"add r9, r9, #{4 * self.kernel + 12}", "ldrd r1, r10, [sp, #64]")
        asm("ldrd r0, r12, [r11, #16]")
        masked = self.square and not self.both
        if masked:
            asm(f"movw r2, #{0x00FF}", "vmsr p0, r2")
        asm("wls lr, r0, 3f", "2:")
        self._tile(asm, masked=masked)
        asm("le lr, 2b", "3:")
        if self.rest:
            asm(f"movw r2, #{self._mask}", "vmsr p0, r2")
            self._tile(asm, masked=True)
        asm("ldrd r1, r2, [sp, #64]", "ldr r0, [r11, #24]", "add r1, r1, r0", "add r2, r2, #1")
        asm("strd r1, r2, [sp, #64]", "ldr r0, [sp, #72]", "subs r0, r0, #1")
        asm("str r0, [sp, #72]", "bne 1b", "vpop {d8-d15}")
        made = asm.function(
            f"void {self.name}(const uint32_t *weights, const int8_t *planes,\n"
            "    int8_t *output, const int32_t *shape)"
        )
        return replace(made, helium=True)

    @property
    def _mask(self) -> int:
        """Which results of the last tile there are: four bits for each."""
        if not self.square:
            return (1 << 4 * self.rest) - 1
        return 0x0F0F if self.both else 0x000F

    def _tile(self, asm: Assembly, *, masked: bool) -> None:
        totals = ("r0", "r2", "r4", "r6")
        if self.square:
            asm("vldrb.u8 q0, [r1], #8")
            weights = ("q4", "q6", "q5", "q7")
            asm(*(f"vmladav.s8 {t}, q0, {w}" for t, w in zip(totals, weights, strict=True)))
        else:
            for k, total in enumerate(totals):
                q = ("q0", "q5")[k % 2]
                asm(f"vldrb.u8 {q}, [r1], #{4 * self.stride}")
                asm(f"vmladav.s8 {total}, {q}, q4")
        asm("vmov q1[2], q1[0], r0, r4", "vmov q1[3], q1[1], r2, r6", "vadd.i32 q1, q1, r3")
        away = self.rounding.form == "away"
        asm(*(["vshr.s32 q3, q1, #31"] if away else []), "vqrdmulh.s32 q1, q1, r5")
        asm(*(["vadd.i32 q1, q1, q3"] if away else []), "vrshl.s32 q1, r7")
        if self.rounding.clamp:
            asm("ldrd r0, r2, [r11, #32]")
        asm("vqmovnb.s32 q1, q1")
        self.rounding.finish(asm, "q1", ("r8", "r0", "r2"), "q3")
        asm("vqmovnb.s16 q1, q1")
        asm(*(["vpst"] if masked else []))
        asm(f"vstrb{'t' if masked else ''}.32 q1, [r10, q2]", "add r10, r10, r12")


def _driver(window: Window, planes: _Planes, rounding: Rounding, sums: Sums) -> Function:
    channels, height = window.channels, planes.height
    row, step = window.width * channels, height * window.strides[0]
    below = window.columns * channels
    tiles, rest = divmod(window.columns, planes.width)
    beside = (0, channels, 2 * channels, 3 * channels)
    places = (0, channels, below, below + channels) if planes.square else beside
    how = sums.requantization
    picture = (window.width, row, channels, planes.plane, sums.zero)
    limits = (how.zero_point, how.least, how.greatest)
    results = (*places, tiles, planes.width * channels, planes.plane, *limits)
    made: list[Function] = [FILL]
    left = _SIDE * window.pads[1][0]
    runs: list[tuple[int, tuple[int, int]]] = []
    for turn in range(planes.rows):
        valid = planes.valid(window, turn)
        if runs and runs[-1][1] == valid:
            runs[-1] = (turn + 1, valid)
        else:
            runs.append((turn + 1, valid))
    cases = []
    for end, (begin, stop) in runs:
        function = _planes_function(begin, stop)
        made.append(function)
        at = f"(turn * {step} + {begin - window.pads[0][0]}) * {row}"
        rows = f"input + {at}" if stop > begin else "input"
        cases.append((end, f"{function.name}({rows}, to, picture);"))
    chain = cases[-1][1]
    for end, text in reversed(cases[:-1]):
        rest_of = chain if chain.startswith("if") else block("", chain).strip()
        chain = f"{block(f'if (turn < {end})', text)} else {rest_of}"
    prepare = f"int8_t *const to = scratch + (turn & 1) * {planes.size} + {left};\n{chain}"
    kernel, stride = window.kernel[1], window.strides[1]
    words = kernel + 3

    def computed(both: bool) -> str:
        function = _Results(planes.square, kernel, stride, both, rest, rounding).function()
        made.append(function)
        at = "turn - 1"
        return (
            f"{function.name}(weights, scratch + (({at}) & 1) * {planes.size},\n"
            f"    output + ({at}) * {height * below}, results);"
        )

    odd = planes.square and window.rows % 2 == 1
    if odd and planes.rows == 1:
        compute = computed(False)
    elif odd:
        compute = f"{block(f'if (turn < {planes.rows})', computed(True))} else "
        compute += block("", computed(False)).strip()
    else:
        compute = computed(True)
    body = "\n".join(
        [
            f"for (int32_t turn = 0; turn <= {planes.rows}; turn++) {{",
            "    " + block(f"if (turn < {planes.rows})", prepare).replace("\n", "\n    "),
            "    " + block("if (turn > 0)", compute).replace("\n", "\n    "),
            "}",
            "input += 4;",
            "output += 4;",
            f"weights += {4 * words};",
        ]
    )
    text = (
        f"static const int32_t picture[{len(picture)}] = {{{_listed(picture)}}};\n"
        f"static const int32_t results[{len(results)}] = {{{_listed(results)}}};\n"
        f"$fill_vectors(scratch, {sums.zero}, {2 * planes.size});\n"
        + block(f"for (int32_t four = 0; four < {channels // 4}; four++)", body)
    )
    ends = "_".join(map(str, (sums.zero, *limits))).replace("-", "m")
    name = f"$depthwise_{window.label}_{rounding.label}_{ends}"
    about = "Planes of what comes next are made before results are written."
    return layer_function(name, about, text, tuple(dict.fromkeys(made)))


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))

"""Depthwise convolutions with kernels of few rows or few columns, four channels at a time.

Four rows of the picture are brought into planes first, one for each of four channels, in which
the four bytes of a column lie together: then a window of four rows and columns is one vector.
Its products with the weights, zeros beside them, are added by one instruction; the same vector
serves the results beside and below with the weights moved by a column or a row.

Channels are the outer loop, and the planes of what comes next are made before results are
written. So the result may lie over the operand. Rows and columns change places where the
picture is narrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgec.program import Layer
from edgec.program.operators import DepthwiseConv
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function, Kind, Table
from edgec.targets.microcontroller.kernels.dsp.sums import Ints, Sums, Window
from edgec.targets.microcontroller.kernels.dsp.tiling import block, layer_function, slack_of
from edgec.targets.microcontroller.kernels.mve.moving import FILL
from edgec.targets.microcontroller.kernels.mve.planes import (
    SIDE,
    WIDEST,
    Results,
    planes_function,
)
from edgec.targets.microcontroller.kernels.mve.results import Rounding, rounding_of

__all__ = ["depthwise"]


def depthwise(layer: Layer, core: Core) -> Code | None:
    """Kernels of up to four rows or columns, and channels in fours."""
    if "mve" not in core.tiers or not isinstance(layer.op, DepthwiseConv):
        return None
    window, sums = Window.of(layer), Sums.of(layer)
    if window is None or sums is None or window.channels != window.filters:
        return None
    if window.channels % 4 or window.dilations != (1, 1):
        return None
    found = rounding_of(sums)
    if found is None or found[0].form == "any":
        return None
    rounding, constants = found
    ways = [_Way.of(window, turned) for turned in (False, True)]
    possible = [way for way in ways if way.results(rounding, both=True).possible]
    possible = [way for way in possible if way.kernel[0] <= SIDE and way.kernel[1] <= WIDEST]
    if not possible:
        return None
    way = min(possible, key=lambda each: each.cost)
    driver = _driver(window, way, rounding, sums)
    return Code(
        f"{driver.name}({{x0}}, {{y0}}, {{weights}}, {{scratch}});",
        (driver,),
        {"weights": _table(sums, constants, way, way.results(rounding, both=True))},
        scratch=2 * way.size,
        in_place=frozenset({0} if way.in_place else ()),
        macs=window.places * window.filters * window.kernel[0] * window.kernel[1],
    )


@dataclass(frozen=True, slots=True)
class _Way:
    """How a picture is walked over: row after row, or column after column if it is turned.

    Rows and columns are those of the walk.

    Parameters
    ----------
    square
        Vectors serve two rows and two columns of results.
    apart, apart_results
        Bytes from row to row and from column to column, of the picture and the result.
    """

    turned: bool
    square: bool
    picture: tuple[int, int]
    places: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int]
    apart: tuple[int, int]
    apart_results: tuple[int, int]

    @classmethod
    def of(cls, window: Window, turned: bool) -> _Way:
        """Return that of a layer."""
        channels = window.channels
        pairs: tuple[tuple[int, int], ...] = (
            (window.height, window.width),
            (window.rows, window.columns),
            window.kernel,
            window.strides,
            (window.pads[0][0], window.pads[1][0]),
            (window.width * channels, channels),
            (window.columns * channels, channels),
        )
        if turned:
            pairs = tuple((b, a) for a, b in pairs)
        square = window.strides == (1, 1) and max(window.kernel) < SIDE
        return cls(turned, square, *pairs)

    def results(self, rounding: Rounding, both: bool) -> Results:
        """Return what computes a row of results, or two."""
        rest = self.places[1] % self.width
        rows, columns = self.kernel
        return Results(self.square, columns, rows, self.strides[1], both, rest, rounding)

    @property
    def columns(self) -> int:
        """Of a plane, those beside the picture included."""
        tiles = -(-self.places[1] // self.width)
        reach = 2 * tiles + 2
        if not self.square:
            reach = (4 * tiles - 1) * self.strides[1] + -(-self.kernel[1] // SIDE) * SIDE
        return max(self.pads[1] + self.picture[1], reach)

    @property
    def plane(self) -> int:
        """Bytes of a plane."""
        return SIDE * self.columns

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

    @property
    def turns(self) -> int:
        """How often planes are made."""
        return -(-self.places[0] // self.height)

    @property
    def cost(self) -> int:
        """Instructions of four channels, or so."""
        tiles = -(-self.places[1] // self.width)
        tile = 17 if self.square else 13 + 8 * -(-self.kernel[1] // SIDE)
        planes = 110 + 22 * -(-self.picture[1] // 4)
        return self.turns * (planes + 4 * (24 + tile * tiles))

    def first_row(self, turn: int) -> int:
        """Return the first row of the picture that a turn needs; it may lie above."""
        return turn * self.height * self.strides[0] - self.pads[0]

    def valid(self, turn: int) -> tuple[int, int]:
        """Return which of the four rows are in the picture, and needed: from, to."""
        first = self.first_row(turn)
        needed = self.kernel[0] + (self.height - 1)
        begin = min(max(-first, 0), needed)
        return begin, max(min(self.picture[0] - first, needed), begin)

    @property
    def in_place(self) -> bool:
        """Whether the result may lie over the operand, channel by channel."""
        if self.turned and self.picture != self.places and self.turns > 2:
            return False  # places and pixels are not in the same order
        return slack_of(self.picture[0] * self.picture[1], self._turns()) >= 0

    def _turns(self) -> Iterator[tuple[int, int]]:
        """Yield what is still needed of a channel, and what is written, in pixels."""
        for turn in range(self.turns):
            later = turn + 2 >= self.turns
            first = self.picture[0] if later else self.first_row(turn + 2)
            done = min((turn + 1) * self.height, self.places[0])
            needed = min(max(first, 0), self.picture[0])
            yield needed * self.picture[1], done * self.places[1]


def _table(sums: Sums, constants: Ints, way: _Way, results: Results) -> Table:
    """Return the weights of each channel, the rows of a column together, and constants."""
    weights = sums.weights.transpose(0, 2, 1) if way.turned else sums.weights
    count, rows, columns = weights.shape
    lanes = np.zeros((count, columns, results.stored), np.int8)
    lanes[:, :, :rows] = weights.transpose(0, 2, 1)
    flat = np.zeros((count, results.weight_bytes), np.int8)
    flat[:, : columns * results.stored] = lanes.reshape(count, -1)
    words = flat.view("<u4")
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


def _driver(window: Window, way: _Way, rounding: Rounding, sums: Sums) -> Function:
    preparing, made = _preparing(way)
    tiles = way.places[1] // way.width
    below, beside = way.apart_results
    places = (0, beside, below, below + beside)
    if not way.square:
        places = (0, beside, 2 * beside, 3 * beside)
    how = sums.requantization
    limits = (how.zero_point, how.least, how.greatest)
    results = way.results(rounding, both=True)
    words = results.weight_bytes // 4 + 3
    done = tiles + (1 if results.rest else 0)
    numbers = (
        *places,
        tiles,
        way.width * beside,
        way.plane - done * results.step,
        1 - done * way.width * beside,
        16 * words,
        *limits,
    )
    picture = (way.picture[1], *way.apart, way.plane, sums.zero)
    computing, more = _computing(way, rounding)
    body = "\n".join(
        [
            f"for (int32_t turn = 0; turn <= {way.turns}; turn++) {{",
            "    " + block(f"if (turn < {way.turns})", preparing).replace("\n", "\n    "),
            "    " + block("if (turn > 0)", computing).replace("\n", "\n    "),
            "}",
            "input += 4;",
            "output += 4;",
            f"weights += {4 * words};",
        ]
    )
    text = (
        f"static const int32_t picture[{len(picture)}] = {{{_listed(picture)}}};\n"
        f"static const int32_t results[{len(numbers)}] = {{{_listed(numbers)}}};\n"
        f"$fill_vectors(scratch, {sums.zero}, {2 * way.size});\n"
        + block(f"for (int32_t four = 0; four < {window.channels // 4}; four++)", body)
    )
    ends = "_".join(map(str, (sums.zero, *limits))).replace("-", "m")
    name = f"$depthwise_{window.label}_{rounding.label}_{ends}"
    about = "Planes of what comes next are made before results are written."
    return layer_function(name, about, text, tuple(dict.fromkeys((FILL, *made, *more))))


def _preparing(way: _Way) -> tuple[str, list[Function]]:
    """Return statements that make the planes of a turn, and what they call."""
    runs: list[tuple[int, tuple[int, int]]] = []
    for turn in range(way.turns):
        valid = way.valid(turn)
        if runs and runs[-1][1] == valid:
            runs[-1] = (turn + 1, valid)
        else:
            runs.append((turn + 1, valid))
    made, chain = [], ""
    for end, (begin, stop) in reversed(runs):
        function = planes_function(begin, stop)
        made.append(function)
        first = begin - way.pads[0]
        at = f"(turn * {way.height * way.strides[0]} + {first}) * {way.apart[0]}"
        call = f"{function.name}({f'input + {at}' if stop > begin else 'input'}, to, picture);"
        if not chain:
            chain = call
            continue
        rest = chain if chain.startswith("if") else block("", chain).strip()
        chain = f"{block(f'if (turn < {end})', call)} else {rest}"
    left = SIDE * way.pads[1]
    return f"int8_t *const to = scratch + (turn & 1) * {way.size} + {left};\n{chain}", made


def _computing(way: _Way, rounding: Rounding) -> tuple[str, list[Function]]:
    """Return statements that compute the results of the turn before, and what they call."""
    made: list[Function] = []

    def computed(both: bool) -> str:
        function = way.results(rounding, both).function()
        made.append(function)
        return (
            f"{function.name}(weights, scratch + ((turn - 1) & 1) * {way.size},\n"
            f"    output + (turn - 1) * {way.height * way.apart_results[0]}, results);"
        )

    if not way.square or way.places[0] % 2 == 0:
        return computed(True), made
    if way.turns == 1:
        return computed(False), made
    return (
        f"{block(f'if (turn < {way.turns})', computed(True))} else "
        + block("", computed(False)).strip(),
        made,
    )


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))

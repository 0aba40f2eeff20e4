"""From sums of 32 bits to int8 as TFLite Micro does it, exactly; and in fewer instructions.

TFLite Micro multiplies a sum by a real factor in integers and rounds twice: with the factor
``value * 2 ** (shift - 31)`` it computes ``high = (sum * value + 2 ** 30) >> 31``, half up, and
then ``high / 2 ** -shift``, half away from zero. Zero point and clamp follow.

Seen as a function of the sum this is a staircase of at most 256 steps. A core with a DSP
extension computes another staircase in two instructions: ``(sum + offset) * factor``, of which
the upper 32 bits are added to a constant, and a saturating shift to 8 bits. Both rise
monotonically, so they are equal everywhere if they are equal on both sides of each step: that
is a proof over all sums that can occur, not a sample. :func:`exact_constants` looks for such
constants, and checks them so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from edgec.program import Layer
from edgec.program.arithmetic import (
    Ints,
    Multiplier,
    multiplied,
    multipliers_of,
    output_range,
)
from edgec.program.operators import Activation

__all__ = [
    "Constants",
    "Multiplier",
    "Requantization",
    "Rescaling",
    "exact_constants",
    "multipliers_of",
    "output_range",
    "rescaling_of",
]

_INT8 = (-128, 127)


@dataclass(frozen=True, slots=True)
class Requantization:
    """How the sums of a layer become int8: its meaning, whatever instructions compute it.

    Parameters
    ----------
    multipliers
        For each channel.
    least, greatest
        What is stored at least and at most.
    """

    multipliers: tuple[Multiplier, ...]
    zero_point: int
    least: int
    greatest: int

    @classmethod
    def of(cls, layer: Layer, activation: Activation) -> Self:
        """Return that of a convolution or a matrix product."""
        low, high = output_range(activation, layer.output)
        return cls(multipliers_of(layer), layer.output.zero_point, low, high)

    @property
    def values(self) -> Ints:
        """Of the multipliers."""
        return np.array([m.value for m in self.multipliers], np.int64)

    @property
    def shifts(self) -> Ints:
        """Of the multipliers."""
        return np.array([m.shift for m in self.multipliers], np.int64)

    def __call__(self, sums: npt.ArrayLike) -> Ints:
        """Return what is stored for sums; channels are the last axis."""
        numbers = np.asarray(sums, np.int64)
        scaled = multiplied(numbers, self.values, self.shifts) + self.zero_point
        return np.clip(scaled, self.least, self.greatest)

    def thresholds(self, low: Ints, high: Ints) -> Ints:
        """Return where the staircase rises, channel by channel.

        Parameters
        ----------
        low, high
            The least and the greatest sum of each channel.

        Returns
        -------
        Ints
            In row ``k + 127`` the least sum from `low` on that gives `k` or more, for `k` from
            -127 to 127; ``high + 1`` if there is none.
        """
        steps = np.arange(_INT8[0] + 1, _INT8[1] + 1, dtype=np.int64)[:, None]
        below = np.broadcast_to(low - 1, (len(steps), len(low))).copy()
        above = np.broadcast_to(high + 1, below.shape).copy()
        while np.any(above - below > 1):  # bisection of all steps at once
            middle = (below + above) >> 1
            reached = self(middle) >= steps
            above = np.where(reached, middle, above)
            below = np.where(reached, below, middle)
        return above


@dataclass(frozen=True, slots=True)
class Constants:
    """``((sum + offset) * scale * factor >> 32) + addend``, shifted and saturated to int8.

    `scale` is what the sum comes multiplied with, 1 or 256.
    """

    offset: int
    factor: int
    addend: int
    shift: int


@dataclass(frozen=True, slots=True)
class _Staircase:
    """What a channel's constants have to meet.

    `reach` are pairs (k, sum): the sum has to give `k` or more; in `stay` it has to give less.
    """

    low: int
    high: int
    reach: tuple[tuple[int, int], ...]
    stay: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, low: int, high: int, first: int, last: int, thresholds: Ints) -> Self:
        """Return it for a channel that gives `first` at the sum `low` and `last` at `high`."""
        steps = [(k, int(thresholds[k - _INT8[0] - 1])) for k in range(first + 1, last + 1)]
        # The ends of the range need no care where int8 itself ends: there it saturates.
        start = [(first, low)] if first > _INT8[0] else []
        end = [(last + 1, high)] if last < _INT8[1] else []
        return cls(low, high, tuple(start + steps), tuple([(k, t - 1) for k, t in steps] + end))

    def met_by(self, constants: Constants, scale: int) -> bool:
        """Whether they compute exactly this staircase, without leaving 32 bits."""

        def level(total: int) -> int:
            grown = (total + constants.offset) * scale
            return constants.addend + (grown * constants.factor >> 32)

        ends = (self.low, self.high)
        limit = 2**31
        return (
            all(-limit <= (end + constants.offset) * scale < limit for end in ends)
            and all(-limit <= level(end) < limit for end in ends)
            and all(level(total) >> constants.shift >= k for k, total in self.reach)
            and all(level(total) >> constants.shift < k for k, total in self.stay)
        )

    def constants(self, slope: float, shift: int, scale: int) -> Constants | None:
        """Look for constants with this shift; `slope` is the factor of the requantization."""
        unit = 2**shift
        nearest = round(slope * 2.0 ** (shift + 32) / scale)
        for factor in (nearest, nearest - 1, nearest + 1):
            if not 0 < factor < 2**31:
                continue
            rise = factor * scale / 2**32  # of a level, per unit of the sum
            least = max((k * unit - t * rise for k, t in self.reach), default=-math.inf)
            most = min((k * unit - t * rise for k, t in self.stay), default=math.inf)
            if least >= most:
                continue
            for offset, addend in self._candidates(rise, least, most, scale):
                found = Constants(offset, factor, addend, shift)
                if self.met_by(found, scale):
                    return found
        return None

    def _candidates(
        self, rise: float, least: float, most: float, scale: int
    ) -> list[tuple[int, int]]:
        """Return offsets and addends with ``least <= addend + offset * rise < most``.

        The addend alone is too coarse where many steps leave little room; an offset that goes
        into the bias moves it by fractions.
        """
        room = 2**31 // scale - max(abs(self.low), abs(self.high)) - 2
        least, most = max(least, -(2.0**31)), min(most, 2.0**31)
        for reach in (0, 64, 4096, 2**16, 2**19):
            offsets = np.arange(-min(reach, room), min(reach, room) + 1)
            addends = np.ceil(least - offsets * rise)
            places = addends + offsets * rise
            good = np.nonzero((places < most) & (np.abs(addends) < 2**31 - 1))[0]
            if len(good):
                good = good[:: max(len(good) // 256, 1)]
                centred = np.argsort(np.abs(places[good] - (least + most) / 2), kind="stable")
                chosen = good[centred[:6]]
                return [(int(offsets[j]), int(addends[j])) for j in chosen]
        return []


def _constant(value: int, shift: int) -> Constants:
    return Constants(0, 0, value << shift, shift)


_MOST_SHIFT = 22
"""Results have 8 bits; one more is room for what saturates."""


def _shifts(scale: int) -> list[int]:
    """Return shifts in the order they are tried.

    Most layers have several that are exact. These two come first because nearly all layers
    have them, and layers with the same shift share their code.
    """
    favoured = 2 if scale == 1 else 9
    return sorted(range(_MOST_SHIFT + 1), key=lambda shift: (abs(shift - favoured), shift))


def exact_constants(
    requantization: Requantization, low: Ints, high: Ints, scales: tuple[int, ...]
) -> tuple[tuple[Constants, ...], tuple[int, ...] | None] | None:
    """Look for two-instruction constants of all channels of a layer, and prove them.

    Parameters
    ----------
    low, high
        The least and the greatest sum of each channel over all inputs.
    scales
        What the sums of channels 0, 1, … come multiplied with, again and again.

    Returns
    -------
    tuple or None
        The constants of each channel; and the shift that the channels of each scale share, or
        ``None`` if they need their own. ``None`` altogether if a channel has no constants.
    """
    thresholds = requantization.thresholds(low, high)
    first, last = requantization(low), requantization(high)
    stairs = [
        _Staircase.of(int(low[c]), int(high[c]), int(first[c]), int(last[c]), thresholds[:, c])
        for c in range(len(low))
    ]
    slopes = [m.value * 2.0 ** (m.shift - 31) for m in requantization.multipliers]

    def found(channel: int, shift: int) -> Constants | None:
        if first[channel] == last[channel]:
            return _constant(int(first[channel]), shift)
        scale = scales[channel % len(scales)]
        return stairs[channel].constants(slopes[channel], shift, scale)

    def together(channels: range, scale: int) -> list[Constants] | None:
        for shift in _shifts(scale):
            each: list[Constants] = []
            for channel in channels:
                one = found(channel, shift)
                if one is None:
                    break
                each.append(one)
            else:
                return each
        return None

    groups = [
        together(range(k, len(low), len(scales)), scale) for k, scale in enumerate(scales)
    ]
    shared = [group for group in groups if group is not None]
    if len(shared) == len(scales):
        count = range(len(low))
        every = tuple(shared[c % len(scales)][c // len(scales)] for c in count)
        return every, tuple(group[0].shift if group else 0 for group in shared)
    alone: list[Constants] = []
    for channel in range(len(low)):
        tried = (found(channel, shift) for shift in range(_MOST_SHIFT, -1, -1))
        one = next((constants for constants in tried if constants is not None), None)
        if one is None:
            return None
        alone.append(one)
    return tuple(alone), None


Form = Literal["shared", "own", "linear"]
"""A shift in the code (2 instructions), beside each channel (3), or both roundings (5)."""


@dataclass(frozen=True, slots=True)
class Rescaling:
    """How sums become int8 on a core with a DSP extension.

    Parameters
    ----------
    shifts
        In the form ``"shared"``: for the channels of each scale.
    offsets
        What is added to the bias of each channel.
    words
        What each channel needs at run time: factor and addend, and in forms other than
        ``"shared"`` the shift.
    clamp
        What the result has still to be brought into.
    """

    form: Form
    shifts: tuple[int, ...]
    offsets: tuple[int, ...]
    words: tuple[tuple[int, ...], ...]
    clamp: tuple[int, int] | None = None


def rescaling_of(
    requantization: Requantization, low: Ints, high: Ints, scales: tuple[int, ...]
) -> Rescaling | None:
    """Return the shortest exact form for a layer; ``None`` if none is exact.

    Parameters are those of :func:`exact_constants`.
    """
    shifts = requantization.shifts
    widest = np.maximum(np.abs(low), np.abs(high))
    if np.any((shifts > 0) & (widest >= np.right_shift(2**31, np.maximum(shifts, 0)))):
        return None  # TFLite's own product would leave 32 bits
    exact = exact_constants(requantization, low, high, scales)
    if exact is not None:
        constants, shared = exact
        offsets = tuple(c.offset for c in constants)
        if shared is not None:
            pairs = tuple((c.factor, c.addend) for c in constants)
            return Rescaling("shared", shared, offsets, pairs)
        triples = tuple((c.factor, c.addend, c.shift) for c in constants)
        return Rescaling("own", (), offsets, triples)
    return _linear(requantization, low, high, scales)


def _linear(
    requantization: Requantization, low: Ints, high: Ints, scales: tuple[int, ...]
) -> Rescaling | None:
    """Return the form that rounds twice.

    ``high`` of the module's docstring is one rounding multiplication by twice the sum. The
    second rounding adds half of ``2 ** right``, less one where `high` is negative; the sign of
    the sum may stand for that of `high`, as they differ only where `high` is 0 and both round
    to 0. Zero point and rounding are one constant.
    """
    first, last = requantization(low), requantization(high)
    widest = np.where(first == last, 0, np.maximum(np.abs(low), np.abs(high)))
    room = [2**30 if scale == 1 else 2**31 // scale for scale in scales]  # it is doubled
    if np.any(widest >= np.resize(room, len(low))):
        return None
    words: list[tuple[int, int, int]] = []
    zero = requantization.zero_point
    for channel, multiplier in enumerate(requantization.multipliers):
        right = -multiplier.shift
        if first[channel] == last[channel]:
            words.append((0, (int(first[channel]) << 1) + 1, 1))
        elif multiplier.value == 0:
            words.append((0, (zero << 1) + 1, 1))
        elif 1 <= right <= 23:
            words.append((multiplier.value, (1 << right - 1) + (zero << right), right))
        else:
            return None
    clamp = (requantization.least, requantization.greatest)
    offsets = (0,) * len(words)
    return Rescaling("linear", (), offsets, tuple(words), None if clamp == _INT8 else clamp)

"""What the samples themselves, and the classes the model sees in them, give away."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from edgec.calibration.report import Warned
from edgec.ir import Array, TensorType, Value

__all__ = ["InputWatch", "OutputWatch", "channel_axis"]

_LAYOUT_SAMPLES = 64
_ROUGHER = 1.25
"""Images in the right order are half as rough as in the wrong one, or less; in the wrong order
they are twice as rough as in the right one."""

_MOST_CHANNELS, _LEAST_SIDE = 4, 8
_ENOUGH = 8
"""With fewer samples it is chance that all are of one class."""

_ONE_SIDED = 0.9
"""Share of one class among three or more that no set of all classes has."""


class InputWatch:
    """Follows one input over the samples."""

    def __init__(self, value: Value) -> None:
        self.name = value.name
        self._axis = channel_axis(value.type)
        self._first: Array | None = None
        self._same = True
        self._flat = 0
        self.count = 0
        self.low, self.high = math.inf, -math.inf
        self._given = self._other = 0.0

    def add(self, x: Array) -> None:
        """Take up one sample."""
        self.count += 1
        if self._first is None:
            self._first = x.copy()
        elif self._same:
            self._same = bool(np.array_equal(x, self._first))
        if x.size and x.dtype.kind in "fiu":
            low, high = float(x.min()), float(x.max())
            self.low, self.high = min(self.low, low), max(self.high, high)
            self._flat += low == high and x.size > 1
        if self._axis is not None and self.count <= _LAYOUT_SAMPLES:
            given, other = _readings(x, self._axis)
            self._given += _roughness(given)
            self._other += _roughness(other)

    @property
    def roughness(self) -> float:
        """How rough images are as given, over how rough in the other order; 0 if unknown."""
        return self._given / self._other if self._other else 0.0

    @property
    def is_constant(self) -> bool:
        """Whether all samples are the same."""
        return self.count > 1 and self._same

    def warnings(self, *, alone: bool) -> Iterator[Warned]:
        """Yield what looks wrong.

        Parameters
        ----------
        alone
            Whether every other input is constant too. Masks and lengths, which are integers,
            may well be the same for all samples beside data that are not.
        """
        place, first = f"input {self.name!r}", self._first
        counts = first is not None and first.size > 1 and (alone or _is_real(first))
        many = "give samples that differ, of every kind that the model will meet"
        if counts and self.is_constant:
            yield Warned("constant", place, f"all {self.count} samples are the same", many)
        elif counts and 2 * self._flat > self.count:
            which = f"{self._flat} of {self.count} samples hold"
            which = "the sample holds" if self.count == 1 else which
            yield Warned("constant", place, f"{which} one number everywhere", many)
        if self.roughness > _ROUGHER:
            given, other = ("NCHW", "NHWC") if self._axis == 1 else ("NHWC", "NCHW")
            back = (0, 3, 1, 2) if self._axis == 1 else (0, 2, 3, 1)
            yield Warned(
                "layout",
                place,
                f"the images are {self.roughness:.1f} times as rough read as {given}, as the "
                f"model does, than read as {other}",
                f"if the samples were brought to this shape by reshape, use "
                f"x.transpose{back} of the {other} array instead",
            )


def _is_real(x: Array) -> bool:
    return x.dtype.kind not in "biuO"


def channel_axis(t: TensorType) -> int | None:
    """Return the axis of the channels, if the shape is clearly that of images in colour."""
    if t.dims is None or len(t.dims) != 4 or not all(isinstance(d, int) for d in t.dims[1:]):
        return None
    _, a, b, c = (d if isinstance(d, int) else 1 for d in t.dims)
    if 2 <= a <= _MOST_CHANNELS and min(b, c) >= _LEAST_SIDE:
        return 1
    if 2 <= c <= _MOST_CHANNELS and min(a, b) >= _LEAST_SIDE:
        return 3
    return None


def _readings(x: Array, axis: int) -> tuple[Array, Array]:
    """Return images as [N, H, W, C]: as they come, and as if the other order was meant."""
    n, *rest = x.shape
    if axis == 1:
        c, h, w = rest
        return x.transpose(0, 2, 3, 1), x.reshape(n, h, w, c)
    h, w, c = rest
    return x, x.reshape(n, c, h, w).transpose(0, 2, 3, 1)


def _roughness(x: Array) -> float:
    """Return the mean step from a pixel to its neighbours, of the same channel."""
    real = x.astype(np.float32, copy=False)
    steps = (np.abs(np.diff(real, axis=axis)).mean(dtype=np.float64) for axis in (1, 2))
    return float(sum(steps))


class OutputWatch:
    """Follows the largest class of one output over the samples."""

    def __init__(self, value: Value, inputs: tuple[Value, ...]) -> None:
        self.name = value.name
        self.classes: Counter[int] = Counter()
        self.rows = 0
        t = value.type
        shaped = t.dims is not None and len(t.dims) == 2 and isinstance(t.dims[1], int)
        # What comes out in the form of what went in is that again, and no classes.
        again = any(v.type.dims == t.dims for v in inputs)
        self.watched = shaped and t.dtype.is_float and t.shape[1] != 1 and not again
        self.width = t.ints[1] if self.watched and t.is_static else 0

    def add(self, y: Array) -> None:
        """Take up one sample."""
        self.rows += len(y)
        self.classes.update(map(int, y.argmax(axis=1)))

    def warnings(self) -> Iterator[Warned]:
        """Yield what looks wrong."""
        if self.rows < _ENOUGH:
            return
        ((most, count),) = self.classes.most_common(1)
        few = self.rows >= 2 * _ENOUGH and self.width > 2 and count >= _ONE_SIDED * self.rows
        if count == self.rows or few:
            yield Warned(
                "collapse",
                f"output {self.name!r}",
                f"the model sees class {most} in {count} of {self.rows} samples",
                "check the preprocessing and the order of the axes, or give samples of "
                "several classes",
            )

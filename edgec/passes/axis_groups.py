"""Which axes a reshape joins or splits."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AxisGroup", "axis_groups"]


@dataclass(frozen=True, slots=True)
class AxisGroup:
    """Neighbouring axes before a reshape that hold the same values as some after it.

    Axes of length 1 belong to no group: they may stand anywhere.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def is_single(self) -> bool:
        """Whether this is one axis, before and after."""
        return len(self.before) == len(self.after) == 1


def axis_groups(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[AxisGroup, ...]:
    """Return the smallest groups of axes, in order, for a reshape between two shapes.

    Both hold the same number of elements, and at least one.

    Examples
    --------
    >>> axis_groups((2, 3, 20), (6, 1, 4, 5))
    (AxisGroup(before=(0, 1), after=(0,)), AxisGroup(before=(2,), after=(2, 3)))
    """
    left = [(axis, length) for axis, length in enumerate(before) if length != 1]
    right = [(axis, length) for axis, length in enumerate(after) if length != 1]
    groups: list[AxisGroup] = []
    i = j = 0
    while i < len(left):
        first, second = i, j
        product, other = left[i][1], right[j][1]
        i, j = i + 1, j + 1
        while product != other:
            if product < other:
                product, i = product * left[i][1], i + 1
            else:
                other, j = other * right[j][1], j + 1
        groups.append(
            AxisGroup(
                tuple(axis for axis, _ in left[first:i]),
                tuple(axis for axis, _ in right[second:j]),
            )
        )
    return tuple(groups)

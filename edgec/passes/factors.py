"""Unknown factors, of which some are found to be equal and some to be one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.ir import Array

__all__ = ["Cause", "Factors"]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a factor has to be one.

    Parameters
    ----------
    layer
        What does not take another, by its name in the user's model.
    reason
        What it is, as the end of a sentence.
    """

    layer: str
    reason: str

    def __str__(self) -> str:
        return f"{self.layer} {self.reason}"


_ONE = Cause("", "")


class Factors:
    """Positive factors by number; number 0 is one.

    Arrays of numbers say which factor each place of a value has. Two factors that are tied are
    the same from there on; a fixed one is one, as are all that it is tied to.
    """

    def __init__(self) -> None:
        self._parent = np.zeros(1, np.int64)
        self._causes: dict[int, Cause] = {0: _ONE}

    @property
    def count(self) -> int:
        """How many factors there are, tied or not."""
        return len(self._parent)

    def fresh(self, *shape: int) -> Array:
        """Return numbers of factors of which nothing is known yet."""
        size = int(np.prod(shape))
        new = np.arange(self.count, self.count + size, dtype=np.int64)
        self._parent = np.concatenate([self._parent, new])
        return new.reshape(shape)

    def find(self, numbers: Array) -> Array:
        """Return the number that stands for each factor and all that are tied to it."""
        found = self._parent[numbers]
        while True:
            further = self._parent[found]
            if np.array_equal(further, found):
                break
            found = further
        self._parent[numbers] = found
        return np.asarray(found)

    def tie(self, a: Array, b: Array) -> None:
        """Let factors be the same; the two arrays broadcast."""
        left, right = np.broadcast_arrays(self.find(a), self.find(b))
        differ = left != right
        pairs = np.unique(np.stack([left[differ], right[differ]], axis=1), axis=0)
        for i, j in pairs.tolist():
            keep, drop = sorted((self._root(i), self._root(j)))
            if keep == drop:
                continue
            self._parent[drop] = keep
            cause = self._causes.pop(drop, None)
            if cause is not None:
                self._causes.setdefault(keep, cause)

    def fix(self, numbers: Array, cause: Cause) -> None:
        """Let factors be one."""
        for root in np.unique(self.find(numbers)).tolist():
            self._causes.setdefault(root, cause)

    def cause(self, number: int) -> Cause | None:
        """Return why a factor is one, or ``None`` if it is free."""
        return self._causes.get(self._root(number))

    def free(self, numbers: Array) -> Array:
        """Return which factors are free."""
        free = np.ones(self.count, bool)
        free[list(self._causes)] = False
        return np.asarray(free[self.find(numbers)])

    def _root(self, number: int) -> int:
        while (parent := int(self._parent[number])) != number:
            number = parent
        return number

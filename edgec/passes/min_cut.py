"""The cheapest way to part a network in two."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

__all__ = ["Network"]


class Network:
    """Directed edges with capacities between a source and a sink.

    References
    ----------
    J. Edmonds and R. M. Karp, Theoretical improvements in algorithmic efficiency for network
    flow problems, Journal of the ACM 19(2), 1972.
    """

    def __init__(self, source: Hashable, sink: Hashable) -> None:
        self.source, self.sink = source, sink
        self._free: dict[Hashable, dict[Hashable, float]] = {source: {}, sink: {}}

    def add(self, tail: Hashable, head: Hashable, capacity: float) -> None:
        """Add an edge, or widen it; an infinite one is never cut."""
        if tail == head:
            return
        self._free.setdefault(tail, {}).setdefault(head, 0)
        self._free.setdefault(head, {}).setdefault(tail, 0)
        self._free[tail][head] += capacity

    def cut(self) -> tuple[float, set[Hashable]]:
        """Return the least capacity that parts source from sink, and the sink's side of it.

        Of several cuts of that capacity, the one with the fewest on the sink's side. The
        network is used up. A path of infinite capacity would make the cut infinite.
        """
        total = 0.0
        while path := self._path():
            step = min(self._free[a][b] for a, b in path)
            if step == float("inf"):
                raise ValueError("source and sink cannot be parted")
            total += step
            for a, b in path:
                self._free[a][b] -= step
                self._free[b][a] += step
        return total, self._sink_side()

    def _path(self) -> list[tuple[Hashable, Hashable]]:
        """Return the edges of a shortest path with capacity left, or none."""
        came: dict[Hashable, Hashable] = {self.source: None}
        todo = deque([self.source])
        while todo:
            tail = todo.popleft()
            for head, free in self._free[tail].items():
                if free > 0 and head not in came:
                    came[head] = tail
                    todo.append(head)
            if self.sink in came:
                break
        else:
            return []
        path: list[tuple[Hashable, Hashable]] = []
        head = self.sink
        while head != self.source:
            path.append((came[head], head))
            head = came[head]
        return path

    def _sink_side(self) -> set[Hashable]:
        """Return everything from which the sink can still be reached."""
        side, todo = {self.sink}, [self.sink]
        while todo:
            head = todo.pop()
            for tail in self._free[head]:
                if self._free[tail][head] > 0 and tail not in side:
                    side.add(tail)
                    todo.append(tail)
        return side

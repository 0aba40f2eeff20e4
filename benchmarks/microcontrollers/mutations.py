"""Damaged ``.tflite`` files, the same ones for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from ai_edge_litert import schema_py_generated as schema

__all__ = ["mutations"]

_LIES = (0, 1, 2, 3, 5, 127, 128, 255, 256, 65535, 65536, 2**30, 2**31 - 1, 2**31, 2**32 - 1)


def mutations(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Yield damaged forms of a file.

    Most damage is done to its tables, few bytes of a file, and some to its weights.
    """
    rng = random.Random(seed)
    tables = _tables(data)
    kinds: list[Callable[[random.Random, bytearray, list[int]], None]] = [
        _flip_bits,
        _flip_bits,
        _set_bytes,
        _lie,
        _lie,
        _count_wrongly,
        _count_wrongly,
        _swap,
        _copy,
        _truncate,
    ]
    for _ in range(count):
        changed = bytearray(data)
        places = tables if rng.random() < 0.9 else [8, len(data)]
        for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
            if len(changed) > 64:
                rng.choice(kinds)(rng, changed, places)
        yield bytes(changed)


def _tables(data: bytes) -> list[int]:
    """Return where the tables begin and end, alternately; between them lie the weights."""
    root = schema.Model.GetRootAs(data)
    spans = []
    for i in range(root.BuffersLength()):
        raw = root.Buffers(i).DataAsNumpy()
        if not isinstance(raw, int) and raw.size >= 64:
            start = raw.__array_interface__["data"][0] - _address(data)
            spans.append((start, start + raw.size))
    edges = [8]
    for start, end in sorted(spans):
        edges += [start, end]
    return [*edges, len(data)]


def _address(data: bytes) -> int:
    import numpy as np

    place: int = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    return place


def _place(rng: random.Random, data: bytearray, places: list[int], size: int = 1) -> int:
    spans = [
        (a, min(b, len(data)) - size)
        for a, b in zip(places[0::2], places[1::2], strict=True)
        if min(b, len(data)) - size > a
    ]
    if not spans:
        return rng.randrange(8, len(data) - size)
    start, end = rng.choices(spans, [b - a for a, b in spans])[0]
    return rng.randrange(start, end) // size * size


def _flip_bits(rng: random.Random, data: bytearray, places: list[int]) -> None:
    for _ in range(rng.randrange(1, 4)):
        data[_place(rng, data, places)] ^= 1 << rng.randrange(8)


def _set_bytes(rng: random.Random, data: bytearray, places: list[int]) -> None:
    for _ in range(rng.randrange(1, 8)):
        data[_place(rng, data, places)] = rng.choice((0, 1, 2, 127, 128, 254, 255))


def _lie(rng: random.Random, data: bytearray, places: list[int]) -> None:
    """Put a number in the place of another."""
    at = _place(rng, data, places, 4)
    data[at : at + 4] = rng.choice(_LIES).to_bytes(4, "little")


def _count_wrongly(rng: random.Random, data: bytearray, places: list[int]) -> None:
    """Make a small number, such as a length or an index, another one near it."""
    for _ in range(100):
        at = _place(rng, data, places, 4)
        number = int.from_bytes(data[at : at + 4], "little")
        if 0 < number < 4096:
            new = rng.choice((number - 1, number + 1, number * 2, number // 2, number * 1000))
            data[at : at + 4] = new.to_bytes(4, "little")
            return


def _swap(rng: random.Random, data: bytearray, places: list[int]) -> None:
    """Swap two numbers that lie near each other."""
    a = _place(rng, data, places, 4)
    b = min(a + 4 * rng.randrange(1, 12), (len(data) - 4) // 4 * 4)
    data[a : a + 4], data[b : b + 4] = data[b : b + 4], data[a : a + 4]


def _copy(rng: random.Random, data: bytearray, places: list[int]) -> None:
    """Put some bytes over others."""
    size = rng.choice((4, 8, 16, 40))
    a, b = _place(rng, data, places, 4), _place(rng, data, places, 4)
    piece = data[a : a + size]
    data[b : b + len(piece)] = piece


def _truncate(rng: random.Random, data: bytearray, places: list[int]) -> None:
    if rng.random() < 0.3:
        del data[_place(rng, data, places) :]

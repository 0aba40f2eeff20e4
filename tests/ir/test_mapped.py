"""Memory of arrays that lie in files."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from edgec.ir import trim, unload


def resident_kilobytes(path: Path) -> int:
    """How much of a mapped file is in this process's memory."""
    text = Path("/proc/self/smaps").read_text()
    found = re.findall(rf"{re.escape(str(path))}\n(?:\w+:.*\n)*?Rss:\s+(\d+) kB", text)
    return sum(map(int, found))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_was_read_of_a_mapped_array_leaves_memory(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    want = np.arange(1 << 18, dtype=np.float32)
    path.write_bytes(b"xyz" + want.tobytes())
    mapped = np.memmap(path, np.float32, "r", 3, want.shape)
    assert np.array_equal(mapped, want)
    assert resident_kilobytes(path) >= 1000
    view = np.asarray(mapped)[::2].reshape(2, -1).T

    unload([view])

    assert resident_kilobytes(path) == 0
    assert np.array_equal(mapped, want)


def test_other_arrays_stay_as_they_are() -> None:
    own, text = np.arange(4), np.array(["a"], object)
    unload([own, text, np.frombuffer(b"abcd", np.uint8), np.array(3)])
    trim()

    assert own.tolist() == [0, 1, 2, 3]
    assert text.tolist() == ["a"]

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.ir import Graph
from edgec.passes import RecognizePixelShuffle
from tests.passes.forms import imported, kinds
from tests.passes.properties import check_pass

recognize = RecognizePixelShuffle()


def shuffled(folder: Path, split: str, perm: str, joined: str = "1,3,8,10") -> Graph:
    head = f"<int64[6] split = {{{split}}}, int64[4] joined = {{{joined}}}> {{"
    body = f"r = Reshape(x, split) t = Transpose<perm = [{perm}]>(r) y = Reshape(t, joined) }}"
    return imported(folder, head + body, x="float[1,12,4,5]", y=f"float[{joined}]")


@pytest.mark.parametrize(
    ("split", "perm", "op"),
    [
        ("1,3,2,2,4,5", "0,1,4,2,5,3", "DepthToSpace(block=2, column_first=True)"),
        ("1,2,2,3,4,5", "0,3,4,1,5,2", "DepthToSpace(block=2)"),
    ],
)
def test_both_orders_of_channels(split: str, perm: str, op: str, tmp_path: Path) -> None:
    after = check_pass(recognize, shuffled(tmp_path, split, perm))

    assert kinds(after) == [op]
    assert after.nodes[0].origin == ("n0", "n1", "n2")


@pytest.mark.parametrize(
    ("split", "perm", "joined"),
    [
        ("1,3,2,2,4,5", "0,1,4,3,5,2", "1,3,8,10"),
        ("1,3,4,1,4,5", "0,1,4,2,5,3", "1,3,16,5"),
        ("1,3,2,2,5,4", "0,1,4,2,5,3", "1,3,10,8"),
        ("1,3,2,2,5,4", "0,1,4,2,5,3", "1,3,8,10"),
        ("1,3,2,2,4,5", "0,1,4,2,5,3", "1,3,10,8"),
        ("1,3,2,2,4,5", "0,1,4,2,5,3", "3,1,8,10"),
    ],
)
def test_what_moves_otherwise_stays(split: str, perm: str, joined: str, tmp_path: Path) -> None:
    graph = shuffled(tmp_path, split, perm, joined)

    assert recognize.run(graph) is graph

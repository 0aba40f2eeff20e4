"""Contents of constants, and where in a TFLite file they lie."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgec.evaluate import evaluate
from edgec.ir import Array, Graph
from edgec.ops import Add, Conv, Relu
from edgec.targets import Tflite
from edgec.targets.tflite import buffers
from edgec.targets.tflite.buffers import Buffers
from tests.models import Sketch, feeds


def layers() -> Graph:
    s = Sketch(1, 3, 6, 6)
    w = s.random(4, 3, 3, 3)
    y = s.add(Conv(pad=(1, 1, 1, 1)), s.x, w, s.random(4))
    return s.graph(s.add(Relu(), s.add(Add(), y, s.random(4, 6, 6))))


def contents(data: bytes) -> list[tuple[int, Array]]:
    """Where each buffer that is not empty lies, and its bytes."""
    model = schema.Model.GetRootAs(bytearray(data), 0)
    found = []
    for i in range(model.BuffersLength()):
        table = model.Buffers(i)
        if table.Size():
            array = np.frombuffer(data, np.uint8, table.Size(), table.Offset())
            found.append((table.Offset(), array))
        elif table.DataLength():
            array = table.DataAsNumpy()
            place = array.__array_interface__["data"][0]
            start = np.frombuffer(table._tab.Bytes, np.uint8).__array_interface__["data"][0]
            found.append((place - start, array))
    return found


@pytest.fixture(params=["near", "far"])
def reach(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "far":
        name = "edgec.targets.tflite.schema.Buffers"
        monkeypatch.setattr(name, partial(Buffers, reach=0))
    return str(request.param)


def test_the_runtime_finds_the_contents(reach: str) -> None:
    graph, target = layers(), Tflite()
    artifact = target.compile(graph)
    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(artifact.data), 0))

    outside = [b for b in model.buffers if b.size]
    assert bool(outside) == (reach == "far")
    feed = feeds(graph)
    (want,), (got,) = evaluate(graph, feed).values(), target.load(artifact).run(feed).values()
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.usefixtures("reach")
def test_contents_are_aligned_and_behind_the_tables() -> None:
    data = Tflite().compile(layers()).data
    places = [place for place, _ in contents(data)]

    assert len(places) > 3
    assert all(place % 16 == 0 for place in places)
    assert places == sorted(places)
    assert places[-1] + len(contents(data)[-1][1]) == len(data)


def test_a_file_that_tables_cannot_span_asks_for_a_runtime_that_reads_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert b"2.15.0" not in Tflite().compile(layers()).data
    monkeypatch.setattr("edgec.targets.tflite.schema.Buffers", partial(Buffers, reach=0))

    assert b"2.15.0" in Tflite().compile(layers()).data


def test_equal_contents_of_one_type_lie_in_the_file_once() -> None:
    made = Buffers()
    ones = np.ones(8, np.float32)
    numbers = [
        made.add(ones, 0),
        made.add(ones + 1, 0),
        made.add(np.ones((2, 4), np.float32).T, 0),
        made.add(ones + 1, 0),
        made.add(ones, 1),
        made.add(ones[:4], 0),
        made.add(ones + 2, 0),
    ]

    assert numbers == [1, 2, 1, 2, 3, 4, 5]


def test_an_array_in_another_order_is_written_in_its_own_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    array = np.arange(7 * 5 * 6, dtype=np.int32).reshape(6, 5, 7).transpose(2, 0, 1)
    want = array.tobytes()
    for most in (8, 100, 300, 10_000):
        monkeypatch.setattr(buffers, "_CHUNK_BYTES", most)
        assert b"".join(map(bytes, buffers._chunks(array))) == want


@pytest.mark.parametrize(
    "array", [np.array(3.0), np.zeros((0, 4), np.float32), np.array([True])]
)
def test_a_scalar_and_nothing_at_all_are_contents_too(array: Array) -> None:
    assert b"".join(map(bytes, buffers._chunks(array))) == array.tobytes()

"""TFLite files read back; damaged ones end in one clear error."""

from __future__ import annotations

import random as pyrandom
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edgec.errors import EdgecError, ModelError
from edgec.placement import placement
from edgec.structure import structure_of
from edgec.targets import Tflite
from edgec.targets.tflite.buffers import Buffers
from edgec.targets.tflite.macs import macs
from edgec.targets.tflite.reader import read_tflite
from edgec.targets.tflite.run import interpreter
from tests.targets.graphs import quantized, tiny_cnn


@pytest.fixture(scope="module", params=["float", "int8"])
def emitted(request: pytest.FixtureRequest) -> bytes:
    graph, feeds = tiny_cnn()
    return Tflite().compile(quantized(graph, feeds) if request.param == "int8" else graph).data


def test_reads_back_what_was_written(emitted: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(emitted)

    model = read_tflite(path)

    assert [name for name, _ in model.inputs] == ["image"]
    assert [name for name, _ in model.outputs] == ["classes"]
    convs = [op for op in model.operators if op.code == "CONV_2D"]
    assert len(convs) == 2
    weights = model.tensors[convs[0].inputs[1]]
    assert weights.shape == (4, 3, 3, 3)
    assert weights.data is not None
    assert weights.data.shape == weights.shape
    if weights.quant is not None:
        assert len(weights.quant.scale) == 4
        assert weights.quant.axis == 0
        assert weights.data.dtype == np.int8


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A file whose constants lie behind the FlatBuffer, as those over 2 GB have them."""
    monkeypatch.setattr("edgec.targets.tflite.schema.Buffers", partial(Buffers, reach=0))
    return Tflite().compile(tiny_cnn()[0]).data


def test_reads_constants_behind_the_flatbuffer(far: bytes, tmp_path: Path) -> None:
    near_path, far_path = tmp_path / "near.tflite", tmp_path / "far.tflite"
    near_path.write_bytes(Tflite().compile(tiny_cnn()[0]).data)
    far_path.write_bytes(far)
    near, read = read_tflite(near_path), read_tflite(far_path)

    held = [(t.name, t.data) for t in read.tensors if t.data is not None]
    assert len(held) > 5
    want = {t.name: t.data for t in near.tensors if t.data is not None}
    assert [name for name, _ in held] == list(want)
    for name, data in held:
        np.testing.assert_array_equal(data, want[name])
    assert structure_of(far_path).weight_bytes == structure_of(near_path).weight_bytes


def test_constants_that_are_cut_off_are_said_to_be(far: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(far[:-40])

    with pytest.raises(ModelError, match="is damaged") as caught:
        read_tflite(path)
    assert f"of {len(far) - 40} bytes" in str(caught.value.diagnostics[0])


def test_counts_multiply_accumulates(emitted: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(emitted)
    model = read_tflite(path)

    total = sum(macs(model, op) for op in model.operators)

    assert total == 8 * 8 * 4 * 27 + 8 * 8 * 4 * 36 + 5 * 4


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\0" * 7, b"\x1c\0\0\0TFL4" + b"\0" * 64])
def test_other_files_are_said_to_be_no_tflite(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(content)

    with pytest.raises(ModelError, match="is not a TFLite file"):
        read_tflite(path)


def test_a_missing_file_is_said_to_be_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        read_tflite(tmp_path / "net.tflite")


def test_nobody_tells_the_placement_where_a_name_is_no_text(emitted: bytes) -> None:
    damaged = emitted.replace(b"scores", b"\xd1cores")
    assert damaged != emitted

    assert placement(interpreter(damaged)) is None


def test_damaged_files_never_crash(emitted: bytes, tmp_path: Path) -> None:
    rng = pyrandom.Random(0)
    path, refused = tmp_path / "net.tflite", 0
    for round_ in range(300):
        data = bytearray(emitted)
        if round_ % 3 == 0:
            del data[rng.randrange(8, len(data)) :]
        else:
            for _ in range(rng.randrange(1, 12)):
                data[rng.randrange(8, len(data))] = rng.choice([0, 1, 127, 128, 255])
        path.write_bytes(bytes(data))
        try:
            read_tflite(path)
        except EdgecError:
            refused += 1

    assert refused > 50

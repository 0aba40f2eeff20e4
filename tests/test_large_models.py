"""Models over 2 GB: their weights lie beside them, before and after."""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from edgec.cli import main
from edgec.compiler import CompileOptions, Result, compile_model
from edgec.contents import Pieces, sha256_of
from edgec.demo import MODEL
from edgec.errors import OutputError, UnsupportedError
from edgec.evaluate import OnnxSession, ort_session
from edgec.frontend import load
from edgec.ir import Array
from edgec.numerics import relative_error
from edgec.structure import structure_of
from edgec.targets import onnxruntime
from tests.forms import model_path
from tests.models import info, onnx_model, save

LENET = model_path("lenet_300_100_mnist")
ROWS, COLUMNS = 200_000, 3_000  # of float32: 2.4 GB

needs_lenet = pytest.mark.skipif(
    not LENET.exists(), reason=f"there is no {LENET}; set EDGEC_DATA"
)


def large(folder: Path) -> Path:
    """A real classifier that looks a row up for its class, in a table of 2.4 GB."""
    model = onnx.load(LENET)
    graph = model.graph
    best = helper.make_node("ArgMax", [graph.output[0].name], ["best"], axis=1, keepdims=0)
    graph.node.extend([best, helper.make_node("Gather", ["table", "best"], ["row"])])
    graph.output.append(helper.make_tensor_value_info("row", TensorProto.FLOAT, None))
    table = graph.initializer.add(name="table", dims=[ROWS, COLUMNS])
    table.data_type, table.data_location = TensorProto.FLOAT, TensorProto.EXTERNAL
    table.external_data.add(key="location", value="table.bin")
    with (folder / "table.bin").open("wb") as file:
        file.truncate(ROWS * COLUMNS * 4)  # a hole, but for the rows of the ten classes
        file.write(np.arange(10 * COLUMNS, dtype=np.float32).tobytes())
    path = folder / "net.onnx"
    onnx.save(model, path)
    return path


@needs_lenet
@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("EDGEC_SLOW") != "1", reason="reads 2.4 GB: EDGEC_SLOW=1")
def test_weights_beside_a_model_are_mapped_not_read(tmp_path: Path) -> None:
    loaded = load(large(tmp_path))
    table = loaded.graph.constants["table"].array

    assert table.nbytes > 2**31
    assert loaded.size_bytes == table.nbytes + (tmp_path / "net.onnx").stat().st_size
    base: object = table
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, mmap.mmap)
    assert table[9, -1] == 10 * COLUMNS - 1


@needs_lenet
@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("EDGEC_SLOW") != "1", reason="writes 2.4 GB: EDGEC_SLOW=1")
def test_a_model_over_two_gigabytes_compiles(tmp_path: Path) -> None:
    path = large(tmp_path)
    result = compile_model(path, CompileOptions(("onnxruntime",)))
    result.save(tmp_path / "out")

    image = np.random.default_rng(0).random((1, 1, 28, 28), dtype=np.float32)
    artifact = OnnxSession(ort_session(str(tmp_path / "out/net.onnx")))
    want = OnnxSession(ort_session(str(path))).run({"image": image})
    got = artifact.run({"image": image})
    assert relative_error(want, got) < 1e-5
    assert want["row"].max() > 0
    sizes = [f.stat().st_size for f in (tmp_path / "out").iterdir() if f.suffix != ".json"]
    assert result.report["artifacts"][0]["bytes"] > ROWS * COLUMNS * 4
    assert sum(sizes) - 100_000 < result.report["artifacts"][0]["bytes"] <= sum(sizes)


@needs_lenet
@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("EDGEC_SLOW") != "1", reason="writes 2.4 GB: EDGEC_SLOW=1")
def test_a_tflite_file_over_two_gigabytes_is_written_and_read(tmp_path: Path) -> None:
    result = compile_model(large(tmp_path), CompileOptions(("tflite",)))
    result.save(tmp_path / "out")

    found = structure_of(tmp_path / "out/net.tflite")
    assert found.weight_bytes > ROWS * COLUMNS * 4
    assert found.bytes == result.report["artifacts"][0]["bytes"]


@pytest.fixture
def split(monkeypatch: pytest.MonkeyPatch) -> Result:
    """The demo's artifact, as if it were too large for one file."""
    monkeypatch.setattr(onnxruntime, "_MOST_BYTES", 10_000)
    return compile_model(MODEL, CompileOptions(("onnxruntime", "tflite")))


def test_an_artifact_that_is_too_large_has_its_weights_beside_it(
    split: Result, tmp_path: Path
) -> None:
    split.save(tmp_path)

    (name,) = split.large
    artifact, other = split.report["artifacts"]
    size = (tmp_path / name).stat().st_size
    assert artifact["weights"] == name
    assert artifact["bytes"] == size + (tmp_path / "digits.onnx").stat().st_size
    assert "weights" not in other
    found = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert split.report["digests"][name] == found
    assert name == f"weights-{found[:16]}.bin"


def test_such_an_artifact_runs_where_it_lies_and_comes_back(
    split: Result, tmp_path: Path
) -> None:
    split.save(tmp_path)
    image = {"image": np.random.default_rng(0).random((1, 1, 8, 8), dtype=np.float32)}

    want = OnnxSession(ort_session(str(MODEL))).run(image)
    got = OnnxSession(ort_session(str(tmp_path / "digits.onnx"))).run(image)
    assert relative_error(want, got) < 1e-5
    again = compile_model(tmp_path / "digits.onnx", CompileOptions(("onnxruntime",)))
    assert list(again.large) == list(split.large)
    assert again.report["model"]["bytes"] == split.report["artifacts"][0]["bytes"]


def test_equal_models_give_equal_files(split: Result) -> None:
    again = compile_model(MODEL, CompileOptions(("onnxruntime", "tflite")))

    assert again.files["digits.onnx"] == split.files["digits.onnx"]
    (one,), (other,) = split.large.values(), again.large.values()
    assert b"".join(one) == b"".join(other)


@pytest.mark.usefixtures("split")
def test_the_command_line_names_both_files_and_counts_both(tmp_path: Path) -> None:
    out, run = tmp_path / "out", CliRunner()
    compiled = run.invoke(
        main, ["compile", str(MODEL), "--target", "onnxruntime", "-o", str(out)]
    )
    (weights,) = out.glob("weights-*.bin")
    size = weights.stat().st_size + (out / "digits.onnx").stat().st_size

    assert compiled.exit_code == 0
    wrote = " ".join(compiled.output.split("wrote ")[1].split())
    assert wrote.startswith(f"digits.onnx, {weights.name}, digits.golden.npz, report.json to")
    inspected = run.invoke(main, ["inspect", "--json", str(out / "digits.onnx")])
    assert json.loads(inspected.output)["bytes"] == size
    for limit, code in ((size, 0), (size - 1, 3)):
        gated = run.invoke(
            main, ["gate", str(out / "report.json"), "--budget", f"size_bytes<={limit}"]
        )
        assert gated.exit_code == code
    measured = run.invoke(
        main, ["profile", str(out / "digits.onnx"), "--num-runs", "2", "--min-secs", "0"]
    )
    assert measured.exit_code == 0


def test_nothing_is_half_written(
    split: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full once some of the weights are written."""

    def full(self: Pieces) -> Iterator[bytes]:
        yield self.arrays[0].tobytes()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Pieces, "__iter__", full)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/digits.onnx").write_text("of before")

    with pytest.raises(OutputError, match="No space left on device"):
        split.save(tmp_path / "out")
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["digits.onnx"]
    assert (tmp_path / "out/digits.onnx").read_text() == "of before"


def test_what_has_to_be_in_the_file_may_be_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of 4 bits are packed in the file, and numpy has none."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["real"]),
        helper.make_node("Add", ["x", "real"], ["y"]),
    ]
    arrays = {
        "w": np.zeros((64, 64), ml_dtypes.int4),
        "s": np.array(0.5, np.float32),
    }
    model = onnx_model(nodes, [info("x", 64, 64)], ["y"], arrays, opset=21)
    path = save(model, tmp_path)
    monkeypatch.setattr(onnxruntime, "_MOST_BYTES", 4000)

    with pytest.raises(UnsupportedError, match="holds at most 2 GB"):
        compile_model(path, CompileOptions(("onnxruntime",)))


def test_pieces_lie_at_pages(tmp_path: Path) -> None:
    arrays: list[Array] = [np.arange(5, dtype=np.int16), np.arange(3000.0), np.eye(2)[:, 1]]
    pieces = Pieces(tuple(arrays))
    data = b"".join(pieces)

    assert pieces.places == (0, 4096, 28672)
    assert len(data) == pieces.size == 28672 + 16
    assert data[4096 : 4096 + 24000] == arrays[1].tobytes()
    assert data[28672:] == arrays[2].tobytes()
    assert not any(data[10:4096])
    assert sha256_of(pieces) == sha256_of(data) == hashlib.sha256(data).hexdigest()
    assert Pieces(()).size == 0

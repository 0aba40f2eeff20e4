"""Bad input: one message that helps, the right exit code, and nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from edgec.cli import main
from edgec.demo import CALIBRATION, MODEL

INT8 = ("--recipe", "static_wi8_ai8")


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    return done.exit_code, done.stderr + done.stdout


def compile_int8(model: Path, samples: Path, out: Path) -> tuple[int, str]:
    return run("compile", model, "-t", "tflite", *INT8, "--calibration", samples, "-o", out)


def refuses(found: tuple[int, str], code: int, *fragments: str) -> None:
    exit_code, text = found
    assert exit_code == code, text
    assert "Traceback" not in text
    for fragment in fragments:
        assert fragment in text


def empty(folder: Path) -> bool:
    return not folder.exists() or not list(folder.iterdir())


def truncated() -> bytes:
    return MODEL.read_bytes()[:40_000]


def edited(change: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.load(MODEL)
    change(model)
    data: bytes = model.SerializeToString()
    return data


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Convolve"


def new_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 999


def old_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 6


def nan_weights(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == "stem/conv.weight":
            array = numpy_helper.to_array(tensor).copy()
            array[0, 0, 0, 0] = np.nan
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def no_outputs(model: onnx.ModelProto) -> None:
    del model.graph.output[:]


def outside_data(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")


MODELS: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "text": (b"this is no model\n", ("model.onnx",)),
    "empty": (b"", ("model.onnx", "is empty")),
    "zip": (b"PK\x03\x04" + bytes(100), ("model.onnx",)),
    "truncated": (truncated(), ("model.onnx",)),
    "unknown operator": (edited(unknown_operator), ("Convolve", "stem/conv")),
    "new opset": (edited(new_opset), ("999", "upgrade the onnx package")),
    "old opset": (edited(old_opset), ("opset 6", "export the model again")),
    "NaN weights": (edited(nan_weights), ("stem/conv", "NaN")),
    "no outputs": (edited(no_outputs), ("model.onnx", "outputs")),
    "data outside": (edited(outside_data), ("../secret.bin", "refused")),
}


@pytest.mark.parametrize("name", MODELS)
def test_bad_model(name: str, tmp_path: Path) -> None:
    data, fragments = MODELS[name]
    model = tmp_path / "model.onnx"
    model.write_bytes(data)

    refuses(compile_int8(model, CALIBRATION, tmp_path / "out"), 1, *fragments)
    assert empty(tmp_path / "out")


def test_missing_model(tmp_path: Path) -> None:
    found = compile_int8(tmp_path / "none.onnx", CALIBRATION, tmp_path / "out")

    assert found[0] in (1, 2)
    refuses(found, found[0], "none.onnx")


def test_open_shape_names_the_input_and_the_way_out(tmp_path: Path) -> None:
    def opened(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"

    path = tmp_path / "model.onnx"
    path.write_bytes(edited(opened))

    found = run("compile", path, "-t", "tflite", "-o", tmp_path / "out")
    refuses(found, 1, "input image", "height", "--shape image=")


def x(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).random(shape).astype(np.float32)


DATA: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "wrong name": ({"images": x(9, 1, 8, 8)}, ("'images'", "'image'")),
    "wrong shape": ({"image": x(9, 1, 9, 8)}, ("image", "9")),
    "wrong rank": ({"image": x(9, 64)}, ("image",)),
    "wrong type": ({"image": np.full((9, 1, 8, 8), "a")}, ("image",)),
    "complex": ({"image": np.zeros((9, 1, 8, 8), np.complex64)}, ("image", "complex64")),
    "no samples": ({"image": x(0, 1, 8, 8)}, ("sample",)),
    "NaN": ({"image": np.full((9, 1, 8, 8), np.nan, np.float32)}, ("image",)),
}


@pytest.mark.parametrize("name", DATA)
def test_bad_calibration_data(name: str, tmp_path: Path) -> None:
    arrays, fragments = DATA[name]
    samples = tmp_path / "samples.npz"
    np.savez(samples, **arrays)  # type: ignore[arg-type]

    refuses(compile_int8(MODEL, samples, tmp_path / "out"), 2, "samples.npz", *fragments)
    assert empty(tmp_path / "out")


@pytest.mark.parametrize("name", ["missing", "truncated", "text", "empty folder", "empty zip"])
def test_unreadable_calibration_data(name: str, tmp_path: Path) -> None:
    samples = tmp_path / "samples.npz"
    if name == "truncated":
        samples.write_bytes(CALIBRATION.read_bytes()[:3000])
    elif name == "text":
        samples.write_text("not an archive")
    elif name == "empty folder":
        samples.mkdir()
    elif name == "empty zip":
        zipfile.ZipFile(samples, "w").close()

    refuses(compile_int8(MODEL, samples, tmp_path / "out"), 2, "samples.npz")
    assert empty(tmp_path / "out")


def test_unsupported_on_the_target_lists_the_layers(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["a"], name="first"),
        helper.make_node("RandomNormalLike", ["a"], ["y"], name="second"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path = tmp_path / "model.onnx"
    onnx.save(model, path)

    found = run("compile", path, "-t", "tflite", "-o", tmp_path / "out")
    refuses(found, 5, "first", "second", "RandomNormalLike", "compile for onnxruntime")
    assert empty(tmp_path / "out")


def test_broken_numerics_write_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("compile", MODEL, "-t", "tflite", *INT8, "--calibration", CALIBRATION)

    refuses(run(*command, "--min-sqnr", "90", "-o", out), 6, "tflite", "less than 90")
    assert empty(out)


def test_output_over_the_input_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "digits.onnx"
    model.write_bytes(MODEL.read_bytes())

    found = run("compile", model, "-t", "onnxruntime", "-o", tmp_path)
    assert found[0] in (1, 2)
    refuses(found, found[0], "digits.onnx")
    assert model.read_bytes() == MODEL.read_bytes()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_output(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o500)

    refuses(run("compile", MODEL, "-t", "tflite", "-o", out), 1, "out")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a /proc, as Linux has it")
def test_output_where_nobody_can_write() -> None:
    out = Path("/proc/edgec-out")

    refuses(run("compile", MODEL, "-t", "tflite", "-o", out), 1, str(out))


def test_output_that_is_a_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("mine")

    refuses(run("compile", MODEL, "-t", "tflite", "-o", out), 1, str(out))
    assert out.read_text() == "mine"


def test_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "digits.tflite").write_bytes(b"old")
    # Files may not grow beyond 20 kB in the child: to a program that is a full disk.
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from edgec.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "compile",
        str(MODEL),
        "-t",
        "tflite",
        "-o",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    refuses((done.returncode, done.stderr), 1, "out")
    assert [p.name for p in out.iterdir()] == ["digits.tflite"]
    assert (out / "digits.tflite").read_bytes() == b"old"

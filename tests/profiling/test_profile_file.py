from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgec.demo import MODEL
from edgec.errors import EdgecError, InternalError, ModelError, OptionError, UnsupportedError
from edgec.profiling import Profile, profile_file


def quick(path: Path, **more: Any) -> Profile:
    return profile_file(path, **{"runs": 3, "warmup": 1, "min_seconds": 0.0, **more})


def message_of(path: Path, kind: type[EdgecError], **more: Any) -> str:
    with pytest.raises(kind) as caught:
        quick(path, **more)
    return str(caught.value).replace(str(path), path.name)


@pytest.fixture(scope="module")
def tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edgec.demo import CALIBRATION
    from edgec.frontend import load
    from edgec.passes import Pipeline, lossless
    from edgec.targets import Tflite

    assert CALIBRATION.exists()
    target = Tflite()
    passes = (*lossless(), *target.prepare(), *target.finish())
    graph, _ = Pipeline(passes).run(load(MODEL).graph)
    path = tmp_path_factory.mktemp("tflite") / "digits.tflite"
    path.write_bytes(target.compile(graph).data)
    return path


def save(path: Path, op_type: str, shape: list[int | str], elem_type: int = 1) -> Path:
    node = helper.make_node(op_type, ["x"], ["y"], name="only")
    x = helper.make_tensor_value_info("x", elem_type, shape)
    y = helper.make_tensor_value_info("y", elem_type, shape)
    graph = helper.make_graph([node], "net", [x], [y])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def test_measures_an_onnx_model() -> None:
    profile = quick(MODEL, runs=5, warmup=2, threads=2)

    assert (profile.runs, profile.warmup, profile.threads) == (5, 2, 2)
    assert (
        0
        < profile.latency_min_ms
        <= profile.latency_ms
        <= profile.latency_p95_ms
        <= profile.latency_max_ms
        < profile.cold_ms
    )
    assert profile.runtime["name"] == "ONNX Runtime"
    assert profile.machine["cores"] == os.cpu_count()
    assert profile.peak_rss_bytes is not None
    assert 10e6 < profile.peak_rss_bytes < 1e9
    assert profile.operators is not None
    assert {"Conv", "Softmax"} <= {o.type for o in profile.operators}
    assert all(o.ms > 0 and o.calls == 1 for o in profile.operators)
    assert profile.notes == ()


def test_measures_a_tflite_model(tflite: Path) -> None:
    profile = quick(tflite)

    assert profile.runtime["name"] == "LiteRT"
    assert profile.operators is None
    assert profile.notes == (
        "LiteRT's Python package gives no time per operator; its benchmark_model tool does, "
        "with --enable_op_profiling=true.",
    )
    assert profile.delegation is not None
    assert profile.delegation["delegate"] == "XNNPACK"
    assert profile.delegation["delegated"]["CONV_2D"] >= 3


def test_a_profile_survives_json() -> None:
    profile = quick(MODEL)

    assert Profile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile


def test_runs_as_long_as_asked() -> None:
    assert quick(MODEL, runs=1, min_seconds=0.1).runs > 10


def test_stops_when_the_time_is_up() -> None:
    profile = quick(MODEL, runs=10_000_000, max_seconds=0.1)

    assert profile.runs < 10_000_000
    assert profile.notes == (f"{profile.runs} of 10000000 runs fitted into 0.1 s.",)


def test_the_memory_is_that_of_the_model_alone() -> None:
    ballast = np.ones(50_000_000)  # 400 MB of this process

    profile = quick(MODEL)

    assert ballast.nbytes > 2 * (profile.peak_rss_bytes or 0) > 0


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.onnx", b"nonsense", "x.onnx: ONNX Runtime does not take the model: "),
        ("x.tflite", b"nonsense", "x.tflite: LiteRT does not take the model: "),
        ("x.tflite", b"", "x.tflite: LiteRT does not take the model: "),
    ],
)
def test_a_broken_file_is_a_message(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(data)

    text = message_of(tmp_path / name, ModelError)

    assert text.startswith(message)
    assert "\n" not in text


def test_an_open_shape_is_a_message(tmp_path: Path) -> None:
    path = save(tmp_path / "open.onnx", "Relu", ["N", 3, "H", "W"])

    assert message_of(path, ModelError) == (
        "open.onnx cannot be profiled: input 'x' has the open shape [1,3,H,W]\n"
        "  only an open batch is bound, to 1 (compile the model with --shape x=... and profile "
        "the artifact)"
    )


def test_an_open_batch_is_bound(tmp_path: Path) -> None:
    assert quick(save(tmp_path / "batch.onnx", "Relu", ["N", 3])).runs == 3


@pytest.mark.parametrize("elem_type", [1, 10, 11, 2, 3, 6, 7, 9])
def test_feeds_every_kind_of_number(tmp_path: Path, elem_type: int) -> None:
    assert quick(save(tmp_path / "x.onnx", "Identity", [1, 4], elem_type)).runs == 3


def test_texts_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "text.onnx", "Identity", [1], onnx.TensorProto.STRING)

    assert message_of(path, UnsupportedError) == (
        "text.onnx cannot be profiled: input 'x' is a tensor(string)\n  inputs must be numbers"
    )


def test_indices_stay_within_any_table(tmp_path: Path) -> None:
    table = numpy_helper.from_array(np.ones((2, 8), np.float32), "table")
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    x = helper.make_tensor_value_info("x", 7, [1, 32])
    y = helper.make_tensor_value_info("y", 1, [1, 32, 8])
    graph = helper.make_graph([node], "net", [x], [y], [table])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(
        helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "gather.onnx"
    )

    assert quick(tmp_path / "gather.onnx").runs == 3


def test_a_model_that_fails_when_it_runs_is_a_message(tmp_path: Path) -> None:
    node = helper.make_node("Reshape", ["x", "shape"], ["y"], name="only")
    shape = numpy_helper.from_array(np.array([7]), "shape")
    x = helper.make_tensor_value_info("x", 1, ["N", 4])
    y = helper.make_tensor_value_info("y", 1, [7])
    graph = helper.make_graph([node], "net", [x], [y], [shape])
    opset = [helper.make_opsetid("", 17)]
    path = tmp_path / "fails.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)

    assert message_of(path, ModelError).startswith("fails.onnx does not run in ONNX Runtime: ")


class TestInputs:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return save(tmp_path / "net.onnx", "Relu", ["N", 3])

    @pytest.mark.parametrize("name", ["x", "input/x", "onnxruntime/input/x"])
    def test_takes_plain_and_golden_names(self, path: Path, tmp_path: Path, name: str) -> None:
        np.savez(tmp_path / "in.npz", **{name: np.ones((1, 3), np.float32)})  # type: ignore[arg-type]

        assert quick(path, inputs=tmp_path / "in.npz").runs == 3

    def test_a_missing_array_is_named(self, path: Path, tmp_path: Path) -> None:
        np.savez(tmp_path / "in.npz", a=np.ones(3), b=np.ones(3))

        assert message_of(path, OptionError, inputs=tmp_path / "in.npz") == (
            f"the arrays of {tmp_path / 'in.npz'} do not fit the model's inputs\n"
            "  x: is missing; there is a, b"
        )

    def test_another_shape_is_named(self, path: Path, tmp_path: Path) -> None:
        np.savez(tmp_path / "in.npz", x=np.ones((1, 4), np.float32))

        assert message_of(path, OptionError, inputs=tmp_path / "in.npz") == (
            f"the arrays of {tmp_path / 'in.npz'} do not fit the model's inputs\n"
            "  x: is float32[1, 4], not float32[1, 3]"
        )

    def test_a_missing_file_is_a_message(self, path: Path, tmp_path: Path) -> None:
        assert message_of(path, OptionError, inputs=tmp_path / "in.npz") == (
            f"cannot read the inputs {tmp_path / 'in.npz'}: there is no such file"
        )

    @pytest.mark.parametrize("data", [b"", b"PK\x03\x04cut", b"\x93NUMPY\x01\x00"])
    def test_what_is_no_npz_is_refused(self, path: Path, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "in.npz").write_bytes(data)

        assert message_of(path, OptionError, inputs=tmp_path / "in.npz") == (
            f"the inputs {tmp_path / 'in.npz'} are no .npz file, or it is cut off"
        )

    def test_a_damaged_file_is_a_message(self, path: Path, tmp_path: Path) -> None:
        np.savez(tmp_path / "in.npz", x=np.ones((1, 3), np.float32))
        data = bytearray((tmp_path / "in.npz").read_bytes())
        data[160:170] = b"damaged..."
        (tmp_path / "in.npz").write_bytes(data)

        text = message_of(path, OptionError, inputs=tmp_path / "in.npz")

        assert text.startswith(f"cannot read the inputs {tmp_path / 'in.npz'}: ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"runs": 0}, "runs: is 0"),
        ({"warmup": -1}, "warmup: is -1"),
        ({"threads": 0}, "threads: is 0"),
        ({"min_seconds": 30.0}, "min_seconds: is 30.0"),
        ({"max_seconds": float("nan")}, "max_seconds: is nan"),
    ],
)
def test_refuses_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    text = message_of(MODEL, OptionError, **settings)

    assert text.startswith("these settings make no measurement\n")
    assert f"  {message}" in text


def test_a_folder_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").mkdir()

    assert message_of(tmp_path / "x.onnx", ModelError) == ("cannot read x.onnx: it is a folder")


def answer(
    monkeypatch: pytest.MonkeyPatch, code: int, stderr: str = "", stdout: str = ""
) -> None:
    """Let the worker end as the test wants."""

    def run(*args: Any, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(args, code, stdout, stderr)

    monkeypatch.setattr(subprocess, "run", run)


def test_a_crash_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, -signal.SIGSEGV, "INFO: hello\nFatal: bad kernel\n")

    assert message_of(MODEL, ModelError) == (
        "the runtime crashed on digits.onnx (SIGSEGV)\n  Fatal: bad kernel"
    )


def test_what_a_runtime_prints_is_not_in_the_answer() -> None:
    """The worker's own process, with a runtime that prints to standard output."""
    script = (
        "import os, edgec.profiling.worker as w; from edgec.errors import ModelError\n"
        "def measure(request):\n"
        "    os.write(1, b'INFO: hello')\n"
        "    raise ModelError('no')\n"
        "w.measure = measure; w.main()"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], input="{}", capture_output=True, text=True, check=True
    )

    assert json.loads(done.stdout)["error"]["summary"] == "no"
    assert done.stderr == "INFO: hello"


def test_a_real_crash_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that kills its process stands for the runtime."""
    (tmp_path / "onnxruntime.py").write_text("import os; os.kill(os.getpid(), 11)")
    monkeypatch.setattr("edgec.profiling.run._environment", lambda: {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path.cwd())])
    })  # fmt: skip

    assert message_of(MODEL, ModelError) == "the runtime crashed on digits.onnx (SIGSEGV)"


def test_a_fault_of_the_worker_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, 1, "Traceback: boom")

    with pytest.raises(InternalError) as caught:
        quick(MODEL)

    assert caught.value.dump["stderr.txt"] == b"Traceback: boom"
    assert json.loads(caught.value.dump["request.json"])["runs"] == 3


def test_a_module_in_the_current_folder_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('wrong numpy')")
    monkeypatch.chdir(tmp_path)

    assert quick(MODEL).runs == 3

"""Real models whose weights are stored as integers: they stay so, and compute the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.models import SHAPES, example_feeds
from edgec.compiler import CompileOptions, Result, compile_model
from edgec.evaluate import OnnxSession, ort_session
from edgec.frontend import load
from edgec.ir import Array, Graph
from edgec.numerics import relative_error
from edgec.passes import Pipeline, simplify
from edgec.targets import OnnxRuntime, Tflite
from tests.forms import in_block_products, model_path, with_stored_weights
from tests.models import save

AUTOENCODER, THAI = "ad01_fc_autoencoder", "thai_attacut_c"


def source(name: str) -> onnx.ModelProto:
    path = model_path(name)
    if not path.exists():
        pytest.skip(f"{path} is not there; set EDGEC_DATA")
    return onnx.load(path)


def loaded(path: Path, name: str) -> tuple[Graph, dict[str, Array]]:
    graph = load(path, SHAPES.get(name, {})).graph
    return graph, example_feeds(graph.inputs)


def session(model: str | bytes, *, optimize: bool = True) -> OnnxSession:
    return OnnxSession(ort_session(model, optimize=optimize))


def in_both(path: Path, name: str) -> tuple[int, Counter[str], int, dict[str, int]]:
    """Compile and compare; return bytes and operators of both files.

    ONNX Runtime rounds the activations of such layers once it optimizes, the original's and
    ours alike; TFLite rounds none.
    """
    graph, feeds = loaded(path, name)
    exact, rounded = (session(str(path), optimize=o).run(feeds) for o in (False, True))
    simple, _ = simplify(graph, feeds)
    ort, target = OnnxRuntime().compile(simple), Tflite()
    assert relative_error(exact, session(ort.data, optimize=False).run(feeds)) <= 1e-5
    assert relative_error(rounded, session(ort.data).run(feeds)) <= 1e-4
    lowered, _ = Pipeline((*target.prepare(), *target.finish()), feeds).run(simple)
    artifact = target.compile(lowered)
    assert relative_error(exact, target.load(artifact).run(feeds)) <= 1e-5
    counts = Counter(ort.operators)
    return len(ort.data), counts, len(artifact.data), dict(artifact.operators)


@pytest.mark.parametrize("name", [AUTOENCODER, THAI])
@pytest.mark.parametrize("bits", [8, 4])
def test_integers_with_a_scale_an_output_stay_integers(
    name: str, bits: int, tmp_path: Path
) -> None:
    path = save(with_stored_weights(source(name), bits), tmp_path)
    ort_bytes, ort, tflite_bytes, tflite = in_both(path, name)

    layers = {AUTOENCODER: 10, THAI: 5}[name]
    assert ort["DequantizeLinear"] == layers
    assert ort_bytes <= path.stat().st_size
    assert tflite["DEQUANTIZE"] >= layers - 1  # all but a small one, which is no gain
    eight = save(with_stored_weights(source(name), 8), tmp_path, "eight.onnx")
    assert tflite_bytes <= 1.05 * eight.stat().st_size  # 4 bits become 8


@pytest.mark.parametrize("bits", [8, 4])
def test_blocks_stay_in_onnx_runtime_and_are_written_out_in_tflite(
    bits: int, tmp_path: Path
) -> None:
    model = source(AUTOENCODER)
    path = save(with_stored_weights(model, bits, block=32), tmp_path)
    ort_bytes, ort, tflite_bytes, tflite = in_both(path, AUTOENCODER)

    assert ort["DequantizeLinear"] == 10
    assert ort_bytes <= path.stat().st_size
    assert "DEQUANTIZE" not in tflite
    assert tflite_bytes <= 1.02 * model.ByteSize()


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(("bits", "block"), [(4, 32), (8, 128), (2, 16)])
def test_packed_products_run_in_onnx_runtime_and_are_unpacked_for_tflite(
    bits: int, block: int, zeros: bool, tmp_path: Path
) -> None:
    model = in_block_products(source(AUTOENCODER), bits, block, zeros=zeros)
    path = save(model, tmp_path)
    ort_bytes, ort, _, tflite = in_both(path, AUTOENCODER)

    assert ort["MatMulNBits"] == 10
    assert ort_bytes <= path.stat().st_size
    assert "BATCH_MATMUL" not in tflite
    if block == 128:  # one block holds a whole column, but for the first layer
        assert tflite["DEQUANTIZE"] == 9


def test_rounded_activations_are_not_rounded_in_tflite(tmp_path: Path) -> None:
    """Accuracy level 4 lets ONNX Runtime multiply integers of 8 bits."""
    made = (in_block_products(source(AUTOENCODER), 4, 32, zeros=True, level=k) for k in (4, 1))
    rounded, exact = (save(m, tmp_path, f"{k}.onnx") for k, m in enumerate(made))
    result: Result = compile_model(rounded, CompileOptions(("tflite",)))
    _, feeds = loaded(exact, AUTOENCODER)
    want = session(str(exact)).run(feeds)

    (artifact,) = result.report["artifacts"]
    assert 1e-3 < artifact["fidelity"]["max_relative_error"] < 0.05
    graph, _ = loaded(rounded, AUTOENCODER)
    target = Tflite()
    lowered, _ = Pipeline((*target.prepare(), *target.finish())).run(simplify(graph)[0])
    got = target.load(target.compile(lowered)).run(feeds)
    assert relative_error(want, got) <= 1e-5
    assert np.isfinite(next(iter(got.values()))).all()

"""Models from the wild, where they are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.models import DATA
from edgec.evaluate import OnnxSession, evaluate, ort_session
from edgec.frontend import load
from edgec.ir import Array, DType, Graph, verify
from edgec.numerics import relative_error

MODELS = DATA / "models"
FILES = sorted(MODELS.rglob("*.onnx"))

SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "espcn_x2": {"IteratorGetNext:0": (1, 1, 32, 32)},
    "ppocr_v2_cls": {"x": (1, 3, 48, 192)},
    "ppocrv4_det": {"x": (1, 3, 64, 64)},
    "silero_vad_16k_op15": {"input": (1, 512), "state": (2, 1, 128)},
    "silero_vad_op18_ifless": {"input": (1, 512)},
    "thai_attacut_c": {"input": (1, 20)},
    "minilm_l6_int8": dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (1, 16)),
    "yunet_n_dynamic": {"input": (1, 3, 96, 96)},
}


def feeds_of(graph: Graph) -> dict[str, Array]:
    """Inputs that make sense to most models: small numbers, small indices, 16 kHz."""
    rng = np.random.default_rng(0)
    found: dict[str, Array] = {}
    for value in graph.inputs:
        shape, dtype = value.type.ints, value.type.dtype
        if value.name == "sr":
            found[value.name] = np.full(shape, 16000, np.int64)
        elif dtype.is_float:
            found[value.name] = np.asarray(rng.uniform(0, 1, shape)).astype(dtype.numpy)
        elif dtype is DType.BOOL:
            found[value.name] = np.ones(shape, bool)
        else:
            found[value.name] = rng.integers(0, 2, shape).astype(dtype.numpy)
    return found


def loaded(path: Path) -> Graph:
    return load(path, SHAPES.get(path.stem, {})).graph


@pytest.mark.skipif(not FILES, reason=f"there are no models in {MODELS}; set EDGEC_DATA")
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_model_means_what_it_means_to_onnx_runtime(path: Path) -> None:
    graph = loaded(path)
    verify(graph)
    feeds = feeds_of(graph)
    want = OnnxSession(ort_session(str(path), optimize=False)).run(feeds)
    got = evaluate(graph, feeds)

    assert relative_error(want, got) <= 1e-4
    for value in graph.outputs:
        if value.type.is_static:
            assert value.type.ints == got[value.name].shape

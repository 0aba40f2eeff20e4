"""Models from the wild, where they are at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.models import DATA, SHAPES, example_feeds
from edgec.evaluate import OnnxSession, evaluate, ort_session
from edgec.frontend import load
from edgec.ir import Array, Graph, verify
from edgec.numerics import relative_error

MODELS = DATA / "models"
FILES = sorted(MODELS.rglob("*.onnx"))


def feeds_of(graph: Graph) -> dict[str, Array]:
    """Inputs that make sense to most models."""
    return example_feeds(graph.inputs)


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

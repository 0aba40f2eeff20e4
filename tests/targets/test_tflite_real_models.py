"""Models from the wild as float TFLite: every one compiles, loads and computes the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edgec.evaluate import OnnxSession, ort_session
from edgec.ir import Array
from edgec.passes import Pipeline, simplify
from edgec.targets import Tflite
from tests.frontend.test_real_models import FILES, MODELS, feeds_of, loaded

TOLERANCE = 1e-4
"""Of the range of each output: what kernels differ by that add in another order."""

APPROXIMATED: Mapping[str, float] = {}
"""Models in which TFLite's approximation of a function takes more, by name."""


def errors(want: Mapping[str, Array], got: Mapping[str, Array]) -> dict[str, float]:
    """Return the largest error of each output."""
    pairs = {name: (w.astype(np.float64), got[name]) for name, w in want.items()}
    assert all(w.shape == g.shape for w, g in pairs.values())
    return {name: float(np.abs(w - g).max(initial=0)) for name, (w, g) in pairs.items()}


@pytest.mark.skipif(not FILES, reason=f"there are no models in {MODELS}; set EDGEC_DATA")
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_model_computes_the_same_in_tflite(path: Path) -> None:
    """Outputs that ONNX Runtime itself rounds otherwise once it optimizes are held to that."""
    target, graph = Tflite(), loaded(path)
    feeds = feeds_of(graph)
    want, other = (
        OnnxSession(ort_session(str(path), optimize=optimize)).run(feeds)
        for optimize in (False, True)
    )
    graph, _ = simplify(graph)
    graph, _ = Pipeline(target.prepare()).run(graph)
    artifact = target.compile(graph)
    runner = target.load(artifact)

    own, found = errors(want, other), errors(want, runner.run(feeds))
    assert found == errors(want, runner.run(feeds))  # nothing is carried over to the next run
    for name, array in want.items():
        width = float(np.ptp(array)) if array.size > 1 else float(np.abs(array).max())
        allowed = APPROXIMATED.get(path.stem, TOLERANCE) * width
        assert found[name] <= max(allowed, 4 * own[name])

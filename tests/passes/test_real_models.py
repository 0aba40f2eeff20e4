"""Models from the wild through the whole lossless pipeline, where they are at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.ir import verify
from edgec.passes import EqualizeLayers, MigrateScales, Pipeline, simplify
from edgec.targets import Tflite
from tests.frontend.test_real_models import FILES, MODELS, feeds_of, loaded


@pytest.mark.skipif(not FILES, reason=f"there are no models in {MODELS}; set EDGEC_DATA")
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_pass_keeps_its_promise_on_a_real_model(path: Path) -> None:
    graph = loaded(path)
    after, _ = simplify(graph, feeds_of(graph))
    verify(after)

    again, records = simplify(after)
    assert again is after, [r.name for r in records if r.changed]
    assert len(after.nodes) <= len(graph.nodes)


@pytest.mark.skipif(not FILES, reason=f"there are no models in {MODELS}; set EDGEC_DATA")
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_scales_of_channels_change_no_output_of_a_real_model(path: Path) -> None:
    graph, _ = simplify(loaded(path))
    graph, _ = Pipeline(Tflite().prepare()).run(graph)
    sample = feeds_of(graph)

    # They are held to their promise on the sample.
    for step in (EqualizeLayers(), MigrateScales([sample])):
        after, _ = Pipeline((step,), sample).run(graph)
        layers = {o for n in graph.nodes for o in n.origin}
        assert {o for n in after.nodes for o in n.origin} == layers

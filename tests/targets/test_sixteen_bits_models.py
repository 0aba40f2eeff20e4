"""int16 activations in trained models."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.models import DATA, LABELLED, UNLABELLED
from edgec.calibration import calibrate
from edgec.compiler import CompileOptions, compile_model
from edgec.evaluate import evaluate
from edgec.frontend import load
from edgec.ir import Array, Graph
from edgec.ops import Conv, DepthwiseConv, FullyConnected
from edgec.passes import Pipeline, QuantizeGraph, RoundWeights, simplify
from edgec.passes.quantization_plan import plan
from edgec.targets import Tflite
from tests.passes.quantization import ratio
from tests.targets.graphs import Feeds

pytestmark = pytest.mark.skipif(
    not (DATA / "models").is_dir(), reason=f"there are no models in {DATA}; set EDGEC_DATA"
)


def samples(name: str) -> tuple[str, dict[str, Array]]:
    """Return the file of a model and inputs for it, small ones where any size will do."""
    if name in LABELLED:
        model = LABELLED[name]
        return model.file, {"input": model.split()[0][:48]}
    other = UNLABELLED[name]
    crops = np.ascontiguousarray(other.split()[0][:48, :, 32:64, 32:64])
    return other.file, {other.input: crops}


@pytest.mark.parametrize("name", ["kws_ds_cnn", "espcn_x2"])
def test_the_recipe_is_far_nearer_to_float(name: str) -> None:
    file, data = samples(name)
    shapes = {k: (1, *x.shape[1:]) for k, x in data.items()}
    ratios = []
    for recipe in ("static_wi8_ai8", "static_wi8_ai16"):
        options = CompileOptions(("tflite",), recipe, data, shapes=shapes, compare_speed=False)
        report = compile_model(DATA / "models" / file, options).report
        (artifact,) = report["artifacts"]
        assert artifact["operators"]["DEQUANTIZE"] == 1
        ratios.append(artifact["fidelity"]["sqnr_db"])

    assert ratios[1] > ratios[0] + 6


def keywords() -> tuple[Graph, list[Feeds]]:
    file, data = samples("kws_ds_cnn")
    graph = simplify(load(DATA / "models" / file).graph)[0]
    graph = Pipeline(Tflite().prepare()).run(graph)[0]
    (value,) = graph.inputs
    return graph, [{value.name: x[None]} for x in data["input"]]


def test_single_layers_of_sixteen_bits_bring_it_nearer() -> None:
    graph, feeds = keywords()
    ranges = calibrate(graph, plan(graph).measured, feeds)
    layers = [n.outputs[0].name for n in graph.nodes
              if isinstance(n.op, Conv | DepthwiseConv | FullyConnected)]  # fmt: skip
    wants = [evaluate(graph, feed) for feed in feeds[:8]]
    found: list[float] = []
    for wide in ((), layers[:5], layers):
        made = QuantizeGraph(ranges, Tflite().scheme(), wide=tuple(wide)).run(graph)
        made = RoundWeights(graph, feeds).run(made)
        artifact = Tflite().compile(made)
        runner = Tflite().load(artifact)
        got = [runner.run(feed) for feed in feeds[:8]]
        pairs = [(w[k], g[k]) for w, g in zip(wants, got, strict=True) for k in w]
        found.append(ratio(*(np.concatenate([p[i].ravel() for p in pairs]) for i in (0, 1))))
        steps = artifact.operators["QUANTIZE"]
        assert steps == {0: 1, 5: 2, len(layers): 4}[len(wide)]

    assert found[1] > found[0] + 1
    assert found[2] > found[0] + 2

from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import DType, Graph, QuantParams, verify
from edgec.ops import Dequantize, Quantize, Resize
from edgec.passes import DequantizeResizes, Pipeline
from edgec.targets import Tflite
from tests.targets.graphs import Net, ran, random

X = random(1, 3, 5, 6)
LINEAR = Resize(scales=(2.0, 2.0), axes=(2, 3), mode="linear")


def around(op: Resize, dtype: DType, zero: int) -> Graph:
    grid = QuantParams((0.03,), (zero,))
    net = Net(x=X.shape)
    net.add("stored", Quantize(grid, dtype), "x")
    net.add("resized", op, "stored")
    return net.graph(net.add("y", Dequantize(grid, dtype), "resized"))


@pytest.mark.parametrize(("dtype", "zero"), [(DType.INT8, -5), (DType.UINT8, 120)])
def test_what_is_interpolated_is_rounded_instead_of_cut_off(dtype: DType, zero: int) -> None:
    graph = around(LINEAR, dtype, zero)
    after = DequantizeResizes().run(graph)
    verify(after)
    want, got = (evaluate(g, {"x": X})["y"] / 0.03 for g in (graph, after))

    assert [type(n.op).__name__ for n in after.nodes] == [
        "Quantize", "Dequantize", "Resize", "Quantize", "Dequantize",
    ]  # fmt: skip
    assert 0.5 < np.abs(want - got).max() < 1.01
    lowered, _ = Pipeline((*Tflite().prepare(), *Tflite().finish())).run(graph)
    found, artifact, _ = ran(Tflite(), lowered, {"x": X})
    assert np.abs(found["y"] / 0.03 - got).max() < 1.01
    assert artifact.operators["RESIZE_BILINEAR"] == artifact.operators["DEQUANTIZE"] == 1


@pytest.mark.parametrize(
    "op",
    [
        Resize(scales=(2.0,), axes=(3,)),
        Resize(scales=(2.0,), axes=(3,), mode="cubic"),
        Resize(scales=(2.0,), axes=(3,), mode="linear", coordinates="tf_crop_and_resize",
               roi=(0.0, 2.0)),
    ],
    ids=["nearest", "cubic", "beyond"],
)  # fmt: skip
def test_keeps_other_resizes(op: Resize) -> None:
    graph = around(op, DType.INT8, -5)
    assert DequantizeResizes().run(graph) is graph

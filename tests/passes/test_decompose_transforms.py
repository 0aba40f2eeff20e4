from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import DType, Example
from edgec.ops import Conv, Dft, MatMul, Stft
from edgec.passes import DecomposeTransforms
from tests.targets.graphs import Net, one_op, random

EXAMPLES = [
    pytest.param(e, id=f"{op.__name__}-{i}")
    for op in (Dft, Stft)
    for i, e in enumerate(op.examples(np.random.default_rng(3)))
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_transform_is_a_product_or_a_convolution(example: Example) -> None:
    graph, feeds = one_op(example.op, *example.operands)
    after = DecomposeTransforms().run(graph)

    kinds = {type(n.op) for n in after.nodes}
    assert not kinds & {Dft, Stft}
    assert kinds & {MatMul, Conv}
    assert DecomposeTransforms().run(after) is after
    want, got = evaluate(graph, feeds)["y"], evaluate(after, feeds)["y"]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("length", [None, 7, 8])
def test_one_side_of_frequencies_becomes_a_real_signal(length: int | None) -> None:
    """ONNX Runtime is not asked: numpy has the same transform."""
    x = random(2, 5, 2)
    graph, feeds = one_op(Dft(1, length, True, True), x)

    got = evaluate(DecomposeTransforms().run(graph), feeds)["y"]
    want = np.fft.irfft(x[..., 0] + 1j * x[..., 1], length or 8)[..., None]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_a_complex_signal_under_a_window_stays() -> None:
    graph, _ = one_op(Stft(False), random(1, 16, 2), np.array(3), random(6))

    assert DecomposeTransforms().run(graph) is graph


def test_a_computed_window_stays() -> None:
    net = Net(x=(1, 16, 1), window=(6,))
    graph = net.graph(net.add("y", Stft(), "x", np.array(3), "window"))

    assert DecomposeTransforms().run(graph) is graph


def test_other_floats_stay() -> None:
    net = Net(DType.FLOAT64, x=(1, 6, 1))
    graph = net.graph(net.add("y", Dft(), "x"))

    assert DecomposeTransforms().run(graph) is graph

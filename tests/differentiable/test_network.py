"""Graphs run in PyTorch compute what ONNX Runtime computes, and let gradients through."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[recover]'")

import torch

from edgec.differentiable import Network, deterministic, require_torch
from edgec.differentiable.network import RULES, tensor_of
from edgec.errors import OptionError, UnsupportedError
from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Example, QuantParams
from edgec.ops import (
    OPS,
    BitCast,
    Cast,
    Ceil,
    Col2Im,
    Compress,
    ConstantOfShape,
    ConvInteger,
    DeformConv,
    Dequantize,
    Dft,
    Floor,
    GridSample,
    Hardmax,
    If,
    Loop,
    MatMulInteger,
    Mod,
    NonMaxSuppression,
    NonZero,
    OneHot,
    Opaque,
    Quantize,
    Range,
    ReduceMax,
    Relu,
    Reshape,
    RoiAlign,
    Round,
    Scan,
    Sign,
    Stft,
    TensorScatter,
    Transpose,
    Unique,
)
from tests.models import Sketch, graph_of

CASES = [
    pytest.param(e, id=f"{op.__name__}-{i}")
    for op in OPS
    if op in RULES
    for i, e in enumerate(op.examples(np.random.default_rng(0)))
]

LEFT_OUT = {
    *(BitCast, Opaque, If, Loop, Scan),  # bits, and graphs within
    *(DeformConv, GridSample, RoiAlign, Dft, Stft, Col2Im, TensorScatter),
    *(ConvInteger, MatMulInteger),  # what they yield has no gradient
    # How long the result is depends on the numbers: samples cannot be stacked.
    *(Compress, ConstantOfShape, NonMaxSuppression, NonZero, Range, Unique),
}


def test_all_other_operators_have_a_rule() -> None:
    assert set(OPS) - set(RULES) == LEFT_OUT


def another(example: Example) -> Array:
    """A second input like the first of an example."""
    x = example.inputs[0]
    if isinstance(example.op, OneHot) or x.dtype.kind != "f":
        return x
    with np.errstate(invalid="ignore"):
        return (np.float32(0.5) * x).astype(x.dtype)


@pytest.mark.parametrize("example", CASES)
def test_two_samples_at_once_are_what_each_is_alone(example: Example) -> None:
    graph, samples = graph_of(example), (example.inputs[0], another(example))
    wanted = [evaluate(graph, {"i0": x}) for x in samples]
    stacked = torch.stack([tensor_of(x) for x in samples])

    found = Network(graph).run_all({"i0": stacked})
    for k, want in enumerate(wanted):
        for value in graph.outputs:
            got = found[value.name][k].numpy()
            assert got.shape == want[value.name].shape
            np.testing.assert_allclose(
                got.astype(np.float64),
                want[value.name].astype(np.float64),
                rtol=1e-4,
                atol=1e-5,
            )


STEPS = (Cast, Ceil, Floor, Hardmax, Mod, Round, Sign, Quantize, Dequantize)
"""What has jumps that its gradient does not see."""


@pytest.mark.parametrize("example", CASES)
def test_gradients_are_the_slopes_of_what_is_computed(example: Example) -> None:
    """Along one direction, against a difference of two results in float64."""
    graph = graph_of(example)
    floats = {v.name for v in graph.outputs if v.type.dtype is DType.FLOAT32}
    operands = {f"i{k}": a for k, a in enumerate(example.operands) if a is not None}
    smooth = {n: a for n, a in operands.items() if a.dtype == np.float32 and a.size}
    if not floats or not smooth or isinstance(example.op, STEPS):
        return
    network = Network(graph, sorted(floats), set(operands))
    given = {n: tensor_of(a) for n, a in operands.items()}
    given |= {n: given[n].double().requires_grad_() for n in smooth}
    rng = np.random.default_rng(3)
    way = {n: torch.from_numpy(rng.standard_normal(a.shape)) for n, a in smooth.items()}
    weights: dict[str, torch.Tensor] = {}

    def total(step: float) -> torch.Tensor:
        moved = {n: given[n] + step * way[n] for n in smooth}
        found = network.run({**given, **moved})
        for name, y in found.items():
            weights.setdefault(name, torch.from_numpy(rng.standard_normal(tuple(y.shape))))
        parts = [(weights[n] * y.double()).sum() for n, y in found.items() if y.numel()]
        return torch.stack(parts).sum() if parts else torch.zeros(())

    whole = total(0.0)
    if not whole.requires_grad:
        return
    slopes = torch.autograd.grad(whole, [given[n] for n in smooth], allow_unused=True)
    along = sum(
        float((g * way[n]).sum()) for n, g in zip(smooth, slopes, strict=True) if g is not None
    )
    step = 1e-6
    with torch.no_grad():
        measured = float(total(step) - total(-step)) / (2 * step)
    assert along == pytest.approx(measured, rel=1e-3, abs=1e-3)


def test_gradients_go_straight_through_rounding_and_stop_where_it_cuts_off() -> None:
    s = Sketch(1, 4)
    stored = s.add(Quantize(QuantParams((0.5,), (3,)), DType.INT8), s.x)
    graph = s.graph(s.add(Dequantize(QuantParams((0.5,), (3,)), DType.INT8), stored))
    x = torch.tensor([[0.3, -1.1, 100.0, -100.0]], requires_grad=True)
    y = Network(graph).run({"x": x})[graph.outputs[0].name]
    y.sum().backward()

    assert y.tolist() == [[0.5, -1.0, 62.0, -65.5]]
    assert x.grad.tolist() == [[1.0, 1.0, 0.0, 0.0]]


def test_integers_of_32_bits_keep_all_their_digits() -> None:
    s = Sketch(1, 2)
    stored = s.const(np.array([2**24 + 1, -(2**30) - 1], np.int32))
    grid = QuantParams((2.0**-20,), (0,))
    graph = s.graph(s.add(Dequantize(grid, DType.INT32), stored))
    want = evaluate(graph, {"x": np.zeros((1, 2), np.float32)})

    found = Network(graph).run({})
    for name, array in want.items():
        assert found[name].numpy().tolist() == array.tolist()


def test_given_values_are_not_computed_and_need_no_operators_above_them() -> None:
    s = Sketch(1, 6)
    made, *_ = s.adds(Unique(axis=None), s.x)
    graph = s.graph(s.add(Relu(), made))

    with pytest.raises(UnsupportedError, match="Unique"):
        Network(graph)
    found = Network(graph, given=[made.name]).run({made.name: torch.tensor([-1.0, 2.0])})
    assert found[graph.outputs[0].name].tolist() == [0.0, 2.0]


def test_an_operator_without_a_gradient_is_named_with_the_layer_of_the_user() -> None:
    graph = graph_of(next(Dft.examples(np.random.default_rng(0))))

    with pytest.raises(UnsupportedError, match=r"layer: there is no gradient for Dft\("):
        Network(graph)


def test_a_batch_of_one_that_a_graph_fixes_does_not_mix_samples() -> None:
    s = Sketch(1, 3, 4)
    flat = s.add(Reshape((1, 12)), s.x)
    turned = s.add(Transpose((1, 0)), flat)
    graph = s.graph(s.add(ReduceMax((0, 1), keepdims=False), turned))
    x = torch.arange(36.0).reshape(3, 1, 3, 4)

    (found,) = Network(graph).run_all({"x": x}).values()
    assert found.tolist() == [11.0, 23.0, 35.0]


def test_all_of_a_graph_is_computed_in_one_go_without_what_is_not_wanted() -> None:
    s = Sketch(1, 6)
    inner = s.add(Relu(), s.x)
    s.adds(Unique(axis=None), s.x)
    graph = s.graph(s.add(Relu(), inner))

    found = Network(graph, [inner.name, "x"]).run({"x": -torch.ones(1, 6)})
    assert {n: float(t.sum()) for n, t in found.items()} == {inner.name: 0.0, "x": -6.0}
    with pytest.raises(ValueError, match="no value 'nothing'"):
        Network(graph, ["nothing"])


def test_threads_and_algorithms_are_as_before_once_numbers_are_computed() -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with deterministic():
        assert torch.are_deterministic_algorithms_enabled()

    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_a_missing_pytorch_is_said_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)

    with pytest.raises(OptionError, match=r"pip install 'edgec\[recover\]'"):
        require_torch()


def test_nothing_but_a_network_loads_pytorch() -> None:
    code = (
        "import sys, edgec.passes.roster, edgec.compiler, edgec.differentiable; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["False"]

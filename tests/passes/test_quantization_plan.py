"""Which layers are quantized, which share a grid, and why others stay in float."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, Node, Op, QuantParams, verify
from edgec.ops import (
    Activation,
    Add,
    AveragePool,
    Clip,
    Concat,
    Conv,
    Div,
    MaxPool,
    Mul,
    Pad,
    Quantize,
    Relu,
    Reshape,
    Sigmoid,
    Slice,
    Softmax,
    Sub,
    Tanh,
    Transpose,
)
from edgec.passes.quantization_plan import plan
from tests.passes.quantization import (
    INT8,
    UINT8,
    X,
    dequantized,
    grids,
    layer,
    ratio,
    reasons,
)
from tests.targets.graphs import Net, calibrated, f32, quantized, random, tiny_cnn


def joined(*ops: Op) -> Graph:
    """Return a concatenation of what several operators make of one image."""
    net = Net(x=X.shape)
    names = [net.add(f"in{i}", op, "x", *weights(op)) for i, op in enumerate(ops)]
    net.add("cat", Concat(1), *names)
    return net.graph(net.add("y", Conv(), "cat", random(2, 2 * len(ops), 1, 1)))


def weights(op: Op) -> list[Array]:
    return [random(2, 2, 1, 1, seed=5)] if isinstance(op, Conv) else []


class TestGroups:
    @pytest.mark.parametrize(
        "op",
        [
            MaxPool((2, 2), (2, 2)),
            AveragePool((2, 2), (2, 2)),
            Reshape((1, -1)),
            Transpose((0, 2, 3, 1)),
            Slice((0,), (3,), (2,), (1,)),
            Pad((0, 0, 1, 1, 0, 0, 1, 1)),
        ],
        ids=str,
    )
    def test_what_only_moves_values_keeps_their_grid(self, op: Op) -> None:
        net = Net(x=X.shape)
        net.add("front", Conv(), "x", random(3, 2, 1, 1))
        made = quantized(net.graph(net.add("y", op, "front")), {"x": X})

        assert grids(made)["y"] == grids(made)["front"]

    def test_operands_of_a_concatenation_share_the_widest_range(self) -> None:
        graph = joined(Conv(), MaxPool(), Relu())
        made = quantized(graph, {"x": X})

        found = grids(made)
        assert found["in0"] == found["in1"] == found["in2"] == found["cat"] == found["x"]
        low, high = _range(found["cat"])
        front = evaluate(Graph("n", graph.inputs, graph.nodes[0].outputs, graph.nodes[:1],
                               graph.constants), {"x": X})["in0"]  # fmt: skip
        assert low <= min(front.min(), X.min()) + 0.6 * found["cat"].scale[0]
        assert high >= max(front.max(), X.max()) - 0.6 * found["cat"].scale[0]

    def test_a_constant_operand_counts_with_its_own_range(self) -> None:
        net = Net(x=(1, 2, 3, 3))
        net.add("front", Relu(), "x")
        net.add("y", Concat(1), "front", f32(np.full((1, 1, 3, 3), -50)))
        made = quantized(net.graph("y"), {"x": random(1, 2, 3, 3)})

        assert _range(grids(made)["front"])[0] < -49

    @pytest.mark.parametrize("op", [Sigmoid(), Softmax()])
    def test_functions_have_the_range_they_are_known_for(self, op: Op) -> None:
        net = Net(x=(1, 4))
        graph = net.graph(net.add("y", op, "x"))

        for scheme, zero in ((INT8, -128), (UINT8, 0)):
            made = quantized(graph, {"x": random(1, 4)}, scheme=scheme)
            assert grids(made)["y"] == QuantParams((1 / 256,), (zero,))
        assert [v.name for v in plan(graph).measured] == ["x"]

    def test_tanh_is_symmetric(self) -> None:
        net = Net(x=(1, 4))
        graph = net.graph(net.add("y", Tanh(), "x"))

        for scheme, zero in ((INT8, 0), (UINT8, 128)):
            made = quantized(graph, {"x": random(1, 4)}, scheme=scheme)
            assert grids(made)["y"] == QuantParams((1 / 128,), (zero,))

    def test_what_moves_a_function_keeps_its_grid(self) -> None:
        net = Net(x=X.shape)
        net.add("gate", Sigmoid(), "x")
        made = quantized(net.graph(net.add("y", MaxPool((2, 2)), "gate")), {"x": X})

        assert grids(made)["y"] == grids(made)["gate"] == QuantParams((1 / 256,), (-128,))

    def test_functions_of_one_kind_may_be_joined(self) -> None:
        made = quantized(joined(Sigmoid(), Sigmoid()), {"x": X})

        assert grids(made)["cat"] == QuantParams((1 / 256,), (-128,))

    @pytest.mark.parametrize("other", [Conv(), Tanh()])
    def test_joining_a_function_with_something_else_stays_in_float(self, other: Op) -> None:
        graph = joined(Sigmoid(), other)
        made = quantized(graph, {"x": X})

        assert reasons(graph) == [
            "cat: Concat(axis=1) stays in float: it joins values whose ranges their operators "
            "prescribe with others"
        ]
        assert not any(
            isinstance(made.producers[v].op, Quantize) for v in layer(made, "cat").inputs
        )
        assert grids(made)["in0"] == QuantParams((1 / 256,), (-128,))
        assert grids(made)["in0"] != grids(made)["in1"]
        assert "cat" in grids(made)  # the convolution after it reads a quantized value again
        want, got = evaluate(graph, {"x": X})["y"], evaluate(made, {"x": X})["y"]
        assert ratio(want, got) > 30

    def test_a_conflict_further_down_is_found(self) -> None:
        net = Net(x=X.shape)
        net.add("gate", Sigmoid(), "x")
        net.add("small", MaxPool((2, 2)), "gate")
        net.add("front", Relu(), "x")
        net.add("other", MaxPool((2, 2)), "front")
        graph = net.graph(net.add("y", Concat(1), "small", "other"))

        assert [r.split(":")[0] for r in reasons(graph)] == ["y"]
        verify(quantized(graph, {"x": X}))


def _range(params: QuantParams) -> tuple[float, float]:
    (scale,), (zero,) = params.scale, params.zero_point
    return (-128 - zero) * scale, (127 - zero) * scale


class TestFloatIslands:
    @staticmethod
    def net() -> Graph:
        net = Net(x=X.shape)
        net.add("front", Conv(activation=Activation.RELU), "x", random(3, 2, 1, 1, seed=1))
        net.add("island", Div(), "front", f32(2))
        net.add("moved", Transpose((0, 2, 3, 1)), "island")
        net.add("back", Transpose((0, 3, 1, 2)), "moved")
        return net.graph(net.add("y", Conv(), "back", random(2, 3, 1, 1, seed=2)))

    def test_have_pairs_at_their_borders_only(self) -> None:
        made = quantized(self.net(), {"x": X})

        names = [(type(n.op).__name__, n.output.name) for n in made.nodes if not
                 all(made.constant(v) is not None for v in n.inputs)]  # fmt: skip
        assert names == [
            ("Quantize", "x.quantized"),
            ("Dequantize", "x.dequantized"),
            ("Conv", "front.float"),
            ("Quantize", "front.quantized"),
            ("Dequantize", "front"),
            ("Div", "island"),
            ("Transpose", "moved"),
            ("Transpose", "back"),
            ("Quantize", "back.quantized"),
            ("Dequantize", "back.dequantized"),
            ("Conv", "y.float"),
            ("Quantize", "y.quantized"),
            ("Dequantize", "y"),
        ]
        assert ratio(evaluate(self.net(), {"x": X})["y"], evaluate(made, {"x": X})["y"]) > 30

    def test_are_explained(self) -> None:
        assert reasons(self.net()) == [
            "island: Div() stays in float: edgec has no integer form of this operator",
            "moved: Transpose(perm=(0, 2, 3, 1)) stays in float: it only moves values that are "
            "in float",
            "back: Transpose(perm=(0, 3, 1, 2)) stays in float: it only moves values that are "
            "in float",
        ]

    def test_a_value_read_twice_is_quantized_once(self) -> None:
        net = Net(x=X.shape)
        for name in ("a", "b"):
            net.add(name, Conv(), "x", random(2, 2, 1, 1, seed=len(name)))
        made = quantized(net.graph("a", "b"), {"x": X})

        assert sum(n.output.name.startswith("x.quantized") for n in made.nodes) == 1


class TestKeepFloat:
    def test_leaves_a_layer_by_its_name(self) -> None:
        graph, feeds = tiny_cnn()
        made = quantized(graph, feeds, keep_float=("conv2", "scores"))

        for name in ("conv2", "scores"):
            assert not dequantized(made, layer(made, name))
            assert layer(made, name).output.name == name
        assert dequantized(made, layer(made, "conv1"))
        assert reasons(graph, ("conv2",)) == [
            "conv2: Conv(pad=(1, 1, 1, 1)) stays in float: as asked for with --keep-float"
        ]

    def test_leaves_any_part_of_a_fused_layer(self) -> None:
        graph, feeds = tiny_cnn()
        first = graph.nodes[0]
        fused = Node(first.op, first.inputs, first.outputs, ("conv1", "norm1", "relu1"))
        graph = Graph("net", graph.inputs, graph.outputs, (fused, *graph.nodes[1:]),
                      graph.constants)  # fmt: skip

        made = quantized(graph, feeds, keep_float=("norm1",))

        assert not dequantized(made, layer(made, "relu1"))

    def test_of_everything_changes_nothing(self) -> None:
        graph, feeds = tiny_cnn()
        names = tuple(n.output.name for n in graph.nodes)

        assert quantized(graph, feeds, keep_float=names) is graph


class TestReasons:
    def test_computed_weights(self) -> None:
        net = Net(x=(1, 2, 4, 4), w=(2, 2, 1, 1))
        graph = net.graph(net.add("y", Conv(), "x", "w"))

        assert reasons(graph) == [
            "y: Conv() stays in float: its weight is computed, not constant"
        ]

    def test_constants_only(self) -> None:
        net = Net(x=(1, 2))
        net.add("still", Relu(), random(1, 2))
        graph = net.graph(net.add("y", Add(), "x", "still"))

        assert reasons(graph) == ["still: Relu() stays in float: it reads constants only"]

    def test_other_types(self) -> None:
        net = Net(DType.FLOAT16, x=(1, 2))
        graph = net.graph(net.add("y", Relu(), "x"))

        assert reasons(graph) == ["y: Relu() stays in float: its operands are not all float32"]

    def test_integers_have_nothing_to_quantize(self) -> None:
        net = Net(DType.INT64, x=(1, 2))

        assert reasons(net.graph(net.add("y", Reshape((2,)), "x"))) == []

    def test_bounds_without_a_kernel(self) -> None:
        net = Net(x=(1, 2))
        graph = net.graph(net.add("y", Clip(0.25, 0.5), "x"))

        assert reasons(graph) == [
            "y: Clip(low=0.25, high=0.5) stays in float: edgec has no integer form of this "
            "operator"
        ]

    def test_a_layer_that_is_quantized_needs_none(self) -> None:
        graph, _ = tiny_cnn()

        assert reasons(graph) == []


def test_needs_only_the_ranges_that_it_plans_for() -> None:
    graph, feeds = tiny_cnn()

    wanted = {v.name for v in plan(graph).measured}

    assert wanted == {"image", "conv1", "conv2", "add", "mean", "scores"}
    assert math.isfinite(float(evaluate(quantized(graph, feeds), feeds)["classes"].sum()))


def test_values_that_turn_out_to_be_masks_stay_in_float() -> None:
    net = Net(x=(2, 4), mask=(2, 4))
    net.add("shown", Sub(), f32(1), "mask")
    net.add("minus", Mul(), "shown", f32(1000))
    net.add("hidden", Mul(), "minus", f32(-1e6))
    net.add("scores", Mul(), "x", "x")
    net.add("masked", Add(), "scores", "hidden")
    net.add("y", Softmax(-1), "masked")
    graph = net.graph(net.add("z", Mul(), "y", "x"))
    feeds = {"x": random(2, 4), "mask": f32([[1, 0, 1, 1], [1, 1, 1, 0]])}

    seen = calibrated(graph, feeds).ranges
    reasons = {r.where: r.message for r in plan(graph, ranges=seen).reasons}

    assert "masked" not in {r.where for r in plan(graph).reasons}
    for name in ("hidden", "masked", "y"):
        assert "masked by numbers beside which so few bits hold nothing else" in reasons[name]
    assert set(plan(graph, ranges=seen).nodes) == {("shown",), ("minus",), ("scores",), ("z",)}

"""Layers between activations of 16 bits, where the others have 8."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.calibration import Percentile
from edgec.evaluate import evaluate
from edgec.ir import DType, Graph, Node, Op
from edgec.ops import (
    Activation,
    Add,
    Concat,
    Conv,
    Dequantize,
    Elu,
    FullyConnected,
    MaxPool,
    Quantize,
    Relu,
    Reshape,
    Sigmoid,
    Softmax,
    Transpose,
)
from edgec.passes import QuantizeGraph, RoundWeights, Scheme
from edgec.passes.quantization_plan import plan
from edgec.targets import OnnxRuntime, Tflite
from tests.passes.quantization import ratio
from tests.targets.graphs import Net, calibrated, f32, quantized, ran, random, tiny_cnn

I8, I16 = DType.INT8, DType.INT16


def types(graph: Graph, wide: tuple[str, ...]) -> dict[str, DType]:
    return {names[0]: dtype for names, dtype in plan(graph, wide=wide).types.items()}


def branches(*wide: str) -> dict[str, DType]:
    """Return the types of two convolutions that are pooled and joined."""
    net = Net(x=(1, 2, 4, 4))
    net.add("turned", Transpose((0, 1, 3, 2)), "x")
    net.add("a", Conv(), "turned", random(2, 2, 1, 1))
    net.add("b", Conv(), "turned", random(2, 2, 1, 1, seed=1))
    net.add("pool", MaxPool((2, 2), (2, 2)), "a")
    net.add("other", MaxPool((2, 2), (2, 2)), "b")
    net.add("both", Concat(1), "pool", "other")
    net.add("y", Conv(), "both", random(2, 4, 1, 1, seed=2))
    return types(net.graph("y"), wide)


def test_what_moves_values_takes_the_type_of_what_it_moves() -> None:
    assert set(branches().values()) == {I8}
    found = branches("a")
    assert found["a"] is found["pool"] is I16
    assert found["b"] is found["other"] is found["y"] is I8


def test_what_joins_values_takes_the_wider_type() -> None:
    assert branches("a")["both"] is I16
    assert branches("y")["both"] is I8


def test_what_moves_an_input_has_the_type_that_its_readers_want() -> None:
    assert branches()["turned"] is I8
    assert branches("a")["turned"] is I16
    assert branches("a", "b")["turned"] is I16
    assert branches("y")["turned"] is I8


def test_what_only_moves_values_is_not_widened_by_its_name() -> None:
    assert set(branches("turned", "pool", "both").values()) == {I8}


def sequence() -> Graph:
    net = Net(x=(1, 2, 4, 4))
    net.add("a", Conv(activation=Activation.RELU), "x", random(2, 2, 1, 1))
    net.add("b", Conv(), "a", random(2, 2, 1, 1, seed=1), random(2, seed=1))
    net.add("c", Conv(), "b", random(2, 2, 1, 1, seed=2))
    return net.graph("c")


def steps(graph: Graph) -> list[tuple[str, DType]]:
    """Return where a value goes from one grid to another, and the type it gets."""
    return [
        (n.inputs[0].name, n.op.dtype)
        for n in graph.nodes
        if isinstance(n.op, Quantize)
        and (made := graph.producers.get(n.inputs[0])) is not None
        and isinstance(made.op, Dequantize)
    ]


def test_a_layer_of_another_width_reads_through_a_step() -> None:
    graph, feeds = sequence(), {"x": random(1, 2, 4, 4)}
    ranges = calibrated(graph, feeds)
    alone, pair, first = (
        QuantizeGraph(ranges, wide=wide).run(graph) for wide in (("b",), ("b", "c"), ("a",))
    )

    assert steps(alone) == [("a", I16), ("b", I8)]
    assert steps(pair) == [("a", I16)]
    assert steps(first) == [("a", I8)]


def test_an_input_is_stored_as_each_of_its_readers_wants() -> None:
    net = Net(x=(1, 2, 4, 4))
    net.add("a", Conv(), "x", random(2, 2, 1, 1))
    net.add("b", Conv(), "x", random(2, 2, 1, 1, seed=1))
    net.add("y", Add(), "a", "b")
    graph, feeds = net.graph("y"), {"x": random(1, 2, 4, 4)}
    made = QuantizeGraph(calibrated(graph, feeds), wide=("a",)).run(graph)

    readers = [n.op.dtype for n in made.users[made.inputs[0]] if isinstance(n.op, Quantize)]
    assert readers == [I16, I8]
    assert steps(made) == [("a", I8)]


def test_constants_are_stored_as_their_reader_wants() -> None:
    net = Net(x=(1, 4))
    c = net.const("c", random(1, 4)).name
    net.add("a", Add(), "x", c)
    net.add("y", Add(), "a", c)
    graph, feeds = net.graph("y"), {"x": random(1, 4, seed=1)}
    made = QuantizeGraph(calibrated(graph, feeds), wide=("y",)).run(graph)

    assert sorted(a.array.dtype.name for a in made.constants.values()) == ["int16", "int8"]


def test_ranges_that_are_prescribed_are_so_in_both_widths() -> None:
    net = Net(x=(1, 4))
    net.add("a", Sigmoid(), "x")
    net.add("b", FullyConnected(), "a", random(4, 4))
    net.add("y", Softmax(), "b")
    graph, feeds = net.graph("y"), {"x": random(1, 4)}
    made = QuantizeGraph(calibrated(graph, feeds), wide=("b",)).run(graph)

    grids = {n.output.name: n.op.params for n in made.nodes if isinstance(n.op, Quantize)}
    assert grids["a.quantized"].scale == (1 / 256,)
    assert grids["a.quantized.1"].scale == (1 / 32768,)
    assert grids["a.quantized.1"].zero_point == (0,)


def test_sixteen_bits_hold_all_that_was_seen() -> None:
    net = Net(x=(1, 4096))
    net.add("a", Relu(), "x")
    net.add("y", Relu(), "a")
    x = random(1, 4096)
    x[0, 7] = 100.0
    graph, feeds = net.graph("y"), {"x": x}
    ranges = calibrated(graph, feeds, method=Percentile(99))
    made = QuantizeGraph(ranges, wide=("y",)).run(graph)

    grids = {n.output.name: n.op for n in made.nodes if isinstance(n.op, Quantize)}
    assert grids["a.quantized"].params.scale[0] < 4 / 255
    assert grids["a.quantized.1"].params.scale[0] == pytest.approx(200 / 32767)
    assert grids["y.quantized"].params.scale[0] == pytest.approx(200 / 32767)


def test_weights_have_eight_bits_whatever_the_scheme_packs() -> None:
    graph, feeds = sequence(), {"x": random(1, 2, 4, 4)}
    scheme = Scheme(packed=(Conv,))
    made = QuantizeGraph(calibrated(graph, feeds), scheme, wide=("b",)).run(graph)

    stored = [c.array.dtype.name for k, c in made.constants.items() if ".1." in k]
    assert stored == ["int4", "int8", "int4"]


def test_what_has_no_kernel_stays_in_float_and_says_so() -> None:
    net = Net(x=(1, 4))
    net.add("a", Elu(), "x")
    net.add("y", FullyConnected(), "a", random(4, 4))
    graph = net.graph("y")
    for scheme, wide in ((Scheme(narrow=(Elu,)), ("a",)), (Scheme(I16, narrow=(Elu,)), ())):
        made = plan(graph, (), scheme, wide=wide)
        assert list(made.nodes) == [("y",)]
        (reason,) = made.reasons
        assert reason.message == (
            "Elu() stays in float: the runtime has no kernel of 16 bits for it"
        )
    assert len(plan(graph, (), Scheme(narrow=(Elu,)), wide=("y",)).nodes) == 2


def test_onnx_runtime_keeps_such_layers_in_float() -> None:
    graph = sequence()
    made = plan(graph, (), OnnxRuntime().scheme(), wide=("b",))

    assert list(made.nodes) == [("a",), ("c",)]


WIDE = [("a",), ("b",), ("c",), ("a", "b"), ("b", "c"), ("a", "c"), ("a", "b", "c")]


@pytest.mark.parametrize("wide", WIDE, ids="".join)
def test_litert_computes_what_the_graph_says(wide: tuple[str, ...]) -> None:
    graph, feeds = sequence(), {"x": random(1, 2, 4, 4)}
    made = QuantizeGraph(calibrated(graph, feeds), wide=wide).run(graph)
    got, artifact, _ = ran(Tflite(), made, feeds)

    want = evaluate(made, feeds)["c"]
    assert np.abs(got["c"] - want).max() <= 2 * np.abs(want).max() / 127
    inside = len(steps(made))
    assert artifact.operators["QUANTIZE"] == 1 + inside
    assert artifact.operators["DEQUANTIZE"] == 1


def test_wider_layers_in_a_row_are_nearer_to_float() -> None:
    net = Net(x=(1, 2, 4, 4))
    for name, x in (("a", "x"), ("b", "a"), ("c", "b")):  # weights without an error
        net.add(name, Conv(), x, np.sign(random(2, 2, 1, 1)))
    graph, feeds = net.graph("c"), {"x": random(1, 2, 4, 4)}
    ranges, want = calibrated(graph, feeds), evaluate(graph, feeds)["c"]
    ratios = [
        ratio(want, evaluate(QuantizeGraph(ranges, wide=wide).run(graph), feeds)["c"])
        for wide in ((), ("a", "b", "c"))
    ]

    assert ratios[0] < 50
    assert ratios[1] > 80


def test_recovery_works_on_both_widths() -> None:
    graph, _ = tiny_cnn()
    samples = [{"image": random(1, 3, 8, 8, seed=i)} for i in range(16)]
    ranges = calibrated(graph, *samples)
    made = QuantizeGraph(ranges, wide=("conv2", "scores")).run(graph)

    after, records = RoundWeights(graph, samples).run_recorded(made)

    assert [r.layer for r in records] == ["conv1", "conv2", "scores"]
    assert steps(after) == steps(made)


def layer(graph: Graph, op: type[Op]) -> Node:
    return next(n for n in graph.nodes if isinstance(n.op, op))


def test_a_reshape_between_widths_moves_integers() -> None:
    net = Net(x=(1, 4))
    net.add("a", FullyConnected(), "x", random(4, 4))
    net.add("flat", Reshape((2, 2)), "a")
    net.add("y", FullyConnected(), "flat", random(4, 2))
    graph, feeds = net.graph("y"), {"x": random(1, 4)}
    made = QuantizeGraph(calibrated(graph, feeds), wide=("y",)).run(graph)

    assert isinstance(made.producers[layer(made, Reshape).inputs[0]].op, Dequantize)
    assert steps(made) == [("flat", I16)]
    assert quantized(graph, feeds).inputs == made.inputs


def test_moves_in_a_row_from_an_input_have_one_type() -> None:
    net = Net(x=(1, 2, 4, 4))
    net.add("one", Transpose((0, 1, 3, 2)), "x")
    net.add("two", Reshape((1, 2, 2, 8)), "one")
    net.add("y", Conv(), "two", random(2, 2, 1, 1))

    assert set(types(net.graph("y"), ("y",)).values()) == {I16}


def test_a_wide_result_is_not_too_fine_for_its_products() -> None:
    net = Net(x=(1, 2))
    net.add("y", FullyConnected(), "x", f32([[1, -1]]))
    graph, feeds = net.graph("y"), {"x": f32([[1e6, 1e6]])}
    made = QuantizeGraph(calibrated(graph, feeds), wide=("y",)).run(graph)

    grids = {n.output.name: n.op.params for n in made.nodes if isinstance(n.op, Quantize)}
    product = grids["x.quantized"].scale[0] / 127
    assert grids["y.quantized"].scale[0] == pytest.approx(product / 128, rel=1e-6)


def test_a_wide_result_does_not_contradict_a_symmetric_scheme() -> None:
    net = Net(x=(1, 4))
    graph = net.graph(net.add("y", Sigmoid(), "x"))
    ranges = calibrated(graph, {"x": random(1, 4)})
    told = [
        QuantizeGraph(ranges, Scheme(symmetric=True), wide=wide).diagnostics(graph)
        for wide in ((), ("y",))
    ]

    assert [len(d) for d in told] == [1, 0]

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given

from edgec.cost import Cost, cost, node_macs
from edgec.frontend import load
from edgec.ir import DType, Graph, QuantParams, TensorType
from edgec.ops import Add, Dequantize, MatMul, MaxPool, Opaque, Quantize, Relu, Scan, Sigmoid
from tests.models import Sketch, graphs

PARAMS = QuantParams((0.5,), (0,))


def test_sums_over_a_graph() -> None:
    s = Sketch(1, 2, 4, 4)
    y = s.conv(s.add(Relu(), s.conv(s.x, 3)), 1, bias=False)

    assert cost(s.graph(y)) == Cost(
        nodes=3,
        parameters=3 * 2 * 9 + 3 + 3 * 9,
        macs=16 * 3 * 2 * 9 + 16 * 1 * 3 * 9,
        weight_bytes=4 * (3 * 2 * 9 + 3 + 3 * 9),
        peak_activation_bytes=4 * 16 * (3 + 3),  # operand and result of the Relu
    )


def test_integers_are_stored_in_a_byte() -> None:
    s = Sketch(8)
    w = s.add(Dequantize(PARAMS), s.const(np.ones(8, np.int8)))
    graph = s.graph(s.add(Add(), s.x, w))

    assert (cost(graph).parameters, cost(graph).weight_bytes) == (8, 8)


def peak(graph: Graph) -> int:
    return cost(graph).peak_activation_bytes


def test_a_value_lives_until_its_last_reader() -> None:
    s = Sketch(1, 1, 4, 4)
    a = s.add(Relu(), s.x)
    b = s.add(MaxPool((2, 2), (2, 2)), a)
    c = s.add(Sigmoid(), b)
    assert peak(s.graph(c)) == 4 * (16 + 16)

    d = s.add(MaxPool((2, 2), (2, 2)), a)
    assert peak(s.graph(s.add(Add(), c, d))) == 4 * (16 + 16)
    s = Sketch(4)
    a = s.add(Relu(), s.x)
    y = s.add(Add(), s.add(Sigmoid(), s.add(Sigmoid(), a)), a)
    assert peak(s.graph(y)) == 4 * (4 + 4 + 4)  # a, and two more around each Sigmoid


def test_a_result_that_nobody_reads_lives_for_a_moment() -> None:
    proto = onnx.helper.make_node("Split", [], [], axis=0, num_outputs=2)
    proto = onnx.NodeProto(op_type="Split", attribute=proto.attribute)
    half = TensorType(DType.FLOAT32, (4,))
    s = Sketch(8)
    a, _ = s.adds(Opaque("Split", "", 18, proto.SerializeToString(), (half, half)), s.x)

    assert peak(s.graph(a)) == 4 * (8 + 4 + 4)
    b = s.add(Sigmoid(), a)
    assert peak(s.graph(s.add(Add(), s.add(Add(), b, s.random(16, 1)), b))) == 4 * (4 + 64 + 64)


def test_outputs_live_to_the_end() -> None:
    s = Sketch(4)
    a = s.add(Relu(), s.x)
    b = s.add(Sigmoid(), a)

    assert peak(s.graph(b)) == 4 * 8
    assert peak(s.graph(s.add(Relu(), b), a)) == 4 * 12


def test_inputs_are_alive_from_the_start() -> None:
    s = Sketch(4)
    other = s.input("other", 16)
    y = s.add(Relu(), s.x)

    assert peak(s.graph(y, s.add(Relu(), other))) == 4 * (4 + 16 + 16)


def quantized(s: Sketch, *, keep: bool = False) -> Graph:
    """A Relu between dequantize and quantize; `keep` also reads the float in between."""
    q = s.add(Quantize(PARAMS), s.x)
    d = s.add(Dequantize(PARAMS), q)
    r = s.add(Relu(), d)
    out = s.add(Dequantize(PARAMS), s.add(Quantize(PARAMS), r))
    return s.graph(out, r) if keep else s.graph(out)


def test_what_only_stands_between_integers_is_not_stored() -> None:
    # x and its integers; the floats on the way exist in no integer runtime
    assert peak(quantized(Sketch(8))) == 4 * 8 + 8
    assert peak(quantized(Sketch(8), keep=True)) == 8 + 4 * 8 + 4 * 8


def test_a_kernel_reads_integers_until_it_has_written_its_own() -> None:
    s = Sketch(1, 1, 16, 16)
    q = s.add(Quantize(PARAMS), s.x)
    pooled = s.add(MaxPool((4, 4), (4, 4)), s.add(Dequantize(PARAMS), q))
    small = s.add(Dequantize(PARAMS), s.add(Quantize(PARAMS), pooled))
    last = s.add(Quantize(PARAMS), s.add(Relu(), small))
    graph = s.graph(s.add(Dequantize(PARAMS), last))
    inner = replace(graph, inputs=(q,), nodes=graph.nodes[1:])

    assert peak(inner) == 256 + 16


def test_unknown_lengths_cost_nothing_that_is_known() -> None:
    s = Sketch("?", 4)
    graph = s.graph(s.add(MatMul(), s.x, s.random(4, 5)))

    assert cost(graph) == Cost(1, 20, 0, 80, 0)
    assert node_macs(graph, graph.nodes[0]) == 0


def test_an_open_batch_counts_as_one() -> None:
    s = Sketch("N", 4)
    graph = s.graph(s.add(MatMul(), s.x, s.random(4, 5)))

    assert cost(graph) == Cost(1, 20, 20, 80, 4 * (4 + 5))


@given(graphs())
def test_the_peak_lies_between_the_largest_and_all(graph: Graph) -> None:
    sizes = [v.type.size_bytes for v in graph.inputs]
    sizes += [v.type.size_bytes for node in graph.nodes for v in node.outputs]

    assert max(sizes) <= peak(graph) <= sum(sizes)


LOOPS = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[5, 1, 4] x, bool c) => (float[5, 1, 3] y, float[5, 1, 4] z, float[5, 1, n] v)
<float[4, 3] w = {1,2,3,4,5,6,7,8,9,10,11,12}, int64 five = {5}>
{
   y = Scan <num_scan_inputs = 1, body = step (float[1, 4] t) => (float[1, 3] s)
            { s = MatMul(t, w) }> (x)
   z = Loop <body = turn (int64 i, bool go, float[5, 1, 4] before)
            => (bool goes, float[5, 1, 4] after)
            <float[4, 4] k = {1,2,3,4,1,2,3,4,1,2,3,4,1,2,3,4}>
            { goes = Identity(go)
              after = MatMul(before, k) }> (five, , x)
   v = If <then_branch = yes () => (float[5, 1, 3] a) { a = MatMul(x, w) },
           else_branch = no () => (float[5, 1, 3] b) { b = MatMul(x, w) }> (c)
}
"""


def test_subgraphs_cost_what_their_steps_cost(tmp_path: Path) -> None:
    path = tmp_path / "loops.onnx"
    onnx.save(onnx.parser.parse_model(LOOPS), path)
    graph = load(path).graph

    assert [node_macs(graph, n) for n in graph.nodes] == [5 * 12, 5 * 5 * 16, 5 * 12]
    found = cost(graph)
    assert found.macs == 5 * 12 + 5 * 5 * 16 + 5 * 12
    assert (found.parameters, found.weight_bytes) == (12 + 16 + 1, 4 * (12 + 16) + 8)


@pytest.mark.parametrize(("most", "times"), [(0, 0), (-1, 0), (2**31 - 1, 1), (2**63 - 1, 1)])
def test_a_loop_without_a_limit_counts_once(most: int, times: int, tmp_path: Path) -> None:
    path = tmp_path / "loops.onnx"
    text = LOOPS.replace("int64 five = {5}", f"int64 five = {{{most}}}")
    onnx.save(onnx.parser.parse_model(text), path)

    graph = load(path).graph
    assert node_macs(graph, graph.nodes[1]) == times * 5 * 16


def test_a_body_that_reads_what_nothing_computes_costs_nothing() -> None:
    """ONNX's checker lets a scan pass that takes fewer values than its body reads."""
    s = Sketch(5, 1, 4)
    body = onnx.parser.parse_graph(
        "step (float[1, 4] t) => (float[1, 4] s) { s = Add(t, ghost) }"
    )
    node = onnx.NodeProto(op_type="Scan")
    node.attribute.append(onnx.helper.make_attribute("body", body))
    node.attribute.append(onnx.helper.make_attribute("num_scan_inputs", 1))
    op = Scan("Scan", "", 18, node.SerializeToString(), (TensorType(DType.FLOAT32, (5, 1, 4)),))

    assert cost(s.graph(s.add(op, s.x))).macs == 0

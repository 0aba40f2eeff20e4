from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from onnx import TensorProto, helper

from edgec.errors import InternalError, ModelError
from edgec.evaluate import Evaluator, OnnxSession, evaluate, ort_session
from edgec.export import LARGE_BYTES, is_large, to_onnx
from edgec.frontend import load
from edgec.ir import DType, Graph, QuantParams, TensorType
from edgec.ops import (
    Activation,
    Add,
    Clip,
    Conv,
    Dequantize,
    LeakyRelu,
    MaxPool,
    Mul,
    Opaque,
    Quantize,
    ReduceMax,
    Relu,
    Sigmoid,
)
from tests.models import Sketch, feeds, graphs, info, onnx_model, save


def small() -> Graph:
    s = Sketch(1, 2, 4, 4)
    op = Conv(pad=(1, 1, 1, 1), activation=Activation.RELU6)
    return s.graph(s.add(Clip(high=0.5), s.conv(s.x, 3, op=op)))


def test_writes_a_node_for_each_node_and_activation() -> None:
    model = to_onnx(small())
    onnx.checker.check_model(model, full_check=True)

    assert [(n.op_type, n.name, list(n.input), list(n.output)) for n in model.graph.node] == [
        ("Conv", "n0", ["x", "c0", "c1"], ["v0.0"]),
        ("Clip", "n0/Clip", ["v0.0", "constant0", "constant1"], ["v0"]),
        ("Clip", "n1", ["v0", "", "constant2"], ["v1"]),
    ]
    assert (model.opset_import[0].version, model.ir_version) == (18, 8)
    assert model.producer_name == "edgec"


def test_equal_constants_of_operators_are_written_once() -> None:
    s = Sketch(1, 2, 4, 4)
    bound = s.const(np.array(6.0, np.float32))
    y = s.add(
        Clip(0.0, 6.0), s.add(Sigmoid(), s.add(Clip(-0.0, 6.0), s.add(Mul(), s.x, bound)))
    )
    model = to_onnx(s.graph(y))
    onnx.checker.check_model(model, full_check=True)

    clips = [list(n.input[1:]) for n in model.graph.node if n.op_type == "Clip"]
    assert clips == [["constant0", "c0"], ["constant1", "c0"]]  # zero and minus zero are two
    assert [t.name for t in model.graph.initializer] == ["c0", "constant0", "constant1"]


def test_constants_of_operators_get_names_that_nothing_has() -> None:
    relu = helper.make_node("Relu", ["x"], ["constant0"])
    body = helper.make_graph([relu], "body", [], [info("constant0", 1, 3)])
    choice = helper.make_node("If", ["flag"], ["y"], then_branch=body, else_branch=body)
    proto = onnx.NodeProto(op_type="If", attribute=choice.attribute).SerializeToString()
    op = Opaque("If", "", 18, proto, (TensorType(DType.FLOAT32, (1, 3)),), ("x",))
    s = Sketch(1, 3)
    flag = s.input("constant1", dtype=DType.BOOL)
    model = to_onnx(s.graph(s.add(Clip(low=0.5), s.add(op, flag, s.x))))
    onnx.checker.check_model(model, full_check=True)

    assert [t.name for t in model.graph.initializer] == ["constant2"]


def test_attributes_with_the_default_of_onnx_are_left_out() -> None:
    s = Sketch(1, 2, 6, 6)
    y = s.add(Conv(stride=(2, 1)), s.x, s.random(2, 2, 3, 3))
    y = s.add(MaxPool((2, 2), dilation=(1, 2)), y)
    model = to_onnx(s.graph(s.add(ReduceMax((2,)), s.add(LeakyRelu(), y))))
    onnx.checker.check_model(model, full_check=True)

    found = {n.op_type: [a.name for a in n.attribute] for n in model.graph.node}
    assert found == {
        "Conv": ["kernel_shape", "strides"],
        "MaxPool": ["dilations", "kernel_shape"],
        "LeakyRelu": [],
        "ReduceMax": [],
    }


def test_a_reduction_along_no_axis_reduces_nothing() -> None:
    s = Sketch(2, 3)
    graph = s.graph(s.add(ReduceMax(()), s.x))
    x = feeds(graph)

    np.testing.assert_array_equal(evaluate(graph, x)["v0"], x["x"])


def test_names_of_layers_are_joined_and_told_apart() -> None:
    s = Sketch(1, 3)
    a = s.add(Relu(), s.x)
    graph = s.graph(s.add(Relu(), s.add(Relu(), a)))
    nodes = tuple(type(n)(n.op, n.inputs, n.outputs, ("a", "b")) for n in graph.nodes)
    model = to_onnx(Graph("test", graph.inputs, graph.outputs, nodes))

    assert [n.name for n in model.graph.node] == ["a+b", "a+b/Relu", "a+b/Relu.1"]


def test_the_same_graph_gives_the_same_bytes() -> None:
    one, two = (to_onnx(small()).SerializeToString(deterministic=True) for _ in range(2))

    assert one == two


def test_large_constants_may_stay_outside() -> None:
    s = Sketch(LARGE_BYTES // 4)
    y = s.add(Add(), s.add(Add(), s.x, s.random(LARGE_BYTES // 4)), s.random(1))
    graph = s.graph(y)

    large, little = to_onnx(graph, weights=False).graph.initializer
    assert (large.name, large.data_location) == ("c0", TensorProto.EXTERNAL)
    assert not large.raw_data
    assert little.raw_data
    assert all(t.raw_data for t in to_onnx(graph).graph.initializer)
    x = feeds(graph)
    want = OnnxSession(ort_session(to_onnx(graph).SerializeToString())).run(x)
    np.testing.assert_array_equal(evaluate(graph, x)["v1"], want["v1"])


def test_other_values_may_be_returned() -> None:
    graph = small()
    inner = graph.nodes[0].output
    model = to_onnx(graph, outputs=[inner])

    assert [v.name for v in model.graph.output] == ["v0"]
    found = Evaluator(graph, [inner]).run(feeds(graph))
    assert found["v0"].max() > 0.5 >= evaluate(graph, feeds(graph))["v1"].max()


def test_lengths_keep_their_names() -> None:
    s = Sketch("N", 3)
    model = to_onnx(s.graph(s.add(Relu(), s.x)))

    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["N", 3]
    unknown = TensorType(DType.FLOAT32, ("?", 3))
    op = Opaque("Neg", "", 18, onnx.NodeProto(op_type="Neg").SerializeToString(), (unknown,))
    s = Sketch("?", 3)
    model = to_onnx(s.graph(s.add(op, s.x)))
    dims = model.graph.output[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == [0, 3]


def test_quantization_is_written_with_its_axis() -> None:
    s = Sketch(2, 4)
    params = QuantParams((0.5, 0.25), (1, -1), 0)
    y = s.add(Dequantize(params), s.add(Quantize(params), s.x))
    model = to_onnx(s.graph(y))
    onnx.checker.check_model(model, full_check=True)

    assert [(n.op_type, n.attribute[0].i) for n in model.graph.node] == [
        ("QuantizeLinear", 0),
        ("DequantizeLinear", 0),
    ]


def test_newer_operators_raise_the_opset_of_the_model() -> None:
    gelu = onnx.NodeProto(op_type="Gelu").SerializeToString()
    op = Opaque("Gelu", "", 20, gelu, (TensorType(DType.FLOAT32, (1, 3)),))
    s = Sketch(1, 3)
    model = to_onnx(s.graph(s.add(Relu(), s.add(op, s.x))))
    onnx.checker.check_model(model, full_check=True)

    assert (model.opset_import[0].version, model.ir_version) == (20, 9)


def test_a_model_that_onnx_runtime_refuses_is_no_internal_error() -> None:
    with pytest.raises(ModelError, match="ONNX Runtime does not take the model"):
        ort_session(b"nonsense")


def test_a_graph_that_onnx_runtime_refuses_is_one() -> None:
    s = Sketch(1, 3, dtype=DType.STRING)
    graph = s.graph(s.add(Relu(), s.x))

    with pytest.raises(InternalError, match="graph 'test' is not valid ONNX") as caught:
        Evaluator(graph)
    assert caught.value.dump == {"graph.txt": str(graph).encode()}


def test_feeds_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match="does not run in ONNX Runtime"):
        evaluate(small(), {"x": np.zeros((1, 2, 4, 5), np.float32)})


@pytest.mark.parametrize("optimize", [True, False])
def test_the_reference_runs_every_operator_as_written(optimize: bool) -> None:
    session = ort_session(to_onnx(small()).SerializeToString(), optimize=optimize)

    level = session.get_session_options().graph_optimization_level
    assert level.name == ("ORT_ENABLE_ALL" if optimize else "ORT_DISABLE_ALL")


def test_sessions_know_their_names() -> None:
    session = OnnxSession(ort_session(to_onnx(small()).SerializeToString(), threads=2))

    assert (session.inputs, session.outputs) == (("x",), ("v1",))


@given(graphs())
def test_every_graph_is_valid_onnx(graph: Graph) -> None:
    onnx.checker.check_model(to_onnx(graph), full_check=True)


@pytest.mark.parametrize(
    ("kind", "dtype", "opset"),
    [
        ("Equal", onnx.TensorProto.STRING, 19),
        ("Equal", onnx.TensorProto.FLOAT, 18),
        ("IsInf", onnx.TensorProto.FLOAT16, 20),
        ("IsInf", onnx.TensorProto.FLOAT, 18),
    ],
)
def test_a_type_that_came_later_raises_the_opset(
    kind: str, dtype: int, opset: int, tmp_path: Path
) -> None:
    names = ["a", "b"] if kind == "Equal" else ["a"]
    nodes = [onnx.helper.make_node(kind, names, ["y"])]
    infos = [info(name, 2, dtype=dtype) for name in names]
    model = onnx_model(nodes, infos, [info("y", 2, dtype=9)], opset=20)
    model.ir_version = 9

    written = to_onnx(load(save(model, tmp_path)).graph)
    assert written.opset_import[0].version == opset
    onnx.checker.check_model(written, full_check=True)


def test_weights_that_are_mapped_from_a_file_are_left_out_too() -> None:
    """Their type names its byte order; written out, they would be in memory once more."""
    mapped = np.zeros(1000, np.dtype(np.float32).newbyteorder("<"))

    assert is_large(mapped)
    assert not is_large(np.zeros(1000, object))
    assert not is_large(np.zeros(1000, ml_dtypes.bfloat16))
    assert not is_large(np.zeros(2000, ml_dtypes.float8_e5m2))

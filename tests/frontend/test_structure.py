"""Models that are more than a list of nodes: constants, functions, subgraphs, odd names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.errors import UnsupportedError
from edgec.evaluate import OnnxSession, evaluate, ort_session
from edgec.export import to_onnx
from edgec.frontend import load
from edgec.ir import Array, Builder, Graph, verify
from edgec.ops import Identity, Opaque
from edgec.passes import Pipeline, lossless
from tests.models import info, onnx_model, save, unranked

BOOL, I64 = TensorProto.BOOL, TensorProto.INT64
X = np.array([[1.0, -2.0, 3.0]], np.float32)


def ops(graph: Graph) -> list[str]:
    return [str(node.op) for node in graph.nodes]


def same(path: Path, **feeds: Array) -> Graph:
    """Load, run the lossless passes, and compare with ONNX Runtime on the file."""
    want = OnnxSession(ort_session(str(path), optimize=False)).run(feeds)
    graph = load(path).graph
    verify(graph)
    after, _ = Pipeline(lossless(), feeds).run(graph)
    for name, array in want.items():
        np.testing.assert_allclose(evaluate(graph, feeds)[name], array, rtol=1e-6)
        np.testing.assert_allclose(evaluate(after, feeds)[name], array, rtol=1e-6)
    return graph


# ---- constants


@pytest.mark.parametrize(
    ("attribute", "want"),
    [
        ({"value": numpy_helper.from_array(np.array([2.0, 3.0], np.float32))}, [2.0, 3.0]),
        ({"value_float": 2.5}, 2.5),
        ({"value_floats": [2.5, 1.0]}, [2.5, 1.0]),
        ({"value_int": 7}, 7),
        ({"value_ints": [7, -1]}, [7, -1]),
        ({"value_string": "edge"}, "edge"),
        ({"value_strings": ["a", "b"]}, ["a", "b"]),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_constant_nodes_become_constants(
    attribute: dict[str, Any], want: Any, tmp_path: Path
) -> None:
    nodes = [helper.make_node("Constant", [], ["k"], **attribute)]
    nodes.append(helper.make_node("Relu", ["x"], ["y"]))
    model = onnx_model(nodes, [info("x", 1, 3)], ["y"])
    array = np.asarray(want)
    code = TensorProto.STRING if array.dtype.kind == "U" else None
    dtype = code or helper.np_dtype_to_tensor_dtype(
        np.dtype(np.int64 if array.dtype.kind == "i" else np.float32)
    )
    model.graph.output.append(helper.make_tensor_value_info("k", dtype, list(array.shape)))
    graph = load(save(model, tmp_path)).graph

    assert ops(graph) == ["Relu()"]
    verify(graph)
    np.testing.assert_array_equal(graph.constants["k"].array, array)
    assert list(evaluate(graph, {"x": X})["k"].ravel()) == list(array.ravel())


def test_sparse_constant_nodes_are_written_out(tmp_path: Path) -> None:
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("i", I64, [1], [0]),
        [9],
    )
    nodes = [
        helper.make_node("Constant", [], ["k"], name="layer", sparse_value=sparse),
        helper.make_node("Add", ["x", "k"], ["y"]),
    ]
    path = save(onnx_model(nodes, [info("x", 1, 1)], ["y"]), tmp_path)

    np.testing.assert_array_equal(load(path).graph.constants["k"].array, [1] + [0] * 8)


def test_an_initializer_that_is_an_input_too_is_a_constant(tmp_path: Path) -> None:
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    inputs = [info("w", 3), info("x", 1, 3)]
    model = onnx_model([node], inputs, ["y"], {"w": np.ones(3, np.float32)}, opset=8)

    assert [v.name for v in same(save(model, tmp_path), x=X).inputs] == ["x"]


def test_unread_parts_are_left_out(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Mul", ["y", "w"], ["dead"]),
    ]
    inputs = [info("x", 1, 3), info("unread", 2)]
    model = onnx_model(nodes, inputs, ["y"], {"w": np.ones(3, np.float32)})
    graph = same(save(model, tmp_path), x=X, unread=np.zeros(2, np.float32))

    assert ops(graph) == ["Relu()"]
    assert not graph.constants
    assert [v.name for v in graph.inputs] == ["x", "unread"]


def test_an_unread_output_has_a_name_of_its_own(tmp_path: Path) -> None:
    node = helper.make_node("GRU", ["x", "w", "r"], ["", "y"], name="gate", hidden_size=2)
    arrays = {"w": np.ones((1, 6, 3), np.float32), "r": np.ones((1, 6, 2), np.float32)}
    model = onnx_model([node], [info("x", 1, 1, 3)], ["y"], arrays)
    graph = same(save(model, tmp_path), x=X[None])

    assert [v.name for v in graph.nodes[0].outputs] == ["gate.unused0", "y"]


def test_the_same_output_twice_and_an_input_as_output(tmp_path: Path) -> None:
    model = onnx_model([helper.make_node("Relu", ["x"], ["y"])], [info("x", 1, 3)], ["y"])
    model.graph.output.append(info("x", 1, 3))

    assert [v.name for v in same(save(model, tmp_path), x=X).outputs] == ["y", "x"]


def test_an_operand_that_is_absent_in_the_middle(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Clip", ["x", "", "high"], ["a"]),
        helper.make_node("Resize", ["a", "", "scales"], ["y"], mode="nearest"),
    ]
    model = onnx_model(
        nodes, [info("x", 1, 3), info("scales", 2)], ["y"], {"high": np.float32(2)}
    )
    graph = same(save(model, tmp_path), x=X, scales=np.array([1, 2], np.float32))

    assert ops(graph) == ["Clip(high=2.0)", "Resize"]
    assert str(graph.nodes[1]).endswith("Resize(%a, absent, %scales)")


def test_layers_without_a_name_get_one(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["y"])]
    graph = load(save(onnx_model(nodes, [info("x", 1, 3)], ["y"]), tmp_path)).graph

    assert [node.layer for node in graph.nodes] == ["Relu_0", "Neg_1"]


def test_names_that_are_no_identifiers_are_quoted(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["in put"], ["out;0"])
    graph = load(save(onnx_model([node], [info("in put", 1, 3)], ["out;0"]), tmp_path)).graph

    assert str(graph.nodes[0]) == '%"out;0": f32[1,3] = Relu()(%"in put")'


# ---- functions and other domains


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    function = helper.make_function(
        "local",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["t"]), helper.make_node("Relu", ["t"], ["b"])],
        [helper.make_opsetid("", 18)],
    )
    node = helper.make_node("Twice", ["x"], ["y"], domain="local")
    model = onnx_model(
        [node], [info("x", 1, 3)], ["y"], domains={"local": 1}, functions=[function]
    )

    assert ops(same(save(model, tmp_path), x=X)) == ["Add()", "Relu()"]


def custom(out: onnx.ValueInfoProto) -> onnx.ModelProto:
    node = helper.make_node("Swirl", ["x"], ["y"], domain="com.acme", name="art", angle=0.5)
    return onnx_model([node], [info("x", 1, 3)], [out], domains={"com.acme": 3})


def test_operators_of_other_domains_are_kept(tmp_path: Path) -> None:
    graph = load(save(custom(info("y", 1, 3)), tmp_path)).graph
    verify(graph)

    assert str(graph.nodes[0]) == "%y: f32[1,3] = com.acme.Swirl(%x)"
    (node,) = to_onnx(graph).graph.node
    assert (node.domain, node.op_type, node.attribute[0].f) == ("com.acme", "Swirl", 0.5)
    assert {o.domain: o.version for o in to_onnx(graph).opset_import} == {"": 18, "com.acme": 3}


def test_an_operator_that_nobody_knows_and_that_is_not_declared(tmp_path: Path) -> None:
    relu = helper.make_node("Relu", ["y"], ["z"])
    model = custom(info("y", 1, 3))
    model.graph.node.append(relu)
    model.graph.output[0].CopyFrom(info("z", 1, 3))

    with pytest.raises(UnsupportedError, match=r"art: output y of com\.acme\.Swirl"):
        load(save(model, tmp_path))


def test_folding_constants_leaves_other_domains_alone(tmp_path: Path) -> None:
    """ONNX Runtime cannot run them; the model may still be inspected."""
    model = custom(info("y", 3))
    model.graph.node[0].input[0] = "w"
    model.graph.node.append(helper.make_node("Add", ["x", "y"], ["z"]))
    model.graph.value_info.append(info("y", 3))
    model.graph.output[0].CopyFrom(info("z", 1, 3))
    model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "w"))
    graph = load(save(model, tmp_path)).graph

    after, _ = Pipeline(lossless()).run(graph)
    assert after is graph


def test_contributed_operators_run(tmp_path: Path) -> None:
    node = helper.make_node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft", alpha=2.0)
    arrays = {"w": np.eye(3, dtype=np.float32)}
    model = onnx_model(
        [node], [info("x", 1, 3)], [info("y", 1, 3)], arrays, domains={"com.microsoft": 1}
    )

    assert ops(same(save(model, tmp_path), x=X)) == ["com.microsoft.FusedMatMul"]


# ---- subgraphs


def branch(name: str, *nodes: onnx.NodeProto, out: str) -> onnx.GraphProto:
    return helper.make_graph(nodes, name, [], [unranked(out)])


def conditional() -> onnx.ModelProto:
    """An If whose branches read an input, a computed value and a weight from outside."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="act"),
        helper.make_node(
            "If",
            ["flag"],
            ["y"],
            name="choice",
            then_branch=branch("then", helper.make_node("Add", ["a", "w"], ["t"]), out="t"),
            else_branch=branch("else", helper.make_node("Sub", ["x", "a"], ["e"]), out="e"),
        ),
    ]
    return onnx_model(
        nodes,
        [info("x", 1, 3), info("flag", dtype=BOOL)],
        [info("y", 1, 3)],
        {"w": np.array([1, 2, 3], np.float32)},
    )


@pytest.mark.parametrize("flag", [True, False])
def test_values_that_subgraphs_read_are_operands(flag: bool, tmp_path: Path) -> None:
    graph = same(save(conditional(), tmp_path), x=X, flag=np.array(flag))

    assert str(graph.nodes[1]) == "%y: f32[1,3] = If(%flag, %x, %a, %w)"
    assert isinstance(graph.nodes[1].op, Opaque)
    assert graph.nodes[1].op.captures == ("x", "a", "w")


@pytest.mark.parametrize("flag", [True, False])
def test_a_captured_value_may_get_another_name(flag: bool, tmp_path: Path) -> None:
    path = save(conditional(), tmp_path)
    graph = load(path).graph
    b = Builder(graph)
    for node in graph.nodes:
        if node.layer == "act":
            (new,) = b.add(node.op, *node.inputs, names=[b.fresh("a")], absorbs=(node,))
            b.replace(node.output, new)
        else:
            b.copy(node)
    renamed = b.finish()
    feeds = {"x": X, "flag": np.array(flag)}

    verify(renamed)
    assert "If(%flag, %x, %a.1, %w)" in str(renamed)
    want, got = evaluate(graph, feeds)["y"], evaluate(renamed, feeds)["y"]
    np.testing.assert_array_equal(got, want)


def test_remarks_of_exporters_in_subgraphs_are_dropped(tmp_path: Path) -> None:
    model = conditional()
    body = model.graph.node[1].attribute[0].g
    body.doc_string = "a branch"
    body.node[0].doc_string = "a sum"
    body.node[0].metadata_props.add(key="stack_trace", value="all of it")
    graph = same(save(model, tmp_path), x=X, flag=np.array(True))

    (written,) = (n for n in to_onnx(graph).graph.node if n.op_type == "If")
    for attribute in written.attribute:
        assert b"stack_trace" not in attribute.SerializeToString()
        assert b"a sum" not in attribute.SerializeToString()
        assert b"a branch" not in attribute.SerializeToString()
        assert attribute.g.node[0].op_type in ("Add", "Sub")


def test_a_captured_value_may_get_a_name_that_the_body_has_too(tmp_path: Path) -> None:
    inner = [
        helper.make_node("Exp", ["a"], ["a.1"]),
        helper.make_node("Add", ["a.1", "a"], ["t"]),
    ]
    model = conditional()
    choice = model.graph.node[1]
    then = next(a for a in choice.attribute if a.name == "then_branch")
    then.g.CopyFrom(branch("then", *inner, out="t"))
    del model.graph.initializer[:]
    graph = load(save(model, tmp_path)).graph
    b = Builder(graph)
    act, choose = graph.nodes
    (new,) = b.add(act.op, *act.inputs, names=[b.fresh("a")], absorbs=(act,))
    b.replace(act.output, new)
    b.copy(choose)
    renamed = b.finish()

    assert renamed.nodes[0].output.name == "a.1"
    feeds = {"x": X, "flag": np.array(True)}
    want, got = evaluate(graph, feeds)["y"], evaluate(renamed, feeds)["y"]
    np.testing.assert_array_equal(got, want)


def test_a_captured_value_is_renamed_at_every_depth(tmp_path: Path) -> None:
    inner = helper.make_node(
        "If",
        ["flag"],
        ["t"],
        then_branch=branch("a", helper.make_node("Neg", ["deep"], ["p"]), out="p"),
        else_branch=branch("b", helper.make_node("Abs", ["deep"], ["q"]), out="q"),
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["first"]),
        helper.make_node("Identity", ["first"], ["deep"]),
        helper.make_node(
            "If",
            ["flag"],
            ["y"],
            then_branch=branch("c", inner, out="t"),
            else_branch=branch("d", helper.make_node("Exp", ["deep"], ["r"]), out="r"),
        ),
    ]
    inputs = [info("x", 1, 3), info("flag", dtype=BOOL)]
    graph = load(save(onnx_model(nodes, inputs, [info("y", 1, 3)]), tmp_path)).graph
    after, _ = Pipeline(lossless()).run(graph)

    assert {v.name for v in after.nodes[-1].inputs} == {"flag", "first"}
    for flag in (True, False):
        feeds = {"x": X, "flag": np.array(flag)}
        want, got = evaluate(graph, feeds)["y"], evaluate(after, feeds)["y"]
        np.testing.assert_array_equal(got, want)


def test_a_captured_value_may_turn_out_to_be_nothing_new(tmp_path: Path) -> None:
    model = conditional()
    model.graph.node[0].op_type = "Identity"
    path = save(model, tmp_path)
    same(path, x=X, flag=np.array(True))

    after, _ = Pipeline(lossless()).run(load(path).graph)
    assert not any(isinstance(node.op, Identity) for node in after.nodes)


@pytest.mark.parametrize("opset", [11, 13, 16, 17, 18, 20])
def test_bodies_keep_their_meaning_in_every_opset(opset: int, tmp_path: Path) -> None:
    """Reductions took their axes as an attribute up to opset 17."""
    attributes: dict[str, Any] = {"axes": [1]} if opset < 18 else {}
    more = ["axes"] if opset >= 18 else []
    inner = helper.make_node("ReduceMax", ["x", *more], ["t"], keepdims=1, **attributes)
    node = helper.make_node(
        "If",
        ["flag"],
        ["y"],
        then_branch=branch("then", inner, out="t"),
        else_branch=branch("else", helper.make_node("Identity", ["x"], ["e"]), out="e"),
    )
    arrays = {"axes": np.array([1])} if more else {}
    inputs = [info("x", 1, 3), info("flag", dtype=BOOL)]
    path = save(onnx_model([node], inputs, ["y"], arrays, opset=opset), tmp_path)

    same(path, x=X, flag=np.array(True))


def test_a_body_of_a_newer_opset_keeps_it(tmp_path: Path) -> None:
    """Gelu exists only from opset 20 on."""
    node = helper.make_node(
        "If",
        ["flag"],
        ["y"],
        then_branch=branch("then", helper.make_node("Gelu", ["x"], ["t"]), out="t"),
        else_branch=branch("else", helper.make_node("Identity", ["x"], ["e"]), out="e"),
    )
    inputs = [info("x", 1, 3), info("flag", dtype=BOOL)]
    path = save(onnx_model([node], inputs, ["y"], opset=20), tmp_path)

    graph = same(path, x=X, flag=np.array(True))
    assert to_onnx(graph).opset_import[0].version == 20


def test_loops_run(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Add", ["state", "step"], ["next"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [info("i", dtype=I64), info("go", dtype=BOOL), info("state", 1, 3)],
        [info("on", dtype=BOOL), info("next", 1, 3)],
    )
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["step"]),
        helper.make_node("Loop", ["count", "", "x"], ["y"], body=body),
    ]
    model = onnx_model(
        nodes, [info("x", 1, 3)], [info("y", 1, 3)], {"count": np.array(3)}, opset=17
    )
    graph = same(save(model, tmp_path), x=X)

    assert str(graph.nodes[1]) == "%y: f32[1,3] = Loop(%count, absent, %x, %step)"


def test_subgraphs_within_subgraphs(tmp_path: Path) -> None:
    inner = helper.make_node(
        "If",
        ["flag"],
        ["t"],
        then_branch=branch("a", helper.make_node("Neg", ["deep"], ["p"]), out="p"),
        else_branch=branch("b", helper.make_node("Abs", ["local"], ["q"]), out="q"),
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["deep"]),
        helper.make_node(
            "If",
            ["flag"],
            ["y"],
            then_branch=branch("c", helper.make_node("Exp", ["x"], ["local"]), inner, out="t"),
            else_branch=branch("d", helper.make_node("Identity", ["x"], ["r"]), out="r"),
        ),
    ]
    inputs = [info("x", 1, 3), info("flag", dtype=BOOL)]
    model = onnx_model(nodes, inputs, [info("y", 1, 3)])
    graph = same(save(model, tmp_path), x=X, flag=np.array(True))

    assert isinstance(graph.nodes[1].op, Opaque)
    assert set(graph.nodes[1].op.captures) == {"x", "flag", "deep"}


# ---- shapes that are computed


def test_computed_shapes_become_known_when_constants_are_folded(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], start=0, end=1),
        helper.make_node("Concat", ["s", "minus"], ["t"], axis=0),
        helper.make_node("Reshape", ["x", "t"], ["r"]),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    model = onnx_model(nodes, [info("x", "N", 2, 3)], ["y"], {"minus": np.array([-1])})
    path = save(model, tmp_path)
    graph = load(path).graph
    assert ops(graph) == ["Shape(end=1)", "Concat()", "Reshape", "Relu()"]

    after, _ = Pipeline(lossless()).run(graph)
    assert ops(after) == ["Reshape(shape=(1, -1))", "Relu()"]
    assert str(after.outputs[0].type) == "f32[1,6]"


def test_a_result_of_unknown_length_runs(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["n"]),
        helper.make_node("Cast", ["n"], ["f"], to=1),
        helper.make_node("Relu", ["f"], ["y"]),
    ]
    graph = same(save(onnx_model(nodes, [info("x", 1, 3)], ["y"]), tmp_path), x=X)

    assert ops(graph) == ["NonZero()", "Cast", "Relu"]

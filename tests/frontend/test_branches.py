"""Conditions that are known, and calls of a model's own functions: both become plain nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.models import DATA
from edgec.errors import ModelError, UnsupportedError
from edgec.evaluate import OnnxSession, evaluate, ort_session
from edgec.frontend import inline, load
from edgec.ir import Array, Graph, verify
from edgec.numerics import relative_error
from edgec.ops import Opaque
from edgec.passes import Pipeline, lossless
from tests.models import info, onnx_model, save, unranked

F32, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
X = np.array([[1.0, -2.0, 3.0]], np.float32)
YES, NO = {"c": np.array(True)}, {"c": np.array(False)}


def node(op_type: str, inputs: list[str], outputs: list[str], **more: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs, outputs, **more)


def branch(*nodes: onnx.NodeProto, out: str, **arrays: Array) -> onnx.GraphProto:
    tensors = [numpy_helper.from_array(a, name) for name, a in arrays.items()]
    return helper.make_graph(nodes, "body", [], [unranked(out)], tensors)


def choice(
    then: onnx.GraphProto, other: onnx.GraphProto, out: str = "y", condition: str = "c"
) -> onnx.NodeProto:
    return node("If", [condition], [out], name=f"if/{out}", then_branch=then, else_branch=other)


def simplified(model: onnx.ModelProto, folder: Path, **feeds: Any) -> Graph:
    """Load, simplify, and compare with ONNX Runtime on the file."""
    path = save(model, folder)
    feeds = feeds or {"x": X}
    want = OnnxSession(ort_session(str(path), optimize=False)).run(feeds)
    graph, _ = Pipeline(lossless()).run(load(path).graph)
    verify(graph)
    assert relative_error(want, evaluate(graph, feeds)) < 1e-6
    return graph


def layers(graph: Graph) -> list[str]:
    return [f"{n.op}:{'+'.join(n.origin)}" for n in graph.nodes]


# ---- conditions


@pytest.mark.parametrize(
    ("condition", "want"),
    [(YES, ["Add():more"]), (NO, ["Sub():less"])],
    ids=["then", "else"],
)
def test_the_branch_of_a_known_condition_is_taken(
    condition: dict[str, Any], want: list[str], tmp_path: Path
) -> None:
    then = branch(node("Add", ["x", "w"], ["t"], name="more"), out="t", w=X)
    other = branch(node("Sub", ["x", "k"], ["t"], name="less"), out="t")
    model = onnx_model(
        [choice(then, other)], [info("x", 1, 3)], [info("y", 1, 3)], {**condition, "k": X + 1}
    )

    assert layers(simplified(model, tmp_path)) == want


def test_a_condition_on_a_shape_is_known(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "last"], ["n"]),
        node("Equal", ["n", "three"], ["c"]),
        choice(
            branch(node("Abs", ["x"], ["t"], name="abs"), out="t"),
            branch(node("Neg", ["x"], ["t"]), out="t"),
        ),
    ]
    arrays = {"last": np.array(1), "three": np.array(3)}
    model = onnx_model(nodes, [info("x", 1, "N")], [info("y", 1, "N")], arrays)
    path = save(model, tmp_path)

    graph, _ = Pipeline(lossless()).run(load(path, {"x": (1, 3)}).graph)
    assert layers(graph) == ["Abs():abs"]


def test_branches_within_branches_and_names_used_twice(tmp_path: Path) -> None:
    inner = choice(
        branch(node("Exp", ["t"], ["u"], name="deep"), out="u"),
        branch(node("Neg", ["x"], ["u"]), out="u"),
        out="v",
    )
    first = branch(node("Abs", ["x"], ["t"], name="one"), inner, out="v")
    second = branch(node("Mul", ["y1", "k"], ["t"], name="two"), out="t", k=X)
    nothing = branch(node("Neg", ["x"], ["t"]), out="t")
    nodes = [
        choice(first, nothing, out="y1"),
        choice(second, nothing, out="y"),
    ]
    model = onnx_model(nodes, [info("x", 1, 3)], [info("y", 1, 3)], YES)

    assert layers(simplified(model, tmp_path)) == ["Abs():one", "Exp():deep", "Mul():two"]


def test_a_branch_keeps_its_own_subgraphs_and_domains(tmp_path: Path) -> None:
    inside = choice(
        branch(node("FusedMatMul", ["a", "w"], ["t"], domain="com.microsoft"), out="t"),
        branch(node("Neg", ["a"], ["t"]), out="t"),
        out="z",
        condition="flag",
    )
    taken = branch(node("Relu", ["x"], ["a"], name="act"), inside, out="z")
    model = onnx_model(
        [choice(taken, branch(node("Neg", ["x"], ["t"]), out="t"))],
        [info("x", 1, 3), info("flag", dtype=BOOL)],
        [info("y", 1, 3)],
        {**YES, "w": np.eye(3, dtype=np.float32)},
        domains={"com.microsoft": 1},
    )

    graph = simplified(model, tmp_path, x=X, flag=np.array(True))
    assert layers(graph) == ["Relu():act", "If:if/z"]


def test_a_branch_may_return_a_constant(tmp_path: Path) -> None:
    constant = node("Constant", [], ["t"], value=numpy_helper.from_array(X))
    nodes = [
        choice(
            branch(constant, out="t"),
            branch(node("Neg", ["x"], ["t"]), out="t"),
            out="k",
        ),
        node("Add", ["x", "k"], ["y"], name="sum"),
    ]
    model = onnx_model(nodes, [info("x", 1, 3)], [info("y", 1, 3)], YES)

    assert layers(simplified(model, tmp_path)) == ["Add():sum"]


def test_a_branch_may_return_a_sequence(tmp_path: Path) -> None:
    out = helper.make_tensor_sequence_value_info("t", F32, [1, 3])
    make = node("SequenceConstruct", ["x", "x"], ["t"])
    body = helper.make_graph([make], "body", [], [out])
    seq = helper.make_tensor_sequence_value_info("y", F32, [1, 3])
    model = onnx_model([choice(body, body)], [info("x", 1, 3)], [seq], YES)

    assert [str(n.op) for n in simplified(model, tmp_path).nodes] == ["SequenceConstruct"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (node("Transpose", ["x"], ["t"], name="turn", perm=[5, 6]), "turn: .*no order"),
        (
            node("Flatten", ["x"], ["t"], axis=9),
            "if/y: If: there is no axis 9",
        ),
    ],
    ids=["unfit", "senseless"],
)
def test_a_branch_that_makes_no_sense_is_the_models_fault(
    bad: onnx.NodeProto, message: str, tmp_path: Path
) -> None:
    body = branch(bad, out="t")
    model = onnx_model([choice(body, body)], [info("x", 1, 3)], [info("y", 1, 3)], YES)
    graph = load(save(model, tmp_path)).graph

    with pytest.raises(ModelError, match=message):
        Pipeline(lossless()).run(graph)


SILERO = DATA / "models/audio/silero_vad_16k_op15.onnx"


@pytest.mark.skipif(not SILERO.exists(), reason="the model is not at hand; set EDGEC_DATA")
def test_a_real_model_is_left_without_branches() -> None:
    shapes = {"input": (1, 512), "state": (2, 1, 128)}
    graph = load(SILERO, shapes).graph
    after, _ = Pipeline(lossless()).run(graph)

    def ifs(g: Graph) -> int:
        return sum(isinstance(n.op, Opaque) and n.op.op_type == "If" for n in g.nodes)

    assert (ifs(graph), ifs(after)) == (3, 0)


# ---- functions


def function(
    name: str, nodes: list[onnx.NodeProto], inputs: list[str], output: str, **more: Any
) -> onnx.FunctionProto:
    opsets = [helper.make_opsetid("", more.pop("opset", 18)), helper.make_opsetid("my", 1)]
    return helper.make_function("my", name, inputs, [output], nodes, opsets, **more)


def calling(*nodes: onnx.NodeProto, functions: list[onnx.FunctionProto]) -> onnx.ModelProto:
    return onnx_model(
        nodes, [info("x", 1, 3)], [info("y", 1, 3)], domains={"my": 1}, functions=functions
    )


def call(function: str, inputs: list[str], output: str, **more: Any) -> onnx.NodeProto:
    return node(function, inputs, [output], domain="my", **more)


def test_nodes_of_functions_are_typed_and_named_after_the_call(tmp_path: Path) -> None:
    body = [node("Add", ["a", "b"], ["t"], name="sum"), node("Relu", ["t"], ["c"])]
    block = function("Block", body, ["a", "b"], "c")
    twice = function(
        "Twice",
        [call("Block", ["a", "a"], "t", name="lower"), call("Block", ["t", "a"], "c")],
        ["a"],
        "c",
    )
    model = calling(call("Twice", ["x"], "y", name="net"), functions=[block, twice])

    graph = load(save(model, tmp_path)).graph
    verify(graph)
    assert layers(graph) == [
        "Add():net/lower/sum",
        "Relu():net/lower/Relu_1",
        "Add():net/Block_1/sum",
        "Relu():net/Block_1/Relu_1",
    ]
    simplified(model, tmp_path)


def test_a_function_written_for_an_older_opset(tmp_path: Path) -> None:
    block = function("Block", [node("Relu", ["a"], ["b"])], ["a"], "b", opset=17)

    assert layers(simplified(calling(call("Block", ["x"], "y"), functions=[block]), tmp_path))


def test_attributes_of_functions(tmp_path: Path) -> None:
    leaky = node("LeakyRelu", ["a"], ["b"])
    reference = leaky.attribute.add()
    reference.name, reference.ref_attr_name, reference.type = "alpha", "slope", 1
    given = function("Given", [leaky], ["a"], "b", attributes=["slope"])
    default = function(
        "Default", [leaky], ["a"], "b", attribute_protos=[helper.make_attribute("slope", 0.25)]
    )
    nodes = [
        call("Given", ["x"], "p", slope=0.5),
        call("Given", ["p"], "q"),
        call("Default", ["q"], "y"),
    ]

    graph = simplified(calling(*nodes, functions=[given, default]), tmp_path)
    slopes = [str(n.op) for n in graph.nodes]
    assert slopes == ["LeakyRelu(alpha=0.5)", "LeakyRelu()", "LeakyRelu(alpha=0.25)"]


def test_bodies_inside_of_functions_are_renamed(tmp_path: Path) -> None:
    body = [
        node("Abs", ["a"], ["t"]),
        choice(
            branch(node("Mul", ["t", "k"], ["u"]), call("Sign", ["u"], "v"), out="v", k=X),
            branch(node("Neg", ["a"], ["v"]), out="v"),
            out="b",
            condition="flag",
        ),
    ]
    pick = function("Pick", body, ["a", "flag"], "b")
    sign = function("Sign", [node("Sign", ["t"], ["u"])], ["t"], "u")
    nodes = [call("Pick", ["x", "c"], "t"), call("Pick", ["t", "c"], "y")]
    model = calling(*nodes, functions=[pick, sign])
    model.graph.input.append(info("c", dtype=BOOL))

    graph = simplified(model, tmp_path, x=X, c=np.array(True))
    assert [str(n.op) for n in graph.nodes] == ["Abs()", "If", "Abs()", "If"]


def test_a_function_may_return_what_it_was_given(tmp_path: Path) -> None:
    block = function("Block", [node("Relu", ["a"], ["b"])], ["a"], "a")
    nodes = [call("Block", ["x"], "t"), node("Neg", ["t"], ["y"])]
    model = calling(*nodes, functions=[block])
    inline.inline(Path("net.onnx"), model)

    assert [n.op_type for n in model.graph.node] == ["Relu", "Identity", "Neg"]
    assert list(model.graph.node[1].input) == ["x"]


def test_a_function_that_calls_itself_is_refused() -> None:
    block = function("Block", [call("Block", ["a"], "b")], ["a"], "b")
    model = calling(call("Block", ["x"], "y"), functions=[block])

    with pytest.raises(ModelError, match="a function Block that calls itself"):
        inline.inline(Path("net.onnx"), model)


def test_functions_that_multiply_without_bound_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inline, "_MOST_NODES", 1000)
    functions = [function("F0", [node("Relu", ["a"], ["b"])], ["a"], "b")]
    for k in range(1, 30):
        body = [call(f"F{k - 1}", ["a"], "t"), call(f"F{k - 1}", ["t"], "b")]
        functions.append(function(f"F{k}", body, ["a"], "b"))
    model = calling(call("F29", ["x"], "y"), functions=functions)

    with pytest.raises(UnsupportedError, match="more than 1000 nodes"):
        inline.inline(Path("net.onnx"), model)

"""Files as they may arrive: broken or hostile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgec.errors import EdgecError, ModelError, UnsupportedError
from edgec.evaluate import OnnxSession, evaluate, ort_session
from edgec.frontend import load
from edgec.frontend.files import dense_array_of
from edgec.ir import Array, verify
from tests.models import info, onnx_model, save, unranked

RELU = helper.make_node("Relu", ["x"], ["y"], name="act")


def simple() -> onnx.ModelProto:
    return onnx_model([RELU], [info("x", 1, 3)], [info("y", 1, 3)])


def message_of(path: Path, kind: type[EdgecError] = ModelError) -> str:
    with pytest.raises(EdgecError) as caught:
        load(path)
    assert type(caught.value) is kind
    return str(caught.value)


# ---- what is no model


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, world\n" * 9, "is not an ONNX model, or it is cut off"),
        (bytes(range(256)) * 4, "is not an ONNX model, or it is cut off"),
        (b"\x08\x08", "it has no graph with outputs"),
        (simple().SerializeToString()[:-9], "is not an ONNX model"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(40), "is not an ONNX model"),
    ],
    ids=["empty", "text", "bytes", "no-graph", "cut-off", "tflite"],
)
def test_refuses_a_file_that_is_no_model(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)

    assert message in message_of(path)


def test_refuses_a_folder(tmp_path: Path) -> None:
    assert message_of(tmp_path) == f"{tmp_path} is a folder, not an ONNX file"


def test_refuses_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"

    assert message_of(path) == f"cannot read {path}: No such file or directory"


def test_refuses_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(simple().SerializeToString().replace(b"\x12\x01y", b"\x12\x01\xff"))

    assert message_of(path) == f"{path} is not a valid ONNX model: a name in it is not UTF-8"


def test_takes_a_comment_that_is_no_text(tmp_path: Path) -> None:
    model = simple()
    model.doc_string = "comment"
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString().replace(b"comment", b"c\xffmment"))

    assert len(load(path).graph.nodes) == 1


@pytest.mark.parametrize(
    ("opset", "message"),
    [
        (5, "uses opset 5, in which Relu had another meaning than since opset 7"),
        (999, "uses opset 999, but the installed onnx"),
    ],
)
def test_refuses_an_opset_it_cannot_read(opset: int, message: str, tmp_path: Path) -> None:
    model = simple()
    model.opset_import[0].version = opset
    text = message_of(save(model, tmp_path))

    assert message in text
    assert "export the model again" in text


@pytest.mark.parametrize(
    ("versions", "message"),
    [((-(2**40),), f"there is no opset -{2**40}"), ((18, 17), "it names the opsets 18, 17")],
)
def test_refuses_opsets_that_make_no_sense(
    versions: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    model = simple()
    del model.opset_import[:]
    for version, domain in zip(versions, ("", "ai.onnx"), strict=False):
        model.opset_import.add(domain=domain, version=version)

    assert message in message_of(save(model, tmp_path))


def test_takes_an_opset_that_is_named_twice(tmp_path: Path) -> None:
    node = helper.make_node("Loop", ["n", "", "x"], ["y"], body=_body())
    model = onnx_model([node], [info("x", 3)], ["y"], {"n": np.array(2)}, opset=13)
    model.opset_import.add(domain="ai.onnx", version=13)

    assert len(load(save(model, tmp_path)).graph.nodes) == 1


def test_a_model_that_cannot_be_raised_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node(
            "Resize", ["a", "roi", "scales"], ["y"]
        ),  # which says so otherwise today
    ]
    inputs = [info("x", 1, 1, 4, 4), info("scales", 4)]
    model = onnx_model(nodes, inputs, ["y"], {"roi": np.zeros(0, np.float32)}, opset=12)
    model.graph.input.append(info("roi", 0, dtype=TensorProto.INT64))  # it holds floats

    text = message_of(save(model, tmp_path))
    assert "cannot be raised to opset 18: [TypeInferenceError]" in text


def _body() -> onnx.GraphProto:
    nodes = [
        helper.make_node("Identity", ["c"], ["d"]),
        helper.make_node("ReduceMax", ["v"], ["m"]),  # has another form in the newer opset
        helper.make_node("Add", ["v", "m"], ["w"]),
    ]
    kinds = {"i": TensorProto.INT64, "c": TensorProto.BOOL, "d": TensorProto.BOOL}
    ends = {n: unranked(n, kinds.get(n, TensorProto.FLOAT)) for n in "icvdw"}
    return helper.make_graph(nodes, "body", [ends[n] for n in "icv"], [ends[n] for n in "dw"])


def test_refuses_an_attribute_that_refers_to_nothing(tmp_path: Path) -> None:
    model = simple()
    attribute = model.graph.node[0].attribute.add(name="alpha", ref_attr_name="beta")
    attribute.type = onnx.AttributeProto.FLOAT

    assert "attribute alpha refers to beta of no function" in message_of(save(model, tmp_path))


def test_refuses_operators_that_do_not_exist(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Frobnicate", ["x"], ["a"], name="first"),
        helper.make_node("Upsample", ["a", "a"], ["b"], name="second"),
        helper.make_node("Gelu", ["b"], ["y"]),
    ]
    text = message_of(save(onnx_model(nodes, [info("x", 3)], ["y"]), tmp_path))

    assert text.splitlines()[1:] == [
        "  first: there is no operator Frobnicate in opset 18",
        "  second: there is no operator Upsample in opset 18",  # deprecated since 10
        "  y: there is no operator Gelu in opset 18",  # only from 20 on
    ]


op = helper.make_node
BROKEN: dict[str, list[onnx.NodeProto]] = {
    "missing attribute": [op("MaxPool", ["x"], ["y"], name="pool")],
    "unknown attribute": [op("Relu", ["x"], ["y"], frob=1)],
    "unsorted": [op("Relu", ["a"], ["y"]), op("Relu", ["x"], ["a"])],
    "cyclic": [op("Add", ["x", "y"], ["y"])],
    "defined twice": [op("Relu", ["x"], ["y"]), op("Relu", ["x"], ["y"])],
    "input redefined": [op("Relu", ["x"], ["x"]), op("Relu", ["x"], ["y"])],
    "no such input": [op("Relu", ["nowhere"], ["y"])],
    "too few inputs": [op("Conv", ["x"], ["y"])],
    "no such axis": [op("ReduceMean", ["x", "nine"], ["y"])],
    "axis of concat": [op("Concat", ["x", "x"], ["y"], axis=7)],
    "axis of squeeze": [op("Squeeze", ["x", "nine"], ["y"])],
    "squeeze of a long axis": [op("Squeeze", ["x", "one"], ["y"])],
    "axis of unsqueeze": [op("Unsqueeze", ["x", "nine"], ["y"])],
    "a fraction of an axis": [op("Unsqueeze", ["x", "half"], ["y"])],
    "unsqueeze twice": [op("Unsqueeze", ["x", "ones"], ["y"])],
    "axis of flatten": [op("Flatten", ["x"], ["y"], axis=7)],
    "axis of slice": [op("Slice", ["x", "one", "nine", "nine"], ["y"])],
    "perm": [op("Transpose", ["x"], ["y"], perm=[0, 0, 1, 2])],
    "pads too short": [op("Pad", ["x", "one"], ["y"])],
    "reshape": [op("Reshape", ["x", "nine"], ["y"])],
    "reshape beyond": [op("Reshape", ["x", "zeros"], ["y"])],
    "misfit": [op("Conv", ["x", "w"], ["y"], name="conv")],
    "misfit of an untyped node": [op("Expand", ["x", "nine"], ["y"], name="conv")],
    "no output": [op("Relu", ["x"], ["other"])],
}  # fmt: skip


@pytest.mark.parametrize("nodes", BROKEN.values(), ids=BROKEN)
def test_refuses_a_model_that_makes_no_sense(
    nodes: list[onnx.NodeProto], tmp_path: Path
) -> None:
    all_arrays: dict[str, Array] = {
        "one": np.array([1]),
        "nine": np.array([9]),
        "ones": np.array([1, 1]),
        "half": np.array([0.5], np.float32),
        "zeros": np.array([0, 0, 0, 0, 0]),
        "w": np.ones((2, 5, 3, 3), np.float32),
    }
    used = {name for node in nodes for name in node.input}
    arrays = {name: a for name, a in all_arrays.items() if name in used}
    path = save(onnx_model(nodes, [info("x", 1, 3, 4, 4)], ["y"], arrays), tmp_path)

    assert str(path) in message_of(path)


def test_names_the_layer_whose_inputs_do_not_fit(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="stem/conv")
    arrays = {"w": np.ones((2, 5, 3, 3), np.float32)}
    path = save(onnx_model([node], [info("x", 1, 3, 4, 4)], ["y"], arrays), tmp_path)

    assert message_of(path) == (
        f"{path} has a node whose inputs do not fit\n"
        "  stem/conv: Conv()(%x: f32[1,3,4,4], %w: f32[2,5,3,3]): "
        "x has 3 channels, w expects 5"
    )


def test_names_the_layer_with_weights_that_are_not_numbers(tmp_path: Path) -> None:
    bad = np.array([1, np.nan], np.float32)
    nodes = [
        helper.make_node("Add", ["x", "good"], ["a"], name="fine"),
        helper.make_node("Mul", ["a", "bad"], ["b"], name="first"),
        helper.make_node("Sub", ["b", "bad"], ["y"], name="second"),
    ]
    good = np.array([np.inf, -np.inf], np.float32)  # unusual, but numbers
    model = onnx_model(nodes, [info("x", 2)], ["y"], {"good": good, "bad": bad})
    path = save(model, tmp_path)

    assert message_of(path) == (
        f"{path} has weights that are not numbers\n"
        "  first: constant 'bad' has NaN in it\n"
        "  second: constant 'bad' has NaN in it"
    )


def test_takes_nan_where_nobody_reads_it(tmp_path: Path) -> None:
    model = onnx_model([RELU], [info("x", 2)], ["y"], {"dead": np.array([np.nan], np.float32)})

    assert not load(save(model, tmp_path)).graph.constants


def test_half_precision_weights_may_overflow_in_sum(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "w"], ["y"])
    w = np.full(99, 60000, np.float16)
    model = onnx_model([node], [info("x", 99, dtype=10)], [unranked("y", 10)], {"w": w})

    assert len(load(save(model, tmp_path)).graph.nodes) == 1


@pytest.mark.parametrize("dtype", [0, 1000])
def test_refuses_an_input_without_a_known_type(dtype: int, tmp_path: Path) -> None:
    model = simple()
    model.graph.input[0].type.tensor_type.elem_type = dtype

    message_of(save(model, tmp_path))


def sparse(dims: Sequence[int], indices: Array) -> onnx.ModelProto:
    """A product with a sparse weight, whose values are 1, 2, ..."""
    values = numpy_helper.from_array(np.arange(1, len(indices) + 1, dtype=np.float32), "w")
    where = numpy_helper.from_array(indices, "i")
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    model = onnx_model([node], [info("x", 1, 3)], ["y"])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, where, dims))
    return model


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]], ids=["flat", "by axis"])
def test_writes_sparse_weights_out(indices: list[int], tmp_path: Path) -> None:
    path = save(sparse([2, 3], np.array(indices, np.int64)), tmp_path)
    graph = load(path).graph

    np.testing.assert_array_equal(graph.constants["w"].array, [[0, 1, 0], [0, 0, 2]])
    assert [v.name for v in graph.inputs] == ["x"]
    x = np.full((1, 3), 2, np.float32)
    want = OnnxSession(ort_session(str(path))).run({"x": x})["y"]
    np.testing.assert_array_equal(evaluate(graph, {"x": x})["y"], want)


def test_refuses_sparse_weights_that_would_fill_the_memory(tmp_path: Path) -> None:
    path = save(sparse([2**20, 2**20], np.array([7], np.int64)), tmp_path)

    assert message_of(path, UnsupportedError) == (
        "sparse tensor 'w' would need 4398046511104 bytes written out, more than 1073741824"
    )


def test_refuses_sparse_weights_outside_of_their_shape(tmp_path: Path) -> None:
    tensor = sparse([2, 3], np.array([6], np.int64)).graph.sparse_initializer[0]

    with pytest.raises(ModelError, match="its indices do not fit its shape"):
        dense_array_of(tensor, tmp_path)


# ---- anything at all


def everything() -> bytes:
    """A small model with a bit of everything."""
    rng = np.random.default_rng(0)
    then = helper.make_graph(
        [helper.make_node("Relu", ["b"], ["t"])], "then", [], [unranked("t")]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["b"], ["e"])], "else", [], [unranked("e")]
    )
    shape = numpy_helper.from_array(np.array([1, -1]), "k")
    nodes = [
        helper.make_node("Constant", [], ["k"], value=shape),
        helper.make_node("Conv", ["x", "w", "bias"], ["a"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["a", "", "six"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["m"], kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
        helper.make_node("If", ["flag"], ["i"], then_branch=then, else_branch=other),
        helper.make_node("Concat", ["m", "i"], ["c"], axis=1),
        helper.make_node("Pad", ["c", "pads"], ["p"]),
        helper.make_node("ReduceMean", ["p"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Reshape", ["mean", "k"], ["r"]),
        helper.make_node("Gemm", ["r", "g"], ["h"], transB=1, alpha=0.5),
        helper.make_node("QuantizeLinear", ["h", "scale", "zero"], ["q"], axis=0),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    arrays: dict[str, Array] = {
        "w": rng.standard_normal((2, 3, 3, 3)).astype(np.float32),
        "bias": np.ones(2, np.float32),
        "six": np.array(6, np.float32),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "g": np.ones((3, 4), np.float32),
        "scale": np.array(0.5, np.float32),
        "zero": np.array(0, np.int8),
    }
    inputs = [info("x", "N", 3, 4, 4), info("flag", dtype=TensorProto.BOOL)]
    data: bytes = onnx_model(nodes, inputs, ["y"], arrays, opset=17).SerializeToString()
    return data


WHOLE = everything()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """The model with a few bytes changed, dropped or doubled."""
    data = bytearray(WHOLE)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(["set", "flip", "drop", "double"])):
            case "set":
                data[at] = draw(st.integers(0, 255))
            case "flip":
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "drop":
                del data[at : at + draw(st.integers(1, 8))]
            case _:
                start = draw(st.integers(0, len(data) - 1))
                data[at:at] = data[start : start + draw(st.integers(1, 30))]
    return bytes(data)


def test_the_whole_model_loads(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(WHOLE)

    assert len(load(path).graph.nodes) == 11


@settings(max_examples=300)
@given(data=mutated())
def test_damage_is_refused_or_harmless(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(data)
    try:
        graph = load(path).graph
    except EdgecError:
        return
    verify(graph)
    assert str(graph)

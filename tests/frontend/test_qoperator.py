"""Operators on integers with their scales: what they become, and what they keep computing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from edgec.compiler import CompileOptions, compile_model
from edgec.errors import EdgecError, UnsupportedError
from edgec.evaluate import OnnxSession, evaluate, ort_session
from edgec.frontend import load
from edgec.ir import Array, DType, Graph
from edgec.numerics import relative_error
from edgec.ops import Dequantize, Opaque, Quantize
from edgec.passes import simplify
from tests.forms import in_qoperators, model_path
from tests.models import info, onnx_model, save, unranked

MICROSOFT = "com.microsoft"


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def stored(dtype: str, *shape: int, seed: int = 0) -> Array:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(low, high, shape, endpoint=True).astype(dtype)


def grid(dtype: str, scale: float, zero: int = 10) -> tuple[Array, Array]:
    """A scale, and a zero point so far above the lowest number."""
    return np.array(scale, np.float32), np.array(np.iinfo(dtype).min + zero, dtype)


def layer(dtype: str, w: Array, axis: int, *, bias: bool = True) -> list[Array]:
    """The inputs of a layer whose weights have one scale an output."""
    n = w.shape[axis]
    scales = np.asarray(rng().uniform(0.001, 0.01, n), np.float32)
    b = [np.asarray(rng().integers(-5000, 5000, n), np.int32)] if bias else []
    return [*grid(dtype, 0.02, 100), w, scales, np.zeros(n, w.dtype), *b, *grid(dtype, 0.05)]


def model(
    op_type: str,
    x: Array,
    inputs: list[Any],
    *,
    domain: str = MICROSOFT,
    at: int = 0,
    real: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node: `inputs` are constants, between which comes `x`."""
    names = [f"c{k}" if a is not None else "" for k, a in enumerate(inputs)]
    arrays = {n: a for n, a in zip(names, inputs, strict=True) if n}
    names.insert(at, "x")
    node = helper.make_node(op_type, names, ["y"], "layer", domain=domain, **attributes)
    code = helper.np_dtype_to_tensor_dtype(x.dtype)
    # Nothing is said of the output's shape: onnx knows nothing of other domains.
    out = unranked("y", 1 if real else code)
    return onnx_model(
        [node], [info("x", *x.shape, dtype=code)], [out], arrays, domains={MICROSOFT: 1}
    )


def case(name: str, dtype: str) -> tuple[onnx.ModelProto, Array]:
    image, rows = stored(dtype, 1, 4, 9, 9), stored(dtype, 12, 16)
    other = [stored(dtype, 1, 16, seed=1), *grid(dtype, 0.04, 90)]
    x_grid, y_grid = grid(dtype, 0.0313, 120), grid(dtype, 0.0517, 99)
    w = rng().integers(-63, 64, (6, 4, 3, 3)).astype(np.int8)
    matrix = rng().integers(-63, 64, (16, 5)).astype(np.int8)
    match name:
        case "QLinearConv":
            *inputs, bias, scale, zero = layer(dtype, w, 0)
            made = model(name, image, [*inputs, scale, zero, bias], domain="", pads=[1] * 4)
            return made, image
        case "QLinearMatMul":
            inputs = layer(dtype, matrix, 1, bias=False)
            return model(name, rows, inputs, domain=""), rows
        case "QGemm":
            return model(name, rows, layer(dtype, matrix, 1)), rows
        case "QGemm, transposed":
            w = np.ascontiguousarray(matrix.T)
            inputs = layer(dtype, w, 0)
            return model("QGemm", rows, inputs, transB=1, alpha=0.5), rows
        case "QLinearAdd" | "QLinearMul":
            return model(name, rows, [*x_grid, *other, *y_grid]), rows
        case "QLinearConcat":
            return model(name, rows, [*y_grid, *x_grid, *other], at=2, axis=0), rows
        case "QLinearWhere":
            condition = stored("int8", 12, 16) > 0
            return model(name, rows, [condition, *x_grid, *other, *y_grid], at=1), rows
        case "QLinearAveragePool":
            made = model(name, image, [*x_grid, *y_grid], kernel_shape=[3, 3], pads=[1] * 4)
            return made, image
        case "QLinearGlobalAveragePool":
            fine = grid(dtype, 0.00317, 99)
            return model(name, image, [*x_grid, *fine], channels_last=0), image
        case "QLinearLeakyRelu":
            return model(name, rows, [*x_grid, *y_grid], alpha=0.2), rows
        case "QLinearSigmoid":
            return model(name, rows, [*x_grid, *grid(dtype, 1 / 256, 0)]), rows
        case "QLinearSoftmax":
            inputs = [*x_grid, *grid(dtype, 1 / 256, 0)]
            return model(name, rows, inputs, opset=13, axis=0), rows
        case "QLinearSoftmax, of the last axis":
            inputs = [*x_grid, *grid(dtype, 1 / 256, 0)]
            deep = stored(dtype, 3, 4, 5)
            return model("QLinearSoftmax", deep, inputs, opset=12), deep
        case "QLinearSoftmax, of old":
            inputs = [*grid(dtype, 0.0713, 120), *grid(dtype, 1 / 256, 0)]
            return model("QLinearSoftmax", image, inputs, opset=12, axis=2), image
    raise AssertionError(name)


CASES = [
    "QLinearConv", "QLinearMatMul", "QGemm", "QGemm, transposed", "QLinearAdd", "QLinearMul",
    "QLinearConcat", "QLinearWhere", "QLinearAveragePool",
    "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax",
    "QLinearSoftmax, of the last axis", "QLinearSoftmax, of old",
]  # fmt: skip


def names(graph: Graph) -> list[str]:
    return [str(n.op).split("(")[0] for n in graph.nodes]


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_what_the_runtimes_kernel_does(
    name: str, dtype: str, tmp_path: Path
) -> None:
    """At most one step apart, and hardly anywhere: a tie may fall the other way."""
    made, x = case(name, dtype)
    path = save(made, tmp_path)
    graph = load(path).graph

    want = OnnxSession(ort_session(str(path))).run({"x": x})["y"].astype(np.int32)
    got = evaluate(graph, {"x": x})["y"].astype(np.int32)

    assert want.shape == got.shape
    assert np.ptp(want) > 20
    assert np.abs(want - got).max() <= 1
    assert np.mean(want != got) < 0.01
    if name != "QLinearSoftmax, of old":  # over the axes that were flattened
        assert not any(isinstance(n.op, Opaque) for n in graph.nodes)
        assert names(graph)[-1] == "Quantize"
        assert names(graph).count("Dequantize") == len(graph.nodes) - 2
    assert {n.origin for n in graph.nodes} == {("layer",)}


def test_scales_are_the_models_own(tmp_path: Path) -> None:
    made, _ = case("QLinearConv", "int8")
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in made.graph.initializer}
    graph = load(save(made, tmp_path)).graph
    x, w, b = (n.op for n in graph.nodes if isinstance(n.op, Dequantize))
    (y,) = (n.op for n in graph.nodes if isinstance(n.op, Quantize))

    assert (x.params.scale, x.params.zero_point) == ((float(np.float32(0.02)),), (-28,))
    assert w.params.scale == tuple(map(float, arrays["c3"]))
    assert (w.params.axis, b.params.axis) == (0, 0)
    assert (b.dtype, b.params.zero_point) == (DType.INT32, (0,) * 6)
    assert b.params.scale == tuple(float(np.float32(0.02) * s) for s in arrays["c3"])
    assert y.params.zero_point == (-118,)


def test_a_result_may_stay_real(tmp_path: Path) -> None:
    rows = stored("uint8", 12, 16)
    matrix = rng().integers(-63, 64, (16, 5)).astype(np.int8)
    *inputs, _, _ = layer("uint8", matrix, 1)
    path = save(model("QGemm", rows, inputs, real=True, alpha=0.5), tmp_path)
    graph = load(path).graph
    want = OnnxSession(ort_session(str(path))).run({"x": rows})

    assert names(graph)[-1] == "Gemm"
    assert relative_error(want, evaluate(graph, {"x": rows})) < 1e-6


def test_one_zero_point_for_many_scales_is_spread(tmp_path: Path) -> None:
    made, x = case("QLinearMatMul", "uint8")
    at = next(t for t in made.graph.initializer if t.name == "c4")
    at.CopyFrom(onnx.numpy_helper.from_array(np.array(3, np.int8), "c4"))
    graph = load(save(made, tmp_path)).graph
    w = [n.op for n in graph.nodes if isinstance(n.op, Dequantize)][1]

    assert w.params.zero_point == (3,) * 5
    assert evaluate(graph, {"x": x})["y"].shape == (12, 5)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_zero_points_that_are_not_given_are_zero(dtype: str, tmp_path: Path) -> None:
    """Of the type of the data, even in the result."""
    x, (scale, _) = stored(dtype, 12, 16), grid(dtype, 0.03)
    zero = np.array(0, dtype)
    got = [
        evaluate(load(save(made, tmp_path)).graph, {"x": x})["y"]
        for made in (
            model("QLinearLeakyRelu", x, [scale, None, scale], alpha=0.2),
            model("QLinearLeakyRelu", x, [scale, zero, scale, zero], alpha=0.2),
        )
    ]

    assert got[0].dtype == x.dtype
    np.testing.assert_array_equal(got[0], got[1])


def test_computed_scales_are_read_where_they_are_computed(tmp_path: Path) -> None:
    x = stored("uint8", 12, 16)
    made = model("QLinearLeakyRelu", x, [*grid("uint8", 0.03, 120), *grid("uint8", 0.05, 99)])
    made.graph.input.append(info("c0"))
    del made.graph.initializer[0]
    path = save(made, tmp_path)
    graph = load(path).graph
    feeds = {"x": x, "c0": np.array(0.04, np.float32)}
    want = OnnxSession(ort_session(str(path))).run(feeds)

    assert names(graph) == ["DequantizeLinear", "LeakyRelu", "Quantize"]
    np.testing.assert_array_equal(evaluate(graph, feeds)["y"], want["y"])


def test_operands_of_two_readers_are_dequantized_once(tmp_path: Path) -> None:
    inputs = ["x", "s", "z", "x", "s", "z", "s", "z"]
    nodes = [
        helper.make_node("QLinearAdd", inputs, ["a"], "add", domain=MICROSOFT),
        helper.make_node("QLinearMul", inputs, ["b"], "mul", domain=MICROSOFT),
    ]
    scale, zero = grid("uint8", 0.05, 100)
    made = onnx_model(
        nodes, [info("x", 3, 4, dtype=2)], [unranked("a", 2), unranked("b", 2)],
        {"s": scale, "z": zero}, domains={MICROSOFT: 1},
    )  # fmt: skip
    graph = load(save(made, tmp_path)).graph

    assert names(graph) == ["Dequantize", "Add", "Quantize", "Mul", "Quantize"]
    assert [n.layer for n in graph.nodes] == ["add", "add", "add", "mul", "mul"]


def test_new_names_keep_out_of_the_models_way(tmp_path: Path) -> None:
    made, x = case("QLinearLeakyRelu", "uint8")
    made.graph.node.append(helper.make_node("Identity", ["y"], ["x.real"]))
    made.graph.output.append(unranked("x.real", 2))
    graph = load(save(made, tmp_path)).graph
    got = evaluate(graph, {"x": x})

    np.testing.assert_array_equal(got["y"], got["x.real"])


def test_an_order_of_axes_that_no_float_operator_has_stays(tmp_path: Path) -> None:
    image = stored("uint8", 1, 9, 9, 4)
    inputs = [*grid("uint8", 0.03, 120), *grid("uint8", 0.05, 99)]
    made = model("QLinearGlobalAveragePool", image, inputs, channels_last=1)
    made.graph.output[0].CopyFrom(info("y", 1, 1, 1, 4, dtype=2))
    path = save(made, tmp_path)

    assert names(load(path).graph) == ["com.microsoft.QLinearGlobalAveragePool"]
    compile_model(path, CompileOptions(("onnxruntime",)))
    with pytest.raises(UnsupportedError) as caught:
        compile_model(path, CompileOptions(("tflite",)))
    assert str(caught.value.diagnostics[0]).startswith(
        "layer: untyped operator com.microsoft.QLinearGlobalAveragePool has no TFLite form"
    )


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_pairs_of_onnx_runtimes_own_are_those_of_the_standard(
    dtype: str, tmp_path: Path
) -> None:
    """They came before the standard's had scales by axis, and 16 bits."""
    parameters = ["s", "z"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *parameters], ["q"], domain=MICROSOFT),
        helper.make_node(
            "DequantizeLinear", ["q", *parameters], ["y"], domain=MICROSOFT, axis=1
        ),
    ]
    arrays = {"s": np.array(0.013, np.float32), "z": np.array(100, dtype)}
    path = save(onnx_model(nodes, [info("x", 3, 40)], ["y"], arrays, opset=13,
                           domains={MICROSOFT: 1}), tmp_path)  # fmt: skip
    graph = load(path).graph
    x = np.asarray(rng().uniform(-1, 1, (3, 40)), np.float32)
    want = OnnxSession(ort_session(str(path))).run({"x": x})["y"]

    known = dtype != "uint16"
    kinds = ["Quantize", "Dequantize"] if known else ["QuantizeLinear", "DequantizeLinear"]
    assert names(graph) == kinds
    np.testing.assert_array_equal(evaluate(graph, {"x": x})["y"], want)
    targets = ("onnxruntime", *(("tflite",) if dtype != "uint16" else ()))  # TFLite lacks it
    compile_model(path, CompileOptions(targets))


@pytest.mark.parametrize("name", [n for n in CASES if "," not in n])
def test_a_node_that_lacks_something_ends_in_a_clear_error(name: str, tmp_path: Path) -> None:
    """Nobody has checked the operators of other domains before."""
    made, _ = case(name, "uint8")
    (node,) = made.graph.node
    inputs = list(node.input)
    for kept in range(len(inputs)):
        del node.input[:]
        node.input.extend(inputs[:kept])
        with suppress(EdgecError):
            load(save(made, tmp_path))
        node.input.extend(["", *inputs[kept + 1 :]])
        with suppress(EdgecError):
            load(save(made, tmp_path))
    del node.attribute[:]
    with suppress(EdgecError):
        load(save(made, tmp_path))


@pytest.mark.parametrize("known", [True, False])
def test_operators_in_branches_are_read_so_too(known: bool, tmp_path: Path) -> None:
    scale, zero = grid("uint8", 0.05, 100)
    w = rng().integers(-60, 60, (3, 3, 1, 1)).astype(np.int8)
    both = ["q", "s", "z"]
    bodies = [
        [
            helper.make_node(
                "QLinearAdd", [*both, *both, "s", "z"], ["t"], "add", domain=MICROSOFT
            ),
            helper.make_node("DequantizeLinear", ["t", "s", "z"], ["t.real"]),
        ],
        [
            helper.make_node("QLinearConv", [*both, "w", "s", "wz", "s", "z"], ["e"], "conv"),
            helper.make_node("DequantizeLinear", ["e", "s", "z"], ["e.real"]),
        ],
    ]
    then, other = (
        helper.make_graph(nodes, "body", [], [info(f"{name}.real", 1, 3, 4, 4)])
        for name, nodes in zip("te", bodies, strict=True)
    )
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("If", ["c"], ["y"], "if", then_branch=then, else_branch=other),
    ]
    arrays = {"s": scale, "z": zero, "w": w, "wz": np.array(0, np.int8)}
    inputs = [info("x", 1, 3, 4, 4)]
    if known:
        arrays["c"] = np.array(True)
    else:
        inputs.append(info("c", dtype=onnx.TensorProto.BOOL))
    made = onnx_model(nodes, inputs, [info("y", 1, 3, 4, 4)], arrays, domains={MICROSOFT: 1})
    result = compile_model(save(made, tmp_path), CompileOptions(("onnxruntime", "tflite")))

    ort, lite = (set(a["operators"]) for a in result.report["artifacts"])
    assert ("Add" in ort) if known else ("If" in ort)
    assert "ADD" in lite
    assert ("CONV_2D" in lite) is not known


FORMS: Mapping[str, tuple[str, str, bool]] = {
    "int8, per channel": ("int8", "int8", True),
    "uint8 and int8, per channel": ("uint8", "int8", True),
    "uint8": ("uint8", "uint8", False),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("name", "width"), [("resnet8_cifar10_nchw", 255.0), ("kws_ds_cnn_nchw", 20.0)]
)
def test_a_real_model_in_qoperator_form_compiles_for_both_targets(
    name: str, width: float, form: str, tmp_path: Path
) -> None:
    source = model_path(name)
    if not source.exists():
        pytest.skip(f"{source} is not there; set EDGEC_DATA")
    path = in_qoperators(source, tmp_path, *FORMS[form], width=width)
    graph = load(path).graph
    assert not any(isinstance(n.op, Opaque) for n in graph.nodes)
    (x,) = graph.inputs
    feeds = {x.name: (rng().uniform(0, width, x.type.ints)).astype(np.float32)}
    want = OnnxSession(ort_session(str(path))).run(feeds)

    simple, _ = simplify(graph, feeds)
    assert relative_error(want, evaluate(simple, feeds)) <= 0.01
    result = compile_model(path, CompileOptions(("onnxruntime", "tflite")))

    by_target = {a["target"]: a for a in result.report["artifacts"]}
    ort = OnnxSession(ort_session(result.files[by_target["onnxruntime"]["file"]])).run(feeds)
    assert relative_error(want, ort) <= 0.01
    operators = by_target["tflite"]["operators"]
    if form == "uint8":  # its weights have zero points: no integer kernel takes them
        assert any("not symmetric" in d["message"] for d in by_target["tflite"]["diagnostics"])
    else:
        assert operators["QUANTIZE"] == operators["DEQUANTIZE"] == 1
    assert not set(operators) & {"DIV", "ROUND", "CAST"}

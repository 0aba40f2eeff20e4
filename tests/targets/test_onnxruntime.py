"""ONNX artifacts, and the kernels that ONNX Runtime runs them with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgec.demo
from benchmarks.models import DATA
from edgec.compiler import CompileOptions, compile_model
from edgec.errors import NumericsError
from edgec.evaluate import OnnxSession, evaluate, ort_session
from edgec.frontend import load
from edgec.ir import Array, Example, Graph, Node, Op
from edgec.ops import (
    OPS,
    Activation,
    Conv,
    Dequantize,
    FullyConnected,
    GatherND,
    GlobalAveragePool,
    MaxPool,
    Pad,
    Quantize,
    ScatterElements,
    ScatterND,
    SpaceToDepth,
    TensorScatter,
    Trilu,
)
from edgec.passes import SchemeWishes, scheme_wishes
from edgec.targets import Artifact, OnnxRuntime
from edgec.targets.onnxruntime.devices import DEVICES, Device
from tests.targets.graphs import Net, one_op, quantized, ran, random, tiny_cnn

VNNI, OLD, ARM = DEVICES
# Kernels that only move bytes: on integers where they stand, whatever the layout.
MOVES = {
    *("Concat", "DepthToSpace", "Expand", "Gather", "GatherElements", "MaxPool"),
    *("NhwcMaxPool", "Pad", "Reshape", "Slice", "Split", "Tile", "Transpose"),
}
INTEGER = {
    *("QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearConv"),
    *("QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMatMul", "QLinearMul"),
    *("QLinearSigmoid", "QLinearSoftmax"),
}

DIGITS = Path(edgec.demo.__file__).parent / "digits.onnx"


def kernels(data: bytes, feeds: Mapping[str, Array], prefix: Path) -> Counter[str]:
    """Return how often each kernel runs, as ONNX Runtime's own profile says."""
    session = ort_session(data, profile=str(prefix))
    session.run(None, dict(feeds))
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return Counter(
        event["args"]["op_name"]
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    )


def placed(
    device: Device, graph: Graph, feeds: Mapping[str, Array], scheme: str | None = None
) -> Graph:
    target = OnnxRuntime(device, wishes=scheme_wishes(scheme))
    made = quantized(graph, feeds, scheme=target.scheme())
    for step in target.finish():
        made = step.run(made)
    return made


def test_a_small_network_runs_on_integers_alone(tmp_path: Path) -> None:
    graph, feeds = tiny_cnn()
    artifact = OnnxRuntime(VNNI).compile(placed(VNNI, graph, feeds))

    found = kernels(artifact.data, feeds, tmp_path / "trace")

    assert {k: n for k, n in found.items() if k not in MOVES} == {
        "QuantizeLinear": 1,
        "QLinearConv": 2,
        "QLinearAdd": 1,
        "QLinearGlobalAveragePool": 1,
        "QGemm": 1,
        "QLinearSoftmax": 1,
        "DequantizeLinear": 1,
    }


def test_symmetric_grids_run_on_integers_alone(tmp_path: Path) -> None:
    graph, feeds = tiny_cnn()
    made = placed(VNNI, graph, feeds, "symmetric,power-of-two")
    found = kernels(OnnxRuntime(VNNI).compile(made).data, feeds, tmp_path / "trace")

    # Of conv1 and add: on these grids saturation is no ReLU.
    assert found["Clip"] == 2
    assert (found["QLinearConv"], found["QLinearAdd"], found["QLinearSoftmax"]) == (2, 1, 1)
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 1)


MODELS = [
    ("demo", DIGITS),
    *(
        (name, DATA / "models" / path)
        for name, path in (
            ("resnet8", "mlperf_tiny/resnet8_cifar10.onnx"),
            ("efficientnet_lite0", "imagenet/efficientnet_lite0.onnx"),
            ("mobilenet_v2", "imagenet/mobilenet_v2_10_224.onnx"),
        )
    ),
]


FUSED = {
    "Conv": "QLinearConv",
    "Gemm": "QGemm",
    "Add": "QLinearAdd",
    "GlobalAveragePool": "QLinearGlobalAveragePool",
    "Softmax": "QLinearSoftmax",
}


def int8(path: Path, device: str) -> tuple[bytes, dict[str, Array], Graph]:
    """Compile with ranges of three random samples: kernels do not depend on the numbers."""
    graph = load(path).graph
    (value,) = graph.inputs
    samples = {value.name: random(3, *value.type.ints[1:])}
    options = CompileOptions(
        ("onnxruntime",), "static_wi8_ai8", samples, ranges="minmax", device=device,
        verify=False, min_sqnr_db=-200,
    )  # fmt: skip
    made = compile_model(path, options)
    feeds = {name: array[:1] for name, array in samples.items()}
    return made.files[f"{path.stem}.onnx"], feeds, graph


@pytest.mark.parametrize("path", [p for _, p in MODELS], ids=[n for n, _ in MODELS])
def test_real_models_run_on_integers_alone(path: Path, tmp_path: Path) -> None:
    if not path.exists():
        pytest.skip(f"{path} is absent; set EDGEC_DATA")
    data, feeds, graph = int8(path, "x86-64-vnni")

    found = kernels(data, feeds, tmp_path / "trace")

    assert set(found) <= INTEGER | MOVES | {"QuantizeLinear", "DequantizeLinear"}
    assert found["QuantizeLinear"] == len(graph.inputs)
    assert found["DequantizeLinear"] == len(graph.outputs)
    model = onnx.load_model_from_string(data)
    written = Counter(node.op_type for node in model.graph.node)
    assert written["Conv"] >= 5
    for code, kernel in FUSED.items():
        assert found[kernel] == written[code]
    assert {entry.domain for entry in model.opset_import} == {""}
    assert {node.domain for node in model.graph.node} == {""}


def test_only_the_opset_that_is_needed_is_asked_for() -> None:
    graph, _ = tiny_cnn()

    model = onnx.load_model_from_string(OnnxRuntime(VNNI).compile(graph).data)

    assert [(e.domain, e.version) for e in model.opset_import] == [("", 18)]
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.name)
def test_artifacts_compute_what_the_graph_does(device: Device) -> None:
    graph, feeds = tiny_cnn()
    made = placed(device, graph, feeds)

    got, artifact, _ = ran(OnnxRuntime(device), made, feeds)

    # A step of the softmax, 1/256, and what a step of the scores makes of it: the kernels of
    # arm64 run here on x86, partly in float, which rounds elsewhere.
    want = evaluate(made, feeds)["classes"]
    np.testing.assert_allclose(got["classes"], want, rtol=0, atol=3 / 256)
    np.testing.assert_allclose(got["classes"], evaluate(graph, feeds)["classes"], atol=0.05)
    assert artifact.suffix == ".onnx"
    assert artifact.operators["QuantizeLinear"] > 4


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.name)
def test_weights_and_activations_are_stored_as_the_device_wants(device: Device) -> None:
    graph, feeds = tiny_cnn()
    model = onnx.load_model_from_string(
        OnnxRuntime(device).compile(placed(device, graph, feeds)).data
    )

    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    quantizers = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert {arrays[n.input[2]].dtype for n in quantizers} == {
        np.dtype(device.scheme.activation.name.lower())
    }
    weights = [a for a in arrays.values() if a.dtype == np.int8 and a.ndim > 1]
    assert len(weights) == 3
    assert {int(np.abs(w.astype(int)).max()) for w in weights} == {device.scheme.weight_max}


def test_float_models_keep_their_activations() -> None:
    graph, feeds = tiny_cnn()
    target = OnnxRuntime(VNNI)

    for step in target.finish():
        assert step.run(graph) is graph
    got, artifact, _ = ran(target, graph, feeds)

    np.testing.assert_allclose(got["classes"], evaluate(graph, feeds)["classes"], atol=1e-6)
    assert artifact.operators == {
        "Add": 1,
        "Conv": 2,
        "Gemm": 1,
        "GlobalAveragePool": 1,
        "MaxPool": 1,
        "Relu": 2,
        "Reshape": 1,
        "Softmax": 1,
    }


def test_ports_are_those_of_the_model() -> None:
    graph, _ = tiny_cnn()
    artifact = OnnxRuntime(VNNI).compile(graph)

    assert [(p.name, p.shape, p.params) for p in (*artifact.inputs, *artifact.outputs)] == [
        ("image", (1, 3, 8, 8), None),
        ("classes", (1, 5), None),
    ]


def test_the_same_graph_gives_the_same_bytes() -> None:
    graph, feeds = tiny_cnn()

    first, second = (OnnxRuntime(VNNI).compile(placed(VNNI, graph, feeds)) for _ in range(2))

    assert first.data == second.data


def test_a_file_that_the_runtime_refuses_is_a_numerics_error() -> None:
    broken = Artifact(b"not a model", ".onnx", (), (), {})

    with pytest.raises(NumericsError, match="ONNX Runtime does not take the model"):
        OnnxRuntime(VNNI).load(broken)


def test_every_graph_is_onnx() -> None:
    net = Net(x=("n", 3, 4, 4))
    net.add("front", Conv(), "x", random(2, 3, 1, 1))
    net.add("y", GlobalAveragePool(), "front")

    assert OnnxRuntime(VNNI).check(net.graph("y")) == ()
    got, _, _ = ran(OnnxRuntime(VNNI), net.graph("y"), {"x": random(5, 3, 4, 4)})
    assert got["y"].shape == (5, 2, 1, 1)


def test_reduced_range_weights_cannot_saturate_pairs_of_products() -> None:
    """Without VNNI two products u8 * s8 are added in 16 bits: 2 * 255 * 63 still fits."""
    assert 2 * 255 * OLD.scheme.weight_max <= np.iinfo(np.int16).max
    assert np.iinfo(np.int16).max < 2 * 255 * 127


def nodes(graph: Graph, kind: type[Any]) -> list[Node]:
    return [n for n in graph.nodes if isinstance(n.op, kind)]


def test_activations_are_absorbed_before_emission() -> None:
    graph, feeds = tiny_cnn()

    made = placed(VNNI, graph, feeds)

    for node in (*nodes(made, Conv), *nodes(made, FullyConnected)):
        assert node.op.activation.value == "none"  # type: ignore[attr-defined]
    assert len(nodes(made, Conv)) == 2
    assert ARM.scheme != VNNI.scheme


# ONNX Runtime 1.31 has no integer kernel for these; all but Pad are rare.
FLOAT: tuple[type[Op], ...] = (
    *(GatherND, ScatterElements, ScatterND, SpaceToDepth, TensorScatter, Trilu, Pad),
    *VNNI.scheme.floating,
)


def alone() -> list[Any]:
    found = []
    for kind in OPS:
        for i, example in enumerate(kind.examples(np.random.default_rng(0))):
            op = example.op
            fits = example.inputs[0].dtype == np.float32 and op.quant_rule() is not None
            # No grid of 256 steps ends at -1 and at 1, so nothing saturates just there.
            odd = getattr(op, "activation", None) is Activation.RELU_N1_TO_1
            if fits and not odd and not isinstance(op, (*FLOAT, Quantize, Dequantize)):
                found.append(pytest.param(example, id=f"{kind.__name__}-{i}"))
    return found


@pytest.mark.parametrize("example", alone())
def test_every_operator_fuses_with_its_pairs(example: Example, tmp_path: Path) -> None:
    graph, feeds = one_op(example.op, *example.operands)
    data = OnnxRuntime(VNNI).compile(placed(VNNI, graph, feeds)).data

    found = kernels(data, feeds, tmp_path / "trace")

    assert found.pop("QuantizeLinear") == 1
    assert found.pop("DequantizeLinear") == len(graph.outputs)
    assert set(found) <= MOVES | INTEGER


CAPTURED = """<ir_version: 8, opset_import: ["" : 17]>
net (uint8[1,6] x, bool flag) => (float[2,3] y)
    <float scale = {0.25}, uint8 zero = {7}, int64[2] shape = {2, 3}> {
    a = DequantizeLinear (x, scale, zero)
    b = Reshape (a, shape)
    y = If (flag) <
        then_branch = yes () => (float[2,3] p) { p = Relu(b) },
        else_branch = no () => (float[2,3] q) { q = Neg(b) }
    >
}
"""


def test_quantization_that_a_subgraph_reads_does_not_abort(tmp_path: Path) -> None:
    """ONNX Runtime 1.31 ends the process with all its rewrites on."""
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx.parser.parse_model(CAPTURED).SerializeToString())
    graph, target = load(path).graph, OnnxRuntime()
    feeds = {"x": np.arange(6, dtype=np.uint8)[None] + np.uint8(4), "flag": np.array(True)}

    want = evaluate(graph, feeds)["y"]
    artifact = target.compile(graph)
    np.testing.assert_array_equal(OnnxSession(ort_session(str(path))).run(feeds)["y"], want)
    np.testing.assert_array_equal(target.load(artifact).run(feeds)["y"], want)
    assert "QDQPropagationTransformer" in "".join(map(str, artifact.notes))


@pytest.mark.parametrize("ends", [(1, 0), (1, 2)], ids=["narrow", "as wide as the window"])
def test_zeros_around_the_input_of_a_max_pool_win_over_what_is_below(
    ends: tuple[int, int],
) -> None:
    """ONNX Runtime 1.31 would make them the pool's padding, or refuse the pool then."""
    net = Net(x=(1, 2, 5, 5))
    net.add("padded", Pad((0, 0, ends[0], 0, 0, 0, ends[1], 0)), "x")
    graph = net.graph(net.add("y", MaxPool((2, 2), (1, 1)), "padded"))
    x = -1 - np.abs(random(1, 2, 5, 5))

    got, _, _ = ran(OnnxRuntime(), graph, {"x": x})

    np.testing.assert_array_equal(got["y"], evaluate(graph, {"x": x})["y"])
    assert got["y"].max() == 0


def test_an_element_type_that_the_device_is_slow_with_is_told() -> None:
    graph, feeds = tiny_cnn()
    signed, unsigned = (scheme_wishes(word) for word in ("int8", "uint8"))

    def told(device: Device, wishes: SchemeWishes) -> list[str]:
        target = OnnxRuntime(device, wishes=wishes)
        artifact = target.compile(quantized(graph, feeds, scheme=target.scheme()))
        return [d.message for d in artifact.notes if "--scheme" in d.message]

    assert told(VNNI, unsigned) == told(VNNI, SchemeWishes()) == told(ARM, signed) == []
    assert told(VNNI, signed) == [
        "activations are int8 as asked for with --scheme, but x86-64-vnni is fastest with "
        f"uint8: {VNNI.why}"
    ]

"""Inputs and outputs of TFLite files: names, element types, order of axes."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from edgec.errors import UnsupportedError
from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, QuantParams
from edgec.ops import (
    Activation,
    Add,
    Clip,
    Conv,
    Dequantize,
    FullyConnected,
    MaxPool,
    Quantize,
    Relu,
    Reshape,
    Sigmoid,
    Transpose,
)
from edgec.passes import QuantizeGraph
from edgec.targets import Artifact, Tflite
from edgec.targets.tflite.flatten import FlattenChannelsLast
from edgec.targets.tflite.interface import IoDtype, IoLayout
from edgec.targets.tflite.run import interpreter
from tests.targets.graphs import Feeds, Net, calibrated, f32, quantized, ran, random, tiny_cnn

DTYPES: tuple[IoDtype, ...] = ("float32", "int8", "uint8")
LAYOUTS: tuple[IoLayout, ...] = ("keep", "nhwc")
X = random(1, 3, 5, 6)


def detector() -> Graph:
    """An image in; an image, a flattened image and its scores out."""
    net = Net(image=(1, 3, 5, 6))
    net.add("front", Conv(pad=(1, 1, 1, 1)), "image", random(4, 3, 3, 3, seed=1))
    net.add("map", Conv(), "front", random(2, 4, 1, 1, seed=2), random(2, seed=3))
    net.add("flat", Reshape((1, 60)), "map")
    net.add("scores", FullyConnected(), "flat", random(7, 60, seed=4), random(7, seed=5))
    return net.graph("map", "scores")


def compiled(graph: Graph, feeds: Feeds, **options: Any) -> tuple[dict[str, Array], Artifact]:
    target = Tflite(**options)
    for step in target.prepare():
        graph = step.run(graph)
    got, artifact, _ = ran(target, graph, feeds)
    return got, artifact


@pytest.mark.parametrize("io_layout", LAYOUTS)
@pytest.mark.parametrize("io_dtype", DTYPES)
def test_every_interface_computes_the_same(io_dtype: IoDtype, io_layout: IoLayout) -> None:
    step = FlattenChannelsLast()
    graph = quantized(step.run(detector()), {"image": X})

    got, artifact, _ = ran(Tflite(io_dtype, io_layout), graph, {"image": X})

    for name, want in evaluate(graph, {"image": X}).items():
        (port,) = (p for p in artifact.outputs if p.name == name)
        op = graph.producers[next(v for v in graph.outputs if v.name == name)].op
        assert isinstance(op, Dequantize)
        assert got[name].shape == want.shape
        assert np.abs(got[name] - want).max() <= 3 * op.params.scale[0]
        assert port.dtype is DType[io_dtype.upper()]
        zero = op.params.zero_point[0] + (128 if io_dtype == "uint8" else 0)
        expected = QuantParams(op.params.scale, (zero,))
        assert port.params == (None if io_dtype == "float32" else expected)
    nhwc = io_layout == "nhwc"
    assert artifact.inputs[0].shape == ((1, 5, 6, 3) if nhwc else (1, 3, 5, 6))
    assert artifact.outputs[0].shape == ((1, 5, 6, 2) if nhwc else (1, 2, 5, 6))
    assert artifact.operators.get("TRANSPOSE", 0) == (0 if nhwc else 2)
    assert ("DEQUANTIZE" in artifact.operators) == (io_dtype == "float32")
    assert (
        artifact.operators.get("QUANTIZE", 0) == {"float32": 1, "int8": 0, "uint8": 3}[io_dtype]
    )


@pytest.mark.parametrize("io_layout", LAYOUTS)
def test_a_float_model_keeps_its_element_type(io_layout: IoLayout) -> None:
    got, artifact = compiled(detector(), {"image": X}, io_layout=io_layout)

    for name, want in evaluate(detector(), {"image": X}).items():
        np.testing.assert_allclose(got[name], want, rtol=0, atol=1e-4 * np.abs(want).max())
    assert artifact.operators.get("TRANSPOSE", 0) == (0 if io_layout == "nhwc" else 2)


@pytest.mark.parametrize("io_layout", LAYOUTS)
def test_names_are_the_users(io_layout: IoLayout) -> None:
    graph = quantized(detector(), {"image": X})

    runtime = interpreter(Tflite(io_layout=io_layout).compile(graph).data)

    assert runtime.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["map", "scores"]}
    }
    assert [d["name"] for d in runtime.get_input_details()] == ["image"]
    assert [d["name"] for d in runtime.get_output_details()] == ["map", "scores"]
    names = [d["name"] for d in runtime.get_tensor_details() if d["name"]]
    assert len(set(names)) == len(names)


def test_the_signature_runs() -> None:
    runtime = interpreter(Tflite().compile(detector()).data)

    results = runtime.get_signature_runner()(image=X)

    want = evaluate(detector(), {"image": X})
    np.testing.assert_allclose(results["map"], want["map"], atol=1e-4)
    np.testing.assert_allclose(results["scores"], want["scores"], atol=1e-3)


@pytest.mark.parametrize("io_layout", LAYOUTS)
def test_flattening_costs_no_transpose(io_layout: IoLayout) -> None:
    graph = Graph("net", detector().inputs, detector().outputs[1:], detector().nodes,
                  detector().constants)  # fmt: skip
    step = FlattenChannelsLast()
    better = step.run(graph)

    got, artifact, _ = ran(Tflite(io_layout=io_layout), better, {"image": X})

    want = evaluate(graph, {"image": X})["scores"]
    np.testing.assert_allclose(got["scores"], want, atol=1e-4 * np.abs(want).max())
    assert artifact.operators.get("TRANSPOSE", 0) == (0 if io_layout == "nhwc" else 1)
    assert step.run(better) is better


class TestFlattenChannelsLast:
    @staticmethod
    def refused(*, net: Net, outputs: tuple[str, ...]) -> bool:
        step = FlattenChannelsLast()
        graph = net.graph(*outputs)
        return step.run(graph) is graph

    def test_keeps_a_flattening_that_something_else_reads(self) -> None:
        net = Net(x=(1, 2, 3, 3))
        net.add("front", Relu(), "x")
        net.add("flat", Reshape((1, 18)), "front")
        net.add("y", FullyConnected(), "flat", random(2, 18))

        assert self.refused(net=net, outputs=("flat", "y"))
        assert not self.refused(net=net, outputs=("y",))

    def test_keeps_one_of_a_transposed_image(self) -> None:
        net = Net(x=(1, 3, 3, 2))
        net.add("turned", Transpose((0, 3, 1, 2)), "x")
        net.add("flat", Reshape((1, 18)), "turned")
        net.add("y", FullyConnected(), "flat", random(2, 18))

        assert self.refused(net=net, outputs=("y",))

    @pytest.mark.parametrize("shape", [(1, 1, 3, 3), (1, 9, 1, 1), (2, 3, 3)])
    def test_keeps_one_without_channels_to_move(self, shape: tuple[int, ...]) -> None:
        net = Net(x=shape)
        net.add("front", Relu(), "x")
        net.add("flat", Reshape((shape[0], 9)), "front")
        net.add("y", FullyConnected(), "flat", random(2, 9))

        assert self.refused(net=net, outputs=("y",))

    def test_keeps_one_that_mixes_the_batch_in(self) -> None:
        net = Net(x=(2, 2, 3, 3))
        net.add("front", Relu(), "x")
        net.add("flat", Reshape((1, 36)), "front")
        net.add("y", FullyConnected(), "flat", random(2, 36))

        assert self.refused(net=net, outputs=("y",))

    def test_takes_a_batch(self) -> None:
        net = Net(x=(2, 2, 3, 4))
        net.add("front", MaxPool((2, 2)), "x")
        net.add("flat", Reshape((2, 12)), "front")
        net.add("y", FullyConnected(), "flat", random(3, 12))
        graph, step = net.graph("y"), FlattenChannelsLast()
        x = random(2, 2, 3, 4)

        after = step.run(graph)

        assert after is not graph
        np.testing.assert_allclose(
            evaluate(after, {"x": x})["y"], evaluate(graph, {"x": x})["y"], rtol=1e-5, atol=1e-5
        )


def check(graph: Graph, feeds: Feeds, **options: Any) -> Artifact:
    got, artifact, _ = ran(Tflite(**options), graph, feeds)
    for name, want in evaluate(graph, feeds).items():
        np.testing.assert_allclose(got[name], want, atol=1e-4)
    return artifact


@pytest.mark.parametrize("io_layout", LAYOUTS)
def test_an_output_that_is_an_input(io_layout: IoLayout) -> None:
    net = Net(image=(1, 3, 5, 6))
    net.add("y", Conv(), "image", random(2, 3, 1, 1))
    graph = net.graph("image", "y")

    artifact = check(graph, {"image": X}, io_layout=io_layout)

    runtime = interpreter(artifact.data)
    assert runtime.get_signature_list()["serving_default"] == {
        "inputs": ["image"], "outputs": ["image", "y"]
    }  # fmt: skip
    assert runtime.get_input_details()[0]["name"] == "image"


def test_an_output_that_is_a_constant() -> None:
    net = Net(x=(1, 3))
    net.add("y", Relu(), "x")
    net.const("anchors", random(2, 4))

    artifact = check(net.graph("y", "anchors"), {"x": random(1, 3)})

    assert artifact.operators["RESHAPE"] == 1  # an output is something that is computed


def test_an_output_that_other_layers_read() -> None:
    net = Net(x=(1, 3, 5, 6))
    net.add("middle", Conv(), "x", random(2, 3, 1, 1))
    net.add("end", Relu(), "middle")
    graph = net.graph("middle", "end")

    check(graph, {"x": X})
    made = quantized(graph, {"x": X})
    for io_dtype in DTYPES:
        got, _, _ = ran(Tflite(io_dtype), made, {"x": X})
        assert np.abs(got["end"] - evaluate(made, {"x": X})["end"]).max() < 0.1


def test_outputs_that_are_one_tensor_seen_twice() -> None:
    net = Net(x=(1, 3, 5, 6))
    net.add("front", Relu(), "x")
    net.add("a", Reshape((1, 3, 30)), "front")
    net.add("b", Reshape((3, 30)), "front")
    net.add("c", Transpose((0, 1, 2, 3)), "front")
    net.add("d", Clip(), "front")

    artifact = check(net.graph("front", "a", "b", "c", "d"), {"x": X})

    details = interpreter(artifact.data).get_output_details()
    assert [d["name"] for d in details] == ["front", "a", "b", "c", "d"]
    assert len({d["index"] for d in details}) == 5


def test_an_output_that_only_renames_the_axes_of_an_input() -> None:
    net = Net(x=(1, 3, 5, 6))
    net.add("y", Transpose((0, 2, 3, 1)), "x")

    check(net.graph("y"), {"x": X})
    check(net.graph("y"), {"x": X}, io_layout="nhwc")


def test_several_inputs_keep_their_order() -> None:
    net = Net(b=(1, 3, 5, 6), a=(1, 4), unused=(2,))
    net.add("front", Conv(), "b", random(4, 3, 1, 1))
    net.add("scaled", Relu(), "a")
    net.add("column", Reshape((1, 4, 1, 1)), "scaled")
    net.add("y", Add(), "front", "column")
    feeds = {"b": X, "a": random(1, 4), "unused": f32([1, 2])}

    artifact = check(net.graph("y"), feeds, io_layout="nhwc")

    assert [port.name for port in artifact.inputs] == ["b", "a", "unused"]
    assert [port.shape for port in artifact.inputs] == [(1, 5, 6, 3), (1, 4), (2,)]


def test_an_inner_value_does_not_take_the_name_of_an_output() -> None:
    net = Net(x=(1, 3, 5, 6))
    net.add("y/transposed", Conv(), "x", random(2, 3, 1, 1))
    net.add("y", Conv(), "y/transposed", random(2, 2, 1, 1))

    artifact = check(net.graph("y", "y/transposed"), {"x": X})

    details = interpreter(artifact.data).get_output_details()
    assert [d["name"] for d in details] == ["y", "y/transposed"]


def test_an_integer_interface_needs_a_quantized_model() -> None:
    graph, _ = tiny_cnn()

    with pytest.raises(UnsupportedError) as caught:
        Tflite("int8").compile(graph)

    assert str(caught.value) == (
        "--io-dtype int8 needs a quantized input\n"
        "  input image: is read by a float operator "
        "(leave it out, or quantize the model with --recipe static_wi8_ai8)"
    )
    assert caught.value.exit_code == 5


def test_an_integer_interface_needs_a_quantized_output() -> None:
    net = Net(x=(1, 3, 5, 6))
    net.add("front", Conv(activation=Activation.RELU), "x", random(2, 3, 1, 1))
    net.add("y", Clip(0.1, 0.7), "front")
    graph = quantized(net.graph("y"), {"x": X})

    with pytest.raises(UnsupportedError, match="--io-dtype uint8 needs a quantized output"):
        Tflite("uint8").compile(graph)


def test_an_input_that_is_dequantized_in_two_ways_is_refused() -> None:
    net = Net(DType.INT8, x=(1, 3))
    for name, scale in (("a", 0.25), ("b", 0.5)):
        net.add(name, Dequantize(QuantParams((scale,), (0,))), "x")

    with pytest.raises(UnsupportedError, match="input x: is dequantized in 2 ways"):
        Tflite().compile(net.graph("a", "b"))


def test_ports_translate_both_ways() -> None:
    net = Net(x=(1, 3, 5, 6))
    net.add("y", Sigmoid(), net.add("front", Conv(), "x", random(2, 3, 1, 1)))
    made = quantized(net.graph("y"), {"x": X})

    _, artifact, runner = ran(Tflite("uint8", "nhwc"), made, {"x": X})

    stored = runner.encode({"x": X})["x"]
    (port,) = artifact.inputs
    assert stored.dtype == np.uint8
    assert stored.shape == (1, 5, 6, 3)
    assert port.params is not None
    np.testing.assert_allclose(port.decode(stored), X, atol=port.params.scale[0] / 2 + 1e-6)
    raw = runner.raw({"x": stored})["y"]
    assert raw.dtype == np.uint8
    assert artifact.outputs[0].params == QuantParams((1 / 256,), (0,))


@pytest.mark.parametrize("wide", [(), ("front",), ("scores",), ("front", "map", "scores")])
@pytest.mark.parametrize("io_dtype", get_args(IoDtype))
def test_an_interface_may_have_other_bits_than_the_layers(
    io_dtype: IoDtype, wide: tuple[str, ...]
) -> None:
    graph = FlattenChannelsLast().run(detector())
    feeds = {"image": X}
    target = Tflite(io_dtype)
    made = QuantizeGraph(calibrated(graph, feeds), target.scheme(), wide=wide).run(graph)

    got, artifact, _ = ran(target, made, feeds)

    assert {p.dtype for p in (*artifact.inputs, *artifact.outputs)} == {DType[io_dtype.upper()]}
    for name, want in evaluate(graph, feeds).items():
        assert np.abs(got[name] - want).max() < 0.03 * np.abs(want).max()


@pytest.mark.parametrize("io_dtype", ["int8", "uint8"])
def test_an_input_that_is_read_in_two_ways_is_stored_once(io_dtype: IoDtype) -> None:
    net = Net(x=(1, 3, 4, 4))
    net.add("a", Conv(), "x", random(2, 3, 1, 1))
    net.add("b", Conv(), "x", random(2, 3, 1, 1, seed=1))
    net.add("c", Conv(), "x", random(2, 3, 1, 1, seed=2))
    graph, feeds = net.graph("a", "b", "c"), {"x": random(1, 3, 4, 4)}
    step = QuantizeGraph(calibrated(graph, feeds), Tflite().scheme(), wide=("a",))

    got, artifact, _ = ran(Tflite(io_dtype), step.run(graph), feeds)

    assert artifact.inputs[0].params is not None
    assert artifact.inputs[0].params.scale[0] < 2 * np.abs(feeds["x"]).max() / 250
    for name, want in evaluate(graph, feeds).items():
        assert np.abs(got[name] - want).max() < 0.03 * np.abs(want).max()


def test_an_interface_of_other_bits_reaches_as_far() -> None:
    graph, feeds = FlattenChannelsLast().run(detector()), {"image": X}
    ranges = calibrated(graph, feeds)
    made = QuantizeGraph(ranges, wide=("front", "map", "scores")).run(graph)
    wide, narrow, unsigned = (
        Tflite(io).compile(made).inputs[0].params for io in ("int16", "int8", "uint8")
    )

    assert wide is not None
    assert narrow == QuantParams((float(np.float32(wide.scale[0] * 32767 / 127)),), (0,))
    assert unsigned == QuantParams(narrow.scale, (128,))


def test_an_input_that_is_read_in_two_ways_is_stored_as_asked_for() -> None:
    net = Net(x=(1, 3, 4, 4))
    net.add("a", Conv(), "x", random(2, 3, 1, 1))
    net.add("b", Conv(), "x", random(2, 3, 1, 1, seed=1))
    graph, feeds = net.graph("a", "b"), {"x": random(1, 3, 4, 4)}
    made = QuantizeGraph(calibrated(graph, feeds), wide=("a",)).run(graph)
    grids = {n.op.dtype: n.op.params for n in made.nodes
             if isinstance(n.op, Quantize) and n.inputs[0].name == "x"}  # fmt: skip

    assert Tflite("int8").compile(made).inputs[0].params == grids[DType.INT8]
    assert Tflite("int16").compile(made).inputs[0].params == grids[DType.INT16]

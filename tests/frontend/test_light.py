"""Large files whose weights stay in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgec.errors import ModelError
from edgec.evaluate import evaluate
from edgec.frontend import load
from edgec.frontend.light import LEAST_BYTES, light
from edgec.frontend.opset import opset_of, raised
from edgec.ir import OPSET
from tests.models import info, onnx_model, save

SIDE = 600  # a matrix that makes the file a large one


def weights(shape: tuple[int, ...] = (SIDE, SIDE), dtype: Any = np.float32) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def product(**arrays: Any) -> onnx.ModelProto:
    """x @ w + b, with more weights that nothing reads."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
    ]
    given = {"w": weights(), "b": weights((SIDE,)), **arrays}
    return onnx_model(nodes, [info("x", 1, SIDE)], ["y"], given)


def references(data: bytes | None) -> dict[str, dict[str, str]]:
    """What each initializer without its data refers to."""
    assert data is not None
    model = onnx.ModelProto.FromString(data)
    return {
        t.name: {e.key: e.value for e in t.external_data}
        for t in model.graph.initializer
        if t.data_location == t.EXTERNAL
    }


def test_large_weights_are_cut_out_and_found_where_they_are() -> None:
    model = product()
    data = model.SerializeToString()
    found = references(light(memoryview(data), "net.onnx"))

    assert list(found) == ["w"]  # b is small
    at, size = int(found["w"]["offset"]), int(found["w"]["length"])
    assert found["w"]["location"] == "net.onnx"
    assert data[at : at + size] == weights().tobytes()


def test_nothing_else_changes() -> None:
    model = product()
    model.metadata_props.add(key="author", value="nobody")
    cut = onnx.ModelProto.FromString(light(memoryview(model.SerializeToString()), "f") or b"")
    for tensor in cut.graph.initializer:
        if tensor.name == "w":
            tensor.CopyFrom(numpy_helper.from_array(weights(), "w"))

    assert cut == model


def test_a_large_model_computes_the_same_and_keeps_its_weights_in_the_file(
    tmp_path: Path,
) -> None:
    graph = load(save(product(), tmp_path)).graph
    x = weights((1, SIDE))

    assert isinstance(graph.constants["w"].array, np.memmap)
    (y,) = evaluate(graph, {"x": x}).values()
    np.testing.assert_allclose(y, x @ weights() + weights((SIDE,)), rtol=1e-3, atol=1e-3)


def test_a_large_model_behind_a_link_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = save(product(), tmp_path / "real")
    link = tmp_path / "link.onnx"
    link.symlink_to(target)

    graph = load(link).graph
    assert not isinstance(graph.constants["w"].array, np.memmap)
    assert np.array_equal(graph.constants["w"].array, weights())


def test_a_small_model_is_read_whole(tmp_path: Path) -> None:
    matrix = weights((64, 64))
    assert matrix.nbytes >= LEAST_BYTES
    model = onnx_model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [info("x", 1, 64)],
        ["y"],
        {"w": matrix},
    )

    assert not isinstance(load(save(model, tmp_path)).graph.constants["w"].array, np.memmap)


def test_references_survive_the_rise_to_a_newer_opset(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("ReduceSum", ["m"], ["y"], axes=[1], keepdims=1),
    ]
    model = onnx_model(nodes, [info("x", 1, SIDE)], ["y"], {"w": weights()}, opset=11)
    data = light(memoryview(model.SerializeToString()), "net.onnx")
    cut = onnx.ModelProto.FromString(data or b"")
    new = raised(tmp_path / "net.onnx", cut)

    assert opset_of(new) == OPSET
    assert references(new.SerializeToString()) == references(data)
    assert [v.name for v in new.graph.input] == ["x"]


@pytest.mark.parametrize("odd", ["length", "twice", "packed", "placed", "type"])
def test_an_odd_tensor_is_left_for_the_ordinary_way(odd: str) -> None:
    model = product()
    (w,) = (t for t in model.graph.initializer if t.name == "w")
    tail = b""
    match odd:
        case "length":
            w.dims[0] += 1
        case "packed":
            w.data_type = onnx.TensorProto.INT4
        case "placed":
            w.data_location = onnx.TensorProto.DEFAULT
        case "type":
            w.data_type = 99
        case "twice":
            tail = onnx.TensorProto(raw_data=b"\0" * LEAST_BYTES).SerializeToString()
    data = model.SerializeToString()
    if tail:  # a tensor is merged from both of its halves
        (w,) = (t for t in model.graph.initializer if t.name == "w")
        whole = w.SerializeToString()
        one, two = framed(5, whole), framed(5, whole + tail)
        graph = model.graph.SerializeToString()
        data = data.replace(framed(7, graph), framed(7, graph.replace(one, two)))

    assert references(light(memoryview(data), "f")) == {}


def framed(field: int, contents: bytes) -> bytes:
    head, length = [field << 3 | 2], len(contents)
    while length > 127:
        head.append(length % 128 + 128)
        length //= 128
    return bytes([*head, length]) + contents


def test_what_is_no_message_is_left_to_the_parser(tmp_path: Path) -> None:
    data = product().SerializeToString()
    for broken in (data[:-5], data[:3], b"\xff" * 20, b"\x3b\x00", data + b"\x0a"):
        assert light(memoryview(broken), "f") is None
    path = tmp_path / "net.onnx"
    path.write_bytes(data[:-5])

    with pytest.raises(ModelError, match="cut off"):
        load(path)

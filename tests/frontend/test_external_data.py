"""Models with their data beside them, where they are said to be or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgec.errors import ModelError
from edgec.evaluate import evaluate
from edgec.frontend import load
from tests.models import info, onnx_model, save, unranked

RELU = helper.make_node("Relu", ["x"], ["y"], name="act")


def message_of(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load(path)
    return str(caught.value)


def with_external(
    folder: Path,
    location: str = "weights.bin",
    entries: dict[str, str] | None = None,
    dims: tuple[int, ...] = (2, 3),
    data_type: int = TensorProto.FLOAT,
) -> Path:
    """A model ``y = x + w`` whose `w` lies elsewhere."""
    model = onnx_model([helper.make_node("Add", ["x", "w"], ["y"])], [info("x", 2, 3)], ["y"])
    tensor = TensorProto(name="w", data_type=data_type, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **(entries or {})}.items():
        tensor.external_data.add(key=key, value=value)
    model.graph.initializer.append(tensor)
    return save(model, folder)


def test_maps_data_beside_the_model(tmp_path: Path) -> None:
    want = np.arange(8, dtype=np.float32)
    (tmp_path / "weights.bin").write_bytes(want.tobytes())
    graph = load(with_external(tmp_path, entries={"offset": "8", "length": "24"})).graph

    array = graph.constants["w"].array
    assert isinstance(array.base, np.memmap)
    assert not array.flags.writeable
    np.testing.assert_array_equal(array, want[2:].reshape(2, 3))
    got = evaluate(graph, {"x": np.zeros((2, 3), np.float32)})["y"]
    np.testing.assert_array_equal(got, want[2:].reshape(2, 3))


def test_takes_data_in_a_folder_below(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w").write_bytes(bytes(24))

    assert load(with_external(tmp_path, "sub/w")).graph.constants["w"].array.shape == (2, 3)


def test_takes_an_empty_tensor_from_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"")
    path = with_external(tmp_path, dims=(0, 3))
    message_of(path)  # x of 2 rows does not fit, but the data were read


def beside(name: str, location: str = "w") -> TensorProto:
    """A tensor of three numbers in a file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[3])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def with_inner(folder: Path, location: str = "w") -> Path:
    """A model whose nodes hold tensors in a file beside it: a constant, and a body's weight."""
    (folder / "w").write_bytes(np.arange(3, dtype=np.float32).tobytes())
    body = helper.make_graph(
        [helper.make_node("Add", ["x", "v"], ["t"])],
        "body",
        [],
        [unranked("t")],
        [beside("v", location)],
    )
    nodes = [
        helper.make_node("Constant", [], ["k"], value=beside("k", location)),
        helper.make_node("If", ["c"], ["b"], then_branch=body, else_branch=body),
        helper.make_node("Mul", ["b", "k"], ["y"]),
    ]
    inputs = [info("x", 1, 3), info("c", dtype=TensorProto.BOOL)]
    return save(onnx_model(nodes, inputs, ["y"]), folder)


def test_reads_what_nodes_have_beside_the_model(tmp_path: Path) -> None:
    graph = load(with_inner(tmp_path)).graph

    feeds = {"x": np.ones((1, 3), np.float32), "c": np.array(True)}
    np.testing.assert_array_equal(evaluate(graph, feeds)["y"], [[0, 2, 6]])


def test_refuses_what_nodes_have_elsewhere(tmp_path: Path) -> None:
    assert "outside the model's folder; refused" in message_of(with_inner(tmp_path, "../w"))


def test_raises_the_opset_of_a_model_with_external_data(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(np.ones(6, np.float32).tobytes())
    path = with_external(tmp_path)
    model = onnx.load(path, load_external_data=False)
    model.graph.node.append(helper.make_node("ReduceMax", ["y"], ["z"], axes=[1], keepdims=0))
    model.graph.output[0].name = "z"
    model.opset_import[0].version = 12
    graph = load(save(model, tmp_path)).graph

    got = evaluate(graph, {"x": np.zeros((2, 3), np.float32)})["z"]
    np.testing.assert_array_equal(got, np.ones(2, np.float32))


def outside(folder: Path) -> Path:
    """A model folder, with a secret beside it."""
    (folder / "secret.bin").write_bytes(bytes(99))
    inside = folder / "model"
    inside.mkdir()
    return inside


LOCATIONS: dict[str, Callable[[Path], str]] = {
    "parent": lambda folder: "../secret.bin",
    "absolute": lambda folder: str(folder.parent / "secret.bin"),
    "detour": lambda folder: "sub/../../secret.bin",
    "nothing": lambda folder: "",
    "the folder": lambda folder: ".",
}


@pytest.mark.parametrize("location", LOCATIONS.values(), ids=LOCATIONS)
def test_refuses_data_outside_the_folder(
    location: Callable[[Path], str], tmp_path: Path
) -> None:
    folder = outside(tmp_path)
    path = with_external(folder, location(folder))

    text = message_of(path)
    assert "refused" in text or "is not a valid ONNX model" in text


def test_refuses_a_link_out_of_the_folder(tmp_path: Path) -> None:
    folder = outside(tmp_path)
    try:
        (folder / "weights.bin").symlink_to(tmp_path / "secret.bin")
    except OSError:
        pytest.skip("this file system has no links")

    text = message_of(with_external(folder))
    assert "outside the model's folder; refused" in text or "not a valid ONNX model" in text


HUGE = str(2**62)
BAD_DATA: dict[str, tuple[dict[str, str], tuple[int, ...], int]] = {
    "too short": ({}, (2, 4), TensorProto.FLOAT),
    "offset behind the end": ({"offset": "24"}, (2, 3), TensorProto.FLOAT),
    "negative offset": ({"offset": "-4"}, (2, 3), TensorProto.FLOAT),
    "huge offset": ({"offset": HUGE}, (2, 3), TensorProto.FLOAT),
    "offset that is no number": ({"offset": "4x"}, (2, 3), TensorProto.FLOAT),
    "length too short": ({"length": "8"}, (2, 3), TensorProto.FLOAT),
    "length that is no number": ({"length": ""}, (2, 3), TensorProto.FLOAT),
    "negative dims": ({}, (-2, -3), TensorProto.FLOAT),
    "dims that overflow": ({}, (2**32, 2**32), TensorProto.FLOAT),
    "strings": ({}, (3,), TensorProto.STRING),
    "packed": ({}, (2, 3), TensorProto.INT4),
    "no type": ({}, (2, 3), TensorProto.UNDEFINED),
    "unknown type": ({}, (2, 3), 77),
}


@pytest.mark.parametrize(("entries", "dims", "data_type"), BAD_DATA.values(), ids=BAD_DATA)
def test_refuses_data_that_do_not_fit(
    entries: dict[str, str], dims: tuple[int, ...], data_type: int, tmp_path: Path
) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(24))

    message_of(with_external(tmp_path, "weights.bin", entries, dims, data_type))


@pytest.mark.parametrize("location", ["missing.bin", "weights.bin\0", "w" * 999])
def test_refuses_data_that_are_not_there(location: str, tmp_path: Path) -> None:
    message_of(with_external(tmp_path, location))

"""Binding of input shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import pytest
from onnx import helper

from edgec.errors import EdgecError, ModelError, OptionError
from edgec.frontend import Loaded, load
from edgec.ir import Dim
from tests.models import info, onnx_model, save, unranked


def model(*inputs: onnx.ValueInfoProto) -> onnx.ModelProto:
    """Every input through a Relu."""
    nodes = [helper.make_node("Relu", [v.name], [f"{v.name}.out"]) for v in inputs]
    return onnx_model(nodes, inputs, [f"{v.name}.out" for v in inputs])


def bound(
    folder: Path, inputs: Sequence[onnx.ValueInfoProto], **shapes: Sequence[Dim]
) -> tuple[list[str], set[str]]:
    """Types of the inputs, and which of them have a batch."""
    loaded: Loaded = load(save(model(*inputs), folder), shapes)
    return [str(v.type) for v in loaded.graph.inputs], set(loaded.batched)


def refused(
    kind: type[EdgecError],
    folder: Path,
    inputs: Sequence[onnx.ValueInfoProto],
    shapes: Mapping[str, Sequence[Dim]],
) -> str:
    with pytest.raises(EdgecError) as caught:
        load(save(model(*inputs), folder), shapes)
    assert type(caught.value) is kind
    return str(caught.value)


def test_an_open_batch_is_one(tmp_path: Path) -> None:
    assert bound(tmp_path, [info("x", "N", 3)]) == (["f32[1,3]"], {"x"})


@pytest.mark.parametrize("length", [None, "?", -1])
def test_a_batch_without_a_name_is_one(length: int | str | None, tmp_path: Path) -> None:
    inputs = [info("a", length, 3), info("b", length, 4)]

    assert bound(tmp_path, inputs) == (["f32[1,3]", "f32[1,4]"], {"a", "b"})


def test_a_length_of_zero_is_zero(tmp_path: Path) -> None:
    inputs = [info("x", 0, 3)]

    assert bound(tmp_path, inputs) == (["f32[0,3]"], set())
    assert bound(tmp_path, inputs, x=(0, 3)) == (["f32[0,3]"], set())


def test_the_same_name_means_the_same_length_elsewhere(tmp_path: Path) -> None:
    inputs = [info("a", "N", 3), info("b", 4, "N")]

    assert bound(tmp_path, inputs) == (["f32[1,3]", "f32[4,1]"], {"a"})
    assert bound(tmp_path, inputs, a=(5, 3))[0] == ["f32[5,3]", "f32[4,5]"]
    assert bound(tmp_path, inputs, b=(4, 7))[0] == ["f32[7,3]", "f32[4,7]"]


def test_lengths_without_a_name_have_nothing_to_do_with_each_other(tmp_path: Path) -> None:
    inputs = [info("a", 1, "?"), info("b", 1, "?")]

    assert bound(tmp_path, inputs, a=(1, 2), b=(1, 3))[0] == ["f32[1,2]", "f32[1,3]"]


def test_a_batch_of_one_and_a_fixed_batch(tmp_path: Path) -> None:
    assert bound(tmp_path, [info("a", 1, 3), info("b", 2, 3)])[1] == {"a"}


def test_a_given_batch_stays_a_batch(tmp_path: Path) -> None:
    assert bound(tmp_path, [info("x", "N", 3)], x=(8, 3)) == (["f32[8,3]"], {"x"})


def test_a_name_may_be_kept(tmp_path: Path) -> None:
    loaded = load(save(model(info("x", "N", 3)), tmp_path), {"x": ("N", 3)})

    assert str(loaded.graph.inputs[0].type) == "f32[N,3]"
    assert str(loaded.graph.outputs[0].type) == "f32[N,3]"


def test_a_scalar_has_no_batch(tmp_path: Path) -> None:
    assert bound(tmp_path, [info("x")]) == (["f32[]"], set())


def test_a_shape_may_be_given_where_there_is_none(tmp_path: Path) -> None:
    assert bound(tmp_path, [unranked("x")], x=(2, 3))[0] == ["f32[2,3]"]


def test_open_axes_are_named_with_what_to_do(tmp_path: Path) -> None:
    inputs = [info("a", "N", 3, "h", "w"), info("b", 1, -1), unranked("c"), info("d", 1, 2)]

    assert refused(ModelError, tmp_path, inputs, {}) == (
        "the shape of an input is not known\n"
        "  input a: axis 2 (h) and axis 3 (w) can be of any length "
        "(fix it, as in --shape a=1,3,224,224)\n"
        "  input b: axis 1 (b.1) can be of any length (fix it, as in --shape b=1,224)\n"
        "  input c: has no shape at all (give it with --shape)"
    )


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"y": (1, 3)}, "--shape names 'y', but the inputs are a, b"),
        ({"a": (1, 4)}, "--shape a=1,4 contradicts the model, which has [N,3]"),
        ({"a": (1, 3, 1)}, "--shape a=1,3,1 contradicts the model, which has [N,3]"),
        ({"a": (0, 3)}, "--shape a=0,3: every length must be at least 1"),
        ({"a": (-1, 3)}, "--shape a=-1,3: every length must be at least 1"),
        ({"a": (2, 3), "b": (4, 5)}, "--shape makes 'N' 5 for input b, and 2 elsewhere"),
    ],
)
def test_shapes_that_do_not_fit(
    shapes: Mapping[str, Sequence[Dim]], message: str, tmp_path: Path
) -> None:
    inputs = [info("a", "N", 3), info("b", 4, "N")]

    assert refused(OptionError, tmp_path, inputs, shapes) == message


def test_one_name_with_two_lengths_in_one_shape(tmp_path: Path) -> None:
    message = refused(OptionError, tmp_path, [info("a", "N", "N")], {"a": (2, 3)})

    assert message == "--shape a=2,3 makes 'N' both 2 and 3"

"""What a measurement depends on is in its name."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgec.compression.keys import key_of, numbers
from edgec.ir import Array, DType, Graph, TensorType
from edgec.ops import Opaque
from tests.targets.graphs import Net, random

SAMPLES: list[dict[str, Array]] = [{"x": random(1, 4)}]


def scaled(threshold: float) -> Graph:
    """An operator of another domain, whose text does not tell what it does."""
    node = onnx.NodeProto(op_type="Binarizer", domain="ai.onnx.ml")
    node.attribute.append(onnx.helper.make_attribute("threshold", threshold))
    out = TensorType(DType.FLOAT32, (1, 4))
    proto = node.SerializeToString(deterministic=True)
    net = Net(x=(1, 4))
    return net.graph(net.add("y", Opaque("Binarizer", "ai.onnx.ml", 1, proto, (out,)), "x"))


def test_it_tells_apart_what_untyped_operators_do() -> None:
    assert key_of(scaled(0.5), SAMPLES, "a") == key_of(scaled(0.5), SAMPLES, "a")
    assert key_of(scaled(0.5), SAMPLES, "a") != key_of(scaled(0.6), SAMPLES, "a")


@pytest.mark.parametrize("other", [np.float32(1), np.float64(0)])
def test_it_tells_apart_samples_by_contents_and_type(other: np.generic) -> None:
    samples: list[dict[str, Array]] = [{"x": (SAMPLES[0]["x"] + other)}]
    assert key_of(scaled(1.0), SAMPLES, "a") != key_of(scaled(1.0), samples, "a")


def test_it_begins_with_what_is_measured() -> None:
    key = key_of(scaled(1.0), SAMPLES, "channels by 4")
    assert key.startswith("channels-")
    assert key != key_of(scaled(1.0), SAMPLES, "channels by 8")


def test_what_makes_no_sense_in_a_file_is_left_out() -> None:
    held = {"a": 0.5, "b": "x", "c": float("nan"), "d": -1, "e": 2, "f": None}
    assert numbers(held) == {"a": 0.5, "e": 2.0}

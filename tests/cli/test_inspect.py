from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import Result
from onnx import helper, numpy_helper

from edgec.demo import MODEL

Run = Callable[..., Result]


def save(path: Path, text: str, **weights: np.ndarray) -> None:
    model = onnx.parser.parse_model(text)
    for name, array in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(model, path)


QDQ = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 4] x) => (float[N, 2] y) {
   xq = QuantizeLinear(x, sx, zx)
   xd = DequantizeLinear(xq, sx, zx)
   wd = DequantizeLinear(w, sx, zx)
   m = MatMul(xd, wd)
   y = Relu(m)
}
"""


@pytest.fixture
def qdq(tmp_path: Path) -> str:
    scale, zero = np.float32(0.5), np.int8(0)
    save(
        tmp_path / "qdq.onnx",
        QDQ,
        sx=np.array(scale),
        zx=np.array(zero),
        w=np.ones((4, 2), np.int8),
    )
    return "qdq.onnx"


def test_says_what_is_in_the_demo_model(edgec: Run) -> None:
    result = edgec("inspect", str(MODEL))

    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert lines[0].startswith("digits.onnx: ")
    assert lines[1:4] == [
        "  input image: f32[1,1,8,8]",
        "  output probabilities: f32[1,10]",
        "  quantization: none, the model is float",
    ]
    assert "Conv                       5                      5                -" in lines
    assert lines[-2:] == ["tflite takes this model", "onnxruntime takes this model"]


def test_says_it_in_json_too(edgec: Run) -> None:
    found = json.loads(edgec("inspect", str(MODEL), "--json").stdout)

    assert {"name": "Conv", "count": 5, "simplified": 5, "untyped": 0} in found["operators"]
    assert found["inputs"] == [{"name": "image", "dtype": "f32", "shape": [1, 1, 8, 8]}]
    assert found["simplified"]["nodes"] < found["nodes"]
    assert found["macs"] > 0
    assert found["targets"] == {"tflite": [], "onnxruntime": []}


def test_binds_a_shape(edgec: Run) -> None:
    result = edgec("inspect", str(MODEL), "--shape", "image=4,1,8,8")

    assert "  input image: f32[4,1,8,8]" in result.stdout


def test_shapes_that_follow_from_the_passes_are_said_to_be_unknown(
    edgec: Run, tmp_path: Path
) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[1, 2, 4, 4] x) => (float[1, 2, H, W] y) {
       two = Constant<value = int64[4] {0, 0, 1, 1}>()
       pads = Concat<axis = 0>(two, two)
       p = Pad(x, pads)
       y = Conv(p, w)
    }
    """
    save(tmp_path / "late.onnx", text, w=np.ones((2, 2, 3, 3), np.float32))

    found = json.loads(edgec("inspect", "late.onnx", "--json").stdout)
    out = edgec("inspect", "late.onnx").stdout

    assert (found["macs"], found["peak_activation_bytes"]) == (None, None)
    assert found["simplified"]["macs"] > 0
    assert [line.count("unknown") for line in out.splitlines() if line[:2] in ("as", "af")] == [
        2,
        0,
    ]


def test_recognises_a_quantized_model(edgec: Run, qdq: str) -> None:
    result = edgec("inspect", qdq)

    assert (
        "  quantization: 1 pairs of QuantizeLinear and DequantizeLinear, 1 quantized weights\n"
        in result.stdout
    )
    assert json.loads(edgec("inspect", qdq, "--json").stdout)["quantization"]["state"] == "QDQ"


def test_says_what_a_target_refuses(edgec: Run, tmp_path: Path) -> None:
    node = helper.make_node("RandomNormalLike", ["x"], ["y"], name="strange")
    x, y = (helper.make_tensor_value_info(n, 1, [1, 4]) for n in "xy")
    graph = helper.make_graph([node], "net", [x], [y])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "random.onnx",
    )

    result = edgec("inspect", "random.onnx")

    assert result.exit_code == 0
    assert "RandomNormalLike" in result.stdout
    assert "tflite refuses this model: 1 problem\n  strange: " in result.stdout
    assert result.stdout.endswith("onnxruntime takes this model\n")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "error: cannot read bad.onnx: No such file or directory\n"),
        (b"", "error: bad.onnx is empty\n"),
        (b"no model at all", "error: bad.onnx is not an ONNX model, or it is cut off: "),
    ],
)
def test_a_bad_model_is_an_error(
    edgec: Run, tmp_path: Path, data: bytes | None, message: str
) -> None:
    if data is not None:
        (tmp_path / "bad.onnx").write_bytes(data)

    result = edgec("inspect", "bad.onnx")

    assert result.exit_code == 1
    assert result.stderr.startswith(message)
    assert result.stdout == ""


def test_an_unknown_input_is_wrong_usage(edgec: Run) -> None:
    result = edgec("inspect", str(MODEL), "--shape", "imag=1,1,8,8")

    assert result.exit_code == 2
    assert result.stderr == "error: --shape names 'imag', but the inputs are image\n"


def test_lists_targets_and_passes(edgec: Run) -> None:
    from edgec.gate import TARGET_NAMES
    from edgec.passes import PASSES
    from edgec.targets import TARGETS

    targets = json.loads(edgec("targets", "--json").stdout)
    passes = json.loads(edgec("passes", "--json").stdout)

    assert [t["name"] for t in targets] == [t.name for t in TARGETS] == list(TARGET_NAMES)
    own = [p for t in TARGETS for p in (*t().prepare(), *t().finish())]
    only = [type(p).name for p in own if type(p) not in PASSES]
    assert [p["name"] for p in passes] == [*(p.name for p in PASSES), *only]
    assert all(p["description"] for p in passes)
    assert edgec("targets").stdout.splitlines()[0].split() == ["name", "description"]
    assert edgec("passes").stdout.splitlines()[0].split() == ["name", "promise", "description"]

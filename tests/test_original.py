"""The model that artifacts are compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import edgec.original
from edgec.errors import ModelError
from edgec.evaluate import Evaluator, OnnxSession, ort_session
from edgec.export import to_onnx
from edgec.frontend import Loaded, load
from edgec.ir import Graph
from edgec.ops import Opaque, Relu
from edgec.original import provable, reference
from tests.models import info, onnx_model, save
from tests.targets.graphs import Net, f32


def test_the_reference_is_the_file_itself(tmp_path: Path) -> None:
    net = Net(x=(1, 3))
    graph = net.graph(net.add("y", Relu(), "x"))

    path = tmp_path / "model.onnx"
    path.write_bytes(to_onnx(graph).SerializeToString())

    session = reference(path)

    assert session.inputs == ("x",)
    np.testing.assert_array_equal(session.run({"x": f32([[-1, 0, 2]])})["y"], [[0, 0, 2]])
    assert OnnxSession(ort_session(to_onnx(graph).SerializeToString())).outputs == ("y",)


def attention(folder: Path, kind: str = "Attention") -> Loaded:
    shape = [1, 2, 3, 4]
    node = onnx.helper.make_node(
        kind, ["q", "k", "v"][: 3 if kind == "Attention" else 1], ["y"]
    )
    infos = [info(name, *shape) for name in node.input]
    return load(save(onnx_model([node], infos, [info("y", *shape)], opset=23), folder))


REFUSAL = ModelError("no kernel")


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime takes no file, only what edgec makes of it."""

    def found(model: Path | Graph) -> OnnxSession:
        if isinstance(model, Path):
            raise REFUSAL
        return reference(model)

    monkeypatch.setattr(edgec.original, "reference", found)


@pytest.mark.usefixtures("refusing")
def test_what_the_runtime_lacks_is_proven_by_its_definition(tmp_path: Path) -> None:
    loaded = attention(tmp_path)
    rng = np.random.default_rng(0)
    feeds = {
        v.name: rng.standard_normal(v.type.ints).astype(np.float32) for v in loaded.graph.inputs
    }

    session, judge = provable(loaded)

    kinds = {n.op.op_type for n in judge.graph.nodes if isinstance(n.op, Opaque)}
    assert "Attention" not in kinds
    assert judge.model is judge.graph
    assert "with Attention written out" in judge.notes[0].message
    want = reference(loaded.path).run(feeds)["y"]
    np.testing.assert_allclose(session.run(feeds)["y"], want, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("refusing")
def test_a_refusal_without_a_way_out_stands(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as found:
        provable(attention(tmp_path, "Relu"))
    assert found.value is REFUSAL


def test_what_the_runtime_takes_is_proven_as_it_is(tmp_path: Path) -> None:
    loaded = attention(tmp_path, "Relu")

    _, judge = provable(loaded)

    assert (judge.model, judge.graph, judge.notes) == (loaded.path, loaded.graph, ())


PADDED = """<ir_version: 8, opset_import: ["" : 13]>
net (float[1,1,3,3] x) => (float[1,1,4,4] y) <int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}> {
    padded = Pad (x, pads)
    y = MaxPool <kernel_shape = [2, 2]> (padded)
}
"""


@pytest.mark.parametrize("optimize", [True, False])
def test_the_reference_goes_without_rewrites_that_change_it(
    tmp_path: Path, *, optimize: bool
) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx.parser.parse_model(PADDED).SerializeToString())

    x = np.full((1, 1, 3, 3), -2, np.float32)

    y = reference(path, optimize=optimize).run({"x": x})["y"]
    assert y.max() == 0
    assert (y[0, 0, 1:3, 1:3] == -2).all()
    y = Evaluator(load(path).graph, optimize=optimize).run({"x": x})["y"]
    assert y.max() == 0

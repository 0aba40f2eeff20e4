"""The architectures that ship with the onnx package without their weights.

Their parameters are filled with seeded random numbers, of such scale that activations neither
vanish nor explode: each file is then as large as a trained one and computes something.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = ["ARCHITECTURES", "filled", "written"]

Array = NDArray[Any]

ARCHITECTURES = {
    "alexnet": "light_bvlc_alexnet",
    "densenet121": "light_densenet121",
    "inception_v1": "light_inception_v1",
    "inception_v2": "light_inception_v2",
    "resnet50": "light_resnet50",
    "shufflenet": "light_shufflenet",
    "squeezenet": "light_squeezenet",
    "vgg19": "light_vgg19",
    "zfnet512": "light_zfnet512",
}
"""Name, and the file in the onnx package without its suffix."""

_BATCHNORM = ("scale", "bias", "mean", "variance")


def written(name: str, folder: Path) -> Path:
    """Return the file of an architecture, made in `folder` if it is not there."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(filled(name).SerializeToString(deterministic=True))
    return path


def filled(name: str) -> onnx.ModelProto:
    """Return an architecture with random weights."""
    light = Path(onnx.__file__).parent / "backend/test/data/light"
    model = onnx.load(light / f"{ARCHITECTURES[name]}.onnx")
    graph = model.graph
    shapes = dict(_parameters(graph))
    roles = _roles(graph, set(shapes))
    rng = np.random.default_rng(0)
    arrays = {key: _drawn(rng, roles[key], shape) for key, shape in shapes.items()}
    _replace(graph, arrays)
    model.ir_version = 4  # the first in which initializers need not be inputs
    _temper(model, rng)
    return model


def _parameters(graph: onnx.GraphProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of every float parameter, made in the graph or given."""
    constants = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            shape = numpy_helper.to_array(constants[node.input[0]])
            yield node.output[0], tuple(int(n) for n in shape)
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims:
            yield tensor.name, tuple(tensor.dims)


def _roles(graph: onnx.GraphProto, names: set[str]) -> dict[str, str]:
    """Return what each parameter is to the operator that reads it."""
    source = {name: name for name in names}
    roles = dict.fromkeys(names, "unread")
    for node in graph.node:
        if node.op_type == "Unsqueeze" and node.input[0] in source:
            source[node.output[0]] = source[node.input[0]]
            continue
        for position, read in enumerate(node.input):
            if read not in source:
                continue
            match node.op_type:
                case "BatchNormalization":
                    role = _BATCHNORM[position - 1]
                case "Mul":
                    role = "scale"
                case "Conv":
                    role = "weight" if position == 1 else "bias"
                case "Gemm":
                    transposed = any(a.name == "transB" and a.i for a in node.attribute)
                    weight = "weight" if transposed else "weight [in, out]"
                    role = weight if position == 1 else "bias"
                case _:
                    role = "bias"
            roles[source[read]] = role
    return roles


def _drawn(rng: np.random.Generator, role: str, shape: tuple[int, ...]) -> Array:
    """Return random numbers as training leaves them: He scale, and norms around one."""
    if role in ("scale", "variance"):
        return rng.uniform(0.8, 1.2, shape).astype(np.float32)
    spread = 0.1
    if role.startswith("weight"):
        inputs = shape[0] if role.endswith("out]") else int(np.prod(shape[1:]))
        spread = np.sqrt(2 / inputs)
    return rng.standard_normal(shape, np.float32) * np.float32(spread)


def _replace(graph: onnx.GraphProto, arrays: dict[str, Array]) -> None:
    """Make every parameter an initializer, and the image the only input."""
    nodes = [n for n in graph.node if n.op_type != "ConstantOfShape"]
    read = {name for node in nodes for name in node.input}
    kept = [t for t in graph.initializer if t.name not in arrays and t.name in read]
    made = [numpy_helper.from_array(a, n) for n, a in arrays.items() if n in read]
    given = {t.name for t in graph.initializer} | set(arrays)
    inputs = [v for v in graph.input if v.name not in given]
    for field, values in (("node", nodes), ("initializer", [*kept, *made]), ("input", inputs)):
        graph.ClearField(field)
        getattr(graph, field).extend(values)


def _temper(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Scale the last layer so that its outputs have a spread of about two.

    The networks end in a softmax, which would otherwise be one at one class, zero elsewhere.
    """
    import onnxruntime as ort

    layers = [n for n in model.graph.node if n.op_type in ("Conv", "Gemm")]
    last = layers[-1]
    light = onnx.ModelProto()
    light.CopyFrom(model)
    light.graph.output.append(helper.make_tensor_value_info(last.output[0], 1, None))
    session = ort.InferenceSession(
        light.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (image,) = session.get_inputs()
    found = session.run([last.output[0]], {image.name: rng.random(image.shape, np.float32)})
    for tensor in model.graph.initializer:
        if tensor.name == last.input[1]:
            scaled = numpy_helper.to_array(tensor) * np.float32(2 / found[0].std())
            tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))

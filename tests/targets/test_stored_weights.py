"""Recipes whose activations stay floats, in both runtimes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgec.compiler import CompileOptions, Result, compile_model
from edgec.demo import MODEL, TEST
from edgec.evaluate import evaluate
from edgec.ir import DType, Graph, QuantParams
from edgec.numerics import relative_error
from edgec.ops import (
    Activation,
    Conv,
    DepthwiseConv,
    Dequantize,
    FullyConnected,
    Reshape,
)
from edgec.passes import RECIPES, Pipeline, StoreWeights, recipe_named
from edgec.targets import OnnxRuntime, Tflite
from tests.targets.graphs import Net, random
from tests.targets.test_tflite_models import operators

FLOATING = [r.name for r in RECIPES if not r.needs_samples]


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    def compiled(recipe: str | None) -> Result:
        return compile_model(
            MODEL, CompileOptions(("tflite", "onnxruntime"), recipe, evaluation=TEST)
        )

    return {str(name): compiled(name) for name in (None, *FLOATING)}


@pytest.mark.parametrize("recipe", FLOATING)
def test_no_samples_are_needed_and_files_are_smaller(
    results: dict[str, Result], recipe: str
) -> None:
    plain, made = results["None"], results[recipe]
    share = {16: 0.62, 8: 0.42, 4: 0.42}[recipe_named(recipe).weight_bits]

    for name in ("digits.tflite", "digits.onnx"):
        assert len(made.files[name]) < share * len(plain.files[name])
    for artifact in made.report["artifacts"]:
        assert artifact["quantized"]
        assert artifact["accuracy"] > 0.97
        assert artifact["fidelity"]["sqnr_db"] > 20
    json.dumps(made.report)


def test_same_input_same_bytes(results: dict[str, Result]) -> None:
    again = compile_model(MODEL, CompileOptions(("tflite", "onnxruntime"), "fp16", prove=False))

    for name in ("digits.tflite", "digits.onnx"):
        assert again.files[name] == results["fp16"].files[name]


def net() -> Graph:
    n = Net(x=(1, 16, 8, 8))
    op = Conv(pad=(1, 1, 1, 1), activation=Activation.RELU)
    a = n.add("a", op, "x", random(32, 16, 3, 3), random(32))
    b = n.add("b", DepthwiseConv(), a, random(32, 1, 6, 6, seed=1), random(32, seed=2))
    c = n.add("c", Reshape((1, 288)), b)
    return n.graph(n.add("d", FullyConnected(), c, random(40, 288, seed=4), random(40, seed=5)))


FEEDS = {"x": random(1, 16, 8, 8, seed=9)}


def made_for(target: Tflite | OnnxRuntime) -> Graph:
    recipe = target.recipe
    step = StoreWeights(recipe.weight_bits, target.scheme().per_channel, target.scheme().packed)
    graph, _ = Pipeline((step,)).run(net())
    return graph


@pytest.mark.parametrize(
    ("recipe", "unpacked", "kinds"),
    [
        ("fp16", 3, {schema.TensorType.FLOAT16}),
        ("weight_only_wi8_afp32", 3, {schema.TensorType.INT8}),
        ("weight_only_wi4_afp32", 3, {schema.TensorType.INT4, schema.TensorType.INT8}),
        ("dynamic_wi8_afp32", 1, {schema.TensorType.INT8}),
    ],
)
def test_tflite_reads_weights_as_they_are_stored(
    recipe: str, unpacked: int, kinds: set[int]
) -> None:
    target = Tflite(io_layout="nhwc", recipe=recipe_named(recipe))
    graph = made_for(target)
    artifact = target.compile(graph)
    file = schema.ModelT.InitFromObj(schema.Model.GetRootAs(artifact.data))
    tensors = file.subgraphs[0].tensors
    small = {schema.TensorType.FLOAT32, schema.TensorType.INT32}

    assert artifact.operators.get("DEQUANTIZE", 0) == unpacked
    assert {t.type for t in tensors} - small == kinds
    error = relative_error(evaluate(graph, FEEDS), target.load(artifact).run(FEEDS))
    assert error < (0.03 if recipe.startswith("dynamic") else 1e-5)


def test_dynamic_layers_take_activations_of_any_range() -> None:
    target = Tflite(recipe=recipe_named("dynamic_wi8_afp32"))
    artifact = target.compile(made_for(target))
    file = schema.ModelT.InitFromObj(schema.Model.GetRootAs(artifact.data))
    options = [op.builtinOptions for op in file.subgraphs[0].operators]
    (layer,) = (o for o in options if isinstance(o, schema.FullyConnectedOptionsT))

    assert layer.asymmetricQuantizeInputs


@pytest.mark.parametrize("recipe", ["fp16", "weight_only_wi8_afp32", "dynamic_wi8_afp32"])
def test_xnnpack_takes_all_of_it(recipe: str) -> None:
    target = Tflite(io_layout="nhwc", recipe=recipe_named(recipe))
    _, left = operators(target.compile(made_for(target)).data)

    assert left == ["DELEGATE"]


def test_onnxruntime_gets_what_it_reads_once_or_in_one_kernel() -> None:
    target = OnnxRuntime(recipe=recipe_named("weight_only_wi8_afp32"))
    graph, records = Pipeline(target.finish(), FEEDS).run(made_for(target))
    artifact = target.compile(graph)

    assert artifact.operators == {
        "Add": 1, "Cast": 2, "Conv": 2, "DequantizeLinear": 1, "MatMul": 1, "Mul": 2, "Relu": 1,
        "Reshape": 1,
    }  # fmt: skip
    (record,) = (r for r in records if r.name == "place-stored-weights")
    assert record.changed
    assert record.error is not None
    error = relative_error(evaluate(made_for(target), FEEDS), target.load(artifact).run(FEEDS))
    assert error < 0.02


def test_what_is_not_dynamic_in_onnxruntime_is_told() -> None:
    dynamic, stored = (
        OnnxRuntime(recipe=recipe_named(name)).compile(net()).notes
        for name in ("dynamic_wi8_afp32", "weight_only_wi8_afp32")
    )

    assert [d.message.partition(":")[0] for d in dynamic] == [
        "convolutions read their int8 weights as floats"
    ]
    assert stored == ()


def test_four_bits_in_onnxruntime_are_for_products() -> None:
    target = OnnxRuntime(recipe=recipe_named("weight_only_wi4_afp32"))
    graph, _ = Pipeline(target.finish()).run(made_for(target))
    types = {
        k: c.type.dtype for k, c in graph.constants.items() if c.type.dtype is not DType.FLOAT32
    }

    assert sorted(t.value for t in types.values()) == ["i4", "i8", "i8"]
    (packed,) = (graph.constants[k].array for k, t in types.items() if t is DType.INT4)
    assert packed.shape == (288, 40)
    assert int(np.abs(packed.astype(int)).max()) == 7


def test_stored_weights_of_a_model_may_have_a_zero_point() -> None:
    n = Net(x=(1, 16, 8, 8))
    stored = np.random.default_rng(0).integers(-128, 128, (8, 16, 3, 3)).astype(np.int8)
    w = n.add("w", Dequantize(QuantParams((0.02,), (5,))), stored)
    graph = n.graph(n.add("y", Conv(), "x", w))
    target = OnnxRuntime()
    after, records = Pipeline(target.finish(), FEEDS).run(graph)

    assert next(r for r in records if r.name == "place-stored-weights").changed
    assert relative_error(evaluate(graph, FEEDS), evaluate(after, FEEDS)) < 1e-5


def test_integer_layers_keep_their_pairs() -> None:
    """What ONNX Runtime computes on integers needs its weights behind a DequantizeLinear."""
    from tests.targets.graphs import quantized

    target = OnnxRuntime()
    graph = quantized(net(), FEEDS, scheme=target.scheme())
    graph, records = Pipeline(target.finish()).run(graph)

    assert not next(r for r in records if r.name == "place-stored-weights").changed

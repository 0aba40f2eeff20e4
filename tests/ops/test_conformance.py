"""Every operator, on every one of its examples, against every concern."""

from __future__ import annotations

import copy
import inspect
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from edgec.evaluate import evaluate
from edgec.export import to_onnx
from edgec.frontend import load
from edgec.ir import Array, DType, Example, Fixed, Op, Role, SameAsInput, TensorType, verify
from edgec.ops import (
    OPS,
    Activation,
    AveragePool,
    Broadcasting,
    Compress,
    Concat,
    ConstantOfShape,
    Convolution,
    ConvTranspose,
    Dequantize,
    Einsum,
    FullyConnected,
    GatherElements,
    GatherND,
    Gemm,
    GlobalLpPool,
    GlobalMaxPool,
    GridSample,
    MatMul,
    NonMaxSuppression,
    NonZero,
    Opaque,
    Pad,
    PlaceAlongAxis,
    Range,
    Recurrent,
    Reshape,
    RoiAlign,
    Shape,
    Size,
    Stft,
    SymmetricResize,
    Transpose,
    Unique,
)
from edgec.ops.control import ControlFlow
from edgec.passes import FuseActivations
from tests.models import array_type, carries_activation, graph_of

EXAMPLES = [
    (op, i, e) for op in OPS for i, e in enumerate(op.examples(np.random.default_rng(0)))
]
CASES = [pytest.param(e, id=f"{op.__name__}-{i}") for op, i, e in EXAMPLES]


def results(example: Example) -> list[Array]:
    found = evaluate(graph_of(example), {"i0": example.inputs[0]})
    return [found[v.name] for v in graph_of(example).outputs]


def result(example: Example) -> Array:
    return results(example)[0]


@pytest.mark.parametrize("example", CASES)
def test_inferred_type_is_the_type_of_the_result(example: Example) -> None:
    graph = graph_of(example)
    verify(graph)

    for array, value in zip(results(example), graph.outputs, strict=True):
        assert array_type(array).refines(value.type)
        if not isinstance(example.op, DYNAMIC):
            assert array_type(array) == value.type


# How long the results are depends on what is fed, not on its shape.
DYNAMIC = (ConstantOfShape, NonMaxSuppression, NonZero, Range, Unique)


def beyond_the_reference(example: Example) -> bool:
    """Whether onnx.reference lacks the operator, or gets this form of it wrong."""
    match example.op:
        case GlobalLpPool():
            return True
        case GlobalMaxPool():
            return example.inputs[0].ndim != 4  # the result has a wrong shape
        case GridSample(mode="cubic", padding=padding):
            return padding == "border"  # it moves the place before it reads four pixels
        case ConvTranspose(groups=groups):
            return groups > 1  # it fails
        case Pad(pads):
            return min(pads) < 0  # it only adds
        case Unique(sorted=ascending):
            return not ascending  # it fails
    return False


def is_plain(example: Example) -> bool:
    op, lengths = example.op, (*example.operands, *(None,) * 5)[4]
    odd = getattr(op, "functions", ()) or getattr(op, "input_forget", False)
    return lengths is None and not odd


@pytest.mark.parametrize("example", CASES)
def test_the_reference_implementation_of_onnx_agrees(example: Example) -> None:
    if isinstance(example.op, Recurrent) and not is_plain(example):
        return  # the reference computes with the usual functions, and sequences of one length
    model = to_onnx(graph_of(example))
    if isinstance(example.op, Dequantize):  # the reference has it from opset 19 on, unchanged
        model.opset_import[0].version = 21
    if beyond_the_reference(example):
        return
    found: Any = ReferenceEvaluator(model).run(None, {"i0": example.inputs[0]})
    for want, got in zip(found, results(example), strict=True):
        np.testing.assert_allclose(
            np.asarray(got, np.float64), np.asarray(want, np.float64), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("example", CASES)
def test_export_and_import_give_the_same_operator(example: Example, tmp_path: Path) -> None:
    graph = graph_of(example)
    path = tmp_path / "example.onnx"
    path.write_bytes(to_onnx(graph).SerializeToString())

    loaded = load(path).graph
    verify(loaded)
    assert len(loaded.nodes) == (2 if carries_activation(example.op) else 1)
    back = FuseActivations().run(loaded)
    assert str(back) == str(graph)
    if not isinstance(example.op, Opaque):  # which knows more of its output now
        assert back.nodes[0].op == example.op


@pytest.mark.parametrize("example", CASES)
def test_op_is_a_hashable_value(example: Example) -> None:
    twin = copy.deepcopy(example.op)

    assert twin == example.op
    assert hash(twin) == hash(example.op)
    assert str(twin) == str(example.op)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_examples_vary_every_attribute(op: type[Op]) -> None:
    examples = [e.op for e in op.examples(np.random.default_rng(0))]
    missing = {f.name for f in fields(op) if len({getattr(e, f.name) for e in examples}) < 2}

    if op is AveragePool:
        missing -= {"dilation"}  # not before opset 19: such nodes stay opaque
    if op is SymmetricResize:
        missing -= {"coordinates", "roi", "beyond"}  # has one way to find coordinates
    if issubclass(op, Opaque):
        missing = set()  # attributes are those of any ONNX node
    assert missing == set()


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_ops_are_concrete_and_described(op: type[Op]) -> None:
    assert not inspect.isabstract(op)
    assert op.__doc__


# ---- ties


def tied(example: Example) -> Iterator[dict[tuple[int, int], set[int]]]:
    """Yield the indices, by operand and axis, that each tie group removes together."""
    graph = graph_of(example)
    node = graph.nodes[0]
    ins, outs = [v.type for v in node.inputs], [v.type for v in node.outputs]
    edges: dict[tuple[int, int, int], set[tuple[int, int, int]]] = defaultdict(set)
    for tie in node.op.ties(ins, outs):
        for i in range((*ins, *outs)[tie.left[0]].ints[tie.left[1]]):
            start = tie.offset + i * tie.repeat
            for j in range(start, start + tie.repeat):
                edges[*tie.left, i].add((*tie.right, j))
                edges[*tie.right, j].add((*tie.left, i))
    seen: set[tuple[int, int, int]] = set()
    for first in sorted(edges):
        group, todo = set(), [first]
        while todo:
            at = todo.pop()
            if at not in group:
                group.add(at)
                todo.extend(edges[at])
        if first not in seen:
            seen |= group
            found: dict[tuple[int, int], set[int]] = defaultdict(set)
            for operand, axis, index in group:
                found[operand, axis].add(index)
            yield found


@pytest.mark.parametrize("example", CASES)
def test_ties_name_axes_that_fit(example: Example) -> None:
    node = graph_of(example).nodes[0]
    ins, outs = [v.type for v in node.inputs], [v.type for v in node.outputs]
    for tie in node.op.ties(ins, outs):
        left, right = (
            (*ins, *outs)[operand].ints[axis] for operand, axis in (tie.left, tie.right)
        )

        assert tie.left != tie.right
        assert tie.offset + left * tie.repeat <= right


@pytest.mark.parametrize("example", CASES)
def test_removing_tied_indices_slices_the_output(example: Example) -> None:
    """What a group ties together is silenced first: only then may it leave without a trace."""
    count = len(example.inputs)
    for group in tied(example):
        quiet, cut = [a.copy() for a in example.inputs], list(example.inputs)
        for (operand, axis), indices in group.items():
            if operand < count:
                where = (slice(None),) * axis + (sorted(indices),)
                quiet[operand][where] = 0
        for operand in range(count):
            cut[operand] = quiet[operand]
            for axis in range(cut[operand].ndim):
                gone = sorted(group.get((operand, axis), ()))
                cut[operand] = np.delete(cut[operand], gone, axis)
        want = result(Example(example.op, tuple(quiet)))
        for axis in range(want.ndim):
            want = np.delete(want, sorted(group.get((count, axis), ())), axis)
        if not want.size or not all(a.size for a in cut):
            continue  # that was the whole axis

        got = result(Example(example.op, tuple(cut)))
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


GROUPS = {  # how many groups of more than one index there are, and their sizes
    "Conv-0": [2, 2, 2, 3, 3, 3, 3],  # three inputs; four outputs with kernel and bias
    "DepthwiseConv-0": [4, 4, 4],
    "DepthwiseConv-2": [7, 7, 7],  # two outputs each
    "FullyConnected-0": [2] * 5 + [3] * 3,
    "BatchNorm-0": [6] * 3,
    "Add-0": [3] * (2 + 3 + 4 + 4),
    "Add-1": [2] * (2 + 4 + 4) + [3] * 3,
    "Concat-0": [2] * (2 + 4) + [3] * (1 + 3 + 3),
    "Transpose-0": [2] * (1 + 3 + 4 + 5),
    "Pad-0": [2] * (1 + 2),
    "Slice-0": [2] * (1 + 4),
    "ReduceMean-1": [2] * (1 + 3),
    "MaxPool-0": [2] * 3,
    "GlobalAveragePool-0": [2] * 3,
    "Quantize-2": [2] * (1 + 4),
    "Dequantize-0": [2] * (1 + 3 + 4),
}


@pytest.mark.parametrize("name", GROUPS)
def test_ties_say_all_that_can_be_pruned(name: str) -> None:
    example = next(e for op, i, e in EXAMPLES if f"{op.__name__}-{i}" == name)
    sizes = sorted(sum(len(v) for v in group.values()) for group in tied(example))

    assert sizes == GROUPS[name]


# ---- cost


def ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    "example",
    [c for c in CASES if isinstance(c.values[0].op, Convolution)],  # type: ignore[union-attr]
)
def test_macs_of_a_convolution_are_its_terms(example: Example) -> None:
    """On ones throughout, padding included, every output counts the terms of its sum."""
    graph = graph_of(example)
    op, w = graph.nodes[0].op, example.inputs[1]
    assert isinstance(op, Convolution)
    axes = len(op.stride)
    n, c, *size = example.inputs[0].shape
    plain = replace(op, pad=(0,) * (2 * axes), activation=Activation.NONE)
    grown = [d + op.pad[i] + op.pad[i + axes] for i, d in enumerate(size)]
    padded = ones(n, c, *grown)
    terms = result(Example(plain, (padded, ones(*w.shape))))

    node = graph.nodes[0]
    macs = op.macs([v.type for v in node.inputs], [v.type for v in node.outputs])
    assert macs == int(terms.sum())


@pytest.mark.parametrize(
    "example",
    [c for c in CASES if isinstance(c.values[0].op, FullyConnected | Gemm | MatMul)],  # type: ignore[union-attr]
)
def test_macs_of_a_product_are_its_terms(example: Example) -> None:
    op, node = example.op, graph_of(example).nodes[0]
    if isinstance(op, Gemm):
        op = replace(op, alpha=1.0)
    terms = result(Example(op, tuple(ones(*a.shape) for a in example.inputs[:2])))

    macs = op.macs([v.type for v in node.inputs], [v.type for v in node.outputs])
    assert macs == int(terms.sum())


# ---- quantization


@pytest.mark.parametrize("example", CASES)
def test_quantization_rule_tells_the_truth(example: Example) -> None:
    rule = example.op.quant_rule()
    if rule is None:
        return
    y, x = result(example), example.inputs[0]
    match rule.output:
        case Fixed(low, high):
            assert low <= y.min() <= y.max() <= high
            assert result(Example(example.op, (100 * x,))).max() > high - 0.1  # and is tight
        case SameAsInput():
            low, high = min(0, *(a.min() for a in example.inputs)), x.max()
            assert low <= y.min() <= y.max() <= max(high, *(a.max() for a in example.inputs))
    for operand, array in enumerate(example.inputs):
        axis = {Role.WEIGHT: rule.channel, Role.BIAS: 0}.get(rule.role(operand))
        if axis is not None:  # one scale for each output channel
            assert array.shape[axis] == y.shape[1]


# ---- inference where lengths are not known, or do not fit


def with_batch(example: Example) -> list[TensorType]:
    """The types of the example's inputs, with the batch called N."""
    types = [array_type(a) for a in example.inputs]
    several = isinstance(example.op, Broadcasting | Concat | Einsum)
    rank = types[0].rank
    return [
        t.with_shape(("N", *t.shape[1:])) if i == 0 or (several and t.rank == rank) else t
        for i, t in enumerate(types)
    ]


# The first axis of the result is another than that of the first operand.
UNBATCHED = (
    ControlFlow,
    *(RoiAlign, Stft, GatherElements, GatherND, Recurrent, Reshape, Shape, Size),
    *DYNAMIC,
)


def keeps_batch(op: Op) -> bool:
    match op:
        case Transpose(perm):
            return perm[0] == 0
        case Compress(axis):
            return axis is not None
        case PlaceAlongAxis(axis):
            return axis != 0
        case Gemm(trans_a=turned):
            return not turned
    return not isinstance(op, UNBATCHED)


BATCHED = [c for c in CASES if keeps_batch(c.values[0].op)]  # type: ignore[union-attr]


@pytest.mark.parametrize("example", BATCHED)
def test_a_named_batch_stays_in_front(example: Example) -> None:
    inputs = example.inputs
    if isinstance(example.op, Gemm):
        inputs = inputs[:2]  # c has rows of its own
    op = example.op
    want = op.infer(*(array_type(a) for a in inputs))
    got = op.infer(*with_batch(Example(op, inputs)))

    assert list(got) == [t.with_shape(("N", *t.shape[1:])) for t in want]


SHAPES: list[tuple[int | str, ...]] = [
    (),
    (3,),
    (1, 3),
    ("N", 3),
    (1, 3, 4),
    (1, 3, 4, 4),
    ("N", 3, "?", 4),
    (1, "C", 4, 4),
    (1, 3, 4, 4, 2),
    (0, 3, 4, 4),
]


@pytest.mark.parametrize("example", CASES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_infer_raises_nothing_but_value_errors(
    example: Example, shape: tuple[int | str, ...]
) -> None:
    types = [array_type(a) for a in example.inputs]
    for i, t in enumerate(types):
        for other in (t.with_shape(shape), TensorType(DType.INT64, shape)):
            try:
                outputs = example.op.infer(*types[:i], other, *types[i + 1 :])
            except ValueError:
                continue
            assert len(outputs) == len(graph_of(example).outputs)


@pytest.mark.parametrize("example", CASES)
def test_infer_refuses_an_operand_without_a_rank(example: Example) -> None:
    if isinstance(example.op, Opaque):
        return
    x, *others = (array_type(a) for a in example.inputs)
    try:
        outputs = example.op.infer(TensorType(x.dtype, None), *others)
    except ValueError:
        return
    assert outputs[0].dims is None  # element by element, nothing needs a rank

"""What is provably constant is not shipped: channels that never change, whatever is fed.

The file is read as a program, whose bounds tell which channels these are
(:mod:`edgec.program.bounds`), with room for how kernels differ in rounding. Then the model is
cut accordingly. All else of it stays as it was: names, order of operators, versions, options,
signature. The sums of the layers that stay are the same integers, so the outputs are, too; that
is tried in LiteRT before a smaller model is taken.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from edgec.cost import Cost
from edgec.errors import Diagnostic, EdgecError, NumericsError
from edgec.ir import Array, DType
from edgec.latency import KERNELS
from edgec.passes import PassRecord
from edgec.program import Program, Step
from edgec.program import operators as ops
from edgec.program.checking import check_layer
from edgec.program.counting import program_weight_bytes
from edgec.program.faults import Fault
from edgec.program.operators import Operator
from edgec.program.passes import Change, RemoveConstantChannels
from edgec.program.passes.ledger import ledger_line
from edgec.program.program import Layer
from edgec.program.resolving import RESOLVERS, resolve
from edgec.program.tables import ANY, read_tables
from edgec.targets.tflite import model as written
from edgec.targets.tflite.model import Model, Tensor
from edgec.targets.tflite.run import interpreter
from edgec.targets.tflite.schema import serialize

__all__ = ["without_constant_channels"]

_MOST_BYTES = 1 << 27
"""Of constants: larger models are not written twice to look at them."""
_TILE = KERNELS["tflite", True].tile
_TRIES = 3
_ROUNDING = 1  # by how many integers kernels differ: see edgec.program.bounds


def without_constant_channels(
    model: Model, price: Cost, multiple: int = _TILE
) -> tuple[Model, tuple[PassRecord, ...]]:
    """Return a model that computes the same with fewer channels, and what was done to it.

    Parameters
    ----------
    price
        Of the model as it is.
    multiple
        What the number of channels that stay is a multiple of: what kernels compute at a time.
        With other numbers, MobileNet v2 took half a percent longer in XNNPACK.

    Returns
    -------
    model
        The very same if no channel is constant.
    records
        None if the model does not compute on int8.
    """
    if not any(t.dtype is DType.INT8 and t.data is None and t.quant for t in model.tensors):
        return model, ()
    start = time.perf_counter()
    found = _smaller(model, multiple)
    seconds = time.perf_counter() - start
    name = RemoveConstantChannels.name
    record = ledger_line(name, found.changes, found.programs, price, seconds, tried=True)
    if found.remark is not None:
        record = replace(record, diagnostics=(Diagnostic(found.remark),))
    return found.model, (record,)


@dataclass(frozen=True, slots=True)
class _Found:
    """The smaller model, or the very same, and what there is to tell.

    Parameters
    ----------
    programs
        What the changes lead from and to.
    """

    model: Model
    remark: str | None = None
    changes: tuple[Change, ...] = ()
    programs: tuple[Program, Program] | None = None


def _smaller(model: Model, multiple: int) -> _Found:
    size = sum(t.data.nbytes for t in model.tensors if t.data is not None)
    if size > _MOST_BYTES:
        return _Found(model, f"constant channels are not looked for in {size:,} bytes")
    data = serialize(model)
    try:
        program = _program(model, data)
    except EdgecError as error:
        why = error.diagnostics[0].message if error.diagnostics else error.summary
        return _Found(model, f"constant channels are not looked for, as {why}")
    outcome = RemoveConstantChannels(multiple, _ROUNDING).narrowed(program)
    if outcome.program is program:
        return _Found(model)
    smaller = _cut(model, outcome.program).without_dead()
    made = serialize(smaller)
    grown = len(made) - len(data)
    fewer = sum(c.macs[0] - c.macs[1] for c in outcome.changes)
    if grown >= 0 and fewer <= 0:
        return _Found(model, "constant channels stay: the file would be no smaller without")
    if not _computes_the_same(program, data, made):
        return _Found(model, "constant channels stay: LiteRT computes something else without")
    remark = None
    if grown > 0 and program_weight_bytes(outcome.program) > program_weight_bytes(program):
        remark = (
            f"the file is {grown:,} bytes larger, for {fewer:,} multiply-accumulates fewer: "
            "layers that shared their weights have different channels now"
        )
    return _Found(smaller, remark, outcome.changes, (program, outcome.program))


@dataclass(frozen=True, slots=True)
class _Unknown(Operator):
    """What may do anything with all that it reads."""

    code: ClassVar[str] = "UNKNOWN"


def _program(model: Model, data: bytes) -> Program:
    """Return a file as a program, with all that programs do not know as unknown.

    That is so for what touches an empty tensor, too, such as a reshape to a scalar, whose shape
    is an empty list: programs have none.
    """
    tables = read_tables(data, model.name, ANY)
    tensors, steps = list(tables.tensors), []
    for entry, op in zip(tables.entries, model.operators, strict=True):
        try:
            touched = [tensors[k] for k in (*entry.inputs, *entry.outputs) if k >= 0]
            known = entry.code in RESOLVERS and all(t.size for t in touched)
            found = resolve(entry, tensors) if known else []
            for step in found:
                given = tuple(None if k < 0 else tensors[k] for k in step.inputs)
                results = tuple(tensors[k] for k in step.outputs)
                check_layer(Layer(step.op, given, results, step.layer))
        except Fault:
            found = []
        found = found or [Step(_Unknown(), entry.inputs, entry.outputs, "")]
        steps += [replace(step, layer=op.layer) for step in found]
    return Program(model.name, tuple(tensors), tuple(steps), tables.inputs, tables.outputs)


def _cut(model: Model, program: Program) -> Model:
    """Return a model with the channels that a program of the same tensors has."""
    tensors = [
        t if t.data is not None else replace(t, shape=_as_long(t.shape, now.shape))
        for t, now in zip(model.tensors, program.tensors, strict=False)
    ]
    tensors += [
        Tensor(t.name, t.dtype, t.shape, t.data, t.grid)
        for t in program.tensors[len(model.tensors) :]
    ]
    steps = {step.outputs[0]: step for step in program.steps}
    return replace(
        model,
        tensors=tensors,
        operators=[
            _cut_operator(op, steps.get(op.outputs[0]), tensors) for op in model.operators
        ],
    )


def _as_long(shape: tuple[int, ...], now: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape with the channels of another; a batch stays open."""
    return (*shape[:-1], now[-1]) if shape else shape


def _cut_operator(
    op: written.Operator, step: Step | None, tensors: list[Tensor]
) -> written.Operator:
    if step is None:
        return op
    if isinstance(step.op, (ops.Add, ops.Conv, ops.DepthwiseConv, ops.FullyConnected)):
        return replace(op, inputs=step.inputs)
    # What is unknown keeps its channels; the shape that it reads may be empty.
    if not isinstance(step.op, ops.Reshape) or op.code != "RESHAPE" or len(op.inputs) < 2:
        return op
    wanted = tensors[op.inputs[1]]
    if wanted.data is None:
        return op
    shape = tensors[op.outputs[0]].shape
    if wanted.data[-1] in (-1, shape[-1]):
        return op
    whole = np.array([*wanted.data[:-1], shape[-1]], wanted.data.dtype)
    tensors.append(replace(wanted, data=whole))
    table, options = op.options
    if "newShape" in options:
        options = {**options, "newShape": whole.tolist()}
    inputs = (op.inputs[0], len(tensors) - 1)
    return replace(op, inputs=inputs, options=(table, options))


def _computes_the_same(program: Program, before: bytes, after: bytes) -> bool:
    """Whether LiteRT's outputs for some random inputs are equal."""
    rng = np.random.default_rng(0)
    feeds = [_feeds(rng, program) for _ in range(_TRIES)]
    try:
        wanted, found = (_outputs(data, feeds) for data in (before, after))
    except (NumericsError, RuntimeError):  # what the kernels raise while they run
        return False
    return all(a.tobytes() == b.tobytes() for a, b in zip(wanted, found, strict=True))


def _feeds(rng: np.random.Generator, program: Program) -> list[Array]:
    """Return inputs at random, in the range that is quantized where they are real numbers."""
    ends = [
        y.scale * (end - y.zero_point)
        for layer in program.layers()
        if isinstance(layer.op, ops.Quantize)
        for y in layer.outputs
        for end in y.dtype.limits
    ] or [-1.0, 1.0]
    found: list[Array] = []
    for k in program.inputs:
        t = program.tensors[k]
        if t.dtype.is_float:
            found.append(rng.uniform(min(ends), max(ends), t.shape).astype(t.dtype.numpy))
        elif t.grid is None:  # an index or a flag: large ones lead nowhere
            found.append(rng.integers(0, 2, t.shape).astype(t.dtype.numpy))
        else:
            found.append(rng.integers(*t.dtype.limits, t.shape, t.dtype.numpy, endpoint=True))
    return found


def _outputs(data: bytes, feeds: Iterable[list[Array]]) -> list[Array]:
    run = interpreter(data)
    found = []
    for arrays in feeds:
        for told, array in zip(run.get_input_details(), arrays, strict=True):
            run.set_tensor(told["index"], array)
        run.invoke()
        found += [run.get_tensor(told["index"]) for told in run.get_output_details()]
    return found

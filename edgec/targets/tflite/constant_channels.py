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
    smaller, changes, why = _smaller(model, multiple)
    seconds = time.perf_counter() - start
    record = ledger_line(RemoveConstantChannels.name, changes, price, seconds, tried=True)
    if why is not None:
        record = replace(record, diagnostics=(why,))
    return smaller, (record,)


def _smaller(
    model: Model, multiple: int
) -> tuple[Model, tuple[Change, ...], Diagnostic | None]:
    """Return the smaller model, what was done to each layer, and why nothing could be."""
    size = sum(t.data.nbytes for t in model.tensors if t.data is not None)
    if size > _MOST_BYTES:
        return model, (), Diagnostic(f"not looked for in {size:,} bytes of constants")
    data = serialize(model)
    try:
        program = _program(model, data)
    except EdgecError as error:
        why = error.diagnostics[0].message if error.diagnostics else error.summary
        return model, (), Diagnostic(f"not looked for: {why}")
    outcome = RemoveConstantChannels(multiple, _ROUNDING).narrowed(program)
    if outcome.program is program:
        return model, (), None
    smaller = _cut(model, outcome.program).without_dead()
    if _computes_the_same(program, data, serialize(smaller)):
        return smaller, outcome.changes, None
    return model, (), Diagnostic("left as they are: LiteRT computes something else without")


@dataclass(frozen=True, slots=True)
class _Unknown(Operator):
    """What may do anything with all that it reads."""

    code: ClassVar[str] = "UNKNOWN"


def _program(model: Model, data: bytes) -> Program:
    """Return a file as a program, with all that programs do not know as unknown."""
    tables = read_tables(data, model.name, replace(ANY, least=1))
    tensors, steps = list(tables.tensors), []
    for entry, op in zip(tables.entries, model.operators, strict=True):
        try:
            found = resolve(entry, tensors) if entry.code in RESOLVERS else []
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
    if op.code != "RESHAPE" or len(op.inputs) < 2:
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

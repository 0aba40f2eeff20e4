"""Binding of input shapes: what the model leaves open, the user or a default closes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from edgec.errors import Diagnostic, ModelError, OptionError
from edgec.ir import UNKNOWN, ContainerType, Dim, DType, TensorType
from edgec.ops.opaque import tensor_type

__all__ = ["Binding", "bind"]


@dataclass(frozen=True, slots=True)
class Binding:
    """What the inputs of a model are.

    Parameters
    ----------
    types
        By input.
    symbols
        What the model's names of lengths stand for.
    batched
        Inputs whose first axis is the batch: left open by the model, or 1.
    """

    types: Mapping[str, TensorType]
    symbols: Mapping[str, Dim]
    batched: frozenset[str]

    def apply(self, t: TensorType) -> TensorType:
        """Return a type that the model declares, with its symbols replaced by what they are."""
        if isinstance(t, ContainerType):
            return ContainerType.of(t.kind, self.apply(t.element), t.key)
        if t.dims is None:
            return t
        dims = (self.symbols.get(d, UNKNOWN) if isinstance(d, str) else d for d in t.dims)
        return TensorType(t.dtype, tuple(dims))


def bind(inputs: Sequence[onnx.ValueInfoProto], shapes: Mapping[str, Sequence[Dim]]) -> Binding:
    """Bind the shapes of all inputs.

    An open first axis is the batch and becomes 1, as does every axis of the same name; all
    other open axes must be given in `shapes`.

    Raises
    ------
    OptionError
        If `shapes` names no input, or contradicts the model.
    ModelError
        If an axis stays open; one diagnostic for each input.
    """
    names = [v.name for v in inputs]
    for name in shapes:
        if name not in names:
            raise OptionError(f"--shape names {name!r}, but the inputs are {', '.join(names)}")
    containers = _containers(inputs, shapes)
    inputs = [v for v in inputs if v.name not in containers]
    declared = {v.name: _declared(v) for v in inputs}
    known: dict[str, Dim] = {}
    for name, wanted in shapes.items():
        for symbol, length in _matched(name, declared[name], tuple(wanted)).items():
            if known.setdefault(symbol, length) != length:
                raise OptionError(
                    f"--shape makes {symbol!r} {length} for input {name}, "
                    f"and {known[symbol]} elsewhere"
                )
    for name, dims in declared.items():
        first = dims[0] if dims and name not in shapes else 1
        if isinstance(first, str):
            known.setdefault(first, 1)
    types: dict[str, TensorType] = {}
    problems: list[Diagnostic] = []
    for value in inputs:
        dims = declared[value.name]
        bound = shapes.get(value.name)
        if bound is None and dims is not None:
            bound = tuple(known.get(d, d) if isinstance(d, str) else d for d in dims)
            if open_axes := [i for i, d in enumerate(bound) if isinstance(d, str)]:
                problems.append(_open(value.name, bound, open_axes))
        elif bound is None:
            problems.append(
                Diagnostic("has no shape at all", f"input {value.name}", "give it with --shape")
            )
        types[value.name] = TensorType(_dtype(value), None if bound is None else tuple(bound))
    if problems:
        raise ModelError("the shape of an input is not known", problems)
    batched = (n for n, d in declared.items() if d and (isinstance(d[0], str) or d[0] == 1))
    binding = Binding(types, known, frozenset(batched))
    types.update({name: binding.apply(t) for name, t in containers.items()})
    return binding


def _containers(
    inputs: Sequence[onnx.ValueInfoProto], shapes: Mapping[str, Sequence[Dim]]
) -> dict[str, TensorType]:
    """Return the types of the inputs that are no tensors, such as sequences."""
    found: dict[str, TensorType] = {}
    for value in inputs:
        if value.type.WhichOneof("value") in (None, "tensor_type"):
            continue
        try:
            found[value.name] = tensor_type(value.type)
        except ValueError as error:
            raise ModelError(f"input {value.name} cannot be read: {error}") from error
        if value.name in shapes:
            raise OptionError(f"--shape {value.name}: the input is no tensor and has no shape")
    return found


def _dtype(value: onnx.ValueInfoProto) -> DType:
    try:
        dtype = DType.of_onnx(value.type.tensor_type.elem_type)
    except ValueError as error:
        raise ModelError(f"input {value.name} cannot be read: {error}") from error
    if dtype is DType.UNDEFINED:
        raise ModelError(f"input {value.name} has no element type")
    return dtype


def _declared(value: onnx.ValueInfoProto) -> tuple[Dim, ...] | None:
    """Return the dims of an input, open ones as distinct names."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    dims: list[Dim] = []
    for i, d in enumerate(tensor.shape.dim):
        if d.HasField("dim_value") and d.dim_value >= 0:
            dims.append(d.dim_value)
        else:  # some exporters write "?" or -1, which says nothing about other axes
            named = d.dim_param and d.dim_param != "?"
            dims.append(d.dim_param if named else f"{value.name}.{i}")
    return tuple(dims)


def _matched(
    name: str, declared: tuple[Dim, ...] | None, wanted: tuple[Dim, ...]
) -> dict[str, Dim]:
    """Return what the names in `declared` must be for the shape to be `wanted`."""
    text = ",".join(map(str, wanted))
    same = declared or ()
    if any(
        isinstance(d, int) and d < 1 and same[i : i + 1] != (d,) for i, d in enumerate(wanted)
    ):
        raise OptionError(f"--shape {name}={text}: every length must be at least 1")
    if declared is None:
        return {}
    fits = len(declared) == len(wanted) and all(
        isinstance(d, str) or d == w for d, w in zip(declared, wanted, strict=True)
    )
    if not fits:
        has = ",".join(map(str, declared))
        raise OptionError(f"--shape {name}={text} contradicts the model, which has [{has}]")
    found: dict[str, Dim] = {}
    for symbol, length in zip(declared, wanted, strict=True):
        if isinstance(symbol, str) and found.setdefault(symbol, length) != length:
            raise OptionError(
                f"--shape {name}={text} makes {symbol!r} both {found[symbol]} and {length}"
            )
    return found


def _open(name: str, bound: tuple[Dim, ...], axes: list[int]) -> Diagnostic:
    which = " and ".join(f"axis {i} ({bound[i]})" for i in axes)
    example = ",".join("224" if isinstance(d, str) else str(d) for d in bound)
    return Diagnostic(
        f"{which} can be of any length",
        f"input {name}",
        f"fix it, as in --shape {name}={example}",
    )

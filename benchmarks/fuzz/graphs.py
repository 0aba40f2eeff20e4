"""Random graphs over all typed operators, from nothing but the operators' own examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from hypothesis import strategies as st

from benchmarks.fuzz.composer import Case, Composer, Known
from edgec.ir import Array, DType, Example, Op
from edgec.ops import (
    OPS,
    Add,
    BatchNorm,
    Cast,
    Clip,
    Concat,
    Conv,
    Div,
    Erf,
    Expand,
    Greater,
    HardSwish,
    LeakyRelu,
    Max,
    MaxPool,
    MirrorPad,
    Mul,
    Pad,
    ReduceMean,
    Relu,
    Reshape,
    Round,
    Sigmoid,
    Slice,
    Softplus,
    Sqrt,
    Sub,
    Tanh,
    Tile,
    Transpose,
)

__all__ = ["graphs"]

_MOST_ELEMENTS = 4096
_F32 = np.dtype(np.float32)


@cache
def _examples(op: type[Op], seed: int) -> tuple[Example, ...]:
    return tuple(op.examples(np.random.default_rng(seed)))


@st.composite
def graphs(draw: st.DrawFn, lead: Sequence[type[Op]] = OPS) -> Case:
    """Return a graph of a few operators, of which the first is one of `lead`.

    Operands are values that the graph has already, fitted by casts, slices, pads and the like;
    or the example's own, as inputs or constants. In between there is what exporters leave
    lying around.
    """
    c = Composer()
    for number in range(draw(st.integers(1, 7))):
        op = draw(st.sampled_from(OPS if number else lead))
        _apply(draw, c, draw(st.sampled_from(_examples(op, draw(st.integers(0, 3))))))
        for _ in range(draw(st.integers(0, 2))):
            _decorate(draw, c)
    return c.case(draw(st.lists(st.sampled_from(c.known), max_size=2)))


def _apply(draw: st.DrawFn, c: Composer, example: Example) -> None:
    """Add the operator of an example, on values of the graph as far as that can be."""
    for domain in (draw(st.sampled_from(["as is", "squash", "clip"])), "squash"):
        operands = [
            None if array is None else _operand(draw, c, array, domain, k)
            for k, array in enumerate(example.operands)
        ]
        if c.add(example.op, *operands) is not None:
            return
    own = [
        None if array is None else c.given(array, constant=k > 0)
        for k, array in enumerate(example.operands)
    ]
    if c.add(example.op, *own, wild=True) is None:
        c.wrong = f"{example.op} does not run on its own example"


_SOURCES = (
    ("wired", "wired", "wired", "as it is", "input"),
    ("constant", "constant", "constant", "wired", "wired", "input"),
)


def _operand(draw: st.DrawFn, c: Composer, array: Array, domain: str, k: int) -> Known:
    """Return a value of the type of `array`, or of another that may do as well."""
    source = draw(st.sampled_from(_SOURCES[min(k, 1)]))
    usable = [v for v in c.known if v.type.is_static and 0 < v.array.size <= _MOST_ELEMENTS]
    if source == "as it is":
        same = [v for v in usable if v.array.dtype == array.dtype]
        if same:
            return draw(st.sampled_from(same))
    if source == "wired" and usable and array.size:
        twins = [v for v in usable if (v.array.dtype, v.array.shape) == _kind(array)]
        prefer = draw(st.booleans())
        chosen = draw(st.sampled_from(twins if twins and prefer else usable))
        fitted = _fitted(draw, c, chosen, array, domain)
        if fitted is not None:
            return fitted
    return c.given(array, constant=source == "constant" or k > 1)


def _kind(array: Array) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    return array.dtype, array.shape


# ---- glue


def _fitted(draw: st.DrawFn, c: Composer, x: Known, like: Array, domain: str) -> Known | None:
    """Return `x` in the shape, element type and range of another array."""
    shaped = _reshaped(draw, c, x, like.shape)
    if shaped is None:
        return None
    if like.dtype.kind == "b":
        return shaped if shaped.array.dtype.kind == "b" else _one(
            c.add(Greater(), shaped, c.given(np.zeros((), shaped.array.dtype), constant=True))
        )  # fmt: skip
    if like.dtype.kind not in "fiu":
        return None
    low, high = (float(b) for b in (like.min(), like.max()))
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    return _ranged(c, shaped, like, (low, high), domain)


def _ranged(
    c: Composer, x: Known, like: Array, bounds: tuple[float, float], domain: str
) -> Known | None:
    """Return `x` cast to the element type of `like`, within its range unless that is free."""
    low, high = bounds
    real = like.dtype.kind == "f"
    if x.array.dtype.kind == "b":
        return _one(c.add(Cast(DType.of(like.dtype)), x))
    within = bool((x.array >= low).all() and (x.array <= high).all())
    found: Known | None = x
    if not within and not (real and domain == "as is"):
        if real and x.array.dtype == _F32 and domain == "squash":
            found = _steps(c, x, (Sigmoid(), None), (Mul(), high - low), (Add(), low))
        elif x.array.dtype.kind == "f":
            found = _one(c.add(Clip(low, high), x))
        else:
            limits = np.iinfo(x.array.dtype)
            least, most = (min(max(int(n), limits.min), limits.max) for n in bounds)
            found = _one(c.add(Clip(least, most), x))
    if found is not None and found.array.dtype.kind == "f" and not real:
        found = _one(c.add(Round(), found))
    if found is None or found.array.dtype == like.dtype:
        return found
    return _one(c.add(Cast(DType.of(like.dtype)), found))


def _reshaped(draw: st.DrawFn, c: Composer, x: Known, shape: tuple[int, ...]) -> Known | None:
    """Return `x` in another shape, by one of the ways there are."""
    have = x.array.shape
    if have == shape:
        return x
    if sorted(have) == sorted(shape) and draw(st.booleans()):
        left = list(range(len(have)))
        perm = []
        for length in shape:
            perm.append(next(a for a in left if have[a] == length))
            left.remove(perm[-1])
        return _one(c.add(Transpose(tuple(perm)), x))
    if x.array.size == math.prod(shape):
        return _one(c.add(Reshape(shape), x))
    if _expands(have, shape):
        return _one(c.add(Expand(shape), x))
    if not have or len(have) != len(shape):
        flat = _one(c.add(Reshape((x.array.size,)), x))
        if flat is None:
            return None
        long = _axes_fitted(draw, c, flat, (math.prod(shape),))
        return None if long is None else _one(c.add(Reshape(shape), long))
    return _axes_fitted(draw, c, x, shape)


def _expands(have: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    ends = zip(reversed(have), reversed(shape), strict=False)
    return len(have) <= len(shape) and all(a in (1, b) for a, b in ends)


def _axes_fitted(
    draw: st.DrawFn, c: Composer, x: Known, shape: tuple[int, ...]
) -> Known | None:
    """Return `x` cut where it is too long and filled up where it is too short."""
    found: Known | None = x
    for axis, want in enumerate(shape):
        if found is None or (have := found.array.shape[axis]) == want:
            continue
        if have > want:
            start = draw(st.integers(0, have - want))
            step = draw(st.integers(1, (have - start) // want)) if want else 1
            end = start + (want - 1) * step + 1
            found = _one(c.add(Slice((start,), (end,), (axis,), (step,)), found))
            continue
        before = draw(st.integers(0, want - have))
        pads = [0] * (2 * len(shape))
        pads[axis], pads[axis + len(shape)] = before, want - have - before
        repeats = tuple(-(-want // have) if a == axis else 1 for a in range(len(shape)))
        ways: list[tuple[Op, ...]] = [
            (Pad(tuple(pads)),),
            (MirrorPad(tuple(pads), "edge"),),
            (Tile(repeats), Slice((0,), (want,), (axis,), (1,))),
        ]
        for op in draw(st.sampled_from(ways)):
            found = None if found is None else _one(c.add(op, found))
    return found


def _steps(c: Composer, x: Known, *steps: tuple[Op, float | None]) -> Known | None:
    """Return `x` after some operators, each alone or with a scalar."""
    found: Known | None = x
    for op, scalar in steps:
        if found is None:
            return None
        more = []
        if scalar is not None:
            more = [c.given(np.array(scalar, found.array.dtype), constant=True)]
        found = _one(c.add(op, found, *more))
    return found


def _one(made: tuple[Known, ...] | None) -> Known | None:
    return None if made is None else made[0]


# ---- what stands between the operators


def _decorate(draw: st.DrawFn, c: Composer) -> None:
    """Add one of the things that passes look for."""
    usable = [
        v
        for v in c.known
        if v.type.is_static and 0 < v.array.size <= _MOST_ELEMENTS and v.array.ndim
    ]
    if not usable:
        return
    x = draw(st.sampled_from(usable))
    kinds = ["twin", "turn", "turn", "reshape", "cut"]
    if x.array.dtype == _F32:
        kinds += ["combine", "affine", "activation", "pattern", "layer", "pool"]
    match draw(st.sampled_from(kinds)):
        case "twin":
            node = draw(st.sampled_from(c.nodes))
            known = {v.value.name: v for v in c.known}
            if all(v.name in known for v in node.reads):
                c.add(node.op, *(known.get(v.name) for v in node.inputs), wild=True)
        case "turn":
            c.add(Transpose(tuple(draw(st.permutations(range(x.array.ndim))))), x)
        case "reshape":
            c.add(Reshape(draw(st.sampled_from(_shapes(x.array.shape)))), x)
        case "cut":
            axis = draw(st.integers(0, x.array.ndim - 1))
            start = draw(st.integers(0, x.array.shape[axis] - 1))
            c.add(Slice((start,), (2**31,), (axis,), (1,)), x)
        case "combine":
            same = [v for v in usable if _kind(v.array) == _kind(x.array)]
            op: Op = draw(st.sampled_from([Add(), Mul(), Sub(), Max(), Concat(0)]))
            c.add(op, x, draw(st.sampled_from(same)))
        case "affine":
            channels = x.array.shape[1] if x.array.ndim > 1 else 1
            deep = (channels, *(1,) * (x.array.ndim - 2))
            shape = draw(st.sampled_from([(), (1,), deep, x.array.shape[-1:]]))
            op = draw(st.sampled_from([Add(), Mul(), Sub(), Div()]))
            c.add(op, x, c.given(_numbers(draw, *shape), constant=True))
        case "activation":
            ops: list[Op] = [
                *(Relu(), Clip(0.0, 6.0), Clip(-1.0, 1.0), Sigmoid(), Tanh()),
                *(LeakyRelu(0.1), HardSwish(), Softplus()),
            ]
            c.add(draw(st.sampled_from(ops)), x)
        case "pattern":
            _pattern(draw, c, x)
        case "layer":
            _layer(draw, c, x)
        case "pool":
            c.add(MaxPool((2,) * (x.array.ndim - 2)), x)


def _shapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return shapes with as many elements."""
    found = [(-1,), (1, *shape), (*shape, 1), (shape[0], -1), (-1, shape[-1])]
    found += [(*shape[:k], math.prod(shape[k : k + 2]), *shape[k + 2 :])
              for k in range(len(shape) - 1)]  # fmt: skip
    for k, n in enumerate(shape):
        if n % 2 == 0:
            found.append((*shape[:k], 2, n // 2, *shape[k + 1 :]))
    return found


def _numbers(draw: st.DrawFn, *shape: int) -> Array:
    """Return a constant: one of few, so that some are equal."""
    rng = np.random.default_rng(draw(st.integers(0, 3)))
    return np.asarray(rng.uniform(0.5, 2, shape), np.float32)


def _pattern(draw: st.DrawFn, c: Composer, x: Known) -> None:
    """Add a function in the words of exporters."""
    match draw(st.sampled_from(["silu", "hard-swish", "mish", "gelu", "norm"])):
        case "silu":
            if (gate := _one(c.add(Sigmoid(), x))) is not None:
                c.add(Mul(), x, gate)
        case "hard-swish":
            gate = _steps(c, x, (Add(), 3.0), (Clip(0.0, 6.0), None), (Div(), 6.0))
            if gate is not None:
                c.add(Mul(), x, gate)
        case "mish":
            gate = _steps(c, x, (Softplus(), None), (Tanh(), None))
            if gate is not None:
                c.add(Mul(), x, gate)
        case "gelu":
            gate = _steps(c, x, (Div(), math.sqrt(2)), (Erf(), None), (Add(), 1.0))
            if gate is not None and (twice := _one(c.add(Mul(), x, gate))) is not None:
                _steps(c, twice, (Mul(), 0.5))
        case "norm":
            over = ReduceMean((x.array.ndim - 1,))
            mean = _one(c.add(over, x))
            centred = None if mean is None else _one(c.add(Sub(), x, mean))
            square = None if centred is None else _one(c.add(Mul(), centred, centred))
            if centred is None or square is None:
                return
            root = _steps(c, square, (over, None), (Add(), 1e-2), (Sqrt(), None))
            if root is not None:
                c.add(Div(), centred, root)


def _layer(draw: st.DrawFn, c: Composer, x: Known) -> None:
    """Add a convolution with a batch norm behind it, where there are channels."""
    if x.array.ndim not in (3, 4) or not 1 <= x.array.shape[1] <= 16:
        return
    axes = x.array.ndim - 2
    width = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 3)))
    kernel = rng.standard_normal((width, x.array.shape[1], *(3,) * axes)).astype(np.float32)
    y = _one(c.add(Conv(pad=(1,) * (2 * axes)), x, c.given(kernel, constant=True)))
    if y is not None and draw(st.booleans()):
        c.add(BatchNorm(), y, *(c.given(_numbers(draw, width), constant=True)
                                for _ in range(4)))  # fmt: skip

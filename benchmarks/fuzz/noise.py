"""How far results may be apart: what rounding alone does to each element of each output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from edgec.errors import ModelError
from edgec.evaluate import Evaluator
from edgec.ir import Array, DType, Graph, Node, Op, TensorType, Value
from edgec.numerics import arrays_of
from edgec.ops import Add, Dft, LpNorm, Mul, Stft

__all__ = ["NotJudged", "Reference", "difference", "reference"]

_RELATIVE = 1e-6
"""How far a kernel may be from the true function, relative to each element; ..."""
_OF_LARGEST = 2e-7
"""... and relative to the largest element of its result, since it may sum."""
_RUNS = 8
_MARGIN = 10.0
"""Some runs do not find the worst case."""
_LOOSE = 0.01
_LEAST = 0.01
"""Kernels that go by way of numbers near one, as a softplus may, are off by its last bits."""
_REAL = (DType.FLOAT32, DType.FLOAT64)
_TRANSFORMS = (Dft, Stft)
"""Operators whose zeros are sums that cancel; elsewhere a zero is one in every runtime."""
_UNITS = (LpNorm,)
"""Operators whose whole numbers are computed: kernels multiply by the inverse of a norm, and a
line of one element need not come out as 1 exactly."""
_OF_TRANSFORM = 1e-6
"""What stands for `_OF_LARGEST` there: ONNX Runtime 1.31 itself is off by a third of that."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What a graph computes, and what to make of differences.

    Parameters
    ----------
    moved
        How far rounding moves each element, by output; ``None`` where it changes even how
        many there are.
    """

    outputs: Mapping[str, Array]
    moved: Mapping[str, Array | None]

    def tolerances(self, share: float) -> dict[str, Array | None]:
        """Return how far each element may be off.

        Parameters
        ----------
        share
            Of the largest element of an output, what every element may be off at least.
        """
        return {
            name: self._tolerance(array, self.moved[name], share)
            for name, array in arrays_of(self.outputs).items()
        }

    def judged(self, share: float) -> float:
        """Return the share of elements that are held to a hundredth of their output's range."""
        held = total = 0
        for name, tolerance in self.tolerances(share).items():
            array = arrays_of(self.outputs)[name]
            total += array.size
            if tolerance is not None:
                limit = _LOOSE * _scale(array) if array.dtype.kind == "f" else 0.5
                held += int(np.count_nonzero(tolerance <= limit))
        return held / max(total, 1)

    @staticmethod
    def _tolerance(array: Array, moved: Array | None, share: float) -> Array | None:
        if moved is None:
            return None
        if array.dtype.kind == "f":
            eps = float(np.finfo(array.dtype).eps)
            return np.asarray(max(share, 2 * eps) * _scale(array) + _MARGIN * moved)
        if array.dtype.kind in "iu":
            return np.asarray(_MARGIN * moved)
        return np.where(moved > 0, np.inf, 0.0)


def _scale(array: Array) -> float:
    finite = np.abs(array[np.isfinite(array)].astype(np.float64))
    return max(float(finite.max(initial=0.0)), _LEAST)


class NotJudged(Exception):  # noqa: N818  (no fault of anybody's)
    """Rounding decides whether a graph runs at all."""


def reference(graph: Graph, feeds: Mapping[str, Array]) -> Reference:
    """Return what ONNX Runtime computes, as written, and how that moves under noise.

    Every real number of the graph, in between too, is moved by what a right kernel may be off.
    Whole numbers stay: they are counted or rounded, not computed.

    Raises
    ------
    NotJudged
        If the graph does not run under noise.
    """
    inner = [v for node in graph.nodes for v in node.outputs]
    everything = Evaluator(graph, inner).run(feeds)
    want = {v.name: everything[v.name] for v in graph.outputs}
    plain = arrays_of(want)
    moved: dict[str, Array | None] = {
        name: np.zeros(array.shape, np.float64) for name, array in plain.items()
    }
    noisy = _Noisy(graph, feeds, everything)
    for seed in (None, *range(_RUNS)):
        try:
            got = arrays_of(noisy.run(seed))
        except ModelError as error:
            raise NotJudged(str(error)) from error
        for name, array in plain.items():
            moved[name] = _further(moved[name], array, got[name])
    return Reference(want, moved)


def _further(moved: Array | None, want: Array, got: Array) -> Array | None:
    if moved is None or want.shape != got.shape:
        return None
    if want.dtype.kind not in "fiu":
        return np.asarray(np.maximum(moved, want != got))
    with np.errstate(all="ignore"):
        a, b = want.astype(np.float64), got.astype(np.float64)
        away = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    return np.asarray(np.maximum(moved, np.nan_to_num(away, nan=np.inf, posinf=np.inf)))


class _Noisy:
    """A graph that is fed, beside its inputs, what every real value in it is moved by."""

    def __init__(
        self, graph: Graph, feeds: Mapping[str, Array], known: Mapping[str, Array]
    ) -> None:
        self._feeds = dict(feeds)
        self._arrays = {**feeds, **{n: c.array for n, c in graph.constants.items()}}
        self._given = [n for n, a in self._arrays.items() if _real(a)]
        self._steps: dict[str, tuple[Array, bool]] = {}
        self._factors: dict[str, np.dtype[np.generic]] = {}
        constants = {k: c for k, c in graph.constants.items() if not _real(c.array)}
        inputs = list(graph.inputs)
        inputs += [Value(k, c.type) for k, c in graph.constants.items() if k not in constants]
        nodes: list[Node] = []
        for node in graph.nodes:
            units = isinstance(node.op, _UNITS)
            noisy = [v for v in node.outputs if _real(known[v.name], whole=units)]
            outputs = (Value(f"{v.name}!", v.type) if v in noisy else v for v in node.outputs)
            nodes.append(Node(node.op, node.inputs, tuple(outputs), node.origin))
            for v in noisy:
                exact, array = Value(f"{v.name}!", v.type), known[v.name]
                by = Value(f"{v.name}*", TensorType(v.type.dtype, ()))
                op: Op = Mul()
                if v.type.is_static:
                    # Of no shape: onnx counts one window too many of some pools in ceil mode.
                    op, by = Add(), Value(by.name, TensorType(v.type.dtype, None))
                    self._steps[by.name] = array, isinstance(node.op, _TRANSFORMS)
                else:  # moved values may be more or fewer
                    self._factors[by.name] = array.dtype
                inputs.append(by)
                nodes.append(Node(op, (exact, by), (v,)))
        kept = MappingProxyType(constants)
        whole = Graph("noisy", tuple(inputs), graph.outputs, tuple(nodes), kept)
        self._session = Evaluator(whole)

    def run(self, seed: int | None) -> dict[str, Array]:
        """Compute with some noise; without a seed, what noise may hide is zero."""
        rng = None if seed is None else np.random.default_rng(seed)
        feeds = dict(self._feeds)
        for name in self._given:
            array = self._arrays[name]
            feeds[name] = np.asarray(array + _step(rng, array), array.dtype)
        for name, (array, transform) in self._steps.items():
            feeds[name] = np.asarray(_step(rng, array, transform=transform), array.dtype)
        for name, dtype in self._factors.items():
            factor = 1.0 if rng is None else 1 + _RELATIVE * _sign(rng, ())
            feeds[name] = np.asarray(factor, dtype)
        return self._session.run(feeds)


def _real(array: object, *, whole: bool = False) -> bool:
    """Whether an array holds numbers that are computed with rounding.

    Parameters
    ----------
    whole
        Whether whole numbers are, too.
    """
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        return False
    if DType.of(array.dtype) not in _REAL or not array.size:
        return False
    return whole or not bool((np.isfinite(array) & (array == np.round(array))).all())


def _sign(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.asarray(rng.integers(0, 2, shape) * 2.0 - 1)


def _step(rng: np.random.Generator | None, array: Array, *, transform: bool = False) -> Array:
    """Return what to add.

    Parameters
    ----------
    transform
        Whether a transform has computed it: zeros move too.
    """
    a = np.where(np.isfinite(array), array, 0).astype(np.float64)
    least = (_OF_TRANSFORM if transform else _OF_LARGEST) * _scale(a)
    if rng is None:
        return np.where(np.abs(a) <= least, -a, 0.0)
    relative = _RELATIVE * a * _sign(rng, a.shape)
    absolute = least * _sign(rng, a.shape)
    return np.asarray(relative + np.where((a == 0) & (not transform), 0.0, absolute))


def difference(
    want: Mapping[str, Array],
    got: Mapping[str, Array],
    tolerances: Mapping[str, Array | None],
) -> str:
    """Return in what two sets of outputs differ; ``""`` if they agree."""
    return next(_differences(arrays_of(want), arrays_of(got), tolerances), "")


def _differences(
    want: Mapping[str, Array],
    got: Mapping[str, Array],
    tolerances: Mapping[str, Array | None],
) -> Iterator[str]:
    for name, a in want.items():
        b, tolerance = got.get(name), tolerances[name]
        if b is None:
            yield f"{name} is missing"
        elif a.ndim != b.ndim or (tolerance is not None and a.shape != b.shape):
            yield f"{name} has shape {b.shape}, not {a.shape}"
        elif tolerance is not None and a.dtype.kind not in "fiub":
            if not np.array_equal(a, b):
                yield f"{name} has other contents"
        elif tolerance is not None:
            with np.errstate(all="ignore"):
                x, y = a.astype(np.float64), b.astype(np.float64)
                alike = (x == y) | (np.isnan(x) & np.isnan(y)) | (tolerance == np.inf)
                off = ~alike & ~(np.abs(x - y) <= tolerance)
            if off.any():
                at = tuple(int(i) for i in np.argwhere(off)[0])
                yield (
                    f"{name}{list(at)} is {y[at]:.7g}, not {x[at]:.7g} (rounding moves it by "
                    f"{tolerance[at]:.2g}; {np.count_nonzero(off)} of {x.size} elements)"
                )

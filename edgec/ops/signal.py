"""Fourier transforms of signals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import Array, DType, Example, OnnxForm, OnnxNode, Op, TensorType
from edgec.ops.arguments import axis_of

__all__ = ["Dft", "Stft"]

_NOTHING = 1e-13


@dataclass(frozen=True, slots=True)
class Dft(Op):
    """The discrete Fourier transform along an axis of ``x [..., 1]``, or complex ``[..., 2]``.

    Parameters
    ----------
    axis
        That of the signal; the last one holds real and imaginary parts.
    length
        Of the signal, cut off or filled with zeros; ``None`` for that of ``x``.
    inverse
        Whether to go back from frequencies, divided by the length.
    onesided
        Whether only the frequencies up to half are there: in the result, or in ``x`` if
        `inverse`, whose result then is real.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__DFT.html
    """

    onnx_name: ClassVar[str] = "DFT"
    since: ClassVar[int] = 20
    axis: int = 1
    length: int | None = None
    inverse: bool = False
    onesided: bool = False

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a, x = node.attributes, node.inputs[0]
        length = node.constant(1)
        if node.has(1) and length is None:
            return None
        axis = a.get("axis", 1)
        if node.opset >= 20:
            chosen = node.constant(2)
            if node.has(2) and chosen is None:
                return None
            axis = -2 if chosen is None else int(chosen.reshape(-1)[0])
        size = None if length is None else int(length.reshape(-1)[0])
        inverse, onesided = bool(a.get("inverse", 0)), bool(a.get("onesided", 0))
        return cls(axis_of(axis, x.rank), size, inverse, onesided)

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        attributes = {"inverse": int(self.inverse), "onesided": int(self.onesided)}
        length = None if self.length is None else np.array(self.length, np.int64)
        return OnnxForm("DFT", attributes, (length, np.array(self.axis, np.int64)))

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        (x,) = inputs
        if x.rank < 2 or x.shape[-1] not in (1, 2) or not 0 <= self.axis < x.rank - 1:
            raise ValueError(f"x is {x}, which has no signal along axis {self.axis}")
        (held,) = x.with_shape((x.shape[self.axis],)).ints
        if self.inverse and self.onesided and x.shape[-1] == 1:
            raise ValueError(f"x is {x}, but one side of frequencies is complex")
        length = self.points(held)
        if length < 1:
            raise ValueError(f"x is {x}, of which a signal of {length} is wanted")
        dims = list(x.shape)
        dims[self.axis] = length // 2 + 1 if self.onesided and not self.inverse else length
        dims[-1] = 1 if self.onesided and self.inverse else 2
        return (x.with_shape(tuple(dims)),)

    def points(self, held: int) -> int:
        """Return the length of the signal, where ``x`` holds so many numbers of it."""
        if self.length is not None:
            return self.length
        return 2 * (held - 1) if self.inverse and self.onesided else held

    def matrix(self, held: int, parts: int) -> Array:
        """Return the transform as ``[held * parts, out * parts of the result]``, float64.

        Parameters
        ----------
        held, parts
            Lengths of ``x`` along the axis and the last one.
        """
        length = self.points(held)
        unit = np.eye(held * parts).reshape(held * parts, held, parts)
        signal = unit[..., 0] + (1j * unit[..., 1] if parts == 2 else 0)
        if self.inverse and self.onesided:
            real: Array = np.fft.irfft(signal, length)
            return real
        found = (np.fft.ifft if self.inverse else np.fft.fft)(signal, length)
        if self.onesided:
            found = found[:, : length // 2 + 1]
        matrix = np.stack([found.real, found.imag], -1).reshape(held * parts, -1)
        # What is zero in truth shall be: there is much that tells a zero from a small number.
        return np.where(np.abs(matrix) < _NOTHING, 0.0, matrix)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        real, pairs = _f32(rng, 1, 6, 1), _f32(rng, 1, 6, 2)
        yield Example(cls(), (real,))
        yield Example(cls(), (pairs,))
        yield Example(cls(onesided=True), (real,))
        yield Example(cls(length=4), (real,))
        yield Example(cls(length=8, onesided=True), (real,))
        yield Example(cls(inverse=True), (pairs,))
        yield Example(cls(1, 5, inverse=True), (pairs,))
        yield Example(cls(2), (_f32(rng, 1, 3, 4, 2),))
        yield Example(cls(1, onesided=True), (_f32(rng, 1, 6, 3, 1),))


@dataclass(frozen=True, slots=True)
class Stft(Op):
    """The Fourier transforms of windows that slide over a signal.

    Inputs are ``signal [N, L, 1]``, the step between windows, a window ``[length]`` and the
    length; one of the last two may be absent. The result is ``[N, frames, frequencies, 2]``.

    Parameters
    ----------
    onesided
        Whether only the frequencies up to half the length are there.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__STFT.html
    """

    onnx_name: ClassVar[str] = "STFT"
    operands: ClassVar[int] = 4
    onesided: bool = True

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        known = node.constant(1) is not None and not (node.has(3) and node.constant(3) is None)
        return cls(bool(node.attributes.get("onesided", 1))) if known else None

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("STFT", {"onesided": int(self.onesided)})

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        raise ValueError("the step between windows must be known")

    @override
    def infer_node(
        self, inputs: Sequence[TensorType], constants: Sequence[Array | None]
    ) -> tuple[TensorType, ...]:
        x, step = inputs[0], constants[1]
        length = self.length(inputs, constants)
        if step is None or step.size != 1 or length is None:
            raise ValueError("the step between windows and their length must be known")
        if x.rank not in (2, 3) or not isinstance(x.shape[1], int) or x.shape[1] < length:
            raise ValueError(f"x is {x}, over which windows of {length} slide")
        frames = (x.shape[1] - length) // int(step.reshape(-1)[0]) + 1
        frequencies = length // 2 + 1 if self.onesided else length
        return (TensorType(x.dtype, (x.shape[0], frames, frequencies, 2)),)

    @staticmethod
    def length(inputs: Sequence[TensorType], constants: Sequence[Array | None]) -> int | None:
        """Return the length of a window, or ``None`` if it is computed."""
        if len(inputs) > 3 and inputs[3].dtype is not DType.UNDEFINED:
            array = constants[3]
            return None if array is None or array.size != 1 else int(array.reshape(-1)[0])
        given = inputs[2] if len(inputs) > 2 else inputs[0]
        if given.dtype is DType.UNDEFINED or given is inputs[0]:
            return inputs[0].ints[1] if inputs[0].rank > 1 else None
        return given.ints[0] if given.rank == 1 else None

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = _f32(rng, 1, 16, 1)
        step, length = np.array(3, np.int64), np.array(6, np.int64)
        window = rng.uniform(0.1, 1, 6).astype(np.float32)
        yield Example(cls(), (x, step, window, length))
        yield Example(cls(False), (x, step, window))
        yield Example(cls(), (x, step, length), absent=(2,))


def _f32(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)

"""Sums of products over named axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import numpy as np
from typing_extensions import override

from edgec.ir import UNKNOWN, Array, Dim, Example, OnnxForm, OnnxNode, Op, TensorType
from edgec.ops.arguments import same_dtype
from edgec.ops.broadcast import broadcast

__all__ = ["Einsum", "Terms"]

_ELLIPSIS = "..."


class Terms(NamedTuple):
    """An equation with every axis named.

    Parameters
    ----------
    operands, result
        Names of the axes of each. Those that an ellipsis stands for are numbers, counted from
        the last: they may be broadcast, the letters may not.
    """

    operands: tuple[tuple[str, ...], ...]
    result: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Einsum(Op):
    """Products of elements with equal letters, summed over letters that the result lacks.

    Parameters
    ----------
    equation
        As in numpy, with the result written out: ``ab,bc->ac``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Einsum.html
    """

    onnx_name: ClassVar[str] = "Einsum"
    operands: ClassVar[int] = 2**31
    equation: str = ""

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        if any(t.dims is None for t in node.inputs):
            return None
        return cls(_explicit("".join(node.attributes["equation"].split())))

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        return OnnxForm("Einsum", {"equation": self.equation})

    def terms(self, ranks: Sequence[int]) -> Terms:
        """Return the axes by name; raise ``ValueError`` where the ranks do not fit."""
        left, _, right = self.equation.partition("->")
        sides = left.split(",")
        if len(sides) != len(ranks):
            raise ValueError(
                f"{self.equation!r} is for {len(sides)} operands, not {len(ranks)}"
            )
        named = tuple(_named(s, rank) for s, rank in zip(sides, ranks, strict=True))
        counts = {
            len([a for a in axes if a.isdigit()])
            for side, axes in zip(sides, named, strict=True)
            if _ELLIPSIS in side
        }
        if len(counts) > 1:
            raise ValueError(f"{_ELLIPSIS} in {self.equation!r} is {sorted(counts)} axes")
        most = max(counts, default=0)
        if counts and _ELLIPSIS not in right:
            raise ValueError(f"the result of {self.equation!r} lacks the {_ELLIPSIS}")
        result = _named(right, len(right.replace(_ELLIPSIS, "")) + most)
        known = {a for axes in named for a in axes}
        if not known.issuperset(result) or len(set(result)) < len(result):
            raise ValueError(
                f"the result of {self.equation!r} has an axis of its own, or twice"
            )
        return Terms(named, result)

    def lengths(self, *inputs: TensorType) -> dict[str, Dim]:
        """Return the length of each axis; raise ``ValueError`` if two differ."""
        terms = self.terms([t.rank for t in inputs])
        found: dict[str, Dim] = {}
        for axes, t in zip(terms.operands, inputs, strict=True):
            for axis, length in zip(axes, t.shape, strict=True):
                known = found.setdefault(axis, length)
                if axis.isdigit():
                    (found[axis],) = broadcast((known,), (length,))
                elif isinstance(known, str):
                    found[axis] = known if length == UNKNOWN else length
                elif isinstance(length, int) and length != known:
                    raise ValueError(f"{axis!r} of {self.equation!r} is {known} and {length}")
        return found

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        same_dtype(*inputs)
        lengths = self.lengths(*inputs)
        result = self.terms([t.rank for t in inputs]).result
        return (inputs[0].with_shape(tuple(lengths[axis] for axis in result)),)

    @override
    def macs(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        """Return the products of all factors but one, as if computed in one go."""
        total = 1
        for length in self.lengths(*inputs).values():
            total *= length if isinstance(length, int) else 1
        return total * (len(inputs) - 1)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield Example(cls("bid,bjd->bij"), (_f32(rng, 2, 3, 4), _f32(rng, 2, 5, 4)))
        yield Example(cls("b...d,de->b...e"), (_f32(rng, 2, 3, 3, 4), _f32(rng, 4, 5)))
        yield Example(cls("bij->bji"), (_f32(rng, 2, 3, 4),))


def _explicit(equation: str) -> str:
    """Return the equation with its result, which by default are the letters that occur once."""
    if "->" in equation:
        return equation
    letters = equation.replace(_ELLIPSIS, "").replace(",", "")
    once = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    return f"{equation}->{_ELLIPSIS if _ELLIPSIS in equation else ''}{once}"


def _named(text: str, rank: int) -> tuple[str, ...]:
    before, dots, after = text.partition(_ELLIPSIS)
    count = rank - len(before) - len(after)
    letters = all(c.isascii() and c.isalpha() for c in before + after)
    if count < 0 or not letters or (count and not dots):
        raise ValueError(f"{text!r} does not name the axes of an operand that has {rank}")
    return (*before, *(str(count - 1 - k) for k in range(count)), *after)


def _f32(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)

"""Recurrent layers over a sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self, cast

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Dim, DType, Example, OnnxForm, OnnxNode, Op, TensorType
from edgec.ops.arguments import same_dtype

__all__ = ["GRU", "LSTM", "RNN", "Direction", "Function", "Recurrent"]

Direction = Literal["forward", "reverse", "bidirectional"]

X, W, R, B, LENGTHS, STATE = range(6)  # operand numbers; those after R may be missing


class Function(NamedTuple):
    """An activation of a cell.

    Parameters
    ----------
    name
        As ONNX spells it.
    alpha, beta
        Its numbers, where it has any.
    """

    name: str
    alpha: float = 0.0
    beta: float = 0.0


# What the numbers are by default, for each function that has them.
_NUMBERS: dict[str, tuple[float, ...]] = {
    "Affine": (0.0, 0.0),
    "Elu": (1.0,),
    "HardSigmoid": (0.2, 0.5),
    "LeakyRelu": (0.01,),
    "Relu": (),
    "ScaledTanh": (0.0, 0.0),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
    "ThresholdedRelu": (0.0,),
}
_SPELLINGS = {name.lower(): name for name in _NUMBERS}


@dataclass(frozen=True, slots=True)
class Recurrent(Op):
    """What recurrent layers share.

    Inputs are ``x [T, N, I]``, ``w [D, G * H, I]``, ``r [D, G * H, H]`` for `gates` ``G`` and
    ``D`` directions, and those of ``b [D, 2 * G * H]``, ``lengths [N]`` of the sequences and
    initial ``h [D, N, H]`` that are given. Outputs are ``y [T, D, N, H]``, zero behind the end
    of a sequence, and the last state ``h [D, N, H]``.

    Parameters
    ----------
    functions
        The activations, those of the second direction last; empty for the usual ones.
    clip
        Largest magnitude of what enters an activation of a gate.
    """

    operands: ClassVar[int] = 6
    gates: ClassVar[int]
    states: ClassVar[int] = 1
    usual: ClassVar[tuple[str, ...]]
    direction: Direction = "forward"
    functions: tuple[Function, ...] = ()
    clip: float = np.inf

    @property
    def directions(self) -> int:
        """Number of directions."""
        return 2 if self.direction == "bidirectional" else 1

    def functions_of(self, direction: int) -> tuple[Function, ...]:
        """Return the activations of one direction."""
        if not self.functions:
            return tuple(map(Function, self.usual))
        count = len(self.usual)
        return self.functions[direction * count : (direction + 1) * count]

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        a = node.attributes
        if a.get("layout", 0) != 0 or any(t.dims is None for t in node.inputs[:3]):
            return None
        direction = cast(Direction, a.get("direction", "forward"))
        functions = _functions(a)
        usual = tuple(map(Function, cls.usual)) * (2 if direction == "bidirectional" else 1)
        if functions is None or len(functions) not in (0, len(usual)):
            return None
        plain = functions == usual
        return cls(direction, () if plain else functions, a.get("clip", np.inf), **cls._more(a))

    @classmethod
    def _more(cls, attributes: Any) -> dict[str, Any]:
        """Return the fields of this layer alone."""
        del attributes
        return {}

    @override
    def to_onnx(self, inputs: Sequence[TensorType]) -> OnnxForm:
        hidden = inputs[R].ints[-1]
        attributes: dict[str, Any] = {"hidden_size": hidden, "direction": self.direction}
        if self.functions:
            attributes["activations"] = [f.name for f in self.functions]
            for key, position in (("alpha", 0), ("beta", 1)):
                has = [f for f in self.functions if len(_NUMBERS[f.name]) > position]
                if has:
                    attributes[f"activation_{key}"] = [float(f[1 + position]) for f in has]
        if self.clip != np.inf:
            attributes["clip"] = float(self.clip)
        return OnnxForm(self.onnx_name, {**attributes, **self._own()})

    def _own(self) -> dict[str, int]:
        """Return the ONNX attributes of this layer alone."""
        return {}

    @override
    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        given = [t for i, t in enumerate(inputs) if i != LENGTHS and _is_given(t)]
        same_dtype(*given)
        x, w, r = inputs[:3]
        if x.rank != 3 or w.rank != 3 or r.rank != 3:
            raise ValueError(f"x is {x}, w is {w}, r is {r}; all must have 3 axes")
        steps, batch, length = x.shape
        d, h = self.directions, r.ints[2]
        expected: list[tuple[int, tuple[Dim, ...]]] = [
            (W, (d, self.gates * h, length)),
            (R, (d, self.gates * h, h)),
            (B, (d, 2 * self.gates * h)),
            (LENGTHS, (batch,)),
            *((STATE + i, (d, batch, h)) for i in range(self.states)),
            (STATE + self.states, (d, 3 * h)),
        ]
        for position, shape in expected:
            if position < len(inputs) and _is_given(inputs[position]):
                _same_shape(inputs[position], shape)
        state = x.with_shape((d, batch, h))
        return (x.with_shape((steps, d, batch, h)), *(state,) * self.states)

    @override
    def macs(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        steps, batch, length = inputs[X].ints
        d, rows, hidden = inputs[R].ints
        return steps * batch * d * rows * (length + hidden)

    @classmethod
    def _operands(
        cls, rng: np.random.Generator, d: int = 1, more: int = 0
    ) -> tuple[Array, ...]:
        """Return small operands: x, w, r, b, and `more` states."""
        t, n, i, h = 3, 2, 4, 5
        shapes = [(t, n, i), (d, cls.gates * h, i), (d, cls.gates * h, h),
                  (d, 2 * cls.gates * h)]  # fmt: skip
        shapes += [(d, n, h)] * more
        return tuple(rng.standard_normal(s).astype(np.float32) for s in shapes)

    @classmethod
    def _shared(cls, rng: np.random.Generator) -> Iterator[Example]:
        """Cases of what recurrent layers share."""
        yield Example(cls(), cls._operands(rng)[:3])
        yield Example(cls(), cls._operands(rng))
        lengths = np.array([2, 3], np.int32)
        yield Example(cls(), (*cls._operands(rng), lengths, *cls._operands(rng, 1, 1)[4:]))
        yield Example(cls("reverse"), cls._operands(rng, 1, 1), absent=(4,))
        yield Example(cls("bidirectional"), cls._operands(rng, 2))
        odd = (Function("HardSigmoid", 0.25, 0.5), *map(Function, cls.usual[1:]))
        yield Example(cls("forward", odd, 0.75), cls._operands(rng))


def _functions(attributes: Any) -> tuple[Function, ...] | None:
    """Return the activations a node names, or ``None`` if one is none of ONNX's."""
    alphas = iter(attributes.get("activation_alpha") or ())
    betas = iter(attributes.get("activation_beta") or ())
    found: list[Function] = []
    for given in attributes.get("activations") or ():
        name = _SPELLINGS.get(given.lower())
        if name is None:
            return None
        numbers = zip((alphas, betas), _NUMBERS[name], strict=False)
        found.append(Function(name, *(next(source, usual) for source, usual in numbers)))
    return tuple(found)


def _is_given(t: TensorType) -> bool:
    return t.dtype is not DType.UNDEFINED


def _same_shape(t: TensorType, shape: tuple[Dim, ...]) -> None:
    both = zip(t.shape, shape, strict=False)
    if t.rank != len(shape) or any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in both
    ):
        raise ValueError(f"an operand is {t}, expected [{','.join(map(str, shape))}]")


@dataclass(frozen=True, slots=True)
class RNN(Recurrent):
    """``h' = f(x @ w.T + h @ r.T + b)``, where ``b`` holds one bias for each product.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__RNN.html
    """

    onnx_name: ClassVar[str] = "RNN"
    gates: ClassVar[int] = 1
    usual: ClassVar[tuple[str, ...]] = ("Tanh",)

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        return cls._shared(rng)


@dataclass(frozen=True, slots=True)
class GRU(Recurrent):
    """Gated recurrent units: update gate ``z``, reset gate ``r``, candidate ``n``.

    ``h' = (1 - z) * n + z * h``, with the gates in the order z, r, n.

    Parameters
    ----------
    linear_before_reset
        Whether the reset gate acts on ``h @ r.T + b``, and not on ``h``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__GRU.html
    """

    onnx_name: ClassVar[str] = "GRU"
    gates: ClassVar[int] = 3
    usual: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh")
    linear_before_reset: bool = False

    @classmethod
    @override
    def _more(cls, attributes: Any) -> dict[str, Any]:
        return {"linear_before_reset": bool(attributes.get("linear_before_reset", 0))}

    @override
    def _own(self) -> dict[str, int]:
        return {"linear_before_reset": int(self.linear_before_reset)}

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield from cls._shared(rng)
        yield Example(cls(linear_before_reset=True), cls._operands(rng))


@dataclass(frozen=True, slots=True)
class LSTM(Recurrent):
    """Long short-term memory: input, output and forget gates ``i, o, f``, candidate ``n``.

    ``c' = f * c + i * n`` and ``h' = o * h(c')``, with the gates in the order i, o, f, n. The
    last operands are the initial ``c [D, N, H]`` and the weights ``p [D, 3 * H]`` with which
    the gates i, o and f see the cell; the last output is ``c [D, N, H]``.

    Parameters
    ----------
    input_forget
        Whether ``f = 1 - i``.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__LSTM.html
    """

    onnx_name: ClassVar[str] = "LSTM"
    operands: ClassVar[int] = 8
    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2
    usual: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh", "Tanh")
    input_forget: bool = False

    @classmethod
    @override
    def _more(cls, attributes: Any) -> dict[str, Any]:
        return {"input_forget": bool(attributes.get("input_forget", 0))}

    @override
    def _own(self) -> dict[str, int]:
        return {"input_forget": int(self.input_forget)}

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        yield from cls._shared(rng)
        peepholes = rng.standard_normal((1, 15)).astype(np.float32)
        yield Example(cls(), (*cls._operands(rng, 1, 2), peepholes), absent=(4,))
        yield Example(cls(input_forget=True), cls._operands(rng))

"""How a device wants integers, and what of that is the user's to choose."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from edgec.errors import OptionError
from edgec.ir import DType, Op

__all__ = ["SCHEME_WORDS", "Precision", "Scheme", "SchemeWishes", "scheme_wishes"]

Precision = Literal["int4", "int8", "int16", "float16", "float32"]
"""How a layer computes: with weights of 4 or 8 bits between 8-bit activations, with 8-bit
weights between 16-bit activations, or on floats with weights stored in 16 or 32 bits."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a device wants integers.

    Parameters
    ----------
    activation
        Element type of activations: int8, uint8 or int16.
    weight_max
        Largest magnitude of a weight's integer. 127 is all of int8 without -128; 63 leaves
        kernels room that add pairs of products in 16 bits.
    packed
        Layers whose weights have 4 bits.
    per_channel
        Whether weights have a scale for each output channel, or one for all.
    symmetric
        Whether the zero point of activations is in the middle of their integers.
    power_of_two
        Whether every scale is a power of two, so that shifts do for multiplications.
    prescribes
        Whether kernels demand the grids of results whose range is known beforehand, such as
        softmax; if not, these obey the scheme too.
    floating
        Operators that the runtime has no integer kernel for: a pair of quantize and
        dequantize around them would only add work and error.
    narrow
        Operators whose integer kernels know 8 bits only.
    """

    activation: DType = DType.INT8
    weight_max: int = 127
    floating: tuple[type[Op], ...] = ()
    packed: tuple[type[Op], ...] = ()
    per_channel: bool = True
    symmetric: bool = False
    power_of_two: bool = False
    prescribes: bool = True
    narrow: tuple[type[Op], ...] = ()

    def __str__(self) -> str:
        words = [
            self.activation.name.lower(),
            "symmetric" if self.symmetric else "asymmetric",
            "per-channel" if self.per_channel else "per-tensor",
            "power-of-two" if self.power_of_two else "any-scale",
        ]
        return ",".join(words)

    def weights_of(self, op: Op) -> tuple[DType, int]:
        """Return element type and largest integer of the weights of a layer."""
        if isinstance(op, self.packed):
            return DType.INT4, DType.INT4.limits[1]
        return DType.INT8, self.weight_max


@dataclass(frozen=True, slots=True)
class SchemeWishes:
    """What the user chose of a scheme; ``None`` leaves it to the target."""

    activation: DType | None = None
    symmetric: bool | None = None
    per_channel: bool | None = None
    power_of_two: bool | None = None

    @property
    def of_activations(self) -> bool:
        """Whether some of it is about how activations are stored."""
        return self.activation is not None or self.symmetric is not None

    def applied(self, scheme: Scheme) -> Scheme:
        """Return a scheme with the user's wishes in it."""
        given: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(scheme, **{k: v for k, v in given.items() if v is not None})


SCHEME_WORDS: dict[str, tuple[str, Any]] = {
    "int8": ("activation", DType.INT8),
    "uint8": ("activation", DType.UINT8),
    "asymmetric": ("symmetric", False),
    "symmetric": ("symmetric", True),
    "per-channel": ("per_channel", True),
    "per-tensor": ("per_channel", False),
    "any-scale": ("power_of_two", False),
    "power-of-two": ("power_of_two", True),
}
"""What may be asked for, and the field of a scheme that it sets."""


def scheme_wishes(text: str | None) -> SchemeWishes:
    """Return what a list of words asks for, such as "symmetric,per-tensor".

    Raises
    ------
    OptionError
        If a word is unknown, or two contradict each other.
    """
    found: dict[str, Any] = {}
    said: dict[str, str] = {}
    for word in () if text is None else (part.strip() for part in text.split(",")):
        if word not in SCHEME_WORDS:
            known = ", ".join(SCHEME_WORDS)
            raise OptionError(f"there is no scheme {word!r}; known words: {known}")
        field, value = SCHEME_WORDS[word]
        if said.setdefault(field, word) != word:
            raise OptionError(f"--scheme has both {said[field]} and {word}: give one of them")
        found[field] = value
    return SchemeWishes(**found)

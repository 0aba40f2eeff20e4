"""From sums of 32 bits to int8 in portable C.

With one rounding where that is proved to be equal, with two as TFLite Micro has them otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.ir import Array
from edgec.program import Layer
from edgec.program.operators import Activation
from edgec.targets.microcontroller.kernels.base import Function, Table
from edgec.targets.microcontroller.kernels.requantization import (
    Requantization,
    exact_constants,
)
from edgec.targets.microcontroller.kernels.rounding import RESCALE

__all__ = ["RESULTS_TYPE", "Results"]

RESULTS_TYPE = """\
/* What the sums of a layer are put on. */
typedef struct {
    int32_t shift; /* where all filters share one */
    int32_t zero_point;
    int32_t least, most;
} $results;
"""

_HIGH = Function(
    "$high",
    "int32_t $high(int32_t a, int32_t b)",
    """\
{
    /* a * b / 2^32, rounded down; b is not negative. */
#if defined(__ARM_ARCH_6M__) || defined(__ARM_ARCH_8M_BASE__)
    /* These cores multiply 32 bits at most: four products of halves. */
    const int32_t a_high = a >> 16;
    const int32_t b_high = b >> 16;
    const uint32_t a_low = (uint32_t)a & 0xFFFFu;
    const uint32_t b_low = (uint32_t)b & 0xFFFFu;
    const int32_t cross = a_high * (int32_t)b_low + (int32_t)(a_low * b_low >> 16);
    const uint32_t other = a_low * (uint32_t)b_high + ((uint32_t)cross & 0xFFFFu);
    return a_high * b_high + (cross >> 16) + (int32_t)(other >> 16);
#else
    return (int32_t)(((int64_t)a * b) >> 32);
#endif
}
""",
)

_ONCE = Function(
    "$result_once",
    "int8_t $result_once(int32_t sum, const int32_t *constants, const $results *r)",
    """\
{
    /* Factor and addend were searched, and proved to give what two roundings give. */
    const int32_t value = ($high(sum, constants[1]) + constants[2]) >> r->shift;
    return (int8_t)(value < -128 ? -128 : value > 127 ? 127 : value);
}
""",
    needs=(_HIGH,),
    types=(RESULTS_TYPE,),
)

_TWICE = Function(
    "$result_twice",
    "int8_t $result_twice(int32_t sum, const int32_t *constants, const $results *r)",
    """\
{
    const int32_t value = $rescale(sum, constants[1], constants[2]) + r->zero_point;
    return (int8_t)(value < r->least ? r->least : value > r->most ? r->most : value);
}
""",
    needs=(RESCALE,),
    types=(RESULTS_TYPE,),
)


@dataclass(frozen=True, slots=True)
class Results:
    """How the sums of a layer become int8.

    Parameters
    ----------
    function
        ``function(sum, constants, results)`` in C.
    offsets
        What is added to the bias of each filter.
    words
        The two constants of each filter behind its bias.
    fields
        The initializer of ``$results``, for a call.
    """

    function: Function
    offsets: Array
    words: Array
    fields: str

    @property
    def suffix(self) -> str:
        """What functions that use it end with."""
        return self.function.name.removeprefix("$result")

    @classmethod
    def of(cls, layer: Layer, activation: Activation, weights: Array, biases: Array) -> Results:
        """Return the shorter way if it is exact.

        Parameters
        ----------
        weights
            One filter a row.
        biases
            As the file has them.
        """
        requantization = Requantization.of(layer, activation)
        zero_point = layer.input(0).zero_point
        below, above = -128 - zero_point, 127 - zero_point
        wide = weights.astype(np.int64)
        rising, falling = np.maximum(wide, 0).sum(1), np.minimum(wide, 0).sum(1)
        low = rising * below + falling * above + biases
        high = rising * above + falling * below + biases
        zero, least, most = (
            requantization.zero_point,
            requantization.least,
            requantization.greatest,
        )
        exact = exact_constants(requantization, low, high, (1,))
        found, shared = exact or ((), None)
        if shared is not None:
            (shift,) = shared
            return cls(
                _ONCE,
                np.array([c.offset for c in found], np.int64),
                np.array([(c.factor, c.addend) for c in found], np.int64),
                f"{{{{{shift}, {zero}, {least}, {most}}}}}",
            )
        return cls(
            _TWICE,
            np.zeros(len(weights), np.int64),
            np.column_stack([requantization.values, requantization.shifts]),
            f"{{{{0, {zero}, {least}, {most}}}}}",
        )

    def table(self, biases: Array) -> Table:
        """Return bias and constants of each filter, one after the other."""
        rows = np.column_stack([biases + self.offsets, self.words])
        count = len(rows)
        return Table(
            rows.astype(np.int32).reshape(-1),
            {"biases": 4 * count, "requantization": 8 * count},
        )

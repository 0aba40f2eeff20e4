"""Mixed precision: more bits for the layers that need them, and for no others.

:mod:`~edgec.precision.choices` tells what each layer may compute in and what that costs,
:mod:`~edgec.precision.sensitivity` measures what each choice does to the outputs,
:mod:`~edgec.passes.knapsack` chooses the cheapest mix for an error, and
:mod:`~edgec.precision.search` finds the error at which the artifact loses no more than allowed.
"""

from edgec.passes.knapsack import Allocator, Offer
from edgec.precision.choices import Choices, choices
from edgec.precision.drop import Drop, Loss
from edgec.precision.search import Raised, Search, Try, search
from edgec.precision.sensitivity import Sensitivity, sensitivities

__all__ = [
    "Allocator",
    "Choices",
    "Drop",
    "Loss",
    "Offer",
    "Raised",
    "Search",
    "Sensitivity",
    "Try",
    "choices",
    "search",
    "sensitivities",
]

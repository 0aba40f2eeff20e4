"""What a model is quantized to, by the names users know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgec.errors import OptionError

__all__ = ["RECIPES", "STATIC_INT8", "Recipe", "recipe_named"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Widths of weights and activations.

    Parameters
    ----------
    weight_bits
        Of the layers whose kernels take so few; the others have 8. 16 are float16.
    activations
        "int8" or "int16"; or "float", where only weights are stored in fewer bits; or
        "dynamic", where kernels quantize what they read as they run.
    """

    name: str
    summary: str
    weight_bits: int = 8
    activations: Literal["int8", "int16", "float", "dynamic"] = "int8"

    @property
    def needs_samples(self) -> bool:
        """Whether ranges of activations have to be found."""
        return self.activations in ("int8", "int16")


STATIC_INT8 = Recipe("static_wi8_ai8", "int8 weights and activations")

RECIPES: tuple[Recipe, ...] = (
    STATIC_INT8,
    Recipe(
        "static_wi4_ai8",
        "int4 weights of convolutions and fully connected layers, int8 activations",
        weight_bits=4,
    ),
    Recipe(
        "static_wi8_ai16",
        "int8 weights, int16 activations: nearer to float, and slow on most devices",
        activations="int16",
    ),
    Recipe(
        "dynamic_wi8_afp32",
        "int8 weights; activations are quantized by the kernels as they run",
        activations="dynamic",
    ),
    Recipe(
        "weight_only_wi8_afp32", "int8 weights, which are read as floats", activations="float"
    ),
    Recipe(
        "weight_only_wi4_afp32",
        "int4 weights, which are read as floats",
        weight_bits=4,
        activations="float",
    ),
    Recipe(
        "fp16", "float16 weights, which are read as floats", weight_bits=16, activations="float"
    ),
)


def recipe_named(name: str) -> Recipe:
    """Return a recipe, or raise `OptionError` with those there are."""
    for recipe in RECIPES:
        if recipe.name == name:
            return recipe
    known = ", ".join(recipe.name for recipe in RECIPES)
    raise OptionError(f"there is no recipe {name!r}; known: {known}")

"""What a model is quantized to, by the names users know."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.errors import OptionError

__all__ = ["RECIPES", "STATIC_INT8", "Recipe", "recipe_named"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Widths of weights and activations.

    Parameters
    ----------
    weight_bits
        Of the layers whose kernels take so few; the others have 8.
    per_channel
        Whether weights have a scale for each output channel, or one for all.
    """

    name: str
    summary: str
    weight_bits: int = 8
    per_channel: bool = True


STATIC_INT8 = Recipe("static_wi8_ai8", "int8 weights and activations")

RECIPES: tuple[Recipe, ...] = (
    STATIC_INT8,
    Recipe(
        "static_wi4_ai8",
        "int4 weights of convolutions and fully connected layers, int8 activations",
        weight_bits=4,
    ),
)


def recipe_named(name: str) -> Recipe:
    """Return a recipe, or raise `OptionError` with those there are."""
    for recipe in RECIPES:
        if recipe.name == name:
            return recipe
    known = ", ".join(recipe.name for recipe in RECIPES)
    raise OptionError(f"there is no recipe {name!r}; known: {known}")

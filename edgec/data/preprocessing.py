"""How an image becomes the input of a model, as the user declares it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgec.data.spec import InputSpec, shape_text
from edgec.errors import OptionError

__all__ = ["EXAMPLE", "Preprocessing"]

EXAMPLE = (
    '--preprocess "size=224x224,layout=nchw,scale=1/255,mean=0.485:0.456:0.406,'
    'std=0.229:0.224:0.225,resize=crop"'
)
"""A complete option, for hints."""

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "layout": ("nchw", "nhwc"),
    "resize": ("stretch", "crop", "pad"),
    "resample": ("bilinear", "bicubic", "nearest"),
    "color": ("rgb", "bgr", "gray"),
}
_ALLOWED: Mapping[str, str] = {
    "size": "a height and width in pixels such as 224 or 224x320",
    "scale": "a number other than 0 such as 0.5 or 1/255",
    "mean": "one number, or one per channel such as 0.485:0.456:0.406",
    "std": "one positive number, or one per channel such as 0.229:0.224:0.225",
    "fill": "a pixel value from 0 to 255",
    **{key: " or ".join(values) for key, values in _CHOICES.items()},
}


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes the input of a model.

    ``value = (pixel * scale - mean) / std``, in float32, of pixels from 0 to 255.

    Parameters
    ----------
    size
        Height and width in pixels; ``None`` for those of the model.
    layout
        ``nchw`` or ``nhwc``; ``""`` if the model's shape tells.
    scale
        Factor on the pixels.
    mean, std
        One number, or one per channel in the order the model gets the channels.
    resize
        ``stretch`` to the size; ``crop``: enlarge or shrink until the short side is
        ``round(size / 0.875)``, then cut out the centre (224 from 256); ``pad``: shrink or
        enlarge until all of the image fits, then centre it on `fill`.
    resample
        Filter for resizing: ``bilinear``, ``bicubic`` or ``nearest``. As in Pillow, the first
        two average over all pixels that fall together when an image shrinks.
    color
        ``rgb``, ``bgr`` or ``gray`` (ITU-R 601-2 luma). Transparency is dropped, and the
        orientation in EXIF data is not applied.
    fill
        Pixel value of the border that ``pad`` leaves.

    Raises
    ------
    OptionError
        If a value is not among the allowed ones.
    """

    size: tuple[int, int] | None = None
    layout: str = ""
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resize: str = "stretch"
    resample: str = "bilinear"
    color: str = "rgb"
    fill: int = 0

    def __post_init__(self) -> None:
        for key, allowed in _CHOICES.items():
            value = getattr(self, key)
            if value not in allowed and (key, value) != ("layout", ""):
                raise _bad_value(key, value)
        checks = {
            "size": self.size is None or min(self.size) > 0,
            "scale": math.isfinite(self.scale) and self.scale != 0,
            "mean": all(map(math.isfinite, self.mean)),
            "std": all(math.isfinite(std) and std > 0 for std in self.std),
            "fill": 0 <= self.fill <= 255,
        }
        for key, is_good in checks.items():
            if not is_good:
                raise _bad_value(key, getattr(self, key))
        for key in ("mean", "std"):
            given = len(getattr(self, key))
            if given not in (1, self.channels):
                raise OptionError(
                    f"preprocessing: {key} has {given} numbers, color={self.color} has "
                    f"{self.channels} channels; allowed is {_ALLOWED[key]}"
                )

    @property
    def channels(self) -> int:
        """Number of channels the pixels have."""
        return 1 if self.color == "gray" else 3

    @property
    def keeps_pixels(self) -> bool:
        """Whether the values are the pixels themselves."""
        return self.scale == 1 and not any(self.mean) and set(self.std) == {1.0}

    @classmethod
    def parse(cls, text: str) -> Preprocessing:
        """Read ``key=value,key=value``.

        Numbers per channel are separated by ``:``; `scale` may be a fraction.

        Raises
        ------
        OptionError
            If a key is unknown or given twice, or a value is not among the allowed ones.
        """
        given: dict[str, str] = {}
        for item in text.split(","):
            key, _, value = (part.strip() for part in item.partition("="))
            if key not in _ALLOWED:
                raise OptionError(
                    f"preprocessing: unknown key {key!r}; allowed are {', '.join(_ALLOWED)}, "
                    f"as in {EXAMPLE}"
                )
            if key in given:
                raise OptionError(f"preprocessing: {key} is given twice")
            if not value:
                raise _bad_value(key, value)
            given[key] = value
        return replace(cls(), **{key: _parse_value(key, text) for key, text in given.items()})

    def fit(self, spec: InputSpec) -> Preprocessing:
        """Fill in layout and size from the model, or refuse those that do not fit it.

        Parameters
        ----------
        spec
            An input with four dimensions.

        Raises
        ------
        OptionError
            If layout, size or color do not fit the shape, or the layout is not clear.
        """
        layout = self.layout or _layout_of(spec)
        _, *rest = spec.shape
        channels, height, width = rest if layout == "nchw" else (rest[2], rest[0], rest[1])
        place = f"preprocessing: input {spec.name!r} of shape {shape_text(spec.shape)}"
        if channels != self.channels:
            raise OptionError(
                f"{place} has {channels} channels in layout={layout}, color={self.color} has "
                f"{self.channels}; give color=gray for 1 channel, color=rgb or color=bgr for "
                "3, or the other layout"
            )
        if self.size not in (None, (height, width)):
            raise OptionError(
                f"{place} takes {height}x{width} pixels in layout={layout}, but size is "
                f"{_size_text(self.size)}; leave out size, or bind the input to that size"
            )
        return replace(self, layout=layout, size=(height, width))


def _layout_of(spec: InputSpec) -> str:
    found = [
        layout for layout, axis in (("nchw", 1), ("nhwc", 3)) if spec.shape[axis] in (1, 3)
    ]
    if len(found) != 1:
        raise OptionError(
            f"preprocessing: the layout does not follow from shape {shape_text(spec.shape)} of "
            f"input {spec.name!r}; give layout=nchw or layout=nhwc"
        )
    return found[0]


def _parse_value(key: str, value: str) -> Any:
    parse = _PARSERS.get(key, str)
    try:
        return parse(value)
    except (ValueError, ArithmeticError) as error:
        raise _bad_value(key, value) from error


def _parse_size(value: str) -> tuple[int, int]:
    height, x, width = value.lower().partition("x")
    return int(height), int(width if x else height)


def _parse_fraction(value: str) -> float:
    above, slash, below = value.partition("/")
    return float(above) / float(below) if slash else float(above)


def _parse_numbers(value: str) -> tuple[float, ...]:
    return tuple(map(_parse_fraction, value.split(":")))


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "size": _parse_size,
    "scale": _parse_fraction,
    "mean": _parse_numbers,
    "std": _parse_numbers,
    "fill": int,
}


def _size_text(size: tuple[int, int] | None) -> str:
    return "x".join(map(str, size or ()))


def _bad_value(key: str, value: object) -> OptionError:
    return OptionError(f"preprocessing: {key} is {value!r}, allowed is {_ALLOWED[key]}")

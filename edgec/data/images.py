"""Samples in a folder of images."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgec.data.digest import digest_folder
from edgec.data.preprocessing import EXAMPLE, Preprocessing
from edgec.data.spec import (
    Array,
    InputSpec,
    accepts,
    as_sample,
    check_indices,
    data_error,
    shape_text,
)
from edgec.errors import Diagnostic

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["IMAGE_SUFFIXES", "ImageSamples", "open_images"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")

_CROP_FRACTION = 0.875
"""What ``resize=crop`` keeps of the short side: 224 of 256 pixels, as ImageNet is evaluated."""


@dataclass(frozen=True, slots=True)
class ImageSamples:
    """Images in a folder, of which those of one sample at a time are in memory."""

    root: Path
    names: tuple[str, ...]
    spec: InputSpec
    preprocessing: Preprocessing
    """With layout and size filled in."""
    notes: tuple[Diagnostic, ...]

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.names) // self.spec.shape[0]

    def feeds(self, indices: range) -> Iterator[dict[str, Array]]:
        """Yield the feeds of some samples; see `Samples.feeds`."""
        check_indices(indices, self.count)
        return self._feeds(indices)

    def extra(self, name: str) -> Array | None:
        """Give nothing: images come without arrays."""
        return None

    def digest(self) -> str:
        """Digest the files; see `Samples.digest`."""
        return digest_folder(self.root, self.names)

    def _feeds(self, indices: range) -> Iterator[dict[str, Array]]:
        batch = self.spec.shape[0]
        for i in indices:
            names = self.names[i * batch : (i + 1) * batch]
            images = [read_image(self.root / name, self.preprocessing) for name in names]
            where = str(self.root / names[0])
            yield {self.spec.name: as_sample(np.stack(images), self.spec, where, i)}


def open_images(
    root: Path,
    names: tuple[str, ...],
    specs: Sequence[InputSpec],
    preprocessing: Preprocessing | None,
    ignored: int,
) -> ImageSamples:
    """Check that images can feed the model.

    Parameters
    ----------
    root, names
        The folder, and the posix paths of the images in it, in order.
    specs
        The inputs of the model.
    preprocessing
        What the user declared.
    ignored
        How many other files the folder holds.

    Raises
    ------
    DataError
        If the model does not take one image, nothing is declared, or Pillow is missing.
    OptionError
        If what is declared does not fit the model.
    """
    where = str(root)
    spec = _image_input(specs, where)
    if preprocessing is None:
        raise data_error(
            "holds images, and how they become the model's input is not declared",
            where,
            f"declare it, as in {EXAMPLE}",
        )
    preprocessing = preprocessing.fit(spec)
    _check_dtype(spec, preprocessing, where)
    _check_pillow(where)
    notes = _notes(where, len(names), spec.shape[0], ignored)
    return ImageSamples(root, names, spec, preprocessing, notes)


def _notes(where: str, found: int, batch: int, ignored: int) -> tuple[Diagnostic, ...]:
    """Say what is left out; refuse the images if nothing is left."""
    if found < batch:
        raise data_error(
            f"holds {found} images, expected at least a batch of {batch}", where, "add images"
        )
    messages = []
    if found % batch:
        messages.append(
            f"{found % batch} of {found} images do not fill a batch of {batch} and are left out"
        )
    if ignored:
        messages.append(f"{ignored} files that are no images are ignored")
    return tuple(Diagnostic(message, where) for message in messages)


def read_image(path: Path, preprocessing: Preprocessing) -> Array:
    """Read one image as the model wants it, without the batch.

    Returns
    -------
    values
        uint8 if they are the pixels themselves, else float32; in the declared layout.

    Raises
    ------
    DataError
        If it cannot be decoded, or has other than 8 bits per channel.
    """
    pixels = _pixels(path, preprocessing)
    values: Array = pixels
    if not preprocessing.keeps_pixels:
        # float32 on purpose: so do the frameworks the models were trained in.
        scale = np.float32(preprocessing.scale)
        mean = np.array(preprocessing.mean, np.float32)
        std = np.array(preprocessing.std, np.float32)
        with np.errstate(all="ignore"):  # as_sample reports what is not finite
            values = (pixels.astype(np.float32) * scale - mean) / std
    return values.transpose(2, 0, 1) if preprocessing.layout == "nchw" else values


def _pixels(path: Path, preprocessing: Preprocessing) -> Array:
    """Decode and resize; [H, W, C], uint8."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            eight_bits = _to_mode(image, "L" if preprocessing.color == "gray" else "RGB", path)
        pixels = np.asarray(_resized(eight_bits, preprocessing))
    except (
        EOFError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
        IndexError,
        MemoryError,
        OSError,
        OverflowError,
        SyntaxError,
        TypeError,
        ValueError,
        struct.error,
        zlib.error,
    ) as error:
        raise data_error(
            f"cannot be read as an image: {error}", str(path), "remove or repair the file"
        ) from error
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return pixels[:, :, ::-1] if preprocessing.color == "bgr" else pixels


def _to_mode(image: Image.Image, mode: str, path: Path) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        raise data_error(
            f"has pixels of mode {image.mode}, expected 8 bits per channel",
            str(path),
            "convert the image to 8 bits, or save the samples with np.savez",
        )
    if image.mode == "P" and "transparency" in image.info:
        # Pillow warns of the direct way, which differs in nothing but the dropped channel.
        image = image.convert("RGBA")
    return image.convert(mode)


def _resized(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    from PIL import Image

    height, width = preprocessing.size or (image.height, image.width)
    resample = Image.Resampling[preprocessing.resample.upper()]
    if preprocessing.resize == "stretch":
        return image.resize((width, height), resample)
    if preprocessing.resize == "crop":
        new_height, new_width = _covering(image.height, image.width, height, width)
        left, top = round((new_width - width) / 2), round((new_height - height) / 2)
        resized = image.resize((new_width, new_height), resample)
        return resized.crop((left, top, left + width, top + height))
    factor = min(height / image.height, width / image.width)
    new_height = max(1, round(image.height * factor))
    new_width = max(1, round(image.width * factor))
    border = preprocessing.fill if image.mode == "L" else (preprocessing.fill,) * 3
    canvas = Image.new(image.mode, (width, height), border)
    resized = image.resize((new_width, new_height), resample)
    canvas.paste(resized, ((width - new_width) // 2, (height - new_height) // 2))
    return canvas


def _covering(height: int, width: int, to_height: int, to_width: int) -> tuple[int, int]:
    """Size to resize to before the crop; for squares as torchvision's ``Resize(short)``."""
    want_height = round(to_height / _CROP_FRACTION)
    want_width = round(to_width / _CROP_FRACTION)
    if want_height * width >= want_width * height:
        return want_height, width * want_height // height
    return height * want_width // width, want_width


def _image_input(specs: Sequence[InputSpec], where: str) -> InputSpec:
    if len(specs) != 1:
        raise data_error(
            f"holds images, the model has {len(specs)} inputs, expected one",
            where,
            "save one array per input with np.savez",
        )
    spec = specs[0]
    if len(spec.shape) != 4 or spec.shape[0] < 1:
        raise data_error(
            f"holds images, input {spec.name!r} has shape {shape_text(spec.shape)}, expected "
            "four dimensions: batch, channels, height and width",
            where,
            "save the samples with np.savez",
        )
    return spec


def _check_dtype(spec: InputSpec, preprocessing: Preprocessing, where: str) -> None:
    found = np.dtype(np.uint8 if preprocessing.keeps_pixels else np.float32)
    if not accepts(spec.dtype, found):
        raise data_error(
            f"preprocessing gives {found}, input {spec.name!r} expects {spec.dtype}",
            where,
            "leave out scale, mean and std if the model takes pixels, or save the samples "
            "with np.savez",
        )


def _check_pillow(where: str) -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise data_error(
            "holds images, and Pillow, which reads them, is not installed",
            where,
            "pip install 'edgec[images]'",
        ) from error

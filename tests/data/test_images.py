"""Folders of images and the preprocessing declared for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgec.data import Array, InputSpec, Preprocessing, open_samples
from edgec.errors import DataError, Diagnostic, OptionError

F32 = np.dtype(np.float32)
NCHW = InputSpec("x", F32, (1, 3, 8, 10), has_batch=True)
NHWC = InputSpec("x", F32, (1, 8, 10, 3), has_batch=True)
GRAY = InputSpec("x", F32, (1, 1, 8, 10), has_batch=True)


def noise(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).integers(0, 256, shape, np.uint8)


def save(path: Path, pixels: Array) -> Array:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def fed(folder: Path, spec: InputSpec, text: str) -> list[Array]:
    samples = open_samples(folder, [spec], preprocessing=Preprocessing.parse(text))
    return [feed["x"] for feed in samples.feeds(range(samples.count))]


def refusal(folder: Path, spec: InputSpec = NCHW, text: str = "layout=nchw") -> str:
    with pytest.raises((DataError, OptionError)) as caught:
        fed(folder, spec, text)
    return str(caught.value)


# What is read.


def test_images_come_sorted_from_all_depths(tmp_path: Path) -> None:
    for k, name in enumerate(["b.PNG", "a/z.bmp", "a/b/c.jpeg", "c.webp", "d.JPG"]):
        save(tmp_path / name, np.full((8, 10, 3), k * 40, np.uint8))
    (tmp_path / "labels.txt").write_text("")
    (tmp_path / "._b.png").write_text("what macOS leaves")

    samples = open_samples(tmp_path, [NCHW], preprocessing=Preprocessing(), extras=["labels"])

    got = [round(float(feed["x"].mean()) / 40) for feed in samples.feeds(range(5))]
    assert got == [2, 1, 0, 3, 4]
    assert samples.extra("labels") is None
    assert samples.notes == (
        Diagnostic("1 files that are no images are ignored", str(tmp_path)),
    )


def test_feeds_some_images_and_refuses_others(tmp_path: Path) -> None:
    for k in range(4):
        save(tmp_path / f"{k}.png", np.full((8, 10, 3), k, np.uint8))
    samples = open_samples(tmp_path, [NCHW], preprocessing=Preprocessing())

    assert [feed["x"].max() for feed in samples.feeds(range(1, 4, 2))] == [1, 3]
    with pytest.raises(IndexError):
        samples.feeds(range(5))


def test_images_fill_batches(tmp_path: Path) -> None:
    pixels = [save(tmp_path / f"{k}.png", noise(8, 10, 3) + k) for k in range(5)]
    spec = InputSpec("x", F32, (2, 8, 10, 3), has_batch=True)

    samples = open_samples(tmp_path, [spec], preprocessing=Preprocessing())

    got = [feed["x"] for feed in samples.feeds(range(samples.count))]
    np.testing.assert_array_equal(np.concatenate(got), pixels[:4])
    assert got[0].shape == spec.shape
    assert samples.notes == (
        Diagnostic("1 of 5 images do not fill a batch of 2 and are left out", str(tmp_path)),
    )


def test_the_digest_depends_on_names_and_bytes(tmp_path: Path) -> None:
    def digest() -> str:
        return open_samples(tmp_path, [NCHW], preprocessing=Preprocessing()).digest()

    save(tmp_path / "sub" / "a.png", noise(8, 10, 3))
    first = digest()
    (tmp_path / "sub" / "a.png").rename(tmp_path / "sub" / "b.png")
    second = digest()
    save(tmp_path / "sub" / "b.png", noise(8, 10, 3) // 2)

    assert len({first, second, digest()}) == 3


# What becomes of the pixels.


def test_values_are_normalised_per_channel_in_float32(tmp_path: Path) -> None:
    pixels = save(tmp_path / "a.png", noise(8, 10, 3))

    (got,) = fed(tmp_path, NCHW, "scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225")

    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    want = ((pixels / 255 - mean) / std).transpose(2, 0, 1)[np.newaxis]
    # Three roundings to float32 of values below 3, the error of one divided by 0.22.
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)
    assert got.dtype == F32
    assert got.flags.c_contiguous


@pytest.mark.parametrize(("spec", "axes"), [(NCHW, (2, 0, 1)), (NHWC, (0, 1, 2))])
def test_the_layout_follows_from_the_shape(
    tmp_path: Path, spec: InputSpec, axes: tuple[int, ...]
) -> None:
    pixels = save(tmp_path / "a.png", noise(8, 10, 3))

    (got,) = fed(tmp_path, spec, "scale=1")

    np.testing.assert_array_equal(got[0], pixels.transpose(axes))


def test_bgr_reverses_the_channels_before_the_mean(tmp_path: Path) -> None:
    pixels = save(tmp_path / "a.png", noise(8, 10, 3))

    (got,) = fed(tmp_path, NHWC, "color=bgr,mean=1:2:3")

    np.testing.assert_array_equal(got[0], pixels[..., ::-1] - np.array([1, 2, 3], np.float32))


def test_gray_is_luma(tmp_path: Path) -> None:
    pixels = save(tmp_path / "a.png", noise(8, 10, 3))

    (got,) = fed(tmp_path, GRAY, "color=gray")

    assert got.shape == (1, 1, 8, 10)
    np.testing.assert_allclose(got[0, 0], pixels @ [0.299, 0.587, 0.114], atol=1)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(np.full((8, 10, 3), 255, np.uint8)).convert(mode)
    image.save(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"))

    (got,) = fed(tmp_path, NCHW, "scale=1")

    np.testing.assert_array_equal(got, np.full((1, 3, 8, 10), 255))


def test_a_palette_with_transparency_becomes_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(noise(8, 10, 3)).convert("P")
    image.save(tmp_path / "a.png", transparency=bytes(range(0, 256, 2)))

    (got,) = fed(tmp_path, NHWC, "scale=1")

    np.testing.assert_array_equal(got[0], np.asarray(image.convert("RGB")))


def test_pixels_feed_a_model_of_uint8(tmp_path: Path) -> None:
    pixels = save(tmp_path / "a.png", noise(8, 10, 3))
    spec = InputSpec("x", np.dtype(np.uint8), (1, 8, 10, 3), has_batch=True)

    (got,) = fed(tmp_path, spec, "scale=1")

    np.testing.assert_array_equal(got, pixels[np.newaxis], strict=True)
    for declared in ("scale=2", "mean=1", "std=2"):
        assert refusal(tmp_path, spec, declared) == (
            f"{tmp_path}: preprocessing gives float32, input 'x' expects uint8 (leave out "
            "scale, mean and std if the model takes pixels, or save the samples with np.savez)"
        )


def test_a_result_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(8, 10, 3))

    message = refusal(tmp_path, text="scale=1e38")

    assert message.startswith(f"{tmp_path / 'a.png'}: input 'x', sample 0: ")


# Sizes.


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "nearest"])
def test_stretch_resizes_with_the_declared_filter(tmp_path: Path, name: str) -> None:
    image = Image.fromarray(save(tmp_path / "a.png", noise(20, 15, 3)))

    (got,) = fed(tmp_path, NHWC, f"resample={name},size=8x10")

    want = image.resize((10, 8), Image.Resampling[name.upper()])
    np.testing.assert_array_equal(got[0], np.asarray(want))


@pytest.mark.parametrize(
    ("height", "width", "resized", "corner"),
    [
        # short side to round(28 / 0.875) = 32, then the middle 28 of each axis
        (64, 64, (32, 32), (2, 2)),
        (64, 103, (32, 51), (2, 12)),
        (90, 64, (45, 32), (8, 2)),
        (16, 16, (32, 32), (2, 2)),
    ],
)
def test_crop_cuts_the_centre_of_a_resized_image(
    tmp_path: Path,
    height: int,
    width: int,
    resized: tuple[int, int],
    corner: tuple[int, int],
) -> None:
    image = Image.fromarray(save(tmp_path / "a.png", noise(height, width, 3)))
    spec = InputSpec("x", F32, (1, 28, 28, 3), has_batch=True)

    (got,) = fed(tmp_path, spec, "resize=crop")

    large = np.asarray(image.resize(resized[::-1], Image.Resampling.BILINEAR))
    top, left = corner
    np.testing.assert_array_equal(got[0], large[top : top + 28, left : left + 28])


def test_crop_covers_a_size_that_is_not_square(tmp_path: Path) -> None:
    image = Image.fromarray(save(tmp_path / "a.png", noise(60, 60, 3)))
    spec = InputSpec("x", F32, (1, 14, 28, 3), has_batch=True)

    (got,) = fed(tmp_path, spec, "resize=crop")

    large = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(got[0], large[9:23, 2:30])


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [((16, 16), (0, 8), (1, 9)), ((4, 20), (3, 5), (0, 10)), ((1, 999), (3, 4), (0, 10))],
)
def test_pad_centres_all_of_the_image_on_the_fill(
    tmp_path: Path, shape: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    save(tmp_path / "a.png", np.full((*shape, 3), 200, np.uint8))

    (got,) = fed(tmp_path, NHWC, "resize=pad,fill=114")

    want = np.full((8, 10, 3), 114)
    want[slice(*rows), slice(*columns)] = 200
    np.testing.assert_array_equal(got[0], want)


def test_pad_fills_with_zero_in_gray_too(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.full((8, 5), 200, np.uint8))

    (got,) = fed(tmp_path, GRAY, "resize=pad,color=gray")

    assert got[0, 0, 0].tolist() == [0, 0, 200, 200, 200, 200, 200, 0, 0, 0]


# What is refused of folder and model.


def test_refuses_images_without_preprocessing(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(8, 10, 3))

    with pytest.raises(DataError) as caught:
        open_samples(tmp_path, [NCHW])

    assert str(caught.value) == (
        f"{tmp_path}: holds images, and how they become the model's input is not declared "
        '(declare it, as in --preprocess "size=224x224,layout=nchw,scale=1/255,'
        'mean=0.485:0.456:0.406,std=0.229:0.224:0.225,resize=crop")'
    )


def test_refuses_a_model_that_takes_no_single_image(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(8, 10, 3))
    flat = InputSpec("x", F32, (1, 240), has_batch=True)

    assert refusal(tmp_path, flat) == (
        f"{tmp_path}: holds images, input 'x' has shape [1, 240], expected four dimensions: "
        "batch, channels, height and width (save the samples with np.savez)"
    )
    with pytest.raises(DataError, match="holds images, the model has 2 inputs, expected one"):
        open_samples(tmp_path, [NCHW, flat], preprocessing=Preprocessing())


def test_refuses_fewer_images_than_a_batch(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(8, 10, 3))
    spec = InputSpec("x", F32, (2, 3, 8, 10), has_batch=True)

    assert refusal(tmp_path, spec) == (
        f"{tmp_path}: holds 1 images, expected at least a batch of 2 (add images)"
    )


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_refuses_an_unreadable_image(tmp_path: Path, content: bytes | None) -> None:
    save(tmp_path / "a.png", noise(8, 10, 3))
    path = tmp_path / "b.png"
    path.write_bytes((tmp_path / "a.png").read_bytes()[:-60] if content is None else content)

    message = refusal(tmp_path)

    assert message.startswith(f"{path}: cannot be read as an image: ")
    assert message.endswith(" (remove or repair the file)")


def test_refuses_an_image_as_large_as_a_bomb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png", noise(8, 10, 3))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)

    assert "a.png: cannot be read as an image: Image size" in refusal(tmp_path)


def test_refuses_more_than_eight_bits(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 10), np.uint16)).save(tmp_path / "a.png")

    assert refusal(tmp_path).startswith(
        f"{tmp_path / 'a.png'}: has pixels of mode I;16, expected 8 bits per channel"
    )


def test_says_how_to_install_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.png", noise(8, 10, 3))
    monkeypatch.setitem(sys.modules, "PIL.Image", None)

    assert refusal(tmp_path) == (
        f"{tmp_path}: holds images, and Pillow, which reads them, is not installed "
        "(pip install 'edgec[images]')"
    )


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, edgec.data; print(*(m for m in ('PIL', 'onnx') if m in sys.modules))"

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert run.stdout.strip() == b""


# The declaration.


def test_parses_all_keys() -> None:
    text = (
        "size=224x320, layout=nhwc, scale=1/255, mean=0.5:0.25:1/2, std=2, resize=pad,"
        "resample=bicubic, color=bgr, fill=114"
    )

    assert Preprocessing.parse(text) == Preprocessing(
        size=(224, 320),
        layout="nhwc",
        scale=1 / 255,
        mean=(0.5, 0.25, 0.5),
        std=(2.0,),
        resize="pad",
        resample="bicubic",
        color="bgr",
        fill=114,
    )


def test_one_number_is_a_square() -> None:
    assert Preprocessing.parse("size=224").size == (224, 224)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("size=big", "size is 'big', allowed is a height and width in pixels such as 224"),
        ("size=224x", "size is '224x', allowed is"),
        ("size=0x3", "size is (0, 3), allowed is"),
        ("layout=hwc", "layout is 'hwc', allowed is nchw or nhwc"),
        ("layout=", "layout is '', allowed is nchw or nhwc"),
        ("scale=1/0", "scale is '1/0', allowed is a number other than 0 such as 0.5 or 1/255"),
        ("scale=0", "scale is 0.0, allowed is"),
        ("scale=inf", "scale is inf, allowed is"),
        ("scale", "scale is '', allowed is"),
        ("mean=1:x:2", "mean is '1:x:2', allowed is one number, or one per channel"),
        ("mean=nan", "mean is (nan,), allowed is"),
        ("mean=1:2", "mean has 2 numbers, color=rgb has 3 channels; allowed is one number"),
        ("color=gray,std=1:2:3", "std has 3 numbers, color=gray has 1 channels; allowed is"),
        ("std=0", "std is (0.0,), allowed is one positive number"),
        ("std=1:-1:1", "std is (1.0, -1.0, 1.0), allowed is"),
        ("std=inf", "std is (inf,), allowed is"),
        ("resize=fit", "resize is 'fit', allowed is stretch or crop or pad"),
        (
            "resample=lanczos",
            "resample is 'lanczos', allowed is bilinear or bicubic or nearest",
        ),
        ("color=yuv", "color is 'yuv', allowed is rgb or bgr or gray"),
        ("fill=256", "fill is 256, allowed is a pixel value from 0 to 255"),
        ("fill=-1", "fill is -1, allowed is"),
        ("fill=black", "fill is 'black', allowed is"),
        ("sise=3", "unknown key 'sise'; allowed are size, scale, mean, std, fill, layout,"),
        ("", "unknown key ''; allowed are"),
        ("scale=1,", "unknown key ''; allowed are"),
        ("scale=1,scale=2", "scale is given twice"),
    ],
)
def test_refuses_a_malformed_declaration(text: str, what: str) -> None:
    with pytest.raises(OptionError) as caught:
        Preprocessing.parse(text)

    assert str(caught.value).startswith(f"preprocessing: {what}")


def test_the_constructor_checks_too() -> None:
    options: dict[str, Any] = {"color": "cmyk"}

    with pytest.raises(OptionError, match="color is 'cmyk'"):
        Preprocessing(**options)


@pytest.mark.parametrize(
    ("shape", "text", "what"),
    [
        (
            (1, 3, 8, 3),
            "scale=1",
            "the layout does not follow from shape [1, 3, 8, 3] of input",
        ),
        (
            (1, 4, 8, 9),
            "scale=1",
            "the layout does not follow from shape [1, 4, 8, 9] of input",
        ),
        (
            (1, 1, 8, 9),
            "layout=nchw",
            "input 'x' of shape [1, 1, 8, 9] has 1 channels in layout=nchw, color=rgb has 3; "
            "give color=gray for 1 channel, color=rgb or color=bgr for 3, or the other layout",
        ),
        ((1, 3, 8, 9), "layout=nhwc", "input 'x' of shape [1, 3, 8, 9] has 9 channels in"),
        ((1, 3, 8, 9), "color=gray", "input 'x' of shape [1, 3, 8, 9] has 3 channels in"),
        (
            (1, 3, 8, 9),
            "size=9x8",
            "input 'x' of shape [1, 3, 8, 9] takes 8x9 pixels in layout=nchw, but size is 9x8; "
            "leave out size, or bind the input to that size",
        ),
    ],
)
def test_refuses_what_does_not_fit_the_model(
    tmp_path: Path, shape: tuple[int, ...], text: str, what: str
) -> None:
    save(tmp_path / "a.png", noise(8, 10, 3))
    spec = InputSpec("x", F32, shape, has_batch=True)

    assert refusal(tmp_path, spec, text).startswith(f"preprocessing: {what}")

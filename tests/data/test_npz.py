"""Archives: streamed values equal those of np.load, in bounded memory; damage is reported."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.data import Array, InputSpec, open_samples
from edgec.data.npz import DeflatedArray, open_npz
from edgec.errors import DataError

F32 = np.dtype(np.float32)
X = InputSpec("x", F32, (1, 2, 3), has_batch=True)
SAVERS = pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
Saver = Callable[..., None]


def ramp(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def noise(*shape: int) -> Array:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def read_all(path: Path, specs: Sequence[InputSpec]) -> None:
    samples = open_samples(path, specs)
    for _ in samples.feeds(range(samples.count)):
        pass


def refusal(path: Path, *specs: InputSpec) -> str:
    with pytest.raises(DataError) as caught:
        read_all(path, specs or (X,))
    return str(caught.value)


def write_member(path: Path, array: Array, method: int, name: str = "x.npy") -> None:
    buffer = io.BytesIO()
    np.save(buffer, array)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, buffer.getvalue())


@settings(deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 5), st.integers(1, 3)),
    batch=st.integers(1, 4),
    dtype=st.sampled_from(["<f4", ">f4", "<f8", "|u1", "<i4", "<f2"]),
    is_compressed=st.booleans(),
    is_stack=st.booleans(),
    data=st.data(),
)
def test_streamed_samples_equal_slices_of_the_loaded_array(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    batch: int,
    dtype: str,
    is_compressed: bool,
    is_stack: bool,
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.getbasetemp() / "property.npz"
    rows, *rest = shape
    whole = (noise(rows * batch, *rest) * 100).astype(dtype)
    array = whole.reshape(rows, batch, *rest) if is_stack else whole
    save: Saver = np.savez_compressed if is_compressed else np.savez
    save(path, first=ramp(3), **{"a/x:0": array})
    spec = InputSpec("a/x:0", F32, (batch, *rest), has_batch=True)
    start = data.draw(st.integers(0, rows))
    indices = range(start, data.draw(st.integers(start, rows)), data.draw(st.integers(1, 5)))

    samples = open_samples(path, [spec])

    loaded = np.load(path)["a/x:0"].reshape(rows, batch, *rest).astype(np.float32)
    for _ in range(2):  # may be read again
        got = [feed["a/x:0"] for feed in samples.feeds(indices)]
        assert len(got) == len(indices)
        for i, sample in zip(indices, got, strict=True):
            np.testing.assert_array_equal(sample, loaded[i], strict=True)


def test_a_deflated_archive_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.zeros((400, 25_000), np.float32))  # 40 MB
    samples = open_samples(path, [InputSpec("x", F32, (1, 25_000), has_batch=True)])

    tracemalloc.start()
    try:
        count = sum(1 for _ in samples.feeds(range(0, 400, 399)))
        count += sum(1 for _ in samples.feeds(range(400)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == 402
    assert peak < 2_000_000


def test_a_stored_archive_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((400, 25_000), np.float32))
    samples = open_samples(path, [InputSpec("x", F32, (1, 25_000), has_batch=True)])

    tracemalloc.start()
    try:
        count = sum(1 for _ in samples.feeds(range(400)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == 400
    assert peak < 2_000_000


def test_what_follows_the_last_sample_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write_member(path, noise(1000, 2, 3), zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    content[len(content) - 2000 : len(content) - 1000] = bytes(1000)
    path.write_bytes(content)
    samples = open_samples(path, [X])

    assert len(list(samples.feeds(range(3)))) == 3
    assert "is not an npz archive, or a damaged one" in refusal(path)


@SAVERS
def test_stops_early_and_leaves_nothing_open(tmp_path: Path, save: Saver) -> None:
    save(tmp_path / "x.npz", x=ramp(4, 2, 3))
    samples = open_samples(tmp_path / "x.npz", [X])

    stream = samples.feeds(range(4))
    next(stream)
    del stream  # an open file would be a ResourceWarning, which is an error here

    assert samples.count == 4


def test_an_error_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.full((4, 2, 3), np.nan))
    samples = open_samples(tmp_path / "x.npz", [X])
    opened = []

    class Recorded(zipfile.ZipFile):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            opened.append(self)

    monkeypatch.setattr(zipfile, "ZipFile", Recorded)
    with pytest.raises(DataError) as caught:  # keeps the frames of the stream alive
        next(samples.feeds(range(4)))

    assert "NaN" in str(caught.value)
    assert [archive.fp for archive in opened] == [None, None]


@SAVERS
def test_extras_of_an_archive_are_loaded_whole(tmp_path: Path, save: Saver) -> None:
    path = tmp_path / "x.npz"
    save(path, x=ramp(4, 2, 3), labels=ramp(4, 2), names=np.array(list("abcd")))

    samples = open_samples(path, [X], extras=["labels", "names"])

    np.testing.assert_array_equal(samples.extra("labels"), ramp(4, 2), strict=True)
    assert type(samples.extra("labels")) is np.ndarray
    assert (samples.extra("names") == np.array(list("abcd"))).all()  # type: ignore[union-attr]
    assert samples.notes == ()


def test_an_archive_may_follow_other_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=ramp(4, 2, 3))
    path.write_bytes(b"something in front" + path.read_bytes())

    got = [feed["x"] for feed in open_samples(path, [X]).feeds(range(4))]

    np.testing.assert_array_equal(np.concatenate(got), ramp(4, 2, 3))


def test_members_that_are_no_arrays_are_other_names(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write_member(path, ramp(1, 2, 3), zipfile.ZIP_STORED)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("folder/", b"")
        archive.writestr("y", b"")
        archive.writestr("z.npy", b"broken, but nobody asks for it")

    arrays, others = open_npz(path, {"x", "y"})

    assert list(arrays) == ["x"]
    assert others == ("y", "z")


def test_a_member_without_suffix_is_no_input(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write_member(path, ramp(1, 2, 3), zipfile.ZIP_STORED, name="x")

    assert refusal(path) == (
        f"{path}: found 'x', expected one array per model input: 'x'\n"
        "  no array for input 'x' (save an array named 'x')"
    )


def test_a_wrong_name_lists_what_was_found_and_expected(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, imagee=ramp(4, 2, 3))

    assert refusal(path, InputSpec("image", F32, (1, 2, 3), has_batch=True)) == (
        f"{path}: found 'imagee', expected one array per model input: 'image'\n"
        "  no array for input 'image' (did you mean 'imagee'? rename it to 'image')"
    )


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04" + bytes(50)])
def test_refuses_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)

    assert refusal(path) == (
        f"{path}: is not an npz archive, or a damaged one: File is not a zip file "
        "(write it again with np.savez or np.savez_compressed)"
    )


@SAVERS
def test_refuses_a_truncated_archive(tmp_path: Path, save: Saver) -> None:
    path = tmp_path / "x.npz"
    save(path, x=noise(40, 2, 3))
    path.write_bytes(path.read_bytes()[:-200])

    assert "is not an npz archive, or a damaged one" in refusal(path)


@pytest.mark.parametrize("array", [noise(3, 25_000), ramp(3, 25_000) // 9999])
def test_refuses_a_wrong_checksum_with_the_last_sample(tmp_path: Path, array: Array) -> None:
    path = tmp_path / "x.npz"
    spec = InputSpec("x", F32, (1, 25_000), has_batch=True)
    write_member(path, array, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path) as archive:
        crc = archive.getinfo("x.npy").CRC.to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(crc, b"\0\1\2\3"))
    samples = open_samples(path, [spec])

    assert len(list(samples.feeds(range(2)))) == 2
    with pytest.raises(DataError, match="Bad CRC-32"):
        list(samples.feeds(range(2, 3)))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_refuses_a_member_shorter_than_its_header_says(tmp_path: Path, method: int) -> None:
    path = tmp_path / "x.npz"
    buffer = io.BytesIO()
    np.save(buffer, ramp(4, 2, 3))
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.npy", buffer.getvalue()[:-10])

    assert refusal(path) == (
        f"{path}: 'x.npy': is truncated: it holds 86 bytes of values, its header announces 96 "
        "(write or download it again)"
    )


@pytest.mark.parametrize("at", [0, 3])
def test_a_stream_that_ends_early_is_an_error(tmp_path: Path, at: int) -> None:
    path = tmp_path / "x.npz"
    write_member(path, ramp(4, 2, 3), zipfile.ZIP_DEFLATED)
    (array,) = open_npz(path, {"x"})[0].values()
    write_member(path, ramp(1, 2, 1), zipfile.ZIP_DEFLATED)

    assert isinstance(array, DeflatedArray)
    with pytest.raises(DataError, match="a member ends before its last value"):
        list(array.pieces(6, range(at, 4)))


def test_refuses_a_member_that_is_no_array(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"not numpy")

    assert refusal(path).startswith(f"{path}: 'x.npy': is not an array in npy format: ")


def test_refuses_a_damaged_stream_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write_member(path, ramp(4, 2, 3), zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    content[35:60] = b"\xff" * 25
    path.write_bytes(content)

    assert refusal(path).startswith(f"{path}: 'x.npy': is not an array in npy format: Error -3")


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.asfortranarray(ramp(4, 2, 3)), "is in Fortran order, expected C order"),
        (np.array([None, {}]), "holds Python objects, expected numbers"),
    ],
)
@SAVERS
def test_refuses_arrays_that_cannot_be_streamed(
    tmp_path: Path, save: Saver, array: Any, what: str
) -> None:
    path = tmp_path / "x.npz"
    save(path, x=array)

    assert refusal(path).startswith(f"{path}: 'x.npy': {what}")


def test_refuses_another_compression(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write_member(path, ramp(4, 2, 3), zipfile.ZIP_BZIP2)

    assert "'x.npy': is compressed by another method than deflate" in refusal(path)


def test_refuses_an_encrypted_member(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write_member(path, ramp(4, 2, 3), zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)

    assert refusal(path) == f"{path}: 'x.npy': is encrypted (write the archive with np.savez)"


def test_refuses_a_value_that_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    x = ramp(4, 2, 3)
    x[3, 1, 1] = np.inf
    np.savez_compressed(path, x=x)

    assert refusal(path) == (
        f"{path}: input 'x', sample 3: 1 of 6 values are NaN or infinite, expected finite "
        "numbers (remove or repair the sample)"
    )

"""Binding arrays to inputs, and the sources other than archives and images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.data import Array, InputSpec, Preprocessing, Samples, open_samples
from edgec.errors import DataError, Diagnostic

F32 = np.dtype(np.float32)
X = InputSpec("x", F32, (1, 2, 3), has_batch=True)
FIXED = InputSpec("x", F32, (2, 3), has_batch=False)
BATCHED = InputSpec("x", F32, (4, 2), has_batch=True)


def ramp(*shape: int, dtype: Any = np.float32) -> Array:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def feeds_of(samples: Samples, name: str = "x") -> list[Array]:
    return [feed[name] for feed in samples.feeds(range(samples.count))]


def read_all(source: Any, specs: Sequence[InputSpec], **options: Any) -> None:
    samples = open_samples(source, specs, **options)
    for _ in samples.feeds(range(samples.count)):
        pass


def refusal(source: Any, *specs: InputSpec, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_all(source, specs or (X,), **options)
    return str(caught.value)


# How an array is cut into samples.


def test_a_batched_array_is_cut_along_its_first_axis() -> None:
    x = ramp(5, 2, 3)

    samples = open_samples({"x": x}, [X])

    assert samples.count == 5
    assert samples.notes == ()
    for i, got in enumerate(feeds_of(samples)):
        np.testing.assert_array_equal(got, x[i : i + 1], strict=True)


def test_an_array_of_rank_one_higher_is_a_stack_of_samples() -> None:
    x = ramp(5, 1, 2, 3)

    for i, got in enumerate(feeds_of(open_samples({"x": x}, [X]))):
        np.testing.assert_array_equal(got, x[i], strict=True)


def test_a_model_without_batch_takes_a_stack() -> None:
    x = ramp(2, 2, 3)

    got = feeds_of(open_samples({"x": x}, [FIXED]))

    np.testing.assert_array_equal(got, x, strict=True)


def test_a_scalar_input_takes_a_vector() -> None:
    spec = InputSpec("x", F32, (), has_batch=False)

    got = feeds_of(open_samples({"x": ramp(3)}, [spec]))

    assert [(g.shape, float(g)) for g in got] == [((), 0.0), ((), 1.0), ((), 2.0)]


def test_a_model_without_batch_refuses_the_batched_form() -> None:
    assert refusal({"x": ramp(5, 3)}, FIXED) == (
        "the data in memory does not fit the model\n"
        "  input 'x': found shape [5, 3], the model expects [N, 2, 3] (N is the number of "
        "samples; reshape the array, or preprocess it as for the model)"
    )


def test_rows_that_do_not_fill_a_batch_are_left_out_and_noted() -> None:
    x = ramp(11, 2)

    samples = open_samples({"x": x}, [BATCHED])

    np.testing.assert_array_equal(feeds_of(samples), [x[:4], x[4:8]], strict=True)
    assert samples.notes == (
        Diagnostic(
            "input 'x': 3 of 11 rows do not fill a batch of 4 and are left out",
            "the data in memory",
        ),
    )


def test_refuses_fewer_rows_than_a_batch() -> None:
    assert refusal({"x": ramp(3, 2)}, BATCHED) == (
        "the data in memory: there are no samples, expected at least one; input 'x': 3 of 3 "
        "rows do not fill a batch of 4 (add samples, or bind the batch to a smaller number)"
    )


def test_refuses_zero_samples() -> None:
    assert refusal({"x": ramp(0, 2, 3)}) == (
        "the data in memory: there are no samples, expected at least one (add samples)"
    )


@pytest.mark.parametrize("indices", [range(4, 8, 3), range(2, 2), range(9, 3), range(10)])
def test_feeds_any_increasing_indices(indices: range) -> None:
    x = ramp(10, 2, 3)
    samples = open_samples({"x": x}, [X])

    got = [feed["x"][0] for feed in samples.feeds(indices)]

    assert [g.tolist() for g in got] == [x[i].tolist() for i in indices]


@pytest.mark.parametrize("indices", [range(5, 0, -1), range(11), range(-1, 3)])
def test_refuses_indices_that_are_no_samples(tmp_path: Path, indices: range) -> None:
    np.save(tmp_path / "x.npy", ramp(10, 2, 3))

    for source in ({"x": ramp(10, 2, 3)}, tmp_path):
        samples = open_samples(source, [X])
        with pytest.raises(IndexError, match=r"increasing part of range\(0, 10\)"):
            samples.feeds(indices)


def test_a_feed_is_a_copy_that_its_owner_may_change() -> None:
    x = ramp(2, 2, 3)

    for feed in open_samples({"x": x}, [X]).feeds(range(2)):
        feed["x"][:] = -1

    np.testing.assert_array_equal(x, ramp(2, 2, 3))


def test_an_array_in_memory_may_be_in_fortran_order() -> None:
    x = np.asfortranarray(ramp(4, 2, 3))

    got = feeds_of(open_samples({"x": x}, [X]))

    np.testing.assert_array_equal(np.concatenate(got), x)
    assert all(g.flags.c_contiguous and type(g) is np.ndarray for g in got)


def test_several_inputs_are_fed_together() -> None:
    y = InputSpec("a/b:0", np.dtype(np.int64), (3,), has_batch=False)
    arrays = {"x": ramp(4, 2, 3), "a/b:0": ramp(4, 3, dtype=np.int64)}

    feeds = list(open_samples(arrays, [X, y]).feeds(range(1, 4, 2)))

    assert [list(feed) for feed in feeds] == [["x", "a/b:0"]] * 2
    assert [feed["a/b:0"].tolist() for feed in feeds] == [[3, 4, 5], [9, 10, 11]]


def test_refuses_different_counts() -> None:
    y = InputSpec("y", F32, (1,), has_batch=True)

    assert refusal({"x": ramp(4, 2, 3), "y": ramp(5)}, X, y) == (
        "the data in memory: input 'x' has 4 samples, input 'y' has 5, expected the same "
        "number (save as many samples of every input)"
    )


def test_refuses_a_model_without_inputs() -> None:
    with pytest.raises(DataError, match="the model has no inputs"):
        open_samples({}, [])


# Names, shapes, types and values.


def test_a_wrong_name_lists_what_was_found_and_expected() -> None:
    y = InputSpec("mask", F32, (1,), has_batch=True)

    assert refusal({"X": ramp(4, 2, 3), "z": ramp(1)}, X, y) == (
        "the data in memory: found 'X', 'z', expected one array per model input: 'x', 'mask'\n"
        "  no array for input 'x' (did you mean 'X'? rename it to 'x')\n"
        "  no array for input 'mask' (save an array named 'mask')"
    )


def test_a_single_array_of_another_name_is_not_taken() -> None:
    assert "found 'image', expected" in refusal({"image": ramp(4, 2, 3)})
    assert "found nothing, expected" in refusal({})


def test_long_lists_of_names_are_cut() -> None:
    arrays = {f"a{i}": ramp(1) for i in range(30)}

    assert "'a19', and 10 more, expected" in refusal(arrays)


def test_all_inputs_that_do_not_fit_are_listed() -> None:
    y = InputSpec("y", np.dtype(np.int64), (1, 2), has_batch=True)

    message = refusal({"x": ramp(4, 2, 4), "y": ramp(4, 2)}, X, y)

    assert message == (
        "the data in memory does not fit the model\n"
        "  input 'x': found shape [4, 2, 4], the model expects [N, 2, 3] or [N, 1, 2, 3] "
        "(N is the number of samples; reshape the array, or preprocess it as for the model)\n"
        "  input 'y': found dtype float32, the model expects int64 "
        "(save x.astype('int64') if the values mean the same)"
    )


@pytest.mark.parametrize(
    ("spec_shape", "shape", "axes"),
    [
        ((1, 3, 8, 9), (5, 8, 9, 3), (0, 3, 1, 2)),
        ((1, 8, 9, 3), (5, 3, 8, 9), (0, 2, 3, 1)),
    ],
)
def test_hints_at_channels_on_another_axis(
    spec_shape: tuple[int, ...], shape: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    spec = InputSpec("x", F32, spec_shape, has_batch=True)

    message = refusal({"x": ramp(*shape)}, spec)

    assert f"save x.transpose{axes}" in message
    assert np.empty(shape).transpose(axes).shape[1:] == spec_shape[1:]


@pytest.mark.parametrize(("spec", "shape"), [(FIXED, (2, 3)), (X, (2, 3))])
def test_hints_at_a_missing_axis(spec: InputSpec, shape: tuple[int, ...]) -> None:
    assert "it has no axis for the samples: save x[np.newaxis]" in refusal(
        {"x": ramp(*shape)}, spec
    )


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("float64", "float32"),
        ("float64", "float16"),
        ("float32", "float16"),
        ("float16", "float32"),
        ("uint8", "float32"),
        ("int64", "float32"),
        (">f4", "float32"),
        (">i8", "int64"),
        ("bool", "bool"),
    ],
)
def test_casts_where_the_meaning_stays(found: str, wanted: str) -> None:
    spec = InputSpec("x", np.dtype(wanted), (1, 3), has_batch=True)
    x = np.array([[0, 1, 2], [1, 0, 1]]).astype(found)

    got = np.concatenate(feeds_of(open_samples({"x": x}, [spec])))

    np.testing.assert_array_equal(got, x.astype(wanted), strict=True)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("float32", "int64"),
        ("float32", "uint8"),
        ("int32", "int64"),
        ("uint8", "int8"),
        ("bool", "float32"),
        ("complex64", "float32"),
        ("U3", "float32"),
    ],
)
def test_refuses_types_of_another_meaning(found: str, wanted: str) -> None:
    spec = InputSpec("x", np.dtype(wanted), (1, 3), has_batch=True)

    message = refusal({"x": np.zeros((2, 3), found)}, spec)

    assert f"input 'x': found dtype {np.dtype(found)}, the model expects {wanted}" in message


def test_bfloat16_counts_as_a_float() -> None:
    bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    spec = InputSpec("x", bfloat16, (1, 2), has_batch=True)

    (got,) = feeds_of(open_samples({"x": ramp(1, 2)}, [spec]))

    assert got.dtype == bfloat16
    assert "NaN" in refusal({"x": np.full((1, 2), np.nan)}, spec)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_refuses_a_sample_that_is_not_finite_when_it_comes(value: float) -> None:
    x = ramp(4, 2, 3)
    x[2, 0, 1] = value
    samples = open_samples({"x": x}, [X])

    assert len(list(samples.feeds(range(2)))) == 2
    assert refusal({"x": x}) == (
        "the data in memory: input 'x', sample 2: 1 of 6 values are NaN or infinite, expected "
        "finite numbers (remove or repair the sample)"
    )


def test_refuses_a_value_that_a_narrower_type_cannot_hold() -> None:
    x = np.full((1, 2, 3), 1e300)

    with np.errstate(all="raise"):
        message = refusal({"x": x})

    assert message == (
        "the data in memory: input 'x', sample 0: 6 of 6 values are too large for float32, "
        "which the model expects (scale the data into the range of float32)"
    )


def test_refuses_what_is_no_array_and_arrays_of_objects() -> None:
    assert refusal({"x": [[1.0]]}) == (
        "the data in memory: 'x' is a list, expected a numpy array (convert it with np.asarray)"
    )
    assert "the data in memory: 'x': holds Python objects" in refusal(
        {"x": np.array([None, 1])}
    )


def test_refuses_preprocessing_of_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ramp(4, 2, 3))
    declared = Preprocessing()

    for source in ({"x": ramp(4, 2, 3)}, tmp_path, tmp_path / "x.npy"):
        message = refusal(source, preprocessing=declared)
        assert "preprocessing is for folders of images, these are arrays" in message


# Extras and other names.


def test_gives_extras_and_notes_other_names() -> None:
    arrays = {"x": ramp(4, 2, 3), "labels": ramp(4), "other": ramp(9)}

    samples = open_samples(arrays, [X], extras=["labels", "weights"])

    np.testing.assert_array_equal(samples.extra("labels"), ramp(4), strict=True)
    assert samples.extra("weights") is None
    assert samples.extra("other") is None
    assert samples.notes == (
        Diagnostic(
            "arrays that are no inputs of the model are ignored: 'other'", "the data in memory"
        ),
    )


def test_extras_lose_the_rows_the_inputs_lose() -> None:
    samples = open_samples({"x": ramp(11, 2), "y": ramp(11)}, [BATCHED], extras=["y"])
    per_sample = open_samples({"x": ramp(11, 2), "y": ramp(2, 5)}, [BATCHED], extras=["y"])

    np.testing.assert_array_equal(samples.extra("y"), ramp(8))
    np.testing.assert_array_equal(per_sample.extra("y"), ramp(2, 5))


def test_refuses_extras_of_another_length() -> None:
    arrays = {"x": ramp(4, 2, 3), "labels": ramp(5)}

    assert refusal(arrays, extras=["labels"]) == (
        "the data in memory: 'labels' has shape [5], expected one row for each of the 4 "
        "samples (save as many rows of it as of the inputs)"
    )


# Single files.


def test_reads_an_npy_for_the_only_input(tmp_path: Path) -> None:
    x = ramp(5, 2, 3)
    np.save(tmp_path / "any.npy", x)

    samples = open_samples(str(tmp_path / "any.npy"), [X])

    np.testing.assert_array_equal(np.concatenate(feeds_of(samples)), x, strict=True)
    assert samples.extra("labels") is None
    assert all(type(feed["x"]) is np.ndarray for feed in samples.feeds(range(1)))


def test_an_npy_of_a_model_with_two_inputs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, ramp(5, 2, 3))

    assert refusal(path, X, InputSpec("y", F32, (1,), has_batch=True)) == (
        f"{path}: holds one array, the model has 2 inputs: 'x', 'y' "
        "(save one array per input with np.savez)"
    )


def test_refuses_a_path_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"

    assert refusal(path) == (
        f"{path}: cannot be read: No such file or directory (check the path of the data)"
    )
    assert "cannot be read: File name too long" in refusal(tmp_path / ("x" * 999))
    assert "embedded null" in refusal("x\0y")


def test_refuses_other_files(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("1")

    assert refusal(path) == (
        f"{path}: is not a data set; expected an .npz or .npy file, or a folder of arrays or "
        "images (save the inputs with np.savez, or name the folder)"
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is not an array in npy format: EOF"),
        (b"PK\x03\x04 not numpy", "is not an array in npy format: the magic string"),
        (b"\x93NUMPY\x03\x00", "version 3.0, expected 1.0 or 2.0"),
        (b"\x93NUMPY\x01\x00\x04\x00{(((", "is not an array in npy format"),
        (
            b"\x93NUMPY\x01\x00\x40\x00"
            + b"{'descr':'<f4','fortran_order':False,'shape':(-1,2,3)}".ljust(64),
            r"shape (-1, 2, 3) has a negative dimension",
        ),
    ],
)
def test_refuses_a_corrupt_npy(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)

    message = refusal(path)

    assert message.startswith(f"{path}: ")
    assert what in message


def test_refuses_a_truncated_npy(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, ramp(5, 2, 3))
    path.write_bytes(path.read_bytes()[:-1])

    assert refusal(path) == (
        f"{path}: is truncated: it holds 119 bytes of values, its header announces 120 "
        "(write or download it again)"
    )


def test_refuses_fortran_order_and_objects_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"

    np.save(path, np.asfortranarray(ramp(5, 2, 3)))
    assert refusal(path) == (
        f"{path}: is in Fortran order, expected C order, in which a sample lies in one piece "
        "(save np.ascontiguousarray(x))"
    )
    np.save(path, np.array([None]), allow_pickle=True)
    assert refusal(path) == (
        f"{path}: holds Python objects, expected numbers; edgec does not load pickles "
        "(save an array with a numeric dtype)"
    )


def test_reads_a_header_written_by_python_2(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    header = (
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1L, 2L, 3L)}".ljust(117) + b"\n"
    )
    path.write_bytes(b"\x93NUMPY\x01\x00\x76\x00" + header + ramp(1, 2, 3).tobytes())

    np.testing.assert_array_equal(feeds_of(open_samples(path, [X])), [ramp(1, 2, 3)])


def test_refuses_a_file_that_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.npy"
    np.save(path, ramp(5, 2, 3))
    samples = open_samples(path, [X])

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"x\.npy: cannot be read: Permission denied"):
        samples.digest()
    with pytest.raises(DataError, match=r"x\.npy: cannot be read: Permission denied"):
        list(samples.feeds(range(1)))


def test_notices_a_file_that_is_cut_off_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, ramp(5, 2, 3))
    feeds = open_samples(path, [X]).feeds(range(5))
    next(feeds)
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - 2)

    with pytest.raises(DataError, match="became shorter while it was read"):
        list(feeds)


def test_notices_a_file_that_changes_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, ramp(5, 2, 3))
    samples = open_samples(path, [X])
    np.save(path, ramp(4, 2, 3))

    with pytest.raises(DataError, match="has 4 samples now, and had another number"):
        list(samples.feeds(range(1)))


def test_an_input_without_elements_is_fed(tmp_path: Path) -> None:
    spec = InputSpec("x", F32, (0, 2), has_batch=False)
    np.save(tmp_path / "x.npy", ramp(3, 0, 2))

    got = feeds_of(open_samples(tmp_path / "x.npy", [spec]))

    assert [g.shape for g in got] == [(0, 2)] * 3


# Folders of arrays.


def save_all(folder: Path, arrays: Mapping[str, Array]) -> None:
    for name, array in arrays.items():
        np.save(folder / name, array)


def test_a_folder_adds_up_its_files_in_sorted_order(tmp_path: Path) -> None:
    x = ramp(9, 2, 3)
    save_all(tmp_path, {"c": x[7:], "a": x[:4], "b.NPY.npy": x[4:7]})
    (tmp_path / "README.md").write_text("ignored")
    (tmp_path / "._a.npy").write_text("what macOS leaves")
    (tmp_path / "sub").mkdir()

    samples = open_samples(tmp_path, [X])

    assert samples.count == 9
    np.testing.assert_array_equal(np.concatenate(feeds_of(samples)), x, strict=True)
    assert samples.notes == (
        Diagnostic("1 files that are no samples are ignored", str(tmp_path)),
    )


@pytest.mark.parametrize(
    "indices", [range(9), range(3, 5), range(1, 9, 3), range(8, 9), range(0, 9, 8), range(3, 3)]
)
def test_a_folder_feeds_any_increasing_indices(tmp_path: Path, indices: range) -> None:
    x = ramp(9, 2, 3)
    save_all(tmp_path, {"a": x[:4], "b": x[4:4], "c": x[4:7], "d": x[7:]})

    got = [feed["x"][0].tolist() for feed in open_samples(tmp_path, [X]).feeds(indices)]

    assert got == [x[i].tolist() for i in indices]


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3), (1, 1, 2, 3)])
def test_a_file_of_a_folder_may_be_one_sample(tmp_path: Path, shape: tuple[int, ...]) -> None:
    save_all(tmp_path, {f"{i}": ramp(*shape) + i for i in range(3)})

    got = feeds_of(open_samples(tmp_path, [X]))

    np.testing.assert_array_equal(got, [ramp(1, 2, 3) + i for i in range(3)], strict=True)


def test_a_file_of_a_folder_may_be_one_sample_without_batch(tmp_path: Path) -> None:
    save_all(tmp_path, {"0": ramp(2, 3), "1": ramp(3, 2, 3)})

    assert open_samples(tmp_path, [FIXED]).count == 4


def test_a_lone_row_is_no_sample_of_a_larger_batch(tmp_path: Path) -> None:
    save_all(tmp_path, {"0": ramp(2)})

    assert "found shape [2], the model expects [N, 2]" in refusal(tmp_path, BATCHED)


def test_a_folder_of_archives_holds_inputs_and_extras(tmp_path: Path) -> None:
    y = InputSpec("y", np.dtype(np.int64), (1,), has_batch=True)
    ids = ramp(5, dtype=np.int64)
    np.savez(tmp_path / "a.npz", x=ramp(4, 2, 3), y=ids[:4], labels=ids[:4])
    np.savez_compressed(tmp_path / "b.npz", x=ramp(2, 3), y=ids[4], labels=ids[4], z=ids)

    samples = open_samples(tmp_path, [X, y], extras=["labels", "none"])

    np.testing.assert_array_equal(np.concatenate(feeds_of(samples, "y")), ids, strict=True)
    np.testing.assert_array_equal(samples.extra("labels"), ids, strict=True)
    assert samples.extra("none") is None
    assert "ignored: 'z'" in str(samples.notes[0])


def test_notes_of_a_folder_add_up_the_rows_left_out(tmp_path: Path) -> None:
    save_all(tmp_path, {"a": ramp(5, 2), "b": ramp(6, 2)})

    samples = open_samples(tmp_path, [BATCHED])

    assert samples.count == 2
    assert [n.message for n in samples.notes] == [
        "input 'x': 3 of 11 rows do not fill a batch of 4 and are left out"
    ]


def test_refuses_extras_that_only_some_files_hold(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=ramp(4, 2, 3), labels=ramp(4))
    np.savez(tmp_path / "b.npz", x=ramp(4, 2, 3))
    samples = open_samples(tmp_path, [X], extras=["labels"])

    with pytest.raises(DataError, match=r"b\.npz: has no array 'labels', but other files"):
        samples.extra("labels")


def test_refuses_extras_of_different_shapes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=ramp(4, 2, 3), labels=ramp(4))
    np.savez(tmp_path / "b.npz", x=ramp(4, 2, 3), labels=ramp(4, 2))
    samples = open_samples(tmp_path, [X], extras=["labels"])

    with pytest.raises(DataError, match="the files do not agree in the shape of 'labels'"):
        samples.extra("labels")


def test_an_error_in_a_folder_names_the_file_and_the_sample(tmp_path: Path) -> None:
    save_all(tmp_path, {"a": ramp(4, 2, 3), "b": np.full((2, 2, 3), np.nan, np.float32)})

    assert refusal(tmp_path).startswith(f"{tmp_path / 'b.npy'}: input 'x', sample 4: 6 of 6")

    save_all(tmp_path, {"b": ramp(2, 2, 4)})
    assert refusal(tmp_path).startswith(f"{tmp_path / 'b.npy'} does not fit the model")


def test_refuses_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")

    assert refusal(tmp_path) == (
        f"{tmp_path}: holds no samples: expected .npy, .npz files in the folder itself, or "
        ".png, .jpg, .jpeg, .bmp, .webp images at any depth (check the path of the data)"
    )


def test_refuses_a_folder_of_arrays_and_images(tmp_path: Path) -> None:
    save_all(tmp_path, {"a": ramp(1)})
    (tmp_path / "b.png").write_bytes(b"")

    assert refusal(tmp_path) == (
        f"{tmp_path}: holds both arrays ('a.npy') and images ('b.png'), expected one kind "
        "(put them into folders of their own)"
    )


# Digests.


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, ramp(5, 2, 3))

    digest = open_samples(path, [X]).digest()

    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_digest_of_a_folder_depends_on_names_and_bytes(tmp_path: Path) -> None:
    def digest(folder: str, names: Sequence[str], first: float = 0) -> str:
        (tmp_path / folder).mkdir()
        save_all(tmp_path / folder, {n: ramp(1, 2, 3) + i + first for i, n in enumerate(names)})
        return open_samples(tmp_path / folder, [X]).digest()

    base = digest("1", "ab")

    assert len(base) == 64
    assert digest("2", "ab") == base
    assert digest("3", "ba") != base
    assert digest("4", "ac") != base
    assert digest("5", "ab", 1) != base


def test_the_digest_of_arrays_depends_on_all_that_counts() -> None:
    def digest(array: Array, **others: Array) -> str:
        spec = InputSpec("x", F32, array.shape[1:], has_batch=False)
        return open_samples({"x": array, **others}, [spec], extras=["y"]).digest()

    x = ramp(300, 300)
    base = digest(x)

    assert digest(np.asfortranarray(x)) == base
    assert digest(x, ignored=x) == base
    assert digest(x.reshape(300, 30, 10)) != base
    assert digest(x.astype(np.float64)) != base
    assert digest(x, y=x) != base
    changed = x.copy()
    changed[-1, -1] = 0
    assert digest(changed) != base

"""Binding arrays to inputs: how they are cut into samples, and which are refused."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from edgec.data import InputSpec, Preprocessing, open_samples
from edgec.errors import DataError, Diagnostic
from tests.data.arrays import BATCHED, F32, FIXED, X, feeds_of, ramp, refusal

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
    bfloat16 = np.dtype(ml_dtypes.bfloat16)
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

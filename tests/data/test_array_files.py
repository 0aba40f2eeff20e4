"""Arrays in files and in folders of files, and their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from edgec.data import Array, InputSpec, open_samples
from edgec.errors import DataError, Diagnostic
from tests.data.arrays import BATCHED, F32, FIXED, X, feeds_of, ramp, refusal

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

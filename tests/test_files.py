from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from edgec.errors import OptionError, OutputError
from edgec.files import check_outputs, json_bytes, read_report, write_files

HINT = "\n  give another folder with -o"


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_writes_all_files_into_a_new_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"

    write_files(folder, {"x.tflite": b"one", "report.json": b"two"})

    assert contents(folder) == {"x.tflite": b"one", "report.json": b"two"}


def test_replaces_what_is_there_and_keeps_the_rest(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    (tmp_path / "mine").write_bytes(b"mine")

    write_files(tmp_path, {"x": b"new"})

    assert contents(tmp_path) == {"x": b"new", "mine": b"mine"}


def test_files_have_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "other").touch()

    write_files(tmp_path, {"x": b""})

    assert (tmp_path / "x").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("link", ["same", "symlink", "hardlink", "dotted"])
def test_refuses_to_overwrite_the_input(tmp_path: Path, link: str) -> None:
    model = tmp_path / "net.onnx"
    model.write_bytes(b"model")
    out = tmp_path / "out"
    out.mkdir()
    if link == "same":
        out = tmp_path
    elif link == "symlink":
        (out / "net.onnx").symlink_to(model)
    elif link == "hardlink":
        (out / "net.onnx").hardlink_to(model)
    else:
        out = out / ".."

    with pytest.raises(OutputError) as caught:
        write_files(out, {"report.json": b"", "net.onnx": b"new"}, protect=[model])

    assert str(caught.value) == (
        f"would overwrite the input {model} with the output {out / 'net.onnx'}{HINT}"
    )
    assert model.read_bytes() == b"model"
    assert not (out / "report.json").exists()


def test_refuses_to_write_among_the_data(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        write_files(tmp_path, {"x": b""}, protect=[tmp_path])

    assert str(caught.value) == (
        f"would write into the input folder {tmp_path}, among the data{HINT}"
    )
    assert contents(tmp_path) == {}


def test_refuses_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").touch()

    with pytest.raises(OutputError) as caught:
        write_files(tmp_path / "f", {"x": b""})

    expected = f"cannot write into {tmp_path / 'f'}: it is a file, not a folder{HINT}"
    assert str(caught.value) == expected


def test_refuses_a_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").touch()

    with pytest.raises(OutputError) as caught:
        write_files(tmp_path / "f" / "g", {"x": b""})

    assert str(caught.value) == (
        f"cannot write {tmp_path / 'f' / 'g'}: Not a directory\n  nothing was written"
    )


def test_refuses_a_name_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()

    with pytest.raises(OutputError) as caught:
        write_files(tmp_path, {"a": b"", "x": b""})

    assert str(caught.value) == (
        f"cannot write {tmp_path / 'x'}: there is a folder of that name{HINT}"
    )
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("name", ["../x", "/x", "..", ""])
def test_takes_plain_names_only(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a file in a folder"):
        write_files(tmp_path, {name: b""})


def test_a_name_that_is_too_long_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new"

    with pytest.raises(OutputError, match="File name too long"):
        write_files(folder, {"a": b"1", "n" * 300: b"2"})

    assert not folder.exists()


def fail_at(monkeypatch: pytest.MonkeyPatch, call: int, code: int) -> None:
    """Let the n-th rename fail."""
    calls = iter(range(1, 100))
    real = Path.replace

    def replace(self: Path, target: Any) -> Path:
        if next(calls) == call:
            raise OSError(code, os.strerror(code), str(self), None, str(target))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)


def test_a_failed_rename_takes_all_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"old a")
    (tmp_path / "c").write_bytes(b"old c")
    (tmp_path / "link").symlink_to("a")
    fail_at(monkeypatch, 4, errno.EACCES)

    with pytest.raises(OutputError) as caught:
        write_files(tmp_path, {"link": b"new", "a": b"new", "b": b"new", "c": b"new"})

    assert str(caught.value) == (
        f"cannot write {tmp_path / 'c'}: Permission denied\n  nothing was written"
    )
    assert contents(tmp_path) == {"a": b"old a", "c": b"old c", "link": b"old a"}
    assert (tmp_path / "link").is_symlink()


def test_takes_back_without_hard_links_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    fail_at(monkeypatch, 2, errno.EIO)

    with pytest.raises(OutputError):
        write_files(tmp_path, {"a": b"new", "b": b"new"})

    assert contents(tmp_path) == {"a": b"old"}


def test_a_failed_rename_removes_the_new_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, 2, errno.EIO)

    with pytest.raises(OutputError):
        write_files(tmp_path / "x" / "y", {"a": b"new", "b": b"new"})

    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk, in a process of its own."""
    (tmp_path / "a").write_bytes(b"old")
    script = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        from edgec.errors import OutputError
        from edgec.files import write_files

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_files(Path(sys.argv[1]), {"a": b"new", "b": b"x" * 10_000})
        except OutputError as error:
            print(error)
    """)
    assert resource.RLIMIT_FSIZE

    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )

    assert (
        done.stdout == f"cannot write {tmp_path / 'b'}: File too large\n  nothing was written\n"
    )
    assert contents(tmp_path) == {"a": b"old"}


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    check_outputs(tmp_path / "new" / "folder", ["a"], [tmp_path / "net.onnx"])
    check_outputs(tmp_path, ["a"])

    assert list(tmp_path.iterdir()) == []


def test_checking_finds_an_unwritable_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *args: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, who may do all

    with pytest.raises(OutputError) as caught:
        check_outputs(tmp_path / "out", ["a"])

    assert str(caught.value) == (
        f"cannot write {tmp_path / 'out'}: Permission denied\n  nothing was written"
    )


REPORT_HINT = "\n  give the report.json that `edgec compile` wrote into its output folder"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, f"cannot read FILE: No such file or directory{REPORT_HINT}"),
        (b"", f"FILE is not JSON, or it is cut off: Expecting value: line 1 column 1 (char 0)"
              f"{REPORT_HINT}"),
        (b'{"schema": "edgec.rep', "FILE is not JSON, or it is cut off: Unterminated string "
         f"starting at: line 1 column 12 (char 11){REPORT_HINT}"),
        (b"[]", f"FILE is not a report of edgec{REPORT_HINT}"),
        (b'{"schema": 1}', f"FILE is not a report of edgec{REPORT_HINT}"),
        (b'{"schema": "edgec.report/2"}', "FILE is of version 'edgec.report/2', but this edgec "
         "reads 'edgec.report/1'\n  compile the model again, or use the edgec that wrote the "
         "report"),
    ],
)  # fmt: skip
def test_says_why_a_report_cannot_be_read(
    tmp_path: Path, data: bytes | None, message: str
) -> None:
    path = tmp_path / "report.json"
    if data is not None:
        path.write_bytes(data)

    with pytest.raises(OptionError) as caught:
        read_report(path)

    assert str(caught.value) == message.replace("FILE", str(path))
    assert caught.value.exit_code == 2


def test_a_report_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(b"\xff\xfe\xfa")

    with pytest.raises(OptionError, match="is not JSON, or it is cut off"):
        read_report(tmp_path / "r")


def test_json_comes_back_as_it_was() -> None:
    value = {"z": 0.1, "a": [1, None, "é\udc80"]}

    data = json_bytes(value)

    assert json.loads(data) == value
    assert data.endswith(b"}\n")


def test_names_may_begin_with_folders_which_go_if_it_fails(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_files(out, {"src/a/x.c": b"x", "y": b"y"})
    assert (out / "src" / "a" / "x.c").read_bytes() == b"x"
    assert sorted(p.name for p in out.iterdir()) == ["src", "y"]

    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError):
        write_files(tmp_path, {"new/inner/z": b"z", "file/w": b"w"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "out"]

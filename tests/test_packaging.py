"""What a user who installs the package gets."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import edgec

ROOT = Path(edgec.__file__).parent.parent


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_of_source_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "edgec").rglob("*.py")}

    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_only_the_package_is_packaged() -> None:
    assert project()["tool"]["setuptools"]["packages"]["find"]["include"] == ["edgec*"]


def test_data_files_are_there() -> None:
    for package, patterns in project()["tool"]["setuptools"]["package-data"].items():
        folder = ROOT.joinpath(*package.split("."))
        for pattern in patterns:
            assert list(folder.glob(pattern)), f"{package} has no {pattern}"


def test_the_version_is_that_of_the_package() -> None:
    assert project()["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "edgec.__version__"
    }
    assert edgec.__version__.count(".") == 2


def newest_setuptools_suffices() -> bool:
    """Whether the build backend that pyproject.toml asks for is installed."""
    try:
        return int(importlib.metadata.version("setuptools").split(".")[0]) >= 77
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.mark.skipif(not newest_setuptools_suffices(), reason="needs setuptools 77 or later")
def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(
        ROOT / "edgec", source / "edgec", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("passes", "targets"):
        if (ROOT / name).is_symlink():
            (source / name).symlink_to(Path("edgec") / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--wheel-dir", str(tmp_path), str(source)], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"edgec"}
    assert "edgec/py.typed" in names
    for path in (ROOT / "edgec").rglob("*"):
        if path.suffix in (".py", ".onnx", ".npz", ".toml"):
            assert path.relative_to(ROOT).as_posix() in names

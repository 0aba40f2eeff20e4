"""Compiling to a folder: what `edgec compile` and `edgec demo` have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgec.errors import Diagnostic, ModelError, OptionError
from edgec.files import check_outputs, write_files

if TYPE_CHECKING:
    from edgec.compiler import CompileOptions, Result

__all__ = ["ENDINGS", "build", "check_inputs"]

ENDINGS = {"tflite": ".tflite", "onnxruntime": ".onnx"}
"""How the names of artifacts end, by target."""


def build(model: Path, options: CompileOptions, output: Path, *, quiet: bool) -> Result:
    """Compile `model` and write everything into `output`.

    What can be known to fail is found before the work begins.
    """
    from edgec.cli.progress import progress
    from edgec.compiler import compile_model

    protect = check_inputs(model, options)
    artifacts = [model.stem + ENDINGS[t] for t in options.targets if t in ENDINGS]
    check_outputs(output, [*artifacts, f"{model.stem}.golden.npz", "report.json"], protect)
    with progress(quiet=quiet) as tell:
        result = compile_model(model, options, tell)
    write_files(output, {**result.files, **result.large}, protect=protect)
    return result


def check_inputs(model: Path, options: CompileOptions) -> list[Path]:
    """Return the files that go in; raise if one is not there."""
    if not model.is_file():
        what = "it is a folder" if model.is_dir() else "there is no such file"
        raise ModelError(
            f"cannot read {model}: {what}", [Diagnostic("give the path of an ONNX file")]
        )
    protect = [model]
    for option, path in (
        ("--calibration", options.calibration),
        ("--eval", options.evaluation),
    ):
        if isinstance(path, Path):
            if not path.exists():
                raise OptionError(f"cannot read {path}: there is no such file ({option})")
            protect.append(path)
    return protect

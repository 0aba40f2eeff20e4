from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgec.cli import main
from tests.gate.reports import make_report


@dataclass(frozen=True)
class Options:
    """Stands for the compiler's options: the same names, the same defaults."""

    targets: tuple[str, ...]
    recipe: str | None = None
    calibration: Path | None = None
    evaluation: Path | None = None
    ranges: str | None = None
    percentile: float | None = None
    effort: str = "default"
    recover: int | None = None
    scheme: str | None = None
    compare_speed: bool = True
    require_speedup: float | None = None
    shapes: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)
    io_dtype: str = "float32"
    io_layout: str = "keep"
    keep_float: tuple[str, ...] = ()
    metric: str | None = None
    label_offset: int = 0
    preprocess: str | None = None
    device: str | None = None
    verify: bool = True
    prove: bool = True
    max_float_error: float = 1e-3
    min_sqnr_db: float = 5.0
    max_drop: float | None = None
    target_macs: str | None = None
    target_size: str | None = None
    target_latency: str | None = None
    target_ram: str | None = None
    techniques: tuple[str, ...] = ()
    channel_multiple: int | None = None
    share_weights: str | None = None
    prune_weights: str | None = None
    max_ram: str | None = None
    max_flash: str | None = None
    project: str | None = None


@dataclass
class FakeCompiler:
    """Stands for the compiler: remembers what it was asked, answers what a test wants."""

    report: dict[str, Any] = field(default_factory=make_report)
    raises: BaseException | None = None
    refused: Exception | None = None
    calls: list[tuple[Path, Options]] = field(default_factory=list)

    def compile_model(self, model: Path, options: Options, progress: object = None) -> Any:
        self.calls.append((model, options))
        if self.raises is not None:
            raise self.raises
        names = [a["file"] for a in self.report["artifacts"]]
        files = dict.fromkeys(names, b"artifact") | {"report.json": b"{}"}
        made = ModuleType("result")
        made.__dict__.update(report=self.report, files=files, large={}, refused=self.refused)
        return made


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> FakeCompiler:
    fake = FakeCompiler()
    module = ModuleType("edgec.compiler")
    module.__dict__.update(CompileOptions=Options, compile_model=fake.compile_model)
    monkeypatch.setitem(sys.modules, "edgec.compiler", module)
    return fake


@pytest.fixture
def edgec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command line in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> Result:
        return CliRunner().invoke(main, args, prog_name="edgec")

    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"model")
    return path

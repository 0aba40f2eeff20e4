"""Quantized artifacts of edgec and of other tools, each made in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import Usage, measure
from benchmarks.scoring import Case, Float, Scores, case_named, float_scores, score
from edgec.files import json_bytes, read_report, write_files

__all__ = ["Bench", "Made", "Settings"]

PEERS = Path(__file__).parent / "peers"
ENDINGS = {"tflite": ".tflite", "onnxruntime": ".onnx"}


@dataclass(frozen=True)
class Made:
    """What a tool made, or why it did not.

    Parameters
    ----------
    label
        The tool with its settings.
    reason
        Why there is no file.
    """

    label: str
    path: Path | None
    usage: Usage
    reason: str = ""


@dataclass(frozen=True)
class Settings:
    """How edgec quantizes."""

    target: str
    effort: str
    recipe: str = "static_wi8_ai8"
    scheme: str | None = None

    def __str__(self) -> str:
        more = [] if self.scheme is None else [self.scheme]
        more += [self.recipe] if self.recipe != "static_wi8_ai8" else []
        return " ".join(["edgec", self.target, self.effort, *more])


@dataclass
class Bench:
    """What a run makes and measures, each once.

    Parameters
    ----------
    cache
        Keeps what float models compute, what other tools made, and scores by file.
    samples
        Test samples, at most.
    efforts
        Of edgec, from the least to the most.
    pythons
        Interpreters of tools that need an environment of their own, by the name of the tool.
    """

    cache: Path
    samples: int | None
    efforts: tuple[str, ...]
    pythons: Mapping[str, str] = field(default_factory=dict)
    _cases: dict[str, Case] = field(default_factory=dict)
    _made: dict[tuple[str, str], Made] = field(default_factory=dict)

    def case(self, name: str) -> Case:
        """Return a model with its samples; only the last is held."""
        if name not in self._cases:
            self._cases = {name: case_named(name, self.samples)}
        return self._cases[name]

    def floating(self, case: Case) -> Float:
        """Return what the model computes."""
        return float_scores(case, self.cache)

    def scores(self, made: Made, case: Case, *, delegate: bool = True) -> Scores:
        """Return how an artifact did."""
        assert made.path is not None
        wanted = self.floating(case)
        return score(made.path, case, wanted, self.cache, delegate=delegate)

    def edgec(self, case: Case, settings: Settings) -> Made:
        """Compile a model with the samples of the case."""
        key = case.name, str(settings)
        if key not in self._made:
            self._made[key] = self._compiled(case, settings)
        return self._made[key]

    def _compiled(self, case: Case, settings: Settings) -> Made:
        options = [
            *("--recipe", settings.recipe, "--calibration", str(self.calibration(case))),
            *("--effort", settings.effort),
            *(() if settings.scheme is None else ("--scheme", settings.scheme)),
        ]
        return self.compiled(
            str(settings), case.model, settings.target, [*options, *_shape(case)]
        )

    def compiled(self, label: str, model: Path, target: str, options: Sequence[str]) -> Made:
        """Run ``edgec compile``; what it makes is kept by what is in it.

        Nothing is refused for its fidelity, so that it can be shown.
        """
        out = self._out
        shutil.rmtree(out, ignore_errors=True)
        usage = _run(
            [
                *(sys.executable, "-m", "edgec", "compile", str(model), "--quiet"),
                *("-t", target, "-o", str(out), "--min-sqnr=-100", *options),
            ]
        )
        return self._kept(label, out / f"{model.stem}{ENDINGS[target]}", usage)

    @property
    def _out(self) -> Path:
        return self.cache / f"out-{os.getpid()}"  # two runs may share a cache

    def last_report(self) -> dict[str, Any]:
        """Return the report of what was compiled last."""
        return read_report(self._out / "report.json")

    def calibration(self, case: Case) -> Path:
        """Return a file with the calibration samples of a model."""
        path = self.cache / f"{case.name}-calibration.npz"
        if not path.exists():
            arrays: dict[str, Any] = {case.input: case.calibration}
            np.savez(path, **arrays)
        return path

    def peer(
        self, case: Case, tool: str, methods: Sequence[str], *, model: Path | None = None
    ) -> Made:
        """Return what a tool makes with the best of its methods.

        Methods are tried on the part of the calibration samples that edgec calibrates on, and
        chosen by the SQNR on the rest; the best one then gets all.
        """
        count = len(case.calibration)
        fit = count - min(count // 4, 64)
        best = methods[0]
        if len(methods) > 1:
            held = replace(case, test=case.calibration[fit:], labels=None)
            tried = [self._peer(case, tool, method, fit, model) for method in methods]
            found = {
                method: reached
                for method, made in zip(methods, tried, strict=True)
                if (reached := self._reached(made, held)) is not None
            }
            if not found:
                return tried[0]
            best = max(found, key=lambda method: found[method])
        return self._peer(case, tool, best, count, model)

    def _reached(self, made: Made, case: Case) -> float | None:
        """Return the SQNR of an artifact, ``None`` if there is none or it does not run."""
        if made.path is None:
            return None
        try:
            return self.scores(made, case).worst_sqnr
        except Exception as error:  # noqa: BLE001  (runtimes raise plain exceptions)
            print(f"  {made.label:38} does not run: {str(error).splitlines()[0]}", flush=True)
            return None

    def _peer(self, case: Case, tool: str, method: str, count: int, model: Path | None) -> Made:
        script = PEERS / f"quantize_{tool}.py"
        samples = self.calibration(case)
        source = model or case.model
        key = hashlib.sha256(script.read_bytes() + source.read_bytes() + samples.read_bytes())
        key.update(f"{method} {count}".encode())
        label = f"{tool} {method}".strip()
        stem = f"peer-{key.hexdigest()[:24]}"
        suffix = ".tflite" if source.suffix == ".tflite" else ".onnx"
        path, note = self.cache / f"{stem}{suffix}", self.cache / f"{stem}.json"
        if not note.exists():
            python = self.pythons.get(tool, sys.executable)
            arguments = [str(source), str(samples), str(count), str(path)]
            usage = _run([python, str(script), *arguments, *([method] if method else [])])
            write_files(self.cache, {note.name: json_bytes(asdict(usage))})
        usage = Usage(**json.loads(note.read_text()))
        if usage.exit_code or not path.exists():
            return Made(label, None, usage, _why(usage))
        return Made(label, path, usage)

    def float_tflite(self, case: Case) -> Made:
        """Return edgec's float TFLite file, which LiteRT's calibrator starts from."""
        key = case.name, "float"
        if key not in self._made:
            options = ["--calibration", str(self.calibration(case)), *_shape(case)]
            self._made[key] = self.compiled("edgec float", case.model, "tflite", options)
        return self._made[key]

    def _kept(self, label: str, path: Path, usage: Usage) -> Made:
        if usage.exit_code or not path.exists():
            return Made(label, None, usage, _why(usage))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:24]
        kept = self.cache / f"edgec-{digest}{path.suffix}"
        shutil.copyfile(path, kept)
        return Made(label, kept, usage)


def _run(command: Sequence[str]) -> Usage:
    return measure(command, {**os.environ, "PYTHONPATH": str(Path.cwd())})


def _shape(case: Case) -> list[str]:
    return ["--shape", f"{case.input}={','.join(map(str, case.shape))}"]


def _why(usage: Usage) -> str:
    """Return the last that a tool said, where that is no advice."""
    lines = [line.strip() for line in usage.output.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("hint:")]
    return f"exit code {usage.exit_code}: {(told or ['no output'])[-1][:200]}"

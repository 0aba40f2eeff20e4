"""The report of a compilation: everything that was done, and what came out, as JSON."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec import __version__
from edgec.calibration import DEFAULT
from edgec.contents import sha256_of
from edgec.cost import cost
from edgec.errors import Diagnostic
from edgec.files import REPORT_SCHEMA
from edgec.frontend import Loaded
from edgec.numerics import Agreement
from edgec.options import calibrates
from edgec.passes import LayerRecord, PassRecord
from edgec.proof import Evaluation
from edgec.speed import Speed
from edgec.targets import Port

if TYPE_CHECKING:
    from edgec.calibration import CalibrationReport
    from edgec.compiler import Compiled
    from edgec.options import CompileOptions

__all__ = ["build_report", "speed_entry"]

_PACKAGES = ("onnx", "onnxruntime", "ai-edge-litert", "numpy")


def build_report(
    *,
    loaded: Loaded,
    options: CompileOptions,
    records: Sequence[PassRecord],
    compiled: Sequence[Compiled],
    proof: Mapping[str, Agreement],
    evaluation: Evaluation | None,
    data: dict[str, Any] | None,
    told: CalibrationReport | None,
    notes: Sequence[Diagnostic],
    stem: str,
    golden: bytes | None,
    speeds: Mapping[str, Speed],
    structure: Mapping[str, Speed],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Return the report; only what is under "run" varies from one run to the next."""
    steps = [("", r) for r in records]
    steps += [(c.target, r) for c in compiled for r in c.records]
    ranges = options.ranges or DEFAULT
    return {
        "schema": REPORT_SCHEMA,
        "edgec": __version__,
        "model": _model(loaded, records),
        "options": _options(options),
        "versions": {name: metadata.version(name) for name in _PACKAGES},
        "ledger": [
            _line(target, r, proof[target].sqnr_db if r.promise == "lossy" and proof else None)
            for target, r in steps
        ],
        "calibration": data
        and {
            **data,
            "ranges": None if told is None else ranges,
            "report": None if told is None else told.to_dict(),
        },
        "evaluation": evaluation
        and {
            "samples": evaluation.samples,
            "metric": evaluation.metric,
            "float": evaluation.reference,
            "warnings": [asdict(w) for w in evaluation.warnings],
        },
        "artifacts": [
            _artifact(c, proof.get(c.target), evaluation, stem, options) for c in compiled
        ],
        "diagnostics": [asdict(d) for d in notes],
        "golden": None if golden is None else f"{stem}.golden.npz",
        "digests": {
            name: sha256_of(data)
            for name, data in (
                (f"{stem}.golden.npz", golden),
                *(pair for c in compiled for pair in c.artifact.files(stem).items()),
            )
            if data is not None
        },
        "run": {
            "seconds": {**seconds, "passes": [round(r.seconds, 4) for _, r in steps]},
            "profile": {},
            "speed": {
                name: speed_entry(speed, integers=calibrates(options))
                for name, speed in speeds.items()
            },
            "structure": {
                name: speed_entry(speed, integers=False) for name, speed in structure.items()
            },
        },
    }


def speed_entry(speed: Speed, *, integers: bool) -> dict[str, Any]:
    """Return how fast an artifact is, and whether its recipe computes on integers."""
    return {
        **asdict(speed),
        "hotspots": [{**asdict(s), "operators": list(s.operators)} for s in speed.hotspots],
        "slower": speed.is_slower,
        "faster": speed.is_faster,
        "integers": integers,
    }


def _model(loaded: Loaded, records: Sequence[PassRecord]) -> dict[str, Any]:
    with loaded.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    price = cost(loaded.graph)
    # Shapes that the model computes are known only after constant folding, the first pass.
    known = records[0].after if records else price
    price = replace(
        price,
        macs=known.macs,
        peak_activation_bytes=price.peak_activation_bytes or known.peak_activation_bytes,
    )
    return {
        "file": loaded.path.name,
        "sha256": digest,
        "opset": loaded.opset,
        # Weights beside the file count: what is compared is what the user ships.
        "bytes": loaded.size_bytes,
        **asdict(price),
    }


def _options(options: CompileOptions) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in options.__dataclass_fields__:
        value = getattr(options, name)
        if isinstance(value, Path):
            value = value.name
        elif name in ("calibration", "evaluation") and value is not None:
            value = "arrays"
        elif name == "shapes":
            value = {k: list(v) for k, v in value.items()}
        out[name] = list(value) if isinstance(value, tuple) else value
    return out


def _line(target: str, r: PassRecord, sqnr_db: float | None) -> dict[str, Any]:
    before, after = r.before, r.after
    return {
        "target": target,
        "pass": r.name,
        "promise": r.promise,
        "changed": r.changed,
        "verified": r.error is not None,
        "nodes": [before.nodes, after.nodes],
        "parameters": [before.parameters, after.parameters],
        "macs": [before.macs, after.macs],
        "weight_bytes": [before.weight_bytes, after.weight_bytes],
        "error": r.error,
        "sqnr_db": None if sqnr_db is None else round(sqnr_db, 2),
        "diagnostics": [asdict(d) for d in r.diagnostics],
        **({"layers": [_layer(found) for found in r.layers]} if r.layers else {}),
    }


def _layer(r: LayerRecord) -> dict[str, Any]:
    ratios = [round(db, 2) for db in (r.before_db, r.after_db) if math.isfinite(db)]
    return {
        "layer": r.layer,
        **({"sqnr_db": ratios} if ratios else {}),
        "kept": r.kept,
        **({} if r.nats is None else {"nats": list(r.nats)}),
        **({} if r.macs is None else {"macs": list(r.macs)}),
        **({} if r.weight_bytes is None else {"weight_bytes": list(r.weight_bytes)}),
    }


def _artifact(
    c: Compiled,
    agreement: Agreement | None,
    evaluation: Evaluation | None,
    stem: str,
    options: CompileOptions,
) -> dict[str, Any]:
    value = evaluation.artifacts[c.target] if evaluation else None
    own = evaluation is not None and evaluation.metric != "accuracy"
    file, *beside = c.artifact.inside(stem)
    return {
        "target": c.target,
        "file": file,
        "sha256": hashlib.sha256(c.artifact.data).hexdigest(),
        **({} if c.artifact.outside is None else {"weights": c.artifact.outside.file}),
        "bytes": c.artifact.size_bytes,
        **({"beside": beside} if beside else {}),
        **({} if c.measured is None else {"device": dict(c.measured)}),
        "operators": dict(c.artifact.operators),
        "transposes": [name for code, name in c.artifact.layers if code == "TRANSPOSE"],
        "quantized": c.is_quantized,
        "settings": dict(c.settings),
        **asdict(c.price),
        "inputs": [_port(p) for p in c.artifact.inputs],
        "outputs": [_port(p) for p in c.artifact.outputs],
        "fidelity": agreement
        and {
            "samples": agreement.samples,
            "sqnr_db": round(agreement.sqnr_db, 2),
            "max_error": agreement.max_error,
            "max_relative_error": agreement.max_relative_error,
            "top1_agreement": agreement.top1,
        },
        "accuracy": None if own else value,
        "agreement": evaluation.top1[c.target] if evaluation else None,
        **({} if c.search is None else {"search": dict(c.search)}),
        **({} if c.compression is None else {"compression": dict(c.compression)}),
        **({} if c.sharing is None else {"sharing": dict(c.sharing)}),
        "metric": {"name": options.metric, "value": value} if own else None,
        "diagnostics": [asdict(d) for d in c.diagnostics],
    }


def _port(port: Port) -> dict[str, Any]:
    return {
        "name": port.name,
        "dtype": port.container or port.dtype.name.lower(),
        "shape": list(port.shape),
        "scale": None if port.params is None else port.params.scale[0],
        "zero_point": None if port.params is None else port.params.zero_point[0],
        "perm": list(port.perm),
    }

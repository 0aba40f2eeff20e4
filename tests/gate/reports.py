"""A complete report, as the compiler writes it."""

from __future__ import annotations

from typing import Any

__all__ = ["make_report"]


def make_report() -> dict[str, Any]:
    """Return a fresh report of one model for two targets, profiled on one of them."""
    return {
        "schema": "edgec.report/1",
        "edgec": "0.1.0",
        "model": {
            "file": "net.onnx",
            "sha256": "00",
            "opset": 13,
            "bytes": 400_000,
            "nodes": 25,
            "parameters": 97_400,
            "macs": 1_230_000,
            "weight_bytes": 389_600,
            "peak_activation_bytes": 65_536,
        },
        "options": {"recipe": "static_wi8_ai8"},
        "versions": {},
        "ledger": [
            _line("", "fold-batchnorm", [25, 18], error=1.2e-7),
            _line("", "eliminate-identities", [18, 18], changed=False, error=0.0),
            _line("tflite", "quantize", [18, 60], promise="lossy", sqnr_db=25.14),
        ],
        "calibration": {"samples": 96, "held_out": 32, "ranges": "mse", "sha256": "11"},
        "evaluation": {"samples": 900, "metric": "accuracy", "float": 0.98},
        "artifacts": [
            _artifact("tflite", "net.tflite", 105_000, 0.975, 25.14),
            _artifact("onnxruntime", "net.onnx", 120_000, 0.985, 30.5),
        ],
        "diagnostics": [],
        "golden": "net.golden.npz",
        "run": {
            "seconds": {"passes": [0.25, 0.01, 1.5]},
            "profile": {
                "tflite": {
                    "latency_ms": 1.25,
                    "latency_p95_ms": 1.5,
                    "cold_ms": 12.0,
                    "peak_rss_bytes": 50_000_000,
                }
            },
        },
    }


def _line(target: str, name: str, nodes: list[int], **more: Any) -> dict[str, Any]:
    return {
        "target": target,
        "pass": name,
        "promise": "within 0.0001",
        "changed": True,
        "verified": True,
        "nodes": nodes,
        "parameters": [97_400, 97_400],
        "macs": [1_230_000, 1_230_000],
        "weight_bytes": [389_600, 389_600],
        "error": None,
        "sqnr_db": None,
        "diagnostics": [],
        **more,
    }


def _artifact(
    target: str, file: str, size: int, accuracy: float, sqnr_db: float
) -> dict[str, Any]:
    return {
        "target": target,
        "file": file,
        "sha256": f"sha-{target}",
        "bytes": size,
        "operators": {"CONV_2D": 9, "ADD": 3},
        "quantized": True,
        "nodes": 12,
        "parameters": 97_400,
        "macs": 1_230_000,
        "weight_bytes": 97_400,
        "peak_activation_bytes": 16_384,
        "inputs": [],
        "outputs": [],
        "fidelity": {
            "samples": 32,
            "sqnr_db": sqnr_db,
            "max_error": 0.1,
            "max_relative_error": 0.01,
            "top1_agreement": 0.99,
        },
        "accuracy": accuracy,
        "metric": None,
        "diagnostics": [],
    }

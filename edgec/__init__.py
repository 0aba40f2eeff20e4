"""edgec: compile ONNX models for small devices."""

from __future__ import annotations

__version__ = "0.1.0"

"""Ways in: models of other formats as graphs of edgec."""

from edgec.frontend.onnx import Loaded, load

__all__ = ["Loaded", "load"]

"""What --share-weights saves and loses, as lines on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgec.cli.numbers import bytes_text

__all__ = ["sharing_lines"]


def sharing_lines(artifact: Mapping[str, Any]) -> Iterator[str]:
    """Yield what became of an artifact's weights."""
    found = artifact.get("sharing")
    if not found:
        return
    layers = found["layers"]
    packed = sum(layer["packed"] for layer in layers)
    count = "1 sample" if found["samples"] == 1 else f"{found['samples']} samples"
    before, after = found["nats"]
    yield (
        f"\n{artifact['file']} has at most {found['values']} values to a {found['each']} in "
        f"{packed} of {len(layers)} quantized layers"
    )
    yield f"  {before:.2g} → {after:.2g} nats from the float model, on {count}"
    yield f"  as indices and values {_grown(found['package_bytes'])}"
    yield f"  file compressed by zlib {_grown(found['zlib_bytes'])}"


def _grown(sizes: Sequence[int]) -> str:
    before, after = sizes
    return f"{bytes_text(before)} → {bytes_text(after)}, {before / max(after, 1):.2f}x smaller"

"""A drawing of the arena over time, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from xml.sax.saxutils import escape

from edgec.targets.microcontroller.memory import Buffer, Plan

__all__ = ["memory_svg"]

_LEFT, _TOP, _WIDTH, _HEIGHT = 70, 40, 860, 420
_COLOURS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#999999")


def memory_svg(
    plan: Plan,
    buffers: Sequence[Buffer],
    *,
    title: str = "",
    labels: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return a picture with a box for each buffer: steps from left to right, bytes upwards.

    What lies over something else can be seen through, so that overlays show. Each box tells
    its name, size, place and steps where a browser points at it.

    Parameters
    ----------
    labels
        What to call buffers, by their names.
    """
    start = min((b.first for b in buffers), default=0)
    steps = max((b.last for b in buffers), default=0) - start + 1
    across, up = _WIDTH / steps, _HEIGHT / max(plan.size, 1)
    height = _TOP + _HEIGHT + 50
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 20}" '
        f'height="{height}" font-family="sans-serif" font-size="11">',
        f'<text x="{_LEFT}" y="24" font-size="15">{escape(title or "Arena")}: '
        f"{plan.size:,} bytes</text>",
    ]
    for k, buffer in enumerate(sorted(buffers, key=lambda b: (b.first, b.last, b.name))):
        at = plan.offsets[buffer.name]
        label = labels.get(buffer.name, buffer.name)
        lines.append(
            _box(
                x=_LEFT + (buffer.first - start) * across,
                y=_TOP + _HEIGHT - (at + buffer.size) * up,
                width=(buffer.last - buffer.first + 1) * across,
                height=buffer.size * up,
                colour=_COLOURS[k % len(_COLOURS)],
                label=label,
                tip=f"{label}: {buffer.size:,} bytes from {at:,}, "
                f"steps {buffer.first} to {buffer.last}",
            )
        )
    lines += _axes(plan.size, start, steps, across)
    return "\n".join([*lines, "</svg>", ""])


def _box(
    *, x: float, y: float, width: float, height: float, colour: str, label: str, tip: str
) -> str:
    place = f'x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
    box = (
        f'<g><title>{escape(tip)}</title><rect {place} fill="{colour}" fill-opacity="0.6" '
        f'stroke="#333" stroke-width="0.5"/>'
    )
    fits = int(width / 6.2)  # letters of this size, about
    if height < 12 or fits < 3:
        return box + "</g>"
    text = label if len(label) <= fits else label[: fits - 1] + "…"
    return f'{box}<text x="{x + 3:.2f}" y="{y + 12:.2f}">{escape(text)}</text></g>'


def _axes(size: int, start: int, steps: int, across: float) -> list[str]:
    bottom = _TOP + _HEIGHT
    lines = list[str]()
    for k in range(5):
        y = bottom - k * _HEIGHT / 4
        lines.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_LEFT + _WIDTH}" y2="{y:.1f}" stroke="#bbb" '
            f'stroke-width="0.5"/><text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{size * k // 4:,}</text>"
        )
    every = max(1, -(-steps // 24))
    lines += [
        f'<text x="{_LEFT + (k + 0.5) * across:.1f}" y="{bottom + 16}" '
        f'text-anchor="middle">{start + k}</text>'
        for k in range(0, steps, every)
    ]
    lines.append(f'<text x="{_LEFT}" y="{bottom + 38}">step</text>')
    return lines

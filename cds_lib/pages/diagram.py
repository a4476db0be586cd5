"""One picture of what contrastive deep supervision is: the views, the stages, the taps with their heads, the losses.

Plain SVG with its own colours for light and dark pages; the same bytes every time. It is narrow, so that it can be read
on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

# Separable-convolution units of the head of each stage; the last stage is its own embedding.
HEADS = (3, 2, 1, 0)
WIDTH, STEP, TOP = 480, 66, 176
TITLE = "Contrastive deep supervision in one picture"
DESCRIPTION = (
    "An image becomes two augmented views, and both go through one network of four stages. The output of each of the "
    "first three stages goes through a head of three, two and one separable-convolution units to an embedding; the "
    "fourth stage's pooled vector is the embedding itself. A contrastive loss acts on the embeddings of each stage, "
    "cross-entropy on the classifier behind the last stage. Heads and contrastive losses exist in training only."
)
STYLE = """
.cds-diagram { max-width: 34rem; width: 100%; height: auto; display: block; }
.cds-diagram text { font: 15px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; fill: #1d2129; }
.cds-diagram .small { font-size: 13px; }
.cds-diagram .box { fill: #e3eefb; stroke: #0b57b0; stroke-width: 1.5; }
.cds-diagram .head { fill: #fdf1dc; stroke: #9a5b00; stroke-width: 1.5; stroke-dasharray: 5 3; }
.cds-diagram .plain { fill: #ffffff; stroke: #1d2129; stroke-width: 1.5; }
.cds-diagram .line { stroke: #4a5361; stroke-width: 1.5; fill: none; }
.cds-diagram .tip { fill: #4a5361; }
@media screen and (prefers-color-scheme: dark) {
  .cds-diagram text { fill: #e4e7eb; }
  .cds-diagram .box { fill: #17304f; stroke: #7db6ff; }
  .cds-diagram .head { fill: #3d2c0c; stroke: #e0a94a; }
  .cds-diagram .plain { fill: #15181c; stroke: #e4e7eb; }
  .cds-diagram .line { stroke: #a2abb8; }
  .cds-diagram .tip { fill: #a2abb8; }
}
"""


def svg() -> str:
    """The picture as an SVG element, to stand in a page or in a file of its own."""
    bottom = TOP + len(HEADS) * STEP
    parts = [
        *_box("plain", 160, 8, 160, 36, "image"),
        *_arrow(200, 44, 120, 66),
        *_arrow(280, 44, 360, 66),
        *_box("plain", 24, 68, 196, 52, "view 1", "crop, flip"),
        *_box("plain", 260, 68, 196, 52, "view 2", "crop, flip, colours"),
        *_arrow(88, 120, 88, TOP - 2),
        *_arrow(300, 120, 300, 146, 88, 146, 88, TOP - 2),
        _text(310, 150, "both through one network", "start", small=True),
    ]
    for index, units in enumerate(HEADS):
        parts += _stage(index, units)
    parts += [
        *_arrow(88, bottom - 20, 88, bottom),
        *_box("box", 24, bottom + 2, 128, 46, "classifier"),
        *_arrow(152, bottom + 25, 346, bottom + 25),
        *_box("plain", 348, bottom + 2, 122, 46, "cross-entropy", "of view 1"),
        f'<line class="line" x1="24" x2="456" y1="{bottom + 66}" y2="{bottom + 66}"/>',
        *_box("box", 24, bottom + 80, 28, 20),
        _text(60, bottom + 95, "in training and afterwards", "start", small=True),
        *_box("head", 250, bottom + 80, 28, 20),
        _text(286, bottom + 95, "in training only", "start", small=True),
    ]
    return (
        f'<svg class="cds-diagram" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 110}" role="img" '
        f'aria-labelledby="cds-diagram-title cds-diagram-description"><title id="cds-diagram-title">{TITLE}</title>'
        f'<desc id="cds-diagram-description">{escape(DESCRIPTION)}</desc><style>{STYLE}</style>'
        + "\n".join(parts)
        + "</svg>"
    )


def _stage(index: int, units: int) -> list[str]:
    """A row: the stage, its head if it has one, the loss on its embedding; an arrow from the stage above."""
    y, last = TOP + index * STEP, units == 0
    parts = _arrow(88, y - 20, 88, y - 2) if index else []
    parts += _box("box", 24, y, 128, 46, f"stage {index + 1}")
    if last:
        parts += _arrow(152, y + 23, 346, y + 23)
        parts.append(_text(250, y + 16, "pooled, no head", "middle", small=True))
    else:
        parts += _arrow(152, y + 23, 190, y + 23)
        parts += _box("head", 192, y, 116, 46, "head", "1 unit" if units == 1 else f"{units} units")
        parts += _arrow(308, y + 23, 346, y + 23)
    return [*parts, *_box("plain", 348, y, 122, 46, "contrastive", f"loss of tap {index + 1}")]


def _box(kind: str, x: int, y: int, width: int, height: int, *lines: str) -> list[str]:
    parts = [f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>']
    first = y + height / 2 + 5 - 9 * (len(lines) - 1)
    for number, line in enumerate(lines):
        parts.append(_text(x + width / 2, first + 18 * number, line, "middle", small=number > 0))
    return parts


def _text(x: float, y: float, text: str, anchor: str, small: bool = False) -> str:
    kind = ' class="small"' if small else ""
    return f'<text{kind} x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _arrow(*corners: int) -> list[str]:
    """A line through x1, y1, x2, y2, ... with a tip at its end."""
    points = list(zip(corners[::2], corners[1::2], strict=True))
    (x0, y0), (x, y) = points[-2:]
    length = math.hypot(x - x0, y - y0)
    ux, uy = (x - x0) / length, (y - y0) / length
    tip = ((x, y), (x - 9 * ux - 4 * uy, y - 9 * uy + 4 * ux), (x - 9 * ux + 4 * uy, y - 9 * uy - 4 * ux))
    return [f'<polyline class="line" points="{_points(points)}"/>', f'<polygon class="tip" points="{_points(tip)}"/>']


def _points(corners: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)

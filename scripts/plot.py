"""A plot of lines on logarithmic scales, as SVG text that can be read on dark and on light."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 480, 60, 210, 44, 44
COLORS: Final = (
    "#d62728", "#e8850c", "#1f77b4", "#4aa8d8", "#2ca02c", "#9467bd", "#8c6d31",
    "#c7579a", "#7f8c1d", "#17a2a2", "#7a7f87", "#b5651d", "#5b6ee1", "#3d9970",
)  # fmt: skip
STYLE: Final = """<style>
text { font: 12px sans-serif; fill: #24292f; } .grid { stroke: #8b949e; stroke-opacity: .35; }
@media (prefers-color-scheme: dark) { text { fill: #d0d7de; } }
</style>"""


@dataclass(frozen=True)
class Series:
    """One line: a name, and a height in milliseconds for each size in bytes."""

    name: str
    points: dict[int, float]
    dashed: bool = False


def svg(title: str, series: list[Series], shown: Callable[[float], str]) -> str:
    """Return the picture; `shown` names a size."""
    lines = [line for line in series if line.points]
    sizes = sorted({size for line in lines for size in line.points})
    heights = [height for line in lines for height in line.points.values()]
    low, high = math.floor(math.log10(min(heights))), math.ceil(math.log10(max(heights)))
    span = math.log(sizes[-1] / sizes[0]) or 1.0

    def x(size: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(size / sizes[0]) / span

    def y(height: float) -> float:
        part = (math.log10(height) - low) / ((high - low) or 1)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part

    def drawn() -> Iterator[str]:
        yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">'
        yield STYLE
        yield f'<text x="{LEFT}" y="22" font-weight="bold">{escape(title)}</text>'
        for power in range(low, high + 1):
            at, right = y(10.0**power), WIDTH - RIGHT
            yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>'
            yield f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
        for size in sizes:
            at, foot = x(size), HEIGHT - BOTTOM
            yield f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{foot}"/>'
            yield f'<text x="{at:.1f}" y="{foot + 20}" text-anchor="middle">{shown(size)}</text>'
        ends = sorted((y(line.points[max(line.points)]), n) for n, line in enumerate(lines))
        label = float(TOP)
        for end, number in ends:
            line, color = lines[number], COLORS[number % len(COLORS)]
            label = max(label + 16, end)
            points = " ".join(f"{x(s):.1f},{y(h):.1f}" for s, h in sorted(line.points.items()))
            dash = ' stroke-dasharray="5 4"' if line.dashed else ""
            width = 3.5 if line.name.startswith("redundict") else 1.8
            yield (
                f'<polyline points="{points}" fill="none" stroke="{color}" '
                f'stroke-width="{width}"{dash}/>'
            )
            right, last = WIDTH - RIGHT, x(max(line.points))
            yield (
                f'<line x1="{last:.1f}" y1="{end:.1f}" x2="{right + 14}" y2="{label:.1f}" '
                f'stroke="{color}" stroke-opacity=".5" stroke-dasharray="1 3"/>'
            )
            name = escape(line.name)
            yield f'<text x="{right + 18}" y="{label + 4:.1f}" style="fill:{color}">{name}</text>'
        yield "</svg>"

    return "\n".join(drawn()) + "\n"

"""Shapes and words on a page, as SVG text."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

WIDTH = 1200.0
INK, PALE, LINE = "#1f2933", "#66727f", "#d9dfe5"
STEPS = tuple(float(size) for size in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600,
                                        43200, 86400, 2 * 86400, 5 * 86400, 10 * 86400, 30 * 86400))  # fmt: skip


class Drawing:
    """Shapes on a page that grows downwards."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def text(self, x: float, y: float, words: str, *, size: float = 12, colour: str = INK, anchor: str = "start",
             bold: bool = False) -> None:  # fmt: skip
        """Words with their baseline at `y`."""
        weight = ' font-weight="600"' if bold else ""
        place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{colour}" text-anchor="{anchor}"{weight}'
        self.parts.append(f"<text {place}>{escape(words)}</text>")

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str = LINE, width: float = 1) -> None:
        """A line."""
        place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        self.parts.append(f'<line {place} stroke="{colour}" stroke-width="{width:g}"/>')

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """A filled box."""
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        self.parts.append(f'<rect {place} fill="{colour}"/>')

    def dot(self, x: float, y: float, radius: float, colour: str, title: str) -> None:
        """A dot that says `title` under the pointer."""
        dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{colour}">'
        self.parts.append(f"{dot}<title>{escape(title)}</title></circle>")

    def bars(self, shapes: Iterable[str], colour: str) -> None:
        """Many boxes of one colour, as one path."""
        if path := "".join(shapes):
            self.parts.append(f'<path d="{path}" fill="{colour}"/>')

    def page(self, height: float, title: str) -> str:
        """The whole picture."""
        font = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', Arial, sans-serif"
        size = f'width="{WIDTH:g}" height="{height:g}" viewBox="0 0 {WIDTH:g} {height:g}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{font}">'
        back = f'<rect width="{WIDTH:g}" height="{height:g}" fill="#ffffff"/>'
        return "\n".join([head, f"<title>{escape(title)}</title>", back, *self.parts, "</svg>\n"])


def span(seconds: float) -> str:
    """A length of time in one or two units, for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000 and seconds % 3600:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h" if seconds < 100 * 3600 else f"{seconds / 86400:.3g} d"


def ticks(most: float) -> list[float]:
    """Round lengths of time from 0 to `most` seconds, about six."""
    step = next((step for step in STEPS if most / step <= 6), most / 5)
    return [step * count for count in range(int(most / step) + 1)]


def cut(words: str, length: int) -> str:
    """`words`, shortened to `length` characters."""
    return words if len(words) <= length else words[: length - 1] + "…"

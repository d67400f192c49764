"""What a command prints: one JSON document, or lines and tables for people.

On a terminal tables fit its width and are coloured, unless NO_COLOR is set; anywhere else they are plain aligned text
of any width. Instants are local and short for people, ISO-8601 in UTC in JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sao_events.clock import clock, seconds_of

STYLES = {
    "build": "bold green",
    "reuse": "dim",
    "wait": "yellow",
    "blocked": "red",
    "success": "green",
    "error": "red",
    "fail": "red",
    "failed": "red",
    "interrupted": "yellow",
    "skipped": "yellow",
    "differs": "red",
    "accepted": "green",
    "unmatched": "yellow",
    "waiting": "yellow",
    "conflict": "red",
    "invalid": "red",
    "rejected": "red",
    "ok": "green",
}
COLUMNS = ("node", "action", "reason", "since", "next")


class Output:
    """Where a command's result goes (`stream`), and beside it what people are told meanwhile (`aside`)."""

    def __init__(self, as_json: bool = False, stream: TextIO | None = None, aside: TextIO | None = None) -> None:
        self.as_json = as_json
        self.stream, self._aside = stream or sys.stdout, aside or sys.stderr
        self.console = Console(file=self.stream, highlight=False, soft_wrap=True)

    @property
    def terminal(self) -> bool:
        """Whether a person looks at it."""
        return self.console.is_terminal

    def json(self, value: Any, *, lines: bool = False) -> None:
        """One JSON document; with `lines` on a line of its own."""
        text = json.dumps(value, ensure_ascii=False, indent=None if lines else 2)
        print(text, file=self.stream, flush=True)

    def line(self, text: str = "", style: str | None = None) -> None:
        """One line for people."""
        if self.terminal:
            self.console.print(Text(text, style=style or ""))
        else:
            print(text, file=self.stream, flush=True)

    def aside(self, text: str) -> None:
        """A line for people that is no part of the result; nothing with `--json`."""
        if not self.as_json:
            print(text, file=self._aside, flush=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows under their columns; words of `STYLES` have their colour."""
        if self.terminal:
            self._drawn(columns, rows)
        else:
            self._aligned(columns, rows)

    def _drawn(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for column in columns:
            table.add_column(
                column, overflow="fold", no_wrap=column in {"action", "since", "next", "status", "seconds"}
            )
        for row in rows:
            table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
        Console(file=self.stream, highlight=False).print(table)

    def _aligned(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        lines = [[" ".join(cell.split()) for cell in row] for row in (columns, *rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            print(
                "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(),
                file=self.stream,
            )
        self.stream.flush()


def node_row(node: Mapping[str, Any], now: float) -> list[str]:
    """The cells of `COLUMNS` for a node object."""
    age = node["age_seconds"]
    if node["running"]:
        when = f"being built for {span(now - seconds_of(node['running']['since']))}"
    elif node["eligible_at"]:
        when = f"{clock(seconds_of(node['eligible_at']), now)} (in {span(seconds_of(node['eligible_at']) - now)})"
    else:
        when = "now" if node["action"] == "build" else "-"
    return [node["name"], node["action"], node["text"], "-" if age is None else f"{span(age)} ago", when]


def span(seconds: float) -> str:
    """A length of time in its two largest units: `45s`, `3m 5s`, `2h 10m`, `3d 4h`."""
    rest, parts = max(0, round(seconds)), list[str]()
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts)


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 node`, `2 nodes`."""
    return f"{number} {one if number == 1 else many or one + 's'}"

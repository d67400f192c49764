"""The line at the foot of the terminal while `watch` runs: what is being read or built right now, or that it waits."""

from __future__ import annotations

import time

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from sao_events.watch.follow import Follow

SHOWN = 3


class Foot:
    """Draws what is under way, as `Follow` knows it."""

    def __init__(self, follow: Follow, where: str) -> None:
        self.follow, self.where = follow, where
        self._spinner = Spinner("dots")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = self._text()
        text.truncate(options.max_width - 2, overflow="ellipsis")
        if self._busy():
            self._spinner.update(text=text)
            yield self._spinner
        else:
            yield Text("● ", style="green" if not self.follow.load_error else "red") + text

    def _busy(self) -> bool:
        return self.follow.service.loading or bool(self.follow.asked)

    def _text(self) -> Text:
        follow = self.follow
        if follow.asked:
            return self._building()
        if follow.service.loading:
            return Text("reading the project", style="bold")
        if follow.load_error:
            return Text(f"the project cannot be loaded: waiting for a change · {self.where}")
        standing = f" · {follow.standing}" if follow.standing else ""
        return Text(f"waiting for a change · {self.where}{standing} · Ctrl-C ends")

    def _building(self) -> Text:
        follow, now = self.follow, time.monotonic()
        done = len(follow.built) + len(follow.failed)
        text = Text(f"building {done} of {len(follow.asked)}", style="bold")
        running = sorted(follow.building.items(), key=lambda item: item[1])
        for node, began in running[:SHOWN]:
            text.append(f" · {follow.name(node)} {now - began:.1f} s", style="none")
        if len(running) > SHOWN:
            text.append(f" and {len(running) - SHOWN} more", style="none")
        return text


def watch_live(follow: Follow, where: str) -> None:
    """Follow on a terminal: lines above, the foot below them, redrawn while something is under way."""
    foot = Foot(follow, where)
    with Live(foot, console=follow.console, refresh_per_second=8, transient=True) as live:
        follow.run(live.refresh)

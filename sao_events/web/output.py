"""What dbt wrote while it carried out a run: its log files, as text for people."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

MOST = 256_000
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_STYLES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Output:
    """The end of one log, at most `MOST` bytes of it; `truncated` where there is more before it."""

    piece: str
    text: str
    truncated: bool


def run_output(state_dir: Path, run: str) -> list[Output]:
    """What the pieces of `run` wrote, in order; nothing for what is no run's id or left nothing."""
    if not _RUN.fullmatch(run):
        return []
    folder = state_dir / "runs" / run
    logs = sorted(folder.glob("*/dbt.log"), key=lambda path: [int(n) for n in re.findall(r"\d+", path.parent.name)])
    home = folder.resolve()
    return [_read(path) for path in logs if path.is_file() and path.resolve().is_relative_to(home)]


def _read(path: Path) -> Output:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - MOST))
        text = file.read(MOST).decode(errors="replace")
    if size > MOST:
        text = text.partition("\n")[2]
    return Output(path.parent.name, _STYLES.sub("", text), size > MOST)

"""The builders of an environment: one for each folder that a project in force was parsed in, the newest for what
comes next.

Pieces go to the builder that parsed their project; a builder that is no longer in force is closed when its last piece
has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sao_events.config import Config
from sao_events.dbt import DbtBuilder, DbtSettings, open_builder
from sao_events.ports import Piece, PieceEnded, Report
from sao_events.project import Project


@dataclass(slots=True, eq=False)
class _Hosted:
    """A builder, the folder it works in, and the pieces that it has under way."""

    builder: DbtBuilder
    folder: Path
    pieces: set[str] = field(default_factory=set)


class Builds:
    """A `ports.Builder` over the dbt builders of one environment. Thread-safe."""

    gated = False

    def __init__(self, config: Config, *, keep_fd: int | None = None, notify: Callable[[], None] | None = None) -> None:
        self.config, self._keep_fd, self._notify = config, keep_fd, notify
        self._lock = threading.RLock()
        self._loaded: _Hosted | None = None
        self._current: tuple[str, _Hosted] | None = None
        self._retired: list[_Hosted] = []
        self._lost: list[Report] = []

    def load(self, folder: Path) -> Project:
        """Parse the project in `folder`. Raises DbtError; what was kept before stays as it is."""
        with self._lock:
            current = self._current[1] if self._current else None
        hosted = current if current and current.folder == folder else _Hosted(self._open(folder), folder)
        try:
            project = hosted.builder.load(self.config.settings.default_config).project
        except BaseException:
            if hosted is not current:
                hosted.builder.close()
            raise
        self._loaded = hosted
        return project

    def keep(self, digest: str) -> None:
        """What was parsed last is the project `digest`, and in force from now on."""
        with self._lock:
            assert self._loaded is not None
            if self._current and self._current[1] is not self._loaded:
                self._retired.append(self._current[1])
            self._current = (digest, self._loaded)

    def ready(self, project: str) -> bool:
        """Whether `project` is the one in force here."""
        with self._lock:
            return self._current is not None and self._current[0] == project

    def start(self, piece: Piece, project: Project) -> None:
        """Hand a piece to the builder of its project."""
        with self._lock:
            if self._current is None or self._current[0] != piece.project:
                self._lost.append(
                    PieceEnded(piece.id, "error", "another state of the project came into force meanwhile")
                )
                return
            self._current[1].pieces.add(piece.id)
            self._current[1].builder.start(piece, project)

    def reports(self) -> list[Report]:
        """What all builders have to say; those that are done with and no longer in force are closed."""
        with self._lock:
            found, self._lost = self._lost, []
            for hosted in (*self._retired, *([self._current[1]] if self._current else [])):
                for report in hosted.builder.reports():
                    if isinstance(report, PieceEnded):
                        hosted.pieces.discard(report.piece)
                    found.append(report)
            idle = [hosted for hosted in self._retired if not hosted.pieces]
            self._retired = [hosted for hosted in self._retired if hosted.pieces]
        for hosted in idle:
            threading.Thread(target=hosted.builder.close, daemon=True).start()
        return found

    def cancel(self, run: str) -> None:
        """Stop the pieces of a run, wherever they are."""
        with self._lock:
            for hosted in (*self._retired, *([self._current[1]] if self._current else [])):
                hosted.builder.cancel(run)

    def close(self) -> None:
        """Stop everything."""
        with self._lock:
            hosted = [*self._retired, *([self._current[1]] if self._current else [])]
            self._retired, self._current = [], None
        for each in hosted:
            each.builder.close()

    def _open(self, folder: Path) -> DbtBuilder:
        return open_builder(dbt_settings(self.config, folder), keep_fd=self._keep_fd, notify=self._notify)


def dbt_settings(config: Config, folder: Path | None = None) -> DbtSettings:
    """How dbt is run for an environment, in `folder` or in the configured one."""
    dbt = config.dbt
    return DbtSettings(
        project_dir=folder or dbt.project_dir,
        state_dir=config.state_dir,
        profiles_dir=dbt.profiles_dir,
        profile=dbt.profile,
        target=dbt.target,
        vars=dbt.vars,
        dbt=dbt.executable,
        runner=dbt.runner,
        threads=dbt.threads,
        grace=dbt.grace,
    )

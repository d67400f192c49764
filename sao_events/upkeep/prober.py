"""Looks at sources that send nothing, at their intervals, and records what is new.

A look at the warehouse waits for its turn there; one that goes wrong concerns its source alone and is tried again at
the next interval.
"""

from __future__ import annotations

import glob
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sao_events.core.errors import SaoError, words
from sao_events.core.events import Recorded
from sao_events.core.probes import LATE, NO_TABLE, Probe, Seen, asked, doubted, pause, read_answer, read_files, told_of
from sao_events.core.project import Project
from sao_events.core.state import World
from sao_events.ports import Clock, Draft, Warehouse
from sao_events.report import SILENT, View, silent

LOG = logging.getLogger("sao_events.probes")
SECONDS = 30.0  # that a statement may take
IDLE = 3600.0  # seconds between looks at whether there is anything to look at
PATIENCE = 2  # failures before one is told of
Submit = Callable[[Sequence[Draft]], "Future[list[Recorded | None]]"]


@dataclass(slots=True)
class Prober:
    """`run` in a thread of its own, and `look` at once. `view` shows the project in force and what is on record;
    `submit` appends; paths of files count from `folder`.
    """

    warehouse: Warehouse
    clock: Clock
    view: Callable[[], AbstractContextManager[View]]
    submit: Submit
    folder: Callable[[], Path]
    _due: dict[str, float] = field(default_factory=dict)
    _failed: dict[str, int] = field(default_factory=dict)
    _nudged: threading.Event = field(default_factory=threading.Event)
    _one: threading.Lock = field(default_factory=threading.Lock)
    _begun: bool = False
    _closed: bool = False

    def run(self) -> None:
        """Look whenever a look is due, until closed."""
        while not self._closed:
            self._nudged.wait(max(0.0, min(IDLE, self._next() - self.clock.now())))
            self._nudged.clear()
            if not self._closed:
                self.look()

    def soon(self, source: str | None = None) -> None:
        """Look at a source as soon as possible, if it is looked at; without one, find out again what is."""
        if source is None or source in self._due:
            self._due.pop(str(source), None)
            self._nudged.set()

    def close(self) -> None:
        """Look no more; a look under way ends by itself."""
        self._closed = True
        self._nudged.set()

    def first(self, project: Project) -> None:
        """Look at all sources of the first project that is loaded, before anything is built from it: what changes
        afterwards is told from what the builds have read.
        """
        if self._begun:
            return
        self._begun = True
        self.look(project)
        with self.view() as view:
            for name in silent(replace(view, project=project)):
                LOG.warning("%s", SILENT.format(name))

    def look(self, project: Project | None = None) -> None:
        """Look at all that is due of a project, else of the one in force, and record what is new; it is durable on
        return. Never raises.
        """
        with self._one:
            try:
                self._look(project)
            except Exception as error:
                LOG.warning("sources could not be looked at: %s", words(error))
                LOG.debug("while sources were looked at", exc_info=not isinstance(error, SaoError))

    def _look(self, project: Project | None) -> None:
        with self.view() as view:
            project = project or view.project
        if project is None:
            return
        now, probes = self.clock.now(), asked(project, view.world, view.settings.probe_every)
        due = [probe for probe in probes if self._due.get(probe.source, now) <= now]
        self._due = {probe.source: self._due.get(probe.source, now) for probe in probes}
        found = {probe.source: _files(probe, self.folder()) for probe in due if probe.files is not None}
        found |= self._ask([probe for probe in due if probe.sql is not None], project.adapter)
        now = self.clock.now()  # from the end of a look: what waited for the warehouse meanwhile has its turn
        for probe in due:
            self._failed[probe.source] = self._failed.get(probe.source, 0) + 1 if found[probe.source].error else 0
            found[probe.source] = doubted(probe, found[probe.source], now)
        wait = {it.source: pause(it.every, self._failed[it.source]) if it.sql else it.every for it in due}
        self._due |= {source: now + seconds for source, seconds in wait.items()}
        with self.view() as view:  # as it is after the looks: what was read meanwhile may have been read before them
            drafts = [draft for probe in due for draft in self._drafts(view.world, probe, found[probe.source])]
        if drafts and not self._closed:
            self.submit(drafts).result()

    def _drafts(self, world: World, probe: Probe, seen: Seen) -> list[Draft]:
        now = self.clock.now()
        if seen.value is None and seen.error and self._failed[probe.source] < PATIENCE:
            return []  # somebody may hold the warehouse for a moment
        made = told_of(world, probe, seen)
        if made and probe.late:
            self._due[probe.source] = min(self._due[probe.source], now + LATE)
        return [Draft(event, now, sender="probe") for event in made]

    def _ask(self, probes: Sequence[Probe], adapter: str) -> Mapping[str, Seen]:
        if not probes:
            return {}
        answers = self.warehouse.ask([str(probe.sql) for probe in probes], SECONDS, 1)
        return {
            probe.source: Seen(error=_said(answer.error)) if answer.error else read_answer(probe, answer.rows, adapter)
            for probe, answer in zip(probes, answers, strict=True)
        }

    def _next(self) -> float:
        return min(self._due.values(), default=self.clock.now() + IDLE)


def _said(error: str) -> str:
    """An adapter's error in one line, without the words that dbt begins all of them with."""
    if "is not an table" in error or "is not a table" in error:  # DuckDB's words
        return NO_TABLE
    return " ".join(error.split()).removeprefix("Runtime Error ")[:300]


def _files(probe: Probe, folder: Path) -> Seen:
    try:
        names = glob.glob(str(probe.files), root_dir=folder, recursive=True)  # noqa: PTH207 - patterns may be absolute
        stats = {name: (folder / name).stat() for name in names}
    except (OSError, ValueError) as error:
        return Seen(error=f"{probe.files}: {getattr(error, 'strerror', None) or error}")
    if not names:
        return Seen(error=f"there is no file {probe.files}")
    return read_files((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items())

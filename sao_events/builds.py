"""The builders of an environment: one for each folder that a project in force was parsed in, the newest for what
comes next.

Pieces go to the builder that parsed their project; a builder that is no longer in force is closed when its last piece
has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sao_events.config import Config
from sao_events.core.errors import DbtError
from sao_events.core.identity import Inputs, Rendered
from sao_events.core.project import Project
from sao_events.dbt import DbtBuilder, DbtSettings, open_builder
from sao_events.ports import Answer, Piece, PieceEnded, Report
from sao_events.report.explain import listed


@dataclass(slots=True, eq=False)
class _Hosted:
    """A builder, the folder it works in, and the pieces that it has under way, each with its run; `alone`: its
    warehouse takes one process at a time. `questions` to the warehouse are under way.
    """

    builder: DbtBuilder
    folder: Path
    pieces: dict[str, str] = field(default_factory=dict)
    alone: bool = False
    questions: int = 0


class Builds:
    """A `ports.Builder` and `ports.Warehouse` over the dbt builders of one environment. Thread-safe; one thread at a
    time may `load`. A DuckDB file takes one process at a time: a piece waits for the one before, a question for what is
    being built, and what is to be built next for the question.
    """

    gated = False

    def __init__(self, config: Config, *, keep_fd: int | None = None, notify: Callable[[], None] | None = None) -> None:
        self.config, self._keep_fd, self._notify = config, keep_fd, notify
        self._lock = threading.RLock()
        self._freed = threading.Condition(self._lock)
        self._asking = 0  # questions under way, and those that wait for their turn
        self._one, self._held = threading.Lock(), False
        self._current: tuple[str, _Hosted] | None = None
        self._loaded: _Hosted | None = None  # parsed, or being parsed, and not in force so far
        self._parsing: Path | None = None
        self._retired: list[_Hosted] = []
        self._closing: list[threading.Thread] = []
        self._lost: list[Report] = []
        self._cancelled: set[str] = set()
        self._closed = False

    def load(self, folder: Path) -> Project:
        """Parse the project in `folder`. Raises DbtError; what was in force before stays so. `close` ends it."""
        with self._lock:
            if self._closed:
                raise DbtError("the project is not read any more: the service is stopping")
            self._let_go(self._loaded)
            current = self._current[1] if self._current else None
            hosted = current if current and current.folder == folder else _Hosted(self._open(folder), folder)
            self._loaded, self._parsing = hosted, folder
        try:
            project = hosted.builder.load(self.config.settings.default_config).project
            hosted.alone = project.adapter == "duckdb"
            return _without_hashes(project, hosted.builder)
        except BaseException:
            with self._lock:
                self._let_go(hosted)
                self._loaded = None
            raise
        finally:
            self._parsing = None

    def render(self, wanted: Mapping[str, Inputs]) -> dict[str, Rendered]:
        """The SQL of nodes and tests of the project that was parsed last. Raises DbtError."""
        with self._lock:
            hosted = self._loaded
        return {} if hosted is None else hosted.builder.render(wanted)

    def keep(self, digest: str) -> None:
        """What was parsed last is the project `digest`, and in force from now on."""
        with self._lock:
            if self._loaded is None:
                return
            if self._current and self._current[1] is not self._loaded:
                self._retired.append(self._current[1])
            self._current, self._loaded = (digest, self._loaded), None

    def folders(self) -> set[Path]:
        """Where builders work."""
        with self._lock:
            return {hosted.folder for hosted in self._all()}

    def hashes(self, adapter: str) -> bool:
        """Whether the builder in force can hash the content of what it builds."""
        with self._lock:
            return self._current is not None and self._current[1].builder.hashes(adapter)

    @property
    def folder(self) -> Path:
        """Where the project in force is."""
        with self._lock:
            return self._current[1].folder if self._current else self.config.dbt.project_dir

    def ready(self, project: str) -> bool:
        """Whether `project` is the one in force here, the folder that it is built from is not being read again, and its
        warehouse not taken.
        """
        with self._lock:
            if self._held or self._current is None or self._current[0] != project:
                return False
            hosted = self._current[1]
            taken = hosted.alone and (self._asking or any(it.pieces for it in self._all()))
            return hosted.folder != self._parsing and not taken

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is built meanwhile that is not being built now. One at a time: for what brings a project into force,
        and for what may not happen while one comes into force.
        """
        with self._one:
            self._held = True
            try:
                yield
            finally:
                self._held = False
        if self._notify is not None:
            self._notify()

    def in_force(self, project: str) -> bool:
        """Whether `project` is the one that is asked about."""
        with self._lock:
            return self._current is not None and self._current[0] == project

    def ask(self, statements: Sequence[str], seconds: float, most: int) -> list[Answer]:
        """`ports.Warehouse`, with the project in force."""
        with self._turn() as hosted:
            if hosted is None:
                return [Answer(error="no project is in force here") for _ in statements]
            return hosted.builder.ask(statements, seconds, most)

    def change(self, statements: Sequence[str], seconds: float) -> list[Answer]:
        """As `ask`; what a statement without error has written is kept."""
        with self._turn() as hosted:
            if hosted is None:
                return [Answer(error="no project is in force here") for _ in statements]
            return hosted.builder.change(statements, seconds)

    @contextmanager
    def _turn(self) -> Iterator[_Hosted | None]:
        """The builder in force, once its warehouse is free; None where there is none, or the service is stopping."""
        with self._freed:
            self._asking += 1
            self._freed.wait_for(lambda: not self._taken())
            hosted = self._current[1] if self._current and not self._closed else None
            if hosted is not None:
                hosted.questions += 1
        try:
            yield hosted
        finally:
            with self._freed:
                self._asking -= 1
                if hosted is not None:
                    hosted.questions -= 1
                self._freed.notify_all()
            if self._notify is not None:
                self._notify()

    def _taken(self) -> bool:
        """Whether a question has to wait."""
        if self._closed or self._current is None or not self._current[1].alone:
            return False
        return any(hosted.pieces or hosted.questions for hosted in self._all())

    def start(self, piece: Piece, project: Project) -> None:
        """Hand a piece to the builder of its project."""
        with self._lock:
            if self._current is None or self._current[0] != piece.project:
                self._lose(piece, "another state of the project came into force meanwhile")
                return
            hosted = self._current[1]
            hosted.pieces[piece.id] = piece.run
            try:
                hosted.builder.start(piece, project)
            except (OSError, RuntimeError) as error:  # no process or thread can be had
                del hosted.pieces[piece.id]
                self._freed.notify_all()
                self._lose(piece, f"dbt cannot be started: {error}")

    def reports(self) -> list[Report]:
        """What all builders have to say; those that are done with and no longer in force are closed."""
        with self._lock:
            found, self._lost = self._lost, []
            for hosted in self._all():
                found += [self._told(hosted, report) for report in hosted.builder.reports()]
            self._cancelled &= {run for hosted in self._all() for run in hosted.pieces.values()}
            for hosted in [hosted for hosted in self._retired if not (hosted.pieces or hosted.questions)]:
                self._retired.remove(hosted)
                self._let_go(hosted)
            self._freed.notify_all()
        return found

    def cancel(self, run: str) -> None:
        """Stop the pieces of a run, wherever they are."""
        with self._lock:
            self._cancelled.add(run)
            for hosted in self._all():
                if run in hosted.pieces.values():
                    hosted.builder.cancel(run)

    def drain(self) -> bool:
        """Stop whatever runs, and forget what it says. Returns whether nothing runs any more: ask until it is so."""
        with self._lock:
            for run in {run for hosted in self._all() for run in hosted.pieces.values()}:
                self.cancel(run)
            self.reports()
            return not any(hosted.pieces for hosted in self._all())

    def stop_loading(self) -> None:
        """End a parse that is under way; none is begun any more."""
        with self._lock:
            self._closed = True
            self._freed.notify_all()
            if self._parsing is not None:
                self._let_go(self._loaded)

    def close(self) -> None:
        """Stop everything; returns when it has ended."""
        with self._lock:
            self._closed = True
            for hosted in {id(hosted): hosted for hosted in (*self._all(), self._loaded) if hosted}.values():
                self._let_go(hosted, unless_current=False)
            self._retired, self._current, self._loaded = [], None, None
            self._freed.notify_all()
            closing = list(self._closing)
        for thread in closing:
            thread.join()

    def _all(self) -> list[_Hosted]:
        return [*self._retired, *([self._current[1]] if self._current else [])]

    def _told(self, hosted: _Hosted, report: Report) -> Report:
        """The report of a builder. What was interrupted although nobody asked for it is to be decided again."""
        if not isinstance(report, PieceEnded):
            return report
        run = hosted.pieces.pop(report.piece, None)
        if report.status == "interrupted" and run is not None and run not in self._cancelled:
            return PieceEnded(report.piece, "error", report.message)
        return report

    def _lose(self, piece: Piece, why: str) -> None:
        self._lost.append(PieceEnded(piece.id, "error", why))
        if self._notify is not None:
            self._notify()

    def _let_go(self, hosted: _Hosted | None, *, unless_current: bool = True) -> None:
        """Close a builder in a thread of its own: it takes as long as a build takes to stop."""
        if hosted is None or (unless_current and self._current is not None and hosted is self._current[1]):
            return
        self._closing = [thread for thread in self._closing if thread.is_alive()]
        thread = threading.Thread(target=hosted.builder.close, name="sao-closing", daemon=True)
        self._closing.append(thread)
        thread.start()

    def _open(self, folder: Path) -> DbtBuilder:
        return open_builder(dbt_settings(self.config, folder), keep_fd=self._keep_fd, notify=self._notify)


def _without_hashes(project: Project, builder: DbtBuilder) -> Project:
    """The project, warned of an early cutoff that cannot be had here."""
    asked = [node.name for node in project.graph.nodes.values() if node.early_cutoff and not node.transparent]
    if not asked or builder.hashes(project.adapter):
        return project
    told = (
        f"early_cutoff is set for {listed(asked, {})}, and content is only hashed by the warm runner, on DuckDB and "
        "PostgreSQL: readers are built as without it"
    )
    return replace(project, warnings=(*project.warnings, told))


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
        keep_output=dbt.keep_output,
        aggregate=config.settings.aggregate_tests,
        columns=config.settings.prove_tests,
    )

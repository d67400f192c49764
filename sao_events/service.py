"""The service of one environment, put together: log, engine, builder, deployer, clock, each in its thread.

HTTP handlers and hooks only append to the log; the engine's thread folds it and acts; the deployer's thread parses.
Whatever fails is shown as `error`, tried again after a pause, and loses nothing, because everything in force is read
back from the log. Locks are taken in one order: that of the record first, then that of the builds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from sao_events.builds import Builds
from sao_events.clock import SystemClock
from sao_events.collector import keep_apart
from sao_events.config import Config
from sao_events.core import events as e
from sao_events.core.errors import SaoError, words
from sao_events.core.events import Recorded
from sao_events.core.project import Project
from sao_events.core.state import Head, World
from sao_events.deliveries import may_be_news, take_up, waits
from sao_events.deploy.deployer import Deployer, Found, remembered, tracked
from sao_events.deploy.pulls import Pulls
from sao_events.engine.loop import Engine
from sao_events.lock import StateLock
from sao_events.ports import Clock, Draft, Incoming, Receipt, Store
from sao_events.report import View, iso
from sao_events.store import open_store
from sao_events.store.checkpoint import try_save
from sao_events.upkeep.cleaner import Cleaner
from sao_events.upkeep.looks import Judge, Looks, Relations
from sao_events.upkeep.prober import Prober

LOG = logging.getLogger("sao_events")
# Seconds: how soon an event is noticed that another process appends; pauses after an error, which double; what builds
# that a dead service left behind, and threads that are to end, are given beyond dbt's own grace.
POLL, HEAL_LEAST, HEAL_MOST, SLACK = 0.2, 1.0, 60.0, 5.0
LOAD_LEAST, LOAD_MOST, FOLDER_MOST, CHECKPOINT_EVERY = 2.0, 120.0, 5.0, 5_000


class Service:
    """One environment under one lock. `start` returns once the engine runs; `ready`: a project is in force too."""

    def __init__(self, config: Config, *, clock: Clock | None = None, continuous: bool = True) -> None:
        self.config = config
        self.clock: Clock = clock or SystemClock()
        self.settings = config.settings if continuous else replace(config.settings, trigger="jobs")
        self.lock = StateLock(config.state_dir)
        self.error: str | None = None
        self.load_error: str | None = None
        self._world = World()
        self._project: Project | None = None
        self._engine: Engine | None = None
        self._changed = threading.Condition(threading.RLock())
        self._nudged, self._load_asked, self._stopping = threading.Event(), threading.Event(), threading.Event()
        self._waiting = True  # whether something may have come that waits for a project
        self._loads, self._looking, self._checkpoint = 0, False, 0
        self.pulls: Pulls | None = None
        self._threads: list[threading.Thread] = []
        self._saving = threading.Thread()
        self._checked: float | None = None

    def start(self, *, load: bool = True, tell: Callable[[str], None] = LOG.warning) -> None:
        """Take the lock, open the log, start the threads. What a killed service left behind is waited for, and `tell`
        is told so. Raises Busy, StoreError or ConfigError with what to do.
        """
        with ExitStack() as undo:
            self.lock.acquire(self.config.dbt.grace + SLACK, tell)
            undo.callback(self.lock.release)
            self.store: Store = open_store(str(self.config.state_dir / "state.db"))
            undo.callback(self.store.close)
            self.dbt = Builds(self.config, keep_fd=self.lock.fd, notify=self._nudged.set)
            subjects, nudge = [Relations(self.config.relations)], self._nudged.set
            self.looks = Looks(subjects, self.dbt, self.clock, self.view, self._concluded, nudge)
            self._open_engine()
            self.deployer = Deployer(self.config, self.dbt, self.store, self._world, self.clock)
            self.deployer.on_head = self._saw_head
            self.prober = Prober(self.dbt, self.clock, self.view, self.submit, lambda: self.dbt.folder)
            self.cleaner = Cleaner(self)
            if self.config.git and self.config.previews:
                self.pulls = Pulls(self.config, self.store, self.view, self._told)
            undo.pop_all()
        if load:
            self._load_asked.set()
        beside = [self.prober.run, self.looks.run, self.cleaner.run, *([self.pulls.run] if self.pulls else [])]
        for loop in (self._run_engine, self._run_deployer, *beside):
            self._threads.append(threading.Thread(target=loop, name=loop.__qualname__, daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        """Stop the builds politely (they count as interrupted, no failed attempt), write a checkpoint, close
        everything. Takes dbt's grace and a little more; may be called again.
        """
        for flag in (self._stopping, self._nudged, self._load_asked):
            flag.set()
        try:
            for close in (self.deployer.close, self.prober.close, self.looks.close, self.cleaner.close):
                close()
            if self.pulls:
                self.pulls.close()
            self.dbt.stop_loading()
            self._threads[0].join(self.config.dbt.grace + 2 * SLACK)
            self.dbt.close()
            for thread in self._threads:
                thread.join(SLACK)
            if self._saving.is_alive():
                self._saving.join()
            with self._changed:
                try_save(self.store, self._world)
                self._changed.notify_all()
            self.store.close()
        finally:  # also when somebody will not wait
            self.lock.release()

    def _save_beside(self, world: World) -> None:
        """Write a checkpoint while the engine goes on."""
        if not self._saving.is_alive():
            self._checkpoint = world.seq
            self._saving = threading.Thread(target=try_save, args=(self.store, world.snapshot()), daemon=True)
            self._saving.start()

    # For readers and senders

    def submit(self, drafts: Sequence[Draft]) -> Future[list[Recorded | None]]:
        """Append to the log; the future is done when the events are durable. None stands for a duplicate."""
        future = self.store.submit(drafts)
        future.add_done_callback(lambda _: self._nudged.set())
        return future

    def receive(self, incoming: Sequence[Incoming]) -> Future[list[Receipt]]:
        """Record deliveries and their events. A push that is reported again under another id is no new event, but is
        looked after: a branch may come back to a commit that it was at before.
        """

        def recorded(done: Future[list[Receipt]]) -> None:
            receipts = [] if done.exception() else done.result()
            if any(map(waits, receipts)):
                self._waiting = True
            if any(map(may_be_news, receipts)):
                self._load_asked.set()
            self._nudged.set()

        future = self.store.receive(incoming)
        future.add_done_callback(recorded)
        return future

    @contextmanager
    def view(self) -> Iterator[View]:
        """What is on record now. The engine goes on while it is looked at."""
        with self._changed:
            view = View(
                self.config.environment,
                self._project,
                self._world.snapshot(),
                self.settings,
                self.clock.now(),
                error="\n".join(filter(None, (self.error, self.load_error))) or None,
                tracked=tracked(self.config, self._checked),
            )
        yield view

    def wait_change(self, after: int, timeout: float) -> int:
        """Wait at most `timeout` seconds until something after `after` is folded; the newest folded position."""
        with self._changed:
            self._changed.wait_for(lambda: self._world.seq > after or self._stopping.is_set(), timeout)
            return self._world.seq

    @property
    def ready(self) -> bool:
        """Whether a project is in force and the engine runs."""
        return self._project is not None and self._engine is not None and not self._stopping.is_set()

    @property
    def healthy(self) -> bool:
        """Whether the threads are alive."""
        return all(thread.is_alive() for thread in self._threads) and not self._stopping.is_set()

    @property
    def stopping(self) -> bool:
        """Whether the service is on its way down."""
        return self._stopping.is_set()

    @property
    def loads(self) -> int:
        """How many times the project has been looked up and parsed."""
        return self._loads

    @property
    def loading(self) -> bool:
        """Whether the project is being looked up and parsed, or is about to be."""
        return self._looking or self._load_asked.is_set()

    def reload(self) -> int:
        """Look the project up again, without an event. Returns what `loads` is once that is done."""
        with self._changed:
            self._load_asked.set()
            return self._loads + 1 + self._looking

    def cancel(self, run: str) -> None:
        """Stop a run."""
        with self._changed:
            if self._engine is not None:
                self._engine.cancel(run)

    # The engine's thread

    def _open_engine(self) -> None:
        world = remembered(self.store, self.clock.now())
        engine = Engine(self.store, self.dbt, self.clock, self.settings, world=world)
        engine.on_event, engine.looked = self._noted, self.looks.looked
        with self._changed:
            self._engine, self._world, self._project = engine, engine.world, engine.project
            self._fit(engine.project)
            self._changed.notify_all()
        keep_apart()

    def _noted(self, recorded: Recorded) -> None:
        if isinstance(recorded.event, e.CodePushed):
            self._load_asked.set()
        elif isinstance(recorded.event, e.DataLanded) and recorded.event.scope != "probe":
            self.prober.soon(recorded.event.source)
        elif isinstance(recorded.event, e.CleanAsked):
            self.cleaner.soon()
        elif isinstance(recorded.event, e.PreviewAsked) and self.pulls:
            self.pulls.ask(recorded.event)

    def _told(self, event: e.Event) -> None:
        if not self._stopping.is_set():
            self.submit([Draft(event, self.clock.now(), sender="previews")]).result()

    def _concluded(self, judge: Judge) -> None:  # the record stays as it is until that is added
        with self._changed:
            if self._engine is not None and self._project is not None and not self._stopping.is_set():
                self.store.append(judge(self._project, self._world))

    def _run_engine(self) -> None:
        pause = HEAL_LEAST
        while not self._stopping.is_set():
            try:
                if self._engine is None:
                    self._start_over()
                self._nudged.wait(self._step())
                self._nudged.clear()
                self._take_up()
                pause = HEAL_LEAST
            except Exception as error:  # noqa: BLE001 - whatever it is, it is shown, and what is in force is in the log
                self._broken(error)
                self._stopping.wait(pause)
                pause = min(pause * 2, HEAL_MOST)
        try:
            self._wind_down()
        except Exception as error:  # noqa: BLE001 - nothing must keep the rest from being stopped
            LOG.error("what was being built is decided again at the next start: %s", error)

    def _step(self) -> float:
        engine = self._engine
        if engine is None:
            return POLL
        with self._changed:
            before = engine.world.seq
            wake = engine.step()
            self._tell(engine)
            if engine.project is not self._project:
                self._project = engine.project
                self._fit(engine.project)
                keep_apart()
            if engine.world.seq != before:
                self._changed.notify_all()
            if engine.world.seq - self._checkpoint >= CHECKPOINT_EVERY:
                self._save_beside(engine.world)
        return POLL if wake is None else max(0.0, min(POLL, wake - self.clock.now()))

    def _take_up(self) -> None:
        """Judge what came before there was a project. What comes meanwhile says so when it is on record."""
        if self._waiting and self._project is not None:
            self._waiting = False
            take_up(self.store, self._project, self.config, self.clock.now())

    def _tell(self, engine: Engine) -> None:
        """Show what keeps dbt from working, and until when it is left alone."""
        error = engine.error and f"{engine.error}\n  it is tried again at {iso(engine.hold)}"
        if error and error != self.error:
            LOG.error("dbt could not do its work: %s", error)
        if self.error and not error:
            LOG.info("the error is over")
        self.error = error

    def _fit(self, project: Project | None) -> None:
        """A DuckDB file takes one process at a time: one run at a time, whatever the settings say."""
        most = 1 if project is not None and project.adapter == "duckdb" else self.config.settings.max_concurrent_runs
        self.settings = replace(self.settings, max_concurrent_runs=most)
        if self._engine is not None:
            self._engine.settings = self.settings

    def _broken(self, error: Exception) -> None:
        """Start over from the log: nothing that is in memory alone is trusted."""
        LOG.error("the engine stopped: %s", error, exc_info=not isinstance(error, SaoError))
        with self._changed:
            self.error = words(error)
            self._engine, self._waiting = None, True
            self._changed.notify_all()
        self.dbt.drain()

    def _start_over(self) -> None:
        """An engine that knows only the log, once nothing runs of what the one before began."""
        while not self.dbt.drain():
            if self._stopping.wait(POLL):
                return
        self._open_engine()
        self._load_asked.set()  # it was not seen whether that was asked for meanwhile

    def _wind_down(self) -> None:
        """Stop what is being built and record what came of it. Jobs stay requested: the next engine takes them up."""
        engine, until = self._engine, time.monotonic() + self.config.dbt.grace + SLACK
        if engine is None:
            return
        with self._changed:
            engine.take_reports()
            engine.settings = replace(self.settings, max_concurrent_runs=0)  # nothing new is begun
            for run in list(engine.runs.values()):
                run.job = None  # so that its end is not that of the job
                engine.cancel(run.id)
            engine.step()
        while engine.busy and time.monotonic() < until:
            self._nudged.wait(POLL)
            self._nudged.clear()
            with self._changed:
                engine.step()

    # The deployer's thread

    def _run_deployer(self) -> None:
        poll = self.config.git.poll if self.config.git else None
        wait, pause, most = poll, LOAD_LEAST, LOAD_MOST if poll else FOLDER_MOST
        while not self._stopping.is_set():
            asked = self._load_asked.wait(wait)
            self._load_asked.clear()
            if self._stopping.is_set():
                return
            if not asked and wait is None:
                continue
            if self._load(asked):
                wait, pause = self.deployer.patience(poll), LOAD_LEAST
            else:
                wait, pause = pause if poll is None else min(pause, poll), min(pause * 2, most)

    def _load(self, asked: bool) -> bool:
        """Look the project up and record what is found. Returns whether all is well."""
        error: str | None = None
        self._looking = True
        try:
            found = self.deployer.look(fresh=asked)
            if self._stopping.is_set():
                return False  # what was ended says nothing of the project
            self._record(found)
            error = found.error
        except Exception as problem:
            LOG.debug("while the project was loaded", exc_info=True)
            error = words(problem)
        if error is not None and error != self.load_error:
            LOG.error("the newest state of the project is not in force: %s", error)
        with self._changed:
            self.load_error = error
            self._looking = False
            self._loads += 1
            self._changed.notify_all()
        return error is None

    def _saw_head(self, commit: str | None, error: str | None) -> None:
        """Record where the tracked branch is, once for each change, before it is parsed."""
        if self._stopping.is_set():
            return
        known, now = self._world.head or Head(), self.clock.now()
        if commit is not None:
            self._checked = now
        if (commit or known.commit, error) != (known.commit, known.error) and self.config.git:
            seen = e.HeadSeen(commit, f"refs/heads/{self.config.git.branch}", error)
            self.submit([Draft(seen, now, sender="deployer")]).result()

    def _record(self, found: Found) -> None:
        if found.project is not None and found.project.adapter == "duckdb":
            with self._changed:
                self._fit(found.project)
        now, waited = self.clock.now(), self._project is None
        with self.dbt.held():
            if found.events:
                self.submit([Draft(event, now, sender="deployer") for event in found.events]).result()
            self.deployer.recorded(found)
            if found.project is not None and waited:  # by what is in force, and so that the first builds see it
                take_up(self.store, found.project, self.config, now)
            if found.project is not None:
                self.prober.first(found.project)
        self.prober.soon()
        self._nudged.set()

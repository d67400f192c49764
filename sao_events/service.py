"""The service of one environment, put together: log, engine, builder, deployer, clock, each in its thread.

HTTP handlers and hooks only append to the log; the engine's thread folds it and acts; the deployer's thread parses.
Whatever fails is shown as `error`, tried again after a pause, and loses nothing, because everything in force is read
back from the log.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace

from sao_events import events as e
from sao_events.builds import Builds
from sao_events.clock import SystemClock
from sao_events.config import Config
from sao_events.deploy import Deployer
from sao_events.engine import Engine
from sao_events.errors import SaoError
from sao_events.events import Recorded
from sao_events.lock import StateLock
from sao_events.ports import Clock, Draft, Store
from sao_events.project import Project
from sao_events.report import View
from sao_events.state import World
from sao_events.store import open_store
from sao_events.store.checkpoint import load_world, save_world

LOG = logging.getLogger("sao_events")
BUSY_POLL, IDLE_POLL, HEAL_LEAST, HEAL_MOST, CHECKPOINT_EVERY = 0.02, 0.5, 1.0, 60.0, 5_000


class Service:
    """One environment under one lock. `start` returns once the engine runs; the project may still be loading
    (`ready`).
    """

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
        self._nudged = threading.Event()
        self._load_asked = threading.Event()
        self._loads = 0
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._checkpoint = 0

    def start(self, *, load: bool = True) -> None:
        """Take the lock, open the log, start the threads. Raises Busy, StoreError or DbtError with what to do."""
        self.lock.acquire()
        try:
            self.store: Store = open_store(str(self.config.state_dir / "state.db"))
            self.dbt = Builds(self.config, keep_fd=self.lock.fd, notify=self._nudged.set)
            self.deployer = Deployer(self.config, self.dbt, self.store)
            self._open_engine()
        except BaseException:
            self.lock.release()
            raise
        if load:
            self._load_asked.set()
        for name, loop in (("engine", self._run_engine), ("deployer", self._run_deployer)):
            thread = threading.Thread(target=loop, name=f"sao-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Stop the builds politely (they count as interrupted, no failed attempt), write a checkpoint, close
        everything.
        """
        self._stopping.set()
        self._nudged.set()
        self._load_asked.set()
        for thread in self._threads:
            thread.join(timeout=30)
        self.dbt.close()
        with self._changed:
            save_world(self.store, self._world)
            self._changed.notify_all()
        self.store.close()
        self.lock.release()

    # For readers and senders

    def submit(self, drafts: Sequence[Draft]) -> Future[list[Recorded | None]]:
        """Append to the log; the future is done when the events are durable. None stands for a duplicate."""
        future = self.store.submit(drafts)
        future.add_done_callback(lambda _: self._nudged.set())
        return future

    @contextmanager
    def view(self) -> Iterator[View]:
        """What is on record now, held still while the context lasts; keep it short."""
        with self._changed:
            yield View(
                self.config.environment,
                self._project,
                self._world,
                self.settings,
                self.clock.now(),
                error=self.error or self.load_error,
            )

    def wait_change(self, after: int, timeout: float) -> int:
        """Wait until something after the event `after` is folded, at most `timeout` seconds; the newest folded
        position.
        """
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

    def reload(self) -> None:
        """Look the project up again, without an event."""
        self._load_asked.set()

    def cancel(self, run: str) -> None:
        """Stop a run."""
        with self._changed:
            if self._engine is not None:
                self._engine.cancel(run)

    # The engine's thread

    def _open_engine(self) -> None:
        world = load_world(self.store)
        engine = Engine(self.store, self.dbt, self.clock, self.settings, world=world)
        engine.on_event = self._noted
        with self._changed:
            self._engine, self._world, self._project = engine, engine.world, engine.project
            self._changed.notify_all()

    def _noted(self, recorded: Recorded) -> None:
        if isinstance(recorded.event, e.CodePushed):
            self._load_asked.set()

    def _run_engine(self) -> None:
        pause = HEAL_LEAST
        while not self._stopping.is_set():
            try:
                if self._engine is None:
                    self._open_engine()
                wait = self._step()
                pause = HEAL_LEAST
            except Exception as error:
                self._broken(error)
                wait, pause = pause, min(pause * 2, HEAL_MOST)
            self._nudged.wait(wait)
            self._nudged.clear()

    def _step(self) -> float:
        engine = self._engine
        assert engine is not None
        with self._changed:
            before = engine.world.seq
            wake = engine.step()
            self._project, self.error = engine.project, engine.error
            self._limit(engine)
            if engine.world.seq != before:
                self._changed.notify_all()
            if engine.world.seq - self._checkpoint >= CHECKPOINT_EVERY:
                save_world(self.store, engine.world)
                self._checkpoint = engine.world.seq
        if engine.busy:
            return BUSY_POLL
        return IDLE_POLL if wake is None else max(0.0, min(IDLE_POLL, wake - self.clock.now()))

    def _limit(self, engine: Engine) -> None:
        """A DuckDB file takes one process at a time: one run at a time, whatever the settings say."""
        if engine.project is not None and engine.project.adapter == "duckdb" and self.settings.max_concurrent_runs > 1:
            self.settings = engine.settings = replace(self.settings, max_concurrent_runs=1)

    def _broken(self, error: Exception) -> None:
        """Stop what is being built and start over from the log: nothing that is in memory alone is trusted."""
        LOG.error("the engine stopped: %s", error, exc_info=not isinstance(error, SaoError))
        with self._changed:
            self.error = (
                str(error) if isinstance(error, SaoError) else f"internal error: {type(error).__name__}: {error}"
            )
            runs = list(self._engine.runs) if self._engine else []
            self._engine = None
        for run in runs:
            self.dbt.cancel(run)

    # The deployer's thread

    def _run_deployer(self) -> None:
        poll = self.config.git.poll if self.config.git else None
        while not self._stopping.is_set():
            asked = self._load_asked.wait(poll)
            self._load_asked.clear()
            if self._stopping.is_set() or not (asked or poll):
                continue
            self._load()

    def _load(self) -> None:
        try:
            deployed = self.deployer.load(lambda: (self._world.project, self._world.commit))
            if deployed.event is not None and not self._same_rejection(deployed.event):
                self.submit([Draft(deployed.event, self.clock.now(), sender="deployer")]).result()
            rejected = deployed.event if isinstance(deployed.event, e.ProjectRejected) else None
            self.load_error = rejected.error if rejected else None
        except Exception as error:
            LOG.error("the project could not be loaded: %s", error, exc_info=not isinstance(error, SaoError))
            self.load_error = str(error)
        finally:
            with self._changed:
                self._loads += 1
                self._changed.notify_all()

    def _same_rejection(self, event: e.ProjectLoaded | e.ProjectRejected) -> bool:
        return isinstance(event, e.ProjectRejected) and self._world.rejected == event

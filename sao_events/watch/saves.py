"""Local development: a saved file becomes an event, and the models that it changes in meaning are built in the
developer's target.

Native file events where the system has them, polling otherwise. A burst of saves is one event. What dbt and editors
write themselves is ignored.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.polling import PollingObserver

from sao_events.config import Config
from sao_events.core import events as e
from sao_events.core.errors import SaoError
from sao_events.core.project import IGNORED_FOLDERS
from sao_events.files import matters
from sao_events.ports import Draft
from sao_events.service import Service
from sao_events.watch.follow import Follow
from sao_events.watch.screen import watch_live

QUIET, MOST = 0.1, 2.0  # an editor writes a save in pieces; a formatter or a branch takes its time


class Saves(FileSystemEventHandler):
    """Gathers changed paths; a burst that pauses for `QUIET` seconds, or lasts `MOST`, is one call of `tell`."""

    def __init__(self, folder: Path, tell: Callable[[tuple[str, ...]], None]) -> None:
        self.folder, self.tell = folder, tell
        self._paths: set[str] = set()
        self._told = 0  # also what is told again: a file that is written in pieces
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._gather, name="sao-saves", daemon=True)
        self._thread.start()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Note the paths of a change; reading is none."""
        if event.is_directory or event.event_type in ("opened", "closed_no_write"):
            return
        self.note(Path(str(path)) for path in (event.src_path, event.dest_path) if path)

    def note(self, paths: Iterable[Path]) -> None:
        """Take `paths` as changed, those that matter."""
        self.add(str(path.relative_to(self.folder)) for path in paths if matters(path, self.folder))

    def add(self, names: Iterable[str]) -> None:
        """Take these names as changed."""
        names = set(names)
        with self._changed:
            self._paths |= names
            self._told += len(names)
            self._changed.notify()

    def stop(self) -> None:
        """Stop gathering."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout=5)

    def _gather(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._paths or self._stopping)
                if self._stopping:
                    return
                until, quiet = time.monotonic() + MOST, False
                while not quiet and time.monotonic() < until:
                    self._told = 0
                    quiet = not self._changed.wait_for(lambda: self._told or self._stopping, QUIET)
                paths, self._paths = tuple(sorted(self._paths)), set()
            self.tell(paths)


class Watched(FileSystemEventHandler):
    """Watches a folder for `Saves`: its own files, and the folders in it that matter, also those that come later.

    Native events where the system has them. Folders that dbt and git write into are not looked at.
    """

    def __init__(self, folder: Path, saves: Saves, *, polling: bool = False) -> None:
        self.folder, self.saves = folder, saves
        self._below: dict[Path, ObservedWatch] = {}
        self._observer: BaseObserver = PollingObserver() if polling else Observer()
        try:
            self._start()
        except OSError:  # for example no inotify watches left
            self._below.clear()
            self._observer = PollingObserver()
            self._start()

    def stop(self) -> None:
        """Stop watching."""
        self._observer.stop()
        self._observer.join()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Something changed at the top: a file, or a folder that came or went."""
        self.saves.on_any_event(event)
        for path in self._follow():
            self.saves.note(found for found in path.rglob("*") if found.is_file())

    def _start(self) -> None:
        self._observer.schedule(self, str(self.folder), recursive=False)
        self._follow()
        self._observer.start()

    def _follow(self) -> list[Path]:
        """Watch the folders that are there now, and no others; those that are new."""
        there = {path for path in self.folder.iterdir() if path.is_dir() and path.name not in IGNORED_FOLDERS}
        for path in self._below.keys() - there:
            self._observer.unschedule(self._below.pop(path))
            self.saves.add([f"{path.name}/"])  # what went with it may not be told any more
        fresh = sorted(there - self._below.keys())
        for path in fresh:
            self._below[path] = self._observer.schedule(self.saves, str(path), recursive=True)
        return fresh


def watch(config: Config, console: Console | None = None, *, polling: bool = False) -> int:
    """Run the service on the working folder and act on every save, until interrupted. Returns the exit status."""
    if config.git is not None:
        raise SaoError(
            "watch works on the files of a folder", hint="leave `git` out of the configuration, or use serve"
        )
    console = console or Console(highlight=False)
    config = replace(config, settings=replace(config.settings, settle=0.0))  # a burst of saves is one already
    service, folder = Service(config), config.dbt.project_dir.resolve()
    service.start(tell=console.print)
    saves = Saves(folder, lambda paths: _saved(service, paths))
    watched = Watched(folder, saves, polling=polling)
    where = f"{folder.name} · {config.environment}"
    console.print(f"watching {folder} · [dim]Ctrl-C ends[/dim]")
    follow = Follow(service, console)
    try:
        if console.is_terminal:
            watch_live(follow, where)
        else:
            follow.run()
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        watched.stop()
        saves.stop()
        service.stop()
    return 0


def _saved(service: Service, paths: tuple[str, ...]) -> None:
    service.submit([Draft(e.CodePushed(paths=paths[:100]), service.clock.now(), sender="watch")])

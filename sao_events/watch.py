"""Local development: a saved file becomes an event, and the models that it changes in meaning are built in the
developer's target.

Native file events where the system has them, polling otherwise. A burst of saves is one event. What dbt and editors
write themselves is ignored.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.polling import PollingObserver

from sao_events import events as e
from sao_events.config import Config
from sao_events.errors import SaoError
from sao_events.events import Recorded
from sao_events.explain import reason_text
from sao_events.graph import Graph
from sao_events.ports import Draft
from sao_events.service import Service

IGNORED_FOLDERS = frozenset({"target", "logs", "dbt_packages", ".git", ".sao", ".venv", "__pycache__", "node_modules"})
SUFFIXES = frozenset({".sql", ".yml", ".yaml", ".py", ".csv", ".md"})
QUIET, MOST = 0.25, 2.0


def matters(path: Path, folder: Path) -> bool:
    """Whether a change of `path` can change the project in `folder`: not dbt's own output, nor an editor's temporary
    files.
    """
    try:
        parts = path.relative_to(folder).parts
    except ValueError:
        return False
    if not parts or IGNORED_FOLDERS.intersection(parts[:-1]):
        return False
    name = parts[-1]
    return path.suffix in SUFFIXES and not name.startswith((".", "#", "~")) and name != "profiles.yml.tmp"


class Saves(FileSystemEventHandler):
    """Gathers changed paths; a burst that pauses for `QUIET` seconds, or lasts `MOST`, is one call of `tell`."""

    def __init__(self, folder: Path, tell: Callable[[tuple[str, ...]], None]) -> None:
        self.folder, self.tell = folder, tell
        self._paths: set[str] = set()
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
        with self._changed:
            self._paths.update(names)
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
                count, waited = 0, 0.0
                while count != len(self._paths) and waited < MOST:
                    count = len(self._paths)
                    self._changed.wait(QUIET)
                    waited += QUIET
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
    service, folder = Service(config), config.dbt.project_dir.resolve()
    service.start()
    saves = Saves(folder, lambda paths: _saved(service, paths))
    watched = Watched(folder, saves, polling=polling)
    console.print(f"watching {folder} · [dim]Ctrl-C ends[/dim]")
    try:
        Follow(service, console).run()
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        watched.stop()
        saves.stop()
        service.stop()
    return 0


def _saved(service: Service, paths: tuple[str, ...]) -> None:
    service.submit([Draft(e.CodePushed(paths=paths[:100]), service.clock.now(), sender="watch")])


class Follow:
    """Says on the console what happens, as it happens."""

    def __init__(self, service: Service, console: Console) -> None:
        self.service, self.console = service, console
        self.after = service.store.last()
        self.saved_at_load: int | None = None
        self.loads = 0
        self.error: str | None = None

    def run(self) -> None:
        """Until the service stops or the user interrupts."""
        while not self.service.stopping:
            self.service.wait_change(self.after, timeout=0.5)
            self.tell()

    def tell(self) -> None:
        """Print what is new."""
        for recorded in self.service.store.read(self.after):
            self.after = recorded.seq
            self._tell(recorded)
        if self.service.loads != self.loads:
            self.loads = self.service.loads
            self._tell_load()
        if self.service.error != self.error:
            self.error = self.service.error
            if self.error:
                self.console.print(f"[red]error[/red] {self.error}", markup=True)

    def _tell_load(self) -> None:
        if self.saved_at_load is not None and not self.service.load_error:
            self.console.print("  no change of meaning: nothing to build")
        self.saved_at_load = None

    def _tell(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, e.CodePushed):
            self.saved_at_load = recorded.seq
            shown = ", ".join(event.paths[:3]) + (f" and {len(event.paths) - 3} more" if len(event.paths) > 3 else "")
            self.console.print(f"[bold]saved[/bold] {shown or event.ref or 'code'}")
        elif isinstance(event, e.ProjectLoaded):
            self.saved_at_load = None
            self._tell_warnings(event)
        elif isinstance(event, e.ProjectRejected):
            self.saved_at_load = None
            self.console.print("[red]the project does not parse[/red]; what was loaded before stays in force")
            self.console.print(event.error, markup=False)
        else:
            self._tell_run(event)

    def _tell_warnings(self, event: e.ProjectLoaded) -> None:
        for warning in event.warnings:
            self.console.print(f"[yellow]warning[/yellow] {warning}", markup=True)

    def _tell_run(self, event: e.Event) -> None:
        graph = self._graph()
        if isinstance(event, e.BuildStarted):
            self.console.print(f"  building [bold]{_name(graph, event.node)}[/bold]: {reason_text(event.reason)}")
        elif isinstance(event, e.NodeBuilt):
            self.console.print(f"  [green]built[/green] {_name(graph, event.node)} in {event.seconds:.2f} s")
        elif isinstance(event, e.NodeFailed):
            self.console.print(f"  [red]failed[/red] {_name(graph, event.node)}")
            self.console.print(f"    {event.message or ''}", markup=False)
        elif isinstance(event, e.TestFinished) and event.status != "pass":
            self.console.print(f"  [red]test {event.status}[/red] {event.test.split('.')[-2:][0]}")
            self.console.print(f"    {event.message or ''}", markup=False)
        elif isinstance(event, e.RunFinished):
            reused = self._reused(graph)
            self.console.print(f"  run {event.run}: {event.status}; {reused} reused. Waiting for the next change.")

    def _graph(self) -> Graph | None:
        with self.service.view() as view:
            return view.project.graph if view.project else None

    def _reused(self, graph: Graph | None) -> int:
        if graph is None:
            return 0
        since = [r for r in self.service.store.read(max(0, self.after - 1000)) if isinstance(r.event, e.NodeBuilt)]
        last = since[-1].event if since else None
        run = last.run if isinstance(last, e.NodeBuilt) else None
        built = {r.event.node for r in since if isinstance(r.event, e.NodeBuilt) and r.event.run == run}
        return sum(node.built for node in graph.nodes.values()) - len(built)


def _name(graph: Graph | None, node: str) -> str:
    return graph.nodes[node].name if graph and node in graph.nodes else node

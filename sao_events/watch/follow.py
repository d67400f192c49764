"""What a developer sees while `watch` runs: what was saved, what that changes in meaning and in which part, what is
built and why, what is left alone and why, what failed and where.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from sao_events import report
from sao_events.clock import clock, seconds_of
from sao_events.core import events as e
from sao_events.core.events import Recorded
from sao_events.core.graph import Graph
from sao_events.core.project import project_from_bytes
from sao_events.report.explain import listed, reason_text
from sao_events.service import Service

MOST = 8
NOTABLE = ("blocked", "wait")


class Follow:
    """Says on the console what happens, as it happens. What is under way is in its fields, for who draws it."""

    def __init__(self, service: Service, console: Console) -> None:
        self.service, self.console = service, console
        self.after = service.store.last()
        self.graph: Graph | None = None
        self.loads = 0
        self.error: str | None = None
        self.load_error: str | None = None
        self.saved = False  # whether something was saved that was not read so far
        self.told = False  # whether changes were told since then
        self.warned: tuple[str, ...] = ()
        self.asked: tuple[str, ...] = ()
        self.building: dict[str, float] = {}
        self.reasons: dict[str, str] = {}
        self.built: set[str] = set()
        self.failed: set[str] = set()
        self.tests: Counter[str] = Counter()
        self.standing = ""

    def run(self, refresh: Callable[[], None] = lambda: None) -> None:
        """Until the service stops or the user interrupts. `refresh` is called after each look."""
        self.begin()
        while not self.service.stopping:
            self.service.wait_change(self.after, timeout=0.5)
            with unbroken():
                self.tell()
                refresh()

    def begin(self) -> None:
        """Take up the project on record."""
        with self.service.view() as view:
            self.graph = view.project.graph if view.project else None
            self._warn(view.project.warnings if view.project else ())

    def tell(self) -> None:
        """Print what is new."""
        loads = self.service.loads
        for recorded in self.service.store.read(self.after):
            self.after = recorded.seq
            self._tell(recorded)
        if loads != self.loads:
            self.loads = loads
            later = self.service.loading  # what was saved while the project was read is read again
            self._tell_load(self.service.load_error, later)
            self.saved = self.saved and later
            self._stand()
        if self.service.error != self.error:
            self.error = self.service.error
            self._say(f"[red]error[/red] {escape(self.error)}" if self.error else "the error is over")

    def name(self, node: str) -> str:
        """What people call a node."""
        return self.graph.nodes[node].name if self.graph and node in self.graph.nodes else node

    def _tell_load(self, error: str | None, later: bool) -> None:
        """What came of looking the project up; that it is as bad as before is said to who has just saved something."""
        if error and (self.saved or error != self.load_error):
            stays = "; what was loaded before stays in force" if self.graph else ""
            self._say(f"[red]the project cannot be loaded[/red]{stays}")
            self._quote(error)
        elif self.load_error and not error:
            self._say("the project can be loaded again")
        elif self.saved and not (error or later or self.told):
            self._say("  no change of meaning: nothing to build")
        self.load_error = error

    def _say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def _quote(self, text: str | None) -> None:
        for line in (text or "").splitlines():
            self.console.print(f"    {line}", markup=False, soft_wrap=True)

    def _tell(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, e.CodePushed):
            self.saved, self.told = True, False
            self._say(f"[bold]saved[/bold] {escape(listed(event.paths, {}, MOST) or event.ref or 'code')}")
        elif isinstance(event, e.ProjectLoaded):
            self._tell_project(event)
        elif isinstance(event, e.DataLanded):
            self._say(f"[bold]new data[/bold] {escape(event.source)}")
        else:
            self._tell_run(event)

    def _tell_project(self, event: e.ProjectLoaded) -> None:
        graph = project_from_bytes(self.service.store.get_project(event.project)).graph
        before, self.graph = self.graph, graph
        self._warn(event.warnings)
        if before is None or not self.saved:
            return
        self.told = True
        said = changes(before, graph)
        for line in said[:MOST]:
            self._say(f"  {escape(line)}")
        if len(said) > MOST:
            self._say(f"  and {len(said) - MOST} more")
        if not said:
            self._say("  no change of meaning in any model or test")

    def _warn(self, warnings: tuple[str, ...]) -> None:
        """Say those that were not there before."""
        for warning in warnings:
            if warning not in self.warned:
                self._say(f"[yellow]warning[/yellow] {escape(warning)}")
        self.warned = warnings

    def _tell_run(self, event: e.Event) -> None:
        if isinstance(event, e.RunStarted):
            self.asked, self.tests = tuple(event.nodes), Counter()
            self.built, self.failed, self.building = set(), set(), {}
        elif isinstance(event, e.BuildStarted):
            self.building[event.node] = time.monotonic()
            self.reasons[event.node] = reason_text(event.reason)
            if not self.console.is_terminal:  # there the foot shows it
                self._say(f"  building {self.name(event.node)}: {reason_text(event.reason)}")
        elif isinstance(event, e.NodeBuilt):
            self.building.pop(event.node, None)
            self.built.add(event.node)
            why = f": {self.reasons.get(event.node, '')}" if self.console.is_terminal else ""
            self._say(f"  [green]built[/green] {escape(self.name(event.node))} in {event.seconds:.2f} s{why}")
        elif isinstance(event, e.NodeFailed):
            self.building.pop(event.node, None)
            self.failed.add(event.node)
            self._tell_failure(event)
        elif isinstance(event, e.BuildInterrupted):
            self.building.pop(event.node, None)
        elif isinstance(event, e.TestFinished):
            self._tell_test(event)
        elif isinstance(event, e.RunFinished):
            self._tell_end(event)

    def _tell_failure(self, event: e.NodeFailed) -> None:
        self._say(f"  [red]failed[/red] {escape(self.name(event.node))}")
        self._quote(event.message)
        node = self.graph.nodes.get(event.node) if self.graph else None
        if node is None or node.path is None or event.status == "skipped":
            return
        self._say(f"    [dim]file[/dim] {escape(node.path)}")
        if found := compiled(self.service.config.state_dir, event.run, node.path):
            self._say(f"    [dim]compiled[/dim] {escape(_short(found))}")

    def _tell_test(self, event: e.TestFinished) -> None:
        self.tests[event.status] += 1
        if event.status == "pass":
            return
        test = self.graph.tests.get(event.test) if self.graph else None
        colour = "yellow" if event.status == "warn" else "red"
        self._say(f"  [{colour}]test {event.status}[/{colour}] {escape(test.name if test else event.test)}")
        self._quote(event.message)

    def _tell_end(self, event: e.RunFinished) -> None:
        colour = {"success": "green", "failed": "red", "error": "red"}.get(event.status, "yellow")
        tests = f", tests: {_counts(self.tests)}" if self.tests else ""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        counts = f"{len(self.built)} built{failed}{tests}"
        self._say(f"  [{colour}]{event.status}[/{colour}]: {counts}. Waiting for the next change.")
        self._quote(event.message)
        self.asked, self.building = (), {}
        self._tell_rest()

    def _stand(self) -> list[dict[str, Any]]:
        """The nodes as they are decided now."""
        with self.service.view() as view:
            nodes: list[dict[str, Any]] = report.status(view)["nodes"] if view.project else []
        self.standing = _counts(Counter(node["action"] for node in nodes))
        return nodes

    def _tell_rest(self) -> None:
        """Why the rest was left alone: a count for each reason, and the notable ones by name."""
        nodes, now = self._stand(), self.service.clock.now()
        rest = [node for node in nodes if node["node"] not in self.built and node["action"] != "build"]
        if reused := [node for node in rest if node["action"] == "reuse"]:
            reasons = _counts(Counter(reason_text(node["reason"]) for node in reused), "{name} ({count})")
            self._say(f"  [dim]reused {len(reused)}: {escape(reasons)}[/dim]")
        held = [node for node in rest if node["action"] in NOTABLE]
        for node in held[:MOST]:
            until = f" until {clock(seconds_of(node['eligible_at']), now)}" if node["eligible_at"] else ""
            self._say(f"  [dim]{node['action']} {escape(node['name'])}{until}: {escape(node['text'])}[/dim]")
        if len(held) > MOST:
            self._say(f"  [dim]and {len(held) - MOST} more that wait or are blocked[/dim]")


@contextmanager
def unbroken() -> Iterator[None]:
    """An interrupt that comes meanwhile is raised at the end, a second one at once: the console would print again what
    it is interrupted in.
    """
    main = threading.current_thread() is threading.main_thread()
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if main}
    held = [number for number, handler in usual.items() if handler is signal.default_int_handler]
    came = list[int]()

    def note(number: int, _: object) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt

    for number in held:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number in held:
            signal.signal(number, usual[number])
    if came:
        raise KeyboardInterrupt


def changes(before: Graph, after: Graph) -> list[str]:
    """What differs in meaning between two states of the project, a node or test a line, with the parts that do."""
    found = []
    for name, identity in after.fingerprints.items():
        node, old = after.nodes[name], before.nodes.get(name)
        if old is None:
            found.append(f"new {node.name}{_in(node.path)}")
        elif before.fingerprints.get(name) != identity:
            parts = [part for part in {**old.parts, **node.parts} if old.parts.get(part) != node.parts.get(part)]
            found.append(f"changed {node.name}: {', '.join(parts) or 'what it is compiled to'}{_in(node.path)}")
    found += [f"gone {node.name}{_in(node.path)}" for name, node in before.nodes.items() if name not in after.nodes]
    then, now = before.definitions, after.definitions
    found += [
        f"{'changed' if name in then else 'new'} test {after.tests[name].name}"
        for name, definition in now.items()
        if then.get(name) != definition
    ]
    return found + [f"gone test {test.name}" for name, test in before.tests.items() if name not in now]


def compiled(state_dir: Path, run: str, path: str) -> Path | None:
    """The file with the SQL that a run compiled of the node whose file is `path`, where dbt came that far."""
    kept = f"runs/{run}/*/target/{{}}/*/{path}"
    return next((found for kind in ("run", "compiled") for found in state_dir.glob(kept.format(kind))), None)


def _in(path: str | None) -> str:
    return f" ({path})" if path else ""


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _counts(counter: Iterable[str] | Counter[str], form: str = "{count} {name}") -> str:
    return ", ".join(form.format(name=name, count=count) for name, count in Counter(counter).most_common())

"""What a developer sees while `watch` runs: what was saved, what that changes in meaning, what is built and why, what
failed.
"""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from sao_events import events as e
from sao_events.events import Recorded
from sao_events.explain import reason_text
from sao_events.graph import Graph
from sao_events.project import project_from_bytes
from sao_events.service import Service

MOST = 8


class Follow:
    """Says on the console what happens, as it happens."""

    def __init__(self, service: Service, console: Console) -> None:
        self.service, self.console = service, console
        self.after = service.store.last()
        self.graph: Graph | None = None
        self.loads = 0
        self.error: str | None = None
        self.load_error: str | None = None
        self.saved = False
        self.built: set[str] = set()

    def run(self) -> None:
        """Until the service stops or the user interrupts."""
        with self.service.view() as view:
            self.graph = view.project.graph if view.project else None
        while not self.service.stopping:
            self.service.wait_change(self.after, timeout=0.5)
            self.tell()

    def tell(self) -> None:
        """Print what is new."""
        loads = self.service.loads
        for recorded in self.service.store.read(self.after):
            self.after = recorded.seq
            self._tell(recorded)
        if loads != self.loads:
            self.loads = loads
            self._tell_load(self.service.load_error)
            self.saved = False
        if self.service.error != self.error:
            self.error = self.service.error
            self._say(f"[red]error[/red] {escape(self.error)}" if self.error else "the error is over")

    def _tell_load(self, error: str | None) -> None:
        """What came of looking the project up; that it is as bad as before is said to who has just saved something."""
        if error and (self.saved or error != self.load_error):
            stays = "; what was loaded before stays in force" if self.graph else ""
            self._say(f"[red]the project cannot be loaded[/red]{stays}")
            self._quote(error)
        elif self.load_error and not error:
            self._say("the project can be loaded again")
        elif self.saved and not error:
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
            self.saved = True
            self._say(f"[bold]saved[/bold] {escape(_listed(list(event.paths)) or event.ref or 'code')}")
        elif isinstance(event, e.ProjectLoaded):
            self._tell_project(event)
        elif isinstance(event, e.DataLanded):
            self._say(f"[bold]new data[/bold] {escape(event.source)}")
        else:
            self._tell_run(event)

    def _tell_project(self, event: e.ProjectLoaded) -> None:
        graph = project_from_bytes(self.service.store.get_project(event.project)).graph
        before, self.graph = self.graph, graph
        for warning in event.warnings if before is None else ():
            self._say(f"[yellow]warning[/yellow] {escape(warning)}")
        if before is None or not self.saved:
            return
        self.saved = False
        changed = [name for name, found in graph.fingerprints.items() if before.fingerprints.get(name) != found]
        gone = [name for name in before.nodes if name not in graph.nodes]
        said = [
            ("changed", _listed([graph.nodes[name].name for name in changed])),
            ("gone", _listed(_names(before, gone))),
        ]
        text = "; ".join(f"{what}: {names}" for what, names in said if names)
        self._say(f"  {escape(text)}" if text else "  no change of meaning in any model")

    def _tell_run(self, event: e.Event) -> None:
        if isinstance(event, e.RunStarted):
            self.built = set()
        elif isinstance(event, e.BuildStarted):
            self._say(f"  building [bold]{escape(self._name(event.node))}[/bold]: {reason_text(event.reason)}")
        elif isinstance(event, e.NodeBuilt):
            self.built.add(event.node)
            self._say(f"  [green]built[/green] {escape(self._name(event.node))} in {event.seconds:.2f} s")
        elif isinstance(event, e.NodeFailed):
            self._say(f"  [red]failed[/red] {escape(self._name(event.node))}")
            self._quote(event.message)
        elif isinstance(event, e.TestFinished) and event.status != "pass":
            colour = "yellow" if event.status == "warn" else "red"
            self._say(f"  [{colour}]test {event.status}[/{colour}] {escape(self._test(event.test))}")
            self._quote(event.message)
        elif isinstance(event, e.RunFinished):
            self._tell_end(event)

    def _tell_end(self, event: e.RunFinished) -> None:
        nodes = sum(node.built for node in self.graph.nodes.values()) if self.graph else 0
        colour = {"success": "green", "failed": "red", "error": "red"}.get(event.status, "yellow")
        counts = f"{len(self.built)} built, {max(0, nodes - len(self.built))} left alone"
        self._say(f"  [{colour}]{event.status}[/{colour}]: {counts}. Waiting for the next change.")
        self._quote(event.message)

    def _name(self, node: str) -> str:
        return self.graph.nodes[node].name if self.graph and node in self.graph.nodes else node

    def _test(self, test: str) -> str:
        return self.graph.tests[test].name if self.graph and test in self.graph.tests else test


def _names(graph: Graph, ids: list[str]) -> list[str]:
    return [graph.nodes[name].name for name in ids]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more

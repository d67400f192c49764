"""A job, followed in the log from its request to its end: what was planned for it and what came of each node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sao_events.config import Config
from sao_events.core import checks
from sao_events.core import events as e
from sao_events.core.decision import Action, Decision
from sao_events.core.events import Recorded
from sao_events.core.evolve import evolve
from sao_events.core.plan import Plan, decide, plan
from sao_events.core.project import Project, project_from_bytes
from sao_events.core.state import Job, World
from sao_events.ports import Store
from sao_events.report import View, header, iso, names, node_object
from sao_events.report.explain import describe
from sao_events.store.checkpoint import load_world

Tell = Callable[[str], None]


@dataclass(slots=True)
class Followed:
    """A job and what is known of it. `plan` is what its run set out to do, `run` the run; `status` is None until it has
    ended: `success`, `failed` (a node or a test), `error` (dbt itself) or `interrupted`.
    """

    store: Store
    job: str
    config: Config
    tell: Tell
    world: World = field(default_factory=World)
    project: Project | None = None
    run: str | None = None
    plan: Plan | None = None
    status: str | None = None
    message: str | None = None
    started: float | None = None
    nodes: dict[str, e.NodeBuilt | e.NodeFailed | e.BuildInterrupted] = field(default_factory=dict)
    tests: dict[str, e.TestFinished] = field(default_factory=dict)
    reused: tuple[str, ...] = ()

    @classmethod
    def begin(cls, store: Store, job: str, config: Config, tell: Tell) -> Followed:
        """Follow the log of `store` from where it ends now: to be called before the job is requested."""
        followed = cls(store, job, config, tell, load_world(store))
        followed._read_project()
        return followed

    def look(self) -> bool:
        """Take in what is new in the log. Returns whether the job has ended."""
        while self.status is None and (page := self.store.read(self.world.seq)):
            for recorded in page:
                self._before(recorded)
                evolve(self.world, recorded)
                self._after(recorded)
        return self.status is not None

    def _before(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, e.RunStarted) and event.job == self.job and self.project is not None:
            asked: Job | None = self.world.jobs.get(self.job)
            settings = self.config.settings
            self.plan = plan(self.project.graph, self.world, settings, recorded.at, job=asked)
            self.run, self.started = event.run, recorded.at

    def _after(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, e.ProjectLoaded):
            self._read_project()
        elif isinstance(event, e.EngineStarted):
            self.run = None
        elif isinstance(event, e.ProjectRejected):
            self.tell(describe(event, {}))
        elif isinstance(event, e.JobFinished) and event.job == self.job:
            self.status, self.message, self.reused = event.status, event.message, event.reused_tests
        elif self.run is not None and getattr(event, "run", None) == self.run:
            self._happened(event)

    def _happened(self, event: e.Event) -> None:
        if isinstance(event, (e.NodeBuilt, e.NodeFailed, e.BuildInterrupted)):
            self.nodes[event.node] = event
        if isinstance(event, e.TestFinished):
            self.tests[event.test] = event
        if isinstance(event, e.RunFinished) and event.status == "error":
            self.status, self.message = "error", event.message
        quiet = isinstance(event, e.TestFinished) and event.status == "pass"
        if not quiet and not isinstance(event, (e.RunFinished, e.RunStarted)):
            self.tell(describe(event, names(self.project)))

    def _read_project(self) -> None:
        if self.world.project is not None:
            self.project = project_from_bytes(self.store.get_project(self.world.project))

    # The result

    def result(self, select: tuple[str, ...] | None, now: float) -> dict[str, Any]:
        """What the job did: each node that it selects, with its decision, dbt's status and the seconds it took."""
        view = View(self.config.environment, self.project, self.world, self.config.settings, now)
        decisions = {**self.plan.decisions, **self._left_out(now)} if self.plan else {}
        known, failed = names(self.project), self._failed()
        chosen = [name for name in decisions if select is None or name in set(select)]
        return {
            **header(view),
            "job": self.job,
            "run": self.run,
            "status": self.status,
            "message": self.message,
            "started_at": iso(self.started),
            "nodes": [
                {**node_object(view, name, decisions[name], known), **self._outcome(name, failed)} for name in chosen
            ],
            "tests": [
                {
                    "test": test.test,
                    "name": known.get(test.test, test.test),
                    "status": test.status,
                    "seconds": test.seconds,
                }
                | {"message": test.message}
                | {"reused": False, "proven": list(test.proven)}
                for test in self.tests.values()
            ]
            + [self._reused(name, known) for name in self.reused if name not in self.tests],
        }

    def _left_out(self, now: float) -> dict[str, Decision]:
        """What is decided now of the nodes that were planned, and were no longer due at their turn."""
        assert self.plan is not None
        assert self.project is not None
        left = [name for name in self.plan.nodes if name not in self.nodes]
        if self.status != "success" or not left:
            return {}
        now_decided = decide(self.project.graph, self.world, self.config.settings, now)
        return {name: now_decided[name] for name in left if name in now_decided}

    def _reused(self, name: str, known: Mapping[str, str]) -> dict[str, Any]:
        """A test whose result stands: that result."""
        state = self.world.tests.get(name)
        result = {"status": state.status, "message": state.message} if state else {"status": None, "message": None}
        named = {"test": name, "name": known.get(name, name), "seconds": 0.0}
        return {**named, **result, "reused": True, "proven": list(state.proven) if state else []}

    def _failed(self) -> set[str]:
        """Nodes that were not built or have failed a test, and sources that have."""
        assert self.project is not None
        broken = {name for name, event in self.nodes.items() if not isinstance(event, e.NodeBuilt)}
        tests, sources = self.project.graph.tests, self.project.graph.sources
        failed = [tests[it.test] for it in self.tests.values() if it.status in checks.FAILED and it.test in tests]
        read = {name for test in failed for name in test.reads if name in sources}
        return broken.union(read, *(test.fails for test in self.tests.values()))

    def _outcome(self, name: str, failed: set[str]) -> dict[str, Any]:
        assert self.plan is not None
        assert self.project is not None
        event = self.nodes.get(name)
        if isinstance(event, (e.NodeBuilt, e.NodeFailed)):
            return {"status": event.status, "seconds": event.seconds, "message": event.message}
        if event is not None:
            return {"status": "interrupted", "seconds": None, "message": None}
        graph = self.project.graph
        nodes = graph.ancestors([name])
        above = nodes.union(*(graph.nodes[it].reads for it in nodes)) - {name}
        stopped = self.status in ("error", "interrupted") or bool(failed & above)
        skipped = self.plan.decisions[name].action is Action.blocked or (name in self.plan.nodes and stopped)
        return {"status": "skipped" if skipped else "reused", "seconds": None, "message": None}


def only(planned: Plan, select: tuple[str, ...] | None) -> Plan:
    """The plan with the decisions about what is selected alone."""
    if select is None:
        return planned
    chosen = set(select)
    return replace(planned, decisions={name: d for name, d in planned.decisions.items() if name in chosen})

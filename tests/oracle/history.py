"""One random history of a real service, and what must hold whenever it is at rest."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import httpx

from sao_events.config import Config, load_config
from sao_events.core import events as e
from sao_events.core.decision import Action, Decision, Reason
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code as Identity
from sao_events.core.lineage import Reading
from sao_events.core.nodes import Node, Test
from sao_events.core.plan import Plan, plan
from sao_events.core.project import Project, project_from_bytes
from sao_events.core.state import World
from sao_events.ports import Draft, Store
from sao_events.store import open_store
from sao_events.store.checkpoint import catch_up
from tests.imported_dbt import said
from tests.nest import Nest
from tests.oracle.audit import once_by_dbt, once_by_log, once_by_server
from tests.oracle.code import Code
from tests.oracle.database import SCRATCH, Database, PostgresDatabase
from tests.oracle.process import ServiceProcess
from tests.oracle.scratch import Dbt, Relation
from tests.oracle.subject import Subject

REST_LIMIT, STILL, STUCK = 240.0, 0.15, 0.7
DAY = 86400.0
TOKEN = "the-token-of-the-loader-of-the-oracle"


class Unsound(AssertionError):
    """At rest the warehouse is not what a full build holds; the message has tables, rows and the log's account."""


@dataclass
class Counts:
    """What came up in a history."""

    steps: int = 0
    rests: int = 0
    compared: int = 0
    builds: int = 0
    kills: int = 0
    events: int = 0
    equal: int = 0
    cleaned: int = 0


@dataclass
class Late:
    """A load whose event is still to be sent."""

    source: str
    load_id: str
    at: datetime
    rows: int


@dataclass
class History:
    """A service on a project and a warehouse in `folder`. `say` is told each step. `cutoff`: a build that leaves equal
    content makes nothing new.
    """

    folder: Path
    subject: Subject
    database: Database
    dbt: Dbt
    nest: Nest
    rng: Random
    in_git: bool = True
    runs_at_once: int = 1
    cutoff: bool = False
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.code = Code(self.folder / "code", in_git=self.in_git)
        (self.folder / "token").write_text(TOKEN)
        (self.folder / "scratch").mkdir()
        self.config_file = self.folder / "sao.yml"
        retries = "retries: {attempts: 1, backoff: 1m}"
        self.config_file.write_text(
            f"state_dir: {self.folder / 'state'}\n{self.code.settings()}"
            f"dbt: {{grace: 2s}}\ndata: {{tokens: [{{file: {self.folder / 'token'}}}]}}\n"
            f"decisions: {{settle: 0s, {retries}, max_concurrent_runs: {self.runs_at_once},"
            f" default: {{early_cutoff: {str(self.cutoff).lower()}}}}}\n"
        )
        self.config: Config = load_config(self.config_file, self.folder, {})
        env = {**os.environ, **self.database.env, "GIT_CONFIG_GLOBAL": os.devnull, "SAO_STATE_DIR": ""}
        self.process = ServiceProcess(self.nest, self.config_file, env, self.folder)
        self.store: Store = open_store(str(self.folder / "state" / "state.db"))
        self.world = World()
        self.late: list[Late] = []
        self.acknowledged: list[tuple[str, str]] = []
        self.counts = Counts()
        self.began, self.loads, self.cancelled = time.time(), 0, False
        self._graphs: dict[str, Project] = {}

    # What happens

    def begin(self) -> None:
        """The first data, the first code, the service."""
        self.subject.create(self.database)
        self.code.save(self.subject.files(), "first")
        self.process.start()

    def say(self, what: str) -> None:
        """Note a step."""
        self.told.append(f"{time.time() - self.began:7.2f} {what}")

    def land(self, source: str, *, late: bool = False, twice: bool = False, rng: Random | None = None) -> None:
        """A load, and the event that tells of it."""
        self.loads += 1
        at = datetime.fromtimestamp(self.process.now(), UTC).replace(tzinfo=None)
        load_id = f"load-{self.loads}"
        rows = self.subject.load(self.database, source, rng or self.rng, load_id, at)
        self.say(f"{rows} rows land in {source}{', told later' if late else ''}{', told twice' if twice else ''}")
        report = Late(source, load_id, at, rows)
        if late:
            self.late.append(report)
            return
        for _ in range(1 + twice):
            self._report(report)

    def tell_late(self) -> None:
        """Send the events that are still to be sent."""
        for report in self.late:
            self._report(report)
        self.late.clear()

    def _report(self, report: Late) -> None:
        """Over HTTP as a loader does; where nobody answers, into the log as the command line does."""
        body = {"source": report.source, "load_id": report.load_id, "loaded_at": f"{report.at.isoformat()}Z"}
        self.counts.events += 1
        if self._post("data", body):
            self.acknowledged.append((report.source, report.load_id))
            return
        source, at = f"source.{self.subject.name}.{report.source}", report.at.replace(tzinfo=UTC).timestamp()
        landed = e.DataLanded(source, report.load_id, at, report.rows)
        self._append(landed, key=f"data/{source}/load/{report.load_id}")
        self.acknowledged.append((report.source, report.load_id))

    def _post(self, kind: str, body: dict[str, Any]) -> bool:
        if not self.process.alive:
            return False
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = f"{self.process.url}/events/{kind}"
        try:
            answer = httpx.post(url, json=body, headers=headers, timeout=10)
        except httpx.HTTPError:
            return False
        assert answer.status_code in (200, 202, 503), f"{url} answers {answer.status_code} to {body}: {answer.text}"
        return answer.status_code != 503

    def _append(self, event: e.Event, key: str | None = None) -> None:
        self.store.append([Draft(event, self.process.now(), key, "cli")])

    def save(self, what: str) -> None:
        """Commit or save the project as it is now, and tell the service to look."""
        self.say(what)
        self.code.save(self.subject.files(), what)
        if not self._post("code", {"ref": "refs/heads/main"} if self.in_git else {}):
            self._append(e.CodePushed("refs/heads/main"))

    def job(self, *, forced: bool = False, select: tuple[str, ...] | None = None, full_refresh: bool = False) -> None:
        """Ask for everything, or for some nodes."""
        how = " for a full refresh of" if full_refresh else " by force for" if forced else " for"
        self.say(f"a job asks{how} {', '.join(select or ('all',))}")
        now = self.process.now()
        self._append(e.JobRequested(f"j{self.store.last()}", "oracle", now, select, not forced, full_refresh))

    def clear(self, nodes: tuple[str, ...] | None) -> None:
        """Have the state of nodes forgotten."""
        self.say(f"cleared: {nodes}")
        self._append(e.StateCleared(nodes))

    def drop(self, relation: Relation) -> None:
        """Somebody drops a relation, and says so."""
        self.say(f"{relation.node} is dropped")
        self.database.drop(relation.schema, relation.name)
        self._append(e.RelationDropped(relation.node))

    def clean(self) -> None:
        """With the service down, drop what is left behind, as a person does. Nothing that the project has is."""
        self.kill("term")
        told = self.process.command("clean", "--yes", "--json")
        assert told, f"clean prints nothing: see {self.folder / 'service.log'}"
        dropped = {it["relation"] for it in json.loads(told)["relations"] if it["status"] == "dropped"}
        self.say(f"cleaned: {', '.join(sorted(dropped)) or 'nothing'}")
        self.counts.cleaned += len(dropped)
        catch_up(self.store, self.world)
        if there := dropped & {node.relation for node in self.project.graph.nodes.values() if node.built}:
            raise Unsound(f"relations of the project were dropped: {sorted(map(str, there))}")
        if kept := dropped & self.world.relations.keys():
            raise Unsound(f"what was dropped is still on record: {sorted(kept)}")

    def kill(self, how: str) -> None:
        """End processes without asking."""
        self.say(f"kill: {how}")
        self.counts.kills += 1
        self.process.kill(how, self.rng)

    def cancel(self, run: str) -> None:
        """Somebody stops a run."""
        self.say(f"{run} is cancelled")
        self.cancelled = True
        self.process.cancel(run)

    def up(self) -> None:
        """Start the service where it does not run."""
        if not self.process.alive:
            self.say("start")
            self.process.start()

    def wait_until_busy(self, limit: float = 3.0) -> None:
        """Until a build has begun that has not ended, nothing is to be done, or `limit` seconds are over."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            still = self.process.still(self.store.last())
            catch_up(self.store, self.world)
            if any(state.running for state in self.world.nodes.values()):
                return
            if not self.process.alive or (still and not (self.world.project and self._open(self._plan()))):
                return
            time.sleep(0.02)

    # At rest

    @property
    def project(self) -> Project:
        """The project in force."""
        assert self.world.project is not None
        if self.world.project not in self._graphs:
            self._graphs[self.world.project] = project_from_bytes(self.store.get_project(self.world.project))
        return self._graphs[self.world.project]

    def rest(self) -> Plan:
        """Let all time pass that anything waits for, until nothing happens any more. What is decided then."""
        self.up()
        self._deployed()
        deadline, moved, seq, planned = time.monotonic() + REST_LIMIT, time.monotonic(), -1, None
        while time.monotonic() < deadline:
            self.up()
            still = self.process.still(self.store.last())
            catch_up(self.store, self.world)
            if self.world.seq != seq or not still:
                seq, moved = self.world.seq, time.monotonic()
            planned, now = self._plan(), self.process.now()
            quiet = time.monotonic() - moved
            if self._open(planned):
                if quiet > STUCK and not self.world.runs:
                    self._press_on()
                    moved = time.monotonic()
            elif planned.wakes is not None:
                self.process.put_ahead(planned.wakes - now + 0.001)
            elif quiet > STILL:
                self.counts.rests += 1
                return planned
            time.sleep(0.05)
        raise Unsound(f"the service does not come to rest: {self._state(planned)}")

    def _plan(self) -> Plan:
        """What is to be done by the record."""
        return plan(self.project.graph, self.world, self.config.settings, self.process.now())

    def _open(self, planned: Plan) -> bool:
        """Whether anything is under way or to be done now."""
        return bool(self.world.runs or self.world.jobs or planned.nodes or planned.tests)

    def _press_on(self) -> None:
        """Let the pause pass that follows a failure of dbt itself; ask for what a cancelled run has left."""
        self.process.put_ahead(310)
        if self.cancelled:
            self.cancelled = False
            self._append(e.StateCleared(()))

    def _deployed(self) -> None:
        """Wait until what was saved last is in force."""
        deadline = time.monotonic() + 120
        while not self.process.still(self.store.last()):  # what was saved is an event, and an event asks for a look
            assert time.monotonic() < deadline, "the project is not looked up"
            self.up()
            time.sleep(0.05)
        while True:
            catch_up(self.store, self.world)
            if self.world.project and self.world.commit == self.code.commit:
                return
            refused = self.world.rejected
            if refused is not None and refused.commit == self.code.commit:
                raise Unsound(f"the project was rejected: {refused.error}")
            if time.monotonic() > deadline:
                raise Unsound(f"{self.code.commit} does not come into force, but {self.world.commit}: {refused}")
            self.up()
            time.sleep(0.05)

    def check(self, *, whole: bool) -> None:
        """Come to rest and compare with a full build. `whole`: nothing may be pending, nothing may have failed."""
        self.tell_late()
        if whole:
            if self.subject.mend():
                self.save("everything is mended")
            self.rest()
            self.job()
        planned = self._released()
        relations = self.dbt.parse(self.folder / "scratch" / "project", self.subject.files(), self._scratch_env())
        self._same_project()
        if renewed := self._unlike(planned, whole):
            self._renew(renewed, relations)
            planned = self._released()
            self.subject.renewed(renewed)
        self._compare(planned, relations, whole)

    def _unlike(self, planned: Plan, whole: bool) -> set[str]:
        """What is to be built anew before it is compared; where not all is, only what is whole itself."""
        nodes = {node for node in self.subject.unlike() if node in planned.decisions}
        return {node for node in nodes if whole or planned.decisions[node].action is Action.reuse}

    def _renew(self, nodes: set[str], relations: dict[str, Relation]) -> None:
        """By a full refresh, or by dropping them."""
        if self.rng.random() < 0.5:
            self.job(forced=True, select=tuple(sorted(nodes)), full_refresh=True)
            return
        for node in sorted(nodes & relations.keys()):  # the others have become ephemeral
            self.drop(relations[node])

    def _released(self) -> Plan:
        """Rest, and load what a quorum waits for, until none does."""
        for _ in range(6):
            planned, graph = self.rest(), self.project.graph
            waiting = {
                up
                for d in planned.decisions.values()
                if d.reason is Reason.waiting_for_upstreams
                for up in d.waiting_for
            }
            if not waiting:
                return planned
            ids = {source.id for source in graph.sources.values() if _feeds(graph, source.id, waiting)}
            self.process.put_ahead(DAY)  # no window is open any more: what is due for the load is due at once
            for source in sorted(ids):
                self.land(graph.sources[source].name, rng=Random(self.loads))
        return self.rest()

    def _same_project(self) -> None:
        """What is in force is the project of the folder, read by a dbt of its own."""
        from sao_events.dbt import DbtSettings, read_manifest, read_project

        folder = self.folder / "scratch" / "project"
        settings = DbtSettings(folder, folder, env=self._scratch_env())
        found = read_project(
            read_manifest(folder / "target" / "manifest.json"),
            vars=settings.given_vars(),
            env=settings.environment(),
            target=settings.given_target(),
            default=self.config.settings.default_config,
            root=folder,
        )
        named = () if self.database.adapter == "duckdb" else ("relation", "refs")  # parts that name the database
        here, there = (
            {key: _plain(node, named) for key, node in it.graph.nodes.items()} for it in (self.project, found)
        )
        tests, other = ({key: _bare(test) for key, test in it.graph.tests.items()} for it in (self.project, found))
        if here != there or tests != other:
            differing = [name for name in here.keys() | there.keys() if here.get(name) != there.get(name)]
            raise Unsound(f"the project in force is not the one of the folder: {differing}")

    def _scratch_env(self) -> dict[str, str]:
        return self.database.scratch_env(self.folder / "scratch")

    def _compare(self, planned: Plan, relations: dict[str, Relation], whole: bool) -> None:
        graph, decisions = self.project.graph, planned.decisions
        pending = {name for name, decision in decisions.items() if decision.action is not Action.reuse}
        pending |= graph.descendants(pending)
        if whole and pending:
            raise Unsound(f"at rest, and mended, but pending: {self._pending(pending, decisions)}")
        kept = [(it.schema, it.name) for it in relations.values() if it.kept]
        scratch = self.database.scratch(self.folder / "scratch", kept)
        try:
            folder = self.folder / "scratch" / "project"
            ok = self.dbt.build(folder, scratch)
            assert ok or not whole, f"the full build fails:\n{said(folder)}"
            wrong = dict[str, str]()
            for node, relation in relations.items():
                if node not in pending:
                    here, there = (db.table(relation.schema, relation.name) for db in (self.database, scratch))
                    self.counts.compared += 1
                    if here != there:
                        wrong[node] = here.difference(there)
        finally:
            scratch.remove()
        if wrong:
            first = "\n".join(f"  {node}: {difference}" for node, difference in wrong.items())
            raise Unsound(f"{len(wrong)} relations are not what a full build holds:\n{first}\n{self._why(wrong)}")

    def audit(self) -> None:
        """What the log and dbt's own logs must say at the end."""
        log = self.store.read(0, 1_000_000)
        once_by_log(log)
        self.counts.equal = sum(r.event.same_content for r in log if isinstance(r.event, e.NodeBuilt))
        self.counts.builds = once_by_dbt(self.folder / "state" / "runs", self.began)
        if isinstance(self.database, PostgresDatabase):
            assert once_by_server(self.database.server.log, self.database.name) >= self.counts.builds
        known = {(r.event.source, r.event.load_id) for r in log if isinstance(r.event, e.DataLanded)}
        lost = [
            given for given in self.acknowledged if (f"source.{self.subject.name}.{given[0]}", given[1]) not in known
        ]
        assert not lost, f"acknowledged but not in the log: {lost}"

    def close(self) -> None:
        """End the service and let go of the log."""
        self.process.close()
        self.store.close()

    # Words for what went wrong

    def _state(self, planned: Plan | None) -> str:
        open_ = f"runs {sorted(self.world.runs)}, jobs {sorted(self.world.jobs)}"
        return f"{open_}, planned {planned.nodes if planned else '?'}, tests {planned.tests if planned else '?'}"

    def _pending(self, pending: set[str], decisions: dict[str, Decision]) -> str:
        told = [f"{name}: {decisions[name]}" for name in sorted(pending) if decisions[name].action is not Action.reuse]
        return "\n".join(told)

    def _why(self, nodes: dict[str, str]) -> str:
        from sao_events import report

        settings, now = self.config.settings, self.process.now()
        view = report.View("oracle", self.project, self.world, settings, now)
        told = (json.dumps(report.why(view, self.store.find, node), indent=1, default=str) for node in list(nodes)[:2])
        return "\n".join(told)


def _plain(node: Node, without: Collection[str]) -> Node:
    """The node before its identity was looked up, with its parents in an order that does not depend on which of dbt's
    parsers has read it, as one of the warehouse and not of its copy. Some parts of its inputs are left out.
    """
    reads = tuple(sorted(node.reads))
    relation = node.relation and node.relation.replace(f'{SCRATCH}"."', '"."', 1)
    parts = {name: part for name, part in node.parts.items() if name not in without}
    bare = replace(node, reads=reads, relation=relation, parts=parts, compiled=None, again=None, doubt="")
    return replace(bare, own=Identity(""), reading=Reading())


def _bare(test: Test) -> Test:
    """The test before its identity was looked up."""
    return replace(test, own="", compiled=None)


def _feeds(graph: Graph, source: str, names: set[str]) -> bool:
    """Whether data of the source reaches one of `names`."""
    above = graph.ancestors(name for name in names if name in graph.nodes)
    return source in names or any(source in graph.nodes[name].reads for name in above)

"""The loop: fold the log, decide, plan, hand runs to the builder, record what comes of them, and sleep until
something is due.

Level-triggered: whatever happened, the next pass sees the whole record. No timer is stored; when to look again
follows from the state. One engine runs on a log at a time. The simulator runs this same code under a virtual clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sao_events.core import checks
from sao_events.core import events as e
from sao_events.core.cutoff import hashing
from sao_events.core.decision import Decision, Reason
from sao_events.core.events import Event, Observed, Recorded
from sao_events.core.evolve import evolve
from sao_events.core.look import Look
from sao_events.core.nodes import Test
from sao_events.core.plan import attempt, observe, opened, plan
from sao_events.core.policy import Settings
from sao_events.core.project import Project, project_from_bytes
from sao_events.core.records import replace
from sao_events.core.standing import Standing
from sao_events.core.state import Job, World
from sao_events.engine.proving import Proving
from sao_events.engine.turns import ActiveRun, Flight, as_it_stands, left_undone, next_turn, not_run, refused_by
from sao_events.ports import Builder, Clock, Draft, NodeBegan, NodeEnded, Piece, PieceEnded, Report, Store, TestEnded

ASKS = (e.ProjectLoaded, e.DataLanded, e.RelationDropped, e.StateCleared)
ERROR_HOLD, ERROR_HOLD_MOST = 5.0, 300.0


class Engine:
    """Drives one environment. `step` does everything that is due and says when something will be; it never sleeps
    itself.
    """

    def __init__(
        self,
        store: Store,
        builder: Builder,
        clock: Clock,
        settings: Settings,
        *,
        world: World | None = None,
        read_project: Callable[[bytes], Project] = project_from_bytes,
    ) -> None:
        self.store, self.builder, self.clock, self.settings = store, builder, clock, settings
        self.world = world or World()
        self.project: Project | None = None
        self._project: str | None = None
        self.proving: Proving | None = None
        self.runs: dict[str, ActiveRun] = {}
        self.standing = Standing()
        self.decisions: Mapping[str, Decision] = {}
        self.errors = 0
        self.error: str | None = None
        self.hold = 0.0
        self.on_event: Callable[[Recorded], None] = lambda recorded: None
        self.looked: Callable[[str], bool] = lambda job: True  # whether the warehouse was looked at for a job
        self._read_project = read_project
        self._asks: list[float] = []
        self._wake: float | None = None
        self._refresh = self._reported = False
        self._started = False
        self._catch_up()
        self._started = True
        self._append(e.EngineStarted())

    def step(self) -> float | None:
        """Do all that is due now. Returns the next instant at which something will be due by itself, or None."""
        while self.take_reports() | self._catch_up() | self._advance() | self._start_job() | self._start_run():
            pass
        now = self.clock.now()
        return min((at for at in (*self._asks, self._wake, self.hold) if at is not None and at > now), default=None)

    def take_reports(self) -> bool:
        """Record what the builder has to say. Returns whether there was anything."""
        reports = self.builder.reports()
        for report in reports:
            self._take(report)
        self._reported |= bool(reports) and any(not run.stopped for run in self.runs.values())
        return bool(reports)

    @property
    def busy(self) -> bool:
        """Whether any run is under way."""
        return bool(self.runs)

    def cancel(self, run: str) -> None:
        """Stop a run: what has not begun is left, what is being built is stopped and counts as no attempt."""
        if run in self.runs:
            self.runs[run].stop("interrupted")
            self.builder.cancel(run)

    # The log

    def _append(self, *events: Event) -> None:
        self.store.append([Draft(event, self.clock.now()) for event in events])
        self._catch_up()

    def _catch_up(self) -> bool:
        seen = False
        while recorded := self.store.read(self.world.seq):
            for item in recorded:
                evolve(self.world, item)
                self._noted(item)
            seen = True
        return seen

    def _noted(self, recorded: Recorded) -> None:
        event = recorded.event
        if not self._started:
            return
        self.on_event(recorded)
        if isinstance(event, e.EngineStarted):
            self._asks = [] if self.world.project is None else [recorded.at]
        elif isinstance(event, ASKS):
            self._asks.append(recorded.at + self.settings.settle)
        if self.world.project not in (None, self._project):
            self.project = self._read_project(self.store.get_project(str(self.world.project)))
            self._project = self.world.project
            self.proving = Proving(self.project.graph, self.world, self._text)

    def _text(self, digest: str) -> str | None:
        return self.store.get_texts([digest]).get(digest)

    # Runs

    def _free(self, now: float) -> bool:
        free = self._buildable() and now >= self.hold and len(self.runs) < self.settings.max_concurrent_runs
        return free and ((job := self._next_job()) is None or self.looked(job.id))

    def _buildable(self) -> bool:
        return self.world.project is not None and self.builder.ready(self.world.project)

    def _next_job(self) -> Job | None:
        taken = {run.job.id for run in self.runs.values() if run.job}
        return next((job for job in self.world.jobs.values() if job.id not in taken), None)

    def _start_job(self) -> bool:
        now, job = self.clock.now(), self._next_job()
        if job is None or self.project is None or not self._free(now):
            return False
        decided = plan(self.project.graph, self.world, self.settings, now, job=job)
        self._start(decided.nodes, decided.tests, decided.decisions, job)
        return True

    def _start_run(self) -> bool:
        now = self.clock.now()
        asked = any(at <= now for at in self._asks) or (self._wake is not None and self._wake <= now)
        # What arrived for a node during its build need not wait for the rest of the run, unless something settles.
        asked |= self._reported and not self._asks
        if self.settings.trigger != "continuous":
            self._asks.clear()
            return False
        if not (asked or self._refresh) or self.project is None or not self._free(now):
            return False
        graph = self.project.graph
        claimed = {name for run in self.runs.values() for name in (*run.unfinished(), *run.untested(graph))}
        decided = self.standing.plan(graph, self.world, self.settings, now, claimed)
        self.decisions = decided.decisions
        self._asks, self._wake, self._refresh = [at for at in self._asks if at > now], self.standing.turns, False
        self._reported = False
        asked = asked or opened(graph, self.world, self.settings, now, decided.nodes)
        if not asked or not (decided.nodes or decided.tests):
            return False
        self._start(decided.nodes, decided.tests, decided.decisions, None)
        return True

    def _start(
        self, nodes: tuple[str, ...], tests: tuple[str, ...], decisions: dict[str, Decision], job: Job | None
    ) -> None:
        seq = self.world.seq
        run = f"r{seq + 1}"
        reasons = {name: decisions[name].reason.value for name in nodes}
        active = self.runs[run] = ActiveRun(run, job, set(nodes), set(tests))
        self._append(e.RunStarted(run, reasons, tests, job.id if job else None, f"job {job.name}" if job else "event"))
        if nodes or tests:
            self._give_turns(active, decisions if self.world.seq == seq + 1 else None)

    def _advance(self) -> bool:
        moved = False
        for run in list(self.runs.values()):
            if run.ended:
                self._finish(run, *(run.stopped or ("failed" if run.failed else "success", None)))
                moved = True
            elif (run.nodes or run.tests) and self._buildable():
                moved |= self._give_turns(run)
        return moved

    def _give_turns(self, run: ActiveRun, planned: Mapping[str, Decision] | None = None) -> bool:
        assert self.project is not None
        run.job = self._job(run)
        others = [other for other in self.runs.values() if other is not run]
        turn = next_turn(
            run,
            self.project.graph,
            self.world,
            self.settings,
            self.clock.now(),
            others=others,
            gated=self.builder.gated,
            hashed=lambda name: self._hashing(name) is not None,
            planned=planned,
        )
        run.nodes -= turn.dropped
        run.tests -= turn.dropped_tests
        for nodes, tests in turn.pieces:
            run.nodes.difference_update(nodes)
            run.tests.difference_update(tests)
            self._hand_over(run, nodes, tests, turn.decisions)
        return bool(turn.pieces or turn.dropped or turn.dropped_tests)

    def _hand_over(
        self, run: ActiveRun, nodes: tuple[str, ...], tests: tuple[str, ...], decisions: dict[str, Decision]
    ) -> None:
        assert self.project is not None
        assert self.world.project is not None
        assert self.proving is not None
        tests, proven, hoped = self.proving.split(run, self.settings, nodes, tests)
        for test in proven:
            self._prove(run, test, self.proving)
        if not (nodes or tests):
            return
        run.pieces += 1
        refresh = run.job is not None and run.job.full_refresh
        hashes = {name: limit for name in nodes if (limit := self._hashing(name)) is not None}
        piece = Piece(f"{run.id}.{run.pieces}", run.id, nodes, tests, self.world.project, refresh, hashes)
        beside = frozenset().union(*(other.building() for other in self.runs.values())) if hashes else frozenset()
        graph = self.project.graph
        outside = graph.looked_at(nodes).union(*(graph.tested[test] for test in (*tests, *hoped)))
        stands = as_it_stands(graph, self.world, outside.difference(nodes))
        reasons = {name: decisions[name] for name in nodes}
        run.flights[piece.id] = Flight(piece, graph, *stands, reasons, set(nodes), set(tests), set(hoped), beside)
        self.builder.start(piece, self.project)

    def _hashing(self, name: str) -> float | None:
        """The seconds within which the builder is to hash a node's content; None where it is not to."""
        assert self.project is not None
        graph = self.project.graph
        limit = hashing(graph, self.world, name)
        return limit if limit is not None and self.builder.hashes(graph.adapter) else None

    def _prove(self, run: ActiveRun, test: str, proving: Proving | None) -> None:
        """Record a test as proven; where it is not, it has its turn as any other."""
        finished = proving.finished(run, test) if proving is not None else None
        if finished is not None:
            self._append(finished)
        elif not run.stopped:
            run.unproven.add(test)
            run.tests.add(test)

    def _finish(self, run: ActiveRun, status: str, message: str | None) -> None:
        del self.runs[run.id]
        self._append(e.RunFinished(run.id, status, message))
        if run.job and status != "error":
            self._append(e.JobFinished(run.job.id, status, self._reused_tests(run.job), message))
        if status == "error":
            self._hold_on(message)
        else:
            self.errors, self.error = 0, None
        now = self.clock.now()
        if status != "interrupted" and not any(at > now for at in self._asks):
            self._asks.append(now)
        self._refresh = True

    def _hold_on(self, message: str | None) -> None:
        """dbt itself failed: nothing is lost, everything is decided again, after a pause that doubles."""
        self.errors, self.error = self.errors + 1, message
        self.hold = self.clock.now() + min(ERROR_HOLD * 2 ** (self.errors - 1), ERROR_HOLD_MOST)

    def _reused_tests(self, job: Job) -> tuple[str, ...]:
        if self.project is None:
            return ()
        graph, job = self.project.graph, self.world.jobs.get(job.id, job)
        chosen = (test for test in graph.tests.values() if any(map(job.selects, test.reads)))
        return tuple(t.id for t in chosen if t.id not in job.tested and checks.stands(graph, self.world, t))

    # Reports of the builder

    def _take(self, report: Report) -> None:
        run = self.runs.get(report.piece.rpartition(".")[0])
        flight = run.flights.get(report.piece) if run else None
        if run is None or flight is None:
            return
        if isinstance(report, NodeBegan):
            self._began(run, flight, report.node)
        elif isinstance(report, NodeEnded):
            self._node_ended(run, flight, report)
        elif isinstance(report, TestEnded):
            self._test_ended(run, flight, report)
        else:
            self._piece_ended(run, flight, report)

    def _look(self, flight: Flight, run: ActiveRun) -> Look:
        return Look(flight.graph, self.world, self.settings, self.clock.now(), self._job(run))

    def _job(self, run: ActiveRun) -> Job | None:
        """The job of a run, with what it has built and tested by now."""
        return self.world.jobs.get(run.job.id, run.job) if run.job else None

    def _began(self, run: ActiveRun, flight: Flight, node: str, begins: bool = True) -> None:
        if node not in flight.open_nodes:
            return
        look = self._look(flight, run)
        seen = self._observed(look, flight, node)
        reason: Reason = flight.decisions[node].reason
        begun = attempt(look, node, run.id, reason, run.job.due if run.job else look.now, seen)
        self._append(
            e.BuildStarted(
                run.id,
                node,
                begun.reason,
                begun.clock,
                seen,
                begun.code,
                begun.retries,
                begun.advances,
                flight.drops(look, node) if begins else (),
                look.graph.nodes[node].relation if begins else None,
                look.graph.nodes[node].kind,
            )
        )

    def _observed(self, look: Look, flight: Flight, node: str) -> Observed:
        """What the build sees: everything outside its piece as it stood when the piece was handed over."""
        seen = observe(look, node)
        versions = {name: flight.versions.get(name, version) for name, version in seen.versions.items()}
        codes = {name: flight.codes.get(name, code) for name, code in seen.codes.items()}
        return replace(seen, versions=versions, codes=codes)

    def _node_ended(self, run: ActiveRun, flight: Flight, report: NodeEnded) -> None:
        if report.node not in flight.open_nodes:
            return
        running = self.world.node(report.node).running
        if report.status in ("success", "error") and (running is None or running.run != run.id):
            self._began(run, flight, report.node)
        if report.status == "skipped":
            return  # looked at when the piece has ended: whether there was a reason
        flight.open_nodes.discard(report.node)
        words = report.words or report.status
        if report.status == "success":
            run.built.add(report.node)
            self._append(*flight.built(run.id, report, self._look(flight, run)))
            proving = self.proving if self.proving and self.proving.graph is flight.graph else None
            for test in self.proving.due(run, flight) if self.proving else ():
                self._prove(run, test, proving)
        elif report.status == "error":
            run.failed = True
            flight.failed.add(report.node)
            self._append(e.NodeFailed(run.id, report.node, report.message, report.seconds, words))
        elif running is not None and running.run == run.id:
            self._append(e.BuildInterrupted(run.id, report.node))

    def _test_ended(self, run: ActiveRun, flight: Flight, report: TestEnded) -> None:
        test = flight.graph.tests.get(report.test)
        if test is None or report.status in ("skipped", "interrupted"):
            return
        flight.open_tests.discard(report.test)
        if report.status in checks.FAILED:
            run.failed = True
            flight.failed.add(test.id)
        self._append(flight.tested(run, self.world, test, report))

    def _piece_ended(self, run: ActiveRun, flight: Flight, report: PieceEnded) -> None:
        for name in sorted(flight.open_nodes):
            running = self.world.node(name).running
            if running is not None and running.run == run.id:
                self._append(e.BuildInterrupted(run.id, name))
            elif report.status == "done" and (test := refused_by(flight, name)):
                self._refused(run, flight, name, test)
        del run.flights[report.piece]
        if report.status != "done":
            run.stop(report.status, report.message)
            return
        look = self._look(flight, run)
        again, unexplained = left_undone(flight, look)
        if unexplained:
            run.stop("error", f"dbt ended without building {', '.join(unexplained)}")
        elif unexplained := not_run(run, flight, look):
            run.stop("error", f"dbt ended without running {', '.join(unexplained)}")
        else:  # decided again: what must be built from what failed is blocked, what only lies below it is not
            run.nodes |= again
            run.tests |= {test for test in flight.open_tests if not again.isdisjoint(flight.graph.tested.get(test, ()))}

    def _refused(self, run: ActiveRun, flight: Flight, node: str, test: Test) -> None:
        """The attempt to build a node failed at its unit test: dbt has not begun it, nothing was replaced."""
        self._began(run, flight, node, begins=False)
        flight.open_nodes.discard(node)
        flight.failed.add(node)
        definition, message = checks.definition(flight.graph, test), f"its unit test {test.name} failed"
        self._append(e.NodeFailed(run.id, node, message, test=test.id, definition=definition))

"""The fold of the log: one recorded event changes one state of the environment into the next.

Folding a prefix of the log and going on later equals never having stopped. No graph is needed: what a rule compares
is in the events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sao_events.core import events as e
from sao_events.core import written
from sao_events.core.events import Event, Recorded
from sao_events.core.lineage import Code, digest
from sao_events.core.records import replace
from sao_events.core.state import (
    Attempt,
    Baseline,
    Failure,
    Hashed,
    Head,
    Held,
    Job,
    Landed,
    NodeState,
    Probed,
    Run,
    SourceState,
    TestState,
    World,
)

INCOMPLETE = 1000  # loads of one name that are waited for at once
NOT_YET = "\x00"  # in no load id


def evolve(world: World, recorded: Recorded) -> World:
    """Apply one recorded event to `world`, in place, and return it. Total: an event about something unknown changes
    nothing.
    """
    apply = _APPLY.get(type(recorded.event))
    if apply is not None:
        apply(world, recorded, recorded.event)
    world.seq, world.at = recorded.seq, recorded.at
    return world


def _engine_started(world: World, recorded: Recorded, event: Event) -> None:
    for run in world.runs.values():
        for name in run.nodes:
            _lost(world, run.id, name)
    world.runs.clear()
    written.cleaning_lost(world)


def _head_seen(world: World, recorded: Recorded, event: e.HeadSeen) -> None:
    before = world.head or Head()
    if event.commit is None:
        world.head = replace(before, error=event.error, failed=before.failed or recorded.at)
    elif event.commit == before.commit:
        world.head = Head(before.commit, before.seen)
    else:
        world.head = Head(event.commit, recorded.at)


def _project_loaded(world: World, recorded: Recorded, event: e.ProjectLoaded) -> None:
    world.project, world.commit, world.rejected = event.project, event.commit, None
    world.loaded = recorded.at
    written.relations_left(world, recorded, event)
    for name in event.entered:
        known = world.source(name)
        if known.sent or name not in world.probes:  # a look tells by what it found at the last one
            world.sources[name] = replace(known, version=known.version + 1)


def _project_rejected(world: World, recorded: Recorded, event: e.ProjectRejected) -> None:
    world.rejected = event


def _data_landed(world: World, recorded: Recorded, event: e.DataLanded) -> None:
    loaded_at = recorded.at if event.loaded_at is None else event.loaded_at
    landed = Landed(recorded.seq, loaded_at, event.load_id, event.rows, event.partial, event.counts)
    load = event.load if event.together and event.load_id is not None else None
    ends = event.load_id not in world.loads.get(event.source, ()) and _ends(world.source(event.source), landed)
    if event.partial and (load is not None or not event.counts):
        _hold(world, event.source, Held("partial", landed))
    elif load is not None and event.load_id is not None:
        if _is_first(world, event):
            _gather(world, event, load, event.load_id, landed)
    elif not event.counts and not ends:
        _hold(world, event.source, Held("empty", landed))
    elif _is_first(world, event) or ends:
        _count(world, event.source, landed, ends)
    if event.scope not in ("probe", "node") and not world.source(event.source).sent:
        world.sources[event.source] = replace(world.source(event.source), sent=True)


def _source_probed(world: World, recorded: Recorded, event: e.SourceProbed) -> None:
    world.probes[event.source] = Probed(event.by, recorded.at, event.value, event.loaded_at, event.error)


def _is_first(world: World, event: e.DataLanded) -> bool:
    """Whether the load is told of for the first time. What is said of a part of it, or of no rows, is not yet it."""
    if event.load_id is None:
        return True
    loads = world.loads.setdefault(event.source, set())
    told = event.load_id + ("" if event.counts and not event.partial else NOT_YET)
    first = told not in loads
    loads.add(told)
    return first


def _ends(known: SourceState, landed: Landed) -> bool:
    """Whether it is the end of the load that broke off last: what it wrote since is new, whatever its time or rows."""
    same = landed.load_id == known.load_id
    if landed.load_id is None or known.load_id is None:
        same = landed.loaded_at == known.newest
    return known.partial and not landed.partial and same


def _gather(world: World, event: e.DataLanded, load: str, load_id: str, landed: Landed) -> None:
    """A landing that is new only together with others: count them all once the last of them is there."""
    loads = world.incomplete.setdefault(load, {})
    arrived = loads.setdefault(load_id, {})
    arrived[event.source] = landed
    _hold(world, event.source, Held("incomplete", landed, load, event.together))
    told = {load_id, load_id + NOT_YET}
    if not any(told.isdisjoint(world.loads.get(source, ())) for source in event.together):
        _complete(world, loads.pop(load_id))
    elif len(loads) > INCOMPLETE:
        _complete(world, loads.pop(next(iter(loads))))  # nobody waits for it any more; in doubt, it is new
    if not loads:
        del world.incomplete[load]


def _complete(world: World, arrived: Mapping[str, Landed]) -> None:
    for source, landed in arrived.items():
        if landed.counts:
            _count(world, source, landed, _ends(world.source(source), landed))
        else:
            _hold(world, source, Held("empty", landed))


def _hold(world: World, source: str, held: Held) -> None:
    known = world.source(source)
    if known.newest is None or held.landed.loaded_at > known.newest:
        world.sources[source] = replace(known, held=held)


def _count(world: World, source: str, landed: Landed, ends: bool) -> None:
    known = world.source(source)
    newest = landed.loaded_at if known.newest is None else max(landed.loaded_at, known.newest)
    if newest == known.newest and not ends:
        return
    held = known.held if known.held and known.held.landed.loaded_at > landed.loaded_at else None
    world.sources[source] = SourceState(
        version=known.version + 1,
        newest=newest,
        rows=landed.rows,
        event=landed.event,
        load_id=landed.load_id,
        partial=landed.partial,
        held=held,
        sent=known.sent,
    )


def _state_cleared(world: World, recorded: Recorded, event: e.StateCleared) -> None:
    if event.nodes is None:
        world.clears_of_all += 1
    for name in tuple(world.nodes) if event.nodes is None else event.nodes:
        state = world.node(name) if event.nodes is not None else world.nodes[name]
        world.nodes[name] = replace(state, clears=state.clears + 1, failure=None, hashed=written.unknown(state.hashed))


def _job_requested(world: World, recorded: Recorded, event: e.JobRequested) -> None:
    select = None if event.select is None else frozenset(event.select)
    aware = event.state_aware and not event.full_refresh
    world.jobs[event.job] = Job(event.job, event.name, event.due, select, aware, full_refresh=event.full_refresh)


def _job_finished(world: World, recorded: Recorded, event: e.JobFinished) -> None:
    world.jobs.pop(event.job, None)


def _run_started(world: World, recorded: Recorded, event: e.RunStarted) -> None:
    world.runs[event.run] = Run(event.run, recorded.at, event.nodes, event.tests, event.job)


def _run_finished(world: World, recorded: Recorded, event: e.RunFinished) -> None:
    run = world.runs.pop(event.run, None)
    for name in run.nodes if run else ():
        _lost(world, event.run, name)


def _build_started(world: World, recorded: Recorded, event: e.BuildStarted) -> None:
    if event.run not in world.runs:
        return
    attempt = Attempt(
        event.run,
        event.reason,
        recorded.at,
        event.clock,
        event.observed,
        event.code,
        event.retries,
        event.advances,
        event.relation,
        event.kind,
    )
    world.nodes[event.node] = replace(world.node(event.node), running=attempt, last=attempt)
    for name in event.drops:
        written.drop(world, name)


def _holder(world: World, run: str, node: str) -> Attempt | None:
    """The attempt that `run` has under way on `node`: only the run that holds a node may record its result."""
    running = world.node(node).running
    return running if running is not None and running.run == run else None


def _node_built(world: World, recorded: Recorded, event: e.NodeBuilt) -> None:
    attempt = _holder(world, event.run, event.node)
    if attempt is None:
        return
    state = world.nodes[event.node]
    hashed = _hashed(state.hashed, recorded.at, event)
    world.nodes[event.node] = succeeded(
        state, attempt, recorded.at, event.seconds, event.same_content, event.columns, hashed
    )
    for name in event.spared:
        world.nodes[name] = replace(world.node(name), spared=recorded.at)
    written.wrote(world, event.node, attempt, recorded.at)
    _answered(world, event.run, event.node)


def _hashed(known: Hashed, at: float, event: e.NodeBuilt) -> Hashed:
    if event.content is None and event.unhashed is None:
        return written.unknown(known)
    return Hashed(
        content=event.content,
        since=known.since if event.content == known.content else at,
        builds=known.builds + (event.content is not None),
        equal=known.equal + event.same_content,
        seconds=event.hashing,
        spent=known.spent + event.hashing,
        unhashed=event.unhashed,
        spared=known.spared + len(event.spared),
        saved=known.saved + sum(event.spared.values()),
    )


def _answered(world: World, run: str, node: str) -> None:
    job = _job_of(world, run)
    if job is not None:
        world.jobs[job.id] = replace(job, done=job.done | {node})


def _job_of(world: World, run: str) -> Job | None:
    return world.jobs.get(world.runs[run].job or "") if run in world.runs else None


def succeeded(
    state: NodeState,
    attempt: Attempt,
    ended: float,
    seconds: float,
    same_content: bool = False,
    columns: Mapping[str, str] | None = None,
    hashed: Hashed | None = None,
) -> NodeState:
    """The state after `attempt` succeeded at the instant `ended`, having taken `seconds` in dbt. `columns` and what is
    known of the content (`hashed`) stay as they were where they are not given.
    """
    first = state.built_code is None
    same_content = same_content and state.certain
    code = state.code if same_content or attempt.code == state.built_code else _anew(state, attempt.code)
    return NodeState(  # each field by name: of what is done for every planned build, `replace` took the most time
        version=state.version + (attempt.advances and (first or not same_content)),
        builds=state.builds + 1,
        clears=state.clears,
        drops=state.drops,
        seen=state.seen,
        code=attempt.code if first else code,
        built_code=attempt.code,
        baseline=Baseline(
            attempt.observed, attempt.clock, attempt.started, ended, attempt.reason, attempt.run, seconds
        ),
        previous=state.baseline,
        failure=None,
        running=None,
        last=state.last,
        interrupted=False,
        doubtful=False,
        columns=state.columns if columns is None else columns,
        hashed=state.hashed if hashed is None else hashed,
        spared=state.spared,
    )


def _anew(state: NodeState, code: Code) -> Code:
    """What readers see of `code`. Where they took the content of one code for that of another, since it was equal then,
    and what was stored after that is another, neither says what they have read: then it is like no code before.
    """
    if state.code is None or state.code == state.built_code:
        return code
    return Code(digest(state.code.base, code.base), code.columns)


def _node_failed(world: World, recorded: Recorded, event: e.NodeFailed) -> None:
    attempt = _holder(world, event.run, event.node)
    if attempt is not None:
        state = world.nodes[event.node]
        built = state.failure.built if state.failure is not None else None
        test = event.test, event.definition
        failure = Failure(
            attempt.observed, recorded.at, attempt.retries, state.drops, event.message, event.run, *test, built
        )
        world.nodes[event.node] = replace(state, failure=failure, running=None, hashed=written.unknown(state.hashed))
        written.may_have_written(world, event.node, attempt)
        _answered(world, event.run, event.node)


def _build_interrupted(world: World, recorded: Recorded, event: e.BuildInterrupted) -> None:
    _lost(world, event.run, event.node)


def _lost(world: World, run: str, node: str) -> None:
    """The attempt of `run` on `node`, where one is under way, ended without a result."""
    attempt = _holder(world, run, node)
    if attempt is not None:
        state = world.nodes[node]
        interrupted = state.interrupted or attempt.advances
        doubtful = state.doubtful or (state.built_code is not None and attempt.code != state.built_code)
        hashed = written.unknown(state.hashed)
        world.nodes[node] = replace(state, running=None, interrupted=interrupted, doubtful=doubtful, hashed=hashed)
        written.may_have_written(world, node, attempt)


def _test_finished(world: World, recorded: Recorded, event: e.TestFinished) -> None:
    world.tests[event.test] = TestState(
        event.status, event.definition, event.seen, recorded.at, event.message, event.proven
    )
    job = _job_of(world, event.run)
    if job is not None:
        world.jobs[job.id] = replace(job, tested=job.tested | {event.test})
    for name in event.fails:
        state = world.node(name)
        if state.failure is None and state.baseline is not None:
            world.nodes[name] = _failed_by_test(state, recorded, event)


def _failed_by_test(state: NodeState, recorded: Recorded, event: e.TestFinished) -> NodeState:
    """A build whose test failed is recorded, the node counts as failed, and the baseline before it stands again."""
    assert state.baseline is not None
    mine = state.baseline.run == event.run
    observed = state.baseline.observed
    if not mine:
        versions = {name: event.versions.get(name, version) for name, version in observed.versions.items()}
        observed = replace(observed, versions=versions, clears=state.clears, drops=state.drops)
    retries = state.last.retries if mine and state.last is not None else 0
    message = f"test {event.test} failed" + (f": {event.message}" if event.message else "")
    test, built = (event.test, event.definition), state.baseline if mine else None
    failure = Failure(observed, recorded.at, retries, state.drops, message, event.run, *test, built)
    return replace(state, failure=failure, baseline=state.previous if mine else state.baseline)


_APPLY: dict[type[Event], Callable[[World, Recorded, Any], None]] = {
    e.RelationsSeen: written.relations_seen,
    e.EngineStarted: _engine_started,
    e.HeadSeen: _head_seen,
    e.ProjectLoaded: _project_loaded,
    e.ProjectRejected: _project_rejected,
    e.DataLanded: _data_landed,
    e.SourceProbed: _source_probed,
    e.RelationDropped: written.relation_dropped,
    e.RelationsKnown: written.relations_known,
    e.RelationsCleaned: written.relations_cleaned,
    e.CleanAsked: written.clean_asked,
    e.CleanAnswered: written.clean_answered,
    e.StateCleared: _state_cleared,
    e.JobRequested: _job_requested,
    e.JobFinished: _job_finished,
    e.RunStarted: _run_started,
    e.RunFinished: _run_finished,
    e.BuildStarted: _build_started,
    e.NodeBuilt: _node_built,
    e.NodeFailed: _node_failed,
    e.BuildInterrupted: _build_interrupted,
    e.TestFinished: _test_finished,
}

"""The laws of the fold: a prefix and the rest, redelivery, checkpoints; and what single events do to a state."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from operator import add
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sao_events.core import events as e
from sao_events.core import records
from sao_events.core.evolve import evolve, succeeded
from sao_events.core.lineage import Code
from sao_events.core.state import Attempt, Baseline, Failure, Hashed, NodeState, World
from sao_events.ports import Draft
from sao_events.store.checkpoint import catch_up, load_world, save_world, world_from_bytes, world_to_bytes
from sao_events.store.memory import MemoryStore
from tests.store_contract import BUILDS, EVENTS

# Half of the events are about builds, and half of the histories start with the runs that these belong to.
RUNNING = [e.RunStarted(run, {f"model.{node}": "new_data" for node in "abc"}) for run in ("run-1", "run-2")]
HISTORIES = st.builds(add, st.sampled_from([[], RUNNING]), st.lists(EVENTS | BUILDS, max_size=30))

OLD, NEW = Code("old", (("id", "1"),)), Code("new", (("id", "1"), ("name", "2")))
SEEN = e.Observed("f1", {"source.x": 1}, {"model.up": OLD})


def log(events: Iterable[e.Event]) -> list[e.Recorded]:
    """The events as they are in a log, one each second."""
    return [e.Recorded(seq, 1000.0 + seq, event) for seq, event in enumerate(events, start=1)]


def fold(recorded: Iterable[e.Recorded], world: World | None = None) -> World:
    """All of `recorded` applied to `world`, or to nothing."""
    world = world or World()
    for item in recorded:
        evolve(world, item)
    return world


def world_of(*events: e.Event) -> World:
    return fold(log(events))


def copy_of(world: World) -> World:
    """`world` through its bytes."""
    copy = world_from_bytes(world_to_bytes(world))
    assert copy is not None
    return copy


OF_X = {"node": "model.x", "kind": "view", "built": 1.0}

# Every kind of event; each field of the state ends with something in it.
FULL = (
    e.EngineStarted(),
    e.PreviewAsked(7, "c9", "gitlab", True),
    e.PreviewMade(7, "c9", "would build 1 of 2 nodes"),
    e.HeadSeen("c1", "refs/heads/main"),
    e.HeadSeen(None, "refs/heads/main", "away"),
    e.ProjectLoaded("d1", "c1", ("a warning",)),
    e.ProjectRejected("does not parse", "c2"),
    e.CodePushed("main", "c2", ("models/a.sql",)),
    e.DataLanded("source.x", "load-1", 500.0, 7),
    e.DataLanded("source.y"),
    e.DataLanded("source.y", "load-2", load="shop", together=("source.x", "source.y")),
    e.JobRequested("job-1", "nightly", 900.0, ("model.a", "model.b"), False),
    e.JobRequested("job-2", "all", 900.0),
    e.JobRequested("job-3", "ends", 900.0),
    e.JobFinished("job-3", "success", ("test.1",), "done"),
    e.StateCleared(("model.b",)),
    e.StateCleared(),
    e.RunStarted("run-1", {"model.a": "first_build", "model.b": "first_build"}, ("test.1",), "job-1", "job"),
    e.BuildStarted("run-1", "model.a", "first_build", 890.0, SEEN, OLD),
    e.NodeBuilt("run-1", "model.a", 1.5),
    e.BuildStarted("run-1", "model.a", "code_changed", 895.0, SEEN, NEW, 2, False),
    e.NodeBuilt("run-1", "model.a", 2.5, True, content="h1", hashing=0.5, spared={"model.b": 1.0}),
    e.BuildStarted("run-1", "model.a", "forced", 896.0, SEEN, NEW, 2, False),
    e.NodeBuilt("run-1", "model.a", 2.5, columns={"id": "INTEGER"}, unhashed="it is no table"),
    e.BuildStarted("run-1", "model.b", "first_build", 890.0, SEEN, OLD),
    e.NodeFailed("run-1", "model.b", "syntax error", 0.5),
    e.TestFinished("run-1", "test.1", "fail", "d", {"model.a": 1}, {"source.x": 1}, ("model.a",), "3 rows", 0.25),
    e.TestFinished("run-1", "test.2", "pass", "d", {"model.a": 1}, proven=("unique(id) of model.a: by its SQL",)),
    e.RunStarted("run-2", {"model.c": "retry"}),
    e.BuildStarted("run-2", "model.c", "retry", 890.0, e.Observed("f1", clears=3, drops=4), Code("plain")),
    e.BuildInterrupted("run-2", "model.c"),
    e.RunFinished("run-2", "interrupted"),
    e.SourceProbed("source.x", "metadata", "token"),
    e.RelationsKnown({"db.s.old": {"node": "model.old", "kind": "view", "built": 1.0}, "db.s.x": {**OF_X}}),
    e.RelationsCleaned(("db.s.old",)),
    e.CleanAsked("clean-1", ("db.s.x",)),
    e.CleanAsked("clean-2"),
    e.CleanAnswered("clean-2", error="away"),
    e.RelationDropped("model.a"),
    e.RelationsSeen(("model.a",)),
    e.RunStarted("run-4", {"model.a": "code_changed"}),
    e.BuildStarted("run-4", "model.a", "code_changed", 890.0, SEEN, Code("other")),
    e.BuildInterrupted("run-4", "model.a"),
    e.RunStarted("run-3", {"model.d": "new_data"}),
    e.BuildStarted("run-3", "model.d", "new_data", 890.0, SEEN, NEW),
)


def test_the_full_history_has_every_event_and_fills_every_field() -> None:
    assert {type(event) for event in FULL} == set(e.EVENTS.values())
    world = world_of(*FULL)
    empty = World()
    assert [f.name for f in fields(World) if getattr(world, f.name) == getattr(empty, f.name)] == []
    for f in fields(world.nodes["model.a"]):
        values = {str(getattr(state, f.name)) for state in world.nodes.values()}
        assert len(values) > 1, f"{f.name} is the same for all nodes"


def records_in(value: object) -> Iterable[Any]:
    """All records in `value`, at any depth."""
    if is_dataclass(value):
        if not isinstance(value, World):
            yield value
        for f in fields(value):
            yield from records_in(getattr(value, f.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from records_in(item)


def test_a_record_with_another_value_keeps_the_rest_and_the_one_before() -> None:
    for known in (*FULL, *records_in(world_of(*FULL))):
        before = deepcopy(known)
        assert records.replace(known) == known
        for f in fields(known):
            after = records.replace(known, **{f.name: "another"})
            assert (type(after), vars_of(after)) == (type(known), {**vars_of(known), f.name: "another"})
        assert known == before
    with pytest.raises((AttributeError, TypeError)):
        records.replace(NodeState(), nothing=1)  # type: ignore[call-arg]


def vars_of(record: Any) -> dict[str, Any]:
    """The fields of a record."""
    return {f.name: getattr(record, f.name) for f in fields(record)}


# The laws


@given(HISTORIES)
@example(list(FULL))
def test_folding_is_total_and_keeps_the_place(events: list[e.Event]) -> None:
    world = World()
    for recorded in log(events):
        assert evolve(world, recorded) is world
        assert (world.seq, world.at) == (recorded.seq, recorded.at)


@given(HISTORIES, st.integers(min_value=0))
@example(list(FULL), 15)
def test_folding_a_prefix_and_going_on_is_folding_at_once(events: list[e.Event], cut: int) -> None:
    recorded = log(events)
    cut %= len(recorded) + 1
    prefix = fold(recorded[:cut])
    assert fold(recorded[cut:], copy_of(prefix)) == fold(recorded)
    assert fold(recorded[cut:], prefix) == fold(recorded)


@given(HISTORIES)
@example(list(FULL))
def test_a_checkpoint_restores_an_equal_state_of_its_own(events: list[e.Event]) -> None:
    world = fold(log(events))
    copy = copy_of(world)
    assert copy == world
    assert world_to_bytes(copy) == world_to_bytes(world)
    before = deepcopy(world)
    fold([e.Recorded(99, 9.0, event) for event in FULL], copy)
    assert world == before


@given(HISTORIES, st.lists(st.integers(min_value=0, max_value=29), max_size=10))
def test_events_delivered_again_change_nothing(events: list[e.Event], again: list[int]) -> None:
    drafts = [Draft(event, 1000.0 + place, f"key-{place}") for place, event in enumerate(events)]
    once, more = MemoryStore(), MemoryStore()
    once.append(drafts)
    for place, draft in enumerate(drafts):
        more.append([draft, *(drafts[earlier] for earlier in again if earlier <= place)])
    more.append(drafts)
    assert catch_up(more, World()) == catch_up(once, World())


@given(HISTORIES, HISTORIES)
def test_a_start_from_a_checkpoint_is_a_start_from_nothing(before: list[e.Event], after: list[e.Event]) -> None:
    store = MemoryStore()
    store.append([Draft(event, 5.0) for event in before])
    save_world(store, catch_up(store, World()))
    store.append([Draft(event, 6.0) for event in after])
    assert load_world(store) == catch_up(store, World())


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_bytes_that_are_no_checkpoint_are_none(data: bytes) -> None:
    assert world_from_bytes(data) is None


@given(st.lists(JSON, min_size=3, max_size=3), HISTORIES)
def test_a_checkpoint_with_something_else_inside_raises_nothing(
    inside: Sequence[object], events: list[e.Event]
) -> None:
    written_as = json.loads(world_to_bytes(World()))[0]
    world = world_from_bytes(json.dumps([written_as, *inside]).encode())
    assert world is None or isinstance(world, World)


def test_a_checkpoint_of_other_rules_is_ignored() -> None:
    body = json.loads(world_to_bytes(world_of(*FULL)))
    assert world_from_bytes(json.dumps(body).encode()) == world_of(*FULL)
    assert world_from_bytes(json.dumps(["other rules", *body[1:]]).encode()) is None


# Single events


def test_data_is_new_when_its_time_advances() -> None:
    loads = [e.DataLanded("source.x", "a", 10.0, 1), e.DataLanded("source.x", "b", 20.0, 2)]
    world = world_of(*loads)
    assert (world.source("source.x").version, world.source("source.x").newest) == (2, 20.0)
    assert (world.source("source.x").rows, world.source("source.x").event) == (2, 2)


@pytest.mark.parametrize(
    "late",
    [
        e.DataLanded("source.x", "a", 30.0),
        e.DataLanded("source.x", "older", 5.0),
        e.DataLanded("source.x", "same time", 10.0),
        e.DataLanded("source.x", None, 10.0),
    ],
)
def test_data_that_is_known_or_older_changes_nothing(late: e.DataLanded) -> None:
    first = e.DataLanded("source.x", "a", 10.0)
    assert world_of(first, late).sources == world_of(first).sources


def test_data_without_a_time_of_its_own_has_that_of_its_event() -> None:
    assert world_of(e.DataLanded("source.x")).source("source.x").newest == 1001.0


def test_the_same_load_id_of_another_source_is_another_load() -> None:
    world = world_of(e.DataLanded("source.x", "a", 10.0), e.DataLanded("source.y", "a", 10.0))
    assert world.source("source.y").version == 1


def build(run: str, node: str, code: Code = OLD, *, same: bool = False, advances: bool = True) -> tuple[e.Event, ...]:
    """A run of one node that succeeds."""
    return (
        e.RunStarted(run, {node: "new_data"}),
        e.BuildStarted(run, node, "new_data", 900.0, SEEN, code, advances=advances),
        e.NodeBuilt(run, node, 2.5, same),
        e.RunFinished(run, "success"),
    )


def test_a_build_records_what_was_observed_before_it() -> None:
    world = world_of(*build("run-1", "model.a"))
    state = world.node("model.a")
    assert state.baseline is not None
    assert state.baseline.observed == SEEN
    assert (state.baseline.clock, state.baseline.started, state.baseline.ended) == (900.0, 1002.0, 1003.0)
    assert (state.version, state.builds, state.code, state.running) == (1, 1, OLD, None)
    assert world.runs == {}


def test_a_success_sets_what_it_is_about_and_keeps_every_other_field() -> None:
    failure, before = Failure(SEEN, 7.0, 1, 0, "no", "run-0"), Baseline(SEEN, 1.0, 2.0, 3.0, "new_data", "run-0")
    attempt = Attempt("run-1", "retry", 10.0, 9.0, SEEN, NEW, 1, True)
    state = NodeState(
        3, 4, 1, 2, 1, OLD, NEW, before, replace(before, run="run-x"), failure, attempt, attempt, True, True,
        {"id": "int"}, Hashed("h"), 5.0,
    )  # fmt: skip
    empty = NodeState()
    assert [f.name for f in fields(NodeState) if getattr(state, f.name) == getattr(empty, f.name)] == []
    now = Baseline(SEEN, 9.0, 10.0, 11.0, "retry", "run-1", 1.5)
    after = replace(
        state, version=4, builds=5, baseline=now, previous=before, failure=None, running=None, interrupted=False,
        doubtful=False,
    )  # fmt: skip
    assert succeeded(state, attempt, 11.0, 1.5) == after
    seen = succeeded(state, attempt, 11.0, 1.5, columns={}, hashed=Hashed("i"))
    assert seen == replace(after, columns={}, hashed=Hashed("i"))


def test_a_build_with_the_same_content_keeps_the_data_version_and_the_code_that_readers_see() -> None:
    state = world_of(*build("run-1", "model.a"), *build("run-2", "model.a", NEW, same=True)).node("model.a")
    assert (state.version, state.builds, state.code, state.built_code) == (1, 2, OLD, NEW)


def test_a_build_that_does_not_advance_passes_its_code_on_but_not_its_data() -> None:
    state = world_of(*build("run-1", "model.a"), *build("run-2", "model.a", NEW, advances=False)).node("model.a")
    assert (state.version, state.builds, state.code) == (1, 2, NEW)


def test_only_the_run_that_holds_a_node_records_its_result() -> None:
    start = (
        e.RunStarted("run-1", {"model.a": "new_data"}),
        e.BuildStarted("run-1", "model.a", "new_data", 900.0, SEEN, OLD),
    )
    before = world_of(*start).nodes
    for late in (
        e.NodeBuilt("run-2", "model.a"),
        e.NodeFailed("run-2", "model.a"),
        e.BuildInterrupted("run-2", "model.a"),
        e.BuildStarted("run-2", "model.a", "new_data", 900.0, SEEN, NEW),
    ):
        assert world_of(*start, late).nodes == before


@pytest.mark.parametrize(
    "end", [e.EngineStarted(), e.RunFinished("run-2", "interrupted"), e.BuildInterrupted("run-2", "model.a")]
)
def test_a_lost_build_is_no_failed_attempt(end: e.Event) -> None:
    start = build("run-2", "model.a", NEW)[:2]
    state = world_of(*build("run-1", "model.a"), *start, end).node("model.a")
    assert (state.running, state.failure) == (None, None)
    assert state.baseline == world_of(*build("run-1", "model.a")).node("model.a").baseline


def test_what_a_lost_build_may_have_left_is_not_forgotten_before_the_next_success() -> None:
    first = build("run-1", "model.a", OLD)
    other = (*build("run-2", "model.a", NEW)[:2], e.BuildInterrupted("run-2", "model.a"))
    back = (*build("run-3", "model.a", OLD)[:2], e.EngineStarted())
    states = [world_of(*first, *other).node("model.a"), world_of(*first, *other, *back).node("model.a")]
    assert [(state.interrupted, state.doubtful) for state in states] == [(True, True)] * 2
    again = (e.RunStarted("run-4", {"model.a": "code_changed"}), build("run-4", "model.a", OLD)[1])
    after = world_of(*first, *other, *again, e.NodeBuilt("run-4", "model.a", 1.0, True)).node("model.a")
    assert (after.interrupted, after.doubtful, after.version) == (False, False, states[0].version + 1)


def test_a_failed_build_leaves_the_old_baseline() -> None:
    failed = (*build("run-2", "model.a", NEW)[:2], e.NodeFailed("run-2", "model.a", "no such column"))
    state = world_of(*build("run-1", "model.a"), *failed).node("model.a")
    assert state.failure is not None
    assert (state.failure.message, state.failure.observed) == ("no such column", SEEN)
    assert state.baseline is not None
    assert (state.baseline.run, state.version, state.code) == ("run-1", 1, OLD)


def test_a_failed_test_counts_as_a_failure_of_the_build_it_looked_at() -> None:
    verdict = e.TestFinished("run-2", "test.1", "fail", fails=("model.a",), message="3 rows")
    state = world_of(*build("run-1", "model.a"), *build("run-2", "model.a", NEW), verdict).node("model.a")
    assert state.failure is not None
    assert state.failure.message == "test test.1 failed: 3 rows"
    assert state.baseline is not None
    assert state.baseline.run == "run-1"
    assert state.builds == 2
    assert state.standing is not None
    assert state.standing.run == "run-2", "its rows stand in the warehouse"


def test_what_stands_after_a_failed_test_stands_after_a_failed_build_too() -> None:
    verdict = e.TestFinished("run-2", "test.1", "fail", fails=("model.a",))
    tested = (*build("run-1", "model.a"), *build("run-2", "model.a", NEW), verdict)
    failed = (*build("run-3", "model.a", NEW)[:2], e.NodeFailed("run-3", "model.a", "no such column"))
    state = world_of(*tested, *failed).node("model.a")
    assert (state.baseline and state.baseline.run, state.standing and state.standing.run) == ("run-1", "run-2")
    state = world_of(*tested, *failed, *build("run-4", "model.a", NEW)).node("model.a")
    assert (state.baseline and state.baseline.run, state.standing and state.standing.run) == ("run-4", "run-4")


def test_clearing_is_seen_until_a_build_has_seen_it() -> None:
    cleared = world_of(*build("run-1", "model.a"), e.StateCleared(("model.a",)))
    assert cleared.node("model.a").cleared
    assert not cleared.node("model.b").cleared
    seen = e.Observed("f1", clears=1)
    rebuilt = (
        e.RunStarted("run-2", {"model.a": "state_cleared"}),
        e.BuildStarted("run-2", "model.a", "state_cleared", 900.0, seen, OLD),
        e.NodeBuilt("run-2", "model.a"),
    )
    world = world_of(*build("run-1", "model.a"), e.StateCleared(("model.a",)), *rebuilt)
    assert not world.node("model.a").cleared


def test_clearing_all_clears_nodes_never_seen_before() -> None:
    world = world_of(*build("run-1", "model.a"), e.StateCleared())
    assert world.node("model.a").cleared
    assert world.node("never.seen").cleared


def test_a_relation_seen_missing_is_dropped_until_it_is_built() -> None:
    world = world_of(*build("run-1", "model.a"), e.RelationDropped("model.a"))
    assert world.node("model.a").dropped
    assert not world_of(*build("run-1", "model.a")).node("model.a").dropped


def test_a_job_lasts_until_it_is_finished_and_knows_what_it_built() -> None:
    start = (
        e.JobRequested("job-1", "nightly", 900.0, ("model.a",)),
        e.RunStarted("run-1", {"model.a": "first_build"}, job="job-1"),
        *build("run-1", "model.a")[1:],
    )
    assert world_of(*start).jobs["job-1"].done == {"model.a"}
    assert world_of(*start, e.EngineStarted()).jobs == world_of(*start).jobs
    assert world_of(*start, e.JobFinished("job-1", "success")).jobs == {}


def test_the_head_of_the_branch_is_known_since_it_was_first_seen_there() -> None:
    seen = [e.HeadSeen("c1", "refs/heads/main"), e.HeadSeen(None, "refs/heads/main", "away")]
    heads = [world_of(*(seen * 2)[:count]).head for count in range(5)]
    first = heads[1]
    assert heads[0] is None
    assert first is not None
    assert first.seen is not None
    assert (first.commit, first.error) == ("c1", None)
    assert heads[2] == replace(first, error="away", failed=first.seen + 1)
    assert heads[3] == first
    moved = world_of(*seen, e.HeadSeen("c2")).head
    assert moved is not None
    assert (moved.commit, moved.seen, moved.error) == ("c2", first.seen + 2, None)


def test_a_project_in_force_ends_the_rejection_of_another() -> None:
    rejected = (e.ProjectLoaded("d1", "c1"), e.ProjectRejected("broken", "c2"))
    world = world_of(*rejected)
    assert (world.project, world.commit) == ("d1", "c1")
    assert world.rejected == rejected[1]
    assert world_of(*rejected, e.ProjectLoaded("d3", "c3")).rejected is None


def test_a_snapshot_stays_as_it_is() -> None:
    world = World()
    evolve(world, e.Recorded(1, 1.0, e.DataLanded("s", "one")))
    kept, then = world.snapshot(), deepcopy(world)
    assert kept == world
    for seq, event in enumerate((e.DataLanded("s", "two"), e.RelationDropped("n"), e.JobRequested("j", "j", 3.0)), 2):
        evolve(world, e.Recorded(seq, float(seq), event))
    assert kept == then != world

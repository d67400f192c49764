"""What every store promises, as a suite that the tests of each store inherit; and random events to fill them with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Barrier

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sao_events.core import events as e
from sao_events.core.errors import StoreError, UsageError
from sao_events.core.identity import Known
from sao_events.core.lineage import Code
from sao_events.core.state import World
from sao_events.ports import Draft, Store
from sao_events.store.checkpoint import catch_up, load_world, save_world, world_to_bytes
from tests.deliveries_contract import DeliveriesContract

# Few names, so that random events are often about the same thing; "run-lost" is never started.
NODES = st.sampled_from(["model.a", "model.b", "model.c", "stranger"])
SOURCES = st.sampled_from(["source.x", "source.y"])
RUNS = st.sampled_from(["run-1", "run-2", "run-lost"])
JOBS = st.sampled_from(["job-1", "job-2"])
WORDS = st.text(max_size=6)
INSTANTS = st.floats(min_value=0, max_value=4e9)
COUNTS = st.integers(min_value=0, max_value=9)
CODES = st.builds(Code, st.sampled_from("cdef"), st.lists(st.tuples(WORDS, WORDS), max_size=2).map(tuple))


def some(values: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    """A few of `values`, in a tuple."""
    return st.lists(values, max_size=3).map(tuple)


OBSERVED = st.builds(
    e.Observed,
    st.sampled_from("fg"),  # often the same, with something else around it
    st.dictionaries(NODES | SOURCES, COUNTS, max_size=3),
    st.dictionaries(NODES, CODES, max_size=3),
    COUNTS,
    COUNTS,
    st.dictionaries(WORDS, WORDS, max_size=2),
)
BUILDS: st.SearchStrategy[e.Event] = st.one_of(
    st.builds(e.BuildStarted, RUNS, NODES, WORDS, INSTANTS, OBSERVED, CODES, COUNTS, st.booleans()),
    st.builds(e.NodeBuilt, RUNS, NODES, INSTANTS, st.booleans(), WORDS, st.none() | WORDS),
    st.builds(e.NodeFailed, RUNS, NODES, st.none() | WORDS, INSTANTS, WORDS),
    st.builds(e.BuildInterrupted, RUNS, NODES),
    st.builds(
        e.TestFinished,
        RUNS,
        st.sampled_from(["test.1", "test.2"]),
        st.sampled_from(["pass", "warn", "fail", "error"]),
        WORDS,
        st.dictionaries(NODES, COUNTS, max_size=3),
        st.dictionaries(NODES | SOURCES, COUNTS, max_size=3),
        some(NODES),
        st.none() | WORDS,
        INSTANTS,
    ),
)
EVENTS: st.SearchStrategy[e.Event] = st.one_of(
    st.builds(e.EngineStarted),
    st.builds(e.PreviewAsked, COUNTS, WORDS, WORDS, st.booleans()),
    st.builds(e.PreviewMade, COUNTS, WORDS, st.none() | WORDS, st.none() | WORDS),
    st.builds(e.HeadSeen, st.none() | WORDS, st.none() | WORDS, st.none() | WORDS),
    st.builds(e.ProjectLoaded, WORDS, st.none() | WORDS, some(WORDS)),
    st.builds(e.ProjectRejected, WORDS, st.none() | WORDS),
    st.builds(e.CodePushed, st.none() | WORDS, st.none() | WORDS, some(WORDS)),
    st.builds(e.DataLanded, SOURCES, st.none() | st.sampled_from("lmn"), st.none() | INSTANTS, st.none() | COUNTS),
    st.builds(
        e.DataLanded,
        SOURCES,
        st.none() | st.sampled_from("lmn"),
        st.none() | INSTANTS,
        st.none() | COUNTS,
        st.booleans(),
        st.booleans(),
        st.none() | st.sampled_from("ab"),
        st.lists(SOURCES, unique=True).map(tuple),
        st.none() | COUNTS,
        st.none() | st.booleans(),
        st.none() | WORDS,
    ),
    st.builds(e.SourceProbed, SOURCES, WORDS, st.none() | WORDS, st.none() | INSTANTS, st.none() | WORDS),
    st.builds(e.RelationDropped, NODES),
    st.builds(e.RelationsSeen, some(NODES)),
    st.builds(e.RelationsCleaned, some(WORDS)),
    st.builds(
        e.RelationsKnown,
        st.dictionaries(WORDS, st.fixed_dictionaries({"node": NODES, "kind": WORDS, "built": INSTANTS}), max_size=2),
    ),
    st.builds(e.CleanAsked, WORDS, some(WORDS)),
    st.builds(
        e.CleanAnswered,
        WORDS,
        st.dictionaries(WORDS, st.fixed_dictionaries({"status": WORDS, "there": st.booleans() | WORDS}), max_size=2),
        st.none() | WORDS,
    ),
    st.builds(e.StateCleared, st.none() | some(NODES)),
    st.builds(e.JobRequested, JOBS, WORDS, INSTANTS, st.none() | some(NODES), st.booleans(), st.booleans()),
    st.builds(e.JobFinished, JOBS, WORDS, some(WORDS), st.none() | WORDS),
    st.builds(
        e.RunStarted,
        st.sampled_from(["run-1", "run-2"]),
        st.dictionaries(NODES, WORDS, max_size=3),
        some(WORDS),
        st.none() | JOBS,
        WORDS,
    ),
    st.builds(e.RunFinished, RUNS, WORDS, st.none() | WORDS),
    BUILDS,
)


def landed(number: int, key: str | None = None) -> Draft:
    """An event that can be told from others by its number."""
    return Draft(e.DataLanded("source.x", f"load-{number}", 1000.0 + number, number), 2000.5 + number, key, "test")


def numbers(recorded: list[e.Recorded]) -> list[int | None]:
    """The numbers that `landed` gave."""
    return [item.event.rows for item in recorded if isinstance(item.event, e.DataLanded)]


class StoreContract(DeliveriesContract):
    """Inherit and override the fixture `store` with an empty store."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        raise NotImplementedError

    def test_an_empty_store_has_nothing(self, store: Store) -> None:
        assert store.last() == 0
        assert store.read() == []
        assert store.append([]) == []
        assert store.get_checkpoint() is None

    def test_appended_events_are_read_back_in_order_as_they_were_given(self, store: Store) -> None:
        drafts = [landed(1, "k1"), landed(2), Draft(e.RelationDropped("model.a"), 5.25, None, "probe")]
        recorded = store.append(drafts[:2]) + store.append(drafts[2:])
        assert recorded == [
            e.Recorded(seq, draft.at, draft.event, draft.key, draft.sender) for seq, draft in enumerate(drafts, start=1)
        ]
        assert store.read() == recorded
        assert store.last() == 3

    def test_reading_goes_on_after_a_place_and_stops_at_a_limit(self, store: Store) -> None:
        recorded = store.append([landed(number) for number in range(10)])
        assert store.read(4) == recorded[4:]
        assert store.read(4, limit=3) == recorded[4:7]
        assert store.read(10) == store.read(99) == []

    def test_events_are_found_by_kind_subject_and_run_newest_first(self, store: Store) -> None:
        built = e.BuildStarted("r1", "model.a", "forced", 1.0, e.Observed("f"), Code("c"))
        events = [
            e.DataLanded("source.x"), e.RunStarted("r1", {"model.a": "forced"}), built, e.NodeBuilt("r1", "model.a"),
            e.NodeBuilt("r2", "model.a"), e.TestFinished("r1", "test.1", "pass"), e.DataLanded("source.y"),
        ]  # fmt: skip
        store.append([Draft(event, 1.0) for event in events])
        assert [found.seq for found in store.find()] == [7, 6, 5, 4, 3, 2, 1]
        assert [found.event for found in store.find(subject="model.a")] == [events[4], events[3], events[2]]
        assert [found.event for found in store.find(["NodeBuilt"], "model.a", "r1")] == [events[3]]
        assert [found.seq for found in store.find(run="r1")] == [6, 4, 3, 2]
        assert [found.seq for found in store.find(["DataLanded", "RunStarted"], before=7)] == [2, 1]
        assert [found.seq for found in store.find(subject="source.x")] == [1]
        assert [found.seq for found in store.find(subject="test.1")] == [6]
        assert [found.seq for found in store.find(limit=2)] == [7, 6]
        assert store.find(limit=0) == store.find([]) == store.find(["Nothing'; --"]) == store.find(before=1) == []

    @pytest.mark.parametrize("name", ["a", "a\tb"])
    def test_codes_with_columns_are_read_back(self, store: Store, name: str) -> None:
        code = Code("base", ((name, "1"), ("", "2")))
        store.append([Draft(e.BuildStarted("r", "n", "forced", 1.0, e.Observed("f", {}, {"u": code}), code), 1.0)])
        [event] = [found.event for found in store.read()]
        assert isinstance(event, e.BuildStarted)
        assert event.code == event.observed.codes["u"] == code

    def test_a_key_that_is_in_the_log_makes_a_duplicate(self, store: Store) -> None:
        first = store.append([landed(1, "k")])
        again = store.append([landed(2, "k"), landed(3, "other"), landed(4, "k")])
        assert again[0] is None
        assert again[2] is None
        assert store.read() == [*first, again[1]]
        assert [item.seq for item in store.read()] == [1, 2]

    def test_a_key_given_twice_in_one_batch_is_recorded_once(self, store: Store) -> None:
        recorded = store.append([landed(1, "k"), landed(2, "k"), landed(3)])
        assert [item is not None for item in recorded] == [True, False, True]
        assert numbers(store.read()) == [1, 3]

    @settings(
        max_examples=30,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(st.lists(st.one_of(st.none(), st.integers(0, 120).map("key-{}".format)), max_size=140))
    def test_of_any_batch_each_key_is_recorded_once(self, store: Store, keys: list[str | None]) -> None:
        known = {item.key for item in store.read()} - {None}
        before = store.last()
        drafts = [Draft(e.DataLanded("source.s.a", load_id=str(n)), float(n), key) for n, key in enumerate(keys)]
        recorded = store.append(drafts)
        first = {key: n for n, key in reversed(list(enumerate(keys)))}
        new = [
            draft
            for n, draft in enumerate(drafts)
            if draft.key is None or (first[draft.key] == n and draft.key not in known)
        ]
        assert [item and (item.event, item.at, item.key) for item in recorded] == [
            (draft.event, draft.at, draft.key) if draft in new else None for draft in drafts
        ]
        assert [item for item in recorded if item] == store.read(before)
        assert store.last() == before + len(new)

    def test_events_without_a_key_are_never_duplicates(self, store: Store) -> None:
        assert None not in store.append([landed(1), landed(1)]) + store.append([landed(1)])
        assert store.last() == 3

    @pytest.mark.parametrize("key", ["", "ключ 🔑", "a'; drop table events; --", "x" * 5000])
    def test_any_text_is_a_key(self, store: Store, key: str) -> None:
        assert store.append([landed(1, key)]) == store.read()
        assert store.append([landed(2, key), landed(3, f"{key}!")])[0] is None
        assert [item.key for item in store.read()] == [key, f"{key}!"]

    @pytest.mark.parametrize(
        "bad",
        [
            Draft(e.EngineStarted(), float("nan")),
            Draft(e.EngineStarted(), float("inf")),
            Draft(e.EngineStarted(), 1.0, key="nul\0"),
            Draft(e.EngineStarted(), 1.0, key="lone \ud800"),
            Draft(e.EngineStarted(), 1.0, sender="lone \udfff"),
        ],
    )
    def test_what_could_not_be_read_back_is_refused_with_its_batch(self, store: Store, bad: Draft) -> None:
        with pytest.raises(UsageError):
            store.append([landed(1, "k"), bad])
        with pytest.raises(UsageError):
            store.submit([bad])
        assert store.last() == 0
        assert store.append([landed(2, "k")]) == store.read()

    def test_submitted_events_are_recorded_in_the_order_of_the_caller(self, store: Store) -> None:
        futures = [store.submit([landed(number)]) for number in range(200)]
        recorded = [future.result()[0] for future in futures]
        assert recorded == store.read()
        assert numbers(store.read()) == list(range(200))

    def test_cancelling_takes_nothing_back(self, store: Store) -> None:
        future = store.submit([landed(1)])
        assert not future.cancel()
        assert future.result() == store.read()

    def test_one_of_many_with_the_same_key_is_recorded(self, store: Store) -> None:
        ready = Barrier(50)

        def submit(number: int) -> e.Recorded | None:
            ready.wait()
            return store.append([landed(number, "same")])[0]

        with ThreadPoolExecutor(50) as pool:
            recorded = [item for item in pool.map(submit, range(50)) if item is not None]
        assert len(recorded) == 1
        assert store.read() == recorded

    def test_many_threads_share_one_order_without_gaps(self, store: Store) -> None:
        def submit(thread: int) -> list[e.Recorded | None]:
            return [store.append([landed(thread * 100 + number)])[0] for number in range(25)]

        with ThreadPoolExecutor(16) as pool:
            by_thread = list(pool.map(submit, range(16)))
        log = store.read()
        assert [item.seq for item in log] == list(range(1, 401))
        assert sorted(log, key=lambda item: numbers([item])) == [item for items in by_thread for item in items]
        for items in by_thread:
            seqs = [item.seq for item in items if item is not None]
            assert seqs == sorted(seqs)

    def test_tasks_wait_for_their_events(self, store: Store) -> None:
        async def submit(number: int) -> e.Recorded | None:
            return (await asyncio.wrap_future(store.submit([landed(number, f"k{number % 60}")])))[0]

        async def all_of_them() -> list[e.Recorded | None]:
            return await asyncio.gather(*(submit(number) for number in range(120)))

        recorded = [item for item in asyncio.run(all_of_them()) if item is not None]
        assert sorted(recorded, key=lambda item: item.seq) == store.read()
        assert {item.key for item in recorded} == {f"k{number}" for number in range(60)}
        assert len(recorded) == 60

    @settings(
        max_examples=60,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
        deadline=None,
    )
    @given(st.lists(EVENTS, max_size=8))
    def test_any_event_is_read_back_equal(self, store: Store, events: list[e.Event]) -> None:
        before = store.last()
        recorded = store.append([Draft(event, 7.0) for event in events])
        assert store.read(before) == recorded
        assert [item.event for item in store.read(before)] == events

    def test_a_project_is_kept_under_its_digest(self, store: Store) -> None:
        store.put_project("d1", b"one")
        store.put_project("d2", b"\0\xff" * 5000)
        store.put_project("d1", b"another")
        assert store.get_project("d1") == b"one"
        assert store.get_project("d2") == b"\0\xff" * 5000

    def test_projects_that_are_much_alike_are_each_as_they_were(self, store: Store) -> None:
        things = [{"id": f"model.a.{n % 900}", "parts": {"sql": f"{n * 7919 % 300:x}"}} for n in range(1000)]
        bodies = {f"d{n}": json.dumps([*things[:n], {"id": "new"}, *things[n + 1 :]]).encode() for n in (0, 500, 999)}
        for digest, body in bodies.items():
            store.put_project(digest, body)
        assert {digest: store.get_project(digest) for digest in bodies} == bodies

    def test_a_project_that_is_not_there_is_named(self, store: Store) -> None:
        with pytest.raises(StoreError, match="d404"):
            store.get_project("d404")

    def test_texts_are_kept_under_their_digests(self, store: Store) -> None:
        store.put_texts({"t1": "select 'ü'\n", "t2": "x" * 100_000, "t3": ""})
        store.put_texts({"t1": "another", "t4": "\ud800"})
        assert store.get_texts(["t1", "t2", "t3", "t4", "t404"]) == {
            "t1": "select 'ü'\n",
            "t2": "x" * 100_000,
            "t3": "",
            "t4": "\ud800",
        }
        assert store.get_texts([]) == {}

    def test_a_state_is_written_again_in_its_place(self, store: Store) -> None:
        store.put_known([Known("a", "i1", "one", "r", "k", "c"), Known("b", "i1", "other")])
        store.put_known([Known("a", "i2", "one"), Known("a", "i1", "two", "r2", "k2", "c2", "d2", "w")])
        assert sorted(store.get_known(["i1", "i404"])) == [
            Known("a", "i1", "two", "r2", "k2", "c2", "d2", "w"),
            Known("b", "i1", "other"),
        ]
        assert store.states_of("a") == [Known("a", "i2", "one"), Known("a", "i1", "two", "r2", "k2", "c2", "d2", "w")]
        assert store.states_of("a", limit=1) == [Known("a", "i2", "one")]
        assert store.states_of("nobody") == store.get_known([]) == []

    def test_the_newest_checkpoint_is_kept(self, store: Store) -> None:
        for seq, body in ((5, b"five"), (9, b"nine"), (7, b"seven")):
            store.put_checkpoint(seq, body)
        assert store.get_checkpoint() == (9, b"nine")
        store.put_checkpoint(9, b"nine, written again")
        assert store.get_checkpoint() == (9, b"nine, written again")

    def test_a_state_is_loaded_from_checkpoint_and_the_rest_of_the_log(self, store: Store) -> None:
        store.append([landed(number) for number in range(1200)])
        from_start = catch_up(store, World())
        save_world(store, from_start)
        store.append([landed(number) for number in range(1200, 1300)])
        assert from_start.sources["source.x"].version == 1200
        world = load_world(store)
        assert world == catch_up(store, World())
        assert (world.seq, world.sources["source.x"].version) == (1300, 1300)

    def test_a_checkpoint_that_does_not_fit_is_ignored(self, store: Store) -> None:
        store.append([landed(1)])
        folded = catch_up(store, World())
        places = count(1)
        ahead = World(seq=2, project="of another log")
        for body in (b"", b"not json", b"[]", b'["other rules", [], [], []]', world_to_bytes(ahead)):
            store.put_checkpoint(next(places), body)
            assert load_world(store) == folded

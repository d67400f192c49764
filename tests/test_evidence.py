"""What counts as new data, against a reader of the same landings that is too simple to be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sao_events.config.landings import read_evidence
from sao_events.core import evolve as folding
from sao_events.core.errors import ConfigError
from sao_events.core.events import DataLanded, Recorded
from sao_events.core.evidence import Evidence, in_two_loads
from sao_events.core.evolve import evolve
from sao_events.core.state import World
from sao_events.core.stored import event_from_json, event_to_json
from sao_events.store.checkpoint import world_from_bytes, world_to_bytes
from sao_events.yamltext import documents

SOURCES = ("a", "b", "c")
LANDINGS = st.lists(
    st.builds(
        DataLanded,
        st.sampled_from(SOURCES),
        st.none() | st.sampled_from("123"),
        rows=st.none() | st.integers(0, 2),
        partial=st.booleans(),
    ),
    max_size=25,
)
RULES = st.builds(
    Evidence,
    st.sampled_from(("record", "count")),
    st.sampled_from(("record", "count")),
    st.sampled_from(({}, {"ab": ("a", "b")}, {"all": SOURCES}, {"one": ("c",)})),
)


def log(landings: Sequence[DataLanded], rules: Evidence) -> list[Recorded]:
    """The landings as they are recorded, one each second."""
    return [Recorded(seq, float(seq), rules.judged(event)) for seq, event in enumerate(landings, 1)]


def folded(recorded: Sequence[Recorded], world: World | None = None) -> World:
    """The state after them."""
    world = world or World()
    for item in recorded:
        evolve(world, item)
    return world


def is_new(landings: Sequence[DataLanded], rules: Evidence, known: Sequence[bool]) -> set[str]:
    """The sources of which the last of `landings` makes something new: read off the whole list, without any state;
    `known` is whether each before it did.
    """
    *before, last = landings
    if not last.partial and last.rows == 0 and rules.empty == "record":
        fresh = set[str]()
    elif last.partial and rules.partial == "record":
        return set()
    else:
        fresh = {last.source}
    group = next((sources for sources in rules.loads.values() if last.source in sources), ())
    if group and last.partial:
        return set()
    if last.load_id is None:
        return fresh

    def whole(event: DataLanded) -> bool:
        return not event.partial and (event.rows != 0 or rules.empty == "count")

    new = {n: made for n, made in enumerate(known) if before[n].source == last.source}
    same = {n for n in new if before[n].load_id == last.load_id}
    if last.partial:
        return set() if any(before[n].partial for n in same) else fresh
    if any(whole(before[n]) for n in same):
        return set()
    counted = max((n for n, made in new.items() if made), default=None)
    if counted in same and before[counted].partial:  # what broke off has come to its end, whatever rows that gives
        return {last.source}
    return fresh


@given(LANDINGS, RULES)
def test_alone_a_load_is_new_once_and_a_part_of_it_once_before(landings: list[DataLanded], rules: Evidence) -> None:
    rules = replace(rules, loads={})
    world, known = World(), list[bool]()
    for n, recorded in enumerate(log(landings, rules), 1):
        before = {source: world.source(source).version for source in SOURCES}
        evolve(world, recorded)
        now = {source for source in SOURCES if world.source(source).version > before[source]}
        assert now == is_new(landings[:n], rules, known)
        known.append(bool(now))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("123")), max_size=20))
def test_together_they_are_new_when_the_last_of_them_is_there(landings: list[tuple[str, str]]) -> None:
    rules = Evidence(loads={"ab": ("a", "b")})
    world, seen, done = World(), set[tuple[str, str]](), 0
    for recorded in log([DataLanded(source, load) for source, load in landings], rules):
        assert isinstance(recorded.event, DataLanded)
        source, load = recorded.event.source, recorded.event.load_id or ""
        before = world.source("a").version + world.source("b").version
        evolve(world, recorded)
        complete = (source, load) not in seen and ("b" if source == "a" else "a", load) in seen
        seen.add((source, load))
        done += complete
        gained = world.source("a").version + world.source("b").version - before
        assert (gained > 0) == complete
        assert bool(world.incomplete) == any((("a", n) in seen) != (("b", n) in seen) for n in "123")
    assert done == sum(("a", n) in seen and ("b", n) in seen for n in "123")


@given(LANDINGS, RULES, st.integers(0, 25))
def test_replay_equals_live(landings: list[DataLanded], rules: Evidence, cut: int) -> None:
    recorded = [item._replace(event=event_from_json(*event_to_json(item.event))) for item in log(landings, rules)]
    whole = folded(recorded)
    copy = world_from_bytes(world_to_bytes(folded(recorded[:cut])))
    assert copy is not None
    assert folded(recorded[cut:], copy) == whole


@given(LANDINGS, RULES)
def test_told_again_nothing_is_new(landings: list[DataLanded], rules: Evidence) -> None:
    recorded = log([replace(item, load_id=item.load_id or str(n)) for n, item in enumerate(landings, 1)], rules)
    world = folded(recorded)
    before = {source: (world.source(source).version, world.source(source).newest) for source in SOURCES}
    folded([item._replace(at=item.at + 100.0) for item in recorded], world)
    assert {source: (world.source(source).version, world.source(source).newest) for source in SOURCES} == before


@given(LANDINGS, RULES)
def test_freshness_never_moves_backwards(landings: list[DataLanded], rules: Evidence) -> None:
    world = World()
    for recorded in log(landings, rules):
        before = {source: (world.source(source).newest or 0.0, world.source(source).version) for source in SOURCES}
        evolve(world, recorded)
        for source in SOURCES:
            now = world.source(source)
            assert ((now.newest or 0.0), now.version) >= before[source]


def test_a_load_that_nobody_waits_for_any_more_is_new_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "INCOMPLETE", 2)
    rules = Evidence(loads={"ab": ("a", "b")})
    world = folded(log([DataLanded("a", str(n)) for n in range(3)], rules))
    assert list(world.incomplete["ab"]) == ["1", "2"]
    assert (world.source("a").version, world.source("a").load_id) == (1, "0")


def test_what_is_held_is_told_with_its_reason() -> None:
    rules = Evidence(partial="record", loads={"ab": ("a", "b")})
    world = folded(log([DataLanded("a", "7"), DataLanded("c", rows=0), DataLanded("c", "8", partial=True)], rules))
    held = world.source("a").held
    assert held is not None
    assert (held.why, held.load, held.landed.load_id) == ("incomplete", "ab", "7")
    other = world.source("c").held
    assert other is not None
    assert (other.why, other.landed.load_id) == ("partial", "8")


# The keys that say so


def read(text: str) -> Evidence:
    [block] = documents(text, "sao.yml")
    return read_evidence(block, "sao.yml")


def test_the_rules_are_read() -> None:
    found = read("empty_loads: count\npartial_loads: record\nloads: {shop: {sources: [raw.a, raw.b, raw.a]}}")
    assert found == Evidence("count", "record", {"shop": ("raw.a", "raw.b")})
    assert read("{}") == Evidence("record", "count", {})
    assert read("loads: {shop: {sources: [raw.a, raw.b], complete: any}}") == Evidence()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("empty_loads: never", "empty_loads must be"),
        ("loads: {shop: {sources: [raw.a], complete: most}}", "complete must be"),
        ("loads: {shop: {}}", "sources is missing"),
        ("loads: {shop: {sources: raw.a}}", "must be a list"),
        ("loads: {shop: {source: [raw.a]}}", "unknown key source"),
        ("loads: {a: {sources: [raw.a, raw.b]}, b: {sources: [raw.b]}}", "raw.b is in the loads a and b"),
    ],
)
def test_wrong_rules_are_named_with_their_line(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        read(text)
    assert "sao.yml:1" in caught.value.message


def test_a_source_may_be_twice_in_one_load() -> None:
    assert in_two_loads({"a": ["x", "x"], "b": ["y"]}) is None

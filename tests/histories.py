"""Random projects with random histories, as scenario texts that can be run again by hand."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

KINDS = ("table", "table", "table", "incremental", "snapshot", "view", "view", "ephemeral", "seed")
SOURCES: tuple[dict[str, bool], ...] = (*({} for _ in range(8)), {"static": True}, {"empty": True})
MINUTES = st.integers(0, 96).map(lambda five: 5 * five)
Document = dict[str, Any]
# What a node may declare beside dbt's own window; the histories begin on a Monday and last eight hours.
OURS: tuple[dict[str, object], ...] = (
    {},
    {},
    {"max_staleness": "1h"},
    {"max_staleness": "3h"},
    {"quiet": [{"between": "01:10-03:00"}]},
    {"quiet": [{"between": "02:05-06:00"}], "timezone": "Europe/Berlin"},
    {"window": [{"between": "00:00-04:07", "every": "2h"}, {"every": "10m"}]},
    {"fresh_by": "07:00"},
    {"fresh_by": "04:30", "timezone": "Europe/Berlin", "max_staleness": "2h"},
)


@st.composite
def histories(draw: st.DrawFn, calm: bool = False) -> str:
    """The text of one scenario. `calm`: nothing fails, nothing takes time, every event is decided at once."""
    nodes: Document = {}
    for number in range(draw(st.sampled_from((1, 2, 3)))):
        nodes[f"raw.{number}"] = {"kind": "source", **draw(st.sampled_from(SOURCES))}
    for number in range(draw(st.sampled_from((1, 2, 3, 4, 5, 6, 7, 8)))):
        nodes[f"n{number}"] = draw(_node(list(nodes), nodes))
    models = [name for name in nodes if not name.startswith("raw.")]
    tests = {} if calm else draw(_tests(list(nodes)))
    document = {
        "scenario": "random",
        "adapter": draw(st.sampled_from(("duckdb", "postgres"))),
        "settings": draw(_settings(calm)),
        "nodes": nodes,
        "tests": tests,
        "events": draw(_events(nodes, models, list(tests), calm)),
        "expect": {"until": "+8h"},
    }
    return json.dumps(document)


@st.composite
def _node(draw: st.DrawFn, before: list[str], nodes: Document) -> Document:
    kind = draw(st.sampled_from(KINDS))
    node: Document = {"kind": kind, "build_duration": draw(st.sampled_from(("0s", "0s", "7m", "40m")))}
    if kind != "seed":
        node["reads"] = draw(st.lists(st.sampled_from(before), min_size=1, max_size=3, unique=True))
        node |= draw(_reading(node["reads"], nodes))
    if draw(st.booleans()):
        node["columns"] = ["id", "amount"]
    if kind not in ("view", "ephemeral"):
        node |= draw(st.sampled_from(({}, {}, {"early_cutoff": True}, {"lazy": True})))
    node["config"] = {"freshness": {"build_after": draw(_window())}}
    return node


def _window() -> st.SearchStrategy[Document]:
    counted = st.sampled_from(({}, {}, {"count": 1, "period": "hour"}, {"count": 3, "period": "hour"}))
    return st.builds(lambda window, quorum: {**window, "updates_on": quorum}, counted, st.sampled_from(("any", "all")))


@st.composite
def _reading(draw: st.DrawFn, reads: list[str], nodes: Document) -> Document:
    if draw(st.integers(0, 3)) == 0:
        return {"select_star": True}
    known = [name for name in reads if "columns" in nodes[name]]
    some = draw(st.lists(st.sampled_from(known), unique=True)) if known else []
    columns = st.sampled_from((["id"], ["amount"], ["id", "note"], []))
    return {"uses": {name: draw(columns) for name in some}} if some else {}


@st.composite
def _tests(draw: st.DrawFn, names: list[str]) -> Document:
    on = st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)
    return {f"t{number}": {"on": draw(on), "kind": "unique"} for number in range(draw(st.integers(0, 2)))}


@st.composite
def _settings(draw: st.DrawFn, calm: bool) -> Document:
    settings: Document = {"code_changes": draw(st.sampled_from(("immediate", "after_window")))}
    if not calm:
        settings |= {
            "trigger": draw(st.sampled_from(("continuous", "continuous", "jobs"))),
            "settle": draw(st.sampled_from(("0s", "0s", "3m"))),
            "retries": {"attempts": draw(st.integers(0, 2)), "backoff": draw(st.sampled_from(("1m", "30m")))},
            "max_concurrent_runs": draw(st.integers(1, 3)),
        }
    return settings


@st.composite
def _events(draw: st.DrawFn, nodes: Document, models: list[str], tests: list[str], calm: bool) -> list[Document]:
    model, times = st.sampled_from(models), st.integers(1, 3)
    sources = [name for name in nodes if name not in models]
    built = [name for name in models if nodes[name]["kind"] != "ephemeral"]
    change = st.sampled_from(("sql", "sql", "cosmetic", "config", "add_column", "revert", "volatile"))
    load, loaded_at = st.sampled_from(("one", "two", None)), st.one_of(st.none(), MINUTES)
    landing = st.builds(_landing, st.sampled_from(sources), load, loaded_at)
    kinds = [
        *[st.fixed_dictionaries({"land": st.sampled_from(sources)})] * 6,
        landing,
        st.builds(_edit, model, change),
        st.builds(lambda m, w: {"policy": m, "config": {"freshness": {"build_after": w}}}, model, _window()),
        *[st.fixed_dictionaries({"drop": st.sampled_from(built)}) for _ in built[:1]],
        st.fixed_dictionaries(
            {"clear": st.one_of(st.just("all"), st.lists(model, min_size=1, max_size=2, unique=True))}
        ),
    ]
    if not calm:
        selection = {"select": st.lists(model, min_size=1, max_size=3, unique=True)}
        kinds += [
            *[st.fixed_dictionaries({"fail": st.sampled_from(built), "times": times}) for _ in built[:1]],
            st.fixed_dictionaries({"job": st.just("job"), "state_aware": st.booleans()}, optional=selection),
            st.just({"crash": "engine"}),
        ]
    if tests:
        kinds.append(st.fixed_dictionaries({"fail_test": st.sampled_from(tests), "times": times}))
    some = st.lists(st.tuples(MINUTES, st.one_of(kinds)), max_size=10)  # about five, so three of them
    found = [*draw(some), *draw(some), *draw(some)]
    return [{"at": f"+{at}m", **event} for at, event in found]


def _landing(source: str, load: str | None, loaded_at: int | None) -> Document:
    known = {"load_id": load, "loaded_at": None if loaded_at is None else f"+{loaded_at}m"}
    return {"land": source, **{key: value for key, value in known.items() if value is not None}}


def _edit(model: str, change: str) -> Document:
    return {"edit": model, "change": change, **({"column": "note"} if change == "add_column" else {})}

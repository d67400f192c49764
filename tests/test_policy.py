"""Where a node's policy comes from, in dbt's two dialects, and what is refused or warned of."""

from __future__ import annotations

from typing import Any

import pytest

from sao_events.core.errors import PolicyError
from sao_events.core.policy import Policy, key_named, read_policy
from sao_events.core.windows import parse_duration

HOUR = 3600.0
HOURLY = {"count": 1, "period": "hour"}
DEFAULT = {"freshness": {"build_after": {"count": 2, "period": "hour"}}}


def read(config: dict[str, Any], default: dict[str, Any] | None = None) -> Policy:
    return read_policy(config, node="m", default=default)[0]


POLICIES: dict[str, tuple[dict[str, Any], Policy]] = {
    "nothing": ({}, Policy(0.0, "any")),
    "a window": ({"freshness": {"build_after": HOURLY}}, Policy(HOUR)),
    "minutes": ({"freshness": {"build_after": {"count": 90, "period": "minute"}}}, Policy(1.5 * HOUR)),
    "days": ({"freshness": {"build_after": {"count": 2, "period": "day"}}}, Policy(48 * HOUR)),
    "count 0": ({"freshness": {"build_after": {"count": 0, "period": "day"}}}, Policy(0.0)),
    "a quorum": ({"freshness": {"build_after": {**HOURLY, "updates_on": "all"}}}, Policy(HOUR, "all")),
    "a quorum alone": ({"freshness": {"build_after": {"updates_on": "all"}}}, Policy(0.0, "all")),
    "null": ({"freshness": None}, Policy()),
    "an empty block": ({"freshness": {}}, Policy()),
    "lag_tolerance": ({"state": {"lag_tolerance": "45m"}}, Policy(0.75 * HOUR)),
    "lag_tolerance 0s": ({"state": {"lag_tolerance": "0s"}}, Policy(0.0)),
    "require_fresh_data_from": ({"state": {"require_fresh_data_from": "all"}}, Policy(0.0, "all")),
    "state wins": (
        {"freshness": {"build_after": HOURLY}, "state": {"lag_tolerance": "0s"}},
        Policy(0.0),
    ),
    "each by itself: the window of one, the quorum of the other": (
        {"freshness": {"build_after": {**HOURLY, "updates_on": "all"}}, "state": {"lag_tolerance": "3h"}},
        Policy(3 * HOUR, "all"),
    ),
    "each by itself, the other way round": (
        {"freshness": {"build_after": {**HOURLY, "updates_on": "all"}}, "state": {"require_fresh_data_from": "any"}},
        Policy(HOUR, "any"),
    ),
    "the short form": ({"freshness": {"build_after": "6h"}}, Policy(6 * HOUR)),
    "updates_on beside": ({"freshness": {"build_after": HOURLY, "updates_on": "all"}}, Policy(HOUR, "all")),
    "lazy": ({"lazy": True}, Policy(lazy=True)),
}


@pytest.mark.parametrize("case", POLICIES)
def test_policy(case: str) -> None:
    config, policy = POLICIES[case]
    assert read(config) == policy


@pytest.mark.parametrize(
    ("config", "window"),
    [
        ({}, 2 * HOUR),
        ({"lazy": False}, 2 * HOUR),
        ({"freshness": None}, 0.0),
        ({"freshness": {"build_after": {"updates_on": "any"}}}, 0.0),
        ({"state": {"lag_tolerance": "1h"}}, HOUR),
        ({"state": {"require_fresh_data_from": "any"}}, 0.0),
    ],
)
def test_the_default_is_for_nodes_that_declare_neither_block(config: dict[str, Any], window: float) -> None:
    assert read(config, DEFAULT).build_after == window


def test_the_default_may_be_lazy_and_a_node_may_say_no() -> None:
    assert read({}, {"lazy": True}).lazy
    assert not read({"lazy": False}, {"lazy": True}).lazy
    assert not read({"meta": {"sao": {"lazy": False}}}, {"lazy": True}).lazy


@pytest.mark.parametrize("config", [{"freshness": None}, {"state": {"lag_tolerance": "1h"}}])
def test_lazy_by_default_is_for_nodes_that_declare_neither_block(config: dict[str, Any]) -> None:
    assert not read(config, {"lazy": True}).lazy


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "count without period": ({"freshness": {"build_after": {"count": 1}}}, "must have a value for `period`"),
    "period without count": ({"freshness": {"build_after": {"period": "day"}}}, "must have a value for `count`"),
    "an unknown period": ({"freshness": {"build_after": {"count": 1, "period": "week"}}}, "period must be one of"),
    "half an hour": ({"freshness": {"build_after": {"count": 0.5, "period": "hour"}}}, "count must be a whole number"),
    "a yes": ({"freshness": {"build_after": {"count": True, "period": "hour"}}}, "count must be a whole number"),
    "a list": ({"freshness": {"build_after": [1]}}, "must be a mapping"),
    "a word": ({"freshness": "daily"}, "freshness must be a mapping"),
    "some": ({"freshness": {"build_after": {"updates_on": "some"}}}, "must be any or all"),
    "no unit": ({"state": {"lag_tolerance": "90"}}, "not a duration"),
    "a number": ({"state": {"lag_tolerance": 90}}, "not a duration"),
    "less than nothing": ({"state": {"lag_tolerance": "-1h"}}, "not a duration"),
    "months": ({"state": {"lag_tolerance": "1mo"}}, "not a duration"),
    "state as a word": ({"state": "1h"}, "state must be a mapping"),
    "fresh from most": ({"state": {"require_fresh_data_from": "most"}}, "must be any or all"),
    "a lazy word": ({"lazy": "yes"}, "lazy must be true or false"),
    "meta as a word": ({"meta": "sao"}, "meta.sao must be a mapping"),
    "ours as a word": ({"meta": {"sao": "lazy"}}, "meta.sao must be a mapping"),
    "hours of no length": ({"meta": {"sao": {"quiet": "07:00-07:00"}}}, "between 07:00-07:00 is empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    config, message = REFUSED[case]
    with pytest.raises(PolicyError, match=message) as error:
        read(config)
    assert str(error.value).startswith("m: ")
    assert key_named(str(error.value)).partition(".")[0] in config


WARNED: dict[str, tuple[dict[str, Any], str]] = {
    "the short form": ({"freshness": {"build_after": "6h"}}, "count"),
    "updates_on beside": ({"freshness": {"build_after": HOURLY, "updates_on": "all"}}, "updates_on"),
    "two windows": ({"freshness": {"build_after": HOURLY}, "state": {"lag_tolerance": "2h"}}, "lag_tolerance wins"),
    "two quorums": (
        {
            "freshness": {"build_after": {**HOURLY, "updates_on": "any"}},
            "state": {"require_fresh_data_from": "all"},
        },
        "the first wins",
    ),
    "a misspelt window": ({"freshness": {"build_aftr": HOURLY}}, "freshness has the unknown key build_aftr"),
    "the freshness of a source": ({"freshness": {"warn_after": HOURLY}}, "known are build_after, updates_on"),
    "a misspelt quorum": ({"freshness": {"build_after": {"update_on": "all"}}}, "did you mean updates_on?"),
    "a misspelt tolerance": ({"state": {"lag_tolerence": "1h"}}, "did you mean lag_tolerance?"),
    "a misspelt calendar": ({"meta": {"sao": {"windw": []}}}, "meta.sao has the unknown key windw"),
    "a window of nothing": ({"freshness": {"build_after": {"count": 0, "period": "day"}}}, "count is 0"),
    "a window of nothing, short": ({"state": {"lag_tolerance": "0s"}}, "state.lag_tolerance is 0"),
    "a window of nothing in the calendar": (
        {"meta": {"sao": {"window": [{"every": "0h"}]}}},
        "meta.sao.window.every is 0",
    ),
    "a time zone of nothing": ({"meta": {"sao": {"timezone": "Europe/Berlin"}}}, "meta.sao.timezone changes nothing"),
    "a negative window": ({"freshness": {"build_after": {"count": -1, "period": "hour"}}}, "negative"),
}


@pytest.mark.parametrize("case", WARNED)
def test_warned(case: str) -> None:
    config, words = WARNED[case]
    [warning] = read_policy(config, node="m")[1]
    assert warning.startswith("m: ")
    assert words in warning
    assert key_named(warning).partition(".")[0] in config


@pytest.mark.parametrize(
    "case",
    ["nothing", "a window", "null", "lag_tolerance", "each by itself: the window of one, the quorum of the other"],
)
def test_what_is_clear_is_not_warned_of(case: str) -> None:
    found = read_policy(POLICIES[case][0], node="m")[1]
    assert found == [] or case.startswith("each")


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ("m: state.lag_tolerance: '1' is not a duration", "state.lag_tolerance"),
        ("m: `freshness.build_after` must have a value for `count`", "freshness.build_after"),
        ("m: freshness.build_after has the unknown key cuont, which is not read", "freshness.build_after.cuont"),
        ("m: meta.sao.window: every: '1' is not a duration", "meta.sao.window"),
    ],
)
def test_a_message_names_its_key(said: str, key: str) -> None:
    assert key_named(said) == key


def test_keys_of_dbt_state_that_are_not_ours_are_not_warned_of() -> None:
    assert read_policy({"state": {"enabled": True, "pre_clone": False}}, node="m") == (Policy(), [])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("90s", 90),
        ("30m", 1800),
        ("12h", 43200),
        ("1d", 86400),
        ("2w", 1209600),
        ("1h30m", 5400),
        ("1d2h3m4s", 93784),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1", "1.5h", "-1h", "1h 30x", "1 hour", None, 60, True])
def test_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)

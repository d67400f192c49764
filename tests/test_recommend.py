"""What is proposed, where nothing is, and why; with the numbers of candidates worked out by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from sao_events.compare.recommend import Candidate, Proposal, groups, narrowed, recommend, together
from sao_events.compare.results import compare, variants
from sao_events.compare.snippet import build_after, snippet
from sao_events.compare.trace import Durations
from sao_events.compare.variant import Change, with_policies
from sao_events.core.nodes import Test as DataTest
from sao_events.core.policy import Policy, Settings, read_policy
from sao_events.core.windows import Calendar
from tests.compared import HOUR, node, project, trace

MART, BOOKS = "models/marts/mart.sql", "models/marts/finance/books.sql"
OFTEN = [minute / 60 for minute in range(10, 48 * 60, 10)]


def by_words(found: Proposal) -> dict[str, Candidate]:
    return {candidate.words: candidate for candidate in found.candidates}


def test_windows_of_a_source_that_lands_every_ten_minutes() -> None:
    over = trace(project(node("mart", "raw", path=MART)), 48, {"raw": OFTEN}, Durations(assumed=6.0))
    [found] = recommend(over, Settings())
    assert (found.group, found.nodes) == ("models/marts", ("mart",))
    known = by_words(found)
    assert list(known) == [
        "none",
        "10m",
        "20m",
        "30m",
        "1h",
        "3h",
        "6h",
        "12h",
    ]  # about 1, 2, 4 ... 64 times 10 minutes
    # Without a window 144 builds a day of 6 s each, with 1h 24, with 12h 2.
    assert [known[window].builds_a_day for window in ("none", "10m", "1h", "12h")] == [144, 144, 24, 2]
    assert known["1h"].seconds_a_day == 24 * 6
    assert known["12h"].most == pytest.approx(12 * HOUR - 600 + 6)  # the first landing waits for 11:50, then is built
    assert known["none"].most == 6
    # With a window of W minutes the age grows from 0 to W - 10: a mean of (W - 10)^2 / 2W minutes, 350 for 12h. As
    # shares of the ways from 144 to 2 builds and from 0 to 350 minutes, 1 - build time - age: 20m 0.50, 30m 0.66,
    # 1h 1 - 22/142 - 21/350 = 0.79, 3h 1 - 6/142 - 80/350 = 0.73.
    assert found.proposed is known["1h"]
    # 24 of 144 builds; 120 builds of 6 s are 12 minutes. The mean is a little more, for the 6 s that builds take.
    assert found.why == (
        "the knee: 83% less build time than without a window; "
        "against today 12 min less building a day, at a mean age of 20.9 min instead of 0 s"
    )


def test_todays_window_at_the_knee_is_kept() -> None:
    of = project(node("mart", "raw", path=MART, hours=1))
    [found] = recommend(trace(of, 48, {"raw": OFTEN}, Durations(assumed=6.0)), Settings())
    assert (found.proposed, found.why) == (None, "today's window is at the knee")
    assert found.today.words == "1h"
    assert found.today.builds_a_day == 24


def test_where_windows_save_nothing_none_is_proposed() -> None:
    over = trace(project(node("mart", "raw", path=MART)), 24 * 6, {"raw": [20, 50, 80, 110]})
    [found] = recommend(over, Settings())
    assert (found.proposed, found.why) == (None, "windows save next to nothing here")


def test_where_next_to_nothing_lands_nothing_is_said() -> None:
    over = trace(project(node("mart", "raw", path=MART)), 48, {"raw": [1, 2]})
    [found] = recommend(over, Settings())
    assert (found.candidates, found.proposed) == ((), None)
    assert found.why == "too little has landed to say anything"


def test_all_is_never_proposed_where_a_source_seldom_lands() -> None:
    of = project(node("mart", "raw.often", "raw.seldom", path=MART))
    over = trace(of, 48, {"raw.often": OFTEN, "raw.seldom": [7, 40]}, Durations(assumed=6.0))
    [found] = recommend(over, Settings())
    assert not any("all" in candidate.words for candidate in found.candidates)
    # After 7:00 the other lands at 7:10, and would wait for news of raw.seldom till 40:00: 32 hours and 50 minutes.
    assert found.quorum == "all is no choice: new data of others would wait for raw.seldom (up to 32.8 h)"


@pytest.mark.parametrize("seed", range(3))
def test_all_is_never_proposed_for_any_trace_with_a_seldom_source(seed: int) -> None:
    chance = random.Random(seed)
    of = project(node("int", "raw.a", path="models/int/int.sql"), node("mart", "int", "raw.b", path=MART))
    often = sorted(chance.uniform(0, 36) for _ in range(150))
    over = trace(of, 36, {"raw.a": often, "raw.b": sorted(chance.uniform(0, 36) for _ in range(chance.randrange(3)))})
    for found in recommend(over, Settings()):
        assert not any("all" in candidate.words for candidate in found.candidates)


def test_all_is_proposed_where_it_saves_builds_and_little_waits() -> None:
    # Two nightly loads, at 6:00 and 7:00. Without `all` each makes a build; a window of a day makes one, at 6:00, and
    # the second load waits for 23 hours. With `all` there is one build at 7:00, for which the first waits an hour.
    of = project(node("mart", "raw.a", "raw.b", path=MART))
    nights = {"raw.a": [24 * day + 6.0 for day in range(10)], "raw.b": [24 * day + 7.0 for day in range(10)]}
    [found] = recommend(trace(of, 240, nights, Durations(assumed=6.0)), Settings())
    assert list(by_words(found)) == ["none", "1d", "none all"]
    assert found.proposed is by_words(found)["none all"]
    assert found.proposed.builds_a_day == (1 + 10) / 10
    assert found.proposed.mean == pytest.approx(0.5 * HOUR / 24, rel=0.01)
    assert found.quorum.endswith(": proposed")


def test_all_is_not_proposed_where_it_saves_nothing() -> None:
    # The second lands four minutes after the first, every half hour: with a window of an hour or more each build at
    # its end sees both anyway, with `all` or without.
    first, second = [hour / 2 for hour in range(1, 96)], [hour / 2 + 1 / 15 for hour in range(1, 96)]
    of = project(node("mart", "raw.a", "raw.b", path=MART))
    [found] = recommend(trace(of, 48, {"raw.a": first, "raw.b": second}, Durations(assumed=6.0)), Settings())
    assert found.proposed is not None
    assert not found.proposed.words.endswith("all")
    assert found.quorum.endswith(": not worth it")


def test_folders_are_proposed_for_one_by_one_and_views_seeds_and_what_has_no_source_not_at_all() -> None:
    of = project(
        node("stg", "raw", kind="view", path="models/staging/stg.sql"),
        node("seed", kind="seed", path="seeds/seed.csv"),
        node("mart", "stg", path=MART),
        node("more", "stg", path="models/marts/more.sql"),
        node("books", "mart", path=BOOKS),
        node("top", "mart", path="models/top.sql"),
        node("still", "seed", path=MART),
        node("snap", "raw", kind="snapshot", path="snapshots/snap.yml"),
        node("loose", "raw"),
    )
    assert groups(of) == {
        "models/marts": ("mart", "more"),
        "loose": ("loose",),
        "models/marts/finance": ("books",),
        "models": ("top",),
    }


def test_only_what_has_to_do_with_a_folder_is_replayed_for_it() -> None:
    of = project(
        node("a", "raw.a"), node("b", "raw.b"), node("c", "raw.c"), node("ab", "a", "b"),
        tests=[DataTest("t", "t", ("ab",))],
    )  # fmt: skip
    over = narrowed(trace(of, 4, {"raw.a": [1], "raw.b": [2], "raw.c": [3]}), ["a"])
    assert list(over.project.graph.nodes) == ["a", "b", "ab"]
    assert list(over.landings()) == ["raw.a", "raw.b"]
    assert not over.project.graph.tests


def test_everything_proposed_together_is_one_more_policy() -> None:
    of = project(node("mart", "raw", path=MART), node("books", "mart", path=BOOKS))
    over = trace(of, 48, {"raw": OFTEN}, Durations(assumed=6.0))
    found = recommend(over, Settings())
    [today] = variants(over)
    both = together(today, found)
    [before, after] = compare(over, [today, both], Settings())
    assert after.name == "proposed"
    assert after.builds < before.builds
    windows = {name: each.policy.build_after for name, each in after.outcome.project.graph.nodes.items()}
    assert windows == {
        name: each.proposed.change.window if each.proposed and each.proposed.change else 0.0
        for each in found
        for name in each.nodes
    }


# As YAML


def candidate(window: float | None, quorum: str | None = None) -> Candidate:
    change = None if window is None else Change("", window, quorum)  # type: ignore[arg-type]
    return Candidate("", change, 0, 0, 0, 0, 0)


def proposal(group: str, nodes: Sequence[str], window: float | None, quorum: str | None = None) -> Proposal:
    proposed = None if window is None else candidate(window, quorum)
    return Proposal(group, tuple(nodes), candidate(None), (), proposed)


SHOP = project(
    node("mart", "raw", path=MART, hours=4),
    node("other", "raw", path="models/marts/other.sql", hours=4),
    node("own", "raw", path="models/marts/own.sql", hours=9),
    node("books", "mart", path=BOOKS, hours=12),
    node("loose", "raw"),
)


def block(count: int, period: str, **more: Any) -> dict[str, Any]:
    return {"build_after": {"count": count, "period": period, **more}}


def test_proposals_as_yaml_for_dbt() -> None:
    text = snippet(SHOP, [
        proposal("models/marts", ["mart", "other", "own"], 8 * HOUR, "all"),
        proposal("models/marts/finance", ["books"], None),
    ])  # fmt: skip
    marts = {"+freshness": block(8, "hour", updates_on="all"), "finance": {"+freshness": block(12, "hour")}}
    assert yaml.safe_load(text) == {"models": {"shop": {"marts": marts}}}
    assert "as it is today" in text
    assert "# another policy today, which stays where they declare it themselves: own\n" in text


def test_a_node_without_a_folder_is_proposed_by_name() -> None:
    text = snippet(SHOP, [proposal("loose", ["loose"], 900.0)])
    assert yaml.safe_load(text) == {"models": [{"name": "loose", "config": {"freshness": block(15, "minute")}}]}


def test_a_calendar_that_would_win_is_named() -> None:
    timed = with_policies(SHOP, {"mart": Policy(4 * HOUR, calendar=Calendar())})
    text = snippet(timed, [proposal("models/marts", ["mart", "other"], 8 * HOUR)])
    assert "# take the calendar out of meta.sao of these, it wins: mart\n" in text
    assert yaml.safe_load(text) == {"models": {"shop": {"marts": {"+freshness": block(8, "hour")}}}}


def test_no_proposal_no_yaml() -> None:
    assert snippet(SHOP, [proposal("models/marts", ["mart"], None)]) == ""


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (Policy(86400.0), "{build_after: {count: 1, period: day}}"),
        (Policy(90.0), "{build_after: {count: 2, period: minute}}"),
        (Policy(3600.0, "all"), "{build_after: {count: 1, period: hour, updates_on: all}}"),
        (Policy(0.0, "all"), "{build_after: {updates_on: all}}"),
        (Policy(), "{build_after: {updates_on: any}}"),
    ],
)
def test_a_window_as_dbt_writes_it(policy: Policy, text: str) -> None:
    assert build_after(policy) == text
    read, warnings = read_policy({"freshness": yaml.safe_load(text)}, node="m")
    assert (read.updates_on, warnings) == (policy.updates_on, [])
    assert 0 <= read.build_after - policy.build_after < 60

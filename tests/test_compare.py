"""Policies over a trace, with every number worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sao_events.compare import workers
from sao_events.compare.replay import Outcome, Replay
from sao_events.compare.results import RECORDED, TODAY, Result, compare, covered, notes, reference, values, variants
from sao_events.compare.trace import Durations, Trace
from sao_events.compare.variant import Change, Schedule, Variant, read_schedule
from sao_events.core import events as e
from sao_events.core.errors import UsageError
from sao_events.core.nodes import Test as DataTest
from sao_events.core.policy import Policy, Settings
from sao_events.ports import Draft
from tests.compared import DAY, HOUR, START, node, project, trace

HOURLY = [float(hour) for hour in range(1, 24)]
AS_IT_IS = Variant(TODAY)


def hours_of(outcome: Outcome, name: str) -> list[float]:
    return [(build.at - START) / HOUR for build in outcome.builds if build.node == name]


def run(over: Trace, variant: Variant = AS_IT_IS, settings: Settings | None = None, threads: int = 4) -> Result:
    [found] = compare(over, [variant], settings or Settings(), threads=threads)
    return found


def test_a_window_of_four_hours_over_an_hourly_source_builds_six_times_a_day() -> None:
    found = run(trace(project(node("mart", "raw", hours=4)), 24, {"raw": HOURLY}))
    assert hours_of(found.outcome, "mart") == [0, 4, 8, 12, 16, 20]
    # Of each 4 hours the first is without waiting data, then the oldest landing waits for up to 3 hours: an area of
    # 3 * 3 / 2 = 4.5 hours squared in 4 hours. At most x hours old for 1 + x of 4 hours: 95 % at x = 2.8.
    assert found.ages.seconds == DAY
    assert found.ages.mean == pytest.approx(4.5 / 4 * HOUR)
    assert found.ages.quantile(0.95) == pytest.approx(2.8 * HOUR)
    assert found.ages.most == pytest.approx(3 * HOUR)


def test_no_window_and_no_build_time_means_no_age() -> None:
    found = run(trace(project(node("mart", "raw")), 24, {"raw": HOURLY}))
    assert found.builds == 24
    assert (found.ages.mean, found.ages.quantile(0.95), found.ages.most) == (0, 0, 0)


def test_what_lands_shows_when_the_build_ends() -> None:
    over = trace(project(node("mart", "raw")), 10, {"raw": [2, 5]}, Durations({"mart": 1800}))
    found = run(over)
    assert hours_of(found.outcome, "mart") == [0, 2, 5]
    # Served from 0:30 on, for 9.5 hours; twice the age grows to half an hour: 2 * 0.5 * 0.5 / 2 = 0.25 hours squared.
    assert found.ages.seconds == 9.5 * HOUR
    assert found.ages.mean == pytest.approx(0.25 / 9.5 * HOUR)
    assert found.ages.most == 0.5 * HOUR
    assert (found.seconds, found.wall) == (3 * 1800, 3 * 1800)


def test_what_lands_during_a_build_waits_for_the_next() -> None:
    found = run(trace(project(node("mart", "raw", hours=3)), 10, {"raw": [4, 4.5]}, Durations({"mart": HOUR})))
    assert hours_of(found.outcome, "mart") == [0, 4, 7]
    # From 4:00 to 5:00 the first landing waits; the build that began before 4:30 leaves the second: till 8:00.
    assert found.ages.grown == [(0, HOUR), (0.5 * HOUR, 3.5 * HOUR)]


def test_data_is_as_old_as_the_oldest_of_what_it_is_made_of() -> None:
    # `mart` reads raw twice: by `slow`, built every 6 hours, and by `fast`.
    of = project(node("slow", "raw", hours=6), node("fast", "raw"), node("mart", "slow", "fast"))
    found = run(trace(of, 12, {"raw": [1, 2]}))
    assert hours_of(found.outcome, "slow") == [0, 6]
    assert hours_of(found.outcome, "mart") == [0, 1, 2, 6]
    ages = {each.name: each.ages for each in found.nodes}
    assert ages["fast"].most == 0
    assert ages["slow"].grown == ages["mart"].grown
    assert ages["mart"].most == 5 * HOUR  # what landed at 1:00 is missing in a part of it till 6:00


def test_views_show_their_sources_and_have_no_age_of_their_own() -> None:
    of = project(node("view", "raw", kind="view"), node("mart", "view", hours=2))
    found = run(trace(of, 6, {"raw": [1]}))
    assert [each.name for each in found.nodes] == ["mart"]
    assert found.ages.grown == [(0, HOUR)]
    assert hours_of(found.outcome, "view") == [0]


def test_a_fixed_schedule_builds_everything_each_time() -> None:
    of = project(node("view", "raw", kind="view"), node("mart", "view", hours=4), node("seed", kind="seed"))
    over = trace(of, 24, {"raw": [0.5, 1.5]}, Durations({"view": 1.0, "seed": 2.0, "mart": 57.0}))
    found = run(over, Variant("every 6h", schedule=Schedule(6 * HOUR)))
    assert hours_of(found.outcome, "view") == hours_of(found.outcome, "seed") == [0, 6, 12, 18]
    assert hours_of(found.outcome, "mart") == [hour + 1 / 3600 for hour in (0, 6, 12, 18)]
    assert (found.builds, found.reuses, found.seconds) == (12, 0, 4 * 60)
    assert found.wall == pytest.approx(4 * 58)  # the mart waits for the view, the seed is loaded beside it


def test_a_schedule_can_start_at_a_time_of_day() -> None:
    schedule = Schedule(DAY, at=6 * 3600)
    assert [(at - START) / HOUR for at in schedule.instants(START, START + 2 * DAY)] == [6, 30]
    assert [(at - START) / HOUR for at in schedule.instants(START + 7 * HOUR, START + 2 * DAY)] == [30]


def test_threads_bound_what_is_built_at_once() -> None:
    of = project(*(node(f"m{number}", "raw") for number in range(4)))
    over = trace(of, 1, {}, Durations(assumed=60.0))
    assert [run(over, threads=threads).wall for threads in (1, 2, 3, 4)] == [240, 120, 120, 60]
    assert run(over, threads=1).seconds == 240


def test_a_node_waits_for_the_tests_of_what_it_reads_as_in_dbt_build() -> None:
    of = project(
        node("a", "raw"),
        node("b", "a"),
        node("c", "raw"),
        tests=[DataTest("t", "t", ("a",)), DataTest("u", "u", ("a", "c"))],
    )
    over = trace(of, 1, {}, Durations({"a": 10, "b": 10, "c": 100}, {"t": 5, "u": 3}))
    found = run(over)
    assert found.tests == 2
    assert [build.at - START for build in found.outcome.builds if build.node == "b"] == [15]
    assert found.wall == 103  # c, then the test that reads a and c, which b does not wait for


def test_reuses_count_the_nodes_left_alone_at_each_evaluation() -> None:
    of = project(node("a", "raw.a"), node("b", "raw.b"), node("both", "a", "b", hours=6))
    found = run(trace(of, 9, {"raw.a": [1, 2], "raw.b": [3]}))
    # 0:00 all three are built. 1:00 and 2:00 a, 3:00 b; two are left alone each time. 6:00, the end of the window:
    # `both`, two are left alone.
    assert [(each.at - START, each.node) for each in found.outcome.builds[3:]] == [
        (HOUR, "a"), (2 * HOUR, "a"), (3 * HOUR, "b"), (6 * HOUR, "both"),
    ]  # fmt: skip
    assert (found.outcome.evaluations, found.reuses) == (5, 8)


def test_settings_hold_in_a_replay() -> None:
    of = project(node("a", "raw"))
    found = run(trace(of, 9, {"raw": [1, 1.25]}), settings=Settings(settle=1800))
    assert hours_of(found.outcome, "a") == [0.5, 1.5]  # the project's arrival settles too
    jobs_only = run(trace(of, 9, {"raw": [1]}), settings=Settings(trigger="jobs"))
    assert jobs_only.builds == 0


def test_today_with_changes() -> None:
    of = project(node("a", "raw", hours=1), node("b", "raw", hours=4))
    over = trace(of, 8, {"raw": [1, 2, 3, 4, 5, 6, 7]})
    [today, changed] = compare(over, variants(over, changes=[("b as a", (Change("b", 3600.0),))]), Settings())
    assert [today.name, changed.name] == ["today", "b as a"]
    assert hours_of(today.outcome, "b") == [0, 4]
    assert hours_of(changed.outcome, "b") == hours_of(changed.outcome, "a") == [0, 1, 2, 3, 4, 5, 6, 7]
    lost = variants(over, changes=[("x", (Change("marts", 1.0),))])
    with pytest.raises(UsageError, match="no node has the name"):
        compare(over, lost, Settings())


def test_a_policy_that_was_another_once_is_shown_beside_todays() -> None:
    before, after = project(node("a", "raw")), project(node("a", "raw", hours=6))
    over = trace(before, 12, {"raw": [1, 2, 3, 7, 8]})
    loaded = Draft(e.ProjectLoaded("q"), START + 6.5 * HOUR)
    happenings = tuple(sorted([*over.happenings, loaded], key=lambda draft: draft.at))
    over = replace(over, happenings=happenings, projects={"p": before, "q": after})
    policies = variants(over)
    assert [policy.name for policy in policies] == [TODAY, RECORDED]
    [today, recorded] = compare(over, policies, Settings())
    assert hours_of(today.outcome, "a") == [0, 6]
    assert hours_of(recorded.outcome, "a") == [0, 1, 2, 3, 9]


def test_what_was_on_record_before_is_where_a_replay_begins() -> None:
    of = project(node("a", "raw", hours=4))
    whole = Replay(trace(of, 24, {"raw": HOURLY}), AS_IT_IS, Settings())
    first = whole.run()
    log = whole.store.read()
    middle = START + 10 * HOUR
    over = trace(of, 24, {"raw": HOURLY})
    later = tuple(draft for draft in over.happenings if draft.at >= middle)
    second = run(replace(over, start=middle, happenings=later, before=tuple(item for item in log if item.at < middle)))
    assert second.outcome.builds == [build for build in first.builds if build.at >= middle]
    assert second.ages.seconds == 14 * HOUR
    # From 10:00 to 12:00 what landed at 9:00 waits; then as ever.
    assert second.ages.grown[0] == (HOUR, 3 * HOUR)


def test_a_schedule_that_cannot_keep_up_is_named() -> None:
    of = project(node("a", "raw"))
    over = trace(of, 10, {"raw": [1]}, Durations({"a": 3 * HOUR}))
    found = compare(over, [Variant("every 1h", schedule=Schedule(HOUR))], Settings())
    # Of ten jobs those of 0, 1, 2 and 3 have begun, at 0, 3, 6 and 9.
    assert found[0].outcome.unfinished == 6
    assert any("every 1h: at the end 6 scheduled builds had not begun" in note for note in notes(over, found))


def test_the_values_are_the_numbers() -> None:
    of = project(node("mart", "raw", hours=4), node("lone", "still"))
    over = trace(of, 24, {"raw": HOURLY}, Durations({"mart": 0.0}, assumed=2.0))
    results = compare(over, variants(over, baselines=[("every 1h", Schedule(HOUR))]), Settings())
    told = values(over, results)
    assert told["start"] == "2026-01-05T00:00:00.000Z"
    assert told["landings"] == 23
    assert [note.partition(":")[0] for note in told["notes"]] == [
        "for 1 of 2 nodes no build time is known", "no data lands in still",
    ]  # fmt: skip
    today, hourly = told["policies"]
    assert reference(results) is results[1]
    assert (today["builds"], today["build_seconds"], hourly["builds"], hourly["build_seconds"]) == (7, 2.0, 48, 48.0)
    assert today["saved"] == pytest.approx(1 - 2 / 48, abs=1e-4)
    mart = next(each for each in today["nodes"] if each["node"] == "mart")
    assert mart["staleness"] == {"mean_seconds": 4050.0, "p95_seconds": 10080.0, "max_seconds": 10800.0}


@pytest.mark.parametrize(
    ("stretches", "seconds"), [([], 0), ([(0, 5), (2, 3)], 5), ([(4, 6), (0, 5)], 6), ([(0, 1), (2, 3)], 2)]
)
def test_time_that_two_share_counts_once(stretches: Sequence[tuple[float, float]], seconds: float) -> None:
    assert covered(stretches) == seconds


def test_policies_of_nodes_that_today_does_not_know_stay_as_they_were() -> None:
    variant = Variant("v", {"a": Policy(60.0)})
    made = variant.over(project(node("a", "raw"), node("b", "raw", hours=1)))
    assert {name: each.policy.build_after for name, each in made.graph.nodes.items()} == {"a": 60.0, "b": HOUR}


def test_side_by_side_comes_out_as_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    over = trace(project(node("mart", "raw", hours=4), node("books", "mart")), 24, {"raw": HOURLY})
    policies = variants(over, baselines=[("every 1h", Schedule(HOUR))])
    alone = compare(over, policies, Settings())
    monkeypatch.setattr(workers, "ENOUGH", 0)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert values(over, compare(over, policies, Settings())) == values(over, alone)
    lost = [*policies, Variant("lost", changes=(Change("marts", 1.0),))]
    with pytest.raises(UsageError, match=r"no node has the name(.|\n)*did you mean mart"):
        compare(over, lost, Settings())


def test_an_error_in_a_worker_is_raised_with_its_hint() -> None:
    with pytest.raises(UsageError, match=r"'x' is no schedule\n  write 'every 1h'"):
        workers.spread(read_schedule, ["every 1h", "x"], size=workers.ENOUGH, workers=2)

"""Ages over time, exactly: against sums done by hand and against the definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sao_events.compare.staleness import KEPT, Ages, Point, Tracker, ages
from tests.compared import node, project

STRETCH = st.tuples(st.integers(0, 50), st.integers(1, 50)).map(lambda pair: (float(pair[0]), float(sum(pair))))


def below(found: Ages, age: float) -> float:
    """For how long the age was at most `age`."""
    return found.fresh + sum(min(max(age - since, 0.0), to - since) for since, to in found.grown)


@given(st.integers(0, 100), st.lists(STRETCH, max_size=8), st.floats(0, 1))
def test_a_quantile_is_the_least_age_that_is_not_exceeded_for_that_share(
    fresh: int, grown: list[tuple[float, float]], share: float
) -> None:
    found = Ages(float(fresh), grown)
    quantile = found.quantile(share)
    assert below(found, quantile) >= share * found.seconds - 1e-6
    if quantile > 0.001:
        assert below(found, quantile - 0.001) < share * found.seconds + 1e-6
    assert quantile <= found.most


@given(st.integers(0, 100), st.lists(STRETCH, max_size=8))
def test_the_mean_is_what_sampling_comes_near_to(fresh: int, grown: list[tuple[float, float]]) -> None:
    found = Ages(float(fresh), grown)
    samples = [0.0] * fresh + [since + step + 0.5 for since, to in grown for step in range(int(to - since))]
    assert found.seconds == len(samples)
    assert found.mean == pytest.approx(sum(samples) / len(samples) if samples else 0.0)


def test_no_time_has_no_age() -> None:
    assert (Ages().mean, Ages().quantile(0.95), Ages().most, Ages().seconds) == (0, 0, 0, 0)
    assert ages([], 0, 10).seconds == 0


def test_points_outside_the_time_are_cut_off() -> None:
    points = [Point(2, None), Point(4, 4), Point(9, 7), Point(12, None)]
    found = ages(points, 5, 10)
    assert (found.fresh, found.grown) == (0, [(1, 5), (2, 3)])
    assert ages(points, 0, 20).seconds == 18  # nothing is served before 2
    assert ages(points, 12, 20).fresh == 8


def of_two_readers() -> Tracker:
    """A tracker of `slow` and of `mart`, which reads it."""
    tracker = Tracker()
    tracker.load(project(node("slow", "raw"), node("mart", "slow"), node("view", "raw", kind="view")).graph)
    return tracker


def test_a_reader_that_saw_an_older_version_shows_what_that_showed() -> None:
    tracker = of_two_readers()
    tracker.landed("raw", 10, 1)
    tracker.began("slow", {"raw": 0})
    tracker.built("slow", 1, 11)
    tracker.began("slow", {"raw": 1})
    tracker.built("slow", 2, 12)
    tracker.began("mart", {"slow": 1})
    tracker.built("mart", 1, 13)
    assert tracker.points["slow"] == [Point(11, 10), Point(12, None)]
    assert tracker.points["mart"] == [Point(13, 10)]


def test_a_landing_that_brings_nothing_new_makes_nothing_old() -> None:
    tracker = of_two_readers()
    tracker.began("slow", {"raw": 0})
    tracker.built("slow", 1, 0)
    tracker.landed("raw", 5, 0)
    assert tracker.points["slow"] == [Point(0, None)]


def test_what_is_not_known_is_taken_from_the_oldest_that_is() -> None:
    tracker = of_two_readers()
    for version in range(1, KEPT + 4):
        tracker.landed("raw", version, version)
        tracker.began("slow", {"raw": version})
        tracker.built("slow", version, version)
    tracker.began("mart", {"slow": 1})
    tracker.built("mart", 1, 100)
    assert tracker.points["mart"] == [Point(100, 5)]  # versions 4 to 11 are kept: 4 lacks what landed at 5


def test_a_node_that_no_longer_reads_a_source_does_not_wait_for_it() -> None:
    tracker = of_two_readers()
    tracker.began("slow", {"raw": 0})
    tracker.built("slow", 1, 0)
    tracker.load(project(node("slow", "other")).graph)
    tracker.began("slow", {"other": 0})
    tracker.built("slow", 2, 1)
    tracker.landed("raw", 5, 1)
    assert tracker.points["slow"] == [Point(0, None)]


def test_builds_of_views_and_ends_without_a_beginning_are_left_out() -> None:
    tracker = of_two_readers()
    tracker.began("view", {"raw": 0})
    tracker.built("view", 1, 0)
    tracker.built("mart", 1, 0)
    tracker.began("unheard_of", {})
    tracker.built("unheard_of", 1, 0)
    assert tracker.points == {}

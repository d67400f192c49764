"""The picture: well-formed, with everything in it, and where the numbers say."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from sao_events.compare.chart import draw
from sao_events.compare.drawing import cut, span, ticks
from sao_events.compare.results import Result, compare, variants
from sao_events.compare.trace import Durations, Trace
from sao_events.compare.variant import Change, Schedule
from sao_events.core.policy import Settings
from tests.compared import DAY, HOUR, node, project, trace

SVG = "{http://www.w3.org/2000/svg}"
SHOP = project(node("mart <1>", "raw", hours=4), node("other", "mart <1>"))
OVER = trace(SHOP, 24, {"raw": range(1, 24)}, Durations(assumed=60.0))


def results(over: Trace = OVER) -> list[Result]:
    changes = [("all & more", (Change("*", 12 * HOUR),))]
    return compare(over, variants(over, baselines=[("every 1h", Schedule(HOUR))], changes=changes), Settings())


def drawn(over: Trace = OVER) -> ET.Element:
    return ET.fromstring(draw(over, results(over)))  # noqa: S314 - our own text


def words(root: ET.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def test_it_names_every_policy_and_node() -> None:
    found = words(drawn())
    for name in ("today", "every 1h", "all & more"):
        assert found.count(name) == 3  # at its dot, in the figures, over its rows
    assert found.count("mart <1>") == found.count("other") == 3


def test_the_figures_are_the_numbers() -> None:
    found = words(drawn())
    row = found[found.index("builds") :]  # the head of the table, then its rows
    place = row.index("today")
    assert row[place + 1 : place + 3] == ["12", "12 min"]  # two nodes, six times a day, a minute each


def test_dots_stand_where_cost_and_age_say() -> None:
    dots = {dot.find(f"{SVG}title").text.partition(":")[0]: dot for dot in drawn().iter(f"{SVG}circle")}  # type: ignore[union-attr]
    cheap, dear = float(dots["all & more"].get("cx", 0)), float(dots["every 1h"].get("cx", 0))
    assert cheap < float(dots["today"].get("cx", 0)) < dear
    assert (
        float(dots["all & more"].get("cy", 0))
        < float(dots["today"].get("cy", 0))
        < float(dots["every 1h"].get("cy", 0))
    )


def test_everything_is_on_the_page() -> None:
    root = drawn()
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x", -1)) <= width
        assert 0 <= float(text.get("y", -1)) <= height
    for box in root.iter(f"{SVG}rect"):
        assert float(box.get("x", 0)) + float(box.get("width", 0)) <= width


def test_a_long_trace_shows_its_last_days_and_many_nodes_the_dearest() -> None:
    many = project(*(node(f"n{number:02}", "raw") for number in range(30)))
    dear = {f"n{number:02}": float(number) for number in range(30)}
    over = trace(many, 24 * 9, {"raw": [24.0 * day for day in range(1, 9)]}, Durations(dear))
    root = ET.fromstring(draw(over, compare(over, variants(over), Settings())))  # noqa: S314
    found = words(root)
    assert "the 16 of 30 with most build time, the last 7 days" in " ".join(found)
    assert "n29" in found
    assert "n13" not in found
    assert "Wed 07 Jan" in found
    assert "Tue 06 Jan" not in found


def test_nothing_to_show_is_a_picture_too() -> None:
    over = trace(project(node("a", "raw")), 1, {})
    ET.fromstring(draw(over, []))  # noqa: S314
    ET.fromstring(draw(over, compare(over, variants(over), Settings(trigger="jobs"))))  # noqa: S314


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (99.4, "99 s"),
        (600, "10 min"),
        (5400, "90 min"),
        (4 * HOUR, "4 h"),
        (2.5 * HOUR, "2.5 h"),
        (9 * DAY, "9 d"),
    ],
)
def test_lengths_of_time_in_words(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_ticks_are_round_and_few() -> None:
    assert ticks(5 * HOUR) == [0, HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR, 5 * HOUR]
    assert ticks(0.5) == [0]
    assert len(ticks(400 * DAY)) <= 15


def test_long_words_are_cut() -> None:
    assert cut("short", 5) == "short"
    assert cut("longer", 5) == "long…"

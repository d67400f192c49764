"""The comparison as a picture (SVG): what each policy costs against how old the data is, and when each node was built.

Nothing is needed to show it but a browser. Colours of the timeline are the mean age of the data within a column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from sao_events.compare.drawing import INK, PALE, WIDTH, Drawing, cut, span, ticks
from sao_events.compare.results import P95, NodeResult, Result
from sao_events.compare.staleness import Ages, ages
from sao_events.compare.trace import Trace
from sao_events.core import events as e

MARGIN, NAMES, COUNTS = 32.0, 210.0, 44.0
ROW, GAP, COLUMN = 14.0, 3.0, 2.0
ROWS, DAYS = 16, 7.0
POLICY_COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
BUILD = "#111827"
Box = tuple[float, float, float, float]
LEVELS = (
    (60, "#e8f5ec", "fresh"),
    (900, "#fdf3cf", "to 15 min"),
    (3600, "#fbd98a", "to 1 h"),
    (4 * 3600, "#f5a85c", "to 4 h"),
    (12 * 3600, "#e4703f", "to 12 h"),
    (86400, "#bf3a2b", "to 1 d"),
    (float("inf"), "#7a1420", "more"),
)


def draw(trace: Trace, results: Sequence[Result]) -> str:
    """The picture as the text of an SVG file."""
    drawing = Drawing()
    title = f"{trace.project.name}: {len(results)} policies over {_days(trace.days)}"
    landed = sum(isinstance(item.event, e.DataLanded) for item in trace.happenings)
    drawing.text(MARGIN, 40, title, size=20, bold=True)
    drawing.text(MARGIN, 60, f"from {_date(trace.start)} to {_date(trace.until)} UTC, {landed} landings", colour=PALE)
    _scatter(drawing, results, 96, 300)
    _figures(drawing, results, 96)
    y = _timelines(drawing, trace, results, max(470.0, 150 + 24.0 * len(results)))
    return drawing.page(y + 20, title)


# Cost against age


def _scatter(drawing: Drawing, results: Sequence[Result], top: float, height: float) -> None:
    left, right = MARGIN + 62, 560.0
    bottom = top + height
    most_x = max((each.seconds / each.days for each in results), default=0.0) * 1.12 or 1.0
    most_y = max((each.ages.quantile(P95) for each in results), default=0.0) * 1.12 or 1.0
    drawing.text(
        MARGIN, top - 10, "age of the data served: mean, and up to what 95 % of the time stays below", bold=True
    )
    for tick in ticks(most_x):
        x = left + tick / most_x * (right - left)
        drawing.line(x, top, x, bottom)
        drawing.text(x, bottom + 18, span(tick), size=11, colour=PALE, anchor="middle")
    for tick in ticks(most_y):
        y = bottom - tick / most_y * height
        drawing.line(left, y, right, y)
        drawing.text(left - 8, y + 4, span(tick), size=11, colour=PALE, anchor="end")
    drawing.text((left + right) / 2, bottom + 38, "build time for a day", colour=INK, anchor="middle", bold=True)
    dots: list[Box] = []
    lines: list[Box] = []
    for number, each in enumerate(results):
        x = left + each.seconds / each.days / most_x * (right - left)
        mean, high = (bottom - value / most_y * height for value in (each.ages.mean, each.ages.quantile(P95)))
        colour = POLICY_COLOURS[number % len(POLICY_COLOURS)]
        drawing.line(x, mean, x, high, colour, 2.5)
        drawing.line(x - 5, high, x + 5, high, colour, 2.5)
        said = f"{each.name}: {span(each.seconds / each.days)} of building a day, mean age {span(each.ages.mean)}"
        drawing.dot(x, mean, 6, colour, said)
        dots.append((x - 7, mean - 7, x + 7, mean + 7))
        lines.append((x - 6, high - 3, x + 6, mean))
    labels = dots + lines
    for number, (each, dot) in enumerate(zip(results, dots, strict=True)):
        box = _free(dot, 6.6 * len(each.name), labels, right)
        labels.append(box)
        drawing.text(box[0], box[3] - 3, each.name, colour=POLICY_COLOURS[number % len(POLICY_COLOURS)])


def _free(dot: Box, width: float, taken: Sequence[Box], right: float) -> Box:
    """The place nearest to the dot that has room for a label."""
    places = [
        (x, y, x + width, y + 13)
        for up in (0, 16, 32, 48, 64)
        for y in (dot[1] - up, dot[1] + up / 2)
        for x in (dot[2] + 3, dot[0] - width - 3)
    ]
    inside = [place for place in places if place[2] < right + 20] or places
    return next((place for place in inside if not any(_overlap(place, other) for other in taken)), inside[0])


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _figures(drawing: Drawing, results: Sequence[Result], top: float) -> None:
    left = 610.0
    places = (left + 240, left + 325, left + 413, left + 486, left + 558)
    for x, words in zip(places, ("builds", "time a day", "mean age", "p95", "most"), strict=True):
        drawing.text(x, top - 10, words, size=11, colour=PALE, anchor="end")
    drawing.line(left, top, WIDTH - MARGIN, top)
    for number, each in enumerate(results):
        y = top + 24 * number + 18
        drawing.box(left, y - 9, 10, 10, POLICY_COLOURS[number % len(POLICY_COLOURS)])
        drawing.text(left + 18, y, cut(each.name, 28), bold=True)
        told = (f"{each.builds}", span(each.seconds / each.days), span(each.ages.mean), span(each.ages.quantile(P95)),
                span(each.ages.most))  # fmt: skip
        for x, words in zip(places, told, strict=True):
            drawing.text(x, y, words, anchor="end")


# When each node was built


def _timelines(drawing: Drawing, trace: Trace, results: Sequence[Result], top: float) -> float:
    start = max(trace.start, trace.until - DAYS * 86400)
    left, right = MARGIN + NAMES, WIDTH - MARGIN - COUNTS
    scale = (right - left) / (trace.until - start)
    shown = _shown(results)
    whole = len(results[0].nodes) if results else 0
    words = "builds (marks) and age of the data (colour) of each node"
    part = "" if len(shown) == whole else f", the {len(shown)} of {whole} with most build time"
    last = "" if start == trace.start else f", the last {DAYS:g} days"
    drawing.text(MARGIN, top, words + part + last, bold=True)
    _legend(drawing, WIDTH - MARGIN, top)
    y = _landings(drawing, trace, start, scale, top + 20)
    for number, each in enumerate(results):
        drawing.box(MARGIN, y + 6, 10, 10, POLICY_COLOURS[number % len(POLICY_COLOURS)])
        drawing.text(MARGIN + 18, y + 15, each.name, bold=True)
        drawing.text(WIDTH - MARGIN, y + 15, "builds", size=11, colour=PALE, anchor="end")
        y = _rows(drawing, each, shown, start, scale, y + 24)
    for at in _days_between(start, trace.until):
        x = left + (at - start) * scale
        drawing.line(x, top + 12, x, y + 4, "#9aa5b1", 0.6)
        drawing.text(x + 3, y + 14, datetime.fromtimestamp(at, UTC).strftime("%a %d %b"), size=11, colour=PALE)
    return y + 20


def _shown(results: Sequence[Result]) -> list[str]:
    cost: dict[str, float] = {}
    for each in results:
        for node in each.nodes:
            cost[node.node] = cost.get(node.node, 0.0) + node.seconds
    chosen = set(sorted(cost, key=lambda name: -cost[name])[:ROWS])
    return [name for name in cost if name in chosen]


def _landings(drawing: Drawing, trace: Trace, start: float, scale: float, top: float) -> float:
    drawing.text(MARGIN + NAMES - 8, top + ROW - 3, "landings", size=11, colour=PALE, anchor="end")
    instants = (at for landings in trace.landings().values() for at in landings if at >= start)
    drawing.bars(_marks(instants, start, scale, top, ROW), "#64748b")
    return top + ROW + 8


def _rows(drawing: Drawing, each: Result, shown: Sequence[str], start: float, scale: float, top: float) -> float:
    left = MARGIN + NAMES
    shapes: dict[str, list[str]] = {}
    marks: list[str] = []
    known = {node.node: node for node in each.nodes}
    y = top
    for name in (name for name in shown if name in known):
        drawing.text(left - 8, y + ROW - 4, cut(known[name].name, 30), size=11, colour=INK, anchor="end")
        for x, width, colour in _bands(each, known[name], start, scale):
            shapes.setdefault(colour, []).append(_box(left + x, y, width, ROW))
        drawing.text(WIDTH - MARGIN, y + ROW - 4, str(known[name].builds), size=11, colour=PALE, anchor="end")
        marks += _marks((build.at for build in each.outcome.builds if build.node == name), start, scale, y + 3, ROW - 6)
        y += ROW + GAP
    for colour, boxes in shapes.items():
        drawing.bars(boxes, colour)
    drawing.bars(marks, BUILD)
    return y + 8


def _bands(each: Result, node: NodeResult, start: float, scale: float) -> list[tuple[float, float, str]]:
    """Stretches of one colour as (x, width, colour), the mean age taken column by column."""
    points = each.outcome.points.get(node.node, [])
    seconds = COLUMN / scale
    columns = round((each.outcome.until - start) / seconds)
    found: list[tuple[float, float, str]] = []
    place = 0
    for column in range(columns):
        since = start + column * seconds
        while place + 1 < len(points) and points[place + 1].at <= since:
            place += 1
        until = since + seconds
        near = []
        for point in points[place:]:
            if point.at >= until:
                break
            near.append(point)
        within = ages(near, since, until)
        if not within.seconds:
            continue
        colour = _level(within)
        if found and found[-1][2] == colour and abs(found[-1][0] + found[-1][1] - column * COLUMN) < 0.01:
            found[-1] = (found[-1][0], found[-1][1] + COLUMN, colour)
        else:
            found.append((column * COLUMN, COLUMN, colour))
    return found


def _level(within: Ages) -> str:
    mean = within.mean
    return next(colour for most, colour, _ in LEVELS if mean <= most)


def _legend(drawing: Drawing, right: float, top: float) -> None:
    x = right
    for _, colour, words in reversed(LEVELS):
        width = 26 + 6.2 * len(words)
        x -= width
        drawing.box(x, top - 10, 12, 12, colour)
        drawing.text(x + 16, top, words, size=11, colour=PALE)


def _marks(instants: Iterable[float], start: float, scale: float, y: float, height: float) -> list[str]:
    """A mark for each instant; those that would stand on one another are one."""
    columns = dict.fromkeys(round((at - start) * scale * 2) / 2 for at in instants if at >= start)
    return [_box(MARGIN + NAMES + x - 0.5, y, 1, height) for x in columns]


def _box(x: float, y: float, width: float, height: float) -> str:
    return f"M{x:g} {y:g}h{width:g}v{height:g}h{-width:g}z"


# Words


def _days(days: float) -> str:
    return f"{days:.3g} day" + ("" if days == 1 else "s")


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def _days_between(start: float, until: float) -> list[float]:
    day = datetime.fromtimestamp(start, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    found = []
    while day.timestamp() < until:
        if day.timestamp() >= start:
            found.append(day.timestamp())
        day += timedelta(days=1)
    return found

"""The page at `/`: what is on record at a glance, rendered here, complete without JavaScript."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from sao_events import report
from sao_events.deliveries import delivery_object, unmatched
from sao_events.report.explain import reason_text
from sao_events.report.spared import cutoff_text
from sao_events.web.answers import Problem
from sao_events.web.backend import Backend

RUNS, EVENTS, DELIVERIES = 15, 40, 10
LEVELS = {"accepted": "good", **dict.fromkeys(("unmatched", "waiting"), "wait")}
LEVELS |= dict.fromkeys(("conflict", "invalid", "rejected"), "failed")
STATIC = {"style.css": "text/css", "live.js": "text/javascript"}
STATES = ("failed", "building", "blocked", "build", "wait", "reuse")  # what needs looking at comes first
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class Page:
    """Renders the page, and hands out its stylesheet and script."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        templates = Environment(
            loader=PackageLoader("sao_events.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        templates.filters |= {"span": span, "reason": reason_text, "clock": clock, "reasons": reasons, "state": state}
        templates.filters |= {"told_by": told_by, "limits": limits}
        self.template = templates.get_template("page.html")
        folder = files("sao_events.web") / "static"
        self.static = {name: (folder / name).read_bytes() for name in STATIC}

    def show(self, request: Request) -> Response:
        """The whole page; `show` keeps the nodes of one state."""
        find = self.backend.store.find
        with self.backend.view() as view:
            status, known = report.status(view), report.names(view.project)
        events = [report.event_object(item, known) for item in find(limit=EVENTS)]
        runs = report.runs(find, RUNS)
        counts = Counter(map(state, status["nodes"]))
        chosen = request.query_params.get("show")
        text = self.template.render(
            status=status,
            health=health(status),
            counts={name: counts[name] for name in STATES if counts[name]},
            chosen=chosen if chosen in STATES else None,
            nodes=[node for name in _states(chosen) for node in status["nodes"] if state(node) == name],
            held=[source for source in status["sources"] if source["held"]],
            unmatched=unmatched(self.backend.store),
            runs=runs,
            events=events,
            deliveries=[delivery_object(item) for item in self.backend.store.deliveries(limit=DELIVERIES)],
            levels=LEVELS,
            now=_epoch(status["at"]),
            epoch=_epoch,
            names=known,
            cutoff_text=cutoff_text,
        )
        return HTMLResponse(text, headers={"cache-control": "no-store"})

    def file(self, request: Request) -> Response:
        """The stylesheet or the script."""
        name = request.path_params["name"]
        if name not in self.static:
            raise Problem(404, "there is no such file")
        body = self.static[name]
        tag = f'"{sha256(body).hexdigest()[:16]}"'
        headers = {"cache-control": "no-cache", "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=STATIC[name])


def health(status: Mapping[str, Any]) -> dict[str, str]:
    """The line that says how things are: its `level` (error, failed, building, empty, good), its `text`, and `more`."""
    count, rejected = Counter(map(state, status["nodes"])), status["rejected"]
    parts = [f"{count[word]} {word}" for word in ("building", "failed", "blocked") if count[word]]
    if status["error"]:
        return {"level": "error", "text": "Error", "more": status["error"]}
    if rejected:
        return {
            "level": "error",
            "text": "The newest code was refused; the one before stays in force",
            "more": rejected["error"],
        }
    if parts:
        level = "failed" if count["failed"] or count["blocked"] else "building"
        return {"level": level, "text": ", ".join(parts), "more": ""}
    if status["state"] == "empty":
        return {"level": "empty", "text": "No project is loaded yet", "more": ""}
    return {"level": "good", "text": "All good", "more": ""}


def state(node: Mapping[str, Any]) -> str:
    """What a node is shown as: `building` or `failed`, otherwise the action that was decided."""
    return "building" if node["running"] else "failed" if node["failure"] else node["action"]


def _states(chosen: str | None) -> tuple[str, ...]:
    return (chosen,) if chosen in STATES else STATES


def span(seconds: float | None) -> str:
    """A length of time in its largest unit, or its two largest where the first is small: `3 min`, `1 h 20 min`."""
    if seconds is None:
        return ""
    left = max(0, round(seconds))
    for index, (size, unit) in enumerate(_UNITS):
        if left >= size:
            whole, rest = divmod(left, size)
            smaller, name = _UNITS[index + 1] if index + 1 < len(_UNITS) else (1, "")
            more = f" {rest // smaller} {name}" if name and unit in "dh" and whole < 10 and rest >= smaller else ""
            return f"{whole} {unit}{more}"
    return "0 s"


def clock(instant: str) -> str:
    """An ISO-8601 instant as people read it: `2026-01-31 08:00:00 UTC`."""
    return f"{instant[:19].replace('T', ' ')} UTC"


def reasons(run: Mapping[str, Any]) -> str:
    """Why the nodes of a run were built, each reason once with how many it is for."""
    count: dict[str, int] = {}
    for node in run["nodes"]:
        count[node["reason"]] = count.get(node["reason"], 0) + 1
    return ", ".join(f"{reason_text(reason)}{f' ({n})' if n > 1 else ''}" for reason, n in count.items())


def told_by(source: Mapping[str, Any]) -> str:
    """What tells of new data in a source, in words, and how often it is looked at."""
    words = {"static": "declared as static", "sent": "its senders", "node": "the node that writes it", None: "nothing"}
    signal, probe = source["signal"], source["probe"]
    said: str = words.get(signal, signal)
    return f"{said}; a look every {span(probe['every'])}" if probe else said


def limits(freshness: Mapping[str, Any]) -> str:
    """The ages at which the data of a source is too old: `warns after 6 h, an error after 1 d`."""
    told = {"warns": freshness["warn_after"], "an error": freshness["error_after"]}
    return ", ".join(f"{what} after {span(after)}" for what, after in told.items() if after is not None)


def _epoch(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()

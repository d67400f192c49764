"""The log of a running service, read as a trace: what came from outside, and what the builds took.

Builds, failures and interruptions are left out: they are what the policy of that time made of it, and another policy
makes other builds. A restart of the service changes nothing either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sao_events.compare.trace import Trace, measured
from sao_events.core import events as e
from sao_events.core.errors import ConfigError, UsageError
from sao_events.core.events import Recorded
from sao_events.core.project import Project, project_from_bytes
from sao_events.core.stored import event_from_json
from sao_events.ports import Draft
from sao_events.report.history import iso
from sao_events.store import open_store

FROM_OUTSIDE = (e.ProjectLoaded, e.DataLanded, e.RelationDropped, e.StateCleared, e.JobRequested)
GIVEN = "given"
STATE_FILE = "state.db"
OUT_OF_STEP = 60.0  # senders read the clock before they queue for the log: neighbours may be this many seconds apart
_INSTANTS = ("loaded_at", "due", "clock")


@dataclass(frozen=True, slots=True)
class Recording:
    """The events of a log in order, `projects` by digest where they were stored beside it, and where it was read."""

    events: Sequence[Recorded]
    projects: Mapping[str, Project]
    place: str


def read_recording(path: Path) -> Recording:
    """The log in a state folder, in a SQLite file, or in a file of events as JSON: one for each line, or a list.

    Raises UsageError where nothing is there, ConfigError for JSON that is no log, StoreError for a damaged store.
    """
    file = path / STATE_FILE if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            f"{path}: there is no log here" + (f" (no {STATE_FILE})" if path.is_dir() else ""),
            hint="give the state folder of a service, its state.db, or a file of events as JSON lines",
        )
    with file.open("rb") as opened:
        stored = opened.read(16).startswith(b"SQLite format 3")
    return _stored(file) if stored else _exported(file)


def trace_of(
    recording: Recording, *, project: Project | None = None, days: float | None = None, until: float | None = None
) -> Trace:
    """What came from outside, as a trace: all of it, or the last `days` with what was on record before.

    `project` stands in for those that are not stored beside the log. Raises ConfigError for a log in which time runs
    backwards, UsageError where no project is known.
    """
    events = _in_order(recording)
    if not events:
        raise UsageError(f"{recording.place}: the log is empty", hint="let the service run, or give --trace")
    loads = [item.event.project for item in events if isinstance(item.event, e.ProjectLoaded)]
    projects = {digest: _project(digest, recording, project) for digest in loads or [GIVEN]}
    end = events[-1].at if until is None else until
    start = max(events[0].at, end - days * 86400) if days else events[0].at
    outside = [
        Draft(item.event, item.at, sender=item.sender)
        for item in events
        if isinstance(item.event, FROM_OUTSIDE) and start <= item.at < end and not _of_a_build(item.event)
    ]
    return Trace(
        start,
        end,
        tuple(outside if loads else [Draft(e.ProjectLoaded(GIVEN), start), *outside]),
        projects,
        measured(events),
        tuple(item for item in events if item.at < start),
    )


def _of_a_build(event: e.Event) -> bool:
    """What a node has written where it is read as a source: the engine says so again when that is built."""
    return isinstance(event, e.DataLanded) and event.scope == "node"


def _project(digest: str, recording: Recording, stand_in: Project | None) -> Project:
    found = recording.projects.get(digest, stand_in)
    if found is None:
        raise UsageError(
            f"{recording.place}: the log names the project {digest}, which is not stored beside it",
            hint="give the project with --manifest target/manifest.json",
        )
    return found


def _in_order(recording: Recording) -> list[Recorded]:
    """The events, instants that are a little out of step moved to that of the event before."""
    found: list[Recorded] = []
    latest = float("-inf")
    for item in recording.events:
        if item.at < latest - OUT_OF_STEP:
            raise ConfigError(
                f"{recording.place}: time runs backwards at event {item.seq}: {iso(item.at)} after {iso(latest)}",
                hint="the machine's clock was set back, or several logs were put together: use them one by one",
            )
        latest = max(latest, item.at)
        found.append(item if item.at == latest else item._replace(at=latest))
    return found


def _stored(file: Path) -> Recording:
    store = open_store(str(file))
    try:
        events: list[Recorded] = []
        while page := store.read(events[-1].seq if events else 0):
            events += page
        digests = {item.event.project for item in events if isinstance(item.event, e.ProjectLoaded)}
        projects = {digest: project_from_bytes(store.get_project(digest)) for digest in digests}
    finally:
        store.close()
    return Recording(events, projects, str(file))


def _exported(file: Path) -> Recording:
    events = [_event(body, f"{file}:{line}", number) for number, (line, body) in enumerate(_bodies(file), start=1)]
    return Recording(sorted(events, key=lambda item: item.seq), {}, str(file))


def _bodies(file: Path) -> list[tuple[int, Any]]:
    """The events as JSON values, each with its line: what `sao-events events` prints, with `--follow` or without."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from None
    try:
        whole = json.loads(text)
    except ValueError:
        return [(line, _parsed(words, file, line)) for line, words in enumerate(text.splitlines(), 1) if words.strip()]
    if isinstance(whole, Mapping) and "events" in whole:
        whole = whole["events"]
    return [(1, body) for body in (whole if isinstance(whole, list) else [whole])]


def _parsed(words: str, file: Path, line: int) -> Any:
    try:
        return json.loads(words)
    except ValueError as error:
        raise ConfigError(f"{file}:{line}: not an event as JSON: {error}") from None


def _event(body: Any, place: str, number: int) -> Recorded:
    try:
        data = {name: _instant(value) if name in _INSTANTS else value for name, value in body["data"].items()}
        event = event_from_json(body["kind"], data)
        seq, sender = int(body.get("seq", number)), body.get("sender", "recording")
        return Recorded(seq, _instant(body["at"]), event, body.get("key"), sender)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        wrong = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ConfigError(
            f"{place}: this is not an event of a log: {wrong}", hint="write the file with `sao-events events --json`"
        ) from None


def _instant(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else datetime.fromisoformat(str(value)).timestamp()

"""What is asked of a source that sends nothing, and what its answer means.

Pure: statements and answers, no warehouse. The strongest signal that a source has is used (semantics, section 5): its
`loaded_at_query`, its `loaded_at_field`, files, the warehouse's metadata. A source that senders report is not asked,
unless it is told to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sao_events.core.errors import PolicyError
from sao_events.core.events import DataLanded, Event, SourceProbed
from sao_events.core.evidence import is_ahead
from sao_events.core.lineage import digest
from sao_events.core.nodes import Source
from sao_events.core.project import Project
from sao_events.core.state import Probed, World
from sao_events.core.windows import LATEST, parse_duration

# Seconds. Where statements cost money the interval is long; PostgreSQL tells of a change up to 10 s late.
OFTEN, SELDOM, LATE = 60.0, 600.0, 11.0
CHEAP = frozenset({"duckdb", "postgres"})
BY_DBT = frozenset({"bigquery", "databricks", "redshift", "snowflake"})  # dbt asks their metadata when a table changed
METADATA = "metadata"
LOADED_AT = "loaded_at of "  # with the id of a source in the place of SQL: `ports.Warehouse`
NO_TABLE = "it is a view or lies elsewhere: the warehouse does not know when it changes"
_THIS = re.compile(r"\{\{\s*this\s*\}\}")
_TABLE = re.compile(r"""\{\{\s*source\(\s*(['"])(.+?)\1\s*,\s*(['"])(.+?)\3\s*\)\s*\}\}""")
_JINJA = re.compile(r"\{[{%#]")
_CALL = re.compile(r"""[\w.]+\(\s*(['"])(.+?)\1""")

_DUCKDB = """
    select md5(string_agg(concat_ws('|', row_group_id, column_id, segment_id, segment_type, start, count, compression,
        stats, has_updates, block_id, block_offset), ';'
        order by row_group_id, column_id, segment_id, segment_type, start)),
        (select count(*) from {relation})
    from pragma_storage_info({name})
"""
_POSTGRES = """
    select case when c.relkind in ('r', 'p', 'm') then (
        select md5(string_agg(concat_ws(':', part.oid, pg_relation_filenode(part.oid),
            pg_stat_get_tuples_inserted(part.oid), pg_stat_get_tuples_updated(part.oid),
            pg_stat_get_tuples_deleted(part.oid)), ',' order by part.oid))
        from (select c.oid union select tree.relid from pg_partition_tree(c.oid) as tree) as part) end,
        cast(null as bigint), c.relkind
    from pg_class as c where c.oid = to_regclass({name})
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """How a source is asked, `by` one of `loaded_at_query`, `loaded_at_field`, `files` and `metadata`: by a statement
    `sql`, or by looking at `files` (a pattern). `every`: seconds between looks. `told`: the user wants it even where
    senders report the source.
    """

    source: str
    by: str
    every: float
    sql: str | None = None
    files: str | None = None
    told: bool = False
    late: bool = False  # whether the warehouse may tell of a change a while after it


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look found. `value` tells it from what was there before; `loaded_at` (UTC epoch seconds) where it is known
    when the data was loaded, `rows` where they were counted. Without a `value` there is nothing so far, or it could not
    be looked at: `error`.
    """

    value: str | None = None
    loaded_at: float | None = None
    rows: int | None = None
    error: str | None = None


def probe_of(
    source: Source, adapter: str, tables: Mapping[str, str | None], every: float | None = None
) -> Probe | None:
    """The probe of a source; None where it has none. `tables`: the relations of all sources by their names; `every`:
    the interval for sources that have none of their own. Raises PolicyError for an interval that is none.
    """
    meta = source.meta
    wish = meta.get("probe")
    if source.static or wish is False:
        return None
    usual = (OFTEN if adapter in CHEAP else SELDOM) if every is None else every
    seconds = usual if wish in (None, True) else interval(wish)
    told = wish is not None
    if query := meta.get("loaded_at_query"):
        sql = _rendered(str(query), source, tables)
        sql = f"{LOADED_AT}{source.id}" if _JINJA.search(sql) else sql
        return Probe(source.id, "loaded_at_query", seconds, sql, told=told)
    if (field := meta.get("loaded_at_field")) and source.relation:
        where = f" where {meta['filter']}" if meta.get("filter") else ""
        sql = f"select max({field}) from {source.relation}{where}"  # noqa: S608 (the project's own words, as dbt puts them)
        return Probe(source.id, "loaded_at_field", seconds, sql, told=told)
    if files := meta.get("files") or _external(source):
        return Probe(source.id, "files", OFTEN if wish in (None, True) else seconds, files=str(files), told=told)
    if source.view or source.relation is None or not (adapter in CHEAP | BY_DBT or (told and adapter)):
        return None
    if adapter not in CHEAP:
        return Probe(source.id, METADATA, seconds, f"{LOADED_AT}{source.id}", told=told)
    name = "'" + source.relation.replace("'", "''") + "'"
    sql = (_DUCKDB if adapter == "duckdb" else _POSTGRES).format(relation=source.relation, name=name)
    return Probe(source.id, METADATA, seconds, " ".join(sql.split()), told=told, late=adapter == "postgres")


def interval(text: Any) -> float:
    """An interval between looks, in seconds. Raises PolicyError for what is none."""
    try:
        seconds = parse_duration(str(text))
    except ValueError as error:
        raise PolicyError(f"probe: {error}", hint="give true, false, or an interval such as 5m") from None
    if seconds <= 0:
        raise PolicyError(
            "probe: an interval of 0 would never rest", hint="give true, false, or an interval such as 5m"
        )
    return seconds


def pause(every: float, failures: int) -> float:
    """Seconds until the next look after so many that went wrong in a row: from the second on twice those before, up to
    ten minutes, or `every` where that is longer.
    """
    return every if failures < 2 else min(every * 2.0 ** min(failures - 1, 20), max(every, SELDOM))


def read_answer(probe: Probe, rows: Sequence[Sequence[Any]], adapter: str) -> Seen:
    """What the rows that came back for `probe.sql` mean."""
    if not rows:
        return Seen(error="there is no such relation in the warehouse")
    row = rows[0]
    if probe.by != METADATA or adapter not in CHEAP:
        return _instant(row[0])
    if adapter == "postgres" and row[0] is None:
        return Seen(error=NO_TABLE)
    return Seen(digest(f"{row[0]}/{row[1]}"), rows=row[1])


def _instant(value: Any) -> Seen:
    if value is None:
        return Seen()
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return Seen(error=f"its loaded_at is no date or timestamp: {str(value)[:60]}")
    seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    return Seen(f"{seconds:.6f}", loaded_at=seconds)


def read_files(found: Iterable[tuple[str, int, int]]) -> Seen:
    """What files tell: the path, the bytes and the instant of the last change (nanoseconds) of each."""
    files = sorted(found)
    if not files:
        return Seen()
    told = "\n".join(f"{path}\t{size}\t{changed}" for path, size, changed in files)
    return Seen(digest(told), loaded_at=max(changed for *_, changed in files) / 1e9)


def told_of(world: World, probe: Probe, seen: Seen) -> list[Event]:
    """The events that a look makes: none where nothing is other than at the last one.

    A changed value is new data, unless no build has read the data version in force so far: then whatever there is now
    will be read by the next one anyway, and a load that its sender has just reported is not counted twice.
    """
    known = world.probes.get(probe.source)
    before = known.value if known else None
    noticed = SourceProbed(probe.source, probe.by, seen.value or before, seen.loaded_at, seen.error)
    same = known is not None and known.error == seen.error
    if seen.value is None:
        return [] if same or (known is None and seen.error is None) else [noticed]
    if known is not None and not _advanced(probe, known, seen.value):
        at = seen.loaded_at if seen.value == before else known.loaded_at
        return [] if same else [SourceProbed(probe.source, probe.by, before, at, seen.error)]
    if not was_read(world, probe.source):
        return [noticed]
    return [noticed, DataLanded(probe.source, rows=seen.rows, scope="probe")]


def doubted(probe: Probe, seen: Seen, now: float) -> Seen:
    """`seen` with an error where its `loaded_at` cannot be true: what is loaded until then would not advance it."""
    if not probe.by.startswith("loaded_at") or not is_ahead(seen.loaded_at, now):
        return seen
    says = datetime.fromtimestamp(min(seen.loaded_at or 0.0, LATEST), UTC).isoformat(timespec="seconds")
    wrong = f"its loaded_at says {says}, which is still to come: loads until then cannot be told by it"
    return replace(seen, error=f"{wrong}; correct that row or leave it out with a filter, or check the time zone")


def _advanced(probe: Probe, known: Probed, value: str) -> bool:
    """A `loaded_at` that goes back is no new data, unless it was one that could not be true; anything else that changes
    may be.
    """
    before = known.value
    if before is None or not probe.by.startswith("loaded_at"):
        return value != before
    try:
        return value != before if is_ahead(float(before), known.at) else float(value) > float(before)
    except ValueError:  # what was seen before was no instant: it was asked in another way
        return True


def was_read(world: World, source: str) -> bool:
    """Whether a build or test has read, may be reading or has tried to read the present data version of a source."""
    if world.runs:  # what is under way may read it before that is on record
        return True
    version = world.source(source).version
    for state in world.nodes.values():
        for attempt in (state.running, state.baseline, state.failure, state.last):
            if attempt is not None and attempt.observed.versions.get(source) == version:
                return True
    return any(test.seen.get(source) == version for test in world.tests.values())


def _rendered(query: str, source: Source, tables: Mapping[str, str | None]) -> str:
    """The query with the relations that dbt would put in."""
    query = _THIS.sub(lambda _: str(source.relation), query)
    return _TABLE.sub(lambda found: tables.get(f"{found[2]}.{found[4]}") or found[0], query)


def _external(source: Source) -> str | None:
    """The local file or pattern that dbt-duckdb reads the source from, where it names one."""
    location = source.meta.get("external_location")
    if not isinstance(location, str):
        return None
    if call := _CALL.match(location):
        location = call[2]
    for key, value in (("name", source.id.rpartition(".")[2]), ("identifier", source.meta.get("identifier"))):
        location = location.replace(f"{{{key}}}", str(value))
    return None if "://" in location or "{" in location or "(" in location else location.strip("'\"")


def probes(project: Project, every: float | None = None) -> dict[str, Probe]:
    """The probes of a project by their sources. Raises PolicyError."""
    sources = project.graph.sources.values()
    tables = {source.name: source.relation for source in sources}
    found = (probe_of(source, project.adapter, tables, every) for source in sources)
    return {probe.source: probe for probe in found if probe is not None}


def asked(project: Project, world: World, every: float | None = None) -> list[Probe]:
    """The probes that are in use: not those of sources that senders report, unless somebody wants them all the same."""
    return [probe for probe in probes(project, every).values() if probe.told or not world.source(probe.source).sent]


def signal(source: Source, probe: Probe | None, world: World) -> str | None:
    """What tells of new data in a source: `static` where there never is any, `sent` by somebody, or how it is looked
    at; None where nothing tells of it, so that what reads it is built for changes of code alone.
    """
    if source.static and not world.source(source.id).sent:
        return "static"
    if world.source(source.id).sent and not (probe and probe.told):
        return "sent"
    known = world.probes.get(source.id)
    if probe is None or (known is not None and known.error and known.value is None):
        return "sent" if world.source(source.id).sent else None
    return probe.by


def loaded_at(source: str, world: World) -> float | None:
    """When the newest data of a source was loaded, as far as it is known: by what it says itself, else by when it was
    reported or seen.
    """
    state, known = world.source(source), world.probes.get(source)
    if known is None or known.loaded_at is None:
        return state.newest
    return max(known.loaded_at, state.newest or 0.0) if state.sent else known.loaded_at


def age(source: Source, world: World, now: float) -> tuple[str | None, float | None]:
    """How a source fares by its `warn_after` and `error_after`, `pass`, `warn` or `error`, and how many seconds ago its
    data was loaded; None where that is not known, or nothing is declared. As `dbt source freshness` has it: at exactly
    the age it still passes.
    """
    newest = loaded_at(source.id, world)
    if newest is None:
        return None, None
    seconds = max(0.0, now - newest)
    for verdict in ("error", "warn"):
        limit = source.meta.get(f"{verdict}_after")
        if limit is not None and seconds > limit:
            return verdict, seconds
    return ("pass" if source.meta.keys() & {"warn_after", "error_after"} else None), seconds

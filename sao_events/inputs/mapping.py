"""From what a sender calls it to the sources of the dbt project: by name, by the rules of the configuration, by
relation, by schema. The first of these that finds anything decides.

Which spellings name one relation depends on the warehouse; dbt's own rendered relation says what a source's really is,
`identifier`, `quoting` and the database of the target included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import lru_cache

from sao_events.core.named import resolve_source
from sao_events.core.project import Project
from sao_events.inputs.data import split_name
from sao_events.inputs.landing import Landing, Place

UPPER, LOWER = frozenset({"snowflake", "oracle", "exasol"}), frozenset({"postgres", "greenplum", "materialize"})
EXACT = frozenset({"bigquery", "clickhouse"})  # what is in none of these does not tell upper case from lower
QUOTES = ('""', "``", "[]")


@dataclass(frozen=True, slots=True)
class Rule:
    """What labels must look like, and what they stand for then: sources, or a relation or schema to be looked up.

    In `match`, `*` stands for any text and `{name}` for text without a slash, which `name` then stands for. In the
    others `{label}` stands for the label.
    """

    match: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    relation: str | None = None
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """What a configuration calls sources, and `where` it does: as `source`, or in a rule as `sources`, `relation` or
    `schema`.
    """

    where: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Found:
    """The ids of the sources that a landing is about. None: `own` says that it is what this project builds itself,
    `nearest` names what may have been meant.
    """

    sources: tuple[str, ...] = ()
    own: bool = False
    nearest: tuple[str, ...] = ()


class Atlas:
    """Where the sources and nodes of a project are in its warehouse."""

    def __init__(self, project: Project) -> None:
        self.project, self.adapter = project, project.adapter
        graph = project.graph
        self.sources = [_Relation.of(s.id, s.relation, self.adapter) for s in graph.sources.values() if s.relation]
        self.nodes = [_Relation.of(n.id, n.relation, self.adapter) for n in graph.nodes.values() if n.relation]

    def find(self, landing: Landing, rules: Sequence[Rule] = ()) -> Found:
        """The sources that `landing` is about."""
        place = landing.place if self._can_be_here(landing) else None
        own = place is not None and place.table is not None and bool(self._at(place, self.nodes))
        if own and landing.labels.get("integration", "").lower() == "dbt":
            return Found(own=True)
        found = self._named(landing.source) or self._ruled(landing, rules) or self._placed(place)
        if found:
            return Found(tuple(dict.fromkeys(found)))
        return Found(own=True) if own else Found(nearest=self.nearest(landing))

    def _can_be_here(self, landing: Landing) -> bool:
        return not landing.adapters or not self.adapter or self.adapter in landing.adapters

    def _named(self, name: str | None) -> list[str]:
        if name is None:
            return []
        group = name.removesuffix(".*")
        if group != name:
            return [s.id for s in self.project.graph.sources.values() if s.name.rpartition(".")[0] == group]
        found = resolve_source(self.project, name)
        return [found] if isinstance(found, str) else []

    def _ruled(self, landing: Landing, rules: Iterable[Rule]) -> list[str]:
        """What the first rule that matches stands for."""
        known = {**landing.labels, **_described(landing)}
        for rule in rules:
            captured = _matched(rule.match, known)
            if captured is None:
                continue
            values = known | captured
            names = [filled for name in rule.sources if (filled := _filled(name, values))]
            found = [source for name in names for source in self._named(name)]
            for text, is_schema in ((rule.relation, False), (rule.schema, True)):
                filled = _filled(text, values) if text else None
                found += self._placed(_place(filled, is_schema)) if filled else []
            return found
        return []

    def _placed(self, place: Place | None) -> list[str]:
        if place is None:
            return []
        found = self._at(place, self.sources)
        return found if place.schema or len(found) == 1 else []

    def _at(self, place: Place, relations: Iterable[_Relation]) -> list[str]:
        """Those at the place: spelled exactly so, or else spelled so as the warehouse reads it."""
        close = [relation for relation in relations if relation.is_at(place, self.adapter)]
        exact = [relation.id for relation in close if relation.is_spelled(place)]
        return exact or [relation.id for relation in close]

    def nearest(self, landing: Landing) -> tuple[str, ...]:
        """The names of the sources that may be meant."""
        names = {source.name.lower(): source.name for source in self.project.graph.sources.values()}
        place = landing.place
        wanted = [landing.source, str(place) if place else None, f"{place.schema}.{place.table}" if place else None]
        close = (get_close_matches(name.lower(), names, n=3) for name in wanted if name)
        return tuple(dict.fromkeys(names[name] for found in close for name in found))[:3]


@dataclass(frozen=True, slots=True)
class _Relation:
    """A relation by the names that the warehouse has for its parts."""

    id: str
    table: str
    schema: str | None
    database: str | None

    @classmethod
    def of(cls, id: str, relation: str | None, adapter: str) -> _Relation:  # noqa: A002
        parts = split_name(relation or "")[-3:]
        database, schema, table = [None] * (3 - len(parts)) + [_stored(part, adapter) for part in parts]
        return cls(id, table or "", schema, database)

    def is_at(self, place: Place, adapter: str) -> bool:
        pairs = ((place.table, self.table), (place.schema, self.schema), (place.database, self.database))
        return all(given is None or name is None or _same(given, name, adapter) for given, name in pairs)

    def is_spelled(self, place: Place) -> bool:
        pairs = ((place.table, self.table), (place.schema, self.schema), (place.database, self.database))
        return all(given is None or name is None or _bare(given)[0] == name for given, name in pairs)


def _bare(name: str) -> tuple[str, bool]:
    """A part of a name without its quotes, and whether it had any."""
    quoted = len(name) > 1 and f"{name[0]}{name[-1]}" in QUOTES
    return (name[1:-1], True) if quoted else (name, False)


def _stored(name: str, adapter: str) -> str:
    """What the warehouse calls that which dbt writes so."""
    text, quoted = _bare(name)
    return text if quoted else _folded(text, adapter)


def _folded(text: str, adapter: str) -> str:
    return text.upper() if adapter in UPPER else text.lower() if adapter in LOWER else text


def _same(given: str, stored: str, adapter: str) -> bool:
    text, quoted = _bare(given)
    if adapter in UPPER | LOWER:
        return text == stored or (not quoted and _folded(text, adapter) == stored)
    return text == stored if adapter in EXACT else text.lower() == stored.lower()


def _described(landing: Landing) -> dict[str, str]:
    """What rules may match beside the labels."""
    place = landing.place or Place()
    known = {"source": landing.source, "database": place.database, "schema": place.schema, "table": place.table}
    return {name: value for name, value in known.items() if value and name not in landing.labels}


def _matched(match: Mapping[str, str], labels: Mapping[str, str]) -> dict[str, str] | None:
    """What the pattern's names stand for; None where it does not match."""
    captured = dict[str, str]()
    for name, pattern in match.items():
        found = _pattern(pattern).fullmatch(labels[name]) if name in labels else None
        if found is None:
            return None
        captured |= found.groupdict()
    return captured


@lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str]:
    """A pattern of a rule. What stands between two stars is sought from the left and then kept, so that no text takes
    long to be told from it.
    """
    first, *rest = [_segment(segment) for segment in re.split(r"\*+", text)]
    middle = "".join(f"(?>.*?{segment})" for segment in rest[:-1])
    return re.compile(f"{first}{middle}.*{rest[-1]}" if rest else first, re.DOTALL)


def _segment(text: str) -> str:
    pieces = re.split(r"(\{[A-Za-z_]\w*\})", text)
    return "".join(f"(?P<{piece[1:-1]}>[^/]+)" if piece[:1] == "{" else re.escape(piece) for piece in pieces)


def wrong_in(rule: Rule) -> str | None:
    """What is wrong with a rule, for people; None for one that is in order."""
    for name, pattern in rule.match.items():
        try:
            _pattern(pattern)
        except re.error:
            return f"{name}: {pattern} has a name twice"
    targets = [bool(rule.sources), rule.relation is not None, rule.schema is not None]
    return None if sum(targets) == 1 else "name one of sources, relation and schema that the match stands for"


def unknown(project: Project, names: Iterable[Named]) -> Iterator[str]:
    """A warning for each of `names` that is no source of the project, with the nearest. What a rule has to fill in is
    not known before a message comes.
    """
    atlas = Atlas(project)
    for named in names:
        name = named.name
        rules = {"sources": Rule(sources=(name,)), "relation": Rule(relation=name), "schema": Rule(schema=name)}
        rule = rules.get(named.kind)
        if re.search(r"\{[^{}]+\}", name) if rule else isinstance(resolve_source(project, name), str):
            continue
        places = Landing(name, place=_place(name, named.kind == "schema"))
        found = atlas.find(Landing(), [rule]) if rule else Found()
        if not found.sources:
            nearest = atlas.nearest(places)
            hint = f"; did you mean {' or '.join(nearest)}?" if nearest else ""
            yield f"{named.where}: {named.name} is no source of the project, and is left out{hint}"


def _filled(text: str, values: Mapping[str, str]) -> str | None:
    """`text` with the labels in it; None where one is not there."""
    missing = False

    def value(found: re.Match[str]) -> str:
        nonlocal missing
        missing |= found[1] not in values
        return values.get(found[1], "")

    filled = re.sub(r"\{([^{}]+)\}", value, text)
    return None if missing or not filled else filled


def _place(text: str, is_schema: bool) -> Place | None:
    names, most = split_name(text), 2 if is_schema else 3
    if not 0 < len(names) <= most or not all(names):
        return None
    parts = [*[None] * (most - len(names)), *names]
    return Place(parts[1], None, parts[0]) if is_schema else Place(parts[1], parts[2], parts[0])


def shared_out(landing: Landing, sources: Sequence[str]) -> Iterator[tuple[str, Landing]]:
    """The landing as it concerns each source: a count over all of a connection is that of none of its tables, unless
    it is zero.
    """
    several = len(sources) > 1
    each = replace(landing, rows=landing.rows if not landing.rows else None, size=None) if several else landing
    for source in sources:
        yield source, each

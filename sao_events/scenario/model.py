"""What a scenario file says: the project and its edits, what happens to it, and what must come of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sao_events.config.policies import policy_in
from sao_events.core.errors import ConfigError, GraphError
from sao_events.core.evidence import Evidence
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code, Reading, digest
from sao_events.core.nodes import Cutoff, Node, Source, Test
from sao_events.core.policy import Policy, Settings
from sao_events.core.project import Project, graph_warnings
from sao_events.core.windows import parse_duration
from sao_events.yamltext import Block, among

READ_KEYS = ("freshness", "state", "meta", "lazy")
DBT_KEYS = (
    "materialized", "tags", "unique_key", "enabled", "schema", "alias", "database", "incremental_strategy",
    "on_schema_change", "full_refresh", "grants", "contract", "docs", "group", "access",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Happening:
    """One entry of the timeline: at the instant `at`, `kind` happens to `subject`, with further values."""

    at: float
    kind: str
    subject: str
    values: Mapping[str, Any]
    line: int = 0


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come of the timeline; the parts that are None are not looked at."""

    until: float
    builds: tuple[tuple[float, str, str], ...] | None
    decisions: tuple[tuple[float, Mapping[str, Any]], ...]
    tests: Mapping[str, Mapping[str, int]]
    warnings: tuple[str, ...]


@dataclass(slots=True)
class Text:
    """What a node's text is now: the changes of meaning since the project was loaded, and the columns that were added.
    Each change is like none before; `made` counts those that were taken back too.
    """

    made: int = 0
    edits: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


@dataclass(slots=True)
class Scenario:
    """A scenario as read. `project` gives the project as it is after the edits made so far."""

    name: str
    why: str
    start: float
    settings: Settings
    build_duration: float
    sources: list[Source]
    nodes: dict[str, Block]
    tests: list[Test]
    happenings: list[Happening]
    expected: Expected
    place: str
    line: int
    evidence: Evidence
    adapter: str = "scenario"
    texts: dict[str, Text] = field(default_factory=dict)
    loaded: dict[str, Text] = field(default_factory=dict)
    configs: dict[str, Block] = field(default_factory=dict)

    def edit(self, name: str, change: str, column: str | None) -> None:
        """Change the text of a node as the scenario format defines it."""
        text = self.texts.setdefault(name, Text())
        if change == "revert":
            self.texts[name] = replace(self.loaded.get(name, Text()), made=text.made)
        elif change == "add_column":
            text.added = (*text.added, column or "")
        elif change not in ("cosmetic", "volatile"):
            text.edits = (*text.edits, f"{change}{text.made}")
            text.made += 1

    def load(self) -> None:
        """The project becomes known: `revert` goes back to the texts as they are now."""
        self.loaded = {name: replace(text) for name, text in self.texts.items()}

    def project(self) -> Project:
        """The project at this moment, with its load-time warnings. Raises ConfigError for a policy that cannot be
        understood.
        """
        warnings: list[str] = []
        nodes = [self._node(name, block, warnings) for name, block in self.nodes.items()]
        try:
            graph = Graph(nodes, self.sources, self.tests, self.adapter)
        except GraphError as error:
            line = self.nodes[error.about].line_of("reads") if error.about in self.nodes else self.line
            raise ConfigError(f"{self.place}:{line}: {self.name}: {error.message}") from None
        places = {name: f"{self.place}:{block.line}" for name, block in self.nodes.items()}
        return Project(graph, self.name, self.adapter, (*warnings, *graph_warnings(graph, places)))

    def duration(self, name: str) -> float:
        """The virtual seconds that a build of the node takes."""
        block = self.nodes[name]
        return seconds(block, "build_duration", self.place) if "build_duration" in block else self.build_duration

    def policy(self, name: str, config: Block) -> tuple[Policy, list[str]]:
        """The policy that `config` gives a node, and warnings, each with its place. Raises ConfigError, with the place
        of the key that is wrong.
        """
        beside = self.nodes[name]
        self._said(name, "lazy", config)
        self.cutoff(name, config)
        lazy = {"lazy": beside.truth(self.place, "lazy")} if "lazy" in beside else {}
        policy, warnings = policy_in(config, self.place, name, lazy, self.settings.default_config)
        unread = (
            f"{name}: config: {key} is not read here: a scenario knows policies alone, a node's kind, and edits "
            f"({self.place}:{config.line_of(key)})"
            for key in config
            if key not in READ_KEYS
        )
        return policy, [*warnings, *unread]

    def cutoff(self, name: str, config: Block) -> Cutoff:
        """Whether equal content of a node, with `config`, is found out. Raises ConfigError."""
        said = self._said(name, "early_cutoff", config)
        return "auto" if said.get("early_cutoff") == "auto" else said.truth(self.place, "early_cutoff")

    def _said(self, name: str, key: str, config: Block) -> Block:
        """Where `key` stands: beside `config`, in it, or in its `meta.sao`. Raises ConfigError where it does twice."""
        beside, meta = self.nodes[name], config.get("meta")
        sao = meta.get("sao") if isinstance(meta, Block) else None
        said = [block for block in (beside, config, sao) if isinstance(block, Block) and key in block]
        if len(said) > 1:
            both = "beside config and in it" if beside in said else "in config and in its meta.sao"
            where = f"{self.place}:{said[-1].line_of(key)}"
            raise ConfigError(f"{where}: {name}: {key} stands {both}; take one of the two out")
        return said[0] if said else beside

    def _node(self, name: str, block: Block, warnings: list[str]) -> Node:
        text = self.texts.get(name, Text())
        reads, uses = block.words(self.place, "reads"), block.block(self.place, "uses")
        among(uses, reads, f"{name} does not read", self.place, uses.line)
        named = {up: uses.words(self.place, up) for up in uses}
        star = frozenset(reads) if block.truth(self.place, "select_star") else frozenset[str]()
        passed = self._passed(name)
        columns = (*(it for it in block.words(self.place, "columns") if it not in passed), *text.added)
        config = self.configs.get(name, block.block(self.place, "config"))
        policy, found = self.policy(name, config)
        warnings.extend(found)
        own = Code(digest(name, *text.edits), tuple((column, "1") for column in columns))
        reading, cutoff = Reading(named, star), self.cutoff(name, config)
        return Node(name, name, str(block["kind"]), reads, own, policy, reading, cutoff)

    def _passed(self, name: str) -> set[str]:
        """The columns of which `select *` of the node is known to pass them on: its own list may name them again."""
        block = self.nodes[name]
        over = block.words(self.place, "reads") if block.truth(self.place, "select_star") else ()
        nodes = [up for up in over if up in self.nodes]
        return {it for up in nodes for it in (*self.nodes[up].words(self.place, "columns"), *self._passed(up))}


def seconds(block: Block, key: str, place: str, default: str = "0s") -> float:
    """The duration under `key`, as seconds."""
    try:
        return parse_duration(block.text(place, key, default))
    except ValueError as error:
        raise ConfigError(f"{place}:{block.line_of(key)}: {error}") from None


def instant(value: object, start: float, place: str, line: int) -> float:
    """An offset such as `+1h` as an instant; `line` is where it stands, should that not be known of it."""
    line = getattr(value, "line", line)
    if not isinstance(value, str) or not value.startswith("+"):
        raise ConfigError(f"{place}:{line}: {value} is not an offset such as +90s, +10m or +1h30m")
    try:
        return start + parse_duration(value[1:])
    except ValueError as error:
        raise ConfigError(f"{place}:{line}: {error}") from None


def offset(seconds: float) -> str:
    """Seconds from the start as `+1d2h3m4s`, zero parts left out."""
    rest, text = round(seconds), ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return f"+{text or '0m'}"

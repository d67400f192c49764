"""The state of an environment: `World` holds what is on record for every node, source, test, run and job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from sao_events.core import events as e
from sao_events.core.events import Observed
from sao_events.core.lineage import Code
from sao_events.core.records import record


@record
class Attempt:
    """A build that was started: what it saw, where its window counts from, and what its success will mean."""

    run: str
    reason: str
    started: float
    clock: float
    observed: Observed
    code: Code
    retries: int
    advances: bool
    relation: str | None = None
    kind: str = ""


@record
class Relation:
    """A relation that a build of `node`, of the `kind`, wrote last, at the instant `built`. `left`: since when it is in
    the project no more, where it is not, and with which `commit`.
    """

    node: str
    kind: str
    built: float
    left: float | None = None
    commit: str | None = None


@record
class Baseline:
    """The last successful build. `clock` is where the window counts from; `started`, `ended` are instants, `seconds`
    dbt's own time.
    """

    observed: Observed
    clock: float
    started: float
    ended: float
    reason: str
    run: str
    seconds: float = 0.0


@record
class Failure:
    """The last attempt failed: what it had seen at its start, when it ended, how many retries are used up. Where a test
    failed, that and its `definition`; `built` is the last build of all, where its rows stand in the warehouse although
    a test failed on them.
    """

    observed: Observed
    ended: float
    retries: int
    drops: int
    message: str | None
    run: str
    test: str | None = None
    definition: str | None = None
    built: Baseline | None = None


@record
class Hashed:
    """What is known of the content of a node: its hash after the last build (None where that is not known), and since
    when it is so, the end of the first build that left it. Of all builds that were to be hashed: how many were, how
    many of them left `equal` content, the `seconds` that the last one took to hash and all together (`spent`); why the
    last one is `unhashed`; how many builds of other nodes were `spared`, and the seconds that these took before
    (`saved`).
    """

    content: str | None = None
    since: float = 0.0
    builds: int = 0
    equal: int = 0
    seconds: float = 0.0
    spent: float = 0.0
    unhashed: str | None = None
    spared: int = 0
    saved: float = 0.0


NOT_HASHED = Hashed()


@record
class NodeState:
    """All that is on record for a node.

    `version` is the data version, `builds` counts successful builds, `clears` and `drops` count how often it was
    cleared and seen missing, `seen` the builds after which its relation was seen to be there. `code` is what readers
    see of its last build, `built_code` what it was built with (they differ after one that left the content as it was).
    `running` is the attempt under way, `last` the latest
    attempt. `interrupted`: an attempt was lost since the last successful build, and other rows may stand unrecorded;
    `doubtful`: written by other code than `built_code`. `columns` are those of the relation, with their types.
    `spared`: the instant at which it would have been built, had an upstream not been left with equal content.
    """

    version: int = 0
    builds: int = 0
    clears: int = 0
    drops: int = 0
    seen: int = 0
    code: Code | None = None
    built_code: Code | None = None
    baseline: Baseline | None = None
    previous: Baseline | None = None
    failure: Failure | None = None
    running: Attempt | None = None
    last: Attempt | None = None
    interrupted: bool = False
    doubtful: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    hashed: Hashed = NOT_HASHED
    spared: float | None = None

    @property
    def standing(self) -> Baseline | None:
        """The build whose rows stand in the warehouse: the last successful one, or a later that a test failed on."""
        return self.failure.built if self.failure is not None and self.failure.built else self.baseline

    @property
    def certain(self) -> bool:
        """Whether what the last build left still stands there for certain: since then no build failed or was lost, and
        the node was neither seen missing nor cleared.
        """
        failed = self.failure is not None and self.failure.test is None
        if self.standing is None or self.interrupted or failed or self.dropped:
            return False
        return self.clears <= self.standing.observed.clears

    @property
    def cleared(self) -> bool:
        """Whether the node was cleared since its last successful build saw it."""
        return self.clears > (self.baseline.observed.clears if self.baseline else 0)

    @property
    def dropped(self) -> bool:
        """Whether the relation was seen missing since the build of what stands there started."""
        return self.drops > (self.standing.observed.drops if self.standing else 0)


@record
class Landed:
    """A landing as it was recorded: its place in the log, when its data is from, and what its loader knows of it."""

    event: int
    loaded_at: float
    load_id: str | None = None
    rows: int | None = None
    partial: bool = False
    counts: bool = True


@record
class Held:
    """A landing that made nothing new. `why`: `empty`, `partial`, or `incomplete`, while its `load` waits for others of
    `together`, the sources that are new only as a whole.
    """

    why: str
    landed: Landed
    load: str | None = None
    together: tuple[str, ...] = ()


@record
class SourceState:
    """`version` counts the loads that brought new data; `newest` is the latest load time; `event` the place in the
    log of the last, of which `rows`, `load_id` and `partial` are. `held`: a later landing that made nothing new.
    `sent`: somebody tells of its loads.
    """

    version: int = 0
    newest: float | None = None
    rows: int | None = None
    event: int | None = None
    load_id: str | None = None
    partial: bool = False
    held: Held | None = None
    sent: bool = False


@record
class Probed:
    """What the looks at a source found last: the `value` that stands for its content since `at`, of data loaded at
    `loaded_at`; `error`: why it could not be looked at since `at`.
    """

    by: str
    at: float
    value: str | None = None
    loaded_at: float | None = None
    error: str | None = None


@record
class TestState:
    """The last outcome of a test, of which definition, over which positions, and when; how it was proven, where it was
    not run.
    """

    __test__ = False

    status: str
    definition: str
    seen: Mapping[str, int]
    at: float
    message: str | None = None
    proven: tuple[str, ...] = ()


@record
class Job:
    """A job that is not finished. `done` are the nodes that it has already built or failed to build, `tested` the
    tests that it has run.
    """

    id: str
    name: str
    due: float
    select: frozenset[str] | None
    state_aware: bool
    done: frozenset[str] = frozenset()
    full_refresh: bool = False
    tested: frozenset[str] = frozenset()

    def selects(self, name: str) -> bool:
        """Whether the job is about the node or source `name`."""
        return self.select is None or name in self.select

    def asks(self, name: str) -> bool:
        """Whether the job still asks for `name`: an attempt, failed ones too, answers it, also across a restart."""
        return self.selects(name) and name not in self.done


@record
class Run:
    """A run under way: its nodes with their reasons, its tests, and the job it belongs to."""

    id: str
    started: float
    nodes: Mapping[str, str]
    tests: tuple[str, ...]
    job: str | None


@record
class Head:
    """The tracked branch of the remote: at which commit it was found, first so at `seen`; `error`: why it cannot be
    asked since `failed`.
    """

    commit: str | None = None
    seen: float | None = None
    error: str | None = None
    failed: float | None = None


NEW_NODE = NodeState()
NEW_SOURCE = SourceState()
State = TypeVar("State")


class Register(dict[str, State]):
    """States by name. Where somebody watches, the names that are written are `written` down for them."""

    written: set[str] | None = None

    def __setitem__(self, name: str, state: State) -> None:
        if self.written is not None:
            self.written.add(name)
        super().__setitem__(name, state)


@dataclass(slots=True)
class World:
    """The folded log up to `seq`. Owned by whoever folds it: `evolve` changes it in place. `loaded`: since when
    `project` is in force, as `commit`. `incomplete`: by load, load id and source, what has landed of loads that are new
    only as a whole. `probes`: what looks at sources have found. `relations` are all that were built, those that have
    left the project too, until they are cleaned; `cleaning` are requests to do that without an answer, each with what
    it has dropped.
    """

    seq: int = 0
    at: float = 0.0
    project: str | None = None
    commit: str | None = None
    loaded: float | None = None
    rejected: e.ProjectRejected | None = None
    head: Head | None = None
    nodes: dict[str, NodeState] = field(default_factory=Register)
    sources: dict[str, SourceState] = field(default_factory=Register)
    loads: dict[str, set[str]] = field(default_factory=dict)
    incomplete: dict[str, dict[str, dict[str, Landed]]] = field(default_factory=dict)
    tests: dict[str, TestState] = field(default_factory=Register)
    jobs: dict[str, Job] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    clears_of_all: int = 0
    probes: dict[str, Probed] = field(default_factory=dict)
    relations: dict[str, Relation] = field(default_factory=dict)
    cleaning: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def snapshot(self) -> World:
        """The state as it is now, which stays so: what is folded later is not in it."""
        return replace(
            self,
            nodes=Register(self.nodes),
            sources=Register(self.sources),
            loads={source: set(told) for source, told in self.loads.items()},
            incomplete={load: {key: dict(it) for key, it in ids.items()} for load, ids in self.incomplete.items()},
            tests=Register(self.tests),
            jobs=dict(self.jobs),
            runs=dict(self.runs),
            probes=dict(self.probes),
            relations=dict(self.relations),
            cleaning=dict(self.cleaning),
        )

    def watch(self) -> set[str]:
        """A set that gets the name of every node, source and test whose state is written from now on. One watches at a
        time: the set of who watched before gets nothing more.
        """
        written: set[str] = set()
        self.nodes = _watched(self.nodes, written)
        self.sources = _watched(self.sources, written)
        self.tests = _watched(self.tests, written)
        return written

    def watched_by(self, written: set[str]) -> bool:
        """Whether the set is the one that gets the names."""
        return all(isinstance(it, Register) and it.written is written for it in (self.nodes, self.sources, self.tests))

    def node(self, name: str) -> NodeState:
        """What is on record for a node; never touched ones included."""
        found = self.nodes.get(name)
        if found is None:
            return NodeState(clears=self.clears_of_all) if self.clears_of_all else NEW_NODE
        return found

    def source(self, name: str) -> SourceState:
        """What is on record for a source."""
        return self.sources.get(name, NEW_SOURCE)


def _watched(states: dict[str, State], written: set[str]) -> Register[State]:
    register = states if isinstance(states, Register) else Register(states)
    register.written = written
    return register

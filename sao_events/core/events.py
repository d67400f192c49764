"""What can happen: the events of the log; `stored` has their form in JSON.

Instants are UTC epoch seconds. An event holds all that folding it needs; folded twice at the same place it gives the
same state. Names of events and fields are the stored format: they may be added to, never renamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar, NamedTuple

from sao_events.core.lineage import Code
from sao_events.core.records import record


@record
class Observed:
    """What a build saw before it started: its own fingerprint (and the `parts` it is made of), the data version of
    every feed, the code of every upstream, how often the node had been cleared and dropped, and how often each node
    that it looks at, one behind a view too, had been built.
    """

    fingerprint: str
    versions: Mapping[str, int] = field(default_factory=dict)
    codes: Mapping[str, Code] = field(default_factory=dict)
    clears: int = 0
    drops: int = 0
    parts: Mapping[str, str] = field(default_factory=dict)
    builds: Mapping[str, int] = field(default_factory=dict)


@record
class Event:
    """Base of all events."""


@record
class EngineStarted(Event):
    """The service came up on this log: builds that ran are lost, unfinished jobs are decided again."""


@record
class HeadSeen(Event):
    """The branch `ref` of the configured remote is at `commit`: that is what should be in force. Without a commit the
    remote could not be asked, for the reason `error`.
    """

    commit: str | None = None
    ref: str | None = None
    error: str | None = None


@record
class PreviewAsked(Event):
    """The pull or merge request `number` of a git host of the kind `provider` is at `commit`; `fork`: its code comes
    from another repository.
    """

    number: int
    commit: str
    provider: str = "github"
    fork: bool = False


@record
class PreviewMade(Event):
    """What the pull or merge request would build was found out, in a line, and told; `error`: why it was not."""

    number: int
    commit: str
    summary: str | None = None
    error: str | None = None


@record
class ProjectLoaded(Event):
    """The graph stored under the digest `project` is in force from here on; `commit` is its git commit, where there
    is one. `left` are the relations that the project before had and this one does not have, `entered` the sources that
    this one has and the one before did not: what was told of them meanwhile was about nothing in the project.
    """

    project: str
    commit: str | None = None
    warnings: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    entered: tuple[str, ...] = ()


@record
class ProjectRejected(Event):
    """A commit or saved state of the project that dbt refused; the one before stays in force."""

    error: str
    commit: str | None = None


@record
class CodePushed(Event):
    """A hint that the code changed: a push to `ref`, or a saved file. What is deployed is looked up, not taken from
    here.
    """

    ref: str | None = None
    commit: str | None = None
    paths: tuple[str, ...] = ()


@record
class DataLanded(Event):
    """New data in a source. Load ids are compared per source; `loaded_at` is the event's own time where it is not
    given.

    `partial`: the loader did not come to a good end. Without `counts` it is on record and makes nothing new. What
    belongs to the load `load` is new once every source in `together` has landed under the same load id. `size` in
    bytes; `replaces`: the whole content was exchanged; `scope`: what the sender spoke of, a `table`, `schema` or
    `connection` or `file`, `probe` where nobody sent it: it was looked for, or `node` where a node wrote it.
    """

    source: str
    load_id: str | None = None
    loaded_at: float | None = None
    rows: int | None = None
    partial: bool = False
    counts: bool = True
    load: str | None = None
    together: tuple[str, ...] = ()
    size: int | None = None
    replaces: bool | None = None
    scope: str | None = None


@record
class SourceProbed(Event):
    """A look at a source (`by` says how) found another `value` for its content than before, loaded at `loaded_at` where
    that is known; or it could not be looked at, for the reason `error`. Alone it makes nothing new.
    """

    source: str
    by: str
    value: str | None = None
    loaded_at: float | None = None
    error: str | None = None


@record
class RelationDropped(Event):
    """The relation of `node` was seen to be missing from the warehouse."""

    node: str


@record
class RelationsSeen(Event):
    """The relations of `nodes`, which had been built because they were missing, were seen in the warehouse."""

    nodes: tuple[str, ...]


@record
class RelationsKnown(Event):
    """What builds have written that were recorded without it: the fields of a `state.Relation` by relation."""

    relations: Mapping[str, Mapping[str, Any]]


@record
class RelationsCleaned(Event):
    """Relations that had left the project were dropped on request."""

    relations: tuple[str, ...]


@record
class CleanAsked(Event):
    """Under the name `request`: what is left behind is to be looked at, and of it `relations` are to be dropped. It
    holds for the engine that is at work: what it has not answered when another one starts is not carried out.
    """

    request: str
    relations: tuple[str, ...] = ()


@record
class CleanAnswered(Event):
    """What came of `request`: by relation what is on record of it, what was found and what was done, as
    `cleaning.value_of` says; or the `error` for which nothing was.
    """

    request: str
    relations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    error: str | None = None


@record
class StateCleared(Event):
    """The recorded state of `nodes` is to be forgotten; None means of all."""

    nodes: tuple[str, ...] | None = None


@record
class JobRequested(Event):
    """An evaluation of `select` (None: all nodes), due at `due`; without `state_aware` every selected node is built."""

    job: str
    name: str
    due: float
    select: tuple[str, ...] | None = None
    state_aware: bool = True
    full_refresh: bool = False


@record
class JobFinished(Event):
    """The job has been decided and what it planned has ended; `reused_tests` kept their results."""

    job: str
    status: str
    reused_tests: tuple[str, ...] = ()
    message: str | None = None


@record
class RunStarted(Event):
    """A plan is about to be carried out: its nodes, each with the reason, and its tests."""

    run: str
    nodes: Mapping[str, str]
    tests: tuple[str, ...] = ()
    job: str | None = None
    cause: str = "event"


@record
class RunFinished(Event):
    """The run has ended: `success`, `failed` (some node), `error` (dbt itself), or `interrupted`."""

    run: str
    status: str
    message: str | None = None


@record
class BuildStarted(Event):
    """A node is being built. `clock` is where its window will count from, `retries` how many retries of this series
    are used up if it fails, `advances` whether success makes its data new, `code` what it will have been built with;
    `drops` are the views that the warehouse drops with what is replaced; `relation` is what it writes, of the `kind`.
    """

    run: str
    node: str
    reason: str
    clock: float
    observed: Observed
    code: Code
    retries: int = 0
    advances: bool = True
    drops: tuple[str, ...] = ()
    relation: str | None = None
    kind: str = ""


@record
class NodeBuilt(Event):
    """The build succeeded; `seconds` is what dbt measured, `same_content` whether the stored rows are as they were.
    `columns` are those of the relation with their types in the warehouse, empty where nobody looked; None: as before.
    Where it was to be hashed, the hash of its `content` or why it is `unhashed`, and the seconds of `hashing`; `spared`
    are the nodes that would have been built now had its content been another, with the seconds that their last builds
    took.
    """

    run: str
    node: str
    seconds: float = 0.0
    same_content: bool = False
    status: str = "success"
    message: str | None = None
    columns: Mapping[str, str] | None = None
    content: str | None = None
    unhashed: str | None = None
    hashing: float = 0.0
    spared: Mapping[str, float] = field(default_factory=dict)


@record
class NodeFailed(Event):
    """The build failed; what stood before stands. Where a unit test did before it could begin, that `test` and its
    `definition`.
    """

    run: str
    node: str
    message: str | None = None
    seconds: float = 0.0
    status: str = "error"
    test: str | None = None
    definition: str | None = None


@record
class BuildInterrupted(Event):
    """The build was cancelled or its process lost: no failed attempt."""

    run: str
    node: str


@record
class TestFinished(Event):
    """A test's outcome: `pass`, `warn`, `fail` or `error`. `seen` is the position of everything it looked at,
    `versions` the data versions behind it; `fails` are the nodes that count as failed by it. Where it was not run but
    proven to pass, `proven` is the chain of the proof.
    """

    __test__: ClassVar[bool] = False

    run: str
    test: str
    status: str
    definition: str = ""
    seen: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    fails: tuple[str, ...] = ()
    message: str | None = None
    seconds: float = 0.0
    proven: tuple[str, ...] = ()


EVENTS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        EngineStarted, HeadSeen, ProjectLoaded, ProjectRejected, CodePushed, DataLanded, RelationDropped, StateCleared,
        JobRequested, JobFinished, RunStarted, RunFinished, BuildStarted, NodeBuilt, NodeFailed, BuildInterrupted,
        TestFinished, PreviewAsked, PreviewMade, SourceProbed, RelationsSeen, RelationsKnown, RelationsCleaned,
        CleanAsked, CleanAnswered,
    )
}  # fmt: skip


class Recorded(NamedTuple):
    """An event with its place in the log: `seq` is its position in the total order, `at` when it was recorded, `key`
    its idempotency key, `sender` who brought it.
    """

    seq: int
    at: float
    event: Event
    key: str | None = None
    sender: str = "engine"


def subject(event: Event) -> str | None:
    """The one node, source or test that an event is about; None for an event about several or none."""
    for name in ("node", "source", "test"):
        if (found := getattr(event, name, None)) is not None:
            return str(found)
    return None

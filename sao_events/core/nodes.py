"""What a graph is made of: sources, nodes (models, seeds, snapshots) and tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from sao_events.core.claims import Claim
from sao_events.core.lineage import Code, Reading
from sao_events.core.policy import Policy

Cutoff = bool | Literal["auto"]
UNIT = "unit"  # the kind of a test whose model dbt runs on rows that are made up for it
TRANSPARENT = frozenset({"view", "ephemeral"})
KINDS = TRANSPARENT | {"table", "incremental", "seed", "snapshot", "python", "materialized_view"}


@dataclass(frozen=True, slots=True)
class Source:
    """A relation that others load. `static`: never changes. `view`: is a view in the warehouse. `empty`: not there
    before its first landing.
    """

    id: str
    name: str
    static: bool = False
    view: bool = False
    empty: bool = False
    relation: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Node:
    """A model, seed or snapshot. `own` is the identity of what it would execute by itself; `reads` are its direct
    parents. `compiled` is the digest of the SQL that dbt makes of it, `again` that of an incremental model once its
    table is there; the store has the texts. They are None where the SQL depends on more than the code, or is none:
    `doubt` says why. `verbatim`: its relation holds the rows of that SQL and nothing else. `early_cutoff`: a build that
    leaves equal content makes nothing new, always or (`auto`) where finding out pays.
    """

    id: str
    name: str
    kind: str
    reads: tuple[str, ...] = ()
    own: Code = Code("")
    policy: Policy = Policy()
    reading: Reading = Reading()
    early_cutoff: Cutoff = False
    relation: str | None = None
    path: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    compiled: str | None = None
    again: str | None = None
    verbatim: bool = False
    doubt: str = ""

    @property
    def transparent(self) -> bool:
        """Whether the node owns no data of its own: a view or an ephemeral model."""
        return self.kind in TRANSPARENT

    @property
    def on_record(self) -> dict[str, str]:
        """The parts, with the SQL that came of them: what a build remembers of the code that it built."""
        made = {"compiled": self.compiled, "again": self.again}
        return dict(self.parts) | {name: text for name, text in made.items() if text}

    def differs_in(self, then: Mapping[str, str]) -> list[str]:
        """The names of the parts that differ from those `then` on record; `folded` where it is an ephemeral model that
        does.
        """
        if not then:
            return []
        names = {*self.parts, *then} - {"compiled", "again"}  # what came of the others
        return [name for name in sorted(names) if self.parts.get(name) != then.get(name)] or ["folded"]

    @property
    def built(self) -> bool:
        """Whether dbt makes a relation for it at all: everything but ephemeral models."""
        return self.kind != "ephemeral"


@dataclass(frozen=True, slots=True)
class Test:
    """A data test; `reads` are the nodes and sources whose rows it looks at, `own` the identity of its definition,
    `compiled` the digest of its SQL, as for nodes. Without `reuse` every job runs it.
    """

    __test__: ClassVar[bool] = False

    id: str
    name: str
    reads: tuple[str, ...]
    own: str = ""
    severity: str = "error"
    kind: str = ""
    reuse: bool = True
    prove: bool = True
    claim: Claim | None = None
    compiled: str | None = None

"""Dropping what builds have left behind: which relations are there, what stands on them, and one drop for each.

Nothing is dropped by cascade: what something else stands on is refused, by us where that is known and by the warehouse
in any case. What is there under the name and is of another kind than what was built, is not ours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Protocol

from sao_events.core.graph import Graph
from sao_events.core.relations import behind, plain_name
from sao_events.core.state import Relation, World
from sao_events.ports import Answer, Warehouse
from sao_events.warehouse import catalog

SECONDS = 60.0  # that one statement is given
_DEPENDANTS = """select distinct format('"%s"."%s"."%s"', current_database(), n.nspname, c.relname)
from pg_catalog.pg_depend d join pg_catalog.pg_rewrite r on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass
join pg_catalog.pg_class c on c.oid = r.ev_class join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where d.refclassid = 'pg_class'::regclass and d.refobjid = {relation}::regclass and c.oid <> d.refobjid"""
Status = Literal["left", "gone", "unknown", "refused", "dropped", "failed"]


class Droppable(Warehouse, Protocol):
    """A warehouse in which something can be changed."""

    def change(self, statements: Sequence[str], seconds: float) -> list[Answer]:
        """As `ask`; what a statement without error has written is kept."""


@dataclass(slots=True)
class Left:
    """A relation that is left behind. `there`: the kind of what is in the warehouse under its name, False for nothing,
    None where that is not known; `dependants`: what stands on it, where that is known.
    """

    name: str
    relation: Relation
    there: str | Literal[False] | None = None
    dependants: tuple[str, ...] = ()
    status: Status = "unknown"
    message: str | None = None

    @property
    def may_be_dropped(self) -> bool:
        """Whether nothing is known that stands against it."""
        return self.status == "left"


def candidates(graph: Graph, world: World, elsewhere: Collection[str]) -> list[Left]:
    """What is left behind, by name. What another environment has in force, its plain name being in `elsewhere`, or what
    is being built, is not.
    """
    busy = {name for run in world.runs.values() for name in run.nodes}
    return [
        Left(name, relation)
        for name, relation in sorted(behind(graph, world).items())
        if plain_name(name) not in elsewhere and relation.node not in busy
    ]


def look(found: Sequence[Left], warehouse: Warehouse, adapter: str) -> None:
    """Ask the warehouse what is there of it, and what stands on that."""
    asked = catalog.questions([item.name for item in found], adapter)
    answers = warehouse.ask([it.statement for it in asked], SECONDS, catalog.MOST) if asked else []
    there = catalog.seen(asked, answers, adapter)
    for item in found:
        item.there = there.get(item.name)
        _judge(item)
    if adapter == "postgres":
        _dependants([item for item in found if item.may_be_dropped], warehouse)
    _refuse_below({item.name: item for item in found if item.may_be_dropped})


def _refuse_below(going: dict[str, Left]) -> None:
    """Refuse what something stands on that is not dropped too, down to the last that this keeps."""
    while stood_on := [item for item in going.values() if not going.keys() >= set(item.dependants)]:
        for item in stood_on:
            kept = [it for it in item.dependants if it not in going]
            item.status, item.message = "refused", f"{', '.join(kept)} stands on it"
        for item in stood_on:
            del going[item.name]


def agreed(found: Sequence[Left], relations: Collection[str], still: Collection[str]) -> list[Left]:
    """Those of `found` that are to be dropped, or are gone: which a person has agreed to (`relations`), and which are
    left behind `still`.
    """
    for item in found:
        if item.name in relations and item.name not in still and item.status in ("left", "gone"):
            item.status, item.message = "refused", "it is not left behind any more"
    _refuse_below({item.name: item for item in found if item.may_be_dropped and item.name in relations})
    return [item for item in found if item.name in relations]


def unanswered(before: Sequence[Left], after: Sequence[Left], world: World) -> list[Left]:
    """Those of `before` that are not in `after`: dropped by somebody else, as the record says, or not left behind."""
    found, names = list[Left](), {item.name for item in after}
    for item in before:
        if item.name in names:
            continue
        if item.name in world.relations:
            found.append(replace(item, status="refused", message="it is not left behind any more"))
        else:
            found.append(replace(item, there=False, status="gone", message="it has been dropped already"))
    return found


def value_of(item: Left) -> dict[str, Any]:
    """A relation that is left behind, as a value of JSON; its name is not in it."""
    return {**asdict(item.relation), "there": item.there, "dependants": list(item.dependants)} | {
        "status": item.status,
        "message": item.message,
    }


def from_value(name: str, value: Mapping[str, Any]) -> Left:
    """The inverse of `value_of`."""
    relation = Relation(**{f.name: value[f.name] for f in fields(Relation)})
    return Left(name, relation, value["there"], tuple(value["dependants"]), value["status"], value["message"])


def _judge(item: Left) -> None:
    kinds = {"view": "view", "materialized_view": "materialized view"}
    built = kinds.get(item.relation.kind, "table")
    if item.there is None:
        item.message = "it is not known whether it is there"
    elif item.there is False:
        item.status = "gone"
    elif item.there != built:
        item.status, item.message = "refused", f"it is a {item.there} now, and a {built} was built"
    else:
        item.status = "left"


def _dependants(found: Sequence[Left], warehouse: Warehouse) -> None:
    """Ask PostgreSQL which views stand on what is left behind."""
    literals = ["'" + item.name.replace("'", "''") + "'" for item in found]
    asked = [_DEPENDANTS.format(relation=literal) for literal in literals]
    answers = warehouse.ask(asked, SECONDS, catalog.MOST) if asked else []
    for item, answer in zip(found, answers, strict=True):
        if answer.error is not None:
            item.status, item.message = "refused", f"it is not known what stands on it: {answer.error}"
        item.dependants = tuple(str(row[0]) for row in answer.rows)


def drop(found: Sequence[Left], warehouse: Droppable, record: Callable[[tuple[str, ...]], None]) -> None:
    """Drop what may be, what stands on others first; `record` is told of each drop, and of what was gone."""
    gone = tuple(item.name for item in found if item.status == "gone")
    if gone:
        record(gone)
    left = {item.name: item for item in found if item.may_be_dropped}
    while left:
        free = [item for item in left.values() if not left.keys() & set(item.dependants)]
        for item in free or list(left.values()):
            del left[item.name]
            [answer] = warehouse.change([f"drop {item.there} {item.name}"], SECONDS)
            if answer.error is None:
                item.status = "dropped"
                record((item.name,))
            else:
                item.status, item.message = "failed", answer.error

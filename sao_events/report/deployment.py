"""What should be in force, what is, and how it fares: the two axes of GitOps, in sync or not, and healthy or not.

Sync compares commits alone. Health says whether the deployed code does its work: `degraded` needs somebody, or the end
of a fault; `progressing` ends by itself; `healthy` is everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sao_events.core.decision import Action, Decision
from sao_events.core.project import Project
from sao_events.core.state import Head, World
from sao_events.report.explain import Names, listed
from sao_events.report.history import iso


@dataclass(frozen=True, slots=True)
class Tracked:
    """The branch of the remote that is deployed from, as it is shown; `checked`: the instant of the last look at it."""

    remote: str
    branch: str
    checked: float | None = None


def deployment(
    world: World,
    project: Project | None,
    decisions: Mapping[str, Decision],
    known: Names,
    *,
    tracked: Tracked | None = None,
    error: str | None = None,
) -> dict[str, Any]:
    """The deployment of an environment. Without `tracked` the project is used as it lies in its folder: then what is
    desired has no commit, and is in force unless dbt refused it.
    """
    wrong = list(_degraded(world, project, decisions, known, error))
    moving = [] if wrong else list(_progressing(world, decisions, known, tracked))
    stuck = [] if wrong or moving else list(_stuck(decisions, known))
    health = "degraded" if wrong or stuck else "progressing" if moving else "healthy"
    return {
        "remote": tracked.remote if tracked else None,
        "branch": tracked.branch if tracked else None,
        "desired": _desired(world.head or Head(), tracked) if tracked else None,
        "deployed": {"commit": world.commit, "at": iso(world.loaded)} if world.project else None,
        "sync": _sync(world, tracked),
        "health": health,
        "why": wrong or moving or stuck,
    }


def _desired(head: Head, tracked: Tracked) -> dict[str, Any] | None:
    if head.commit is None:
        return None
    return {"commit": head.commit, "seen_at": iso(head.seen), "checked_at": iso(tracked.checked)}


def _sync(world: World, tracked: Tracked | None) -> str:
    if tracked is None:
        return "unknown" if world.project is None else "out_of_sync" if world.rejected else "in_sync"
    if world.head is None or world.head.commit is None:
        return "unknown"
    return "in_sync" if world.project and world.commit == world.head.commit else "out_of_sync"


def _degraded(
    world: World, project: Project | None, decisions: Mapping[str, Decision], known: Names, error: str | None
) -> Iterator[str]:
    rejected, head = world.rejected, world.head
    if rejected:
        what = f"commit {rejected.commit[:10]}" if rejected.commit else "the newest state of the project"
        stays = "; the one before stays in force" if world.project else ""
        yield f"{what} was refused by dbt{stays}: {_of_dbt(rejected.error)}"
    if head and head.error:
        yield _first(head.error)
    if error and not (rejected or (head and head.error)):
        yield _first(error)
    if failed := [name for name in decisions if world.node(name).failure]:
        yield f"{_counted(failed, 'node')} failed: {listed(failed, known)}"
    tests = project.graph.tests if project else {}
    failing = [id_ for id_, test in tests.items() if _fails(world, id_) and test.severity != "warn"]
    if failing:
        yield f"{_counted(failing, 'test')} failed: {listed(failing, known)}"


def _progressing(
    world: World, decisions: Mapping[str, Decision], known: Names, tracked: Tracked | None
) -> Iterator[str]:
    desired = world.head.commit if tracked and world.head else None
    if desired and desired != world.commit:
        yield f"commit {desired[:10]} is being parsed"
    elif world.project is None:
        yield "the project is being loaded"
    for run in world.runs.values():
        yield f"run {run.id} builds {_counted(run.nodes, 'node')}: {listed(run.nodes, known)}"
    due = [name for name, decision in decisions.items() if decision.action is Action.build and not world.runs]
    if due:
        yield f"{_counted(due, 'node')} to be built: {listed(due, known)}"


def _stuck(decisions: Mapping[str, Decision], known: Names) -> Iterator[str]:
    """What cannot be built, although nothing failed and nothing is under way: an upstream is missing."""
    blocked = {name: decision for name, decision in decisions.items() if decision.action is Action.blocked}
    if blocked:
        missing = dict.fromkeys(up for decision in blocked.values() for up in decision.waiting_for if up not in blocked)
        for_ = f"; missing: {listed(missing, known)}" if missing else ""
        yield f"{_counted(blocked, 'node')} cannot be built: {listed(blocked, known)}{for_}"


def _fails(world: World, test: str) -> bool:
    state = world.tests.get(test)
    return state is not None and state.status in ("fail", "error")


def _of_dbt(error: str) -> str:
    """What dbt says: the lines after the first, which names the folder."""
    lines = [line.strip() for line in error.strip().splitlines()]
    return ": ".join(lines[1:3]) if lines[1:] else error.strip()


def _first(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""


def _counted(things: Iterable[Any], one: str) -> str:
    number = len(list(things))
    return f"{number} {one if number == 1 else one + 's'}"

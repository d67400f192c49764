"""The names that senders give to sources, and the ids they stand for."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from time import monotonic

from sao_events.core.evidence import Evidence
from sao_events.core.named import evidence_in, resolve_source
from sao_events.core.project import Project
from sao_events.inputs.data import unknown_source
from sao_events.inputs.mapping import Atlas
from sao_events.inputs.matched import Matcher
from sao_events.web.backend import Backend

KEPT, MOST = 1.0, 10_000


class Sources:
    """Resolves names, and remembers for `KEPT` seconds which project they were resolved in: a look takes a lock that
    the engine may hold for a while, and must not hold up those who send known names. `rules`: what counts as new
    data in that project.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._project: Project | None = None
        self._matcher: Matcher | None = None
        self.rules = Evidence()
        self._ids: dict[str, str] = {}
        self._until = float("-inf")

    async def ids(self, names: Collection[str]) -> dict[str, str] | None:
        """The id of each of `names`; None while there is no project. Raises Refused for one that is no source."""
        ids, now = self._ids, monotonic()
        if now >= self._until or not all(map(ids.__contains__, names)):
            self._until = now + KEPT
            ids = await asyncio.to_thread(self._look, names)
        return None if self._project is None else ids

    async def matcher(self) -> Matcher | None:
        """What finds the sources of landings, in the project as it was at most `KEPT` seconds ago; None while there is
        none.
        """
        if self._matcher is None or monotonic() >= self._until:
            self._until = monotonic() + KEPT
            await asyncio.to_thread(self._look, ())
        if self._project is None:
            return None
        if self._matcher is None or self._matcher.atlas.project is not self._project:
            self._matcher = Matcher(await asyncio.to_thread(Atlas, self._project), self.rules)
        return self._matcher

    def _look(self, names: Collection[str]) -> dict[str, str]:
        with self.backend.view() as view:
            project = view.project
        if project is None:
            return {}
        ids = dict(self._ids) if project is self._project and len(self._ids) < MOST else {}
        if project is not self._project:
            self.rules = evidence_in(project, self.backend.config.evidence)
        self._project, self._ids = project, ids
        for name in names:
            if name not in ids:
                ids[name] = _resolved(project, name)
        return ids


def _resolved(project: Project, name: str) -> str:
    found = resolve_source(project, name)
    if isinstance(found, str):
        return found
    raise unknown_source(name, found)

"""What a history is about: a project that can be edited, and sources that can be loaded."""

from __future__ import annotations

from datetime import datetime
from random import Random
from typing import Protocol

from tests.oracle import edits
from tests.oracle.database import Database, create_sources, load
from tests.oracle.layout import SOURCES, Layout, files


class Subject(Protocol):
    """A project under test. `name` is dbt's name of it; `sources` are named as the project does."""

    name: str
    sources: tuple[str, ...]

    def create(self, database: Database) -> None:
        """Make the raw tables, with a first load in each."""

    def load(self, database: Database, source: str, rng: Random, load_id: str, at: datetime) -> int:
        """One load of a source; how many rows it brought."""

    def files(self) -> dict[str, str]:
        """The project as it is now."""

    def edit(self, rng: Random) -> str:
        """Change the project; what was done."""

    def back(self) -> str | None:
        """Go back to the state before the last edit; None where there is none."""

    def mend(self) -> bool:
        """Take out what fails. Whether there was anything."""

    def unlike(self) -> set[str]:
        """Relations, by the id of their node, that dbt itself would not bring to what a full build holds, since an edit
        that it asks to follow with a full refresh.
        """

    def renewed(self, nodes: set[str]) -> None:
        """These were dropped and built anew."""


class Generated:
    """The small random project."""

    name = "oracle"
    sources = tuple(f"raw.{source}" for source in SOURCES)

    def __init__(self, rng: Random, adapter: str) -> None:
        self.adapter, self.layout = adapter, edits.first(rng, adapter)
        self._before: Layout | None = None
        self._unlike = set[str]()

    def create(self, database: Database) -> None:
        """See `Subject.create`."""
        create_sources(database, SOURCES)
        for source in SOURCES:
            load(database, source, Random(source), "first", datetime(2026, 1, 2))

    def load(self, database: Database, source: str, rng: Random, load_id: str, at: datetime) -> int:
        """See `Subject.load`."""
        return load(database, source.removeprefix("raw."), rng, load_id, at)

    def files(self) -> dict[str, str]:
        """See `Subject.files`."""
        return files(self.layout, self.adapter)

    def edit(self, rng: Random) -> str:
        """See `Subject.edit`."""
        after, what = edits.edit(rng, self.layout, self.adapter)
        self._become(after)
        return what

    def back(self) -> str | None:
        """See `Subject.back`."""
        if self._before is None:
            return None
        self._become(self._before)
        return "back to the commit before"

    def mend(self) -> bool:
        """See `Subject.mend`."""
        after = edits.mended(self.layout)
        broken = after != self.layout
        if broken:
            self._become(after)
        return broken

    def unlike(self) -> set[str]:
        """See `Subject.unlike`."""
        return {f"model.oracle.{name}" for name in self._unlike if any(m.name == name for m in self.layout.models)}

    def renewed(self, nodes: set[str]) -> None:
        """See `Subject.renewed`."""
        self._unlike -= {node.removeprefix("model.oracle.") for node in nodes}

    def _become(self, after: Layout) -> None:
        self._unlike |= edits.unlike_a_rebuild(self.layout, after)
        self._before, self.layout = self.layout, after

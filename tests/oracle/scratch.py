"""A full `dbt build` from scratch, by dbt itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.imported_dbt import ROOT, ImportedDbt, said
from tests.nest import Nest
from tests.oracle.code import fresh
from tests.oracle.database import Database

WITHOUT_TESTS = ("--exclude-resource-type", "test", "unit_test")


@dataclass(frozen=True)
class Relation:
    """A node and where its relation is. `kept`: a snapshot, which a full build goes on with."""

    node: str
    schema: str
    name: str
    kept: bool


class Dbt(ImportedDbt):
    """dbt on the projects of a history; where there is a nest, from there."""

    def __init__(self, nest: Nest | None = None) -> None:
        self._nest = nest
        super().__init__()

    def _start(self) -> Any:
        if self._nest is None:
            return super()._start()
        return self._nest.start("tests.imported_dbt", [], env=os.environ, folder=ROOT, errors=2)

    def __call__(
        self, folder: Path, command: Iterable[str], env: Mapping[str, str], *, parsed: Path | None = None
    ) -> int:
        """Run a command on the project in `folder`; its exit status. `parsed`: see `invoke`."""
        where = ["--project-dir", str(folder), "--profiles-dir", str(folder), "--no-partial-parse"]
        return self.invoke(folder, [*command, *where], env, parsed=parsed)

    def parse(self, folder: Path, files: Mapping[str, str], env: Mapping[str, str]) -> dict[str, Relation]:
        """The relations of the project that `files` make, in a new folder. `env` says for which warehouse."""
        fresh(folder, files)
        code = self(folder, ["parse"], env)
        assert code == 0, f"dbt does not accept the project in {folder}:\n{said(folder)}"
        return relations(folder / "target" / "manifest.json")

    def build(self, folder: Path, database: Database) -> bool:
        """Build everything that was parsed in `folder` for this warehouse, without tests. Whether all succeeded."""
        parsed = folder / "target" / "partial_parse.msgpack"
        return self(folder, ["build", *WITHOUT_TESTS], database.env, parsed=parsed) == 0


def relations(manifest: Path) -> dict[str, Relation]:
    """Every node of a manifest that has a relation."""
    nodes = json.loads(manifest.read_text())["nodes"].values()
    return {
        node["unique_id"]: Relation(
            node["unique_id"], node["schema"], node["alias"], node["resource_type"] == "snapshot"
        )
        for node in nodes
        if node["resource_type"] in ("model", "seed", "snapshot") and node["config"]["materialized"] != "ephemeral"
    }

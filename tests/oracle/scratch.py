"""A full `dbt build` from scratch, by dbt itself.

Run as a script it imports dbt once and forks for each line of JSON on its input, which saves the seconds that a start
of dbt takes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.oracle.code import fresh
from tests.oracle.database import Database

ROOT = Path(__file__).parents[2]
WITHOUT_TESTS = ("--exclude-resource-type", "test", "unit_test")


@dataclass(frozen=True)
class Relation:
    """A node and where its relation is. `kept`: a snapshot, which a full build goes on with."""

    node: str
    schema: str
    name: str
    kept: bool


class Dbt:
    """dbt, ready to be invoked."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.oracle.scratch"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, folder: Path, command: Iterable[str], env: Mapping[str, str]) -> int:
        """Run a command on the project in `folder`; its exit status. All it says goes to `dbt.out` there."""
        where = ["--project-dir", str(folder), "--profiles-dir", str(folder), "--no-partial-parse", "--no-use-colors"]
        request = {"arguments": [*command, *where], "env": dict(env), "folder": str(folder)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(request)}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def parse(self, folder: Path, files: Mapping[str, str], database: Database) -> dict[str, Relation]:
        """The relations of the project that `files` make, in a new folder."""
        fresh(folder, files)
        code = self(folder, ["parse"], database.env)
        assert code == 0, f"dbt does not accept the project in {folder}:\n{said(folder)}"
        return relations(folder / "target" / "manifest.json")

    def build(self, folder: Path, database: Database) -> bool:
        """Build everything that was parsed in `folder`, without tests. Whether all of it succeeded."""
        return self(folder, ["build", *WITHOUT_TESTS], database.env) == 0

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


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


def said(folder: Path) -> str:
    """The end of what dbt said."""
    return (folder / "dbt.out").read_text()[-3000:]


def main() -> None:
    """Serve requests until there are no more."""
    warnings.simplefilter("ignore")
    import dbt.cli.main  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _invoke(json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _invoke(request: dict[str, Any]) -> None:
    from dbt.cli.main import dbtRunner

    code = 2
    try:
        os.chdir(request["folder"])
        with Path("dbt.out").open("a") as file:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.environ.update(request["env"])
        done = dbtRunner().invoke(request["arguments"])
        if done.exception:
            print(done.exception)
        code = 0 if done.success else 1
    except BaseException:  # noqa: BLE001 (a fork ends here, whatever happens)
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    main()

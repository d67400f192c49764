"""Identities of a project's models: all of them at first, and after one edit; beside `dbt ls --select state:modified`.

Generates a project on DuckDB with two tests for each model. Seconds are wall time; nothing is built.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sao_events.core.project import Project
from sao_events.dbt import DbtBuilder, DbtSettings, open_builder
from sao_events.deploy.identify import identified
from sao_events.store.sqlite import SqliteStore
from tests.dbt_projects import layered, write_project


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = write_project(folder / "project", layered(options.models))
        store = SqliteStore(folder / "state.db")
        print(f"{options.models} models, {2 * options.models} tests")
        with closing(open_builder(DbtSettings(root, folder / "state"))) as builder, closing(store):
            first = look("first look", builder, store)
            look("nothing changed", builder, store)
            shutil.copytree(folder / "state" / "parse" / "target", folder / "before")
            model = next(root.glob("models/marts/*.sql"))
            text = model.read_text(encoding="utf-8")
            model.write_text(text.replace("select", "SELECT"), encoding="utf-8")
            changed(first, look("one cosmetic edit", builder, store))
            model.write_text(text.replace("as amount", "+ 1 as amount"), encoding="utf-8")
            changed(first, look("one edit", builder, store))
        state_modified(root, folder)


def look(what: str, builder: DbtBuilder, store: SqliteStore) -> Project:
    """Parse and identify once."""
    start = time.perf_counter()
    parsed = builder.load().project
    middle = time.perf_counter()
    project = identified(parsed, store, builder.render)
    print(f"{what:20} parsed {middle - start:6.2f} s   identified {time.perf_counter() - middle:6.2f} s", flush=True)
    return project


def changed(old: Project, new: Project) -> None:
    """Print how many models differ."""
    count = sum(new.graph.nodes[name].own != node.own for name, node in old.graph.nodes.items())
    print(f"{'':20} models changed: {count}")


def state_modified(root: Path, folder: Path) -> None:
    """The same question to dbt."""
    start = time.perf_counter()
    command = [str(Path(sys.executable).parent / "dbt"), "--quiet", "ls", "--select", "state:modified"]
    places = ["--state", str(folder / "before"), "--target-path", str(folder / "ls")]
    done = subprocess.run(
        [*command, *places, "--resource-types", "model"], cwd=root, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    print(f"dbt ls, cold         {seconds:6.2f} s   models changed: {len(done.stdout.splitlines())}")


if __name__ == "__main__":
    main()

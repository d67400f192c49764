"""Which models each commit of a real git history changes: by us, by dbt's state:modified, and by their compiled SQL.

    python benchmarks/history.py PATH_OF_A_GIT_REPOSITORY [--subdir DIR] [--commits 50]

Each commit on the first line of parents is laid out in a temporary folder, parsed with dbt on DuckDB (nothing is built)
and compared with the one before. What does not parse here is counted and left out. Prints one line for each commit in
which the three differ, and the totals.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from sao_events.dbt import DbtSettings, open_builder
from sao_events.errors import SaoError
from sao_events.identify import identified
from sao_events.project import Project
from sao_events.store.memory import MemoryStore

KINDS = ("model", "snapshot", "seed")


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("repository", type=Path)
    parser.add_argument("--subdir", default=".")
    parser.add_argument("--commits", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        total = Counter[str]()
        for line in replay(options.repository, options.subdir, options.commits, Path(folder), total):
            print(line, flush=True)
        print(json.dumps(total, indent=2))


def replay(repository: Path, subdir: str, most: int, folder: Path, total: Counter[str]) -> Iterator[str]:
    """One line for each commit where the three do not agree; the sums go into `total`."""
    store, before = MemoryStore(), None
    tree, state = folder / "tree", folder / "old"
    for commit in git(repository, "rev-list", "--first-parent", "--reverse", "HEAD").split()[-most:]:
        lay_out(repository, commit, tree)
        try:
            project, manifest = parse(tree / subdir, folder, store)
        except (SaoError, OSError, ValueError, subprocess.SubprocessError) as error:
            total["commits that do not parse"] += 1
            yield f"{commit[:10]} does not parse here: {' '.join(str(error).split())[:160]}"
            continue
        total["commits"] += 1
        if before is not None:
            yield from compared(commit, before, project, modified(tree / subdir, folder, state), total)
        state.mkdir(exist_ok=True)
        shutil.copy(manifest, state / manifest.name)
        before = project


def compared(commit: str, old: Project, new: Project, dbt: set[str], total: Counter[str]) -> Iterator[str]:
    """What each calls changed, of the models that both commits have."""
    both = {name for name in new.graph.nodes if name in old.graph.nodes}
    then, now = old.graph.nodes, new.graph.nodes
    ours = {name for name in both if then[name].own != now[name].own}
    text = {name for name in both if (then[name].compiled, then[name].again) != (now[name].compiled, now[name].again)}
    theirs = dbt & both
    total.update({"ours": len(ours), "state:modified": len(theirs), "compiled text": len(text)})
    total["only state:modified"] += len(theirs - ours)
    total["only compiled text"] += len(text - ours)
    total["only ours"] += len(ours - theirs - text)
    for name in sorted(ours ^ theirs | ours ^ text):
        said = [who for who, found in (("ours", ours), ("dbt", theirs), ("text", text)) if name in found]
        parts = [
            part
            for part in {*then[name].parts, *now[name].parts}
            if then[name].parts.get(part) != now[name].parts.get(part)
        ]
        inputs = ", ".join(sorted(parts)) or "none"
        yield f"{commit[:10]} {name}: changed for {', '.join(said) or 'nobody'} (inputs: {inputs})"


def parse(root: Path, folder: Path, store: MemoryStore) -> tuple[Project, Path]:
    """The project with its identities, and its manifest. The profile is made here, whatever the project brings."""
    body = yaml.safe_load((root / "dbt_project.yml").read_text(encoding="utf-8"))
    (folder / "profiles").mkdir(exist_ok=True)
    output = {"type": "duckdb", "path": str(folder / "none.duckdb")}
    profile = {body.get("profile", "default"): {"target": "dev", "outputs": {"dev": output}}}
    (folder / "profiles" / "profiles.yml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    with closing(open_builder(DbtSettings(root, folder / "state", folder / "profiles"))) as builder:
        loaded = builder.load()
        return identified(loaded.project, store, builder.render), loaded.manifest


def modified(root: Path, folder: Path, state: Path) -> set[str]:
    """What `dbt ls --select state:modified` names."""
    command = [
        str(Path(sys.executable).parent / "dbt"),
        "--quiet",
        "ls",
        "--select",
        "state:modified",
        "--state",
        str(state),
    ]
    places = [
        "--profiles-dir",
        str(folder / "profiles"),
        "--project-dir",
        str(root),
        "--target-path",
        str(folder / "ls"),
    ]
    shape = ["--output", "json", "--output-keys", "unique_id", "--resource-types", *KINDS]
    done = subprocess.run([*command, *places, *shape], cwd=root, capture_output=True, text=True, check=False)
    return {json.loads(line)["unique_id"] for line in done.stdout.splitlines() if line.startswith("{")}


def lay_out(repository: Path, commit: str, tree: Path) -> None:
    """The files of a commit in `tree`, and nothing else."""
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    archive = subprocess.run(["git", "-C", str(repository), "archive", commit], capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)


def git(repository: Path, *arguments: str) -> str:
    """What git prints."""
    return subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()

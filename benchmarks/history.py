"""Which models each commit of a real git history changes: by us, by dbt's state:modified, and by their compiled SQL.

    python benchmarks/history.py PATH_OF_A_GIT_REPOSITORY [--subdir DIR] [--commits 50] [--packages DIR ...] [--show]

Each commit on the first line of parents that touches a file of dbt's kinds in DIR is laid out, parsed with dbt on
DuckDB (nothing is built) and compared with the one before. The packages that a project names are not downloaded: those
given, folders with a dbt_project.yml each, take their place. What does not parse here is counted and left out. Prints
one line for each model on which the three differ, with --show what of its inputs differs, and the totals.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
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

from sao_events.core.errors import SaoError
from sao_events.core.project import Project
from sao_events.dbt import DbtBuilder, DbtSettings, open_builder
from sao_events.deploy.identify import identified
from sao_events.store.memory import MemoryStore
from tests.imported_dbt import ImportedDbt

KINDS = ("model", "snapshot", "seed")
ENDS = ("sql", "yml", "yaml", "csv", "py")


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("repository", type=Path)
    parser.add_argument("--subdir", default=".")
    parser.add_argument("--commits", type=int, default=50)
    parser.add_argument("--packages", type=Path, nargs="*", default=[])
    parser.add_argument("--show", action="store_true", help="what of the inputs differs, for each difference")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, closing(ImportedDbt()) as dbt:
        replay = Replay(options.repository, options.subdir, Path(folder), dbt, options.show)
        for line in replay.lines(options.commits, options.packages):
            print(line, flush=True)
        print(json.dumps(replay.total, indent=2))


class Replay:
    """The commits of one repository, one after the other in the same folder."""

    def __init__(self, repository: Path, subdir: str, folder: Path, dbt: ImportedDbt, show: bool) -> None:
        self.subdir, self.folder, self.dbt, self.show = subdir, folder, dbt, show
        self.tree, self.root, self.state = folder / "tree", folder / "tree" / subdir, folder / "old"
        self.repository = Path(git(repository, "rev-parse", "--absolute-git-dir").strip())
        self.store, self.total = MemoryStore(), Counter[str]()
        for made in (self.root, self.state, folder / "profiles"):
            made.mkdir(parents=True)

    def lines(self, most: int, packages: list[Path]) -> Iterator[str]:
        """One line for each model on which the three do not agree, and each commit that cannot be read."""
        before = None
        matching = [f":(glob){self.subdir.strip('/')}/**/*.{end}".replace("(glob)./", "(glob)") for end in ENDS]
        commits = git(self.repository, "rev-list", "--first-parent", "--reverse", "HEAD", "--", *matching).split()
        for package in packages:  # where dbt looks for them unless told otherwise
            shutil.copytree(package, self.root / "dbt_packages" / package.name)
        settings = DbtSettings(self.root, self.folder / "state", self.folder / "profiles")
        self.lay_out(commits[-most:][0])
        with closing(open_builder(settings)) as builder:
            for commit in commits[-most:]:
                self.lay_out(commit)
                try:
                    project, manifest = self.parse(builder)
                except (SaoError, OSError, ValueError) as error:
                    self.total["commits that do not parse"] += 1
                    yield f"{commit[:10]} does not parse here: {' '.join(str(error).split())[:400]}"
                    continue
                self.total["commits"] += 1
                if before is not None:
                    yield from self.compared(commit, before, project, self.modified())
                shutil.copy(manifest, self.state / manifest.name)
                before = project

    def lay_out(self, commit: str) -> None:
        """The files of a commit, those that are the same untouched; and a profile, whatever the project brings."""
        env = os.environ | {"GIT_INDEX_FILE": str(self.folder / "index")}
        places = ["git", f"--git-dir={self.repository}", f"--work-tree={self.tree}"]

        def run(*command: str, check: bool = True) -> str:
            done = subprocess.run(
                [*places, *command], check=check, capture_output=True, text=True, env=env, cwd=self.tree
            )
            return done.stdout

        before = set(run("ls-files", "-z").split("\0")) - {""}
        run("read-tree", commit)
        for name in before - set(run("ls-files", "-z").split("\0")):
            (self.tree / name).unlink(missing_ok=True)
        run("checkout-index", "--all", "--force", "--quiet", check=False)  # a partial clone lacks some files
        settings = self.root / "dbt_project.yml"
        body = yaml.safe_load(settings.read_text(encoding="utf-8"))
        if "profile" not in body:  # then whoever works on it names one by an option
            with settings.open("a", encoding="utf-8") as file:
                file.write("\nprofile: default\n")
        output = {"type": "duckdb", "path": str(self.folder / "none.duckdb")}
        profile = {body.get("profile", "default"): {"target": "dev", "outputs": {"dev": output}}}
        (self.folder / "profiles" / "profiles.yml").write_text(yaml.safe_dump(profile), encoding="utf-8")

    def parse(self, builder: DbtBuilder) -> tuple[Project, Path]:
        """The project with its identities, and its manifest."""
        loaded = builder.load()
        return identified(loaded.project, self.store, builder.render), loaded.manifest

    def modified(self) -> set[str]:
        """What `dbt ls --select state:modified` names."""
        chosen = ["ls", "--quiet", "--select", "state:modified", "--state", str(self.state)]
        places = ["--profiles-dir", str(self.folder / "profiles"), "--project-dir", str(self.root)]
        places += ["--target-path", str(self.folder / "ls"), "--log-path", str(self.folder / "logs")]
        shape = ["--output", "json", "--output-keys", "unique_id", "--resource-types", *KINDS]
        out = self.folder / "dbt.out"
        out.write_text("")
        if self.dbt.invoke(self.folder, [*chosen, *places, *shape]):
            self.total["commits that dbt ls refuses"] += 1
        lines = (line.strip() for line in out.read_text().splitlines())
        return {json.loads(line)["unique_id"] for line in lines if line.startswith('{"unique_id"')}

    def compared(self, commit: str, old: Project, new: Project, dbt: set[str]) -> Iterator[str]:
        """What each calls changed, of the models that both commits have."""
        then, now, total = old.graph.nodes, new.graph.nodes, self.total
        both = then.keys() & now.keys()
        codes = old.graph.fingerprints, new.graph.fingerprints  # with the ephemeral models that are part of a node
        ours = {name for name in both if codes[0][name] != codes[1][name]}
        text = {
            name for name in both if (then[name].compiled, then[name].again) != (now[name].compiled, now[name].again)
        }
        theirs = dbt & both
        total.update({"ours": len(ours), "state:modified": len(theirs), "compiled text": len(text)})
        total["only state:modified"] += len(theirs - ours - text)
        total["state:modified and compiled text"] += len((theirs & text) - ours)
        total["only compiled text"] += len(text - ours - theirs)
        total["ours and compiled text"] += len((ours & text) - theirs)
        total["ours and state:modified"] += len((ours & theirs) - text)
        total["only ours"] += len(ours - theirs - text)
        total["all three"] += len(ours & theirs & text)
        for name in sorted(ours ^ theirs | ours ^ text):
            said = [who for who, found in (("ours", ours), ("dbt", theirs), ("text", text)) if name in found]
            one, two = dict(then[name].parts), dict(now[name].parts)
            one, two = (
                {**parts, "compiled": node.compiled or ""} for parts, node in ((one, then[name]), (two, now[name]))
            )
            parts = sorted(part for part in {*one, *two} if one.get(part) != two.get(part))
            doubt = f"; no compiled SQL: {now[name].doubt}" if now[name].doubt else ""
            yield f"{commit[:10]} {name}: changed for {', '.join(said)} (inputs: {', '.join(parts) or 'none'}{doubt})"
            for part in parts if self.show else ():
                yield from self.difference(part, one.get(part, ""), two.get(part, ""))

    def difference(self, part: str, old: str, new: str) -> Iterator[str]:
        """The lines of the two texts that differ, where they are on record."""
        texts = self.store.get_texts([old, new])
        lines = difflib.unified_diff(texts.get(old, "").splitlines(), texts.get(new, "").splitlines(), n=0, lineterm="")
        for line in list(lines)[2:14]:
            yield f"    {part}: {line[:200]}"


def git(repository: Path, *arguments: str) -> str:
    """What git prints."""
    return subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()

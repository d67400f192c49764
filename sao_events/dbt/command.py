"""dbt's command line: what to parse or build, where its files go, and the files that say what to select."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from sao_events.core.project import IGNORED_FOLDERS, Project
from sao_events.dbt.settings import DbtSettings
from sao_events.ports import Piece

RESULTS = "run_results.json"
MANIFEST = "manifest.json"
PARTIAL = "partial_parse.msgpack"
NOTED = "noted.json"  # of the last parse: digests of the YAML that snapshots are in, and the files of code there were
CODE = (".sql", ".py", ".csv")
YAML = (".yml", ".yaml")
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

# dbt's own selectors take time in proportion to their number times that of the nodes; this one does not.
_SELECT = ("--select", "result:error", "--indirect-selection", "empty")


class Seen(NamedTuple):
    """What there was before a parse: digests of the YAML that snapshots were in, the files of code, and which hour it
    was, where that matters.
    """

    snapshots: dict[str, str]
    code: frozenset[str]
    hour: int | None = None


def plain(text: str) -> str:
    """`text` without colours, backtraces of nothing, and space at its ends."""
    lines = _COLOUR.sub("", text).splitlines()
    return "\n".join(line for line in lines if not re.match(r"\s*\d+: <unknown>|\s+at \./|\s*\d+: \w+$", line)).strip()


def uncompiled(message: Any) -> str:
    """Why there is no SQL of something that dbt refuses to compile with this `message`."""
    return f"dbt cannot compile it: {' '.join(str(message or 'it does not say why').split())[:300]}"


def parse_folder(settings: DbtSettings) -> Path:
    """Where the project is parsed to."""
    return settings.state_dir.absolute() / "parse"


def render_folder(settings: DbtSettings) -> Path:
    """Where what is compiled for comparison is put."""
    return settings.state_dir.absolute() / "compare"


def asked_folder(settings: DbtSettings) -> Path:
    """Where answers of the warehouse are written to."""
    return settings.state_dir.absolute() / "asked"


def piece_folder(settings: DbtSettings, piece: Piece) -> Path:
    """Where a piece keeps its files; names of runs and pieces are made safe for file systems."""
    return settings.state_dir.absolute() / "runs" / quote(piece.run, safe=" ") / quote(piece.id, safe=" ")


def parse_arguments(settings: DbtSettings) -> list[str]:
    """`dbt parse`, without the executable."""
    folder = parse_folder(settings)
    return ["parse", *_common(settings), "--target-path", str(folder / "target"), "--log-path", str(folder)]


def list_arguments(settings: DbtSettings, select: str, exclude: str | None) -> list[str]:
    """`dbt ls` of one selector, one JSON line with the id for each node."""
    folder = parse_folder(settings)
    where = ["--target-path", str(folder / "target"), "--log-path", str(folder)]
    chosen = ["--select", *select.split(), *(["--exclude", *exclude.split()] if exclude else [])]
    return ["ls", *_common(settings), *where, *chosen, "--output", "json", "--output-keys", "unique_id"]


def build_arguments(settings: DbtSettings, piece: Piece, folder: Path) -> list[str]:
    """`dbt build` of exactly the nodes and tests of the piece. Where there are only tests it is `dbt test`: a build
    does not run a unit test without its model."""
    refresh = ["--full-refresh"] if piece.full_refresh and piece.nodes else []
    where = ["--target-path", str(folder / "target"), "--log-path", str(folder), "--state", str(folder / "selection")]
    return ["build" if piece.nodes else "test", *_common(settings), *where, *_SELECT, "--no-fail-fast", *refresh]


def render_arguments(settings: DbtSettings, folder: Path) -> list[str]:
    """`dbt compile` of what the selection in `folder` names, without a look at the warehouse."""
    where = ["--target-path", str(folder / "target"), "--log-path", str(folder), "--state", str(folder / "selection")]
    return ["compile", *_common(settings), *where, *_SELECT, "--no-populate-cache"]


def ask_arguments(settings: DbtSettings, folder: Path) -> list[str]:
    """The command that has a connection and runs nothing of the project; what it runs instead is put in its place."""
    where = ["--target-path", str(folder / "target"), "--log-path", str(folder)]
    return ["run-operation", "ask", *_common(settings), *where]


def inline_arguments(settings: DbtSettings, folder: Path, query: str) -> list[str]:
    """`dbt compile` of a query that is no part of the project."""
    where = ["--target-path", str(folder / "target"), "--log-path", str(folder)]
    return ["compile", *_common(settings), *where, "--no-populate-cache", "--inline", query]


def connect_arguments(settings: DbtSettings, folder: Path) -> list[str]:
    """`dbt debug` of the connection alone."""
    return ["debug", "--connection", *_common(settings, threads=False), "--log-path", str(folder)]


def freshness_arguments(settings: DbtSettings, folder: Path, sources: Iterable[str], output: Path) -> list[str]:
    """`dbt source freshness` of the sources with these ids, its results in the file `output`."""
    where = ["--target-path", str(folder / "target"), "--log-path", str(folder), "--output", str(output)]
    chosen = [f"source:{source.removeprefix('source.')}" for source in sources]
    return ["source", "freshness", *_common(settings), *where, "--select", *chosen]


def select_in(folder: Path, ids: Iterable[str]) -> None:
    """Make `folder` with a selection of `ids`. Raises OSError."""
    (folder / "selection").mkdir(parents=True, exist_ok=True)
    (folder / "target").mkdir(exist_ok=True)
    (folder / "selection" / RESULTS).write_text(selection(ids), encoding="utf-8")


def prepare(settings: DbtSettings, piece: Piece) -> Path:
    """Make the piece's folder with its selection and what was parsed before. Raises OSError."""
    folder = piece_folder(settings, piece)
    select_in(folder, (*piece.nodes, *piece.tests))
    (folder / "dbt.log").touch()
    return folder


def reuse_parse(settings: DbtSettings, folder: Path) -> None:
    """Give the piece what was parsed last, so that only what changed since is parsed again."""
    with contextlib.suppress(OSError):
        shutil.copyfile(parse_folder(settings) / PARTIAL, folder / "target" / PARTIAL)


def bring_parse(settings: DbtSettings) -> Seen:
    """Take what was parsed last in another folder, the checkout of another commit, for this one. dbt keeps in it where
    seeds are, and some adapters read them from there; checkouts come and go, and their paths have one length.

    It is dropped where dbt's partial parsing (dbt-core 1.11) does not read what it says. Once a macro was edited that
    a model uses, dbt keeps the snapshot of that model as it was, or finds it twice, whatever its YAML says: so where
    the YAML of a snapshot has changed. To a model that is new dbt adds nothing of what YAML has said before of it: so
    where YAML names one. And what a clock was asked for stays as it was: so in another hour, where one is asked.
    Returns what was seen, for `parsed`.
    """
    kept, root = parse_folder(settings), str(settings.project_dir.absolute())
    noted, folder = _noted(kept / NOTED), settings.project_dir
    seen = Seen({path: _digest(folder / path) for path in (noted.snapshots if noted else ())}, _code(folder), hour())
    old = noted is None or noted.hour not in (None, seen.hour) or seen.snapshots != noted.snapshots
    if noted is None or old or _named(folder, seen.code - noted.code):
        for file in (kept / "target" / PARTIAL, kept / PARTIAL):
            file.unlink(missing_ok=True)
    note = kept / "root"
    before = note.read_text(encoding="utf-8") if note.is_file() else root
    for file in (kept / "target" / PARTIAL, kept / PARTIAL) if before != root else ():
        with contextlib.suppress(FileNotFoundError):
            if len(before.encode()) == len(root.encode()):
                _replace(file, file.read_bytes().replace(before.encode(), root.encode()))
            else:
                file.unlink()
    kept.mkdir(parents=True, exist_ok=True)
    _replace(note, root.encode())
    return seen


def parsed(settings: DbtSettings, project: Project, seen: Seen) -> None:
    """Note which files the snapshots of `project`, which was just parsed, are in, and which files of code there were.
    `seen`: what there was before.
    """
    paths = {node.path for node in project.graph.nodes.values() if node.kind == "snapshot" and node.path}
    in_yaml = [path for path in paths if path.endswith(YAML)]
    found = {path: seen.snapshots.get(path) or _digest(settings.project_dir / path) for path in in_yaml}
    noted = {"snapshots": found, "files": sorted(seen.code), "hour": seen.hour if project.meta.get("timed") else None}
    _replace(parse_folder(settings) / NOTED, json.dumps(noted, sort_keys=True).encode())


def hour() -> int:
    """The number of the hour, since the epoch."""
    return int(time.time() // 3600)


def _noted(file: Path) -> Seen | None:
    """What there was before the last parse; None where that is not known."""
    try:
        noted = json.loads(file.read_bytes())
        return Seen(noted["snapshots"], frozenset(noted["files"]), noted.get("hour"))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _code(root: Path) -> frozenset[str]:
    """The files that may be models, seeds or snapshots, by their paths in the project."""
    return frozenset(str(path.relative_to(root)) for path in project_files(root, CODE))


def _named(root: Path, files: Collection[str]) -> bool:
    """Whether any YAML of the project has the name of one of `files` in it."""
    sought = {Path(file).stem.encode() for file in files}
    try:
        texts = (path.read_bytes() for path in project_files(root, YAML)) if sought else ()
        return any(any(name in text for name in sought) for text in texts)
    except OSError:
        return True


def project_files(root: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """The files of a project whose names end so, without what dbt, git and others keep there."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in IGNORED_FOLDERS and not name.startswith(".")]
        yield from (Path(folder, name) for name in names if name.endswith(suffixes))


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


def _replace(file: Path, content: bytes) -> None:
    fresh = file.with_name(f"{file.name}.new")
    fresh.write_bytes(content)
    fresh.replace(file)


def keep_parse(settings: DbtSettings) -> None:
    """Keep what was just parsed apart from where the next parse writes."""
    folder = parse_folder(settings)
    with contextlib.suppress(OSError):
        _replace(folder / PARTIAL, (folder / "target" / PARTIAL).read_bytes())


def tidy(settings: DbtSettings, folder: Path) -> None:
    """Remove from a finished piece what is large and can be made again; log and compiled SQL stay for as long as the
    settings say. What older runs have left goes with it.
    """
    for name in (PARTIAL, MANIFEST, "semantic_manifest.json", "graph_summary.json", "graph.gpickle", "perf_info.json"):
        with contextlib.suppress(OSError):
            (folder / "target" / name).unlink(missing_ok=True)
    if settings.keep_output:
        _forget(settings.state_dir.absolute() / "runs", time.time() - settings.keep_output)


def _forget(runs: Path, before: float) -> None:
    for run in os.scandir(runs):
        with contextlib.suppress(FileNotFoundError):
            if run.stat().st_mtime < before:
                shutil.rmtree(run, ignore_errors=True)


def selection(ids: Iterable[str]) -> str:
    """A file of results in which exactly `ids` have failed."""
    blank = {
        "status": "error",
        "timing": [],
        "thread_id": "",
        "execution_time": 0.0,
        "adapter_response": {},
        "message": None,
        "failures": None,
        "compiled": None,
        "compiled_code": None,
        "relation_name": None,
        "batch_results": None,
    }
    body = {
        "metadata": {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json",
            "dbt_version": "1.10.0",
            "generated_at": "2026-01-01T00:00:00Z",
            "invocation_id": "00000000-0000-0000-0000-000000000000",
            "env": {},
        },
        "results": [{**blank, "unique_id": name} for name in ids],
        "elapsed_time": 0.0,
        "args": {"command": "build", "which": "build", "__other__": {}},  # dbt 2 selects nothing without it
    }
    return json.dumps(body)


def _common(settings: DbtSettings, *, threads: bool = True) -> list[str]:
    found = ["--project-dir", str(settings.project_dir.absolute())]
    if settings.profiles_dir:
        found += ["--profiles-dir", str(settings.profiles_dir.absolute())]
    for flag, value in (("--profile", settings.profile), ("--target", settings.target)):
        found += [flag, value] if value else []
    if settings.vars:
        found += ["--vars", json.dumps(dict(settings.vars), default=str)]
    if settings.threads and threads:
        found += ["--threads", str(settings.threads)]
    return [*found, "--no-use-colors", "--no-quiet", "--log-level-file", "debug", "--log-format-file", "text"]

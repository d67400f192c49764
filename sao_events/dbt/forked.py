"""The service's side of the warm dbt: starts it, asks it, and turns what it says into reports."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from sao_events.core.errors import DbtError, SaoError
from sao_events.core.identity import Inputs, Rendered
from sao_events.core.project import Project
from sao_events.dbt.builder import CHANGED, DbtBuilder, Loaded, both, changed_code, parse_error, read_parsed
from sao_events.dbt.command import (
    MANIFEST,
    ask_arguments,
    asked_folder,
    bring_parse,
    build_arguments,
    list_arguments,
    parse_arguments,
    parse_folder,
    parsed,
    piece_folder,
    prepare,
    render_arguments,
    render_folder,
    select_in,
    tidy,
)
from sao_events.dbt.content import HASHED
from sao_events.dbt.log import Follower
from sao_events.ports import Answer, Piece, PieceEnded

BRIEF = ("--no-write-json", "--cache-selected-only")  # what takes time in proportion to the project, not to the piece
ANSWERED = ("parsed", "listed", "rendered", "ended", "lost")  # the last two: somebody ended it before it could say more
UNANSWERED = 30.0  # seconds beyond those of its statements after which a question is ended by force
LOST = "the process that held the parsed project has ended"


class Build(NamedTuple):
    """A piece that runs, and how its dbt said that it ended."""

    follower: Follower
    outcome: dict[str, Any]


class Server:
    """One warm dbt. `answers` of requests that somebody waits for go to the queue under the request's name."""

    def __init__(self, builder: WarmBuilder) -> None:
        settings, kept = builder.settings, () if builder.keep_fd is None else (builder.keep_fd,)
        settings.check_place()
        self.log = settings.state_dir.absolute() / "warm.log"
        with self.log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", "-m", "sao_events.dbt.warm", str(settings.grace)],
                cwd=settings.project_dir if settings.project_dir.is_dir() else None,
                env=_importing_us(settings.environment()),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                pass_fds=kept,
            )
        self.builder = builder
        self.waiting: dict[str, SimpleQueue[dict[str, Any] | None]] = {}
        self.dead = False
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self._listen, name="warm dbt", daemon=True)
        self.thread.start()

    def ask(self, **request: Any) -> bool:
        """Send a request; False where nobody is left to hear it."""
        assert self.process.stdin is not None
        with self.lock:
            try:
                self.process.stdin.write(json.dumps(request).encode() + b"\n")
                self.process.stdin.flush()
            except (OSError, ValueError):
                return False
        return True

    def wait(self, name: str, patience: float | None = None, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises DbtError where the process ends instead, or `patience` in
        seconds does.
        """
        queue = self.waiting[name] = SimpleQueue()
        if self.dead or not self.ask(**request):
            queue.put(None)
        try:
            answer = queue.get(timeout=patience)
        except Empty:
            raise DbtError(f"dbt did not answer within {patience:g} seconds") from None
        finally:
            del self.waiting[name]
        if answer is None:
            said = self.log.read_text(errors="replace").strip()[-2000:]
            raise DbtError(f"dbt ended while it was asked\n{said}".rstrip())
        return answer

    def stop(self) -> None:
        """End it and everything it has started; returns when that is done."""
        self._hang_up()
        self.thread.join()

    def _hang_up(self) -> None:
        assert self.process.stdin is not None
        with self.lock, contextlib.suppress(OSError):
            self.process.stdin.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                answer = json.loads(line)
                if "lost" in answer:
                    self.builder.forget()
                name = next((str(answer[word]) for word in ANSWERED if word in answer), "")
                if (queue := self.waiting.get(name)) is not None:
                    queue.put(answer if "ok" in answer else {"ok": answer.get("code") == 0, "said": LOST})
                else:
                    self.builder.heard(answer)
        self.dead = True
        self._hang_up()
        self.process.wait()
        for queue in list(self.waiting.values()):
            queue.put(None)
        self.builder.ended_all()


class WarmBuilder(DbtBuilder):
    """The warm runner."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._builds: dict[str, Build] = {}
        self._loaded: Loaded | None = None
        self._default: Mapping[str, Any] | None = None
        self._files: dict[Path, tuple[int, int] | None] = {}
        self._names = count(1)
        self._closed = False
        self._loading = threading.RLock()
        self._server = Server(self)

    def load(self, default: Mapping[str, Any] | None = None) -> Loaded:
        self.settings.check()
        with self._loading:
            seen = bring_parse(self.settings)
            answer = self._ask("parse", parse_arguments(self.settings))
            if not answer["ok"]:
                raise parse_error(self.settings, answer["said"])
            manifest = parse_folder(self.settings) / "target" / MANIFEST
            loaded = read_parsed(self.settings, manifest, default)
            parsed(self.settings, loaded.project, seen)
            self._files = {path: _stamp(path) for path in _read_at_build(self.settings.project_dir, loaded.project)}
            self._loaded, self._default = loaded, default
            return loaded

    def select(self, text: str, exclude: str | None = None) -> tuple[str, ...]:
        with self._loading:
            if self._loaded is None or self._server.dead:
                self.load(self._default)
            answer = self._ask("list", list_arguments(self.settings, text, exclude))
        if not answer["ok"]:
            raise DbtError(f"dbt does not understand the selector {text}:\n{answer['said']}")
        return tuple(answer["ids"])

    def hashes(self, adapter: str) -> bool:
        return adapter in HASHED

    def start(self, piece: Piece, project: Project) -> None:
        loaded = self._loaded
        if self._server.dead or loaded is None:
            threading.Thread(target=self._load_and_start, args=(piece, project), daemon=True).start()
        else:
            self._start(piece, project, loaded.project)

    def cancel(self, run: str) -> None:
        with self.lock:
            builds = [build.follower for build in self._builds.values() if build.follower.piece.run == run]
        for follower in builds:
            follower.cancelled = True
        self._server.ask(cancel=[follower.piece.id for follower in builds])

    def render(self, wanted: Mapping[str, Inputs]) -> dict[str, Rendered]:
        with self._loading:
            if self._loaded is None or self._server.dead:
                self.load(self._default)
            twice = [name for name, inputs in wanted.items() if inputs.twice]
            return both(self._rendered(wanted, again=False), self._rendered(twice, again=True))

    def _rendered(self, names: Collection[str], *, again: bool) -> dict[str, dict[str, str]]:
        if not names:
            return {}
        folder = render_folder(self.settings)
        file = folder / "rendered.json"
        try:
            select_in(folder, names)
            file.unlink(missing_ok=True)
            asked: dict[str, Any] = {"file": str(file), "again": again}
            answer = self._ask("render", [*render_arguments(self.settings, folder), *BRIEF], **asked)
            if not answer["ok"]:
                raise DbtError(f"dbt cannot compile the project: {answer['said']}")
            return dict(json.loads(file.read_bytes()))
        except (OSError, ValueError) as error:
            raise DbtError(f"what dbt compiled cannot be read in {folder}: {error}") from None

    def ask(self, statements: Sequence[str], seconds: float, most: int) -> list[Answer]:
        return self._put(statements, seconds, most, keep=False)

    def change(self, statements: Sequence[str], seconds: float) -> list[Answer]:
        return self._put(statements, seconds, 1, keep=True)

    def _put(self, statements: Sequence[str], seconds: float, most: int, *, keep: bool) -> list[Answer]:
        if not statements:
            return []
        try:
            with self._loading:
                if self._loaded is None or self._server.dead:
                    self.load(self._default)
            file = asked_folder(self.settings) / f"{next(self._names)}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            limit = len(statements) * seconds + UNANSWERED
            asked = {"file": str(file), "statements": list(statements), "seconds": seconds, "most": most}
            asked["keep"] = keep
            arguments = [*ask_arguments(self.settings, file.parent), *BRIEF]
            answer = self._ask("ask", arguments, limit + UNANSWERED, limit=limit, **asked)
            found = [_answered(line) for line in file.read_text(encoding="utf-8").splitlines()]
            file.unlink()
            said = "dbt ended without an answer" if answer["ok"] else answer["said"]
        except (OSError, ValueError, SaoError) as error:
            found, said = [], str(error)
        return [*found, *(Answer(error=said) for _ in statements[len(found) :])]

    def close(self) -> None:
        self._closed = True
        with self.lock:
            for build in self._builds.values():
                build.follower.cancelled = True
        self._server.stop()

    def heard(self, answer: Mapping[str, Any]) -> None:
        """What the warm dbt says about builds."""
        name = answer.get("event") or answer.get("done") or answer.get("ended") or answer.get("lost")
        with self.lock:
            build = self._builds.get(str(name))
        if build is None:
            return
        if "node" in answer:
            build.follower.looked(answer["node"], answer)
        elif "event" in answer:
            event, level, text, data = answer["is"]
            self.report(build.follower.event(event, level, text, data))
        elif "done" in answer:
            build.outcome.update(code=answer["code"], said=answer["said"])
        elif "ended" in answer:
            self._end(build, build.outcome.get("code", answer["code"] or 1), build.outcome.get("said", ""))
        else:
            self._end(build, 2, LOST)

    def forget(self) -> None:
        """The process that held the project is gone: what is asked next has it read again."""
        self._loaded = None

    def ended_all(self) -> None:
        """The warm dbt is gone, and with it all builds."""
        with self.lock:
            builds = list(self._builds.values())
        for build in builds:
            self._end(build, 2, LOST)

    def _ask(self, what: str, arguments: list[str], patience: float | None = None, **more: Any) -> dict[str, Any]:
        if self._closed:
            raise DbtError("the builder is closed")
        if self._server.dead:
            self._server = Server(self)
        name = f"{what}-{next(self._names)}"
        return self._server.wait(name, patience, **{what: name, "arguments": arguments, **more})

    def _load_and_start(self, piece: Piece, project: Project) -> None:
        """After the warm dbt was lost: read the project again, then begin."""
        try:
            with self._loading:
                loaded = self._loaded
                if self._server.dead or loaded is None:
                    loaded = self.load(self._default)
        except SaoError as error:
            self.report([PieceEnded(piece.id, "error", str(error))])
        else:
            self._start(piece, project, loaded.project)

    def _start(self, piece: Piece, project: Project, loaded: Project) -> None:
        if names := changed_code(project, loaded, piece.nodes):
            told = f"the project was read again after this was planned ({', '.join(names[:5])})"
            self.report([PieceEnded(piece.id, "interrupted", told)])
            return
        if changed := [str(path) for path, stamp in self._files.items() if _stamp(path) != stamp]:
            self.report([PieceEnded(piece.id, "error", f"{CHANGED} ({', '.join(changed[:5])})")])
            return
        try:
            folder = prepare(self.settings, piece)
        except OSError as error:
            self.report([PieceEnded(piece.id, "error", f"cannot write {error.filename}: {error.strerror}")])
            return
        build = Build(Follower(piece), {})
        with self.lock:
            self._builds[piece.id] = build
        arguments = [*build_arguments(self.settings, piece, folder), *BRIEF]
        request: dict[str, Any] = {
            "arguments": arguments,
            "log": str(folder / "dbt.log"),
            "columns": self.settings.columns,
            "hashes": dict(piece.hashes),
        }
        if self.settings.aggregate:
            request |= {"together": piece.tests, "nodes": piece.nodes}
        if not self._server.ask(build=piece.id, **request):
            self._end(build, 2, LOST)

    def _end(self, build: Build, code: int, said: str) -> None:
        piece = build.follower.piece
        with self.lock:
            if self._builds.pop(piece.id, None) is None:
                return
        tidy(self.settings, piece_folder(self.settings, piece))
        self.report(build.follower.end(code, said))


def _read_at_build(root: Path, project: Project) -> list[Path]:
    """Files that dbt reads when it builds, though it has parsed the project: its settings and the seeds."""
    seeds = [root / node.path for node in project.graph.nodes.values() if node.kind == "seed" and node.path]
    return [root / "dbt_project.yml", root / "vars.yml", *seeds]


def _answered(line: str) -> Answer:
    answer = json.loads(line)
    rows = tuple(tuple(row) for row in answer.get("rows", ()))
    return Answer(tuple(answer.get("columns", ())), rows, answer.get("error"))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _importing_us(env: dict[str, str]) -> dict[str, str]:
    """`env` with the place that this package was imported from, in case it is not installed; and with macOS told
    that forking without executing something else is meant."""
    places = [env["PYTHONPATH"]] if env.get("PYTHONPATH") else []
    found = env | {"PYTHONPATH": os.pathsep.join([*places, str(Path(__file__).parents[2])])}
    return found | ({"OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES"} if sys.platform == "darwin" else {})

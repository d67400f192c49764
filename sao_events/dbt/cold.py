"""Runs dbt as a process of its own for every parse and every build: any dbt that can be started, on POSIX."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sao_events.core.errors import DbtError, SaoError
from sao_events.core.identity import Inputs, Rendered
from sao_events.core.probes import LOADED_AT
from sao_events.core.project import Project
from sao_events.dbt import guard, inline
from sao_events.dbt.builder import DbtBuilder, Loaded, changed_on_disk, parse_error, read_parsed
from sao_events.dbt.command import (
    MANIFEST,
    asked_folder,
    bring_parse,
    build_arguments,
    connect_arguments,
    freshness_arguments,
    inline_arguments,
    keep_parse,
    list_arguments,
    parse_arguments,
    parse_folder,
    parsed,
    plain,
    prepare,
    render_arguments,
    render_folder,
    reuse_parse,
    select_in,
    tidy,
    uncompiled,
)
from sao_events.dbt.log import Follower
from sao_events.dbt.manifest import read_manifest
from sao_events.ports import Answer, Piece, PieceEnded

EVENTS = ("--log-format", "json", "--log-level", "debug")
ASKS = "it may ask the warehouse while it is compiled"
LATER = "it renders otherwise once its table is there, which only the warm runner can see"
START = 60.0  # seconds that dbt may take to start and to read the project, when it is asked something


class Late(DbtError):
    """dbt has not come to its end in the time that it was given; `events` are those until then."""

    events: list[dict[str, Any]]


class Build(NamedTuple):
    """A piece that runs."""

    follower: Follower
    process: subprocess.Popen[str]
    thread: threading.Thread


class ColdBuilder(DbtBuilder):
    """The subprocess runner."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._builds: dict[str, Build] = {}
        self._asked: set[subprocess.Popen[str]] = set()
        self._closed = False
        self._parsing, self._asking = threading.Lock(), threading.Lock()

    def load(self, default: Mapping[str, Any] | None = None) -> Loaded:
        self.settings.check()
        with self._parsing:
            seen = bring_parse(self.settings)
            code, events, output = self._ask(parse_arguments(self.settings))
            manifest = parse_folder(self.settings) / "target" / MANIFEST
            if code or not manifest.exists():
                raise parse_error(self.settings, said_by(events, output) or f"dbt parse ended with status {code}")
            keep_parse(self.settings)
            loaded = read_parsed(self.settings, manifest, default)
            parsed(self.settings, loaded.project, seen)
            return loaded

    def select(self, text: str, exclude: str | None = None) -> tuple[str, ...]:
        self.settings.check()
        code, events, output = self._ask(list_arguments(self.settings, text, exclude))
        if code:
            raise DbtError(f"dbt does not understand the selector {text}:\n{said_by(events, output)}")
        return tuple(name for event in events if (name := _listed(event)) is not None)

    def start(self, piece: Piece, project: Project) -> None:
        try:
            folder = prepare(self.settings, piece)
            reuse_parse(self.settings, folder)
            process = self._spawn([*build_arguments(self.settings, piece, folder), *EVENTS])
        except (OSError, SaoError) as error:
            self.report([PieceEnded(piece.id, "error", str(error))])
            return
        manifest = folder / "target" / MANIFEST
        follower = Follower(piece, lambda: changed_on_disk(self.settings, manifest, project, piece))
        thread = threading.Thread(target=self._follow, args=(piece, folder), name=f"dbt {piece.id}", daemon=True)
        with self.lock:
            self._builds[piece.id] = Build(follower, process, thread)
        thread.start()

    def cancel(self, run: str) -> None:
        with self.lock:
            builds = [build for build in self._builds.values() if build.follower.piece.run == run]
        for build in builds:
            self._stop(build)

    def render(self, wanted: Mapping[str, Inputs]) -> dict[str, Rendered]:
        """What may ask the warehouse is not rendered, nor what renders otherwise once its table is there, since dbt
        would look for the table. dbt-core 1.x stops at the first that fails: it is left out, and dbt started again.
        """
        found = {
            name: Rendered(doubt=LATER if inputs.twice else ASKS)
            for name, inputs in wanted.items()
            if inputs.twice or inputs.asks
        }
        while left := wanted.keys() - found.keys():
            found |= self._rendered(left)
        return found

    def _rendered(self, names: Collection[str]) -> dict[str, Rendered]:
        """What came of one process: all of it where it went well, else those that failed."""
        folder = render_folder(self.settings)
        manifest = folder / "target" / MANIFEST
        try:
            select_in(folder, names)
            manifest.unlink(missing_ok=True)
            with self._parsing:
                reuse_parse(self.settings, folder)
            code, events, output = self._ask([*render_arguments(self.settings, folder), "--no-introspect"])
            if code == 0:
                nodes = read_manifest(manifest)["nodes"]
                return {name: _compiled(nodes.get(name) or {}) for name in names}
        except OSError as error:
            raise DbtError(f"what dbt compiled cannot be read in {folder}: {error}") from None
        failed = {name: Rendered(doubt=uncompiled(why)) for name, why in _failed(events) if name in names}
        if not failed:
            raise DbtError(f"dbt cannot compile the project: {said_by(events, output)}")
        return failed

    def ask(self, statements: Sequence[str], seconds: float, most: int) -> list[Answer]:
        with self._asking:
            sources = [sql.removeprefix(LOADED_AT) for sql in statements if sql.startswith(LOADED_AT)]
            loaded = iter(self._loaded_at(sources, seconds) if sources else [])
            asked = [sql for sql in statements if not sql.startswith(LOADED_AT)]
            answers = iter([one for lot in inline.parts(asked) for one in self._answers(lot, seconds, most)])
            return [next(loaded if sql.startswith(LOADED_AT) else answers) for sql in statements]

    def change(self, statements: Sequence[str], seconds: float) -> list[Answer]:
        words = "dbt run as a process of its own changes nothing but what it builds: set dbt.runner to warm"
        return [Answer(error=words) for _ in statements]

    def _answers(self, statements: Sequence[str], seconds: float, most: int) -> list[Answer]:
        """By one process, which ends at the first that fails, if any; then by another for what comes after it. Where
        dbt cannot connect at all, the others are not asked.
        """
        found, connects = list[Answer](), False
        while left := statements[len(found) :]:
            arguments = inline_arguments(self.settings, self._asked_in(), inline.query(left, most))
            events, said = self._told(arguments, seconds * len(left))
            answers = inline.read(events)[: len(left)]
            found += answers
            connects = connects or bool(answers)
            if len(answers) < len(left):
                found.append(Answer(error=plain(said) or "dbt did not answer"))
                connects = connects or len(left) == 1 or self._connects(seconds)
            if not connects:
                found += [found[-1]] * (len(left) - 1)
        return found

    def _connects(self, seconds: float) -> bool:
        return not self._told(connect_arguments(self.settings, self._asked_in()), seconds)[1]

    def _loaded_at(self, sources: Sequence[str], seconds: float) -> list[Answer]:
        folder = self._asked_in()
        output = folder / "target" / "sources.json"
        output.unlink(missing_ok=True)
        _, said = self._told(freshness_arguments(self.settings, folder, sources, output), seconds * len(sources))
        return inline.read_freshness(output, sources, said)

    def _asked_in(self) -> Path:
        folder = asked_folder(self.settings)
        (folder / "target").mkdir(parents=True, exist_ok=True)
        reuse_parse(self.settings, folder)
        return folder

    def _told(self, arguments: list[str], seconds: float) -> tuple[list[dict[str, Any]], str]:
        """The events of a dbt, and what it said where it did not do what it was to do. `seconds` are the warehouse's:
        dbt needs some to start.
        """
        try:
            code, events, output = self._ask(arguments, seconds + START)
        except Late as error:
            return error.events, str(error)
        except SaoError as error:
            return [], str(error)
        except OSError as error:
            return [], f"dbt cannot be started: {error.strerror}"
        return events, (said_by(events, output) or "dbt did not answer") if code else ""

    def close(self) -> None:
        with self.lock:
            self._closed = True
            builds, asked = list(self._builds.values()), list(self._asked)
        for process in asked:
            _hang_up(process)
        for build in builds:
            self._stop(build)
        for build in builds:
            build.thread.join()

    def _stop(self, build: Build) -> None:
        build.follower.cancelled = True
        _hang_up(build.process)

    def _follow(self, piece: Piece, folder: Path) -> None:
        with self.lock:
            follower, process, _ = self._builds[piece.id]
        output: deque[str] = deque(maxlen=200)
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                event = read_event(line)
                if event is None:
                    output.append(line)
                else:
                    self.report(follower.event(*event))
        code = exit_code(process)
        _hang_up(process)
        said = "".join(output)
        with contextlib.suppress(OSError), (folder / "dbt.log").open("a", encoding="utf-8") as log:
            log.write(said)
        reports = follower.end(code, said)
        tidy(self.settings, folder)
        with self.lock:
            del self._builds[piece.id]
        self.report(reports)

    def _ask(self, arguments: list[str], patience: float | None = None) -> tuple[int, list[dict[str, Any]], str]:
        """Run dbt to its end: exit status, events, and what it printed beside them. Raises Late where it has not come
        to its end within `patience` seconds.
        """
        process = self._spawn([*arguments, *EVENTS])
        late = threading.Event()

        def give_up() -> None:
            late.set()
            _hang_up(process)

        timer = threading.Timer(patience or 0.0, give_up)
        timer.daemon = True
        if patience is not None:
            timer.start()
        with self.lock:
            self._asked.add(process)
        try:
            assert process.stdout is not None
            with process.stdout:
                lines = process.stdout.readlines()
            code = exit_code(process)
        finally:
            timer.cancel()
            _hang_up(process)
            with self.lock:
                self._asked.discard(process)
        events = [_json(line) for line in lines]
        if late.is_set():
            error = Late(f"dbt gave no answer within {patience:g} seconds")
            error.events = [event for event in events if event is not None]
            raise error
        output = "".join(line for line, event in zip(lines, events, strict=True) if event is None)
        return code, [event for event in events if event is not None], output

    def _spawn(self, arguments: list[str]) -> subprocess.Popen[str]:
        if self._closed:
            raise DbtError("the builder is closed")
        kept = () if self.keep_fd is None else (self.keep_fd,)
        watch = [sys.executable, "-I", "-S", guard.__file__, str(self.settings.grace), ",".join(map(str, kept))]
        return subprocess.Popen(
            [*watch, self.settings.executable(), *arguments],
            cwd=self.settings.project_dir,
            env=self.settings.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            pass_fds=kept,
        )


def read_event(line: str) -> tuple[str, str, str, dict[str, Any]] | None:
    """Name, level, text and data of one line of dbt's log; None for a line that is no event."""
    body = _json(line)
    if body is None:
        return None
    info = body["info"]
    return str(info.get("name")), str(info.get("level")), str(info.get("msg")), body.get("data") or {}


def said_by(events: list[dict[str, Any]], output: str) -> str:
    """Why dbt gave up: its last word, else everything it called an error, else whatever it printed."""
    last = [event["data"]["exc"] for event in events if (event.get("data") or {}).get("exc")]
    errors = [str(event["info"].get("msg")) for event in events if event["info"].get("level") == "error"]
    return last[-1] if last else "\n".join(errors[:20]) or output[-4000:]


def exit_code(process: subprocess.Popen[str]) -> int:
    """The exit status of the command behind the guard; negative for a signal."""
    code = process.wait()
    return 128 - code if code > 128 else code


def _json(line: str) -> dict[str, Any] | None:
    start = line.find('{"')
    if start < 0 or '"info"' not in line:
        return None
    try:
        body = json.loads(line[start:])
    except ValueError:
        return None
    return body if isinstance(body, dict) and isinstance(body.get("info"), dict) else None


def _listed(event: Mapping[str, Any]) -> str | None:
    """The id in an event that lists a node, which holds one JSON line."""
    text = str((event.get("data") or {}).get("msg") or "")
    try:
        return str(json.loads(text)["unique_id"])
    except (ValueError, TypeError, KeyError):
        return None


def _compiled(node: Mapping[str, Any]) -> Rendered:
    """The SQL in dbt's manifest."""
    sql = node.get("compiled_code")
    return Rendered(doubt=uncompiled(None)) if sql is None else Rendered(sql)


def _failed(events: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The ids of what dbt could not compile, with its words."""
    for event in events:
        data = event.get("data") or {}
        result = data.get("run_result") or {}
        if event["info"].get("name") == "NodeFinished" and result.get("status") == "error":
            yield str((data.get("node_info") or {}).get("unique_id")), result.get("message")


def _hang_up(process: subprocess.Popen[str]) -> None:
    """Close the guard's input: it ends what still runs."""
    if process.stdin is not None and not process.stdin.closed:
        with contextlib.suppress(OSError):
            process.stdin.close()

"""The warm dbt: processes that have imported dbt and parsed the project, forked for each build.

Run as `python -m sao_events.dbt.warm GRACE`: requests are JSON lines on its input, answers JSON lines on its output.
Three kinds of processes, each the parent of the next: the root imports dbt; a host, one for each version of the
project, parses it once and never invokes dbt again; a build is forked from a host, invokes dbt once and ends, since dbt
changes the manifest that it is given. Each ends its children when the pipe from its parent closes: a build never
outlives the service. What dbt makes once in each process and keeps, the parents make when they have nothing else to do,
for the children to come: the root what it checks a project with, both the macros that a build says it has compiled.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import resource_tracker
from typing import Any

from sao_events.dbt.calls import ask, build, compile_macro, listing, parse, render, schemas

Request = dict[str, Any]
CHUNK = 1 << 16
COLLECTED = 10_000  # new objects between two collections: with Python's 700 a parse takes a tenth longer


class Lines:
    """The reading end of a pipe, cut into lines."""

    def __init__(self, fd: int) -> None:
        self.fd, self._rest = fd, b""

    def read(self) -> list[bytes] | None:
        """The lines that are there, each with its end; None when the other side is gone."""
        data = os.read(self.fd, CHUNK)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line + b"\n" for line in lines]


@dataclass
class Child:
    """A forked process: what it writes, the end of its input (hosts only), and when it is to be killed. `owed`: what a
    host was asked for and has not said the end of.
    """

    pid: int
    output: Lines
    name: str
    input: int | None = None
    deadline: float = float("inf")
    parsed: bool = False
    owed: set[str] = field(default_factory=set)


def main() -> None:
    """The root."""
    grace = float(sys.argv[1])
    requests, answers = _private(0, os.O_RDONLY), _private(1, os.O_WRONLY)
    warnings.simplefilter("ignore")
    gc.disable()  # what an import makes stays
    import dbt.cli.main  # noqa: F401

    gc.freeze()
    gc.set_threshold(COLLECTED)
    gc.enable()
    Root(Lines(requests), answers, grace).run()


class Process:
    """A process that listens to its parent and to its children until the parent is gone."""

    def __init__(self, requests: Lines, answers: int, grace: float) -> None:
        self.requests, self.answers, self.grace = requests, answers, grace
        self.children: dict[int, Child] = {}
        self.chores: deque[Callable[[], object]] = deque()
        self.orphaned = self.retired = False

    def run(self) -> None:
        """Serve until nobody asks for anything any more and nothing runs."""
        while not (self.orphaned or self.retired) or self.children:
            listening = [child.output.fd for child in self.children.values()]
            if not self.orphaned:
                listening.append(self.requests.fd)
            now = time.monotonic()
            soonest = min((child.deadline for child in self.children.values()), default=float("inf"))
            patience = 0.0 if self.chores else max(0.0, min(soonest - now, 3600.0))
            ready, _, _ = select.select(listening, [], [], patience)
            if self.chores and not ready:
                with contextlib.suppress(Exception):
                    self.chores.popleft()()
            if self.requests.fd in ready:
                self._hear()
            for child in [child for child in self.children.values() if child.output.fd in ready]:
                self._relay(child)
            self._kill_late()

    def request(self, request: Request) -> None:
        """Do what the parent asks."""
        raise NotImplementedError

    def leave(self) -> None:
        """The parent is gone: end the children."""
        raise NotImplementedError

    def line(self, child: Child, line: bytes) -> None:
        """A child has written a line."""
        self.learn(line)
        self.write(line)

    def learn(self, line: bytes) -> bool:
        """Whether the line tells which macros a build has compiled; they are to be compiled here too."""
        told = line.startswith(b'{"compiled"')
        if told:
            self.chores.extend(partial(compile_macro, text) for text in json.loads(line)["compiled"])
        return told

    def gone(self, child: Child, code: int) -> None:
        """A child has ended with the exit status `code`, negative for a signal."""

    def write(self, line: bytes) -> None:
        """Tell the parent."""
        with contextlib.suppress(BrokenPipeError):
            _write(self.answers, line)

    def say(self, **answer: Any) -> None:
        """Tell the parent a JSON object."""
        self.write(json.dumps(answer).encode() + b"\n")

    def fork(self, name: str, body: Callable[[int, int], None], *, listens: bool = False) -> Child:
        """Start a child that runs `body` with the ends of its pipes, and ends with it."""
        output, into = os.pipe()
        hears, tells = os.pipe() if listens else (-1, -1)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until the child knows what to do with it
        pid = os.fork()
        if pid == 0:
            with _LastStop():
                self._forget()
                for fd in (output, tells):
                    _close(fd)
                body(hears, into)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for fd in (into, hears):
            _close(fd)
        child = self.children[pid] = Child(pid, Lines(output), name, tells if listens else None)
        return child

    def _forget(self) -> None:
        """In a child: let go of what belongs to the parent, so that its end is noticed. The pipe of its answers stays
        open: when that closes, all that it has started has ended too.
        """
        _close(self.requests.fd)
        for child in self.children.values():
            _close(child.output.fd)
            _close(child.input if child.input is not None else -1)

    def _hear(self) -> None:
        lines = self.requests.read()
        if lines is None:
            self.orphaned = True
            self.leave()
        for line in lines or ():
            self.request(json.loads(line))

    def _relay(self, child: Child) -> None:
        lines = child.output.read()
        for line in lines or ():
            self.line(child, line)
        if lines is None:
            _close(child.output.fd)
            _close(child.input if child.input is not None else -1)
            del self.children[child.pid]
            _, status = os.waitpid(child.pid, 0)
            self.gone(child, os.waitstatus_to_exitcode(status))

    def _kill_late(self) -> None:
        for child in self.children.values():
            if child.deadline <= time.monotonic():
                child.deadline = float("inf")
                signal_group(child.pid, signal.SIGKILL)


class Root(Process):
    """Imports dbt, keeps one host for the newest version of the project, and older ones while they build."""

    current: Child | None = None

    def request(self, request: Request) -> None:
        """A parse starts a host; everything else is for hosts."""
        if "parse" in request:
            serve = lambda hears, into: host(request, Lines(hears), into, self.grace)  # noqa: E731
            self.fork(str(request["parse"]), serve, listens=True)
        elif "cancel" in request:
            for child in self.children.values():
                _tell(child, request)
        else:
            name = next(request[what] for what in ("build", "list", "render", "ask") if what in request)
            if self.current is None:
                self.say(lost=name)
            else:
                self.current.owed.add(name)
                _tell(self.current, request)

    def line(self, child: Child, line: bytes) -> None:
        """The host that has parsed takes the place of the one before."""
        if not child.parsed and line.startswith(b'{"parsed"'):
            child.parsed = True
            if json.loads(line)["ok"]:
                if self.current is not None:
                    _tell(self.current, {"retire": True})
                else:
                    self.chores.extend(schemas())  # for the next parse; beside the first they would only slow it down
                self.current = child
        elif line.startswith(b'{"ended"'):
            child.owed.discard(json.loads(line)["ended"])
        if not self.learn(line):
            self.write(line)

    def gone(self, child: Child, code: int) -> None:
        """A host has ended, and all that it had started: if it had not parsed, or owes anything, it was killed."""
        if child is self.current:
            self.current = None
        if not child.parsed:
            self.say(parsed=child.name, ok=False, said=f"the process that read the project ended ({code})")
        for name in sorted(child.owed):
            self.say(lost=name)
        self.say(gone=child.name)

    def leave(self) -> None:
        """Hosts that parse are killed; the others end their builds first, and themselves."""
        for child in self.children.values():
            if child.parsed:
                _close(child.input if child.input is not None else -1)
                child.input = None
                child.deadline = time.monotonic() + self.grace + 5.0
            else:
                os.kill(child.pid, signal.SIGKILL)


class Host(Process):
    """Holds one parsed project and forks a process for each build."""

    def __init__(self, requests: Lines, answers: int, grace: float, name: str, manifest: Any) -> None:
        super().__init__(requests, answers, grace)
        self.name, self.manifest = name, manifest
        self.life, self.alive = os.pipe()  # held open by nobody else: its end tells the builds that the host is gone

    def request(self, request: Request) -> None:
        """Build, list, ask, cancel; or end when the last build has ended."""
        if "build" in request:
            self.fork(request["build"], lambda _, into: self._child(into, request, build))
        elif "list" in request:
            self.fork(request["list"], lambda _, into: self._child(into, request, listing))
        elif "render" in request:
            self.fork(request["render"], lambda _, into: self._child(into, request, render))
        elif "ask" in request:
            self.fork(request["ask"], lambda _, into: self._child(into, request, ask))
        elif "cancel" in request:
            for child in self.children.values():
                if child.name in request["cancel"]:
                    self._interrupt(child)
        elif "retire" in request:
            self.retired = True

    def gone(self, child: Child, code: int) -> None:
        """A build has ended."""
        self.say(ended=child.name, code=code, host=self.name)

    def leave(self) -> None:
        """End all builds."""
        for child in self.children.values():
            self._interrupt(child)

    def _interrupt(self, child: Child) -> None:
        if child.deadline == float("inf"):
            child.deadline = time.monotonic() + self.grace
            signal_group(child.pid, signal.SIGINT)

    def _child(self, into: int, request: Request, body: Callable[..., None]) -> None:
        os.setsid()
        _close(self.alive)
        _watch(self.life, self.grace)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        body(request, self.manifest, lambda answer: _write(into, json.dumps(answer).encode() + b"\n"))


def host(request: Request, requests: Lines, answers: int, grace: float) -> None:
    """The life of a host: parse, then serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    manifest, said = parse(request)
    if manifest is None:
        _write(answers, json.dumps({"parsed": request["parse"], "ok": False, "said": said}).encode() + b"\n")
        return
    gc.collect()
    gc.freeze()
    served = Host(requests, answers, grace, str(request["parse"]), manifest)
    served.say(parsed=request["parse"], ok=True)
    served.run()
    tracker: Any = resource_tracker._resource_tracker  # noqa: SLF001
    with contextlib.suppress(Exception):
        tracker._stop()  # noqa: SLF001 (a process of Python's own, for which nobody else would wait)


def signal_group(pid: int, number: int) -> None:
    """Signal a build and what it has started; a build that has not yet its own group, alone."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _watch(life: int, grace: float) -> None:
    """End this build when its host is gone: there is nobody left to do it from outside."""
    import threading

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.read(life, 1)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(grace)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, name="life", daemon=True).start()


def _tell(child: Child, request: Mapping[str, Any]) -> None:
    if child.input is not None:
        with contextlib.suppress(BrokenPipeError):
            _write(child.input, json.dumps(request).encode() + b"\n")


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _close(fd: int) -> None:
    if fd >= 0:
        with contextlib.suppress(OSError):
            os.close(fd)


def _private(fd: int, mode: int) -> int:
    """Take a standard stream for ourselves: what dbt and models read or print must not be mistaken for the protocol."""
    own = os.dup(fd)
    empty = os.open(os.devnull, mode)
    os.dup2(empty, fd)
    os.close(empty)
    return own


class _LastStop:
    """Whatever happens in a forked child, it ends here and never runs on as a copy of its parent."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        import atexit
        import traceback

        if error is not None and kind is not KeyboardInterrupt:
            traceback.print_exception(kind, error, trace)
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()  # noqa: SLF001 (dbt's adapters close the warehouse's files there)
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(0 if error is None else 1)


if __name__ == "__main__":
    main()

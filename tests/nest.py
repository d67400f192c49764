"""Processes that begin with dbt and the service imported: each is forked from one that has them.

An interpreter that imports dbt takes seconds, and a history starts a dozen. A nest is asked over a socket; what it
starts is its child, has the environment, the folder and the streams that it is given, and nothing of the nest's own.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, NoReturn

from tests.nightly import NIGHTLY

SERVICE = ("dbt.cli.main", "sao_events.service", "sao_events.web.server", "sao_events.__main__", "sqlglot")
MOST = 1 << 16


class Forked:
    """A process that a nest has started. `stdin`, `stdout`: the pipes to it; `ended` is where it leaves its status."""

    def __init__(self, pid: int, stdin: IO[Any] | None, stdout: IO[Any] | None, ended: int) -> None:
        self.pid, self.stdin, self.stdout, self._ended = pid, stdin, stdout, ended
        self.returncode: int | None = None
        os.set_blocking(ended, False)

    def poll(self) -> int | None:
        """None while it runs, then its status; that of SIGKILL for any signal."""
        if self.returncode is None:
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                self.returncode = self._status()
        return self.returncode

    def _status(self) -> int:
        try:
            return int(os.read(self._ended, 8) or -signal.SIGKILL)
        except BlockingIOError:  # it left nothing, and what it has started holds the pipe
            return -signal.SIGKILL
        finally:
            os.close(self._ended)

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended; its status. Raises TimeoutError."""
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} runs on")
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class Nest:
    """The side that asks. Thread-safe."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid, self._connection, self._lock = pid, connection, threading.Lock()

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        folder: Path,
        errors: int,
        kept: Iterable[int] = (),
        session: bool = False,
        text: bool = True,
    ) -> Forked:
        """Run `main` of a module in a new process. `errors`: where its standard error goes; `kept`: files that it
        keeps open; `session`: it leads a session of its own. Raises OSError where the nest is gone.
        """
        hears, tells = os.pipe()
        output, into = os.pipe()
        ended, ending = os.pipe()
        try:
            request = {"module": module, "arguments": list(arguments), "env": dict(env), "folder": str(folder)}
            with self._lock:
                body = json.dumps(request | {"session": session}).encode() + b"\n"
                sent = socket.send_fds(self._connection, [body], [hears, into, errors, ending, *kept])
                self._connection.sendall(body[sent:])
                answer = self._connection.recv(64)
            if not answer:
                raise BrokenPipeError("the nest is gone")
        except OSError:
            os.close(tells)
            os.close(output)
            os.close(ended)
            raise
        finally:
            os.close(hears)
            os.close(into)
            os.close(ending)
        modes = ("w", "r") if text else ("wb", "rb")
        return Forked(int(answer), os.fdopen(tells, modes[0]), os.fdopen(output, modes[1]), ended)

    def close(self) -> None:
        """Let it end; what it has started goes on."""
        self._connection.close()


def branch() -> Nest:
    """A nest forked from this process, which must have no other threads; it ends when this process does."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        with _ending():
            ours.close()
            os.chdir("/")  # it has nothing to do with the folder, and may end after what it was forked from
            for fd, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
                os.dup2(os.open(os.devnull, mode), fd)
            serve(theirs)
    theirs.close()
    return Nest(pid, ours)


def hatch(nest: Callable[[], Nest | None]) -> None:
    """From now on the warm dbt of services and commands in this process comes from the nest."""
    from sao_events.dbt import forked

    forked.__dict__["subprocess"] = SimpleNamespace(PIPE=subprocess.PIPE, Popen=partial(hatched, nest))


def hatched(
    nest: Callable[[], Nest | None],
    command: list[str],
    *,
    cwd: Any,
    env: Any,
    stderr: Any,
    pass_fds: Any,
    **options: Any,
) -> Forked | subprocess.Popen[Any]:
    """As `subprocess.Popen` for the service's side of the warm dbt: it comes from the nest, unless there is none or
    somebody has killed it.
    """
    if (found := nest()) is not None:
        with contextlib.suppress(OSError):
            return found.start(
                "sao_events.dbt.warm",
                command[-1:],
                env=env,
                folder=cwd or Path.cwd(),
                errors=stderr.fileno(),
                kept=pass_fds,
                session=True,
                text=False,
            )
    return subprocess.Popen(command, cwd=cwd, env=env, stderr=stderr, pass_fds=pass_fds, **options)


@contextlib.contextmanager
def nest(adapter: str | None = None) -> Iterator[Nest]:
    """A nest that has imported dbt, for as long as the context lasts. `adapter`: it has compiled its macros too, which
    takes two seconds and pays for many histories.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.nest", str(theirs.fileno()), *([adapter] if adapter else [])],
            cwd=Path(__file__).parents[1],
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        started = Nest(process.pid, ours)
        try:
            yield started
        finally:
            started.close()
            process.wait()


@cache
def own() -> Nest | None:
    """The nest of this process, as long as it runs. None by night, when each dbt is started as users start it, and
    where there is no dbt.
    """
    if NIGHTLY or find_spec("dbt") is None:
        return None
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(nest("duckdb"))


def main() -> None:
    """Import what its children need, and serve the socket named by the first argument."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    warnings.simplefilter("ignore")
    for module in SERVICE:
        importlib.import_module(module)
    from sao_events.dbt.calls import compile_macro, schemas

    for made in schemas():
        made()
    for text in _macros(sys.argv[2]) if sys.argv[2:] else ():
        compile_macro(text)
    gc.collect()
    gc.freeze()
    serve(connection)
    os._exit(0)  # what is frozen would be told of as leaked


def serve(connection: socket.socket) -> None:
    """Fork for each request, until nobody can ask any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that nothing is to be waited for
    while True:
        data, fds, *_ = socket.recv_fds(connection, MOST, 16)
        while data and not data.endswith(b"\n"):
            more = connection.recv(MOST)
            data = data + more if more else b""
        if not data:
            return
        pid = os.fork()
        if pid == 0:
            connection.close()
            _become(json.loads(data), fds)
        for fd in fds:
            os.close(fd)
        connection.sendall(b"%d" % pid)


def _become(request: Mapping[str, Any], fds: list[int]) -> NoReturn:
    with _ending(fds[3]):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if request["session"]:
            os.setsid()
        for place, fd in enumerate(fds[:3]):
            os.dup2(fd, place)
            os.close(fd)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["env"])
        sys.argv = [request["module"], *request["arguments"]]
        importlib.import_module(request["module"]).main()
    raise AssertionError("a fork ends above")


@contextlib.contextmanager
def _ending(told: int | None = None) -> Iterator[None]:
    """A fork ends here, whatever happens, and never runs on as a copy of its parent. Its status is `told`."""
    code = 0
    try:
        yield
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 (whatever happens)
        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()  # what was registered is to run here as at any end
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        if told is not None:
            with contextlib.suppress(OSError):
                os.write(told, b"%d" % code)
        os._exit(code)


def _macros(adapter: str) -> list[str]:
    """The texts of all macros that come with dbt and an adapter, asked of a fork that parses an empty project."""
    output, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        with _ending(), tempfile.TemporaryDirectory() as folder:
            _write_macros(Path(folder), adapter, into)
    os.close(into)
    with os.fdopen(output) as told:
        text = told.read()
    os.waitpid(pid, 0)
    return list(json.loads(text or "[]"))


def _write_macros(folder: Path, adapter: str, into: int) -> None:
    from dbt.cli.main import dbtRunner

    details = "path: ':memory:'" if adapter == "duckdb" else "host: x, port: 1, user: x, password: x, dbname: x"
    target = f"{{type: {adapter}, schema: main, {details}}}"
    (folder / "profiles.yml").write_text(f"empty: {{target: it, outputs: {{it: {target}}}}}\n")
    (folder / "dbt_project.yml").write_text("name: empty\nprofile: empty\n")
    where = ["--project-dir", str(folder), "--profiles-dir", str(folder), "--log-level", "none"]
    outcome: Any = dbtRunner().invoke(["parse", *where, "--no-write-json"])
    with os.fdopen(into, "w") as file:
        json.dump([macro.macro_sql for macro in outcome.result.macros.values()], file)
    shutil.rmtree(folder / "target", ignore_errors=True)


if __name__ == "__main__":
    main()

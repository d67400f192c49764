"""The service as a process that can be killed at any instant, with a clock that can be put forward.

Its `main` serves what `sao-events serve` does, until its input closes; a line `clock N` puts its clock N seconds ahead
of the machine's, `state` asks how far it has come, `cancel RUN` does what it says. The warm dbt that it starts is
forked too; all else of it is as it always is.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from tests.nest import Forked, Nest, branch, hatch

ROOT = Path(__file__).parents[2]
START_LIMIT = 60.0


class AheadClock:
    """The machine's clock and an offset, which only grows."""

    def __init__(self, ahead: float) -> None:
        self.ahead, self._last = ahead, 0.0

    def now(self) -> float:
        """See `ports.Clock`."""
        self._last = max(self._last, time.time() + self.ahead)
        return self._last


class Asked(threading.Event):
    """Set while the project is to be looked up. `begun`: how many looks have begun, counted before it is cleared."""

    begun = 0

    def clear(self) -> None:
        """A look begins."""
        self.begun += 1
        super().clear()


def main() -> None:
    """Serve the configuration named first, with the clock ahead by the second argument."""
    nest = branch()
    hatch(lambda: nest)
    from sao_events.config import load_config
    from sao_events.service import Service
    from sao_events.web.server import HttpServer

    config, clock = load_config(Path(sys.argv[1]), Path.cwd()), AheadClock(float(sys.argv[2]))
    service, asked = Service(config, clock=clock), Asked()
    service._load_asked = asked  # to be certain that no look is between asked for and begun
    service.start()
    server = HttpServer(service, "127.0.0.1", 0)

    def listen() -> None:
        for line in sys.stdin:
            word, _, rest = line.strip().partition(" ")
            if word == "clock":
                clock.ahead = max(clock.ahead, float(rest))
                service._nudged.set()  # else it would see at its next poll only that time has passed
            elif word == "state":
                seq, waits = service.wait_change(0, 0), asked.is_set()
                looking = waits or asked.begun != service.loads
                print(json.dumps({"seq": seq, "looking": looking}), flush=True)
            elif word == "cancel":
                service.cancel(rest)
        server.stop()

    threading.Thread(target=listen, daemon=True).start()
    print(json.dumps({"url": server.url, "nest": nest.pid}), flush=True)
    try:
        server.run()
    finally:
        service.stop()


class ServiceProcess:
    """A service that is started, killed and started again. Its errors go to `<folder>/service.log`."""

    def __init__(self, nest: Nest, config: Path, env: Mapping[str, str], folder: Path) -> None:
        self.nest, self.config, self.env, self.folder = nest, config, dict(env), folder
        self.process: Forked | None = None
        self.ahead, self.url, self._branch = 0.0, "", 0

    def now(self) -> float:
        """What the clock of the service says."""
        return time.time() + self.ahead

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start, again and again while a build of the killed one still holds the state folder."""
        deadline = time.monotonic() + START_LIMIT
        while True:
            self.process = self._fork("tests.oracle.process", str(self.config), str(self.ahead))
            said = self._answer()
            if said is not None:
                self.url, self._branch = said["url"], said["nest"]
                return
            self._reap()
            if time.monotonic() > deadline:
                raise AssertionError(f"the service does not start: see {self.folder / 'service.log'}")
            time.sleep(0.2)

    def put_ahead(self, seconds: float) -> None:
        """Let `seconds` pass for the service."""
        self.ahead += seconds
        self._say(f"clock {self.ahead}")

    def _fork(self, module: str, *arguments: str) -> Forked:
        with (self.folder / "service.log").open("ab") as log:
            return self.nest.start(module, arguments, env=self.env, folder=ROOT, errors=log.fileno())

    def command(self, *command: str) -> str:
        """Run a command of `sao-events` while the service is down; what it prints."""
        process = self._fork("tests.begun", "--config", str(self.config), *command)
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            told = str(process.stdout.read())
        process.wait(40)
        return told

    def still(self, seq: int) -> bool:
        """Whether the service has taken in the log up to `seq` and looks up no project, nor is asked to."""
        self._say("state")
        said = self._answer() if self.alive else None
        return said is not None and said["seq"] >= seq and not said["looking"]

    def cancel(self, run: str) -> None:
        """Stop a run."""
        self._say(f"cancel {run}")

    def kill(self, how: str, rng: Random) -> None:
        """`service`: SIGKILL to the service alone; `all`: to it and all it has started, as when the power fails; `dbt`:
        to one process that it has started; `term`: a polite end.
        """
        assert self.process is not None
        children = [pid for pid in descendants(self.process.pid) if how == "all" or pid != self._branch]
        if how == "dbt":
            for pid in rng.sample(children, min(1, len(children))):
                _kill(pid)
            return
        if how == "term":
            os.kill(self.process.pid, signal.SIGTERM)
        else:
            for pid in [self.process.pid, *(children if how == "all" else [])]:
                _kill(pid)
        self._reap()

    def close(self) -> None:
        """End it politely and wait, by force where that takes long."""
        if self.process is None:
            return
        children = descendants(self.process.pid)
        with contextlib.suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except TimeoutError:
            for pid in [*children, self.process.pid]:
                _kill(pid)
        self._reap()

    def _reap(self) -> None:
        assert self.process is not None
        self.process.wait(40)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _say(self, line: str) -> None:
        if self.alive:
            assert self.process is not None
            assert self.process.stdin is not None
            with contextlib.suppress(OSError):
                self.process.stdin.write(f"{line}\n")
                self.process.stdin.flush()

    def _answer(self) -> dict[str, Any] | None:
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline() if not self.process.stdout.closed else ""
        return dict(json.loads(line)) if line else None


def descendants(pid: int) -> list[int]:
    """The processes that `pid` has started, and those that these have started, oldest first. Linux and macOS."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listed.splitlines())}
    found, known = list[int](), {pid}
    for child in sorted(parents):
        above = child
        while above in parents and above not in known and parents[above] != above:
            above = parents[above]
        if above in known and child != pid:
            found.append(child)
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)

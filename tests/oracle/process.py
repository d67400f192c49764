"""The service as a process that can be killed at any instant, with a clock that can be put forward.

Run as a script it serves what `sao-events serve` does, until its input closes; a line `clock N` puts its clock N
seconds ahead of the machine's, `loads` asks how often the project has been looked up, `reload` and `cancel RUN` do what
they say.
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


def main() -> None:
    """Serve the configuration named first, with the clock ahead by the second argument."""
    from sao_events.config import load_config
    from sao_events.service import Service
    from sao_events.web.server import HttpServer

    config, clock = load_config(Path(sys.argv[1]), Path.cwd()), AheadClock(float(sys.argv[2]))
    service = Service(config, clock=clock)
    service.start()
    server = HttpServer(service, "127.0.0.1", 0)

    def listen() -> None:
        for line in sys.stdin:
            word, _, rest = line.strip().partition(" ")
            if word == "clock":
                clock.ahead = max(clock.ahead, float(rest))
            elif word == "loads":
                print(json.dumps({"loads": service.loads, "error": service.error}), flush=True)
            elif word == "reload":
                service.reload()
            elif word == "cancel":
                service.cancel(rest)
        server.stop()

    threading.Thread(target=listen, daemon=True).start()
    print(json.dumps({"url": server.url}), flush=True)
    try:
        server.run()
    finally:
        service.stop()


class ServiceProcess:
    """A service that is started, killed and started again. Its errors go to `<folder>/service.log`."""

    def __init__(self, config: Path, env: Mapping[str, str], folder: Path) -> None:
        self.config, self.env, self.folder = config, dict(env), folder
        self.process: subprocess.Popen[str] | None = None
        self.ahead, self.url = 0.0, ""

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
            with (self.folder / "service.log").open("ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "tests.oracle.process", str(self.config), str(self.ahead)],
                    cwd=ROOT,
                    env=self.env,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            said = self._answer()
            if said is not None:
                self.url = said["url"]
                return
            self._reap()
            if time.monotonic() > deadline:
                raise AssertionError(f"the service does not start: see {self.folder / 'service.log'}")
            time.sleep(0.2)

    def put_ahead(self, seconds: float) -> None:
        """Let `seconds` pass for the service."""
        self.ahead += seconds
        self._say(f"clock {self.ahead}")

    def loads(self) -> int | None:
        """How often this process has looked the project up; None where it is gone."""
        self._say("loads")
        said = self._answer()
        return None if said is None else int(said["loads"])

    def reload(self) -> None:
        """Have the project looked up."""
        self._say("reload")

    def cancel(self, run: str) -> None:
        """Stop a run."""
        self._say(f"cancel {run}")

    def kill(self, how: str, rng: Random) -> None:
        """`service`: SIGKILL to the service alone; `all`: to it and all it has started, as when the power fails; `dbt`:
        to one process that it has started; `term`: a polite end.
        """
        assert self.process is not None
        children = descendants(self.process.pid)
        if how == "dbt":
            for pid in rng.sample(children, min(1, len(children))):
                _kill(pid)
            return
        if how == "term":
            self.process.send_signal(signal.SIGTERM)
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
        except subprocess.TimeoutExpired:
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


if __name__ == "__main__":
    main()

"""The service as a process on a dbt project, to be killed and stopped, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from textwrap import dedent
from typing import IO, Any

import httpx

from tests.nest import Forked, own

PATIENCE = 60.0  # seconds until a test gives up waiting; none depends on how long something takes
TOKEN = "token-of-the-loader-0123456789"
# A Python model over `above` that takes its time, and writes down who builds it and who else does.
TRACED = """
    import json
    import os
    import time

    def alive(pid):
        try:
            with open(f"/proc/{{pid}}/stat") as stat:
                return stat.read().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def model(dbt, session):
        dbt.config(materialized="table")
        relation = dbt.ref("{above}")
        with open("{trace}", "a+", encoding="utf-8") as trace:
            trace.seek(0)
            lines = [json.loads(line) for line in trace]
            ended = {{os.getpid(), *(line["end"] for line in lines if "end" in line)}}
            others = [line["begin"] for line in lines if "begin" in line and line["begin"] not in ended]
            trace.write(json.dumps({{"begin": os.getpid(), "beside": list(filter(alive, others))}}) + chr(10))
            trace.flush()
            time.sleep({seconds})
            trace.write(json.dumps({{"end": os.getpid()}}) + chr(10))
        return relation
    """
CONFIG = "data: {tokens: [{file: token}]}\ndecisions: {settle: 0s}\n"


def configure(folder: Path, more: str = "") -> Path:
    """A configuration in the dbt project `folder`, with a token for data events."""
    (folder / "token").write_text(TOKEN, encoding="utf-8")
    (folder / "sao.yml").write_text(CONFIG + more, encoding="utf-8")
    return folder


def command(*arguments: str) -> list[str]:
    """The command line of sao-events."""
    return [sys.executable, "-m", "sao_events", *arguments]


def begin(
    folder: Path, arguments: Sequence[str], errors: IO[bytes], env: Mapping[str, str] | None = None
) -> Forked | subprocess.Popen[str]:
    """Start a command in `folder`, its errors go to a file; by day dbt is imported already."""
    environ = {**os.environ, **(env or {})}
    if (nest := own()) is not None:
        started = nest.start("tests.begun", arguments, env=environ, folder=folder, errors=errors.fileno())
        assert started.stdin is not None
        started.stdin.close()
        return started
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(
        command(*arguments), cwd=folder, env=environ, stdin=nothing, stdout=pipe, stderr=errors, text=True
    )


def sao(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command in `folder`, to its end."""
    with TemporaryFile() as errors:
        process = begin(folder, arguments, errors, env)
        assert process.stdout is not None
        with process.stdout:
            out = process.stdout.read()
        code = process.wait(PATIENCE)
        errors.seek(0)
        return subprocess.CompletedProcess(arguments, code, out, errors.read().decode())


def until(true: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Ask until it is true; its answer then."""
    limit = time.monotonic() + patience
    while not (found := true()):
        assert time.monotonic() < limit, f"{what} did not come"
        time.sleep(0.02)
    return found


class Served:
    """`sao-events serve` in a folder. Its log is in `<folder>/service.log`."""

    def __init__(self, folder: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.folder, self.options, self.env = folder, options, env
        self.url = ""
        self.client = httpx.Client(timeout=20, headers={"authorization": f"Bearer {TOKEN}"})
        self.process: Forked | subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        return (self.folder / "service.log").read_text(encoding="utf-8", errors="replace")

    def begin(self) -> None:
        """Start the process and do not wait for it."""
        with (self.folder / "service.log").open("ab") as log:
            self.process = begin(self.folder, [*self.options, "serve", "--json", "--port", "0"], log, self.env)

    def listens(self) -> None:
        """Wait until it answers."""
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the service did not start:\n{self.log}"
        self.url = json.loads(line)["url"]

    def start(self) -> None:
        self.begin()
        self.listens()

    def kill(self) -> None:
        """SIGKILL, as the kernel or a careless hand does it."""
        self._end(signal.SIGKILL)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """A polite end; the exit status."""
        return self._end(number)

    def _end(self, number: int) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        return code

    def close(self) -> None:
        """Whatever happened, leave nothing behind."""
        if self.process is not None:
            self.kill()
        self.client.close()

    def get(self, path: str) -> Any:
        answer = self.client.get(self.url + path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def status(self) -> Any:
        return self.get("/api/status")

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """The whole log, oldest first, or what is of these kinds."""
        found, after = [], 0
        while page := self.get(f"/api/events?after={after}&limit=1000")["events"]:
            found += page
            after = page[-1]["seq"]
        return [event for event in found if not kinds or event["kind"] in kinds]

    def land(self, source: str, load_id: str) -> dict[str, Any] | None:
        """Report new data; the answer for it (`seq`, None while it waits for a project), None where it was not
        acknowledged.
        """
        body = {"source": source, "load_id": load_id}
        try:
            answer = self.client.post(f"{self.url}/events/data", json=body)
        except httpx.TransportError:
            return None
        if not answer.is_success:
            return None
        [event] = answer.json()["events"] or [{"seq": None}]
        return dict(event)

    def at_rest(self) -> bool:
        """Whether nothing is built, due or wrong, once the project is loaded."""
        status = self.status()
        due = any(node["action"] == "build" for node in status["nodes"])
        return bool(status["nodes"]) and not (due or status["runs"] or status["error"] or status["jobs"])

    def rest(self) -> None:
        until(self.at_rest, f"rest; log:\n{self.log[-3000:]}")


@contextmanager
def served(folder: Path, *options: str, env: Mapping[str, str] | None = None, start: bool = True) -> Iterator[Served]:
    """A service in `folder` that is gone afterwards, with all that it started."""
    service = Served(folder, *options, env=env)
    try:
        if start:
            service.start()
        yield service
    finally:
        service.close()
        until(lambda: not processes_in(folder), "the end of all processes")


def traced_model(above: str, trace: Path, seconds: float) -> str:
    """The text of a Python model that takes `seconds` and traces its builds in a file of its own."""
    return dedent(TRACED).format(above=above, trace=trace, seconds=seconds)


def traced(trace: Path) -> list[dict[str, Any]]:
    """What a traced model has written down: `begin` or `end` with the process, and at its begin those `beside` it."""
    return [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()] if trace.exists() else []


def processes_in(folder: Path) -> list[str]:
    """Running processes beside this one that have to do with `folder`: by argument, working folder or an open file."""
    if not Path("/proc/self/fd").exists():
        found = subprocess.run(["ps", "-axo", "args="], capture_output=True, text=True, check=True).stdout
        return [line for line in found.splitlines() if str(folder) in line]
    found_here = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            files = [str(file.readlink()) for file in ((process / "cwd"), *(process / "fd").iterdir())]
        except OSError:
            continue
        if int(process.name) != os.getpid() and any(str(folder) in text for text in (line, *files)):
            found_here.append(f"{process.name} {line}")
    return found_here

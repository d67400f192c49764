"""Acknowledged durable events per second over HTTP, beside a bare starlette handler on the same uvicorn.

    python benchmarks/acknowledge.py [--connections 64] [--seconds 1] [--rounds 10]

Three servers are asked in turn, each in a process of its own, by another one over loopback: a handler on uvicorn as it
comes that answers without looking at the request, one that reads the body as JSON, and the application with a SQLite
log in the current folder, where each request is verified, read strictly, and answered once its event is on disk. What
counts is the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sao_events.clock import SystemClock
from sao_events.config import Config, DbtConfig, Secret
from sao_events.core.events import Recorded
from sao_events.core.graph import Graph
from sao_events.core.nodes import Source
from sao_events.core.policy import Settings
from sao_events.core.project import Project
from sao_events.core.state import World
from sao_events.ports import Draft, Incoming, Receipt
from sao_events.report import View
from sao_events.store.sqlite import SqliteStore
from sao_events.web.guard import Rate
from sao_events.web.server import HttpServer

TOKEN = "for-this-benchmark"  # noqa: S105 - protects nothing
SERVERS = ("bare", "json", "sao-events")


class Log:
    """What the application needs of a service, with nothing behind the log."""

    def __init__(self, folder: Path) -> None:
        os.environ["SAO_BENCHMARK_TOKEN"] = TOKEN
        self.config = Config("benchmark", DbtConfig(folder), folder, data_tokens=(Secret("SAO_BENCHMARK_TOKEN"),))
        self.clock = SystemClock()
        self.store = SqliteStore(folder / "state.db")
        self.project = Project(Graph([], [Source("source.shop.raw.orders", "raw.orders")]))
        self.ready = self.healthy = True
        self.stopping = False
        self._still = threading.Event()

    def submit(self, drafts: Sequence[Draft]) -> Future[list[Recorded | None]]:
        """Append to the log."""
        return self.store.submit(drafts)

    def receive(self, incoming: Sequence[Incoming]) -> Future[list[Receipt]]:
        """Record deliveries."""
        return self.store.receive(incoming)

    @contextmanager
    def view(self) -> Iterator[View]:
        """A project with one source."""
        yield View("benchmark", self.project, World(), Settings(), self.clock.now())

    def wait_change(self, after: int, timeout: float) -> int:
        """Nobody listens."""
        self._still.wait(timeout)
        return 0


async def bare(request: Request) -> JSONResponse:
    """Answer, whatever was asked."""
    return JSONResponse({"ok": True}, 202)


async def reading(request: Request) -> JSONResponse:
    """Answer after reading the body."""
    return JSONResponse({"ok": isinstance(await request.json(), dict)}, 202)


def serve(which: str, folder: Path) -> None:
    """Run one of the servers until it is told to end; its first line of output is its port."""
    if which == "sao-events":
        server = HttpServer(Log(folder), "127.0.0.1", 0, rate=Rate(1e9, 1e9))
        print(server.port, flush=True)
        server.run()
        return
    handler = bare if which == "bare" else reading
    app = Starlette(routes=[Route("/events/data", handler, methods=["POST"])])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False)).run(sockets=[listener])


class Client(asyncio.Protocol):
    """One connection: sends a request, waits for its answer, sends the next, until the time is over."""

    def __init__(self, name: str, until: float) -> None:
        self.name, self.until = name, until
        self.times: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.buffer = b""
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        self.ask()

    def ask(self) -> None:
        """Send the next request, an event of its own."""
        body = b'{"source": "raw.orders", "load_id": "%s-%d", "rows": 100}' % (self.name.encode(), len(self.times))
        self.sent = time.perf_counter()
        self.transport.write(
            b"POST /events/data HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (TOKEN.encode(), len(body), body)
        )

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            return
        if not head.startswith(b"HTTP/1.1 202 "):
            self.done.set_exception(RuntimeError(self.buffer.decode()))
            return
        now = time.perf_counter()
        self.times.append(now - self.sent)
        self.buffer = b""
        if now < self.until:
            self.ask()
        else:
            self.transport.close()
            self.done.set_result(None)


async def load(port: int, connections: int, seconds: float) -> dict[str, float]:
    """Ask as fast as answers come, over `connections` at once. Requests per second and seconds of waiting."""
    loop, begin = asyncio.get_running_loop(), time.perf_counter()
    names = [f"{os.getpid()}-{begin}-{number}" for number in range(connections)]
    made = (loop.create_connection(partial(Client, name, begin + seconds), "127.0.0.1", port) for name in names)
    clients = [client for _, client in await asyncio.gather(*made)]
    await asyncio.gather(*(client.done for client in clients))
    times = sorted(taken for client in clients for taken in client.times)
    return {
        "rate": len(times) / (time.perf_counter() - begin),
        "p50": times[len(times) // 2],
        "p99": times[len(times) * 99 // 100],
    }


@contextmanager
def server(which: str) -> Iterator[int]:
    """The port of a server in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="sao-benchmark-", dir=Path.cwd()) as folder:
        command = [sys.executable, __file__, "--serve", which, "--folder", folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield int(process.stdout.readline())
            finally:
                process.terminate()
                process.wait()


def measure(port: int, connections: int, seconds: float) -> dict[str, float]:
    """Load one server, from a process of its own."""
    command = [sys.executable, __file__, "--load", str(port), "--connections", str(connections)]
    done = subprocess.run(
        [*command, "--seconds", str(seconds)], check=True, stdout=subprocess.PIPE, text=True, timeout=seconds + 30
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def compare(connections: int, seconds: float, rounds: int) -> None:
    """Load the servers in turn, in short slices, so that whatever else this machine does meets all alike."""
    print(f"{connections} connections, {rounds} x {seconds:g} s, {os.cpu_count()} cores, {platform.python_version()}")
    found: dict[str, list[dict[str, float]]] = {which: [] for which in SERVERS}
    with ExitStack() as stack:
        ports = {which: stack.enter_context(server(which)) for which in SERVERS}
        for which in SERVERS:
            measure(ports[which], connections, 1.0)
        for _ in range(rounds):
            for which in SERVERS:
                found[which].append(measure(ports[which], connections, seconds))
    for which, slices in found.items():
        rate, p50, p99 = (statistics.median(it[name] for it in slices) for name in ("rate", "p50", "p99"))
        print(f"  {which:10} {rate:8.0f}/s  p50 {p50 * 1e3:6.2f} ms  p99 {p99 * 1e3:6.2f} ms")
    for which in ("bare", "json"):
        ratios = [ours["rate"] / theirs["rate"] for ours, theirs in zip(found["sao-events"], found[which], strict=True)]
        least, most = min(ratios), max(ratios)
        print(f"durable events are {statistics.median(ratios):.2f} of {which!r} (slices: {least:.2f} to {most:.2f})")


def main() -> None:
    """Compare; or be the server or the load of a comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--load", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.folder)
    elif args.load:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(load(args.load, args.connections, args.seconds))))
    else:
        compare(args.connections, args.seconds, args.rounds)


if __name__ == "__main__":
    main()

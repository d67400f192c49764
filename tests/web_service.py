"""What the tests of HTTP stand on: a service without dbt over a real store, and the real server in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import httpx

from sao_events.config import Config, DbtConfig, GitConfig, HttpConfig, Secret, WebhookConfig
from sao_events.core.decision import Reason
from sao_events.core.events import (
    BuildStarted,
    DataLanded,
    EngineStarted,
    Event,
    NodeBuilt,
    NodeFailed,
    ProjectLoaded,
    Recorded,
    RunFinished,
    RunStarted,
    TestFinished,
)
from sao_events.core.evolve import evolve
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code
from sao_events.core.look import Look
from sao_events.core.nodes import Node, Source, Test
from sao_events.core.plan import attempt, observe
from sao_events.core.policy import Policy, Settings
from sao_events.core.project import Project
from sao_events.core.state import World
from sao_events.ports import Draft, Incoming, Receipt, Store
from sao_events.report import View
from sao_events.report.deployment import Tracked
from sao_events.store.memory import MemoryStore
from sao_events.web.backend import Backend
from sao_events.web.guard import Rate
from sao_events.web.server import HttpServer

TOKEN, SECRET = "token-of-the-loader-0123456789", "secret-of-the-webhook-9876543210"
# A pool that lets go of surplus connections may close one that another thread has just been given and writes to.
UNLIMITED = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=None)
START = 1_772_366_400.0  # 2026-03-01T12:00:00Z
ORDERS, ITEMS = "source.shop.raw.orders", "source.shop.raw.items"
STG, FCT, MART, SLOW = (f"model.shop.{name}" for name in ("stg_orders", "orders", "revenue", "history"))


def project() -> Project:
    """Two sources, a view, a table behind it, one that waits, and one over the other source."""
    nodes = [
        Node(STG, "stg_orders", "view", (ORDERS,), Code("stg")),
        Node(FCT, "orders", "table", (STG,), Code("fct"), relation='"db"."main"."orders"', path="models/orders.sql"),
        Node(MART, "revenue", "table", (FCT,), Code("mart"), Policy(build_after=3600.0)),
        Node(SLOW, "history", "incremental", (ITEMS,), Code("slow")),
    ]
    sources = [
        Source(ORDERS, "raw.orders", relation='"db"."raw"."orders"'),
        Source(ITEMS, "raw.items", relation='"db"."raw"."items"'),
    ]
    return Project(Graph(nodes, sources, [Test("test.shop.unique", "unique_orders_id", (FCT,))]), "shop", "duckdb")


class Ticking:
    """A clock that stands where it is put."""

    def __init__(self, at: float = START) -> None:
        self.at = at

    def now(self) -> float:
        """The instant it was put to."""
        return self.at


class Service:
    """One environment: the log is real and so is the fold of it; nothing is built."""

    def __init__(self, folder: Path, store: Store | None = None, *, loaded: Project | None = None) -> None:
        (folder / "token").write_text(f"{TOKEN}\n")
        (folder / "secret").write_text(f"{SECRET}\n")
        hook = WebhookConfig("github", (Secret(file=folder / "secret"),), body_limit=100_000)
        self.config = Config(
            "test",
            DbtConfig(folder),
            folder,
            http=HttpConfig(body_limit=100_000),
            data_tokens=(Secret(file=folder / "token"),),
            webhooks={"github": hook},
            git=GitConfig("https://github.com/acme/shop.git", "main"),
        )
        self.clock = Ticking()
        self.store: Store = store or MemoryStore()
        self.project: Project | None = loaded or project()
        self.world = World()
        self.error: str | None = None
        self.tracked: Tracked | None = None
        self.ready = self.healthy = True
        self.stopping = False
        self.settings = Settings()
        self._changed = threading.Condition(threading.RLock())

    def forget(self) -> None:
        """Begin again with an empty log in memory."""
        with self._changed:
            self.store, self.world, self.clock.at = MemoryStore(), World(), START

    def submit(self, drafts: Sequence[Draft]) -> Future[list[Recorded | None]]:
        """Append, and fold once that is durable."""
        future = self.store.submit(drafts)
        future.add_done_callback(lambda _: self.fold())
        return future

    def receive(self, incoming: Sequence[Incoming]) -> Future[list[Receipt]]:
        """Record deliveries, and fold once that is durable."""
        future = self.store.receive(incoming)
        future.add_done_callback(lambda _: self.fold())
        return future

    def fold(self) -> None:
        """Fold what is new in the log."""
        with self._changed:
            while log := self.store.read(self.world.seq):
                for item in log:
                    evolve(self.world, item)
            self._changed.notify_all()

    @contextmanager
    def view(self) -> Iterator[View]:
        """The record, held still."""
        with self._changed:
            now = self.clock.now()
            yield View("test", self.project, self.world, self.settings, now, self.error, self.tracked)

    def wait_change(self, after: int, timeout: float) -> int:
        """The newest folded position, once it is after `after` or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.world.seq > after or self.stopping, timeout)
            return self.world.seq

    def record(self, *events: Event, after: float = 1.0) -> None:
        """Append events, each `after` seconds after the one before."""
        for event in events:
            self.clock.at += after
            self.submit([Draft(event, self.clock.at)]).result()

    def build(self, run: str, results: Mapping[str, str | None], status: str | None = "success") -> None:
        """Record a run of nodes; each succeeds (None), fails with a message, or is still being built (`running`)."""
        self.record(RunStarted(run, dict.fromkeys(results, "new_data")))
        for node, message in results.items():
            with self.view() as view:
                assert view.project is not None
                look = Look(view.project.graph, view.world, view.settings, view.now)
                seen = observe(look, node)
                begun = attempt(look, node, run, Reason.new_data, view.now, seen)
            self.record(BuildStarted(run, node, "new_data", begun.clock, seen, begun.code, 0, begun.advances))
            if message is None:
                self.record(NodeBuilt(run, node, 1.5))
            elif message != "running":
                self.record(NodeFailed(run, node, message, 0.5))
        if status:
            self.record(RunFinished(run, status))

    def data(self) -> list[DataLanded]:
        """The data events of the log."""
        return [item.event for item in self.store.read() if isinstance(item.event, DataLanded)]


def busy_day(service: Service) -> None:
    """Fill the log: everything is built, new orders land, one build fails, another is under way."""
    service.record(EngineStarted(), ProjectLoaded("digest", "c0ffee" * 6 + "beef"))
    service.record(DataLanded(ORDERS, "1"), DataLanded(ITEMS, "1"))
    service.build("r5", dict.fromkeys((STG, FCT, MART, SLOW)))
    service.clock.at += 600
    service.record(DataLanded(ORDERS, "2", rows=120), DataLanded(ITEMS, "2"))
    service.build("r20", {FCT: None, SLOW: "Constraint Error: <b>duplicate</b> key"}, "failed")
    service.record(TestFinished("r20", "test.shop.unique", "warn", message="Got 2 results"))
    service.record(DataLanded(ORDERS, "3", rows=7))
    service.build("r30", {FCT: "running"}, None)
    service.clock.at += 125


@contextmanager
def served(service: Backend, *, rate: Rate | None = None, host: str = "127.0.0.1") -> Iterator[httpx.Client]:
    """A client of a server on a free port, which is stopped in the end."""
    with (
        running(service, rate=rate, host=host) as server,
        httpx.Client(base_url=server.url, timeout=20, limits=UNLIMITED) as client,
    ):
        yield client


@contextmanager
def running(
    service: Backend, *, rate: Rate | None = None, host: str = "127.0.0.1", port: int = 0
) -> Iterator[HttpServer]:
    """A server in a thread, on a free port unless one is given, which is stopped in the end."""
    server = HttpServer(service, host, port, rate=rate)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(timeout=20)
        assert not thread.is_alive()


def bearer(token: str = TOKEN) -> dict[str, str]:
    """The header that lets events in."""
    return {"authorization": f"Bearer {token}"}

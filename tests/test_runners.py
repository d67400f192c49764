"""Both ways of running dbt, held to one suite on the real dbt with DuckDB: what is built, in which order, what is
reported, and that nothing is left behind however it ends."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sao_events.core.errors import DbtError
from sao_events.core.project import Project
from sao_events.dbt import DbtBuilder, DbtSettings, load, open_builder
from sao_events.ports import NodeBegan, NodeEnded, Piece, PieceEnded, Report, TestEnded
from tests.dbt_projects import write_project
from tests.nightly import NIGHTLY

pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
pytestmark = [pytest.mark.dbt, pytest.mark.slow]

PATIENCE = 60.0  # seconds until a test gives up waiting; none depends on how long something takes
TABLE = "{{ config(materialized='table') }} "
SLOW = "select count(*) as n from range(100000000000) as r(a) where hash(a) % 7 = 3"

FILES = {
    "seeds/raw.csv": "id,amount\n1,10\n2,20\n",
    "models/base.sql": "select id, amount from {{ ref('raw') }}",
    "models/doubled.sql": "select id, amount * 2 as amount from {{ ref('base') }}",
    "models/folded.sql": "{{ config(materialized='ephemeral') }} select amount * 2 as amount from {{ ref('base') }}",
    "models/total.sql": TABLE + "select sum(amount) as amount from {{ ref('folded') }}",
    "models/also_folded.sql": TABLE + "select max(amount) as amount from {{ ref('folded') }}",
    "models/grows.sql": """
        {{ config(materialized='incremental', unique_key='id') }}
        select id, amount from {{ ref('base') }} {% if is_incremental() %} where id > 1 {% endif %}""",
    "models/broken.sql": TABLE + "select error('this model is broken') as id from {{ ref('base') }}",
    "models/on_broken.sql": "select * from {{ ref('broken') }}",
    "models/gated.sql": TABLE + "select * from {{ ref('base') }}",
    "models/on_gated.sql": TABLE + "select * from {{ ref('gated') }}",
    "models/python.py": """
        def model(dbt, session):
            dbt.config(materialized="table")
            print("printed by a model")
            return dbt.ref("base")
        """,
    "models/slow.sql": TABLE + SLOW,
    "models/on_slow.sql": "select * from {{ ref('slow') }}",
    "snapshots/kept.sql": """
        {% snapshot kept %}{{ config(unique_key='id', strategy='check', check_cols='all') }}
        select * from {{ ref('base') }}{% endsnapshot %}""",
    "models/properties.yml": """
        version: 2
        models:
          - name: base
            columns: [{name: id, data_tests: [not_null, {unique: {config: {severity: warn}}}]}]
          - name: gated
            columns: [{name: id, data_tests: [{accepted_values: {arguments: {values: [1]}}}]}]
        unit_tests:
          - name: doubles
            model: doubled
            given: [{input: ref('base'), rows: [{id: 1, amount: 3}]}]
            expect: {rows: [{id: 1, amount: 6}]}
        """,
    "tests/nothing_negative.sql": "select * from {{ ref('total') }} where amount < 0",
    "tests/rarely_true.sql": "{{ config(severity='warn') }} select * from {{ ref('total') }} where amount > 0",
}


class Bench:
    """A builder on a copy of the project, its reports as they come, and the warehouse."""

    def __init__(self, builder: DbtBuilder, root: Path) -> None:
        self.builder, self.root = builder, root
        self.seen: list[Report] = []
        self.count = 0
        self.project: Project = builder.load().project

    def piece(self, *names: str, tests: Sequence[str] = (), run: str = "run", **options: Any) -> Piece:
        """A piece of the nodes and tests with these names."""
        self.count += 1
        nodes = {node.name: node.id for node in self.project.graph.nodes.values()}
        known = {test.name: test.id for test in self.project.graph.tests.values()}
        chosen = tuple(next(key for name, key in known.items() if name.startswith(test)) for test in tests)
        return Piece(f"piece-{self.count}", run, tuple(nodes[name] for name in names), chosen, "digest", **options)

    def run(self, *names: str, tests: Sequence[str] = (), **options: Any) -> list[Report]:
        """Build, and wait for the end; the reports."""
        piece = self.piece(*names, tests=tests, **options)
        return self.through(piece)

    def through(self, piece: Piece) -> list[Report]:
        self.builder.start(piece, self.project)
        self.until(lambda: any(isinstance(r, PieceEnded) and r.piece == piece.id for r in self.seen))
        return [report for report in self.seen if report.piece == piece.id]

    def until(self, true: Callable[[], bool]) -> None:
        """Collect reports until something is true of them."""
        limit = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < limit, self.seen
            time.sleep(0.01)
            self.seen += self.builder.reports()

    def began(self, name: str) -> bool:
        return any(isinstance(report, NodeBegan) and report.node.endswith(f".{name}") for report in self.seen)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.root / "warehouse.duckdb"), read_only=True) as connection:
            return connection.sql(sql).fetchall()


def short(reports: list[Report]) -> list[str]:
    """The reports as words, in order: `+model`, `model success`, `test pass`, `done`."""
    found = list[str]()
    for report in reports:
        match report:
            case NodeBegan():
                found.append(f"+{report.node.split('.')[2]}")
            case NodeEnded():
                found.append(f"{report.node.split('.')[2]} {report.status}")
            case TestEnded():
                found.append(f"{report.test.split('.')[3 if report.test.startswith('unit') else 2]} {report.status}")
            case PieceEnded():
                found.append(report.status)
    return found


def outcomes(reports: list[Report]) -> set[str]:
    return {word for word in short(reports) if not word.startswith("+")}


def ended(reports: list[Report]) -> PieceEnded:
    (last,) = [report for report in reports if isinstance(report, PieceEnded)]
    assert last is reports[-1], "nothing is reported after the end"
    return last


RUNNERS = ("subprocess", "warm")
warm_is_enough = pytest.mark.warm_is_enough


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project, `raw` and `base` built in its warehouse, and what dbt keeps of a parse."""
    folder = tmp_path_factory.mktemp("dbt")
    settings = DbtSettings(write_project(folder / "project", FILES), folder / "state")
    builder = open_builder(settings)
    try:
        assert "done" in outcomes(Bench(builder, folder / "project").run("raw", "base"))
    finally:
        builder.close()
    shutil.rmtree(folder / "state" / "runs")
    return folder


@pytest.fixture(scope="session", params=RUNNERS)
def shared(request: pytest.FixtureRequest, template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A bench for all tests that leave the project as it is."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(template, folder, dirs_exist_ok=True)
    builder = open_builder(
        DbtSettings(folder / "project", folder / "state", runner=request.param, grace=5.0, keep_output=3600.0)
    )
    try:
        yield Bench(builder, folder / "project")
    finally:
        builder.close()
    assert processes_in(folder) == []


@pytest.fixture(autouse=True)
def _by_night(request: pytest.FixtureRequest) -> None:
    """What does not hang on how dbt is started is tested with the warm runner by day."""
    spec = getattr(request.node, "callspec", None)
    if (
        not NIGHTLY
        and spec
        and "subprocess" in spec.params.values()
        and request.node.get_closest_marker("warm_is_enough")
    ):
        pytest.skip("SAO_NIGHTLY=1 runs it with a process for each build too")


@pytest.fixture
def bench(shared: Bench, template: Path) -> Bench:
    """The shared bench, its warehouse as at first."""
    for left in shared.root.glob("warehouse.duckdb*"):
        left.unlink()
    shutil.copyfile(template / "project" / "warehouse.duckdb", shared.root / "warehouse.duckdb")
    shared.seen.clear()
    return shared


@pytest.fixture(params=RUNNERS)
def settings(request: pytest.FixtureRequest, template: Path, tmp_path: Path) -> DbtSettings:
    """Settings for a project of the test's own."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return DbtSettings(tmp_path / "project", tmp_path / "state", runner=request.param, grace=5.0)


@pytest.fixture
def own(settings: DbtSettings) -> Iterator[Bench]:
    """A bench whose project the test may edit. Nothing may be left of it in the end."""
    fds = open_files()
    builder = open_builder(settings)
    try:
        yield Bench(builder, settings.project_dir)
    finally:
        builder.close()
    assert processes_in(settings.state_dir) == []
    assert open_files() == fds


def open_files() -> set[str]:
    """The file descriptors of this process."""
    return {file.name for file in Path("/dev/fd").iterdir()}


def processes_in(folder: Path) -> list[str]:
    """Command lines of running processes that have to do with `folder`, by argument or by an open file."""
    if not Path("/proc/self/fd").exists():
        found = subprocess.run(["ps", "-axo", "args="], capture_output=True, text=True, check=True).stdout
        return [line for line in found.splitlines() if str(folder) in line]
    found_here = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            files = [str(file.readlink()) for file in (process / "fd").iterdir()]
        except OSError:
            continue
        if int(process.name) != os.getpid() and any(str(folder) in text for text in (command, *files)):
            found_here.append(command)
    return found_here


def test_builds_what_is_asked_in_the_order_of_the_graph_and_reports_as_it_goes(bench: Bench) -> None:
    reports = bench.run("raw", "base", "total", "grows", "kept", "python", tests=["not_null_base", "nothing_negative"])
    words = short(reports)
    assert outcomes(reports) == {
        *(f"{name} success" for name in ("raw", "base", "total", "grows", "kept", "python")),
        "not_null_base_id pass",
        "nothing_negative pass",
        "done",
    }
    for earlier, later in (
        ("+raw", "raw success"), ("raw success", "+base"), ("base success", "not_null_base_id pass"),
        ("not_null_base_id pass", "+total"), ("total success", "nothing_negative pass"),
        ("nothing_negative pass", "done"),
    ):  # fmt: skip
        assert words.index(earlier) < words.index(later), words
    assert bench.query("select amount from total") == [(60,)]
    assert all(report.seconds > 0 for report in reports if isinstance(report, NodeEnded))
    assert all(report.words == "success" for report in reports if isinstance(report, NodeEnded))


@warm_is_enough
def test_keeps_the_whole_log_of_a_piece_as_plain_text_for_a_while(bench: Bench) -> None:
    piece, runs = bench.piece("raw", "base", "python"), bench.builder.settings.state_dir / "runs"
    old, young = runs / "old" / "piece", runs / "young" / "piece"
    for folder, age in ((old, 3601), (young, 1800)):
        folder.mkdir(parents=True)
        os.utime(folder.parent, (time.time() - age,) * 2)
    bench.through(piece)
    assert not old.exists()
    assert young.exists()
    log = (runs / "run" / piece.id / "dbt.log").read_text()
    assert "\x1b" not in log
    assert all(part in log for part in ("create view", "base", "printed by a model", "Completed successfully"))


@warm_is_enough
def test_builds_nothing_but_what_is_asked(bench: Bench) -> None:
    assert outcomes(bench.run("total")) == {"total success", "done"}
    assert bench.query("select table_name from information_schema.tables order by 1") == [
        ("base",),
        ("raw",),
        ("total",),
    ]


@warm_is_enough
def test_a_failure_skips_its_readers_and_spares_their_siblings(bench: Bench) -> None:
    reports = bench.run("base", "broken", "on_broken", "total")
    assert outcomes(reports) == {
        "base success",
        "broken error",
        "on_broken skipped",
        "total success",
        "done",
    }
    assert "+on_broken" not in short(reports), "what is skipped has not begun"
    (broken,) = [r for r in reports if isinstance(r, NodeEnded) and r.status == "error"]
    assert "this model is broken" in (broken.message or "")
    assert broken.words == "error"


def test_a_failed_test_gates_the_readers_a_warning_does_not(bench: Bench) -> None:
    reports = bench.run(
        "base", "gated", "on_gated", "total", tests=["accepted_values_gated", "rarely_true", "unique_base"]
    )
    assert outcomes(reports) == {
        "base success", "gated success", "accepted_values_gated_id__1 fail", "on_gated skipped",
        "unique_base_id pass", "total success", "rarely_true warn", "done",
    }  # fmt: skip
    (failed,) = [r for r in reports if isinstance(r, TestEnded) and r.status == "fail"]
    assert "1" in (failed.message or "")


@warm_is_enough
def test_tests_alone(bench: Bench) -> None:
    bench.run("doubled")
    assert outcomes(bench.run(tests=["not_null_base", "doubles"])) == {"not_null_base_id pass", "doubles pass", "done"}


@warm_is_enough
def test_a_unit_test_gates_its_model(own: Bench) -> None:
    properties = own.root / "models" / "properties.yml"
    properties.write_text(properties.read_text().replace("amount: 6", "amount: 7"))
    own.project = own.builder.load().project
    assert short(own.run("doubled", tests=["doubles"])) == ["doubles fail", "doubled skipped", "done"]


@warm_is_enough
def test_consecutive_builds_over_an_ephemeral_model(bench: Bench) -> None:
    """One manifest object given to dbt twice loses the folded model the second time."""
    assert outcomes(bench.run("total")) == {"total success", "done"}
    assert outcomes(bench.run("also_folded", "total")) == {"also_folded success", "total success", "done"}


@warm_is_enough
def test_an_incremental_model_grows_and_a_full_refresh_starts_over(bench: Bench) -> None:
    bench.run("grows")
    before = bench.query("select count(*) from grows")
    with duckdb.connect(str(bench.root / "warehouse.duckdb")) as connection:
        connection.execute("insert into grows values (99, 0)")
    bench.run("grows")
    assert bench.query("select count(*) from grows") == [(before[0][0] + 1,)]
    bench.run("grows", full_refresh=True)
    assert bench.query("select count(*) from grows") == before


@warm_is_enough
def test_an_edit_is_built_after_it_was_read(own: Bench) -> None:
    (own.root / "models" / "total.sql").write_text("{{ config(materialized='table') }} select 7 as amount")
    old, own.project = own.project, own.builder.load().project
    total = next(node.id for node in old.graph.nodes.values() if node.name == "total")
    assert old.graph.fingerprints[total] != own.project.graph.fingerprints[total]
    assert outcomes(own.run("total")) == {"total success", "done"}
    assert own.query("select amount from total") == [(7,)]


@warm_is_enough
def test_what_was_decided_on_another_text_is_not_recorded_as_built(own: Bench) -> None:
    (own.root / "models" / "total.sql").write_text("{{ config(materialized='table') }} select 7 as amount")
    if own.builder.settings.runner == "warm":
        own.builder.load()  # the old text is still in memory: only the new one could be built under the old name
    reports = own.run("total")
    assert not [r for r in reports if isinstance(r, NodeEnded) and r.status == "success"]
    assert ended(reports).status in {"error", "interrupted"}
    assert "after" in (ended(reports).message or "")


@warm_is_enough
def test_a_seed_that_changed_after_it_was_read_is_not_recorded_as_loaded(own: Bench) -> None:
    (own.root / "seeds" / "raw.csv").write_text("id,amount\n5,50\n6,60\n")
    reports = own.run("raw")
    assert not [r for r in reports if isinstance(r, NodeEnded) and r.status == "success"]
    assert ended(reports).status == "error"
    own.project = own.builder.load().project
    assert outcomes(own.run("raw")) == {"raw success", "done"}


def test_cancel_interrupts_what_runs_and_nothing_else(bench: Bench) -> None:
    piece = bench.piece("slow", "on_slow", "total", run="cancelled")
    bench.builder.start(piece, bench.project)
    bench.until(lambda: bench.began("slow") and "total success" in short(bench.seen))
    bench.builder.cancel("another run")
    bench.builder.cancel("cancelled")
    bench.until(lambda: any(isinstance(r, PieceEnded) and r.piece == piece.id for r in bench.seen))
    reports = [report for report in bench.seen if report.piece == piece.id]
    assert outcomes(reports) == {"total success", "slow interrupted", "interrupted"}
    assert outcomes(bench.run("total")) == {"total success", "done"}, "the warehouse is free again"


def test_close_ends_a_running_build(own: Bench) -> None:
    own.builder.start(own.piece("slow"), own.project)
    own.until(lambda: own.began("slow"))
    own.builder.close()
    own.seen += own.builder.reports()
    assert outcomes(own.seen) == {"slow interrupted", "interrupted"}


@warm_is_enough
def test_two_pieces_one_after_the_other_and_reports_of_both(bench: Bench) -> None:
    first, second = bench.run("raw"), bench.run("base")
    assert [outcomes(first), outcomes(second)] == [{"raw success", "done"}, {"base success", "done"}]
    assert bench.builder.reports() == []


@warm_is_enough
def test_a_locked_file_is_one_clear_error_and_heals(bench: Bench) -> None:
    code = "import sys, duckdb; c = duckdb.connect(sys.argv[1]); print(1, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(bench.root / "warehouse.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        reports = bench.run("total")
        holder.communicate()
    assert outcomes(reports) == {"error"}
    message = ended(reports).message or ""
    assert all(part in message for part in ("lock", "warehouse.duckdb"))
    assert "Traceback" not in message
    assert outcomes(bench.run("total")) == {"total success", "done"}


@warm_is_enough
def test_a_failing_hook_at_the_end_is_an_error_of_the_piece(own: Bench) -> None:
    settings = own.root / "dbt_project.yml"
    settings.write_text(settings.read_text() + "on-run-end: select error('the hook is broken')\n")
    own.project = own.builder.load().project
    reports = own.run("raw")
    assert outcomes(reports) == {"raw success", "error"}
    assert "the hook is broken" in (ended(reports).message or "")


def test_dbt_killed_from_outside_is_an_error_with_the_cause(bench: Bench) -> None:
    bench.builder.start(bench.piece("slow"), bench.project)
    bench.until(lambda: bench.began("slow"))
    (victim,) = holders(bench.root / "warehouse.duckdb")
    os.kill(victim, signal.SIGKILL)
    bench.until(lambda: any(isinstance(report, PieceEnded) for report in bench.seen))
    assert outcomes(bench.seen) == {"slow error", "error"}
    assert "killed" in (ended(bench.seen).message or "")
    bench.seen.clear()
    assert outcomes(bench.run("raw")) == {"raw success", "done"}


def holders(file: Path) -> list[int]:
    """Processes that have the file open, this one left out."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("finding out who holds a file needs /proc")
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(fd.readlink() == file for fd in (process / "fd").iterdir()):
                found.append(int(process.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def test_a_selector_in_dbts_own_words(bench: Bench) -> None:
    assert set(bench.builder.select("base+1 tag:none", "resource_type:test resource_type:unit_test gated")) == {
        f"{kind}.tiny.{name}"
        for kind, name in (
            ("model", "base"), ("model", "grows"), ("model", "broken"), ("model", "python"), ("snapshot", "kept"),
            ("model", "folded"), ("model", "doubled"),
        )
    }  # fmt: skip
    with pytest.raises(DbtError, match="nonsense:method"):
        bench.builder.select("nonsense:method")


@warm_is_enough
def test_a_project_that_does_not_parse_is_told_in_dbts_words(own: Bench) -> None:
    file = own.root / "models" / "total.sql"
    text = file.read_text()
    file.write_text("select {{ ref('no_such_model') }}")
    with pytest.raises(DbtError) as caught:
        own.builder.load()
    assert all(part in caught.value.message for part in ("models/total.sql", "no_such_model", str(own.root)))
    assert all(part not in caught.value.message for part in ("\x1b", "Traceback", "Deprecat"))
    file.write_text(text)
    assert outcomes(own.run("raw", "base", "total")) >= {"total success", "done"}, "the project read before is in force"


@warm_is_enough
def test_warnings_do_not_hide_the_error(own: Bench) -> None:
    (own.root / "models" / "old.yml").write_text(
        "version: 2\nmodels:\n  - name: total\n    color: red\n    tests: [{accepted_values: {values: [1]}}]\n"
    )
    (own.root / "models" / "total.sql").write_text("select * from {{ ref('no_such_model') }}")
    with pytest.raises(DbtError) as caught:
        own.builder.load()
    assert "no_such_model" in caught.value.message
    assert "eprecat" not in caught.value.message


@warm_is_enough
def test_a_missing_profile_says_where_it_is_looked_for(settings: DbtSettings, tmp_path: Path) -> None:
    (settings.project_dir / "profiles.yml").unlink()
    builder = open_builder(replace(settings, profiles_dir=tmp_path))
    try:
        with pytest.raises(DbtError) as caught:
            builder.load()
    finally:
        builder.close()
    assert "profile" in caught.value.message
    assert str(tmp_path) in str(caught.value.hint)


def test_a_folder_without_a_project(settings: DbtSettings, tmp_path: Path) -> None:
    builder = open_builder(replace(settings, project_dir=tmp_path))
    try:
        with pytest.raises(DbtError, match=r"no dbt_project\.yml"):
            builder.load()
    finally:
        builder.close()


def test_a_missing_dbt(settings: DbtSettings) -> None:
    with pytest.raises(DbtError, match="not found at /no/such/dbt") as caught:
        load(replace(settings, dbt="/no/such/dbt", runner="subprocess"))
    assert "pip install" in str(caught.value.hint)
    with pytest.raises(DbtError, match="warm runner needs"):
        open_builder(replace(settings, dbt="/no/such/dbt", runner="warm"))


def test_vars_and_the_environment_reach_dbt(settings: DbtSettings) -> None:
    (settings.project_dir / "models" / "asked.sql").write_text(
        "select '{{ var('colour') }}' as a, '{{ env_var('SAO_TEST_SHAPE') }}' as b"
    )
    builder = open_builder(replace(settings, vars={"colour": "blue"}, env={"SAO_TEST_SHAPE": "round"}))
    try:
        bench = Bench(builder, settings.project_dir)
        bench.run("asked")
        assert bench.query("select * from asked") == [("blue", "round")]
    finally:
        builder.close()


@warm_is_enough
def test_says_when_there_is_something_to_hear(settings: DbtSettings) -> None:
    calls: list[int] = []
    builder = open_builder(settings, notify=lambda: calls.append(1))
    try:
        bench = Bench(builder, settings.project_dir)
        bench.run("raw")
    finally:
        builder.close()
    assert calls


DRIVER = """
import sys, time, fcntl, os
from pathlib import Path
from sao_events.dbt import DbtSettings, open_builder
from sao_events.ports import NodeBegan, Piece

if __name__ == "__main__":
    root, state, runner, lock = sys.argv[1:]
    held = open(lock, "w")
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    builder = open_builder(DbtSettings(Path(root), Path(state), runner=runner, grace=3.0), keep_fd=held.fileno())
    project = builder.load().project
    nodes = tuple(node.id for node in project.graph.nodes.values() if node.name == "slow")
    builder.start(Piece("p", "r", nodes, (), "d"), project)
    while True:
        if any(isinstance(report, NodeBegan) for report in builder.reports()):
            print("began", flush=True)
        time.sleep(0.01)
"""


def test_a_killed_service_leaves_no_dbt_behind_and_its_lock_falls_last(settings: DbtSettings, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    command = [
        sys.executable,
        "-c",
        DRIVER,
        str(settings.project_dir),
        str(settings.state_dir),
        settings.runner,
        str(lock),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == "began\n"
        service.kill()
    limit = time.monotonic() + PATIENCE
    with lock.open("w") as mine:
        while not _locked(mine):
            assert time.monotonic() < limit, processes_in(settings.state_dir)
            time.sleep(0.01)
        assert holders(settings.project_dir / "warehouse.duckdb") == [], "who gets the lock finds no build running"
    while processes_in(settings.state_dir):
        assert time.monotonic() < limit
        time.sleep(0.01)


def _locked(file: Any) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def test_the_loss_of_the_warm_process_is_an_error_and_heals(settings: DbtSettings) -> None:
    if settings.runner != "warm":
        pytest.skip("there is no warm process")
    builder = open_builder(settings)
    try:
        bench = Bench(builder, settings.project_dir)
        bench.builder.start(bench.piece("slow"), bench.project)
        bench.until(lambda: bench.began("slow"))
        server = builder._server  # type: ignore[attr-defined]
        server.process.kill()
        bench.until(lambda: any(isinstance(report, PieceEnded) for report in bench.seen))
        assert outcomes(bench.seen) == {"slow error", "error"}
        assert not holders(bench.root / "warehouse.duckdb"), "it is told when the build has ended, not before"
        bench.seen.clear()
        assert outcomes(bench.run("raw")) == {"raw success", "done"}
        bench.seen.clear()
        bench.builder.start(bench.piece("slow"), bench.project)
        bench.until(lambda: bench.began("slow"))
        (build,) = holders(bench.root / "warehouse.duckdb")
        host = subprocess.run(["ps", "-o", "ppid=", "-p", str(build)], capture_output=True, text=True, check=True)
        os.kill(int(host.stdout), signal.SIGKILL)
        bench.until(lambda: any(isinstance(report, PieceEnded) for report in bench.seen))
        assert outcomes(bench.seen) == {"slow error", "error"}
        assert not holders(bench.root / "warehouse.duckdb")
        bench.seen.clear()
        assert outcomes(bench.run("raw")) == {"raw success", "done"}
    finally:
        builder.close()


@warm_is_enough
def test_dbt_is_never_imported_by_the_service(settings: DbtSettings) -> None:
    code = textwrap.dedent("""
        import json, sys
        from pathlib import Path
        from sao_events.dbt import DbtSettings, open_builder
        builder = open_builder(DbtSettings(Path(sys.argv[1]), Path(sys.argv[2]), runner=sys.argv[3]))
        builder.load()
        builder.close()
        print(json.dumps(sorted(name for name in sys.modules if name.split(".")[0] == "dbt")))
    """)
    command = [sys.executable, "-c", code, str(settings.project_dir), str(settings.state_dir), settings.runner]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


FIRST_PROCESS = """
import ctypes, os, sys, time
from pathlib import Path
from sao_events.dbt import DbtSettings, open_builder
from sao_events.ports import Piece, PieceEnded

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(36, 1)
    root, state, runner = sys.argv[1:]
    builder = open_builder(DbtSettings(Path(root), Path(state), runner=runner))
    project = builder.load().project
    nodes = tuple(node.id for node in project.graph.nodes.values() if node.name == "total")
    builder.start(Piece("p", "r", nodes, (), "d"), project)
    while not any(isinstance(report, PieceEnded) for report in builder.reports()):
        time.sleep(0.01)
    builder.close()
    left = 0
    try:
        while os.waitpid(-1, 0):
            left += 1
    except ChildProcessError:
        print(left)
"""


@warm_is_enough
@pytest.mark.skipif(sys.platform != "linux", reason="who inherits lost processes can be chosen on Linux only")
def test_no_process_is_left_to_the_first_one_of_a_container(settings: DbtSettings) -> None:
    command = [sys.executable, "-c", FIRST_PROCESS, str(settings.project_dir), str(settings.state_dir), settings.runner]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


@warm_is_enough
def test_a_seed_is_loaded_from_the_newest_checkout_though_older_ones_are_gone(
    settings: DbtSettings, tmp_path: Path
) -> None:
    database = (tmp_path / "project" / "warehouse.duckdb").rename(tmp_path / "warehouse.duckdb")
    profile = settings.project_dir / "profiles.yml"
    profile.write_text(profile.read_text().replace("warehouse.duckdb", str(database)))
    for commit in ("1f0c3d", "9a7e55"):
        project = settings.project_dir.rename(tmp_path / commit)
        settings = replace(settings, project_dir=project)
        builder = open_builder(settings)
        try:
            assert outcomes(Bench(builder, project).run("raw", run=commit)) == {"raw success", "done"}
        finally:
            builder.close()


def test_what_would_make_dbt_build_something_else_is_not_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("DBT_EMPTY", "DBT_SAMPLE", "DBT_DEFER", "DBT_STATE", "DBT_ENGINE_DEFER", "DBT_SELECT", "DBT_PASSWORD")
    for name in names:
        monkeypatch.setenv(name, "1")
    settings = DbtSettings(tmp_path, tmp_path, env={"DBT_OWN": "2"})
    handed = settings.environment()
    assert {name: handed[name] for name in (*names, "DBT_OWN") if name in handed} == {
        "DBT_PASSWORD": "1",
        "DBT_OWN": "2",
    }

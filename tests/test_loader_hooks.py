"""What users copy into their loaders, run as they would run it, against the served application; and loaders themselves.

dlt and OpenLineage's client want other versions of what we pin, so they are in no lock: where they are importable, or
SAO_LOADERS_PYTHON names a Python that has them, they are run.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sao_events.config import Secret, WebhookConfig
from tests.loader_payloads import SECRET
from tests.web_service import ITEMS, ORDERS, TOKEN, Service, running

ROOT = Path(__file__).parent.parent
HOOKS = ROOT / "hooks" / "loaders"


@pytest.fixture
def served_at(tmp_path: Path) -> Iterator[tuple[Service, str]]:
    service = Service(tmp_path)
    (tmp_path / "loader").write_text(SECRET)
    secrets = (Secret(file=tmp_path / "loader"),)
    hooks = {name: WebhookConfig(name, secrets) for name in ("dlt", "openlineage")}
    service.config = replace(service.config, webhooks=hooks)
    with running(service) as server:
        yield service, server.url


def environment(url: str, **more: str) -> Mapping[str, str]:
    return {**os.environ, "SAO_URL": url, "SAO_DATA_TOKEN": TOKEN, **more}


def landed(*arguments: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(HOOKS / "landed.sh"), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_shell_tells_of_a_load(served_at: tuple[Service, str]) -> None:
    service, url = served_at
    assert landed("raw.orders", "7", "120", env=environment(url)).returncode == 0
    assert landed("raw.orders", "7", "120", env=environment(url)).returncode == 0
    assert landed("raw.items", env=environment(url)).returncode == 0
    assert [(event.source, event.rows) for event in service.data()] == [(ORDERS, 120), (ITEMS, None)]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_shell_fails_where_it_is_not_taken(served_at: tuple[Service, str]) -> None:
    service, url = served_at
    assert landed("raw.nothing", env=environment(url)).returncode != 0
    wrong = landed("raw.orders", env=environment(url, SAO_DATA_TOKEN="wrong"))
    assert wrong.returncode != 0
    assert "wrong" not in wrong.stdout + wrong.stderr
    for argument in ('raw.orders", "x": "', "$(touch x)", "a b", ""):
        assert landed(argument, env=environment(url)).returncode != 0
    assert service.data() == []


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_every_shell_reads_it(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", str(HOOKS / "landed.sh")], check=True)


def test_the_crontab_has_five_fields_and_what_is_there() -> None:
    lines = [line for line in (HOOKS / "crontab").read_text().splitlines() if line and not line.startswith("#")]
    assert [bool(re.match(r"(\S+ ){5}\S|\w+=\S", line)) for line in lines] == [True, True]
    assert "landed.sh" in lines[-1]


@pytest.mark.parametrize("path", sorted(HOOKS.glob("*.py")), ids=lambda path: path.stem)
def test_python_snippets_are_of_any_python_that_is_supported(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(), feature_version=(3, 9)))


def test_a_task_of_airflow_tells_of_its_load_once(
    served_at: tuple[Service, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, url = served_at
    spec = importlib.util.spec_from_file_location("airflow_callback", HOOKS / "airflow_callback.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("SAO_URL", url)
    monkeypatch.setenv("SAO_DATA_TOKEN", TOKEN)
    task = SimpleNamespace(dag_id="shop", task_id="load")
    context: dict[str, Any] = {"task_instance": task, "run_id": "scheduled__2026-03-01"}
    callback = module.landed("raw.orders", "raw.items")
    callback(context)
    callback(context)
    assert [event.source for event in service.data()] == [ORDERS, ITEMS]
    assert {event.load_id for event in service.data()} == {"shop/load/scheduled__2026-03-01"}


def test_what_the_manual_links_to_is_there() -> None:
    page = (ROOT / "docs" / "LOADERS.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)", page):
        assert (ROOT / "docs" / link).exists(), link


# The loaders themselves


def python_with(module: str) -> str:
    """A Python that has the module; skips where there is none."""
    python = os.environ.get("SAO_LOADERS_PYTHON", sys.executable)
    check = [python, "-c", f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{module}') is None)"]
    if subprocess.run(check, check=False, capture_output=True).returncode:
        pytest.skip(f"{module} is not installed for {python}; SAO_LOADERS_PYTHON may name another")
    return python


PIPELINE = """
import sys
import dlt
sys.path.insert(0, sys.argv[2])
folder = sys.argv[1]

@dlt.resource(write_disposition="merge", primary_key="id")
def orders():
    yield [{"id": n, "amount": n * 1.5} for n in range(int(sys.argv[3]))]

@dlt.resource(write_disposition="replace")
def items():
    yield [{"id": 1}]

destination = dlt.destinations.duckdb(folder + "/shop.duckdb")
pipeline = dlt.pipeline("shop", destination=destination, dataset_name="raw", pipelines_dir=folder + "/pipelines")
pipeline.run([orders(), items()])
if len(sys.argv) > 4:
    from dlt_landed import landed
    landed(pipeline)
"""


def run_pipeline(folder: Path, *arguments: str, **more: str) -> None:
    script = folder / "pipeline.py"
    script.write_text(PIPELINE)
    command = [python_with("dlt"), str(script), str(folder), str(HOOKS), *arguments]
    env = {**os.environ, "RUNTIME__DLTHUB_TELEMETRY": "false", **more}
    subprocess.run(command, env=env, cwd=folder, check=True, capture_output=True, timeout=120)


@pytest.mark.slow
def test_dlt_tells_by_itself(served_at: tuple[Service, str], tmp_path: Path) -> None:
    service, url = served_at
    run_pipeline(tmp_path, "10", RUNTIME__DLTHUB_DSN=f"{url}/webhooks/dlt/{SECRET}")
    loaded = {event.source: event for event in service.data()}
    assert set(loaded) == {ORDERS, ITEMS}
    assert (loaded[ORDERS].rows, loaded[ITEMS].replaces) == (10, True)
    assert loaded[ORDERS].load_id == loaded[ITEMS].load_id is not None


@pytest.mark.slow
def test_dlts_own_code_tells_and_once_is_enough(served_at: tuple[Service, str], tmp_path: Path) -> None:
    service, url = served_at
    address = f"{url}/webhooks/dlt/{SECRET}"
    run_pipeline(tmp_path, "3", "post", SAO_DLT_URL=address, RUNTIME__DLTHUB_DSN=address)
    assert sorted(event.source for event in service.data()) == sorted([ORDERS, ITEMS])


CLIENT = """
import sys
from datetime import datetime, timezone
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics
from openlineage.client.transport.http import ApiKeyTokenProvider, HttpCompression, HttpConfig, HttpTransport
from openlineage.client.uuid import generate_new_uuid

url, key, packed = sys.argv[1:]
auth = ApiKeyTokenProvider({"api_key": key})
compression = HttpCompression.GZIP if packed == "gzip" else None
client = OpenLineageClient(transport=HttpTransport(HttpConfig(url=url, auth=auth, compression=compression)))
run, job = Run(runId=str(generate_new_uuid())), Job(namespace="airflow", name="shop.load")
rows = {"outputStatistics": statistics.OutputStatisticsOutputDatasetFacet(rowCount=10)}
output = OutputDataset(namespace="duckdb", name="db.raw.orders", outputFacets=rows)
for state, outputs in ((RunState.START, []), (RunState.COMPLETE, [output])):
    now = datetime.now(timezone.utc).isoformat()
    client.emit(RunEvent(eventType=state, eventTime=now, run=run, job=job, outputs=outputs, producer="https://x/y"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("path", "key"), [("", TOKEN), ("/webhooks/openlineage/", SECRET)])
@pytest.mark.parametrize("packed", ["gzip", "plain"])
def test_the_client_of_openlineage_tells(served_at: tuple[Service, str], path: str, key: str, packed: str) -> None:
    service, url = served_at
    command = [python_with("openlineage.client"), "-c", CLIENT, f"{url}{path}", key, packed]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    [event] = service.data()
    assert (event.source, event.rows) == (ORDERS, 10)

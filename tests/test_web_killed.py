"""A service that is killed after it has recorded a delivery and before it says so: the sender tries again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from sao_events.store.sqlite import SqliteStore
from tests import senders
from tests.web_service import SECRET, Service, served

SERVER = """
import os, signal, sys
from pathlib import Path
from sao_events.store.sqlite import SqliteStore
from sao_events.web import webhooks
from tests.web_service import Service, running

async def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

webhooks.send_json = killed
folder = Path(sys.argv[1])
with running(Service(folder, SqliteStore(folder / "state.db"))) as server:
    print(server.url, flush=True)
    signal.pause()
"""


@pytest.mark.slow
def test_what_was_recorded_before_the_kill_is_one_event_when_it_is_sent_again(tmp_path: Path) -> None:
    content = senders.payload("github")
    content["repository"]["clone_url"] = "https://github.com/acme/shop.git"
    body = json.dumps(content).encode()
    headers = senders.headers("github", SECRET, body, delivery="d1")
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path)],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    with server, server.stdout:
        url = server.stdout.readline().strip()
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{url}/webhooks/github", content=body, headers=headers)
        assert server.wait(20) == -signal.SIGKILL
    store = SqliteStore(tmp_path / "state.db")
    assert store.last() == 1
    with served(Service(tmp_path, store)) as client:
        answer = client.post("/webhooks/github", content=body, headers=headers)
        assert answer.status_code == 200
        assert answer.json()["events"] == [{"seq": None, "duplicate": True}]
    assert store.last() == 1
    assert [(it.delivery.verdict, it.events) for it in store.deliveries()] == [("duplicate", ()), ("accepted", (1,))]
    store.close()

"""The demonstration shows what it says: which models each of its steps builds, on real dbt, HTTP and git."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

BUILT = re.compile(r"^(\S+) +build +", re.MULTILINE)


@pytest.mark.dbt
@pytest.mark.slow
def test_each_step_builds_what_it_says() -> None:
    pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
    command = [sys.executable, "-m", "sao_events.demo", "--exit"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    first, landed, comment, changed, window = re.split(r"^\d\. ", done.stdout, flags=re.MULTILINE)[1:]
    assert len(BUILT.findall(first)) == 18
    # Its window of one minute may end before the last step, where the machine is slow; then it is built there too.
    early = {"mart_store_daily"}
    assert set(BUILT.findall(landed)) - early == {"int_orders", "mart_orders"}
    assert set(BUILT.findall(comment)) - early == set()
    assert set(BUILT.findall(changed)) - early == {"mart_customer_orders", "mart_customer_value"}
    in_time = not any(early & set(BUILT.findall(step)) for step in (landed, comment, changed))
    assert set(BUILT.findall(window)) - (set() if in_time else {"int_orders", "mart_orders"}) == early

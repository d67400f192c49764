"""Part of week.py: dbt itself, as somebody without a service runs it; and from a process that has imported it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.parts_of_week.service import child_cpu
from tests.imported_dbt import ImportedDbt, said

LIMIT = 300.0  # seconds for one command


class Cost(NamedTuple):
    """Seconds of a command."""

    wall: float
    cpu: float


def in_process(folder: Path, arguments: list[str]) -> Cost:
    """Run dbt in a process of its own, in `folder`, as users do. Raises RuntimeError where it fails."""
    dbt = Path(sys.executable).with_name("dbt")
    began, used = time.perf_counter(), child_cpu()
    done = subprocess.run(
        [str(dbt), *arguments, "--no-use-colors"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    cost = Cost(time.perf_counter() - began, child_cpu() - used)
    if done.returncode:
        raise RuntimeError(f"dbt {' '.join(arguments)}:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
    return cost


class Imported(ImportedDbt):
    """The same without the time of a start. What is timed is never run that way."""

    def __call__(self, folder: Path, arguments: list[str]) -> None:
        """Run a command in `folder`. Raises RuntimeError where it fails."""
        if self.invoke(folder, arguments):
            raise RuntimeError(f"dbt {' '.join(arguments)}:\n{said(folder)}")

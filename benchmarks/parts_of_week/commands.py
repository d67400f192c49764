"""Part of week.py: dbt itself, as somebody without a service runs it, and the same from a process that has imported it.

Run as a script it imports dbt once and forks for each line of JSON on its input: the same command with the same result,
without the time of a start. What is timed is never run that way.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.parts_of_week.service import child_cpu

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


class Imported:
    """dbt, ready to be forked."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, folder: Path, arguments: list[str]) -> None:
        """Run a command in `folder`. Raises RuntimeError where it fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps({'folder': str(folder), 'arguments': arguments})}\n")
        self._process.stdin.flush()
        if int(self._process.stdout.readline() or 1):
            raise RuntimeError(f"dbt {' '.join(arguments)}:\n{(folder / 'dbt.out').read_text()[-3000:]}")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def main() -> None:
    """Serve requests until there are no more."""
    warnings.simplefilter("ignore")
    import dbt.cli.main  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _invoke(json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _invoke(request: dict[str, Any]) -> None:
    from dbt.cli.main import dbtRunner

    code = 2
    try:
        os.chdir(request["folder"])
        with Path("dbt.out").open("w") as file:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        done = dbtRunner().invoke([*request["arguments"], "--no-use-colors"])
        if done.exception:
            print(done.exception)
        code = 0 if done.success else 1
    except BaseException:  # noqa: BLE001 - a fork must end here
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    main()

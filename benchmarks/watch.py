"""From a saved file to the decision, and to the built table, in `watch`; beside `dbt ls --select state:modified`.

python -m benchmarks.watch [--models 1000] [--saves 7]

On the example project and on a generated one, each built already. A save is an edit of one model's SQL that changes its
meaning. Times are of what a developer sees: the line that says what is being built and why; the line that says that it
is built and tested; for a comment, the line that says that there is nothing to build. dbt alone answers the question of
the decision, in a process of its own, its partial parse at hand, and builds nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread

from benchmarks.latency import write_project

ROOT = Path(__file__).parent.parent
DBT = str(Path(sys.executable).parent / "dbt")


def main() -> None:
    """Measure both projects in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--saves", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sao-watch-") as folder:
        example, big = Path(folder) / "example", Path(folder) / "big"
        shutil.copytree(ROOT / "examples" / "jaffle_shop", example)
        subprocess.run([sys.executable, "loader.py", "init"], cwd=example, check=True, capture_output=True)
        big.mkdir()
        write_project(big, options.models)
        for name, project, file in (
            ("example project", example, example / "models/marts/mart_menu.sql"),
            (f"{options.models} models", big, big / f"models/m{options.models - 1}.sql"),
        ):
            print(f"\n{name}, medians of {options.saves} saves, in seconds", flush=True)
            ours, dbts = watched(project, file, options.saves), listed(project, file, options.saves)
            for what, seconds in {**ours, "dbt ls --select state:modified": dbts}.items():
                print(f"  {what:<34} {statistics.median(seconds):6.2f}   (max {max(seconds):.2f})")
            ratio = statistics.median(dbts) / statistics.median(ours["save to decision"])
            print(f"  dbt ls / save to decision          {ratio:6.1f}", flush=True)


def watched(project: Path, file: Path, saves: int) -> dict[str, list[float]]:
    """Seconds from each save to what is said of it."""
    text = file.read_text()
    found: dict[str, list[float]] = {"save to decision": [], "save to built": [], "comment to `nothing to build`": []}
    with watch(project) as lines:
        seen(lines, "reused ", "Waiting for")  # what was never built is not reused
        for number in range(saves):
            before = file.read_text()
            saved = save(file, f"{before}\n-- {number}\n")
            found["comment to `nothing to build`"].append(seen(lines, "no change of meaning") - saved)
            saved = save(file, f"select *, {number} as numbered from (\n{text}\n) as t\n")
            found["save to decision"].append(seen(lines, "building ") - saved)
            found["save to built"].append(seen(lines, "success:") - saved)
            seen(lines, "reused ")
    file.write_text(text)
    return found


def listed(project: Path, file: Path, saves: int) -> list[float]:
    """Seconds that dbt takes to name the model that was edited."""
    text, found = file.read_text(), []
    with tempfile.TemporaryDirectory() as folder:
        common = ["--project-dir", str(project), "--profiles-dir", str(project), "--log-path", folder]
        dbt("parse", *common, "--target-path", f"{folder}/before", cwd=project)
        dbt("parse", *common, "--target-path", f"{folder}/now", cwd=project)
        for number in range(saves):
            began = save(file, f"select *, {number} as listed from (\n{text}\n) as t\n")
            chosen = ["--select", "state:modified", "--state", f"{folder}/before", "--target-path", f"{folder}/now"]
            said = dbt("ls", "--quiet", *common, *chosen, cwd=project)
            found.append(time.monotonic() - began)
            assert file.stem in said, said
    file.write_text(text)
    return found


def save(file: Path, text: str) -> float:
    """Write the file; when."""
    now = time.monotonic()
    file.write_text(text)
    return now


def dbt(*arguments: str, cwd: Path) -> str:
    """What dbt says."""
    return subprocess.run([DBT, *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


def seen(lines: Queue[tuple[float, str]], *what: str) -> float:
    """When the next line with any of `what` in it came."""
    while True:
        at, line = lines.get(timeout=600)
        if any(words in line for words in what):
            return at
        if "cannot be loaded" in line or "failed:" in line:
            raise SystemExit(f"{line}: {[lines.get(timeout=2)[1] for _ in range(3)]}")


@contextmanager
def watch(project: Path) -> Iterator[Queue[tuple[float, str]]]:
    """`sao-events watch` in the project: its lines, each with when it came."""
    command = [sys.executable, "-m", "sao_events", "--project-dir", str(project), "watch"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True, env=environ)
    lines: Queue[tuple[float, str]] = Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put((time.monotonic(), line))

    Thread(target=read, daemon=True).start()
    try:
        yield lines
    finally:
        process.terminate()
        process.wait(timeout=60)


if __name__ == "__main__":
    main()

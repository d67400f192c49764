"""dbt without the seconds of a start: a process that has imported it and forks for each command.

Run as a script it answers a line of JSON on its input with the exit status; what dbt says is added to `dbt.out` in the
folder of the command.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


class ImportedDbt:
    """dbt, ready to be forked."""

    def __init__(self) -> None:
        self._process: Any = self._start()

    def _start(self) -> Any:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.imported_dbt"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def invoke(
        self,
        folder: Path,
        arguments: Iterable[str],
        env: Mapping[str, str] | None = None,
        *,
        parsed: Path | None = None,
    ) -> int:
        """Run a command in `folder`; its exit status. `parsed`: what dbt has kept of a parse of the project as it is,
        so that it is not parsed again.
        """
        request = {
            "arguments": [*arguments, "--no-use-colors"],
            "env": dict(env or {}),
            "folder": str(folder),
            "parsed": str(parsed) if parsed else None,
        }
        self._process.stdin.write(f"{json.dumps(request)}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def said(folder: Path) -> str:
    """The end of what dbt said in `folder`."""
    return (folder / "dbt.out").read_text()[-3000:]


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
        with Path("dbt.out").open("a") as file:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.environ.update(request["env"])
        manifest = _manifest(Path(request["parsed"])) if request["parsed"] else None
        done = dbtRunner(manifest=manifest).invoke(request["arguments"])
        if done.exception:
            print(done.exception)
        code = 0 if done.success else 1
    except BaseException:  # noqa: BLE001 (a fork ends here, whatever happens)
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(code)


def _manifest(parsed: Path) -> Any:
    from dbt.contracts.graph.manifest import Manifest

    manifest = Manifest.from_msgpack(parsed.read_bytes())
    manifest.build_flat_graph()
    return manifest


if __name__ == "__main__":
    main()

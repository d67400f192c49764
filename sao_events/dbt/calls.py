"""The calls of dbt's own Python API, each in a process forked for it. With `asked`, `seen` and `together`, all that
imports dbt.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sao_events.dbt import asked, seen, together
from sao_events.dbt.command import uncompiled
from sao_events.dbt.log import WANTED

Send = Callable[[Mapping[str, Any]], None]
QUIET = ("--log-level", "none")
CHECKED = """
    dbt.contracts.project.ProjectFlags dbt.contracts.project.Project dbt.contracts.project.ProfileConfig
    dbt.contracts.project.PackageConfig dbt.contracts.project.Configuration dbt.contracts.selection.SelectorFile
    dbt.artifacts.resources.ModelConfig dbt.artifacts.resources.TestConfig dbt.artifacts.resources.SeedConfig
    dbt.contracts.graph.nodes.ModelNode dbt.contracts.graph.nodes.GenericTestNode dbt.contracts.graph.nodes.SeedNode
    dbt.contracts.graph.unparsed.UnparsedModelUpdate
""".split()
MOST_MACROS = 5_000  # texts of macros that were edited since stay in the cache


def parse(request: Mapping[str, Any]) -> tuple[Any, str]:
    """dbt's manifest object of the project, or None and why not."""
    last, errors = list[str](), list[str]()

    def heard(message: Any) -> None:
        if message.info.name == "MainEncounteredError":
            last.append(str(message.data.exc))
        elif message.info.level == "error" and len(errors) < 20:
            errors.append(str(message.info.msg))

    outcome = _invoke(request["arguments"], None, heard)
    if outcome.success and outcome.result is not None:
        _prepare()
        return outcome.result, ""
    return None, last[-1] if last else "\n".join(errors) or str(outcome.exception or "dbt parse failed")


def build(request: Mapping[str, Any], manifest: Any, send: Send) -> None:
    """One `dbt build`: its events while it runs, and how it ended. What is printed goes to the piece's log."""
    _print_to(request["log"])
    lock = threading.Lock()

    def heard(message: Any) -> None:
        name, level = message.info.name, str(message.info.level)
        if name in WANTED or level == "error":
            event = [name, level, str(message.info.msg)[:20_000], _fields(name, message.data)]
            tell({"is": event})

    def tell(what: Mapping[str, Any]) -> None:
        with lock:
            send({"event": request["build"], **what})

    before = set(_compiled())
    if request["columns"] or request["hashes"]:
        seen.install(tell, columns=request["columns"], hashes=request["hashes"])
    if request.get("together"):
        together.install(request["together"], request["nodes"])
    outcome = _invoke(request["arguments"], manifest, heard)
    said = _said(outcome)
    code = 0 if outcome.success else 1 if outcome.exception is None else 2
    send({"done": request["build"], "code": code, "said": said})
    if fresh := [text for text in _compiled() if text not in before]:
        send({"compiled": fresh})


def compile_macro(text: str) -> None:
    """Compile a macro into dbt's cache, so that the builds forked from here need not: a small build spends most of its
    time there.
    """
    from dbt_common.clients import jinja

    if len(_compiled()) < MOST_MACROS:
        jinja.template_cache.get_node_template(SimpleNamespace(name="", macro_sql=text))


def render(request: Mapping[str, Any], manifest: Any, send: Send) -> None:
    """One `dbt compile` that may not ask the warehouse. Writes to the file of the request, for each node and test, its
    `sql`, or the `doubt` why there is none. `is_incremental()` says what `again` says.
    """
    for macro in manifest.macros.values():
        if macro.name == "is_incremental":
            answer = "true" if request["again"] else "false"
            macro.macro_sql = f"{{% macro is_incremental() %}}{{{{ return({answer}) }}}}{{% endmacro %}}"
    asked, before = _shut_warehouse(), set(_compiled())
    outcome = _invoke(request["arguments"], manifest, lambda _: None)
    results = getattr(outcome.result, "results", None) or ()
    found = {result.node.unique_id: _rendered(result, asked) for result in results if result.node is not None}
    Path(request["file"]).write_text(json.dumps(found), encoding="utf-8")
    send({"rendered": request["render"], "ok": bool(found) or outcome.exception is None, "said": _said(outcome)})
    if fresh := [text for text in _compiled() if text not in before]:
        send({"compiled": fresh})


def _rendered(result: Any, asked: set[str]) -> dict[str, str]:
    if result.node.unique_id in asked:
        return {"doubt": "it asks the warehouse while it is compiled"}
    if str(result.status) != "success" or result.node.compiled_code is None:
        return {"doubt": uncompiled(result.message)}
    return {"sql": result.node.compiled_code}


def _shut_warehouse() -> set[str]:
    """From here on whoever wants a connection gets an error instead; returns the names under which it is asked for:
    dbt's connections bear the ids of their nodes.
    """
    from dbt.adapters.contracts.connection import LazyHandle
    from dbt.task.compile import CompileTask
    from dbt_common.exceptions import DbtRuntimeError

    asked = set[str]()

    def refuse(_: Any, connection: Any) -> Any:
        asked.add(str(connection.name))
        raise DbtRuntimeError("the warehouse is not asked while identities are compared")

    patched: list[tuple[Any, str, Any]] = [(LazyHandle, "resolve", refuse)]
    patched.append((CompileTask, "raise_on_first_error", lambda _: False))
    for owner, name, instead in patched:
        setattr(owner, name, instead)
    return asked


def _said(outcome: Any) -> str:
    return "" if outcome.exception is None else str(outcome.exception)


def listing(request: Mapping[str, Any], manifest: Any, send: Send) -> None:
    """One `dbt ls`: the ids it names."""
    outcome = _invoke(request["arguments"], manifest, lambda _: None)
    if outcome.success:
        ids = [json.loads(line)["unique_id"] for line in outcome.result or ()]
        send({"listed": request["list"], "ok": True, "ids": ids})
    else:
        send({"listed": request["list"], "ok": False, "said": str(outcome.exception or "dbt ls failed")})


def ask(request: Mapping[str, Any], manifest: Any, send: Send) -> None:
    """Put the `statements` of the request to the warehouse, and end: that is the answer, since only then the warehouse
    is let go of. Writes a line of JSON for the answer to each to the file of the request, as they come.
    """
    statements, seconds = request["statements"], request["seconds"]
    signal.alarm(math.ceil(request["limit"]))  # where a driver hangs nothing else helps
    with Path(request["file"]).open("w", encoding="utf-8") as file:
        told = 0

        def tell(answer: Mapping[str, Any]) -> None:
            nonlocal told
            told += 1
            print(json.dumps(answer), file=file, flush=True)

        asked.install(statements, seconds, request["most"], tell, keep=request["keep"])
        outcome = _invoke(request["arguments"], manifest, lambda _: None)
        for _ in statements[told:]:
            tell({"error": _said(outcome) or "dbt did not ask"})


def _prepare() -> None:
    """Import what every build would import, and leave out a file for dbt's own diagnosis, a quarter of the time that a
    small build takes on a project of a thousand models."""
    import dbt.compilation
    import dbt.task.build
    import dbt.task.list
    import dbt.task.test

    linker = dbt.compilation.Linker
    if hasattr(linker, "get_graph_summary"):
        linker.get_graph_summary = lambda *_: {}


def schemas() -> list[Callable[[], object]]:
    """Calls that make what dbt checks files of a project with; it keeps them, and they are most of the time that it
    takes to read a project again of which one file has changed.
    """
    made = list[Callable[[], object]]()
    for path in CHECKED:
        module, _, name = path.rpartition(".")
        with contextlib.suppress(ImportError, AttributeError):  # another dbt: it will make its own
            made.append(getattr(importlib.import_module(module), name).json_schema)
    return made


def _compiled() -> Mapping[str, Any]:
    """The macros that this process has compiled, by their text; none where this dbt keeps them elsewhere."""
    from dbt_common.clients import jinja

    found: Mapping[str, Any] = getattr(getattr(jinja, "template_cache", None), "file_cache", {})
    return found


def _invoke(arguments: list[str], manifest: Any, heard: Callable[[Any], None]) -> Any:
    from dbt.cli.main import dbtRunner

    return dbtRunner(manifest=manifest, callbacks=[heard]).invoke([*arguments, *QUIET])


def _fields(name: str, data: Any) -> dict[str, Any]:
    """Of an event's data what `log.Follower` reads."""
    if name in {"NodeStart", "LogStartLine"}:
        return {"node_info": {"unique_id": data.node_info.unique_id}}
    if name == "NodeFinished":
        result = data.run_result
        kept = {"status": result.status, "message": result.message, "execution_time": result.execution_time}
        return {"node_info": {"unique_id": data.node_info.unique_id}, "run_result": kept}
    if name == "EndRunResult":
        failed = [result for result in data.results if " failed, error:" in result.message]
        return {"results": [{"status": result.status, "message": result.message} for result in failed]}
    names = ("exc", "unique_id", "statement", "status", "version")
    return {key: str(getattr(data, key)) for key in names if hasattr(data, key)}


def _print_to(path: str) -> None:
    """Append to a file what this process prints from here on."""
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)

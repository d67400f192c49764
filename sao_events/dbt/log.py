"""dbt's events, turned into reports about one piece as they come.

dbt 1 begins a node it skips like one it runs; only a start line means work (dbt 2 writes one for both). A model built
in batches begins and ends once for each, inside its own begin and end. A node whose thread broke never ends. dbt 2
tells a node's error apart from its end. What a cancelled build says of its nodes is not true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sao_events.dbt.command import plain
from sao_events.ports import NodeBegan, NodeEnded, Piece, PieceEnded, Report, TestEnded

WANTED = frozenset(
    """MainReportVersion NodeStart LogStartLine NodeFinished GenericExceptionOnRun MainEncounteredError LogHookEndLine
    EndRunResult""".split()
)
NODE_STATUS = {"success": "success", "no-op": "success", "skipped": "skipped", "interrupted": "interrupted"}
TEST_STATUS = frozenset({"pass", "warn", "fail", "error", "skipped"})
LOST = "dbt gave no result for it"


class Follower:
    """Follows one invocation. `changed()` is asked once, before the first node is reported; where it gives a text, that
    says why nothing of what this invocation builds may be recorded as built."""

    def __init__(self, piece: Piece, changed: Callable[[], str | None] = lambda: None) -> None:
        self.piece, self.cancelled, self.changed = piece, False, changed
        self._of_piece = frozenset(piece.nodes)
        self._tests = frozenset(piece.tests)
        self._depth: dict[str, int] = {}
        self._began: set[str] = set()
        self._ended: set[str] = set()
        self._looked: dict[str, dict[str, Any]] = {}
        self._exceptions: dict[str, str] = {}
        self._hooks: list[str] = []
        self.errors: list[str] = []
        self.fatal: str | None = None
        self.spoiled: str | None = None
        self._verified = False
        self._major = 1

    def event(self, name: str, level: str, message: str, data: Mapping[str, Any]) -> list[Report]:
        """What one event of dbt means. `data` has the fields of the event, `node_info` and `run_result` among them."""
        node = str((data.get("node_info") or {}).get("unique_id") or data.get("unique_id") or "")
        if level == "error" and node:
            self._exceptions.setdefault(node, plain(message))
        elif level == "error" and len(self.errors) < 50:
            self.errors.append(plain(message))
        if name not in WANTED:
            return []
        if name in {"NodeStart", "LogStartLine", "NodeFinished"} and node in self._of_piece | self._tests:
            self._verify()
            return self._progress(name, node, data)
        self._aside(name, node, message, data)
        return []

    def looked(self, node: str, found: Mapping[str, Any]) -> None:
        """What was found in the warehouse of what was just built for `node`, under the names of `NodeEnded`."""
        kept = {name: found[name] for name in ("columns", "content", "unhashed", "hashing") if name in found}
        self._looked.setdefault(node, {}).update(kept)

    def end(self, code: int, output: str = "") -> list[Report]:
        """The last reports, once dbt has ended with the exit status `code` (negative: by that signal). `output` is what
        it printed beside its events."""
        if self._began or self._ended:
            self._verify()
        found: list[Report] = []
        lost, why = self._verdict(code, output)
        for node in (*self.piece.nodes, *self.piece.tests):
            if node in self._began and node not in self._ended:
                message = self._exceptions.get(node) or (why if lost == "error" else None)
                found.append(self._report(node, lost, 0.0, message or (LOST if lost == "error" else None)))
            elif node not in self._ended and why is None and not self.cancelled:
                found.append(self._report(node, "skipped", 0.0, "dbt did not run it"))
        if self.cancelled:
            return [*found, PieceEnded(self.piece.id, "interrupted", "cancelled")]
        return [*found, PieceEnded(self.piece.id, "error" if why else "done", why)]

    def _progress(self, name: str, node: str, data: Mapping[str, Any]) -> list[Report]:
        if node in self._ended:
            return []
        if name == "NodeStart":
            self._depth[node] = self._depth.get(node, 0) + 1
        elif name == "LogStartLine" and node not in self._began:
            self._began.add(node)
            return [NodeBegan(self.piece.id, node)] if node in self._of_piece else []
        elif name == "NodeFinished":
            self._depth[node] = self._depth.get(node, 1) - 1
            if self._depth[node] <= 0:
                return self._finish(node, data)
        return []

    def _finish(self, node: str, data: Mapping[str, Any]) -> list[Report]:
        result = data.get("run_result") or {}
        words = str(result.get("status") or (data.get("node_info") or {}).get("node_status") or "error").lower()
        status = NODE_STATUS.get(words, "error") if node in self._of_piece else words
        message = plain(str(result.get("message") or "")) or None
        if status in {"error", "fail"}:
            message = message or self._exceptions.get(node)
        if self.spoiled and status != "skipped":
            status, message = "error", self.spoiled
        if self.cancelled and (status in {"error", "fail"} or self._major > 1):
            status, message = "interrupted", None
        return [self._report(node, status, float(result.get("execution_time") or 0.0), message, words)]

    def _report(
        self, node: str, status: str, seconds: float, message: str | None, words: str | None = None
    ) -> NodeEnded | TestEnded:
        self._ended.add(node)
        if node in self._of_piece:
            looked = self._looked.get(node, {}) if status == "success" else {}
            seconds = max(0.0, seconds - looked.get("hashing", 0.0))  # dbt's own time has it in it
            return NodeEnded(self.piece.id, node, status, seconds, message, words=words or status, **looked)
        if status not in TEST_STATUS | {"interrupted"}:
            status = "pass" if status == "success" else "error"
        return TestEnded(self.piece.id, node, status, seconds, message)

    def _aside(self, name: str, node: str, message: str, data: Mapping[str, Any]) -> None:
        if name == "MainEncounteredError":
            self.fatal = plain(str(data.get("exc") or message))
        elif name == "GenericExceptionOnRun":
            self._exceptions[node] = plain(str(data.get("exc") or message))
        elif name == "LogHookEndLine" and data.get("status") not in {"success", "skipped"}:
            self._hooks.append(f"hook {data.get('statement') or node} failed")
        elif name == "EndRunResult":
            for result in data.get("results") or ():
                text = str(result.get("message") or "")
                if " failed, error:" in text and result.get("status") == "error":
                    self._hooks.append(f"hook {plain(text)}")
        elif name == "MainReportVersion":
            self._major = int(str(data.get("version", "1")).lstrip("=").partition(".")[0] or 1)

    def _verify(self) -> None:
        if not self._verified:
            self._verified = True
            self.spoiled = self.changed()

    def _verdict(self, code: int, output: str) -> tuple[str, str | None]:
        """What becomes of nodes that began and never ended, and why the invocation as a whole went wrong, if it did."""
        if self.cancelled:
            return "interrupted", None
        if self.spoiled:
            return "error", self.spoiled
        if code < 0:
            return ("error" if -code in {4, 6, 7, 9, 11} else "interrupted"), f"dbt was {_killed(-code)}"
        if self.fatal:
            return "error", self.fatal
        if self._hooks:
            return "error", self._hooks[-1]
        if code > 1 or (code and not self._ended):
            said = "\n".join((*self.errors, *self._exceptions.values())) or plain(output)[-2000:]
            return "error", said or f"dbt ended with the exit status {code}"
        return "error", None


def _killed(number: int) -> str:
    causes = {9: "killed (signal 9); when nobody did that, it ran out of memory", 11: "ended by a crash (signal 11)"}
    return causes.get(number, f"ended by signal {number}")

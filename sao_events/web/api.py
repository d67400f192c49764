"""What is on record, as JSON. Plain functions: they take the service's lock, so they run beside the event loop."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from sao_events import report
from sao_events.core.decision import Action
from sao_events.core.events import EVENTS, Recorded, subject
from sao_events.core.named import resolve_node
from sao_events.core.project import Project, graphs_of
from sao_events.deliveries import delivery_object, unmatched
from sao_events.ports import VERDICTS
from sao_events.report.column_name import lineage_of, seeds_built
from sao_events.web.answers import Problem, answer, unavailable
from sao_events.web.backend import Backend
from sao_events.web.output import Output, run_output

MOST, SCANNED = 1000, 10_000
DECIDED = ("environment", "commit", "at", "counts", "next_at", "nodes")


class Api:
    """The read endpoints. All answer GET and HEAD."""

    def __init__(self, backend: Backend, description: bytes) -> None:
        self.backend, self.description = backend, description

    def status(self, request: Request) -> Response:
        """Everything that is known now."""
        return answer(self._status())

    def decisions(self, request: Request) -> Response:
        """Every node with its decision now; `action` keeps those of one action."""
        found = {key: value for key, value in self._status().items() if key in DECIDED}
        if action := request.query_params.get("action"):
            if action not in list(Action):
                raise Problem(400, "there is no such action", hint=f"the actions are {', '.join(Action)}")
            found["nodes"] = [node for node in found["nodes"] if node["action"] == action]
        return answer(found)

    def _status(self) -> dict[str, Any]:
        with self.backend.view() as view:
            found = report.status(view)
        return {**found, "unmatched": unmatched(self.backend.store)}

    def events(self, request: Request) -> Response:
        """The log: the newest first, or with `after` the oldest first, to be followed with `next`."""
        kinds, node = _kinds(request), request.query_params.get("node")
        limit = _number(request, "limit", 100, least=1, most=MOST)
        after = _number(request, "after", -1)
        if after < 0:
            found = self.backend.store.find(kinds, node, before=_number(request, "before", 0) or None, limit=limit)
            following = found[-1].seq if len(found) == limit else None
            return answer({"events": self._told(found), "before": following})
        found, following = self._following(after, kinds, node, limit)
        return answer({"events": self._told(found), "next": following})

    def _following(
        self, after: int, kinds: Sequence[str] | None, node: str | None, limit: int
    ) -> tuple[list[Recorded], int]:
        """Events after `after` that fit, and how far was looked: at most `SCANNED` of the log in one request."""
        log = self.backend.store.read(after, SCANNED if kinds or node else limit)
        fitting = (
            item
            for item in log
            if (not kinds or type(item.event).__name__ in kinds) and node in (None, subject(item.event))
        )
        found = list(islice(fitting, limit))
        if len(found) == limit:
            return found, found[-1].seq
        return found, log[-1].seq if log else after

    def _told(self, found: Sequence[Recorded]) -> list[dict[str, Any]]:
        with self.backend.view() as view:
            project = view.project
        known = report.names(project)
        return [report.event_object(item, known) for item in found]

    def deliveries(self, request: Request) -> Response:
        """What other services sent, the newest first, with the verdict on it; older ones with `before`."""
        verdict, limit = request.query_params.get("verdict"), _number(request, "limit", 100, least=1, most=MOST)
        if verdict and verdict not in VERDICTS:
            raise Problem(400, "there is no such verdict", hint=f"the verdicts are {', '.join(VERDICTS)}")
        before = _number(request, "before", 0) or None
        endpoint = request.query_params.get("endpoint") or None
        found = self.backend.store.deliveries(endpoint, verdict or None, before, limit)
        following = found[-1].id if len(found) == limit else None
        return answer({"deliveries": [delivery_object(item) for item in found], "before": following})

    def runs(self, request: Request) -> Response:
        """The last runs, the newest first."""
        limit = _number(request, "limit", 20, least=1, most=200)
        return answer({"runs": report.runs(self.backend.store.find, limit)})

    def run(self, request: Request) -> Response:
        """One run, with what dbt wrote."""
        found = self._run(request)
        pieces = [{"piece": it.piece, "truncated": it.truncated, "text": it.text} for it in self._output(request)]
        return answer({**found, "output": pieces})

    def output(self, request: Request) -> Response:
        """What dbt wrote in one run, as text."""
        found = self._run(request)
        pieces = self._output(request)
        text = "\n".join(f"--- {it.piece}{' (its end)' if it.truncated else ''}\n{it.text}" for it in pieces)
        nothing = f"run {found['run']}, {found['status']}: dbt left no output"
        return PlainTextResponse(text or nothing, headers={"cache-control": "no-store"})

    def _run(self, request: Request) -> dict[str, Any]:
        run, find = request.path_params["id"], self.backend.store.find
        started = find(["RunStarted"], run=run, limit=1)
        if not started:
            raise Problem(404, "there is no such run", hint="/api/runs lists the last ones")
        return report.run_object(find, started[0])

    def _output(self, request: Request) -> list[Output]:
        return run_output(self.backend.config.state_dir, request.path_params["id"])

    def why(self, request: Request) -> Response:
        """Why one node, by its id or name, is built or not."""
        name = request.path_params["id"]
        with self.backend.view() as view:
            found = resolve_node(_project(view), name)
            if isinstance(found, str):
                said = report.why(view, self.backend.store.find, found, graphs_of(self.backend.store.get_project))
                if request.query_params.get("diff") in {"1", "true"}:
                    said["diff"] = report.code_difference(view, self.backend.store.get_texts, found)
                return answer(said)
        hint = f"did you mean {' or '.join(found)}?" if found else "/api/status lists the nodes"
        raise Problem(404, "there is no such node", hint=hint)

    def lineage(self, request: Request) -> Response:
        """Which columns `column` is made of, or with `downstream` which are made of it."""
        downstream = request.query_params.get("downstream") in {"1", "true"}
        with self.backend.view() as view:
            project = _project(view)
            seeds = seeds_built(project.graph, view.world)
        asked = request.query_params.get("column", "")
        return answer(lineage_of(project, asked, downstream=downstream, seeds=seeds))

    def openapi(self, request: Request) -> Response:
        """The description of all this."""
        return Response(self.description, media_type="application/json")

    def health(self, request: Request) -> Response:
        """Whether the process and its threads are alive."""
        if not self.backend.healthy:
            raise unavailable("the service is not working", "restart it, and see its log")
        return answer({"status": "ok"})

    def readiness(self, request: Request) -> Response:
        """Whether a project is loaded and the engine runs."""
        if not self.backend.ready:
            raise unavailable(
                "no project is in force yet, or the service is stopping", "/api/status says what is wrong"
            )
        return answer({"status": "ready"})


def _project(view: report.View) -> Project:
    if view.project is None:
        raise unavailable("no project is loaded yet", "ask again in a moment; /readyz says when")
    return view.project


def _kinds(request: Request) -> list[str] | None:
    kinds = [kind for given in request.query_params.getlist("kind") for kind in given.split(",") if kind]
    if unknown := set(kinds) - EVENTS.keys():
        hint = f"the kinds are {', '.join(EVENTS)}"
        raise Problem(400, f"{len(unknown)} of the kinds asked for do not exist", hint=hint)
    return kinds or None


def _number(request: Request, name: str, default: int, *, least: int = 0, most: int = 2**63 - 1) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise Problem(400, f"{name} is not a number in its range", hint=f"send a whole number from {least} to {most}")
    return int(text)

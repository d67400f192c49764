"""Answers in JSON, errors included: `{"error": what, "hint": what to do}`, never what only the log should hold."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler, Send

from sao_events.core.compact import encoder
from sao_events.core.errors import NotThere, SaoError, StoreError, UsageError
from sao_events.core.events import Recorded
from sao_events.inputs.strict import Refused, UnknownForm

LOG = logging.getLogger("sao_events.web")
Headers = Mapping[str, str]
_encode = encoder(ensure_ascii=False)
_JSON = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
_STATUS: dict[type[SaoError], int] = {NotThere: 404, UnknownForm: 415, Refused: 422}
_HINTS = {
    404: "see /api/openapi.json for what there is",
    405: "see the header Allow",
}


class Problem(SaoError):
    """A request that is not answered as it hopes: `status` is HTTP's, `headers` go with it."""

    def __init__(self, status: int, message: str, *, hint: str | None = None, headers: Headers | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status, self.headers = status, dict(headers or {})


def answer(body: Any, status: int = 200, headers: Headers | None = None) -> Response:
    """`body` as JSON. It is as of now, so it is not to be kept."""
    given = {"cache-control": "no-store", **(headers or {})}
    return Response(_encode(body), status, given, "application/json")


async def send_json(send: Send, status: int, body: Any) -> None:
    """The same of what was posted, at less cost: programs with a token post thousands of times each second."""
    content = _encode(body).encode()
    headers = [*_JSON, (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def told(recorded: Recorded | None, **more: Any) -> dict[str, Any]:
    """What a sender is told of an event that it sent; None stands for one that was known."""
    return {**more, "seq": recorded.seq if recorded else None, "duplicate": recorded is None}


def problem(status: int, message: str, hint: str | None = None, headers: Headers | None = None) -> Response:
    """An error as JSON."""
    return answer({"error": message, "hint": hint}, status, headers)


def unavailable(message: str, hint: str) -> Problem:
    """The service cannot do its part now, whatever the request is: the sender is asked to try again."""
    return Problem(503, message, hint=hint, headers={"retry-after": "5"})


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail.lower(), _HINTS.get(error.status_code), error.headers)


def explained(request: Request, error: Exception) -> Response:
    """An error of ours. What a sender did is named; what went wrong here is logged, and the answer says that it did."""
    if isinstance(error, Problem):
        return problem(error.status, error.message, error.hint, error.headers)
    if isinstance(error, UsageError):
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 400)
        return problem(status, error.message, error.hint)
    LOG.error("%s %r: %s", request.method, _without_token(request.scope["path"]), error)
    what = "the event log cannot be used now" if isinstance(error, StoreError) else "the service cannot answer this now"
    retry = unavailable(what, "nothing was recorded; try again, and see the service's log")
    return problem(retry.status, retry.message, retry.hint, retry.headers)


def _without_token(path: str) -> str:
    """Behind a webhook's name there may be a secret."""
    return "/".join(path.split("/")[:3]) if path.startswith("/webhooks/") else path


def failed(request: Request, error: Exception) -> Response:
    """An error that nobody foresaw; whoever serves logs it."""
    return problem(500, "internal error", "it is in the service's log", {"connection": "close"})


HANDLERS: dict[Any, ExceptionHandler] = {HTTPException: _refused, SaoError: explained, Exception: failed}

"""The application: every route there is, in one list, and what surrounds them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from time import monotonic

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from sao_events.web.access import Keys
from sao_events.web.answers import HANDLERS
from sao_events.web.api import Api
from sao_events.web.backend import Backend
from sao_events.web.gather import Gather
from sao_events.web.guard import Guard, Rate, names_of
from sao_events.web.live import Live
from sao_events.web.page import Page
from sao_events.web.receive import CodeEvents, DataEvents
from sao_events.web.rejections import Rejections
from sao_events.web.replay import Replay
from sao_events.web.webhooks import Webhooks


def create_app(
    service: Backend, *, host: str | None = None, rate: Rate | None = None, now: Callable[[], float] = monotonic
) -> tuple[Guard, Live]:
    """The application in front of `service`, reached by the address `host` (None: the configured one).

    `rate` limits each client; `now` is the clock (seconds, of any origin) that it and the keeping of secrets go by.
    With it comes what has `close()`, which ends the streams before a shutdown.
    """
    live, page = Live(service), Page(service)
    api = Api(service, (files("sao_events.web") / "openapi.json").read_bytes())
    tokens = Keys(service.config.data_tokens, now, wall=service.clock.now)
    gather = Gather(service)
    data, code = DataEvents(service, tokens, gather), CodeEvents(service, tokens, gather)
    rejections = Rejections(service)
    webhooks = Webhooks(service, now, rejections)
    routes = [
        Route("/webhooks/{name}", webhooks),
        Route("/webhooks/{name}/{rest:path}", webhooks),
        Route("/api/v1/lineage", webhooks, methods=["POST"]),
        Route("/api/v1/lineage/batch", webhooks, methods=["POST"]),
        Route("/events/data", data, methods=["POST"]),
        Route("/events/code", code, methods=["POST"]),
        Route("/api/status", api.status),
        Route("/api/decisions", api.decisions),
        Route("/api/events", api.events),
        Route("/api/deliveries", api.deliveries),
        Route("/api/deliveries/{id}/replay", Replay(service, tokens), methods=["POST"]),
        Route("/api/runs", api.runs),
        Route("/api/runs/{id}", api.run),
        Route("/api/runs/{id}/output", api.output),
        Route("/api/nodes/{id}/why", api.why),
        Route("/api/lineage", api.lineage),
        Route("/api/openapi.json", api.openapi),
        Route("/healthz", api.health),
        Route("/readyz", api.readiness),
        Route("/live", live.listen),
        Route("/static/{name}", page.file),
        Route("/", page.show),
    ]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await live.open()
        yield
        rejections.record()
        live.close()
        await live.join()

    app = Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=lifespan)
    app.router.redirect_slashes = False
    hosts = names_of(host or service.config.http.host)
    direct: dict[str, ASGIApp] = {"/events/data": data, "/events/code": code}
    # Around everything else: before what errors cost, and behind no answer.
    return Guard(app, hosts=hosts, rate=rate or Rate(), now=now, direct=direct), live

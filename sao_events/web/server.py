"""Serving the application over HTTP/1.1 with uvicorn, until told to stop."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

from sao_events.core.errors import Busy, UsageError
from sao_events.web.app import create_app
from sao_events.web.backend import Backend
from sao_events.web.guard import Rate
from sao_events.web.protocol import http_protocol

YOUNG = 20_000  # objects: requests leave none behind, so that looking for circles among 700, as Python does, is in vain
GRACE, KEEP_ALIVE, BACKLOG = 5, 75, 1024  # a proxy in front keeps connections for a minute; we must not be first


class HttpServer:
    """Listens from the moment it is made; `run` serves until `stop` is called, from any thread, or a signal comes."""

    def __init__(self, service: Backend, host: str, port: int, *, rate: Rate | None = None) -> None:
        """Bind to `host` and `port` (0: any that is free). Raises Busy where it is taken, UsageError where `host` is
        no address of this machine.
        """
        self._socket = _bind(host, port)
        self.host, self.port = host, int(self._socket.getsockname()[1])
        app, live = create_app(service, host=host, rate=rate)
        self._server = _Server(uvicorn_config(app), live)

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104 - not bound to, replaced
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"

    def run(self) -> None:
        """Serve until stopped. SIGINT and SIGTERM stop it too, when this is the main thread; it then returns."""
        gc.set_threshold(max(YOUNG, gc.get_threshold()[0]), *gc.get_threshold()[1:])
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self.close()

    def stop(self) -> None:
        """Take no more requests, let those under way end within a few seconds, then let `run` return."""
        self._server.should_exit = True

    def close(self) -> None:
        """Let go of the port; `run` does so in the end."""
        self._socket.close()


def serve_http(service: Backend, host: str, port: int) -> None:
    """Serve `service` at `host` and `port` until SIGINT or SIGTERM. Raises Busy or UsageError where it cannot."""
    HttpServer(service, host, port).run()


def uvicorn_config(app: Any) -> uvicorn.Config:
    """How uvicorn serves here: no access log, no trust in what a proxy says, nothing told of itself."""
    logging.getLogger("uvicorn.access").disabled = True  # addresses hold tokens, whatever handlers there are
    return uvicorn.Config(
        app,
        http=http_protocol(),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=65536,
    )


class _Server(uvicorn.Server):
    """uvicorn's own re-raises a signal once it has stopped, which would end the process before the rest is stopped."""

    def __init__(self, config: uvicorn.Config, live: Any) -> None:
        super().__init__(config)
        self._live = live

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM while serving; the handlers that were there before are put back."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop politely; at once when asked again."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to stop; each second, let go of connections that send no whole request."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if hang_up_if_slow := getattr(connection, "hang_up_if_slow", None):
                    hang_up_if_slow(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the live streams, which would hold the rest up."""
        self._live.close()
        await super().shutdown(sockets)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(f"{host} is not an address to listen on: {error.strerror}", hint="set http.host") from None
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _explained(error, host, port) from None
    return listener


def _explained(error: OSError, host: str, port: int) -> Busy | UsageError:
    if error.errno == errno.EADDRINUSE:
        hint = "stop the program that listens there, or choose another port: --port, SAO_PORT or http.port"
        return Busy(f"port {port} of {host} is in use", hint=hint)
    if error.errno in (errno.EACCES, errno.EPERM):
        return UsageError(f"port {port} of {host} may not be used by this user", hint="choose one from 1024 on")
    return UsageError(f"cannot listen on {host}: {error.strerror}", hint="set http.host to an address of this machine")

"""Middleware that checks hosts and the size of bodies, adds headers and counts requests."""

import asyncio
import json
import time
from collections.abc import Callable, Collection, MutableMapping
from typing import Any

from jaxrec.serving.limits import Limits

Message = MutableMapping[str, Any]

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
)


class Guard:
    """An ASGI middleware around an application.

    The middleware reads the whole body before it calls the application. The application therefore
    never gets a body that is too large or arrives too slowly.

    Args:
      limits: limits of the body.
      hosts: names that the Host header may have; None accepts all. Without this check, a web page
        could read a server on loopback through a host name that resolves to loopback (DNS
        rebinding).
      observe: called with the path, the status and the seconds of each request.
    """

    def __init__(
        self,
        app: Any,
        *,
        limits: Limits,
        hosts: Collection[str] | None,
        observe: Callable[[str, int, float], None],
    ) -> None:
        self._app, self._limits, self._observe = app, limits, observe
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        try:
            await self._checked(scope, receive, sending)
        finally:
            self._observe(scope["path"], status, time.perf_counter() - began)

    async def _checked(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        if self._hosts is not None and _host(headers.get(b"host", b"")) not in self._hosts:
            await _refuse(send, 421, "the server does not answer to this host name")
            return
        length = headers.get(b"content-length", b"0")
        too_large = f"a body may have at most {self._limits.body:,} bytes"
        if not length.isdigit() or len(length) > 18 or int(length) > self._limits.body:
            await _refuse(send, 413, too_large)
            return
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        return  # the client disconnected
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    more = message.get("more_body", False)
                    if size > self._limits.body:
                        await _refuse(send, 413, too_large)
                        return
        except TimeoutError:
            await _refuse(send, 408, "the body arrived too slowly")
            return
        messages: list[Message] = [{"type": "http.request", "body": b"".join(parts)}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, replay, send)


def _host(header: bytes) -> str:
    """Return the name in a Host header, without the port."""
    text = header.decode("latin-1").lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.partition(":")[0]


async def _refuse(send: Any, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

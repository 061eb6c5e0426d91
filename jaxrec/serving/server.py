"""The server itself: an address, a token where it is needed, and signals."""

import asyncio
import contextlib
import ipaddress
import secrets
import signal
import socket
import sys
from collections.abc import Collection
from pathlib import Path

import uvicorn

from jaxrec.errors import InputError
from jaxrec.recommend import HeldOut
from jaxrec.serving.app import create
from jaxrec.serving.limits import Limits
from jaxrec.serving.reload import Current

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def serve(
    run: str | Path,
    *,
    titles: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    limits: Limits | None = None,
    held_out: HeldOut = "drop",
    hosts: Collection[str] = (),
    cors: Collection[str] = (),
    watch_seconds: float = 5.0,
) -> None:
    """Serve a run until the process is told to end.

    Args:
      host: the address to bind to. On another than loopback a token is needed, and made where none
        is given.
      port: 0 takes a free one.
      hosts: names besides those of loopback that requests may come under, as behind a proxy.
      titles, limits, held_out, cors, watch_seconds: see :func:`jaxrec.serving.app.create`.

    Raises:
      InputError: the run or the address cannot be used.
    """
    local = _is_loopback(host)
    if token is None and not local:
        token = secrets.token_urlsafe(24)
        _say(f"{host} can be reached from elsewhere, so requests need a token: {token}")
    with contextlib.closing(_bound(host, port)) as listening:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}"

        def started(current: Current) -> None:
            with contextlib.suppress(NotImplementedError, RuntimeError):
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, current.ask)
            _say(f"serving {run} on {address} (Ctrl-C ends it; kill -HUP loads the run anew)")

        app = create(
            run,
            titles=titles,
            limits=limits,
            held_out=held_out,
            token=token,
            hosts=(*_LOOPBACK, shown, *hosts) if local or hosts else None,
            cors=cors,
            watch_seconds=watch_seconds,
            started=started,
        )
        options = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="on",
            limit_concurrency=4096,
            timeout_graceful_shutdown=10,
        )
        asyncio.run(uvicorn.Server(options).serve(sockets=[listening]))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bound(host: str, port: int) -> socket.socket:
    """A socket at an address. Raises InputError where it cannot be had."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        *kind, _, address = found[0]
    except (OSError, OverflowError) as e:
        raise InputError(f"{host}: no such address to bind to ({e})") from e
    made = socket.socket(*kind)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Headers and body are two writes: without this the second waits 40 ms for the client.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.bind(address)
        made.listen(2048)  # before the address is told: who comes early waits, and is not refused
    except OSError as e:
        made.close()
        reason = e.strerror or e
        raise InputError(f"{host}:{port}: cannot be bound ({reason}); try --port 0") from e
    return made


def _say(text: str) -> None:
    print(f"jaxrec: {text}", file=sys.stderr, flush=True)

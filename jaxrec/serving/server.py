"""Run the server: bind an address, require a token where needed, and handle signals."""

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
    new_items: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    limits: Limits | None = None,
    held_out: HeldOut = "drop",
    hosts: Collection[str] = (),
    cors: Collection[str] = (),
    watch_seconds: float = 5.0,
) -> None:
    """Serve a run until the process is asked to end.

    Args:
      host: address to bind to. On any address but loopback, requests need a token.
      port: port to listen on; 0 chooses a free one.
      token: token that requests must carry; if one is needed but not given, it is generated and
        printed.
      hosts: host names to accept besides those of loopback, for example behind a proxy.
      run, titles, new_items, limits, held_out, cors, watch_seconds: see
        :func:`jaxrec.serving.app.create`.

    Raises:
      InputError: the run or the address cannot be used.
    """
    local = _is_loopback(host)
    if token is None and not local:
        token = secrets.token_urlsafe(24)
        _say(f"{host} can be reached from other machines, so requests need this token: {token}")
    with contextlib.closing(_bound(host, port)) as listening:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}"

        def started(current: Current) -> None:
            with contextlib.suppress(NotImplementedError, RuntimeError):
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, current.ask)
            _say(f"serving {run} on {address} (Ctrl-C stops; kill -HUP reloads the run)")

        app = create(
            run,
            titles=titles,
            new_items=new_items,
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
    """Return a socket that listens at an address. Raises InputError if it cannot be bound."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        *kind, _, address = found[0]
    except (OSError, OverflowError) as e:
        raise InputError(
            f"{host}: no such address to bind to ({e}); give an address of this machine"
        ) from e
    listening = socket.socket(*kind)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Headers and body are written separately; without TCP_NODELAY, the body waits 40 ms for an
        # ACK.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.bind(address)
        listening.listen(2048)  # before the address is printed, so that early clients can connect
    except OSError as e:
        listening.close()
        reason = e.strerror or e
        raise InputError(
            f"{host}:{port}: cannot be bound ({reason}); try --port 0, or --host 127.0.0.1"
        ) from e
    return listening


def _say(text: str) -> None:
    print(f"jaxrec: {text}", file=sys.stderr, flush=True)

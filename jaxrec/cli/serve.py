"""``jaxrec serve``: serve recommendations over HTTP."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from jaxrec.cli.arguments import parse
from jaxrec.cli.process_settings import own_process
from jaxrec.config.checks import Range
from jaxrec.errors import InputError

_NEEDED = ("fastapi", "uvicorn", "prometheus_client")
_TOKEN = "JAXREC_TOKEN"


@dataclass(frozen=True)
class Serve:
    """Serve recommendations over HTTP: /recommend, /similar, /batch, and a web page.

    If RUN changes (a link points elsewhere, or the folder is written again), the new run is loaded
    and served without interruption.
    """

    run: Positional[str]
    """Run folder, or a link to one."""
    titles: str | None = None
    """Table keyed by item id, with titles or other columns to show and to filter by."""
    new_items: str | None = None
    """File that `jaxrec embed` wrote: also serve these items, which were not in training."""
    host: str = "127.0.0.1"
    """Address to bind to; on any address but loopback, requests need a token."""
    port: Annotated[int, Range(0, 65_535)] = 8000
    """Port to listen on; 0 chooses a free one."""
    token_file: str | None = None
    """File with the token that requests must carry, on one line; the environment variable
    JAXREC_TOKEN may hold it instead."""
    held_out: Literal["drop", "keep"] = "drop"
    """keep: also recommend items that users have only in the test part."""
    max_k: Annotated[int, Range(1, 1000)] = 200
    """Greatest length of a list."""
    max_body: Annotated[int, Range(1024, 1 << 30)] = 1 << 20
    """Greatest size of a request's body in bytes."""
    allow_host: tuple[str, ...] = ()
    """Host names to accept in requests besides those of loopback, for example behind a proxy."""
    cors: tuple[str, ...] = ()
    """Origins whose web pages may read the answers; by default none."""
    watch: Annotated[float, Range(0, 86_400)] = 5.0
    """Seconds between checks whether RUN changed; 0 reloads only on the signal HUP."""


def serve(args: list[str]) -> None:
    """Serve recommendations over HTTP, with a web page."""
    parsed = parse(Serve, args, "jaxrec serve")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"serve needs {missing[0]}, which is not installed: pip install 'jaxrec[serve]'"
        )
    token = os.environ.get(_TOKEN) or None
    if parsed.token_file is not None:
        token = _token(Path(parsed.token_file))
    own_process()
    from jaxrec.serving.limits import Limits
    from jaxrec.serving.server import serve as start

    start(
        parsed.run,
        titles=parsed.titles,
        new_items=parsed.new_items,
        host=parsed.host,
        port=parsed.port,
        token=token,
        limits=Limits(k=parsed.max_k, body=parsed.max_body),
        held_out=parsed.held_out,
        hosts=parsed.allow_host,
        cors=parsed.cors,
        watch_seconds=parsed.watch,
    )


def _token(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: cannot be read; write the token into it, on one line") from e
    if not text or "\n" in text:
        raise InputError(f"{path}: must hold a token on one line, and nothing else")
    return text

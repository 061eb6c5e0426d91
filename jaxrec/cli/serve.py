"""``jaxrec serve``."""

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
    """Lists over HTTP: /recommend, /similar, /batch, and a page for people.

    Where another run comes to lie at RUN (a link that leads elsewhere, a folder that was written
    anew), it is loaded and served without a pause.
    """

    run: Positional[str]
    """Run folder, or a link to one."""
    titles: str | None = None
    """Table keyed by item id, such as titles: its columns stand beside each item, and filter."""
    host: str = "127.0.0.1"
    """Address to bind to; on another than loopback requests need a token."""
    port: Annotated[int, Range(0, 65_535)] = 8000
    """0 takes a free one."""
    token_file: str | None = None
    """File whose first line is the token that requests must bear; JAXREC_TOKEN holds one too."""
    held_out: Literal["drop", "keep"] = "drop"
    """keep: rank again what users have in the test part alone."""
    max_k: Annotated[int, Range(1, 1000)] = 200
    """The longest list."""
    max_body: Annotated[int, Range(1024, 1 << 30)] = 1 << 20
    """Bytes of the largest body of a request."""
    allow_host: tuple[str, ...] = ()
    """Names besides those of loopback that requests may come under, as behind a proxy."""
    cors: tuple[str, ...] = ()
    """Origins whose pages may read the lists; none by default."""
    watch: Annotated[float, Range(0, 86_400)] = 5.0
    """Seconds between looks at RUN for a newer one; 0 waits for the signal HUP alone."""


def serve(args: list[str]) -> None:
    """Serve lists over HTTP, with a page for people."""
    made = parse(Serve, args, "jaxrec serve")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"serve needs {missing[0]}, an extra: pip install 'jaxrec[serve]'")
    token = os.environ.get(_TOKEN) or None
    if made.token_file is not None:
        token = _token(Path(made.token_file))
    own_process()
    from jaxrec.serving.limits import Limits
    from jaxrec.serving.server import serve as start

    start(
        made.run,
        titles=made.titles,
        host=made.host,
        port=made.port,
        token=token,
        limits=Limits(k=made.max_k, body=made.max_body),
        held_out=made.held_out,
        hosts=made.allow_host,
        cors=made.cors,
        watch_seconds=made.watch,
    )


def _token(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: no token can be read from it") from e
    if not text or "\n" in text:
        raise InputError(f"{path}: a token is needed, on one line")
    return text

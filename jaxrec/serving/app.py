"""The HTTP application: its paths, and the functions that answer requests."""

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import ConfigDict, Field

from jaxrec.serving import loaded_run, schema
from jaxrec.serving.api_page import reference
from jaxrec.serving.batching import Busy
from jaxrec.serving.limits import ID_LENGTH, Limits
from jaxrec.serving.loaded_run import ListRequest, NotFound, Served
from jaxrec.serving.metrics import Metrics
from jaxrec.serving.middleware import Guard
from jaxrec.serving.reload import Current

_PAGE = Path(__file__).with_name("page")
_FILES = ("app.js", "style.css")
PATHS = ("/", "/recommend", "/similar", "/batch", "/find", "/health", "/metrics", "/docs")
_MOST_FOUND = 20


class Json(JSONResponse):
    """A JSON response in ASCII, which can represent invalid characters that UTF-8 cannot encode."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode()


class _Text(Response):
    media_type = "text/plain; version=0.0.4; charset=utf-8"


def create(
    run: str | Path,
    *,
    titles: str | Path | None = None,
    new_items: str | Path | None = None,
    limits: Limits | None = None,
    held_out: loaded_run.HeldOut = "drop",
    token: str | None = None,
    hosts: Collection[str] | None = None,
    cors: Collection[str] = (),
    watch_seconds: float = 5.0,
    started: Callable[[Current], None] = lambda current: None,
) -> FastAPI:
    """Load a run and create an application that serves it.

    ``app.state.current`` is the :class:`Current` that holds the run.

    Args:
      run: a run folder or a link to one; if it changes later, the new run is served.
      titles: a table of items; its columns are returned with the items.
      new_items: a file of ``jaxrec embed``, whose items are served with those of the run.
      limits: limits of requests.
      held_out: whether users' test items are excluded.
      token: token that requests must carry, except for the web page and /health.
      hosts: names that requests may have in their Host header; None accepts all.
      cors: origins whose web pages may read the answers.
      watch_seconds: seconds between checks whether the run changed; 0 never checks.
      started: called with ``app.state.current`` when the server starts.

    Raises:
      InputError: the run or the table cannot be used.
    """
    limits = limits or Limits()
    metrics = Metrics((*PATHS, "/openapi.json", *(f"/{name}" for name in _FILES)))

    def load() -> Served:
        return Served.load(run, titles, limits, held_out, metrics.block, new_items)

    tables = [Path(table) for table in (titles, new_items) if table is not None]
    current = Current(Path(run), tables, load, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(current.watch(watch_seconds))
        started(current)
        yield
        watching.cancel()
        current.close()

    k_most = limits.k

    class Recommend(schema.Recommend):
        k: schema.Whole = Field(
            min(20, k_most), ge=1, le=k_most, description="The length of the list."
        )

    class RecommendQuery(Recommend):
        model_config = ConfigDict(extra="forbid", strict=False)

    class Similar(schema.Similar):
        k: schema.Whole = Field(min(10, k_most), ge=1, le=k_most)

    class SimilarQuery(Similar):
        model_config = ConfigDict(extra="forbid", strict=False)

    class Batch(schema.Strict):
        requests: list[Recommend] = Field(min_length=1, max_length=limits.batch)

    async def authorised(
        given: Annotated[
            HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))
        ],
    ) -> None:
        expected = token or ""
        received = "" if given is None else given.credentials
        if not hmac.compare_digest(received.encode("utf-8", "replace"), expected.encode()):
            raise HTTPException(
                401, "the request needs the server's token", {"WWW-Authenticate": "Bearer"}
            )

    problems: dict[int | str, dict[str, Any]] = {
        status: {"model": schema.Problem, "description": text}
        for status, text in {
            400: "The request is not valid JSON.",
            404: "The run does not have what was requested.",
            408: "The body arrived too slowly.",
            413: "The body is too large.",
            421: "The server does not answer to this host name.",
            503: "Too many requests are waiting.",
        }.items()
    }
    # uvicorn answers malformed HTTP with plain text.
    problems[400]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    if token is not None:
        problems[401] = {"model": schema.Problem, "description": "The token is missing or wrong."}
    closed = [Depends(authorised)] if token is not None else []
    app = FastAPI(
        title="jaxrec",
        description="Recommendations from a trained run.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        default_response_class=Json,
        responses=problems,
        redirect_slashes=False,
    )

    app.state.current = current

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Json:
        # Do not repeat the input, which may be large, malicious or not even text.
        faults = [{"loc": e["loc"], "msg": e["msg"], "type": e["type"]} for e in error.errors()]
        return Json({"detail": faults[:20]}, 422)

    @app.exception_handler(405)
    async def no_such_method(request: Request, error: Exception) -> Json:
        # FastAPI lists the methods of one route only, but two routes may share a path.
        routes = [r for r in app.routes if getattr(r, "path", None) == request.url.path]
        methods = sorted({method for r in routes for method in getattr(r, "methods", ())})
        allowed = ", ".join(methods)
        return Json({"detail": f"use one of the methods {allowed}"}, 405, {"Allow": allowed})

    @app.exception_handler(NotFound)
    async def not_found(request: Request, error: NotFound) -> Json:
        return Json({"detail": str(error)}, 404)

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> Json:
        return Json({"detail": "too many requests are waiting"}, 503, {"Retry-After": "1"})

    async def recommended(body: Recommend, served: Served) -> dict[str, Any]:
        request = ListRequest(
            user=body.user,
            basket=tuple(body.basket),
            k=body.k,
            deny=tuple(body.deny),
            where=tuple(body.where),
            include_seen=body.include_seen,
            unknown=body.unknown,
        )
        answer = await served.recommend(request)
        metrics.listed(answer.source)
        return {
            "user": body.user,
            "source": answer.source,
            "items": _items(served, answer, body.titles),
            "skipped": answer.skipped,
        }

    @app.get("/recommend", response_model=schema.Answer, dependencies=closed, tags=["lists"])
    async def recommend(query: Annotated[RecommendQuery, Query()]) -> Json:
        """Recommend items to a user, for a basket of items, or for both."""
        async with current.borrow() as served:
            return Json(await recommended(query, served))

    @app.post("/recommend", response_model=schema.Answer, dependencies=closed, tags=["lists"])
    async def recommend_post(body: Recommend) -> Json:
        """Recommend items as GET /recommend does; the request is the body, as JSON."""
        async with current.borrow() as served:
            return Json(await recommended(body, served))

    @app.post("/batch", response_model=schema.Answers, dependencies=closed, tags=["lists"])
    async def batch(body: Batch) -> Json:
        """Answer several requests for recommendations together; if one fails, all fail."""
        async with current.borrow() as served:
            answers = await _all(recommended(request, served) for request in body.requests)
        return Json({"answers": answers})

    async def neighbours(body: Similar, served: Served) -> list[dict[str, Any]]:
        async def neighbours_of(item: str) -> dict[str, Any]:
            answer = await served.similar(item, body.k, body.where)
            return {"item": item, "items": _items(served, answer, body.titles)}

        return await _all(map(neighbours_of, body.items))

    @app.get(
        "/similar", response_model=list[schema.Neighbours], dependencies=closed, tags=["lists"]
    )
    async def similar(query: Annotated[SimilarQuery, Query()]) -> Json:
        """Find the nearest items of each given item."""
        async with current.borrow() as served:
            return Json(await neighbours(query, served))

    @app.post(
        "/similar", response_model=list[schema.Neighbours], dependencies=closed, tags=["lists"]
    )
    async def similar_post(body: Similar) -> Json:
        """Find the nearest items as GET /similar does; the request is the body, as JSON."""
        async with current.borrow() as served:
            return Json(await neighbours(body, served))

    @app.get("/find", response_model=schema.Found, dependencies=closed, tags=["lists"])
    async def find(q: Annotated[str, Query(min_length=1, max_length=ID_LENGTH)]) -> Json:
        """Search items by a part of their title or id; returns at most 20."""
        async with current.borrow() as served:
            rows = await asyncio.to_thread(served.find, q, _MOST_FOUND)
            names = [{"item": served.item_ids[r], "title": served.titles[r]} for r in rows]
        return Json({"items": names})

    @app.get("/health", response_model=schema.Health, tags=["server"])
    async def health() -> Json:
        """Say that the server is running, and describe its run."""
        async with current.borrow() as served:
            about = {"users": served.n_users, "items": served.n_items}
            about |= {"ranks_by": served.ranks_by, "max_k": k_most}
        return Json({"status": "ok"} | about | {"version": current.version})

    text: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
    }

    @app.get("/metrics", response_class=_Text, responses=text, dependencies=closed, tags=["server"])
    async def measures() -> Response:
        """Return the server's metrics in Prometheus' text format."""
        return _Text(metrics.text())

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_PAGE / "index.html", media_type="text/html; charset=utf-8")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(reference(app.openapi()))

    for name in _FILES:
        _file(app, name)
    app.add_middleware(Guard, limits=limits, hosts=hosts, observe=metrics.request)
    if cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return app


async def _all(tasks: Iterable[Awaitable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Wait for all tasks, and return their results or raise the first exception."""
    answers = []
    for answer in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer
        answers.append(answer)
    return answers


def _file(app: FastAPI, name: str) -> None:
    """Serve one file of the web page at a fixed path."""

    @app.get(f"/{name}", include_in_schema=False)
    async def file() -> FileResponse:
        return FileResponse(_PAGE / name)


def _items(served: Served, answer: loaded_run.Answer, titles: bool) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = [
        {"item": served.item_ids[row], "rank": rank, "score": score}
        for rank, (row, score) in enumerate(
            zip(answer.item_k.tolist(), answer.score_k.tolist(), strict=True), start=1
        )
    ]
    if titles and served.catalogue is not None:
        for item, about in zip(items, served.about(answer.item_k), strict=True):
            item["about"] = about
    return items

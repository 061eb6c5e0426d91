"""The HTTP application: paths, and what each of them answers."""

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
from jaxrec.serving.loaded_run import Asked, NotFound, Served
from jaxrec.serving.metrics import Metrics
from jaxrec.serving.middleware import Guard
from jaxrec.serving.reload import Current

_PAGE = Path(__file__).with_name("page")
_FILES = ("app.js", "style.css")
PATHS = ("/", "/recommend", "/similar", "/batch", "/find", "/health", "/metrics", "/docs")
_FOUND = 20


class Json(JSONResponse):
    """JSON in ASCII, so that no text from data or a request can fail to be encoded."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode()


class _Text(Response):
    media_type = "text/plain; version=0.0.4; charset=utf-8"


def create(
    run: str | Path,
    *,
    titles: str | Path | None = None,
    limits: Limits | None = None,
    held_out: loaded_run.HeldOut = "drop",
    token: str | None = None,
    hosts: Collection[str] | None = None,
    cors: Collection[str] = (),
    watch_seconds: float = 5.0,
    started: Callable[[Current], None] = lambda current: None,
) -> FastAPI:
    """An application that serves a run, which is loaded at once; ``app.state.current`` is it.

    Args:
      run: a run folder, or a link to one; where other results lie there later, they are served.
      titles: a table of items, whose columns stand beside them.
      token: requests must bear it, but for the page and /health.
      hosts: the names that it answers under; any where None.
      cors: origins whose pages may read it.
      watch_seconds: how often the run is looked at; 0 never.
      started: told what is served, once requests are taken.

    Raises:
      InputError: the run or the table cannot be used.
    """
    limits = limits or Limits()
    metrics = Metrics((*PATHS, "/openapi.json", *(f"/{name}" for name in _FILES)))

    def load() -> Served:
        return Served.load(run, titles, limits, held_out, metrics.block)

    current = Current(Path(run), None if titles is None else Path(titles), load, metrics)

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
        known = token or ""
        found = "" if given is None else given.credentials
        if not hmac.compare_digest(found.encode("utf-8", "replace"), known.encode()):
            raise HTTPException(401, "a token is needed", {"WWW-Authenticate": "Bearer"})

    problems: dict[int | str, dict[str, Any]] = {
        status: {"model": schema.Problem, "description": text}
        for status, text in {
            400: "No readable JSON.",
            404: "The run does not have it.",
            408: "The body came too slowly.",
            413: "The body is too large.",
            421: "Not under this name.",
            503: "Too many requests wait.",
        }.items()
    }
    # The server's own answer to what is no HTTP, or too long a line of it.
    problems[400]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    if token is not None:
        problems[401] = {"model": schema.Problem, "description": "A token is needed."}
    closed = [Depends(authorised)] if token is not None else []
    app = FastAPI(
        title="jaxrec",
        description="Lists of recommendations from a trained run.",
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
        # Without what was given: it may be large, hostile, or no text at all.
        told = [{"loc": e["loc"], "msg": e["msg"], "type": e["type"]} for e in error.errors()]
        return Json({"detail": told[:20]}, 422)

    @app.exception_handler(405)
    async def no_such_method(request: Request, error: Exception) -> Json:
        # The framework names those of one route alone, and two may share a path.
        there = [r for r in app.routes if getattr(r, "path", None) == request.url.path]
        methods = sorted({method for r in there for method in getattr(r, "methods", ())})
        return Json({"detail": "not this method"}, 405, {"Allow": ", ".join(methods)})

    @app.exception_handler(NotFound)
    async def not_found(request: Request, error: NotFound) -> Json:
        return Json({"detail": str(error)}, 404)

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> Json:
        return Json({"detail": "too many requests wait"}, 503, {"Retry-After": "1"})

    async def recommended(made: Recommend, here: Served) -> dict[str, Any]:
        asked = Asked(
            user=made.user,
            basket=tuple(made.basket),
            k=made.k,
            deny=tuple(made.deny),
            where=tuple(made.where),
            include_seen=made.include_seen,
            unknown=made.unknown,
        )
        answer = await here.recommend(asked)
        return {
            "user": made.user,
            "source": answer.source,
            "items": _items(here, answer, made.titles),
            "skipped": answer.skipped,
        }

    @app.get("/recommend", response_model=schema.Answer, dependencies=closed, tags=["lists"])
    async def recommend(asked: Annotated[RecommendQuery, Query()]) -> Json:
        """The best items for a user, for a basket, or for both."""
        async with current.borrow() as here:
            return Json(await recommended(asked, here))

    @app.post("/recommend", response_model=schema.Answer, dependencies=closed, tags=["lists"])
    async def recommend_post(asked: Recommend) -> Json:
        """The same, with the request as a body."""
        async with current.borrow() as here:
            return Json(await recommended(asked, here))

    @app.post("/batch", response_model=schema.Answers, dependencies=closed, tags=["lists"])
    async def batch(asked: Batch) -> Json:
        """Several lists at once, ranked together; one that cannot be made refuses them all."""
        async with current.borrow() as here:
            made = await _all(recommended(one, here) for one in asked.requests)
        return Json({"answers": made})

    async def neighbours(asked: Similar, here: Served) -> list[dict[str, Any]]:
        async def one(item: str) -> dict[str, Any]:
            answer = await here.similar(item, asked.k, asked.where)
            return {"item": item, "items": _items(here, answer, asked.titles)}

        return await _all(map(one, asked.items))

    @app.get(
        "/similar", response_model=list[schema.Neighbours], dependencies=closed, tags=["lists"]
    )
    async def similar(asked: Annotated[SimilarQuery, Query()]) -> Json:
        """The items nearest to each of some."""
        async with current.borrow() as here:
            return Json(await neighbours(asked, here))

    @app.post(
        "/similar", response_model=list[schema.Neighbours], dependencies=closed, tags=["lists"]
    )
    async def similar_post(asked: Similar) -> Json:
        """The same, with the request as a body."""
        async with current.borrow() as here:
            return Json(await neighbours(asked, here))

    @app.get("/find", response_model=schema.Found, dependencies=closed, tags=["lists"])
    async def find(q: Annotated[str, Query(min_length=1, max_length=ID_LENGTH)]) -> Json:
        """Items whose title or id has a text in it, 20 at most."""
        async with current.borrow() as here:
            rows = await asyncio.to_thread(here.find, q, _FOUND)
            names = [{"item": here.item_ids[r], "title": here.titles[r]} for r in rows]
        return Json({"items": names})

    @app.get("/health", response_model=schema.Health, tags=["server"])
    async def health() -> Json:
        """That the server answers."""
        async with current.borrow() as here:
            sizes = {"users": here.n_users, "items": here.n_items}
        return Json({"status": "ok"} | sizes | {"version": current.version})

    text: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
    }

    @app.get("/metrics", response_class=_Text, responses=text, dependencies=closed, tags=["server"])
    async def measures() -> Response:
        """Counters in Prometheus' text format."""
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


async def _all(asked: Iterable[Awaitable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What all of them give, once none is at work any more; raises what one of them raised."""
    answers = []
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer
        answers.append(answer)
    return answers


def _file(app: FastAPI, name: str) -> None:
    """Serve one of the page's own files; no path ever comes from a request."""

    @app.get(f"/{name}", include_in_schema=False)
    async def file() -> FileResponse:
        return FileResponse(_PAGE / name)


def _items(here: Served, answer: loaded_run.Answer, titles: bool) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [
        {"item": here.item_ids[row], "rank": rank, "score": score}
        for rank, (row, score) in enumerate(
            zip(answer.item_k.tolist(), answer.score_k.tolist(), strict=True), start=1
        )
    ]
    if titles and here.catalogue is not None:
        for item, about in zip(made, here.about(answer.item_k), strict=True):
            item["about"] = about
    return made

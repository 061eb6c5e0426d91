"""Test the server within this process: lists, limits and reloads."""

import asyncio
import json
import random
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from made_run import write_embeddings, write_item_run

pytest.importorskip("fastapi", reason="the server needs the extra `serve`")
httpx = pytest.importorskip("httpx", reason="asks the server without a socket")

from jaxrec.data import synthetic, synthetic_items
from jaxrec.errors import InputError
from jaxrec.graph.filters import fit
from jaxrec.recommend import Recommender
from jaxrec.serving import loaded_run
from jaxrec.serving.api_page import reference
from jaxrec.serving.app import create
from jaxrec.serving.batching import Batcher, Busy
from jaxrec.serving.limits import Limits
from jaxrec.serving.metrics import compiled_for_requests
from jaxrec.serving.ranker import Query, Ranker

RNG = np.random.default_rng(0)
N_USERS, N_ITEMS = 40, 150
HOSTILE = '<img src=x onerror="alert(1)">'
TITLES = "item,title,category\n" + "".join(
    f"i{i},{HOSTILE.replace(chr(34), chr(39)) if i == 3 else f'Title {i}'},{'ab'[i % 2]}\n"
    for i in range(N_ITEMS)
)


def make_run(folder: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    user, item = rng.normal(size=(N_USERS, 8)), rng.normal(size=(N_ITEMS, 8))
    seen = [sorted(rng.choice(N_ITEMS, 5, replace=False).tolist()) for _ in range(N_USERS)]
    return write_embeddings(folder, user, item, seen)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    (folder / "titles.csv").write_text(TITLES)
    return make_run(folder / "run")


@pytest.fixture(scope="module")
def app(run: Path) -> Any:
    made = create(run, titles=run.with_name("titles.csv"), limits=Limits(k=100, body=4096))
    yield made
    made.state.current.close()


def asked(app: Any, work: Callable[[Any], Awaitable[Any]], host: str = "localhost") -> Any:
    """Return the result of ``work`` with a client of the application."""

    async def main() -> Any:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await work(client)

    return asyncio.run(main())


def get(app: Any, path: str, **params: Any) -> Any:
    return asked(app, lambda client: client.get(path, params=params))


def post(app: Any, path: str, body: Any) -> Any:
    return asked(app, lambda client: client.post(path, json=body))


def names(answer: Any) -> list[str]:
    return [place["item"] for place in answer["items"]]


@pytest.mark.parametrize("k", [1, 20, 70, 100])
def test_lists_are_those_of_recommend(app: Any, run: Path, k: int) -> None:
    expected = Recommender.load(run).recommend("u7", k)
    answer = get(app, "/recommend", user="u7", k=k).json()
    assert names(answer) == expected["item"].to_list()
    assert [place["rank"] for place in answer["items"]] == expected["rank"].to_list()
    scores = [place["score"] for place in answer["items"]]
    np.testing.assert_allclose(scores, expected["score"].to_numpy(), rtol=1e-5)
    assert answer["source"] == "model"
    assert post(app, "/recommend", {"user": "u7", "k": k}).json() == answer


def test_baskets_are_folded_in_as_recommend_history_does(app: Any, run: Path) -> None:
    basket = ["i1", "i2", "i60"]
    expected = Recommender.load(run).recommend_history(basket, 10)["item"].to_list()
    answer = post(app, "/recommend", {"basket": [*basket, "gone"], "k": 10}).json()
    assert names(answer) == expected
    assert (answer["source"], answer["skipped"]) == ("basket", ["gone"])


def test_a_basket_moves_a_users_list_and_leaves_it_where_it_is_their_own(
    app: Any, run: Path
) -> None:
    rec = Recommender.load(run)
    own = [rec.item_ids[i] for i in rec.known.take(np.array([7])).indices]
    alone = post(app, "/recommend", {"user": "u7"}).json()
    assert names(post(app, "/recommend", {"user": "u7", "basket": own}).json()) == names(alone)
    other = names(alone)[:3]
    moved = names(post(app, "/recommend", {"user": "u7", "basket": other}).json())
    assert not set(moved) & {*other, *own}
    assert moved != names(alone)[3:]


def test_neighbours_are_those_of_similar_items(app: Any, run: Path) -> None:
    expected = Recommender.load(run).similar_items(["i3", "i4"], 5)
    answers = post(app, "/similar", {"items": ["i3", "i4"], "k": 5}).json()
    found = [name for answer in answers for name in names(answer)]
    assert found == expected["similar"].to_list()
    assert get(app, "/similar", items="gone").status_code == 404


def test_strangers_get_popular_items_and_are_told_so(app: Any, run: Path) -> None:
    answer = get(app, "/recommend", user="stranger", k=3).json()
    counts = Recommender.load(run).known.item_counts(N_ITEMS)
    order = np.lexsort((np.arange(N_ITEMS), -counts))[:3]
    assert names(answer) == [f"i{i}" for i in order]
    assert (answer["source"], answer["skipped"]) == ("popular", ["stranger"])
    assert get(app, "/recommend", user="stranger", unknown="fail").status_code == 404


def test_filters_and_denied_items(app: Any) -> None:
    whole = names(get(app, "/recommend", user="u7", k=50).json())
    odd = [name for name in whole if int(name[1:]) % 2]
    filtered = get(app, "/recommend", user="u7", k=10, where="category=b").json()
    assert names(filtered) == odd[:10]
    assert filtered["items"][0]["about"]["category"] == "b"
    assert get(app, "/recommend", user="u7", where="category=nothing").json()["items"] == []
    assert get(app, "/recommend", user="u7", where="colour=red").status_code == 404
    denied = get(app, "/recommend", user="u7", k=10, deny=whole[:2]).json()
    assert names(denied) == whole[2:12]


def test_several_lists_at_once_come_in_their_order(app: Any) -> None:
    body = {"requests": [{"user": f"u{n}", "k": n % 7 + 1} for n in range(40)]}
    answers = post(app, "/batch", body).json()["answers"]
    for n, answer in enumerate(answers):
        alone = get(app, "/recommend", user=f"u{n}", k=n % 7 + 1).json()
        assert names(answer) == names(alone)
        # Sums in a block of another size may be rounded differently.
        assert answer["items"][0]["score"] == pytest.approx(alone["items"][0]["score"], rel=1e-5)


def test_no_request_compiles(app: Any) -> None:
    """Vary lengths of lists, baskets, filters, and the number of concurrent requests."""
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **more: compiled.append(event)
    )
    rng, before = random.Random(0), compiled_for_requests()

    def body() -> dict[str, Any]:
        return {
            "user": rng.choice([None, f"u{rng.randrange(N_USERS)}", "stranger"]),
            "basket": [f"i{rng.randrange(N_ITEMS)}" for _ in range(rng.choice([0, 0, 1, 60]))],
            "deny": [f"i{rng.randrange(N_ITEMS)}" for _ in range(rng.choice([0, 0, 3, 90]))],
            "k": rng.randint(1, 100),
            "where": rng.choice([[], [], ["category=a"], ["category!=a"]]),
        }

    async def work(client: Any) -> list[Any]:
        found = []
        for many in (1, 2, 3, 7, 33, 60):
            made = [client.post("/recommend", json=body()) for _ in range(many)]
            made += [client.get(f"/similar?items=i{n}&k={n % 90 + 1}") for n in range(many)]
            found += await asyncio.gather(*made)
        return found

    assert {answer.status_code for answer in asked(app, work)} == {200}
    assert [event for event in compiled if "backend_compile" in event] == []
    assert compiled_for_requests() == before


def test_health_describes_the_run(app: Any) -> None:
    about = get(app, "/health").json()
    assert (about["users"], about["items"], about["max_k"]) == (N_USERS, N_ITEMS, 100)
    assert (about["status"], about["version"], about["ranks_by"]) == ("ok", 1, "vectors")


def test_finding_items_by_title_and_id(app: Any) -> None:
    found = get(app, "/find", q="TITLE 14").json()["items"]
    assert found[0] == {"item": "i14", "title": "Title 14"}
    assert get(app, "/find", q="i5").json()["items"][0]["item"] == "i5"
    assert get(app, "/find", q="no such thing").json() == {"items": []}


def test_limits_of_requests(app: Any) -> None:
    assert get(app, "/recommend", user="u1", k=101).status_code == 422
    assert get(app, "/recommend", usr="u1").status_code == 422
    large = {"basket": ["i" * 500] * 10}
    assert post(app, "/recommend", large).status_code == 413

    async def chunked(client: Any) -> Any:
        async def body() -> Any:
            for _ in range(10):
                yield b"x" * 1000

        return await client.post("/recommend", content=body())

    assert asked(app, chunked).status_code == 413
    json_type = {"content-type": "application/json"}
    for size, status in ((4096, 200), (4097, 413)):
        body = b'{"user": "u1"}'.ljust(size)
        sent = asked(app, lambda c, x=body: c.post("/recommend", content=x, headers=json_type))
        assert sent.status_code == status
    for count, status in ((256, 200), (257, 422)):
        assert post(app, "/batch", {"requests": [{"k": 1}] * count}).status_code == status
    answer = get(app, "/batch")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert asked(app, lambda client: client.put("/recommend")).headers["allow"] == "GET, POST"


def test_queries_beyond_the_limit_are_turned_away() -> None:
    begun, free = threading.Event(), threading.Event()

    class Slow(Ranker):
        def __init__(self) -> None:
            pass

        def fitting(self, queries: Any) -> int:
            return 1

        def rank(self, queries: Any) -> Any:
            begun.set()
            free.wait()
            return [(np.array([query.k]), np.zeros(1)) for query in queries]

    batcher = Batcher(Slow(), 2, lambda queries: None)

    def rank(k: int) -> Any:
        return batcher.rank(Query(np.zeros(1, np.float32), 0.0, np.zeros(0, np.int32), k, None))

    async def main() -> Any:
        first = asyncio.create_task(rank(1))
        await asyncio.to_thread(begun.wait)
        others = [asyncio.create_task(rank(k)) for k in (2, 3)]
        await asyncio.sleep(0)  # until both wait
        more = asyncio.create_task(rank(4))
        await asyncio.sleep(0)  # until it is turned away
        free.set()
        with pytest.raises(Busy):
            await more
        return await asyncio.gather(first, *others)

    assert [item_k.tolist() for item_k, _ in asyncio.run(main())] == [[1], [2], [3]]
    batcher.close()


def test_more_filters_than_are_kept_are_answered_alike(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded_run, "_MOST_FILTERS", 2)
    conditions = ("category=a", "category=b", "title=Title 7", "category=a")
    answers = [get(app, "/recommend", user="u1", where=where) for where in conditions]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert answers[0].json() == answers[3].json() != answers[1].json()
    assert names(answers[2].json()) == ["i7"]


def test_bodies_that_never_end_are_given_up(run: Path) -> None:
    app = create(run, limits=Limits(k=100, body_seconds=0.05))

    async def main() -> list[Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"{", "more_body": True}

        async def slow() -> Any:
            if sent_first:
                await asyncio.Event().wait()
            sent_first.append(True)
            return await receive()

        sent_first: list[bool] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "path": "/recommend", "method": "POST", "headers": []}
        await app(scope | {"query_string": b"", "http_version": "1.1"}, slow, send)
        return sent

    assert asyncio.run(main())[0]["status"] == 408
    app.state.current.close()


def test_tokens_hosts_and_origins(run: Path) -> None:
    app = create(
        run,
        limits=Limits(k=100),
        token="sëcret",
        hosts=["localhost"],
        cors=["https://shop.example"],
    )
    open_paths, closed = ("/", "/health", "/docs"), ("/recommend", "/metrics", "/find?q=i")
    for path in open_paths:
        assert get(app, path).status_code == 200
    for path in closed:
        answer = get(app, path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        for token in ("", "s", "sëcret!".encode()):
            scheme = b"Bearer " + (token if isinstance(token, bytes) else token.encode())
            sent = {"authorization": scheme}
            wrong = asked(app, lambda client, p=path, h=sent: client.get(p, headers=h))
            assert wrong.status_code == 401
    origin = {"origin": "https://shop.example"}
    answer = asked(app, lambda client: client.get("/health", headers=origin))
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    answer = asked(
        app, lambda client: client.get("/health", headers={"origin": "https://o.example"})
    )
    assert "access-control-allow-origin" not in answer.headers
    assert asked(app, lambda client: client.get("/health"), "evil.example").status_code == 421
    assert asked(app, lambda client: client.get("/health"), "localhost:80").status_code == 200
    app.state.current.close()


def test_a_token_lets_in(run: Path) -> None:
    app = create(run, limits=Limits(k=100), token="secret")
    headers = {"authorization": "Bearer secret"}
    answer = asked(app, lambda client: client.get("/recommend?user=u1", headers=headers))
    assert answer.status_code == 200
    app.state.current.close()


def test_no_origin_is_let_in_unless_asked_for(app: Any) -> None:
    headers = {"origin": "https://shop.example"}
    answer = asked(app, lambda client: client.get("/health", headers=headers))
    assert not [name for name in answer.headers if name.startswith("access-control")]


def _hostile(rng: random.Random) -> tuple[str, str, Any]:
    """Return the method, path and body or parameters of one hostile request."""
    texts = [
        *("", " ", "\0", "\x1b[31m", "\u202e", "\ud800", "a" * 600, "i1\r\nX: y", HOSTILE),
        *("../../etc/passwd", "'; drop table items", "{{7*7}}", "%00", "\U0001f600" * 50, "NaN"),
    ]
    numbers = [0, -1, 101, 2**31, 2**63, 10**400, 1.5, float("nan"), float("inf"), "5", None, True]
    value = rng.choice([*texts, *numbers, [], {}, [[]], [None], {"a": {}}])
    names = ("user", "basket", "k", "deny", "where", "titles", "include_seen", "unknown", "items")
    body: Any = {rng.choice(names): value for _ in range(rng.randint(1, 3))}
    if rng.random() < 0.2:
        body[rng.choice(texts)] = value
    path = rng.choice(["/recommend", "/similar", "/batch", "/find"])
    kind = rng.randrange(8)
    if kind == 0:
        nested = rng.choice(["[" * 1500, '{"a":' * 700, '"', "\xff", "", "1e999", "{" + "}" * 9])
        return "POST", path, nested.encode("latin-1")
    if kind == 1:
        return "POST", path, bytes(rng.randrange(256) for _ in range(rng.randint(1, 200)))
    if kind == 2:
        odd = [
            "/../app.py",
            "/%2e%2e/page/app.js",
            "/app.js/%2e%2e",
            "/recommend/",
            "/%7f%00",
        ]
        return rng.choice(["GET", "POST", "DELETE", "OPTIONS"]), rng.choice(odd), b""
    if kind in (3, 4):
        return "GET", path, {k: str(v)[:300] for k, v in body.items()} | {"q": str(value)[:300]}
    if path == "/batch":
        body = {"requests": rng.choice([[body], [body] * 300, body, []])}
    return "POST", path, json.dumps(body).encode()


def test_a_thousand_hostile_requests_get_no_more_than_their_4xx(app: Any) -> None:
    rng = random.Random(1)

    async def work(client: Any) -> list[tuple[Any, Any]]:
        found = []
        for _ in range(1000):
            method, path, content = _hostile(rng)
            if isinstance(content, dict):
                safe = {k: v.encode("utf-8", "replace") for k, v in content.items()}
                params = {k.encode("utf-8", "replace").decode(): v for k, v in safe.items()}
                answer = await client.request(method, path, params=params)
            else:
                headers = {"content-type": rng.choice(["application/json", "text/plain", "x"])}
                answer = await client.request(method, path, content=content, headers=headers)
            found.append(((method, path, content), answer))
        return found

    counts: dict[int, int] = {}
    for request, answer in asked(app, work):
        counts[answer.status_code] = counts.get(answer.status_code, 0) + 1
        assert answer.status_code == 200 or 400 <= answer.status_code < 500, request
        assert answer.headers["content-type"].startswith("application/json"), request
        answer.json()
        assert answer.content.isascii()
    assert counts[422] > 100  # the generator reaches the checks
    assert get(app, "/recommend", user="u1").status_code == 200


def test_texts_from_data_are_never_markup_in_the_pages(app: Any) -> None:
    answer = get(app, "/find", q="onerror")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json()["items"][0]["title"].startswith("<img")
    script = get(app, "/app.js").text
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in script
    policy = get(app, "/").headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


def test_the_reference_page_escapes_and_shows_every_path(app: Any) -> None:
    page = get(app, "/docs").text
    for path in app.openapi()["paths"]:
        assert path in page
    made = {"paths": {"/<b>": {"get": {"description": "<script>"}}}}
    assert "<script>" not in reference(made)
    assert "<b>" not in reference(made)


def lists_from(text: str, source: str) -> float:
    """Return how many lists of a source the server's metrics count."""
    return float(text.split(f'jaxrec_lists_total{{source="{source}"}} ')[1].split("\n")[0])


def test_counters_tell_requests_and_blocks(app: Any) -> None:
    get(app, "/recommend", user="u1")
    get(app, "/nowhere")
    text = get(app, "/metrics").text
    assert 'jaxrec_requests_total{path="/recommend",status="200"}' in text
    assert 'jaxrec_requests_total{path="other",status="404"}' in text
    assert "jaxrec_compilations_for_requests 0.0" in text
    assert lists_from(text, "basket") >= 0
    of_model, of_popular = (lists_from(text, source) for source in ("model", "popular"))
    get(app, "/recommend", user="nobody")
    text = get(app, "/metrics").text
    assert lists_from(text, "model") == of_model >= 1
    assert lists_from(text, "popular") == of_popular + 1


def _lists_of(client: Any, user: str) -> Any:
    return client.get("/recommend", params={"user": user})


def test_a_newer_run_is_loaded_under_load_without_a_dropped_request(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", seed=1)
    (tmp_path / "now").symlink_to("a")
    app = create(tmp_path / "now", limits=Limits(k=100))
    current = app.state.current
    expected = [
        Recommender.load(tmp_path / of).recommend("u1", 20)["item"].to_list() for of in "ab"
    ]

    async def work(client: Any) -> list[Any]:
        watching = asyncio.create_task(current.watch(0.01))
        (tmp_path / "next").symlink_to("b")
        (tmp_path / "next").replace(tmp_path / "now")
        answers = []
        while current.version == 1:
            answers += await asyncio.gather(*(_lists_of(client, "u1") for _ in range(5)))
        answers.append(await _lists_of(client, "u1"))
        watching.cancel()
        return answers

    answers = asked(app, work)
    assert {answer.status_code for answer in answers} == {200}
    assert all(names(answer.json()) in expected for answer in answers)
    assert names(answers[-1].json()) == expected[1]
    assert len(current._borrowed) == 1  # the previously served run is closed
    current.close()


def test_what_cannot_be_loaded_leaves_what_is_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run")
    app = create(run, limits=Limits(k=100))
    current = app.state.current

    async def work(client: Any) -> tuple[Any, Any]:
        before = (await _lists_of(client, "u1")).json()
        watching = asyncio.create_task(current.watch(0))
        (run / "embeddings.npz").write_bytes(b"half of a file")
        current.ask()
        while "could not be reloaded" not in capsys.readouterr().err:
            await asyncio.sleep(0)
        after = (await _lists_of(client, "u1")).json()
        watching.cancel()
        return before, after

    before, after = asked(app, work)
    assert before == after
    assert 'jaxrec_reloads_total{result="failed"} 1.0' in get(app, "/metrics").text
    current.close()


def test_runs_that_cannot_be_served_are_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        create(tmp_path)
    run = write_embeddings(tmp_path / "nan", np.array([[np.nan]]), np.ones((2, 1)))
    with pytest.raises(InputError, match="not finite"):
        create(run)


def test_models_of_items_give_neighbours_alone(tmp_path: Path) -> None:
    graph = synthetic_items.make(60, 150, communities=3)
    item = RNG.normal(size=(60, 2)).astype(np.float32)
    app = create(write_item_run(tmp_path / "run", graph, item), limits=Limits(k=100))
    answer = get(app, "/similar", items=graph.item_ids[1], k=100)
    assert len(answer.json()[0]["items"]) == 59
    assert get(app, "/recommend", user="u1").status_code == 404
    app.state.current.close()


@pytest.fixture(scope="module", params=["cheby-cf", "ease"])
def filtering(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the server of a graph filter, and its run."""
    train = synthetic.make(60, 50, 600, communities=3, seed=1)
    fitted = fit("cheby-cf", train, jax.random.key(0), dim=8, order=3, spectral_weight=0.3)
    if request.param == "ease":
        weight_II = RNG.normal(size=(50, 50)).astype(np.float32)
        fitted = fitted._replace(weight_II=weight_II)
    else:  # pairs with different weights
        fitted = fitted._replace(weight_E=1 + RNG.random(len(fitted.indices), np.float32))
    seen = [row.tolist() for row in np.split(fitted.indices, fitted.indptr[1:-1])]
    run = tmp_path_factory.mktemp("filter") / "run"
    write_embeddings(run, fitted.user_UD, fitted.item_ID, seen)
    np.savez(run / "filter.npz", **fitted.arrays())
    made = create(run, limits=Limits(k=40))
    yield made, Recommender.load(run)
    made.state.current.close()


def test_a_filters_lists_are_those_of_recommend(filtering: Any) -> None:
    app, rec = filtering
    user, item = rec.user_ids[3], rec.item_ids[5]
    before = compiled_for_requests()
    answer = get(app, "/recommend", user=user, k=15).json()
    expected = rec.recommend(user, 15)
    assert names(answer) == expected["item"].to_list()
    scores = [place["score"] for place in answer["items"]]
    np.testing.assert_allclose(scores, expected["score"].to_numpy(), rtol=1e-4)
    near = get(app, "/similar", items=item, k=7).json()
    assert names(near[0]) == rec.similar_items(item, 7)["similar"].to_list()
    basket = rec.item_ids[:3]
    answer = post(app, "/recommend", {"basket": basket, "k": 10}).json()
    assert names(answer) == rec.recommend_history(basket, 10)["item"].to_list()
    # Items that the user already has do not change the list, but new items do.
    own = [rec.item_ids[i] for i in rec.known.take(np.array([3])).indices]
    same = post(app, "/recommend", {"user": user, "basket": own, "k": 15}).json()
    assert names(same) == expected["item"].to_list()
    moved = post(app, "/recommend", {"user": user, "basket": names(same)[:3], "k": 12}).json()
    assert not set(names(moved)) & set(names(same)[:3])
    assert names(moved) != names(same)[3:]
    assert moved["source"] == "model"
    assert get(app, "/health").json()["ranks_by"] == "histories"
    many = [{"user": name, "k": 5} for name in rec.user_ids[:40]]
    answers = post(app, "/batch", {"requests": many}).json()["answers"]
    lists = rec.recommend(rec.user_ids[:40], 5).partition_by("user", maintain_order=True)
    assert [names(a) for a in answers] == [frame["item"].to_list() for frame in lists]
    assert compiled_for_requests() == before

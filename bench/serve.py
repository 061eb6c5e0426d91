"""Serving lists: throughput and latency, compared with FAISS and implicit in the same server.

FAISS searches exactly (IndexFlatIP); implicit uses the top-k search that its models' ``recommend``
calls. Those that are installed run at once and are asked in turns, so that other load affects all
alike. wrk sends a request as soon as it has an answer, each time for another user. At a fixed rate,
h2load spaces its requests evenly, and hey sends them in bursts of ten, one request a connection.
"""

import argparse
import csv
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import record

COMMAND = "python -m bench serve"
N_USERS, DIM, SEEN, K = 10_000, 64, 20, 20
CONNECTIONS = 16
THROUGHPUT = f"requests a second, {CONNECTIONS} connections, wrk on one thread"
HOW = {"h2load": "evenly spaced, h2load", "hey": "bursts of ten, hey"}
ASKED = f"/recommend?titles=false&k={K}&user=u7"
_WAIT = ("--timeout", "30s")
_LUA = """
local n = 0
request = function()
  n = n + 1
  local user = string.format("u%d", (n * 37) % {users})
  return wrk.format("GET", "/recommend?titles=false&k={k}&user=" .. user)
end
"""


def make_run(folder: Path, n_items: int, seed: int = 0) -> Path:
    """Make a finished run of random vectors."""
    import json

    from jaxrec.config import Config, to_dict

    rng = np.random.default_rng(seed)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(to_dict(Config())))
    (folder / "eval.json").write_text("{}")
    np.savez(
        folder / "embeddings.npz",
        user=rng.normal(size=(N_USERS, DIM)).astype(np.float32),
        item=rng.normal(size=(n_items, DIM)).astype(np.float32),
        user_ids=np.array([f"u{n}" for n in range(N_USERS)]),
        item_ids=np.array([f"i{n}" for n in range(n_items)]),
    )
    seen = np.sort(rng.integers(0, n_items // SEEN, (N_USERS, SEEN)), axis=1)
    seen += np.arange(SEEN) * (n_items // SEEN)  # ascending and distinct
    np.savez(
        folder / "seen.npz",
        indptr=np.arange(N_USERS + 1, dtype=np.int32) * SEEN,
        indices=seen.ravel().astype(np.int32),
        learnt_user=np.ones(N_USERS, bool),
        learnt_item=np.ones(n_items, bool),
    )
    return folder


class FaissRanker:
    """FAISS's exact inner products, in place of jaxrec.serving.ranker.Ranker."""

    def __init__(self, scorer: Any, longest: int, left_out: int) -> None:
        import faiss  # pyright: ignore[reportMissingImports]

        item_ID = np.ascontiguousarray(scorer.params["item"], np.float32)
        self._index = faiss.IndexFlatIP(item_ID.shape[1])
        self._index.add(item_ID)  # pyright: ignore[reportCallIssue]

    def fitting(self, queries: Sequence[Any]) -> int:
        return min(len(queries), 32)

    def rank(self, queries: Sequence[Any]) -> list[tuple[np.ndarray, np.ndarray]]:
        most = max(query.k + len(query.left_out) for query in queries)
        user_BD = np.stack([query.vector for query in queries]).astype(np.float32)
        score_BK, item_BK = self._index.search(user_BD, most)  # pyright: ignore[reportCallIssue]
        lists = []
        for query, items, scores in zip(queries, item_BK, score_BK, strict=True):
            kept = np.flatnonzero(~np.isin(items, query.left_out))[: query.k]
            lists.append((items[kept], scores[kept]))
        return lists


class ImplicitRanker:
    """The top-k search of implicit, in place of jaxrec.serving.ranker.Ranker."""

    def __init__(self, scorer: Any, longest: int, left_out: int) -> None:
        self._item_ID = np.ascontiguousarray(scorer.params["item"], np.float32)

    def fitting(self, queries: Sequence[Any]) -> int:
        return min(len(queries), 32)

    def rank(self, queries: Sequence[Any]) -> list[tuple[np.ndarray, np.ndarray]]:
        import scipy.sparse as sp
        from implicit.cpu.topk import topk  # pyright: ignore[reportMissingImports]

        user_BD = np.stack([query.vector for query in queries]).astype(np.float32)
        indptr = np.cumsum([0, *(len(query.left_out) for query in queries)])
        index = np.concatenate([query.left_out for query in queries])
        shape = len(queries), len(self._item_ID)
        seen = sp.csr_matrix((np.ones(len(index), np.float32), index, indptr), shape=shape)
        longest = max(query.k for query in queries)
        found = topk(self._item_ID, user_BD, longest, filter_query_items=seen, num_threads=0)
        lists = zip(queries, *found, strict=True)
        return [(items[: query.k], scores[: query.k]) for query, items, scores in lists]


RANKERS = {"FAISS IndexFlatIP": ("faiss", FaissRanker), "implicit": ("implicit", ImplicitRanker)}


def _serve_other(name: str, run: str) -> None:
    from jaxrec.serving import loaded_run
    from jaxrec.serving.server import serve

    loaded_run.Ranker = RANKERS[name][1]  # pyright: ignore[reportAttributeAccessIssue]
    serve(run, port=0, watch_seconds=0)


def start(
    command: list[str], env: dict[str, str] | None = None
) -> tuple[subprocess.Popen[str], str]:
    """Start a server, wait until it accepts requests, and return it with its address."""
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
    assert server.stderr is not None
    for line in server.stderr:
        found = re.search(r" on (http://\S+)", line)
        if found:
            return server, found[1]
    raise RuntimeError(f"{' '.join(command)}: did not start")


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def throughput(address: str, seconds: int, script: Path) -> float:
    """Measure requests per second of clients that ask again as soon as they have an answer."""
    options = ("-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *_WAIT)
    said = _run("wrk", *options, "-s", str(script), address)
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])  # pyright: ignore


def spaced(address: str, seconds: int, rate: int, folder: Path) -> list[float]:
    """Measure milliseconds per request at a fixed rate, evenly spaced."""
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    workers = min(10, rate)
    # Connections are opened one after another, so that their requests take turns.
    turns = ("-r", "1", f"--rate-period={1000 // rate}ms", "--rps", str(rate // workers))
    options = ("--h1", "-n", str(rate * seconds), "-c", str(workers), *turns)
    _run("h2load", *options, f"--log-file={log}", address + ASKED)
    rows = [line.split() for line in log.read_text().splitlines()]
    if len(rows) != rate * seconds or any(row[1] != "200" for row in rows):
        raise RuntimeError(f"h2load: {len(rows)} answers, not all of them 200")
    return [int(row[2]) / 1e3 for row in rows]


def in_bursts(address: str, seconds: int, rate: int) -> list[float]:
    """Measure milliseconds per request at a fixed rate, in bursts of ten requests at once."""
    workers = min(10, rate)
    options = ("-z", f"{seconds}s", "-c", str(workers), "-q", str(rate // workers))
    said = _run("hey", *options, "-o", "csv", address + ASKED)
    rows = list(csv.DictReader(io.StringIO(said)))
    if not rows or any(row["status-code"] != "200" for row in rows):
        raise RuntimeError(said[:2000])
    return [1e3 * float(row["response-time"]) for row in rows]


def measure(n_items: int, rate: int, rounds: int, seconds: int) -> None:
    """Measure one catalogue."""
    others = [name for name, (package, _) in RANKERS.items() if find_spec(package)]
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in ("jaxrec", *others)}
    load: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "run", n_items)
        script = Path(folder) / "ask.lua"
        script.write_text(_LUA.replace("{k}", str(K)).replace("{users}", str(N_USERS)))
        own = [sys.executable, "-m", "jaxrec", "serve", str(run), "--port", "0", "--watch", "0"]
        other = [sys.executable, "-m", "bench.serve", "--serve", str(run), "--by"]
        started = {n: start([*other, n] if n in RANKERS else own) for n in taken}
        try:
            for name, (_, address) in started.items():
                throughput(address, 2, script)  # warm-up
                del name
            for _ in range(rounds):
                for name, (_, address) in started.items():
                    load.append(os.getloadavg()[0])
                    short = max(seconds // 6, 3)
                    taken_by = {
                        "h2load": spaced(address, seconds, rate, Path(folder)),
                        "hey": in_bursts(address, short, rate),
                    }
                    found = {
                        f"p{n} at {rate} requests a second, {HOW[tool]}": float(
                            np.percentile(times, n)
                        )
                        for tool, times in taken_by.items()
                        for n in (50, 99)
                    }
                    found[THROUGHPUT] = throughput(address, short, script)
                    for what, value in found.items():
                        taken[name].setdefault(what, []).append(value)
        finally:
            for server, _ in started.values():
                server.send_signal(signal.SIGTERM)
                server.communicate()
    shared: dict[str, Any] = {"items": n_items, "dim": DIM, "k": K, "seconds": seconds}
    shared |= {"load_average": [round(min(load), 1), round(max(load), 1)]}
    for name, figures in taken.items():
        for what, values in figures.items():
            unit, rated = ("requests/s", {}) if what == THROUGHPUT else ("ms", {"rate": rate})
            told = shared | rated | {"what": f"{n_items:,} items: {what}"}
            record("serve", name, values, unit, COMMAND, **told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--rates", type=int, nargs="+", default=[200, 10])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--by", choices=RANKERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        _serve_other(args.by, args.serve)
        return
    for n_items, rate in zip(args.items, args.rates, strict=True):
        measure(n_items, rate, args.rounds, args.seconds)


if __name__ == "__main__":
    main()

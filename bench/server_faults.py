"""Faults of a real server: by its OpenAPI page, by hostile bytes, and a run replaced under load.

schemathesis sends the requests that the server's own OpenAPI page describes, valid and invalid
ones, and checks each answer against the page. Hostile bytes are sent over sockets: an answer must
have a status below 500, and the server must answer the next request. For the third part, clients
ask without pause while a link is moved between two runs: every answer must be a list of one of the
two runs, and the server must change over each time.
"""

import argparse
import csv
import http.client
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.common import record
from bench.serve import make_run, start

COMMAND = "python -m bench server-faults"
CLIENTS, USERS, K = 8, 50, 20
_LONGEST = 10.0  # seconds that an answer may take


@contextmanager
def serving(run: Path, *options: str) -> Iterator[tuple[str, int]]:
    """Serve a run; yield the address and the port. The server must end without a traceback."""
    command = [sys.executable, "-m", "jaxrec", "serve", str(run), "--port", "0", *options]
    server, address = start(command)
    assert server.stderr is not None
    heard: list[str] = []
    listening = threading.Thread(target=lambda: heard.extend(server.stderr or ()), daemon=True)
    listening.start()
    try:
        yield address, int(address.rpartition(":")[2])
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        listening.join(10)
    if "Traceback" in "".join(heard):
        raise RuntimeError("".join(heard))


def trained(folder: Path) -> Path:
    """Train a small run."""
    run = folder / "run"
    options = ["--model.dim", "16", "--train.epochs", "1", "--run", str(run)]
    subprocess.run([sys.executable, "-m", "jaxrec", "train", "mf", *options], check=True)
    return run


def hostile_titles(run: Path, titles: Path) -> Path:
    """Write a table of the run's items whose titles are markup."""
    import numpy as np

    with titles.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["item", "title", "category"])
        for n, item in enumerate(np.load(run / "embeddings.npz")["item_ids"]):
            rows.writerow([item, f"<b onclick='x()'>{item}</b>\\u202e", "ab"[n % 2]])
    return titles


def by_openapi(address: str, examples: int) -> dict[str, Any]:
    """Send the requests of schemathesis; return their number and the failures."""
    import schemathesis  # pyright: ignore[reportMissingImports]
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Unsatisfiable

    described = schemathesis.openapi.from_url(f"{address}/openapi.json")
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    sent, statuses, failures = 0, {}, []
    for found in described.get_all_operations():
        operation = found.ok()
        for mode in modes:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=examples,
                deadline=None,
                derandomize=True,
                database=None,
                phases=(Phase.generate,),
                suppress_health_check=(
                    HealthCheck.too_slow,
                    HealthCheck.filter_too_much,
                    HealthCheck.data_too_large,
                ),
            )
            def check(case: Any) -> None:
                nonlocal sent
                answer = case.call()
                sent += 1
                statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
                case.validate_response(answer)

            try:
                check()
            except Unsatisfiable:  # an operation without parameters has no invalid request
                pass
            except (Exception, BaseExceptionGroup) as e:
                failures.append(f"{operation.label}: {e}"[:500])
    return {"requests": sent, "failures": failures, "statuses": dict(sorted(statuses.items()))}


def hostile(rng: random.Random) -> bytes:
    """Return the bytes of one hostile connection."""
    texts = [b"", b"\x00", b"\x1b[31m", b"<script>", b"\xff\xfe", b"a" * 70_000, b"%00", b"%zz"]
    texts += [b"../../etc/passwd", b"\r\nX: y", b"\xf0\x9f\x98\x80", b"'--", b"{{7*7}}", b" "]
    text, method = rng.choice(texts), rng.choice([b"GET", b"POST", b"BREW", b"get", b"\x00", b""])
    path = rng.choice([b"/recommend?user=", b"/similar?items=", b"/find?q=", b"//", b"http://x/"])
    version = rng.choice([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"", b"HTTP/1.1 x"])
    length = rng.choice([b"-1", b"5", b"1e3", b"99999999999999999999", b"0x10", b"\xb2", b""])
    body = bytes(rng.randrange(256) for _ in range(rng.randint(0, 300)))
    headers = [b"Host: localhost"]
    headers += rng.sample(
        [
            b"Content-Length: " + length,
            b"Content-Length: 3",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: " + text[:100],
            b"Host: " + text[:1000],
            b"Authorization: " + text[:1000],
            b"Content-Type: " + text[:100],
            b"Expect: 100-continue",
            b"Upgrade: websocket\r\nConnection: Upgrade",
            b"X: " + text,
            text[:50],
        ],
        rng.randint(0, 4),
    )
    kind = rng.randrange(6)
    if kind == 0:
        return body  # no HTTP at all
    if kind == 1:
        return b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + body  # the start of TLS
    if kind == 2:
        return b"GET /health HTTP/1.1\r\n" + b"".join(b"A%d: b\r\n" % n for n in range(20_000))
    start_line = b" ".join([method, path + text, version])
    return b"\r\n".join([start_line, *headers, b"", body])


def by_bytes(port: int, connections: int) -> dict[str, Any]:
    """Send hostile bytes; return the number of connections, their statuses and the failures."""
    rng, statuses, failures = random.Random(1), {}, []
    for n in range(connections):
        sent = hostile(rng)
        said = b""
        with socket.create_connection(("127.0.0.1", port), timeout=2.0) as connection:
            try:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(65_536):
                    said += part
            except (TimeoutError, ConnectionError, BrokenPipeError):
                pass
        status = said[9:12].decode("latin-1") if said.startswith(b"HTTP/1.") else "closed"
        statuses[status] = statuses.get(status, 0) + 1
        if status.startswith("5"):
            failures.append(f"{status} for {sent[:200]!r}")
        if n % 100 == 99:
            alive = http.client.HTTPConnection("127.0.0.1", port, timeout=_LONGEST)
            alive.request("GET", "/health")
            if alive.getresponse().status != 200:
                failures.append(f"/health failed after {n + 1} connections")
            alive.close()
    return {
        "requests": connections,
        "failures": failures,
        "statuses": dict(sorted(statuses.items())),
    }


class Client(threading.Thread):
    """Asks for lists without pause, and compares each with those of the two runs."""

    def __init__(self, port: int, lists: list[dict[str, list[str]]], seed: int) -> None:
        super().__init__(daemon=True)
        self._port, self._lists, self._rng = port, lists, random.Random(seed)
        self.by_run, self.failures, self.longest = [0, 0], [], 0.0
        self.stop = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_LONGEST)
        while not self.stop.is_set():
            user, began = f"u{self._rng.randrange(USERS)}", time.perf_counter()
            try:
                connection.request("GET", f"/recommend?user={user}&k={K}")
                answer = connection.getresponse()
                content = json.loads(answer.read())
            except Exception as e:
                self.failures.append(f"{type(e).__name__}: {e}")
                connection.close()
                continue
            self.longest = max(self.longest, time.perf_counter() - began)
            items = [row["item"] for row in content.get("items", ())]
            if answer.status == 200 and items in [of[user] for of in self._lists]:
                self.by_run[[of[user] for of in self._lists].index(items)] += 1
            else:
                self.failures.append(f"{answer.status}: {str(content)[:200]}")


def under_load(folder: Path, n_items: int, reloads: int) -> dict[str, Any]:
    """Move a link between two runs under load; return the answers by run and the failures."""
    from jaxrec.recommend import Recommender

    users = [f"u{n}" for n in range(USERS)]
    runs = [make_run(folder / name, n_items, seed) for seed, name in enumerate(("a", "b"))]
    lists = []
    for run in runs:
        frame = Recommender.load(run).recommend(users, K)
        parts = frame.partition_by("user", as_dict=True)
        lists.append({str(user): part["item"].to_list() for (user,), part in parts.items()})
    link = folder / "now"
    link.symlink_to("a")
    with serving(link, "--watch", "0.2") as (_, port):
        clients = [Client(port, lists, seed) for seed in range(CLIENTS)]
        for client in clients:
            client.start()
        for n in range(reloads):
            (folder / "next").symlink_to("ba"[n % 2])
            (folder / "next").replace(link)
            _wait_for(port, n + 2)
        for client in clients:
            client.stop.set()
        for client in clients:
            client.join(2 * _LONGEST)
    by_run = [sum(client.by_run[n] for client in clients) for n in range(2)]
    failures = [fault for client in clients for fault in client.failures]
    longest = max(client.longest for client in clients)
    return {
        "requests": sum(by_run) + len(failures),
        "failures": failures,
        "reloads": reloads,
        "answers_by_run": by_run,
        "longest_seconds": round(longest, 2),
        "items": n_items,
    }


def _wait_for(port: int, version: int) -> None:
    """Wait until the server serves the run of this version, and for half a second more."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_LONGEST)
    for _ in range(600):
        connection.request("GET", "/health")
        if json.loads(connection.getresponse().read())["version"] >= version:
            time.sleep(0.5)
            return
        time.sleep(0.1)
    raise RuntimeError("the server did not load the new run within a minute")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100, help="per operation and mode")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--reloads", type=int, default=10)
    parser.add_argument("--run", help="run to serve; by default a small one is trained")
    parser.add_argument("--parts", nargs="+", default=["openapi", "bytes", "reload"])
    args = parser.parse_args()

    def told(what: str, found: dict[str, Any], **more: Any) -> None:
        failures = found.pop("failures")
        shown = {"first_failures": failures[:5]} if failures else {}
        record(
            "server-faults", "jaxrec", [len(failures)], "failures", COMMAND, what=what,
            **found, **shown, **more,
        )  # fmt: skip

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if {"openapi", "bytes"} & set(args.parts):
            run = trained(folder) if args.run is None else Path(args.run)
            titles = hostile_titles(run, folder / "titles.csv")
            with serving(run, "--titles", str(titles)) as (address, port):
                if "openapi" in args.parts:
                    import schemathesis  # pyright: ignore[reportMissingImports]

                    version = {"schemathesis": schemathesis.__version__}
                    told("requests by the OpenAPI page", by_openapi(address, args.examples),
                         versions=version)  # fmt: skip
                if "bytes" in args.parts:
                    told("hostile bytes on sockets", by_bytes(port, args.connections))
        if "reload" in args.parts:
            found = under_load(folder, args.items, args.reloads)
            told("a run replaced under load", found)


if __name__ == "__main__":
    main()

"""From a trained run to served lists with titles: the seconds of the two commands.

    python -m bench first-list [--data FILE] [--titles FILE]

``jaxrec refit RUN --run LIVE`` trains the chosen model on all pairs, and ``jaxrec serve LIVE
--titles TABLE`` answers. The first command is timed to its end, and the second to its first list
with titles. Each pass begins with an empty compile cache, as on a machine where jaxrec has not run.
Without --data, the run is that of ``jaxrec train`` on the embedded data, with made-up titles.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import polars as pl

from bench.common import record
from bench.serve import start

COMMAND = "python -m bench first-list"


def main() -> None:
    """Time both commands, and record each and their sum."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--data", help="interactions; by default the embedded data")
    parser.add_argument("--titles", help="table keyed by item id")
    parser.add_argument("--passes", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        run, titles = folder / "run", args.titles or str(folder / "titles.csv")
        asked = ["train", "lightgcn", "--data", args.data] if args.data else ["train"]
        _jaxrec([*asked, "--run", str(run)], folder / "cache-train")
        with np.load(run / "embeddings.npz") as arrays:
            user, items = str(arrays["user_ids"][0]), arrays["item_ids"].tolist()
            size = {"users": len(arrays["user_ids"]), "items": len(items)}
        if args.titles is None:
            made = {"item": items, "title": [f"The story of {item}" for item in items]}
            pl.DataFrame(made).write_csv(titles)
        passes = [_pass(folder / str(n), run, titles, user) for n in range(args.passes)]
    refit, serve = zip(*passes, strict=True)
    what = f"{Path(args.data).parent.name if args.data else 'embedded data'}, empty compile cache"
    command = COMMAND + (f" --data {args.data} --titles {args.titles}" if args.data else "")
    for name, seconds in (
        ("jaxrec refit", refit),
        ("jaxrec serve, to the first list with titles", serve),
        ("both commands", [sum(both) for both in passes]),
    ):
        record("first-list", name, seconds, "s", command, what=what, **size)


def _environment(cache: Path) -> dict[str, str]:
    return os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}


def _jaxrec(arguments: list[str], cache: Path) -> float:
    """Run a command of jaxrec, and return its seconds."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "jaxrec", *arguments]
    env = _environment(cache)
    subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _pass(folder: Path, run: Path, titles: str, user: str) -> tuple[float, float]:
    """Return the seconds of the refit, and of the server until its first list."""
    folder.mkdir()
    live = str(folder / "live")
    refit = _jaxrec(["refit", str(run), "--run", live], folder / "cache")
    began = time.perf_counter()
    command = [sys.executable, "-m", "jaxrec", "serve", live, "--titles", titles, "--port", "0"]
    server, address = start(command, _environment(folder / "cache"))
    try:
        query = urlencode({"user": user, "k": 10})
        with urllib.request.urlopen(f"{address}/recommend?{query}") as answer:
            listed = json.load(answer)["items"]
        seconds = time.perf_counter() - began
        if len(listed) != 10 or not all(item["about"]["title"] for item in listed):
            raise RuntimeError(f"not ten items with titles: {listed}")
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate()
    return refit, seconds


if __name__ == "__main__":
    main()

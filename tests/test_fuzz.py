"""Test every reader of files, and the configuration, with inputs damaged in structured ways.

A reader may accept an input, or refuse it with one of jaxrec's errors in one or two lines. It may
not raise any other error, hang, write half a result or outside its folder, open other files,
unpickle, or run code that it reads. JAXREC_FUZZ is the number of inputs to the readers of data, and
all other targets together get as many.
"""

import ast
import bz2
import contextlib
import dataclasses
import functools
import gzip
import io
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from known_sets import SETS, written
from made_run import write_embeddings, write_records
from mutations import TOKENS, mutated

from jaxrec import compilation
from jaxrec import config as configs
from jaxrec.cli.data import _weights
from jaxrec.cli.plan import plan
from jaxrec.cli.train import configured
from jaxrec.config import Config, SplitConfig, to_dict
from jaxrec.data import commands, schema, synthetic, synthetic_items
from jaxrec.data.dataset import Dataset
from jaxrec.data.features import Features
from jaxrec.data.formats import TextOptions, side_features
from jaxrec.data.formats.columns import Columns
from jaxrec.data.frame_features import from_frame
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.diagnosis.diagnose import diagnose
from jaxrec.embedding import _read_pairs
from jaxrec.errors import InputError, RunError
from jaxrec.list_files import read_history, read_ids, write
from jaxrec.parted.write import partition_data
from jaxrec.recommend import Recommender
from jaxrec.reporting.page import report
from jaxrec.runfolder import read_json, read_lines
from jaxrec.training.checkpoint import Damaged, read_manifest, write_manifest
from jaxrec.training.run import _new_folder

INPUTS = int(os.environ.get("JAXREC_FUZZ", "150"))
SECONDS = 30
"""Processor time after which a reader of such a small file counts as hanging."""
LONGEST_MESSAGE = 1500

_NEVER = {
    *("pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "os.fork"),
    *("socket.connect", "socket.getaddrinfo", "ctypes.dlopen"),
}
_PROGRAMS = os.path.realpath(os.environ["JAX_COMPILATION_CACHE_DIR"])
"""The folder in which JAX caches compiled programs."""


class Watch:
    """Record forbidden actions while ``on``; an audit hook of Python cannot be removed."""

    def __init__(self) -> None:
        self.on = False
        self.inside = Path("/")
        self.out = Path("/")
        self.seen: list[str] = []
        self._thread = threading.get_ident()  # actions of other threads are not the reader's
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple) -> None:
        if not self.on or threading.get_ident() != self._thread:
            return
        if event in _NEVER:
            self.seen.append(f"{event} {args}")
        elif event == "exec":
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if caller.split(".")[0] in ("jaxrec", "numpy", "polars", "json", "ast"):
                self.seen.append(f"exec by {caller}")
        elif event == "open":
            path, mode, flags = args
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) if flags else False
            self._path(event, path, writes or any(c in str(mode or "") for c in "wax+"))
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "os.truncate"):
            if not isinstance(args[-1], int) or args[-1] < 0 or event == "os.truncate":
                self._path(event, args[0], True)  # otherwise the path is relative to an open folder
        elif event in ("os.rename", "os.link", "os.symlink"):
            self._path(event, args[0], True)
            self._path(event, args[1], True)

    def _path(self, event: str, path: object, writes: bool) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        where = os.path.realpath(os.fsdecode(path))
        if where == "/dev/null" or where.startswith(_PROGRAMS):
            return
        inside = where.startswith(f"{self.inside}/")
        if where == "/etc/passwd" or "/outside/secret" in where:
            self.seen.append(f"{event} {where}")
        elif writes and not (inside and where.startswith(str(self.out))):
            self.seen.append(f"{event} {where} for writing")


WATCH = Watch()


class Target(NamedTuple):
    """A reader to test: ``make`` writes valid files, and ``read`` reads them.

    Attributes:
      read: takes the folder of the files, and an empty folder for outputs.
      writes: whether the reader may change the folder that it reads.
    """

    make: Callable[[Path], Any]
    read: Callable[[Path, Path], Any]
    writes: bool = False


def _csv(folder: Path) -> None:
    rows = [(u, i, 1 + (u * i) % 5, 1e9 + u) for u in range(8) for i in range(6) if (u + i) % 3]
    (folder / "x.csv").write_text(
        "userId,itemId,rating,timestamp\n" + "".join(f"{u},i{i},{r},{t}\n" for u, i, r, t in rows)
    )
    (folder / "films.csv").write_text(
        "itemId,year,genres,maker\n"
        + "".join(f"i{i},{1990 + i},a|b{i},m{i % 2}\n" for i in range(6))
    )


def _events(folder: Path) -> None:
    kinds = ("view", "buy", "shown")
    rows = [f'{u}\t"i {i}"\t{kinds[(u + i) % 3]}' for u in range(8) for i in range(6)]
    (folder / "x.tsv").write_text("user\titem\tevent\n" + "\n".join(rows) + "\n")


def _bare(folder: Path) -> None:
    lines = [f"{u};{i};{u + i}" for u in range(8) for i in range(5)]
    (folder / "x.csv").write_text("\r\n".join(lines))


def _dated(folder: Path) -> None:
    days = [f"2014-04-{n + 1:02}T10:00:00.5+02:00" for n in range(30)]
    lines = [f'u{n % 7};"i {n % 5}";{day}' for n, day in enumerate(days)]
    (folder / "x.csv").write_text("user;item;time\n" + "\n".join(lines) + "\n")
    (folder / "films.csv").write_bytes(b"item;name\ni 0;caf\xe9\ni 1;x\n")


def _reviews(folder: Path, pack: bool = False) -> None:
    reviews = [
        {
            "user_id": f"u{n % 7}",
            "asin": f"B{n % 5}",
            "rating": n % 5,
            "date": f"2014-04-{n + 1:02}",
        }
        for n in range(28)
    ]
    lines = [repr(r) if n % 3 else json.dumps(r) for n, r in enumerate(reviews)]
    content = "\n".join(lines).encode()
    (folder / "r.json").write_bytes(gzip.compress(content, mtime=0) if pack else content)


def _set(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        written(folder, name)

    return make


def _wide(folder: Path) -> None:
    _dated(folder)
    (folder / "films.csv").unlink()
    (folder / "x.csv").write_bytes((folder / "x.csv").read_text().encode("utf-16"))


def _zstd(folder: Path) -> None:
    _csv(folder)
    (folder / "films.csv").unlink()
    frame = pl.read_csv(folder / "x.csv")
    frame.lazy().sink_csv(folder / "x.csv.zst", compression="zstd")
    (folder / "x.csv").unlink()


def _nested(folder: Path) -> None:
    lines = [
        json.dumps({"user": {"id": n % 7}, "item": {"sku": f"s{n % 5}"}, "stars": n % 4})
        for n in range(28)
    ]
    (folder / "r.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


def _orders(folder: Path) -> None:
    lines = [f"u{n % 7},{n}|{n % 3} | x,{1 + n % 12}/{1 + n % 28}/2014\n" for n in range(20)]
    (folder / "x.csv").write_text("user,item,date\n" + "".join(lines))


def _packed(folder: Path) -> None:
    _csv(folder)
    content = (folder / "x.csv").read_bytes()
    (folder / "films.csv").unlink(missing_ok=True)
    (folder / "x.csv").unlink()
    (folder / "train.csv.gz").write_bytes(gzip.compress(content, mtime=0))
    (folder / "valid.csv.bz2").write_bytes(bz2.compress(content))
    with zipfile.ZipFile(folder / "test.csv.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo("test.csv"), content)


def _partitioned(folder: Path) -> None:
    for n in range(3):
        (folder / f"day={n}").mkdir()
        frame = pl.DataFrame({"user": [f"u{n}", "v"], "item": ["i", f"j{n}"]})
        frame.write_parquet(folder / f"day={n}" / "x.parquet")


def _lightgcn(folder: Path) -> None:
    (folder / "train.txt").write_text("".join(f"{u} 1 2 {u + 3}\n" for u in range(8)))
    (folder / "test.txt").write_text("".join(f"{u} {u + 4}\n" for u in range(8)))


def _parquet(folder: Path) -> None:
    n = np.arange(30)
    times = pl.datetime_range(
        pl.datetime(2020, 1, 1), pl.datetime(2020, 1, 30), "1d", eager=True, time_unit="us"
    )
    frame = pl.DataFrame({"user": n % 7, "item": [f"i{x % 5}" for x in n], "rating": n / 7})
    frame.with_columns(time=times).write_parquet(folder / "x.parquet")
    items = pl.DataFrame({"item": [f"i{x}" for x in range(5)], "look": [[1.0, 2.0]] * 5})
    items.with_columns(tags=pl.lit("a|b"), day=pl.date(2020, 1, 1)).write_parquet(
        folder / "items.parquet"
    )


def _recbole(folder: Path) -> None:
    (folder / "x.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        + "".join(f"u{n % 7}\ti{n % 5}\t{n % 4}\t{n}\n" for n in range(30))
    )
    (folder / "x.item").write_text(
        "item_id:token\tclass:token_seq\tprice:float\tlook:float_seq\n"
        + "".join(f"i{n}\ta b\t{n}.5\t1 2\n" for n in range(5))
    )
    (folder / "x.user").write_text(
        "user_id:token\tage:float\n" + "".join(f"u{n}\t{n}\n" for n in range(7))
    )


def _recbole_by_settings(folder: Path) -> None:
    lines = [f"u{n % 7};i{n % 5};{n % 4};{n}\n" for n in range(30)]
    for part in (1, 2):
        text = "who:token;what:token;rating:float;at:float\n" + "".join(lines[part - 1 :: 2])
        (folder / f"x.part{part}.inter").write_text(text)
    (folder / "x.item").write_text("what:token;tags:token_seq;price:float\ni1;a|b;3\n")
    (folder / "x.yaml").write_text(
        'field_separator: ";"  # cells\nseq_separator: "|"\nUSER_ID_FIELD: who\n'
        "ITEM_ID_FIELD: what\nTIME_FIELD: at\nbenchmark_filename: [part1, part2]\nload_col:\n"
        "    inter: [who, what, at]\n    item:\n    - what\n    - tags\nrm_dup_inter: first\n"
    )


def _ml100k(folder: Path) -> None:
    for name in ("u1.base", "u1.test"):
        shift = 0 if name == "u1.base" else 1
        lines = [f"{n % 7}\t{(n + shift * (n // 35)) % 5}\t{1 + n % 5}\t{9 * n}" for n in range(30)]
        (folder / name).write_text("\n".join(lines[:15] if shift == 0 else lines[15:]) + "\n")
    flags = "|".join("01"[k == 3] for k in range(19))
    items = [f"{n}|T\u00e9 ({1990 + n})|01-Jan-{1990 + n}||http://x|{flags}" for n in range(5)]
    (folder / "u.item").write_bytes(("\n".join(items) + "\n").encode("latin-1"))
    (folder / "u.user").write_text("".join(f"{n}|3{n}|M|doctor|0\n" for n in range(7)))


def _ml1m(folder: Path) -> None:
    lines = [f"{n % 7}::{n % 5}::{1 + n % 5}::{9 * n}\n" for n in range(35)]
    (folder / "ratings.dat").write_text("".join(lines))
    films = [f"{n}::T {n} (199{n})::Drama|Comedy\n" for n in range(5)]
    (folder / "movies.dat").write_text("".join(films))
    (folder / "users.dat").write_text("".join(f"{n}::F::25::3::x\n" for n in range(7)))


def _ml_csv(folder: Path) -> None:
    lines = [f"{n % 7},{n % 5},{1 + n % 5},{9 * n}\n" for n in range(35)]
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "".join(lines))
    films = [f'{n},"T, {n} (199{n})",Drama|Comedy\n' for n in range(5)]
    (folder / "movies.csv").write_text("movieId,title,genres\n" + "".join(films))


def _prepared(folder: Path) -> None:
    data = synthetic.embedded("synthetic-features")
    few = data.take(np.arange(60))
    Dataset.save(few, folder / "data")


def _exposed(folder: Path) -> None:
    _events(folder)
    weights = {"view": 1.0, "buy": 2.0, "shown": 0.0}
    commands.import_data(folder / "x.tsv", folder / "data", "tsv", Columns(event="event"), weights)
    (folder / "x.tsv").unlink()


def _pairs_folder(folder: Path) -> None:
    synthetic_items.make(24, 30, communities=2, seed=1, missing=0.1).save(folder / "graph")


def _amazon(folder: Path, pack: bool = False) -> None:
    products = [
        {
            "asin": f"B{n}",
            "related": {"also_bought": [f"B{(n + 1) % 9}"], "bought_together": [f"B{(n + 3) % 9}"]},
            "categories": [["Books", f"Kind {n % 3}"]],
            "brand": "It's",
            "price": 3.5 * n,
        }
        for n in range(9)
    ]
    lines = [str(p) if n % 2 else json.dumps(p) for n, p in enumerate(products)]
    content = "\n".join(lines).encode() + b"\n"
    if pack:
        (folder / "meta.json.gz").write_bytes(gzip.compress(content, mtime=0))
    else:
        (folder / "meta.json").write_bytes(content)


def _edges(folder: Path) -> None:
    lines = [f"i{n},i{(n * 3 + 1) % 9},{n + 1}.5\n" for n in range(9)]
    (folder / "x.csv").write_text("src,dst,weight\n" + "".join(lines))
    pl.read_csv(folder / "x.csv").write_parquet(folder / "x.parquet")


def _lists(folder: Path) -> None:
    (folder / "ids.csv").write_text("user,x\n" + "".join(f"u{n},1\n" for n in range(5)))
    (folder / "ids.txt").write_text("".join(f"i{n}\n" for n in range(5)))
    (folder / "history.csv").write_text("user,item\nn1,i1\nn1,i2\nn2,i0\n")
    pl.DataFrame({"user": ["n1", "n2"], "item": ["i1", "i2"]}).write_parquet(
        folder / "history.parquet"
    )


def _pairs(folder: Path) -> None:
    (folder / "pairs.csv").write_text("user,item,rating\nu1,i1,3\nu2,i1,4.5\nu1,i2,1\n")
    pl.read_csv(folder / "pairs.csv").write_parquet(folder / "pairs.parquet")


def _run(folder: Path) -> None:
    rng = np.random.default_rng(0)
    user, item = rng.normal(size=(4, 3)), rng.normal(size=(6, 3))
    write_embeddings(
        folder / "run", user, item, [[0], [1, 2], [], [5]], item_bias=np.zeros(6, np.float32)
    )


def _recommended(given: Path, out: Path) -> None:
    made = Recommender.load(given / "run")
    write(made.recommend(made.user_ids[:2], k=3), out / "recs.csv")
    made.similar_items(made.item_ids[:1], k=2)


def _histories(given: Path, out: Path) -> None:
    names = ("history.csv", "history.parquet")
    recommend = _RECOMMENDER[0].recommend_history
    lists = [recommend(read_history(given / name), k=2, source=name) for name in names]
    for name, made in zip(names, lists, strict=True):  # after all refusals have been ruled out
        write(made, out / f"{name}.jsonl")


_RECOMMENDER: list[Recommender] = []


def _elsewhere(folder: Path) -> None:
    rng = np.random.default_rng(0)
    user, item = rng.normal(size=(16, 4)), rng.normal(size=(16, 4))
    np.savez(
        folder / "x.npz", user=user, item=item, user_ids=np.array([f"u{n}" for n in range(16)])
    )
    np.save(folder / "x.npy", user.astype(np.float32))


def _watched(folder: Path) -> None:
    write_records(folder / "run", watched=False)
    line = {"step": 0, "epoch": 0, "split": "doctor", "phase": "search", "item_cosine": 0.1}
    with (folder / "run" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line | {"user_cosine": 0.2, "gradient": 1.0}) + "\n")
        file.write(json.dumps(line | {"step": 100, "item_cosine": 0.99}) + "\n")


def _checkpoint(folder: Path) -> None:
    (folder / "7" / "d").mkdir(parents=True)
    (folder / "7" / "d" / "shard").write_bytes(bytes(range(256)))
    (folder / "7" / "_METADATA").write_text('{"a": 1}')
    write_manifest(folder / "7", {"phase": "search", "origin": 0})


def _whole(given: Path) -> None:
    with contextlib.suppress(Damaged):
        read_manifest(given / "7")
        content = (given / "7" / "d" / "shard").read_bytes()
        assert content == bytes(range(256)), "a changed shard passed for whole"


def _cache(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / f"{name}-cache").write_bytes(zlib.compress(name.encode() * 99))
    compilation.repair(folder)


def _config(folder: Path) -> None:
    from jaxrec import presets

    (folder / "config.json").write_text(json.dumps(to_dict(presets.get("lightgcn")), indent=1))


def _configured(given: Path, out: Path) -> None:
    config = configs.load(given / "config.json")
    assert configs.from_dict(to_dict(config)) == config or "nan" in repr(config)
    with contextlib.chdir(out):
        _new_folder(config, None)


def _tables(folder: Path) -> None:
    (folder / "new.csv").write_text("item,year,tags,maker\ni1,1990,a|b,x\ni2,,a,y\ni3,1992,,x\n")
    pl.read_csv(folder / "new.csv").write_parquet(folder / "new.parquet")


def _features(path: Path) -> Features:
    table = side_features.keyed(path, "item")
    ids = table.frame[table.id_column].cast(pl.String).unique(maintain_order=True).to_numpy()
    return from_frame(table.frame, table.id_column, ids, table.where, kind="item")


def _encoded(path: Path) -> None:
    """Read new items for a run that trained on such a table."""
    schema.encode(_features(path), _trained())


@functools.cache
def _trained() -> schema.Schema:
    with tempfile.TemporaryDirectory() as folder:
        _tables(Path(folder))
        return schema.fit(_features(Path(folder, "new.csv")), np.arange(3))


def _imports(name: str, format: str | None = None, **options: Any) -> Callable[[Path, Path], Any]:
    def read(given: Path, out: Path) -> None:
        more = {k: given / v if k in ("items", "users") else v for k, v in options.items()}
        commands.import_data(given / name, out / "data", format, **more)
        Dataset.load(out / "data", verify=True)

    return read


def _imports_items(name: str, format: str | None = None, **options) -> Callable[[Path, Path], Any]:
    def read(given: Path, out: Path) -> None:
        commands.import_items(given / name, out / "data", format, **options)
        ItemGraph.load(out / "data", verify=True)

    return read


def _partitions(name: str, format: str | None = None, **options) -> Callable[[Path, Path], Any]:
    def read(given: Path, out: Path) -> None:
        partition_data(given / name, out / "data", 2, format=format, rows=64, **options)

    return read


_EVENT_COLUMNS = {
    "columns": Columns(event="event"),
    "event_weights": {"view": 1.0, "buy": 2.0, "shown": 0.0},
}
_BAD = TextOptions(skip_bad_lines=True)
_ORDERS = TextOptions(item_separator="|", time_format="%m/%d/%Y")
_SKIPPING = TextOptions(skip_bad_lines=True, encoding="latin-1")
_LATIN = TextOptions(separator=";", header=True, encoding="latin-1", skip_missing_ids=True)
_REPEATED = SplitConfig("given", repeats="keep")
DATA = {
    "csv": Target(_csv, _imports("x.csv", items="films.csv", cold_items=True)),
    "csv without a header": Target(_bare, _imports("x.csv")),
    "events": Target(_events, _imports("x.tsv", **_EVENT_COLUMNS)),
    "dates": Target(_dated, _imports("x.csv")),
    "dates, skipping": Target(_dated, _imports("x.csv", text=_SKIPPING, items="films.csv")),
    "pieces, latin-1": Target(_dated, _imports("x.csv", text=_LATIN)),
    "utf-16": Target(_wide, _imports("x.csv", text=TextOptions(encoding="utf-16"))),
    "reviews": Target(_reviews, _imports("r.json", "jsonl")),
    "reviews, found": Target(_reviews, _imports("r.json")),
    "reviews, gzip, skipping": Target(lambda f: _reviews(f, True), _imports("r.json", text=_BAD)),
    "nested": Target(_nested, _imports("r.jsonl.gz")),
    "orders and dates of a form": Target(_orders, _imports("x.csv", text=_ORDERS)),
    "packed": Target(_packed, _imports("", "csv")),
    "zstd": Target(_zstd, _imports("x.csv.zst")),
    "partitions": Target(_partitioned, _imports("")),
    **{f"set {name}": Target(_set(name), _imports("", name)) for name in SETS},
    "lightgcn": Target(_lightgcn, _imports("")),
    "parquet": Target(_parquet, _imports("x.parquet", items="items.parquet")),
    "recbole": Target(_recbole, _imports("")),
    "recbole, by settings": Target(_recbole_by_settings, _imports("")),
    "movielens fold": Target(_ml100k, _imports("u1.base")),
    "movielens dat": Target(_ml1m, _imports("")),
    "movielens csv": Target(_ml_csv, _imports("")),
    "into parts, csv": Target(_csv, _partitions("x.csv")),
    "into parts, dates, skipping": Target(_dated, _partitions("x.csv", text=_SKIPPING)),
    "into parts, events": Target(_events, _partitions("x.tsv", **_EVENT_COLUMNS)),
    "into parts, nested": Target(_nested, _partitions("r.jsonl.gz", text=_BAD)),
    "into parts, packed": Target(_packed, _partitions("", "csv", split=_REPEATED)),
    "into parts, parquet": Target(_parquet, _partitions("x.parquet")),
    "into parts, prepared": Target(_prepared, _partitions("data")),
    "co-occurrence": Target(_csv, _imports_items("x.csv", "co-occurrence")),
    "prepared": Target(_prepared, _imports("data")),
    "prepared, stats": Target(_exposed, lambda given, out: commands.stats(str(given / "data"))),
    "item graph": Target(_pairs_folder, _imports_items("graph")),
    "amazon": Target(_amazon, _imports_items("meta.json")),
    "amazon, gzip": Target(lambda f: _amazon(f, True), _imports_items("meta.json.gz")),
    "amazon, strict": Target(_amazon, _imports_items("meta.json", strict=True)),
    "edges, csv": Target(_edges, _imports_items("x.csv")),
    "edges, parquet": Target(_edges, _imports_items("x.parquet")),
    "features, csv": Target(_tables, lambda given, out: _encoded(given / "new.csv")),
    "features, parquet": Target(_tables, lambda given, out: _encoded(given / "new.parquet")),
}
"""The readers of data."""
OTHERS = {
    "ids, csv": Target(_lists, lambda given, out: read_ids(given / "ids.csv", "user")),
    "ids, txt": Target(_lists, lambda given, out: read_ids(given / "ids.txt", "item")),
    "histories": Target(_lists, _histories),
    "pairs of new items": Target(
        _pairs,
        lambda given, out: [
            _read_pairs(given / name, with_ratings=True) for name in ("pairs.csv", "pairs.parquet")
        ],
    ),
    "run folder, lists": Target(_run, _recommended),
    "run folder, report": Target(
        lambda folder: write_records(folder / "run", watched=False),
        lambda given, out: report([given / "run"], out / "report.html"),
    ),
    "run folder, doctor": Target(
        _watched,
        lambda given, out: diagnose(given / "run"),
    ),
    "run folder, records": Target(
        lambda folder: write_records(folder / "run", watched=False),
        lambda given, out: [
            *(read_json(p) for p in (given / "run").glob("*.json")),
            *(read_lines(p) for p in (given / "run").glob("*.jsonl")),
        ],
    ),
    "embeddings": Target(_elsewhere, lambda given, out: diagnose(given / "x.npz")),
    "matrix": Target(_elsewhere, lambda given, out: diagnose(given / "x.npy")),
    "checkpoint": Target(_checkpoint, lambda given, out: _whole(given)),
    "compilation cache": Target(_cache, lambda given, out: compilation.repair(given), True),
    "configuration": Target(_config, _configured),
}
RUNS = ("run folder, report", "run folder, doctor", "run folder, lists")
SLOW = (*RUNS, "embeddings", "matrix")


def _tree(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def _hung(number: int, frame: object) -> None:
    raise AssertionError(f"no end after {SECONDS} seconds of work")


@contextlib.contextmanager
def no_harm(root: Path, changes: bool = False) -> Iterator[None]:
    """Check that the block does no harm; jaxrec's own errors are accepted.

    Args:
      changes: whether the given files may be changed.
    """
    given, out = root / "given", root / "out"
    before = {name: _tree(root / name) for name in ("given", "outside")}
    WATCH.inside, WATCH.out, WATCH.seen = root, given if changes else out, []
    signal.signal(signal.SIGPROF, _hung)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    WATCH.on = True
    try:
        yield
    except (InputError, RunError) as e:
        WATCH.on = False
        text = str(e)
        assert text.strip()
        assert len(text.splitlines()) <= 2, text
        assert len(text) <= LONGEST_MESSAGE, text[:3000]
        assert text.replace("\n", "").isprintable(), repr(text)
        assert not any(out.iterdir()), f"left behind after {text}"
    finally:
        WATCH.on = False
        signal.setitimer(signal.ITIMER_PROF, 0)
    assert not WATCH.seen, WATCH.seen
    assert _tree(root / "outside") == before["outside"]
    assert changes or _tree(given) == before["given"]
    assert not [p for p in out.rglob("*") if "partial" in p.name]
    assert {p.name for p in root.iterdir()} == {"given", "out", "outside"}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Return a folder with folders to read from, to write to, and not to touch."""
    folder = tmp_path_factory.mktemp("fuzz").resolve() / "root"
    for name in ("given", "out", "outside"):
        (folder / name).mkdir(parents=True)
    (folder / "outside" / "secret").write_text("1 2 3\n")
    return folder


def _count(name: str) -> int:
    """Return a target's number of inputs; slow targets and options get a quarter."""
    if name in DATA:
        return math.ceil(INPUTS / len(DATA))
    slow = len(SLOW) + len(OPTIONS)
    share = INPUTS / (len(OTHERS) - len(SLOW) + slow / 4)
    return math.ceil(share if name in OTHERS and name not in SLOW else share / 4)


def fixed(n: int) -> settings:
    """Return settings for n random inputs that are the same every time."""
    return settings(
        max_examples=n,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


def lay_out(root: Path, files: dict[str, bytes], rng: Random) -> tuple[str, bytes | None]:
    """Write the files to ``given``, one of them damaged, beside an empty ``out``.

    Returns:
      The damaged file's name, and its content, or None if it is missing or a folder.
    """
    for folder in ("given", "out"):
        shutil.rmtree(root / folder)
        (root / folder).mkdir()
    wrong = rng.choice(list(files))
    found = None
    for file, content in files.items():
        path = root / "given" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if file != wrong:
            path.write_bytes(content)
        elif (way := rng.randrange(40)) == 0:
            path.mkdir()
        elif way > 1:  # else it is missing
            found = mutated(file, content, rng)
            path.write_bytes(found)
    return wrong, found


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy warns of overflow
@pytest.mark.parametrize("name", DATA)
def test_data_is_read_or_refused_in_plain_words(name, root, record_property):
    _damaged_inputs(name, DATA[name], root, record_property)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy warns of overflow
@pytest.mark.parametrize("name", OTHERS)
def test_files_are_read_or_refused_in_plain_words(name, root, record_property):
    _damaged_inputs(name, OTHERS[name], root, record_property)


def _damaged_inputs(name: str, target: Target, root: Path, record_property: Any) -> None:
    with tempfile.TemporaryDirectory() as made:
        target.make(Path(made))
        files = _tree(Path(made))
        (Path(made) / "out").mkdir()
        if name == "histories":
            _run(Path(made))
            _RECOMMENDER[:] = [Recommender.load(Path(made, "run"))]
        target.read(Path(made), Path(made) / "out")  # undamaged files are read
    inputs = refused = 0

    @fixed(_count(name))
    @given(st.randoms(use_true_random=False))
    def property(rng: Random) -> None:
        nonlocal inputs, refused
        inputs += 1
        wrong, content = lay_out(root, files, rng)
        try:
            with no_harm(root, target.writes):
                try:
                    target.read(root / "given", root / "out")
                except (InputError, RunError):
                    refused += 1
                    raise
        except BaseException as e:
            e.add_note(f"{wrong} was {content if content is None else content[:2000]!r}")
            raise

    property()
    record_property("inputs", inputs)
    record_property("refused", refused)


def _options(kind: Any, prefix: str = "--") -> list[str]:
    """Return every option of a dataclass by its dotted name."""
    names: list[str] = []
    for field in dataclasses.fields(kind):
        name, inner = f"{prefix}{field.name.replace('_', '-')}", field.default_factory
        names += _options(inner, f"{name}.") if dataclasses.is_dataclass(inner) else [name]
    return names


TEXTS = (
    st.sampled_from([text for text in TOKENS if "\0" not in text])
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
    | st.integers().map(str)
    | st.floats().map(str)
    | st.sampled_from(("True", "False", "None", "adam", "mf", "1", "0.5", "cosine"))
)


OPTIONS = {
    "train": ([], _options(Config)),
    "a preset": (["ngcf"], _options(Config)),
    "plan": (
        ["--users", "1M", "--items", "1M", "--edges", "1B", "--devices", "8x80GB"],
        ["--users", "--items", "--edges", "--devices", "--dim", "--mesh.data", "--host-memory"],
    ),
}
"""The first arguments of each command, and options to add."""


@pytest.mark.parametrize("name", OPTIONS)
def test_options_are_taken_or_refused_in_plain_words(name, root, record_property):
    lay_out(root, {"x": b""}, Random(0))
    call = plan if name == "plan" else configured
    begin, options = OPTIONS[name]
    inputs = 0

    @fixed(_count(name))
    @given(st.lists(st.tuples(st.sampled_from(options), TEXTS), min_size=1, max_size=3))
    def property(chosen: list[tuple[str, str]]) -> None:
        nonlocal inputs
        inputs += 1
        with no_harm(root), contextlib.redirect_stdout(io.StringIO()):
            call([*begin, *(part for pair in chosen for part in pair)])

    property()
    record_property("inputs", inputs)


@given(st.lists(TEXTS, max_size=3))
def test_weights_of_events_are_numbers_or_refused(texts):
    with contextlib.suppress(InputError):
        assert all(isinstance(w, float) for w in _weights(tuple(texts)).values())


def test_nothing_is_evaluated_nor_unpickled():
    """Text in files is data: the modules do not use functions that evaluate or unpickle."""
    for path in sorted((Path(__file__).parents[1] / "jaxrec").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", "")}
                assert not names & {"pickle", "marshal", "shelve", "dill", "joblib", "yaml"}, path
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "compile", "__import__", "os.system"), path
                for keyword in node.keywords:
                    if keyword.arg == "allow_pickle":
                        assert ast.unparse(keyword.value) == "False", path
                if called == "np.load":
                    assert "allow_pickle" in {keyword.arg for keyword in node.keywords}, path

"""Data read from an address: on a file system in memory, and on a local web server."""

import functools
import http.server
import sys
import threading

import polars as pl
import pytest

from jaxrec.cli.data import data as cli
from jaxrec.data import commands
from jaxrec.data.formats import Columns, read
from jaxrec.data.formats.remote import is_address
from jaxrec.errors import InputError

FRAME = pl.DataFrame({"user": ["a", "b", "a"], "item": ["x", "x", "y"]})


@pytest.fixture
def memory():
    fsspec = pytest.importorskip("fsspec", reason="of the extra `remote`")
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def test_an_address_gives_the_same_data_as_a_path(memory, tmp_path):
    FRAME.write_csv(tmp_path / "a.csv")
    here = read(tmp_path / "a.csv")
    memory.pipe("/shop/a.csv", FRAME.write_csv().encode())
    there = read("memory://shop/a.csv")
    assert there.fingerprint() == here.fingerprint()
    assert there.name == "a"
    assert "users         2\n" in commands.stats("memory://shop/a.csv")
    cli(["import", "memory://shop/a.csv", "--out", str(tmp_path / "out")])
    assert read(tmp_path / "out").fingerprint() == here.fingerprint()
    memory.pipe("/split/train.csv", FRAME.write_csv().encode())
    memory.pipe("/split/test.csv", b"user,item\nb,y\n")
    split = read("memory://split").split
    assert split is not None
    assert sorted(split) == [0, 0, 0, 2]


def test_errors_name_the_address(memory):
    memory.pipe("/shop/a.csv", b"user,item\na,x\nb,\n")
    with pytest.raises(InputError, match=r"^memory://shop/a\.csv:3: the item is missing"):
        read("memory://shop/a.csv")
    with pytest.raises(InputError, match=r"^memory://shop/none\.csv: cannot be fetched"):
        read("memory://shop/none.csv")
    with pytest.raises(InputError, match=r"^memory://shop/a\.csv:1: no column 'buyer'"):
        read("memory://shop/a.csv", columns=Columns(user="buyer"))
    with pytest.raises(InputError, match=r"^nosuch://a\.csv: cannot be fetched"):
        read("nosuch://a.csv")


def test_without_fsspec_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(
        InputError, match=r"s3://b/a\.csv: reading an address needs fsspec; pip install"
    ):
        read("s3://b/a.csv")


def test_what_is_an_address():
    assert all(map(is_address, ("s3://b/a.csv", "https://x.org/a.csv?x=1", "memory://a")))
    assert not any(map(is_address, ("a.csv", "/a://b", "c:/a", "://a", "s3://")))


def test_a_server_is_read(tmp_path):
    pytest.importorskip("fsspec", reason="of the extra `remote`")
    pytest.importorskip("aiohttp", reason="fsspec needs it for https://")
    FRAME.write_parquet(tmp_path / "a.parquet")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        data = read(f"http://127.0.0.1:{server.server_port}/a.parquet")
        server.shutdown()
    assert data.fingerprint() == read(tmp_path / "a.parquet").fingerprint()

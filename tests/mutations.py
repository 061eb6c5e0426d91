"""Damage valid files in structured ways, as a disk, a program or an attacker could."""

import gzip
import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl

OUTSIDE = "../../outside/secret"
"""A name that leads out of any folder that is passed to a reader."""
TOKENS = (
    *("", " ", "0", "-1", "1.5", "nan", "NaN", "inf", "-inf", "1e400", "1e-400", "1_000", "0x10"),
    *("9223372036854775807", "9223372036854775808", "9" * 400, "A" * 20_000, "٣", "é", "\u202e"),
    *(
        "'",
        '"',
        '""',
        "''",
        ",",
        "\t",
        "|",
        "::",
        "\r",
        "\n",
        "\\",
        "\\x00",
        "None",
        "null",
        "True",
    ),
    *(OUTSIDE, f"/{OUTSIDE}", "/etc/passwd", "~", ".", "..", "a/b", "=1+1", "$(id)", "%s", "{0}"),
    *("__import__('os').mkdir('pwned')", "[", "(" * 300, "{" * 300, "\ufeff", "\u2028", "﷽"),
)
_RAW = (b"\0", b"\xff", b"\xed\xa0\x80", b"\xc3", b"\x80", b"\x1a", b"\x1b[31m")
_WHOLE = (
    *(b"", b"\n", b"\xef\xbb\xbf", b"\0" * 64, b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"PAR1PAR1"),
    *(b"\x1f\x8b", b"\x93NUMPY", b"[" * 100_000, b"null", b"{}", b"[]", b"0", b'"x"', b"NaN"),
    *("user,item\n1,2\n".encode("utf-16"), b"a" * 100_000, b",\n" * 1000, b'"', b'"\n' * 99),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, 2**31, 2**63, 10**30, -(10**30), 1e308, 5e-324),
    *(float("nan"), float("inf"), "", "\0", "x", OUTSIDE, "A" * 20_000, [], {}, [[]], [None]),
    *({"a": 1}, ["x", 1], "nan", "1", [1e999], {"": {}}),
)


class Planted:
    """An object whose pickle, if loaded, creates a forbidden folder."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("pwned",)


def mutated(name: str, content: bytes, rng: Random) -> bytes:
    """Return ``content`` of a file called ``name`` with one to three faults."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        ways = [_bytes, *(_ways(name, content) * 2)]
        content = rng.choice(ways)(content, rng)
    return content


Way = Callable[[bytes, Random], bytes]


def _ways(name: str, content: bytes) -> list[Way]:
    ending = Path(name).suffix
    if ending == ".npy":
        return [_npy]
    if ending == ".npz":
        return [_npz]
    if ending == ".parquet":
        return [_parquet]
    if ending == ".gz":
        return [_gz]
    if ending in (".json", ".jsonl"):
        return [_json, _text]
    return [_text]


def _bytes(content: bytes, rng: Random) -> bytes:
    made = bytearray(content)
    if not made:
        return rng.choice(_WHOLE)
    at = rng.randrange(len(made))
    end = min(len(made), at + rng.choice((1, 2, 8, 64)))
    way = rng.randrange(8)
    if way == 0:
        made[at] ^= 1 << rng.randrange(8)
    elif way == 1:
        for place in range(at, end):
            made[place] = rng.randrange(256)
    elif way == 2:
        del made[at:]
    elif way == 3:
        del made[at:end]
    elif way == 4:
        made[at:at] = made[at:end] * rng.choice((1, 2, 50))
    elif way == 5:
        made[at:at] = rng.choice(_RAW)
    elif way == 6:
        return rng.choice(_WHOLE)
    else:
        made *= 2
    return bytes(made)


def _text(content: bytes, rng: Random) -> bytes:
    """Replace, drop or repeat one cell, word or line."""
    text = content.decode("utf-8", errors="surrogateescape")
    lines = text.split("\n")
    n = rng.randrange(min(len(lines), rng.choice((1, 3, len(lines)))))
    way = rng.randrange(5)
    if way == 0:
        del lines[n]
    elif way == 1:
        lines[n:n] = [lines[n]] * rng.choice((1, 2, 100))
    elif way == 2:
        lines[n:n] = [rng.choice(TOKENS)]
    else:
        parts = re.split(r"([,\t|;: ]+)", lines[n])
        place = rng.randrange(len(parts))
        parts[place] = rng.choice(TOKENS)
        lines[n] = "".join(parts)
    return "\n".join(lines).encode("utf-8", errors="surrogateescape")


def _json(content: bytes, rng: Random) -> bytes:
    """Replace, drop, rename or wrap one value of a JSON file, or of a line of JSON lines."""
    lines = content.splitlines() if content.count(b"\n{") > 1 else [content]
    n = rng.randrange(len(lines)) if lines else 0
    try:
        tree = json.loads(lines[n])
    except (ValueError, IndexError, RecursionError):
        return _text(content, rng)
    box = {"": tree}
    holder: Any = box
    key: Any = ""
    while isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.8:
        holder = holder[key]
        key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    way = rng.randrange(6)
    if way == 0 and holder is not box:
        del holder[key]
    elif way == 1 and isinstance(holder, dict) and holder is not box:
        holder[rng.choice(TOKENS)] = holder.pop(key)
    elif way == 2:
        holder[key] = [holder[key]]
    else:
        holder[key] = rng.choice(_VALUES)
    lines[n] = json.dumps(box[""]).encode()
    return b"\n".join(lines) + b"\n"


def _gz(content: bytes, rng: Random) -> bytes:
    try:
        inside = gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return _bytes(content, rng)
    return gzip.compress(_text(inside, rng), mtime=0)


def _changed(array: np.ndarray, rng: Random) -> np.ndarray:
    """Return an array with other values, another type or another shape."""
    way = rng.randrange(9)
    array = np.array(array)
    if way == 0:
        kinds = ("f2", "f8", "i1", "u1", "i8", "u8", "c8", "?", "U3", "S3", "M8[s]", "i4,f4", "V4")
        return np.zeros(array.shape, rng.choice(kinds))
    if way == 1:
        return array[..., None]
    if way == 2:
        return array.reshape(-1)[: rng.randrange(array.size + 1)]
    if way == 3:
        return np.concatenate([array.reshape(-1)] * 2)
    if way == 4:
        return np.array(rng.choice((0, -1, np.nan, "x", "")))
    if way == 5:
        return np.asfortranarray(array).T
    if way == 6:
        return array.astype(array.dtype.newbyteorder())
    if array.size and array.dtype.kind in "iuf":
        value: Any = rng.choice((-1, 0, 1, 10**6, 2**31 - 1))
        if array.dtype.kind == "f":
            value = rng.choice((np.nan, np.inf, -np.inf, 0.0, 3e38, 1e-45))
        flat = array.reshape(-1)
        at = slice(None) if way == 7 else rng.randrange(len(flat))
        with np.errstate(all="ignore"):
            flat[at] = np.array(value).astype(array.dtype)
        return flat.reshape(array.shape)
    if array.size and array.dtype.kind == "U":
        texts = array.reshape(-1).tolist()
        texts[rng.randrange(len(texts))] = rng.choice(TOKENS)
        return np.array(texts).reshape(array.shape)
    return array


def _packed(array: np.ndarray, rng: Random) -> bytes:
    """Write a .npy file, in some cases with a pickle or with a header that claims too much data."""
    file = io.BytesIO()
    way = rng.randrange(6)
    if way == 0:
        np.save(file, np.array([Planted()], object), allow_pickle=True)
        return file.getvalue()
    np.save(file, array)
    if way > 1:
        return file.getvalue()
    shape = rng.choice((b"(10**9,)", b"(1099511627776,)", b"(-1,)", b"('x',)", b"(2**64,)", b"9"))
    made = re.sub(rb"\(\d*,? ?\d*\)", shape, file.getvalue(), count=1)
    return made


def _npy(content: bytes, rng: Random) -> bytes:
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception:  # an earlier mutation left no readable array
        return _bytes(content, rng)
    if not isinstance(array, np.ndarray):
        return _bytes(content, rng)
    return _packed(_changed(array, rng), rng)


def _npz(content: bytes, rng: Random) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as stored:
            members = {name: stored.read(name) for name in stored.namelist()}
    except Exception:
        return _bytes(content, rng)
    if not members:
        return _bytes(content, rng)
    name = rng.choice(list(members))
    way = rng.randrange(6)
    if way == 0:
        del members[name]
    elif way == 1:
        members[rng.choice((OUTSIDE, "x", "user.npy", "/x.npy"))] = members.pop(name)
    elif way == 2:
        members[name] = _bytes(members[name], rng)
    else:
        members[name] = _npy(members[name], rng)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as made:
        for member, inside in members.items():
            made.writestr(member, inside)
    return file.getvalue()


def _parquet(content: bytes, rng: Random) -> bytes:
    try:
        frame = pl.read_parquet(io.BytesIO(content))
    except (Exception, pl.exceptions.PanicException):
        return _bytes(content, rng)
    if not frame.width:
        return _bytes(content, rng)
    name = rng.choice(frame.columns)
    way = rng.randrange(6)
    if way == 0:
        frame = frame.drop(name)
    elif way == 1:
        frame = frame.rename({name: rng.choice([t for t in TOKENS if t not in frame.columns])})
    elif way == 2:
        frame = frame.head(0)
    elif way == 3:
        n = rng.randrange(max(frame.height, 1))
        frame = frame.with_columns(
            pl.when(pl.int_range(pl.len()) == n).then(None).otherwise(pl.col(name)).alias(name)
        )
    else:
        frame = frame.with_columns(_odd_column(frame.height, rng).alias(name))
    file = io.BytesIO()
    frame.write_parquet(file)
    return file.getvalue()


def _odd_column(n: int, rng: Random) -> pl.Series:
    values: list[Any] = [
        *(["x"] * n, [""] * n, [OUTSIDE] * n, [True] * n, [None] * n, [b"\xff"] * n, [[1]] * n),
        *([{"a": 1}] * n, [1.5] * n, [float("nan")] * n, [float("inf")] * n, [2**62] * n),
        *([[1.0, None]] * n, [["a"]] * n, [-1] * n, ["A" * 20_000] * n, [[]] * n),
    ]
    return pl.Series(rng.choice(values), strict=False)

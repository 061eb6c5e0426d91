"""Product metadata as Amazon's of 2014: a Python literal or a JSON object a line, perhaps gzipped.

Of each product its ``asin``, ``related`` items, ``brand``, ``categories`` and ``price`` are read;
nothing is ever evaluated as code. Relations become weighted pairs. What is broken is counted with
the numbers of its first lines, or refused where the reader is strict. Memory holds a few numbers a
product and a relation, and every id once.

Source: J. McAuley et al., "Image-based recommendations on styles and substitutes", SIGIR 2015.
"""

import ast
import itertools
import json
import math
import re
import warnings
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec.data.features import Category, Column, Features
from jaxrec.data.formats import compressed
from jaxrec.data.formats.faults import Faults
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.data.pair_keys import starts
from jaxrec.errors import InputError

LONGEST_LINE = 1 << 20
"""Bytes of a line that are still read."""
_LONGEST_ID = 64
_LONGEST_NAME = 100
_LEVELS = 4
"""Levels of the first path of categories that become features."""
_PRICES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_PRICE_NAMES = (
    "under 1",
    *(f"{low} to {high}" for low, high in itertools.pairwise(_PRICES)),
    "1000 and more",
)
_ITSELF = "related to itself"
_SAMPLE = 500
_BLOCK = 1 << 18
_TEXT = re.compile(r"""[uU]?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
_JSON = json.JSONDecoder(strict=False)
_UNEVALUABLE = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)


class _Names:
    """Texts met, by the code of each; 0 is the empty text."""

    def __init__(self) -> None:
        self._code: dict[str, int] = {"": 0}
        self._codes = array("i")

    def add(self, text: str) -> None:
        """The next row's text."""
        self._codes.append(self._code.setdefault(text, len(self._code)))

    def column(self, row: np.ndarray, most_alike: int) -> Category | None:
        """The rows' codes into the sorted names; None with so few different ones."""
        names = np.array(list(self._code), np.str_)
        if len(names) - 1 <= most_alike:
            return None
        order = np.argsort(names)
        rank = np.empty(len(names), np.int32)
        rank[order] = np.arange(len(names), dtype=np.int32)
        return Category(rank[np.frombuffer(self._codes, np.int32)[row]], names[order])


class _Products:
    """Everything read so far, in arrays: products in the order of their lines."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.kinds = kinds
        self._number: dict[str, int] = {}  # every id met, related ones too
        self._item = array("i")  # number of each product
        self._line = array("q")
        self._described = bytearray()  # by number, as far as it goes: whether it is a product
        self._from, self._to, self._kind = array("i"), array("i"), array("b")
        self._brand, self._price = _Names(), _Names()
        self._levels = [_Names() for _ in range(_LEVELS)]

    def __len__(self) -> int:
        return len(self._item)

    def add(self, product: Mapping[str, Any], line: int, faults: Faults) -> None:
        """A line's product, unless it lacks an id or is there already."""
        name = product.get("asin") or product.get("parent_asin")
        name = str(name) if type(name) is int else name
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_ID or not name.isprintable():
            faults.add("no asin", line)
            return
        number = self._number.setdefault(name, len(self._number))
        self._described.extend(bytes(max(0, number + 1 - len(self._described))))
        if self._described[number]:
            faults.add("a product that is there already", line)
            return
        self._described[number] = 1
        self._item.append(number)
        self._line.append(line)
        self._brand.add(_name(product.get("brand")))
        self._price.add(_price(product.get("price")))
        path = _path(product.get("categories"))
        for depth, level in enumerate(self._levels, start=1):
            level.add(" > ".join(path[:depth]) if len(path) >= depth else "")
        self._relate(number, product.get("related"), line, faults)

    def _relate(self, number: int, related: Any, line: int, faults: Faults) -> None:
        if related is None:
            return
        if not isinstance(related, dict):
            faults.add("related is no table of lists", line)
            return
        for kind, name in enumerate(self.kinds):
            others = related.get(name)
            if others is None:
                continue
            if not isinstance(others, list | tuple) or not set(map(type, others)) <= {str}:
                faults.add(f"{name} is no list of ids", line)
                continue
            known = self._number
            self._to.extend([known.setdefault(other, len(known)) for other in others])
            self._from.extend([number] * len(others))
            self._kind.extend([kind] * len(others))

    def graph(self, weights: Mapping[str, float], name: str, faults: Faults) -> ItemGraph:
        """The pairs of products that are there, merged, items in the order of their ids.

        Uses the relations up: they would take as much memory as the graph.
        """
        names = list(self._number)
        ids = np.array([names[number] for number in self._item], np.str_)
        row = np.argsort(ids)
        row_of = np.full(len(names), -1, np.int32)  # by number
        row_of[np.frombuffer(self._item, np.int32)[row]] = np.arange(len(row), dtype=np.int32)
        del names
        self._number = {}
        key = self._keys(row_of, len(row), faults)
        self._from, self._to, self._kind = array("i"), array("i"), array("b")
        src, dst, weight = _merged(key, np.array([weights[k] for k in self.kinds]), len(row))
        return ItemGraph(src, dst, weight, ids[row], self._features(row), name, faults.notes())

    def _keys(self, row_of: np.ndarray, n: int, faults: Faults) -> np.ndarray:
        """(src · n + dst) · kinds + kind of every relation between two products, int64."""
        start, end, kind = (
            np.frombuffer(part, type)
            for part, type in ((self._from, np.int32), (self._to, np.int32), (self._kind, np.int8))
        )
        line_of = np.zeros(len(row_of), np.int64)
        line_of[np.frombuffer(self._item, np.int32)] = np.frombuffer(self._line, np.int64)
        key = np.empty(len(start), np.int64)
        filled = 0
        for begin in range(0, len(start), _BLOCK):
            block = slice(begin, begin + _BLOCK)
            a, b = row_of[start[block]], row_of[end[block]]
            for fault, at in (("a related item that is not there", b < 0), (_ITSELF, a == b)):
                lines = line_of[start[block][at]]
                if len(lines):
                    first = dict.fromkeys(lines[:_SAMPLE].tolist())
                    faults.add(fault, *first, count=len(lines), usable=fault == _ITSELF)
            kept = (b >= 0) & (a != b)
            a, b = a[kept], b[kept]
            made = np.minimum(a, b).astype(np.int64) * n + np.maximum(a, b)
            made = made * len(self.kinds) + kind[block][kept]
            key[filled : filled + len(made)] = made
            filled += len(made)
        return key[:filled]

    def _features(self, row: np.ndarray) -> Features | None:
        # A level where all are alike tells nothing.
        named = {"brand": self._brand.column(row, 0)}
        for depth, level in enumerate(self._levels, start=1):
            named[f"category_{depth}"] = level.column(row, 1)
        named["price"] = self._price.column(row, 0)
        columns: dict[str, Column] = {n: c for n, c in named.items() if c is not None}
        return Features(columns) if columns else None


def read(
    path: Path, weights: Mapping[str, float], *, strict: bool = False, name: str | None = None
) -> ItemGraph:
    """Read the products of a file as an item graph.

    Its features are the categories ``brand``, ``category_1`` ... ``category_4`` (levels of the
    first path, a level where all products are alike left out) and ``price`` (a bucket), as far as
    any product has them. Products without a pair stay, as cold items.

    Args:
      weights: of each kind of related item; kinds with 0 are not read.
      strict: refuse what is otherwise counted in the notes: lines that are no product, lack an
        asin or repeat one, related items that are not there, a file that ends early.
      name: of the graph; the file's where None.

    Raises:
      InputError: no product at all, or (strict) the first fault, by line.
    """
    faults = Faults(path, strict)
    products = _Products(tuple(kind for kind, weight in weights.items() if weight > 0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of escapes such as \d in a literal
        warnings.simplefilter("ignore", DeprecationWarning)
        for line, content in lines(path, faults):
            product = parse(content)
            if product is None:
                faults.add("not a product (a Python literal or a JSON object)", line)
            else:
                products.add(product, line, faults)
    if not len(products):
        if faults.first is None:
            raise InputError(f"{path}: empty; a file with a product a line is needed")
        raise InputError(f"{faults.first}; the file has no product at all")
    return products.graph(weights, name or path.name.split(".")[0], faults)


def parse(content: bytes) -> dict[str, Any] | None:
    """The product of a line, or None where it is none. Evaluates nothing."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    try:
        if '"' not in text and "\\" not in text:
            # Then every ' bounds a text, and JSON says the same with ".
            product = _JSON.decode(text.replace("'", '"'))
        elif text.startswith('{"'):
            product = _JSON.decode(text)
        else:
            product = _JSON.decode(_TEXT.sub(_in_json, text))
    except _UNEVALUABLE:
        # Rarer forms: None, tuples, a text in pieces. It takes some ten times as long.
        try:
            product = ast.literal_eval(text)
        except _UNEVALUABLE:
            return None
    return product if isinstance(product, dict) else None


def _in_json(match: re.Match[str]) -> str:
    """A text of Python as a text of JSON."""
    text = match[0].lstrip("uU")
    if "\\" not in text:
        if text[0] == '"':
            return text
        if '"' not in text:
            return f'"{text[1:-1]}"'
    return json.dumps(ast.literal_eval(text))


def lines(path: Path, faults: Faults) -> Iterator[tuple[int, bytes]]:
    """Each line that is not blank nor too long, with its number from 1, without its end."""
    number = 0
    with compressed.opened(path) as file:
        try:
            while content := file.readline(LONGEST_LINE):
                number += 1
                if len(content) == LONGEST_LINE and not content.endswith(b"\n"):
                    while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                        pass
                    faults.add(f"longer than {LONGEST_LINE} bytes", number)
                    continue
                content = content.removeprefix(b"\xef\xbb\xbf") if number == 1 else content
                content = content.strip()
                if content:
                    yield number, content
        except compressed.DAMAGED as e:
            if number == 0:
                raise compressed.damaged(path, e) from e
            faults.add("the file is damaged or ends early behind this line", number)


def _merged(
    key: np.ndarray, weights: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted unique pairs and the sums of their weights; ``key`` is used up."""
    key.sort()
    kind = np.empty(len(key), np.int8)
    for start in range(0, len(key), _BLOCK):  # in place, for there are many relations
        part = key[start : start + _BLOCK]
        pair, kind[start : start + _BLOCK] = np.divmod(part, max(len(weights), 1))
        part[:] = pair
    first = starts(key)
    each = weights.astype(np.float32)[kind]
    total = np.add.reduceat(each, first) if len(first) else each
    key = key[first]
    src, dst = np.empty(len(key), np.int32), np.empty(len(key), np.int32)
    for start in range(0, len(key), _BLOCK):
        block = slice(start, start + _BLOCK)
        src[block], dst[block] = np.divmod(key[block], n)
    return src, dst, total


def _name(value: Any) -> str:
    """A text without what cannot be printed, cut where it is long; empty where it is no text."""
    if not isinstance(value, str):
        return ""
    if not value.isprintable():
        value = "".join(letter for letter in value if letter.isprintable())
    return value.strip()[:_LONGEST_NAME].strip()


def _path(value: Any) -> list[str]:
    """The first path of categories, from its root."""
    if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
        value = value[0]
    if not isinstance(value, list | tuple):
        return []
    names = [_name(part) for part in value[:_LEVELS]]
    return names[: names.index("")] if "" in names else names


def _price(value: Any) -> str:
    """The bucket of a price; empty where it is none."""
    if isinstance(value, str):
        try:
            value = float(value.strip().removeprefix("$").replace(",", ""))
        except ValueError:
            return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if not 0 <= value < math.inf:
        return ""
    return _PRICE_NAMES[bisect_right(_PRICES, value)]

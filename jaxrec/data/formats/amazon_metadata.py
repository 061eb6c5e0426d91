"""Reads product metadata in Amazon's form of 2014: a Python literal or JSON object per line.

The file may be compressed. The ``asin``, ``related`` items, ``brand``, ``categories`` and ``price``
of each product are read, and nothing is ever evaluated as code. Relations become weighted pairs.
Broken lines are counted, and the first of their line numbers noted; a strict reader refuses them.
Memory holds a few numbers per product and relation, and every id once.

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
"""The longest line that is read, in bytes."""
_LONGEST_ID = 64
_LONGEST_NAME = 100
_LEVELS = 4
"""The number of levels of the first category path that become features."""
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
    """A column of texts, stored as codes; the code 0 is the empty text."""

    def __init__(self) -> None:
        self._code: dict[str, int] = {"": 0}
        self._codes = array("i")

    def add(self, text: str) -> None:
        """Add the text of the next row."""
        self._codes.append(self._code.setdefault(text, len(self._code)))

    def column(self, row: np.ndarray, min_names: int) -> Category | None:
        """Return the column at the given rows; None if it has fewer than ``min_names`` names."""
        names = np.array(list(self._code), np.str_)
        if len(names) - 1 < min_names:
            return None
        order = np.argsort(names)
        rank = np.empty(len(names), np.int32)
        rank[order] = np.arange(len(names), dtype=np.int32)
        return Category(rank[np.frombuffer(self._codes, np.int32)[row]], names[order])


class _Products:
    """The products and relations read so far, in arrays, in the order of their lines."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.kinds = kinds
        # Every id has a number, also an id that only occurs in relations.
        self._number: dict[str, int] = {}
        self._item = array("i")  # each product's number
        self._line = array("q")
        self._described = bytearray()  # 1 at the number of each product, else 0
        self._from, self._to, self._kind = array("i"), array("i"), array("b")
        self._brand, self._price = _Names(), _Names()
        self._levels = [_Names() for _ in range(_LEVELS)]

    def __len__(self) -> int:
        return len(self._item)

    def add(self, product: Mapping[str, Any], line: int, faults: Faults) -> None:
        """Add a line's product, unless it has no id or is a repeat."""
        name = product.get("asin") or product.get("parent_asin")
        name = str(name) if type(name) is int else name
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_ID or not name.isprintable():
            faults.add("no asin", line)
            return
        number = self._number.setdefault(name, len(self._number))
        self._described.extend(bytes(max(0, number + 1 - len(self._described))))
        if self._described[number]:
            faults.add("a product that an earlier line already describes", line)
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
            faults.add("related is not a table of lists", line)
            return
        for kind, name in enumerate(self.kinds):
            others = related.get(name)
            if others is None:
                continue
            if not isinstance(others, list | tuple) or not set(map(type, others)) <= {str}:
                faults.add(f"{name} is not a list of ids", line)
                continue
            known = self._number
            self._to.extend([known.setdefault(other, len(known)) for other in others])
            self._from.extend([number] * len(others))
            self._kind.extend([kind] * len(others))

    def graph(self, weights: Mapping[str, float], name: str, faults: Faults) -> ItemGraph:
        """Return the merged pairs of products, with items in the order of their ids.

        The relations are freed before their pairs are merged, to save memory.
        """
        names = list(self._number)
        ids = np.array([names[number] for number in self._item], np.str_)
        row = np.argsort(ids)
        row_of = np.full(len(names), -1, np.int32)  # each number's row; -1 without a product
        row_of[np.frombuffer(self._item, np.int32)[row]] = np.arange(len(row), dtype=np.int32)
        del names
        self._number = {}
        key = self._keys(row_of, len(row), faults)
        self._from, self._to, self._kind = array("i"), array("i"), array("b")
        src, dst, weight = _merged(key, np.array([weights[k] for k in self.kinds]), len(row))
        return ItemGraph(src, dst, weight, ids[row], self._features(row), name, faults.notes())

    def _keys(self, row_of: np.ndarray, n: int, faults: Faults) -> np.ndarray:
        """Return the int64 key of every relation between two of the ``n`` products.

        The key is (src · n + dst) · K + kind, where K is the number of kinds.
        """
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
            for fault, at in (("a related item that is not a product", b < 0), (_ITSELF, a == b)):
                lines = line_of[start[block][at]]
                if len(lines):
                    first = dict.fromkeys(lines[:_SAMPLE].tolist())
                    faults.add(fault, *first, count=len(lines), usable=fault == _ITSELF)
            kept = (b >= 0) & (a != b)
            a, b = a[kept], b[kept]
            pair = np.minimum(a, b).astype(np.int64) * n + np.maximum(a, b)
            coded = pair * len(self.kinds) + kind[block][kept]
            key[filled : filled + len(coded)] = coded
            filled += len(coded)
        return key[:filled]

    def _features(self, row: np.ndarray) -> Features | None:
        named = {"brand": self._brand.column(row, 1)}
        for depth, level in enumerate(self._levels, start=1):
            # A level on which all products agree carries no information.
            named[f"category_{depth}"] = level.column(row, 2)
        named["price"] = self._price.column(row, 1)
        columns: dict[str, Column] = {n: c for n, c in named.items() if c is not None}
        return Features(columns) if columns else None


def read(
    path: Path, weights: Mapping[str, float], *, strict: bool = False, name: str | None = None
) -> ItemGraph:
    """Read the products of a file as an item graph.

    The features are categories: ``brand``, ``category_1`` to ``category_4`` (the levels of the
    first category path) and ``price`` (as a range). A feature that no product has is left out, and
    so is a level on which all products agree. Products without a pair stay, as cold items.

    Args:
      weights: the weight of each kind of related item; kinds with weight 0 are not read.
      strict: refuse faults that are otherwise counted in the notes: lines that are not a product,
        that have no asin, or that have the asin of an earlier line; related items that are not
        products; and a file that ends early.
      name: the name of the graph; by default the file's name.

    Raises:
      InputError: there is no product at all, or (strict) there is a fault; the message names the
        line.
    """
    faults = Faults(path, strict)
    products = _Products(tuple(kind for kind, weight in weights.items() if weight > 0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # escapes such as \d cause it
        warnings.simplefilter("ignore", DeprecationWarning)
        for line, content in lines(path, faults):
            product = parse(content)
            if product is None:
                faults.add("not a product (a Python literal or a JSON object)", line)
            else:
                products.add(product, line, faults)
    if not len(products):
        if faults.first is None:
            raise InputError(f"{path}: empty; give a file with a product per line")
        raise InputError(f"{faults.first}; no line of the file is a product; give another file")
    return products.graph(weights, name or path.name.split(".")[0], faults)


def parse(content: bytes) -> dict[str, Any] | None:
    """Return the product that a line describes; None if it describes none. Evaluates no code."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    try:
        if '"' not in text and "\\" not in text:
            # Every ' delimits a text here, so replacing each by " makes the line JSON.
            product = _JSON.decode(text.replace("'", '"'))
        elif text.startswith('{"'):
            product = _JSON.decode(text)
        else:
            product = _JSON.decode(_TEXT.sub(_in_json, text))
    except _UNEVALUABLE:
        # Rarer forms (None, tuples, adjacent literals) need a parser that is ten times slower.
        try:
            product = ast.literal_eval(text)
        except _UNEVALUABLE:
            return None
    return product if isinstance(product, dict) else None


def _in_json(match: re.Match[str]) -> str:
    """Return a Python string literal as a JSON string."""
    text = match[0].lstrip("uU")
    if "\\" not in text:
        if text[0] == '"':
            return text
        if '"' not in text:
            return f'"{text[1:-1]}"'
    return json.dumps(ast.literal_eval(text))


def lines(path: Path, faults: Faults) -> Iterator[tuple[int, bytes]]:
    """Yield each line that is neither blank nor too long, with its number from 1."""
    number = 0
    with compressed.opened(path) as file:
        try:
            while content := file.readline(LONGEST_LINE):
                number += 1
                if len(content) == LONGEST_LINE and not content.endswith(b"\n"):
                    while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                        pass
                    faults.add(f"a line longer than {LONGEST_LINE} bytes", number)
                    continue
                content = content.removeprefix(b"\xef\xbb\xbf") if number == 1 else content
                content = content.strip()
                if content:
                    yield number, content
        except compressed.DAMAGED as e:
            if number == 0:
                raise compressed.damaged(path, e) from e
            faults.add("the file is damaged or ends early after this line", number)


def _merged(
    key: np.ndarray, weights: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the sorted unique pairs and the sums of their weights; overwrites ``key``."""
    key.sort()
    kind = np.empty(len(key), np.int8)
    for start in range(0, len(key), _BLOCK):  # working in blocks saves memory
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
    """Return the printable letters of a text, at most 100; empty if the value is not a text."""
    if not isinstance(value, str):
        return ""
    if not value.isprintable():
        value = "".join(letter for letter in value if letter.isprintable())
    return value.strip()[:_LONGEST_NAME].strip()


def _path(value: Any) -> list[str]:
    """Return the names of the first category path, from its root, up to the first empty name."""
    if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
        value = value[0]
    if not isinstance(value, list | tuple):
        return []
    names = [_name(part) for part in value[:_LEVELS]]
    return names[: names.index("")] if "" in names else names


def _price(value: Any) -> str:
    """Return the name of the range that a price is in; empty if the value is not a price."""
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

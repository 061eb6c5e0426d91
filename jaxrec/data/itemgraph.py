"""Weighted item pairs in memory and on disk, and their splits.

On disk, an item graph is a prepared folder (:mod:`jaxrec.data.prepared`) with one file per array.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrec.data import array_checks, prepared
from jaxrec.data.features import Features
from jaxrec.data.pair_keys import pair_keys, rows_of_keys, summed
from jaxrec.errors import InputError

FORMAT = "jaxrec item graph"
"""Format name of an ItemGraph in a prepared folder's manifest."""
_COLUMNS = ("src", "dst", "weight")
_SIDE = "item_features"


class Adjacency(NamedTuple):
    """The neighbours of each item: item i has ``indices[indptr[i]:indptr[i + 1]]``, ascending.

    Shapes, for I items and P unordered pairs: indptr [I + 1] int32, or int64 if 2P is 2^31 or more;
    indices [2P] int32; weight [2P] float32.
    """

    indptr: np.ndarray
    indices: np.ndarray
    weight: np.ndarray

    @property
    def degree(self) -> np.ndarray:
        """Number of neighbours of each item, [I]."""
        return np.diff(self.indptr)


@dataclass(frozen=True)
class ItemGraph:
    """P unordered pairs of I items. No pair is repeated, and no item is paired with itself.

    Attributes:
      src, dst: [P] int32 row numbers into the id table, src < dst, sorted by (src, dst).
      weight: [P] float32, positive.
      item_ids: [I] int64 or unicode; may include items without a pair (cold items).
      item_features: one row per id, or None.
      name: the name of the graph, for messages and reports.
      notes: counts of irregularities of the source: {"repeated pairs": 3, ...}.
      reading: one line per table that was read, with the role of each column.

    Ids may have any type that :func:`jaxrec.data.array_checks.id_table` accepts.

    Raises:
      InputError: an array is not as described here; :meth:`of_pairs` converts raw pairs.

    >>> import jaxrec
    >>> a, b, weight = np.array([0, 2, 1]), np.array([1, 1, 0]), np.array([1.0, 2.0, 3.0])
    >>> graph = jaxrec.ItemGraph.of_pairs(a, b, weight, np.array(["tea", "cup", "pot"]))
    >>> graph.n_items, graph.n_pairs, graph.weight.tolist()
    (3, 2, [4.0, 2.0])
    """

    src: np.ndarray
    dst: np.ndarray
    weight: np.ndarray
    item_ids: np.ndarray
    item_features: Features | None = None
    name: str = "items"
    notes: dict[str, int] = field(default_factory=dict)
    reading: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ids = array_checks.id_table(self.item_ids, f"{self.name}: item_ids")
        object.__setattr__(self, "item_ids", ids)
        fault = self._fault()
        if fault is not None:
            raise InputError(
                f"{self.name}: {fault}; ItemGraph.of_pairs takes pairs in any order, and sums "
                "repeated pairs"
            )
        for features in self.features().values():
            array_checks.check_features(features, self.n_items, f"{self.name}: {_SIDE}", "items")

    @classmethod
    def of_pairs(
        cls,
        a: np.ndarray,
        b: np.ndarray,
        weight: np.ndarray,
        item_ids: np.ndarray,
        **rest: Any,
    ) -> "ItemGraph":
        """Build a graph from pairs in any order. Pairs of an item with itself are dropped.

        The weights of repeated pairs, in either direction, are summed.

        Args:
          a, b: [n] row numbers into ``item_ids``.
          weight: [n] positive numbers.
          rest: other fields of the graph: ``item_features``, ``name``, ``notes``, ``reading``.

        Raises:
          InputError: a row number is outside the id table, a weight is not positive, or the columns
            have different lengths.
        """
        name = rest.get("name", "items")
        item_ids = array_checks.id_table(item_ids, f"{name}: item_ids")
        a = array_checks.rows(a, len(item_ids), f"{name}: a", "items")
        b = array_checks.rows(b, len(item_ids), f"{name}: b", "items", len(a))
        weight = array_checks.weights(weight, f"{name}: weight", len(a))
        low, high = np.minimum(a, b), np.maximum(a, b)
        key, total = summed(pair_keys(low, high, len(item_ids)), weight, low != high)
        src, dst = rows_of_keys(key, len(item_ids))
        columns = src.astype(np.int32), dst.astype(np.int32), total.astype(np.float32)
        return cls(*columns, item_ids, **rest)

    @property
    def n_items(self) -> int:
        return len(self.item_ids)

    @property
    def n_pairs(self) -> int:
        return len(self.src)

    def take(self, index: np.ndarray) -> "ItemGraph":
        """Return the pairs at ``index`` (a mask, or ascending numbers), with the same id table."""
        return replace(self, **{name: getattr(self, name)[index] for name in _COLUMNS})

    def keys(self) -> np.ndarray:
        """Return src · I + dst of each pair, ascending, [P] int64."""
        return pair_keys(self.src, self.dst, self.n_items)

    def degree(self) -> np.ndarray:
        """Return the number of pairs of each item, [I] int64."""
        n = self.n_items
        return np.bincount(self.src, minlength=n) + np.bincount(self.dst, minlength=n)

    def adjacency(self) -> Adjacency:
        """Return the symmetric graph, which has each pair in both directions."""
        from scipy import sparse

        n = self.n_items
        kind = np.int32 if 2 * self.n_pairs < 2**31 else np.int64
        indptr = np.append(0, np.cumsum(np.bincount(self.src, minlength=n))).astype(kind)
        upper = sparse.csr_array((self.weight, self.dst.astype(kind, copy=False), indptr), (n, n))
        both = upper + upper.T.tocsr()
        return Adjacency(both.indptr, both.indices.astype(np.int32, copy=False), both.data)

    def features(self) -> dict[str, Features]:
        """Return the side features by name, if the graph has any."""
        return {} if self.item_features is None else {_SIDE: self.item_features}

    def fingerprint(self) -> str:
        """Return the SHA-256 of the pairs, id table and features, as hexadecimal digits."""
        return prepared.fingerprint(self._arrays(), self.features())

    def _arrays(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in (*_COLUMNS, "item_ids")}

    def save(self, folder: str | Path) -> None:
        """Write the prepared folder, either whole or not at all.

        Raises:
          InputError: the folder exists and is not empty, or cannot be written.
        """
        manifest = {
            "format": FORMAT,
            "name": self.name,
            "items": self.n_items,
            "pairs": self.n_pairs,
            "notes": self.notes,
            "reading": self.reading,
        }
        prepared.save(folder, self._arrays(), self.features(), manifest)

    @classmethod
    def load(cls, folder: str | Path, *, verify: bool = False) -> "ItemGraph":
        """Open a prepared folder, with memory-mapped arrays.

        Args:
          verify: also read every array and compare the fingerprint.

        Raises:
          InputError: a file is missing, damaged or does not match the manifest.
        """
        folder = Path(folder)
        manifest = prepared.read_manifest(folder, FORMAT, ("items", "pairs"), (_SIDE,))
        arrays = {
            name: prepared.open_array(folder / f"{name}.npy") for name in (*_COLUMNS, "item_ids")
        }
        for name, array in arrays.items():
            if array.shape != (manifest["items" if name == "item_ids" else "pairs"],):
                raise prepared.mismatch(folder / f"{name}.npy")
        sides: dict[str, Any] = {}
        if _SIDE in manifest:
            found = prepared.load_features(folder, _SIDE, manifest[_SIDE], manifest["items"])
            sides[_SIDE] = found
        try:
            told = {name: manifest[name] for name in ("name", "notes")}
            graph = cls(**arrays, **sides, **told, reading=prepared.reading(manifest))
        except InputError as e:
            raise prepared.mismatch(folder / "src.npy") from e
        if verify and graph.fingerprint() != manifest["fingerprint"]:
            raise InputError(
                f"{folder}: its content differs from its fingerprint; import the data again"
            )
        return graph

    def _fault(self) -> str | None:
        """Describe the first violated property, or return None."""
        src, dst, weight = self.src, self.dst, self.weight
        if not all(isinstance(array, np.ndarray) for array in (src, dst, weight)):
            return "src, dst and weight must be NumPy arrays"
        if not src.shape == dst.shape == weight.shape == (len(src),):
            return "src, dst and weight are of different lengths"
        if not (src.dtype == dst.dtype == np.int32 and weight.dtype == np.float32):
            return "src and dst must be int32, and weight must be float32"
        if not len(src):
            return None
        if src.min() < 0 or dst.max() >= self.n_items:
            return "a row number is outside the id table"
        if not (src < dst).all():
            return "a pair is not in order (src < dst)"
        step = np.diff(src)
        if not ((step > 0) | ((step == 0) & (np.diff(dst) > 0))).all():
            return "pairs are not sorted, or a pair occurs twice"
        if not (weight.min() > 0 and np.isfinite(weight.max())):
            return "a weight is not a positive number"
        return None


class LabelledPairs(NamedTuple):
    """Item pairs with binary labels.

    Shapes: a_P, b_P [P] int32, a < b; label_P [P] bool, all true labels first.
    """

    a_P: np.ndarray
    b_P: np.ndarray
    label_P: np.ndarray

    @property
    def n_pairs(self) -> int:
        return len(self.label_P)


class PairSplits(NamedTuple):
    """A split of an item graph. ``train`` has all items; validation and test may have no pairs."""

    train: ItemGraph
    validation: LabelledPairs
    test: LabelledPairs

"""Read run folders, with clear errors for missing or damaged files."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from jaxrec.config import KINDS
from jaxrec.data.dataset import Csr
from jaxrec.errors import InputError
from jaxrec.files import check_path, parse_json, read_arrays

RUN_FILES = frozenset(
    {
        *("config.json", "env.json", "eval.json", "features.json", "slices.json"),
        *("metrics.jsonl", "timing.jsonl", "embeddings.npz", "parameters.npz", "seen.npz"),
        *("filter.npz", "auto.json", "per_user.parquet", "mlflow.db"),
        *("split.npz", "curves.npz", "report.html", "checkpoints", "tensorboard", "wandb", ".seen"),
    }
)
"""Names of all files that a run writes, except the lock and partial files."""


class Embeddings(NamedTuple):
    """Trained embeddings: ``score(u, i) = user[u] · item[i] + user_bias[u] + item_bias[i]``.

    Shapes: user [U, D] and item [I, D] float32 (unit rows if the model scores by the cosine);
    user_ids [U] and item_ids [I] unicode; user_bias [U] and item_bias [I] float32 or None.
    The parameters of a learned score are those of models.score.PairWeights with the prefix
    ``score_``. Rating models predict ``rating_mean + rating_scale · score``, clipped to
    rating_range [2], or use a decoder. The decoder's parameters are those of
    models.decoder.DecoderWeights with the prefix ``decoder_``; decoder_level_R holds the R ratings.

    Item models have no users; ``item`` holds the centre vectors, and item_context [I, D] the
    context vectors, if any.
    """

    user: np.ndarray
    item: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    user_bias: np.ndarray | None = None
    item_bias: np.ndarray | None = None
    item_context: np.ndarray | None = None
    score_product_D: np.ndarray | None = None
    score_user_DH: np.ndarray | None = None
    score_item_DH: np.ndarray | None = None
    score_bias_H: np.ndarray | None = None
    score_out_H: np.ndarray | None = None
    rating_mean: np.ndarray | None = None
    rating_scale: np.ndarray | None = None
    rating_range: np.ndarray | None = None
    decoder_basis_SDD: np.ndarray | None = None
    decoder_share_RS: np.ndarray | None = None
    decoder_level_R: np.ndarray | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by their names in ``embeddings.npz``."""
        return {name: a for name, a in self._asdict().items() if a is not None}


SWEEP = "sweep.json"
"""Name of the file with a sweep's settings, in the sweep's folder."""


def runs_of_sweep(folder: Path) -> list[Path]:
    """Return a sweep's run folders ``trial-N/seed-S`` or ``fold-N/seed-S``, sorted by N and S."""

    def numbers(run: Path) -> list[int]:
        return [int(name.rpartition("-")[2]) for name in (run.parent.name, run.name)]

    return sorted(folder.glob("*-[0-9]*/seed-[0-9]*"), key=numbers)


def check_run(run: str | Path) -> Path:
    """Return ``run`` as a path. Raises InputError if it is not a run folder."""
    check_path(run)
    run = Path(run)
    if not (run / "config.json").is_file():
        raise InputError(
            f"{run}: not a run folder (config.json is missing); `jaxrec train --run {run}` "
            "makes one"
        )
    return run


def _damaged(run: Path, name: str, fault: str) -> InputError:
    return InputError(
        f"{run / name}: {fault}; remove {run / 'embeddings.npz'}, and `jaxrec resume {run}` "
        "writes the results again"
    )


def _read_npz(run: Path, name: str, required: set[str]) -> dict[str, np.ndarray]:
    path = run / name
    if not path.is_file():
        raise InputError(
            f"{run}: the run has not finished ({name} is missing); `jaxrec resume {run}` "
            "finishes it"
        )
    try:
        arrays = read_arrays(path)
    except (OSError, ValueError) as e:
        raise _damaged(run, name, "damaged") from e
    if not isinstance(arrays, dict):
        raise _damaged(run, name, "a single array, not an .npz file")
    missing = required - arrays.keys()
    if missing:
        raise _damaged(run, name, f"{', '.join(sorted(missing))} missing")
    return arrays


def read_embeddings(run: str | Path) -> Embeddings:
    """Read the ``embeddings.npz`` of a finished run.

    Raises:
      InputError: ``run`` is no run folder, the run has not finished, or the file is damaged.
    """
    run = check_run(run)
    arrays = _read_npz(run, "embeddings.npz", {"user", "item", "user_ids", "item_ids"})
    table = Embeddings(**{name: arrays[name] for name in Embeddings._fields if name in arrays})
    for name, array, ndim, kind in (
        *((f"{side}_ids", arrays[f"{side}_ids"], 1, "U") for side in ("user", "item")),
        *((side, arrays[side], 2, "f") for side in ("user", "item")),
    ):
        if array.ndim != ndim or array.dtype.kind != kind:
            fault = f"{name} has {array.ndim} axes of type {array.dtype}"
            raise _damaged(run, "embeddings.npz", fault)
    n_users, n_items = len(table.user_ids), len(table.item_ids)
    expected = {"user": (n_users, table.user.shape[-1]), "item": (n_items, table.user.shape[-1])}
    expected |= {"item_context": expected["item"]}
    expected |= {"user_bias": (n_users,), "item_bias": (n_items,)}
    parts = {name for name in Embeddings._fields if name.startswith("score_")}
    if parts & arrays.keys() and parts - arrays.keys():
        lacks = ", ".join(sorted(parts - arrays.keys()))
        raise _damaged(run, "embeddings.npz", f"{lacks} missing")
    if table.score_bias_H is not None:
        dim, width = table.item.shape[-1], table.score_bias_H.shape[0]
        expected |= {"score_product_D": (dim,), "score_out_H": (width,)}
        expected |= {f"score_{side}_DH": (dim, width) for side in ("user", "item")}
    expected |= {"rating_mean": (), "rating_scale": (), "rating_range": (2,)}
    if table.decoder_level_R is not None:
        dim, n_levels = table.item.shape[-1], len(table.decoder_level_R)
        n_bases = 0 if table.decoder_basis_SDD is None else len(table.decoder_basis_SDD)
        expected |= {"decoder_basis_SDD": (n_bases, dim, dim)}
        expected |= {"decoder_share_RS": (n_levels, n_bases)}
    for name, array in table.arrays().items():
        if name in expected and array.shape != expected[name]:
            fault = f"{name} has shape {array.shape}, not {expected[name]}"
            raise _damaged(run, "embeddings.npz", fault)
    return table


def read_parameters(run: str | Path) -> dict[str, np.ndarray]:
    """Read the ``parameters.npz`` of a finished run: the model's parameters by path.

    Raises:
      InputError: ``run`` is no run folder, the run has not finished, or the file is damaged.
    """
    return _read_npz(check_run(run), "parameters.npz", set())


def read_filter(run: Path, n_users: int, n_items: int, dim: int) -> dict[str, np.ndarray] | None:
    """Read the arrays of a run's ``filter.npz``, or return None if its model is not a graph filter.

    Arrays have the names of :class:`jaxrec.graph.filters.Filter`.

    Raises:
      InputError: the file is missing or damaged, or does not fit embeddings.npz.
    """
    if not (run / "filter.npz").is_file():
        kind = KINDS.get(read_json(run / "config.json").get("model", {}).get("name", ""))
        if kind is None or not kind.fitted:
            return None
    shapes = dict.fromkeys(("user_U",), (n_users,))
    shapes |= dict.fromkeys(("item_I", "in_I", "out_I", "ratio_I"), (n_items,))
    shapes |= {"gain_D": (dim,), "indptr": (n_users + 1,)}
    arrays = _read_npz(run, "filter.npz", {*shapes, "coefficient_K", "indices"})
    blend = {
        "neighbour_user_U": (n_users,),
        "neighbour_item_I": (n_items,),
        "neighbour_blend": (2,),
    }
    optional = {"weight_E": arrays["indices"].shape, "weight_II": (n_items, n_items)}
    optional |= {"ease_weight": (1,)} | blend
    arrays = {
        n: x for n, x in arrays.items() if n in {*shapes, *optional, "coefficient_K", "indices"}
    }
    fits = _is_of(Csr(arrays["indptr"], arrays["indices"]), n_users, n_items) and all(
        arrays[name].shape == shape
        and arrays[name].dtype.kind == ("i" if name == "indptr" else "f")
        for name, shape in (shapes | optional).items()
        if name in arrays
    )
    coefficient_K = arrays["coefficient_K"]
    fits = fits and len(blend.keys() & arrays.keys()) in (0, len(blend))
    if not fits or coefficient_K.ndim != 1 or not len(coefficient_K):
        raise _damaged(run, "filter.npz", "does not fit embeddings.npz")
    return arrays


class Seen(NamedTuple):
    """The ``seen.npz`` of a run: the items of its users, and which vectors are trained.

    Attributes:
      known: items by user in train and validation.
      test: test items by user; None in runs of old versions.
      filtered: items by user in pairs that filters removed from all parts; None if there are none.
      user_U, item_I: bool, which users and items have a trained vector; None in runs of old
        versions.
    """

    known: Csr
    test: Csr | None = None
    filtered: Csr | None = None
    user_U: np.ndarray | None = None
    item_I: np.ndarray | None = None

    def learnt_users(self) -> np.ndarray:
        """Return which users have a trained vector, [U] bool; in old runs, those with any item."""
        return self.known.degree > 0 if self.user_U is None else self.user_U

    def learnt_items(self, n_items: int) -> np.ndarray:
        """Return which items have a trained vector, [I] bool; in old runs, those of any user."""
        return self.known.item_counts(n_items) > 0 if self.item_I is None else self.item_I


def seen_arrays(seen: Seen) -> dict[str, np.ndarray]:
    """Return the arrays of ``seen.npz`` by name, for :func:`read_seen`."""
    found = dict(seen.known._asdict())
    for name in ("test", "filtered"):
        part = getattr(seen, name)
        if part is not None:
            found |= {f"{name}_{column}": array for column, array in part._asdict().items()}
    learnt = {"learnt_user": seen.user_U, "learnt_item": seen.item_I}
    return found | {name: array for name, array in learnt.items() if array is not None}


def read_seen(run: str | Path, n_users: int, n_items: int) -> Seen:
    """Read the ``seen.npz`` of a finished run.

    Raises:
      InputError: ``run`` is no run folder, the run has not finished, or the file is damaged.
    """
    run = check_run(run)
    arrays = _read_npz(run, "seen.npz", {"indptr", "indices"})
    parts = {"known": Csr(arrays["indptr"], arrays["indices"])}
    for name in ("test", "filtered"):
        if f"{name}_indptr" in arrays and f"{name}_indices" in arrays:
            parts[name] = Csr(arrays[f"{name}_indptr"], arrays[f"{name}_indices"])
    learnt = arrays.get("learnt_user"), arrays.get("learnt_item")
    fits = all(_is_of(part, n_users, n_items) for part in parts.values()) and all(
        mask is None or (mask.shape == (n,) and mask.dtype == bool)
        for mask, n in zip(learnt, (n_users, n_items), strict=True)
    )
    if not fits:
        raise _damaged(run, "seen.npz", "does not fit embeddings.npz")
    return Seen(**parts, user_U=learnt[0], item_I=learnt[1])


def _is_of(part: Csr, n_users: int, n_items: int) -> bool:
    """Return whether ``part`` is a valid items-by-user matrix of this size."""
    return bool(
        all(array.ndim == 1 and array.dtype.kind == "i" for array in part)
        and len(part.indptr) == n_users + 1
        and part.indptr[0] == 0
        and (part.degree >= 0).all()
        and part.indptr[-1] == len(part.indices)
        and (len(part.indices) == 0 or 0 <= part.indices.min() <= part.indices.max() < n_items)
    )


def read_curves(run: Path) -> dict[str, np.ndarray]:
    """Read the ``curves.npz`` of an item model's run; the result is empty without the file.

    Raises:
      InputError: the file is damaged.
    """
    if not (run / "curves.npz").is_file():
        return {}
    names = {f"roc_{part}" for part in ("fpr", "tpr", "threshold")}
    names |= {f"pr_{part}" for part in ("recall", "precision", "threshold")}
    return _read_npz(run, "curves.npz", names)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; the result is empty if the file does not exist.

    Raises:
      InputError: the file cannot be read, or holds something other than a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise InputError(f"{path}: not a JSON file ({e}); fix or remove it") from e
    if not isinstance(value, dict):
        raise InputError(f"{path}: must be a JSON object; fix or remove it")
    return value


def read_start(run: Path) -> list[dict[str, Any]]:
    """Read a run's warm start from its env.json; the result is empty without a warm start.

    Raises:
      InputError: the records are invalid.
    """
    start = read_json(run / "env.json").get("start", [])

    def sound(of: Any) -> bool:
        sides = [of[side] for side in ("users", "items") if side in of]
        counts = [side[name] for side in sides for name in ("kept", "of", "new")]
        texts = [of["run"], of["as"], of["split"], of.get("reason", "")]
        if "trained" in of:
            counts += [number for pair in of["trained"].values() for number in (pair[0], pair[1])]
            counts += [of["whole"], of["sure"]]
        texts += [side.get(name, "") for side in sides for name in ("there", "here")]
        return all(isinstance(n, int) for n in counts) and all(isinstance(t, str) for t in texts)

    try:
        fits = isinstance(start, list) and all(map(sound, start))
    except (AttributeError, IndexError, KeyError, TypeError):
        fits = False
    if not fits:
        raise InputError(
            f"{run / 'env.json'}: `start` is invalid; copy the file again, or remove `start` "
            "from it"
        )
    return start


def read_lines(path: Path, size: int | None = None) -> list[dict[str, Any]]:
    """Read the records of a JSON-lines file; the result is empty if the file does not exist.

    An incomplete last line of a killed run is ignored. If ``size`` is given, anything beyond
    ``size`` bytes is ignored too.

    Raises:
      InputError: a complete line is not a JSON object.
    """
    if not path.is_file():
        return []
    records = []
    lines = path.read_bytes()[:size].decode("utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = parse_json(line)
        except ValueError as e:
            raise InputError(f"{path}:{number}: not a JSON record; drop the line") from e
        if not isinstance(record, dict):
            raise InputError(f"{path}:{number}: not a JSON object; drop the line")
        records.append(record)
    return records


def read_metrics(path: Path, size: int | None = None) -> list[dict[str, Any]]:
    """Read the records of a metrics.jsonl as :func:`read_lines` does, and check them.

    Raises:
      InputError: a line lacks step or split, or a value is not a number.
    """
    records = read_lines(path, size)
    for number, record in enumerate(records, start=1):
        odd = [name for name in ("step", "split") if name not in record]
        odd += [
            name
            for name, value in record.items()
            if not isinstance(value, str if name in _TEXTS else int | float | None)
            or (name == "step" and type(value) is not int)
        ]
        if odd:
            raise InputError(f"{path}:{number}: not a record of a step ({odd[0]}); drop the line")
    return records


_TEXTS = ("split", "phase")


@runtime_checkable
class Fingerprinted(Protocol):
    """Data that has a fingerprint."""

    def fingerprint(self) -> str: ...


def check_data(run: Path, data: Fingerprinted) -> None:
    """Check that the data is the same as at the start of the run.

    Raises:
      InputError: the fingerprint of the data differs from the one in env.json.
    """
    began = read_json(run / "env.json").get("fingerprint")
    if began is not None and began != data.fingerprint():
        raise InputError(
            f"{run}: the data differs from this run's data (by its fingerprint); "
            "give the same data, or start a new run"
        )

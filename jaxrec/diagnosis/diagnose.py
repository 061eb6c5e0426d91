"""Diagnoses run folders, and files of embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec import config as configs
from jaxrec import fork_check
from jaxrec.data import array_checks
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import resolve
from jaxrec.data.saved_split import told
from jaxrec.diagnosis import causes, measures, sample_measures
from jaxrec.diagnosis.finding import Finding
from jaxrec.diagnosis.history import Course
from jaxrec.diagnosis.rules import findings
from jaxrec.diagnosis.sample import of_data, of_rows
from jaxrec.errors import InputError
from jaxrec.evaluation.filter_scorer import run_scorer
from jaxrec.evaluation.scorers import dot_scorer
from jaxrec.files import read_arrays
from jaxrec.runfolder import check_run, read_embeddings, read_metrics, read_start


@dataclass(frozen=True)
class Diagnosis:
    """The findings on a run or on embeddings, with the newest figures, which are the evidence.

    Attributes:
      of: name of the diagnosed run or file.
      findings: the likeliest cause first; empty if healthy.
      figures: newest value of each figure, by name.
      course: the records from which the figures come.
      notes: further remarks for the reader.
    """

    of: str
    findings: list[Finding]
    figures: dict[str, float]
    course: Course
    notes: list[str] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether there are no findings."""
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        found = [finding.to_dict() for finding in self.findings]
        return {
            "of": self.of,
            "healthy": self.healthy,
            "findings": found,
            "figures": self.figures,
            "notes": self.notes,
        }


def _diagnosis(of: str, course: Course) -> Diagnosis:
    return Diagnosis(of, findings(course), course.figures, course)


def of_records(
    of: str,
    config: configs.Config,
    records: list[dict[str, Any]],
    start: Sequence[dict[str, Any]] = (),
) -> Diagnosis:
    """Diagnose the last phase of a run from the records in metrics.jsonl.

    ``start`` has the sources of the run's warm start, from env.json.
    """
    phases = [r["phase"] for r in records if r.get("split") == "doctor" and "phase" in r]
    of_last = [r for r in records if phases and r.get("phase") == phases[-1]]
    return _started(_diagnosis(of, Course(config, of_last)), start)


def _started(diagnosis: Diagnosis, start: Sequence[dict[str, Any]]) -> Diagnosis:
    """Add to a diagnosis the finding and the notes about the run's warm start."""
    known = causes.known_test(start)
    found = diagnosis.findings if known is None else [known, *diagnosis.findings]
    return replace(diagnosis, findings=found, notes=told(start))


def diagnose(path: str | Path, data: str | Path | None = None) -> Diagnosis:
    """Diagnose a run (finished, failed or running), or a file of embeddings.

    Args:
      path: a run folder; or a file with arrays ``user`` [U, D] and ``item`` [I, D] (.npz), or with
        one matrix (.npz, .npy).
      data: train data of the embeddings, in any form that ``--data`` takes. Rows are matched to the
        data by the arrays ``user_ids`` and ``item_ids`` in the file, or by row number if the file
        has no such arrays.

    Raises:
      InputError: the path does not exist or has nothing to diagnose, or ids do not match.

    >>> import jaxrec
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(50, 8))
    >>> np.savez("collapsed.npz", user=np.ones((40, 8)), item=np.ones((50, 8)))
    >>> np.savez("spread.npz", user=rows[:40], item=rows)
    >>> jaxrec.doctor("collapsed.npz").healthy, jaxrec.doctor("spread.npz").healthy
    (False, True)
    """
    array_checks.refuse_foreign(data)
    fork_check.check()
    path = Path(path)
    if path.is_dir():
        if data is not None:
            raise InputError(
                f"{path}: --data is for files of embeddings, but a run has its own data; leave "
                "--data out"
            )
        return _of_run(check_run(path))
    if not path.exists():
        raise InputError(f"{path}: no such file; name a run folder or embeddings (.npz, .npy)")
    return _of_file(path, data)


def _of_run(run: Path) -> Diagnosis:
    config = configs.load(run / "config.json")
    start = read_start(run)
    records = read_metrics(run / "metrics.jsonl")
    if any(r.get("split") == "doctor" for r in records):
        return of_records(str(run), config, records, start)
    if not (run / "embeddings.npz").is_file():
        raise InputError(
            f"{run}: there is nothing to diagnose yet; `jaxrec resume {run}` continues the run"
        )
    # The doctor did not watch this run, but the run's embeddings can still be measured.
    table = read_embeddings(run)
    if len(table.user) == 0:  # an item model; no rule judges its loss
        rows = {"item": table.item[_spread(len(table.item))]}
        measured = measures.finite(measures.sides(rows)) | {"split": "doctor"}
        return _started(_diagnosis(str(run), Course(None, [measured])), start)
    found = sample_measures.measured(
        run_scorer(run, table), of_rows(len(table.user), len(table.item))
    )
    measured = measures.finite(found.figures) | {"split": "doctor"}
    return _started(_diagnosis(str(run), Course(config, [*records, measured])), start)


def _spread(n: int) -> np.ndarray:
    """Pick at most 256 of ``n`` rows, evenly spaced."""
    return np.linspace(0, n - 1, min(n, 256)).astype(np.int64)


def _of_file(path: Path, data: str | Path | None) -> Diagnosis:
    arrays = _arrays(path)
    tables = {n: _matrix(path, n, arrays[n]) for n in ("user", "item") if n in arrays}
    if not tables:
        matrices = {n: x for n, x in arrays.items() if x.ndim == 2 and x.dtype.kind in "fiu"}
        if len(matrices) != 1:
            raise InputError(
                f"{path}: holds neither arrays `user` and `item` nor exactly one matrix; "
                f"found {', '.join(sorted(arrays)) or 'nothing'}"
            )
        ((name, matrix),) = matrices.items()
        tables = {"item": _matrix(path, name, matrix)}
    if any(not np.isfinite(x).all() for x in tables.values()):
        bad = {f"{n}_not_finite": float((~np.isfinite(x)).sum()) for n, x in tables.items()}
        record = {"split": "doctor", "not_finite": sum(bad.values())}
        return _diagnosis(str(path), Course(None, [record]))
    if len(tables) == 2:
        user, item = tables["user"], tables["item"]
        if user.shape[1] != item.shape[1]:
            raise InputError(
                f"{path}: user has {user.shape[1]} columns and item {item.shape[1]}; "
                "their products are the scores, so both need the same width"
            )
        return _of_tables(path, arrays, user, item, data)
    if data is not None:
        raise InputError(f"{path}: --data needs both `user` and `item` in the file")
    rows = {n: x[_spread(len(x))] for n, x in tables.items()}
    return _diagnosis(
        str(path), Course(None, [measures.finite(measures.sides(rows)) | {"split": "doctor"}])
    )


def _of_tables(
    path: Path, arrays: dict[str, np.ndarray], user: np.ndarray, item: np.ndarray, data: Any
) -> Diagnosis:
    facts: dict[str, float] = {"parameters": float(user.size + item.size)}
    sample = of_rows(len(user), len(item))
    if data is not None:
        known = _in_rows(path, arrays, resolve(str(data)), len(user), len(item))
        facts["observations"] = float(known.n_edges)
        sample = of_data(known, None)
        if known.rating is not None:
            facts["rating_mean"] = float(known.rating.mean(dtype=np.float64))
            facts["rating_sd"] = float(known.rating.std(dtype=np.float64))
    biases = {
        f"{n}_bias_{letter}": arrays[f"{n}_bias"]
        for n, letter in (("user", "U"), ("item", "I"))
        if f"{n}_bias" in arrays
    }
    found = sample_measures.measured(dot_scorer(user, item, **biases), sample)
    figures = measures.finite(found.figures) | facts
    figures |= measures.carried(figures)
    return _diagnosis(str(path), Course(None, [figures | {"split": "doctor"}]))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        stored = read_arrays(path)
        return {"matrix": stored} if isinstance(stored, np.ndarray) else stored
    except (OSError, ValueError) as e:
        raise InputError(
            f"{path}: not a NumPy file of plain arrays (.npz, .npy); np.savez writes one"
        ) from e


def _matrix(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """Convert to float32. Raises InputError unless the array is a matrix of two or more rows."""
    if array.ndim != 2 or array.dtype.kind not in "fiu" or 0 in array.shape:
        raise InputError(
            f"{path}: {name} has shape {array.shape} and type {array.dtype}; "
            "it must be a matrix of numbers, with one row per user or item"
        )
    if len(array) < 2:
        raise InputError(f"{path}: {name} has one row; at least two are needed")
    return array.astype(np.float32)


def _in_rows(
    path: Path, arrays: dict[str, np.ndarray], data: Dataset, n_users: int, n_items: int
) -> Dataset:
    """Renumber users and items by the rows of the file; drop pairs with ids that the file lacks."""
    columns, kept = {}, np.ones(data.n_edges, bool)
    for side, n_rows in (("user", n_users), ("item", n_items)):
        own, column = getattr(data, f"{side}_ids"), getattr(data, side)
        ids = arrays.get(f"{side}_ids")
        if ids is None:
            if len(own) != n_rows:
                raise InputError(
                    f"{path}: {side} has {n_rows} rows, but {data.name} has {len(own)} {side}s; "
                    f"store {side}_ids in the file, or give the data on which the rows were trained"
                )
            columns[side] = column
            continue
        if ids.shape != (n_rows,):
            raise InputError(
                f"{path}: {side}_ids has shape {ids.shape}, but {side} has {n_rows} rows"
            )
        row = {name: r for r, name in enumerate(ids.astype(str).tolist())}
        row_n = np.array([row.get(name, -1) for name in np.asarray(own).astype(str).tolist()])
        columns[side] = row_n[column]
        kept &= columns[side] >= 0
    if not kept.any():
        raise InputError(
            f"{path}: give the data on which the rows were trained; the file lacks the user or the "
            f"item of every pair in {data.name}"
        )
    rows = {side: column[kept].astype(np.int32) for side, column in columns.items()}
    ids = {"user_ids": np.arange(n_users), "item_ids": np.arange(n_items)}
    bare = replace(data.take(kept), user_features=None, item_features=None)
    return replace(bare, **rows, **ids)

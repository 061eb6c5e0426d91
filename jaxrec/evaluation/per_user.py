"""Writes and reads RUN/per_user.parquet: the metrics of each user, for tests between runs."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrec.errors import InputError
from jaxrec.evaluation import metrics
from jaxrec.evaluation.ranking import Lists
from jaxrec.files import replacing

NAME = "per_user.parquet"


# ``names`` is part of the cache key, so registering a metric leads to a new compilation.
@cache
def _judged(ks: tuple[int, ...], names: tuple[str, ...]) -> Callable[..., dict[str, jax.Array]]:
    return jax.jit(partial(metrics.per_user, ks=ks))


def of_lists(lists: Lists, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """Compute every metric of each ranked user; return float32 [n] by name and cut-off."""
    judged = _judged(tuple(ks), metrics.names())
    return jax.device_get(judged(lists.hit_nK, lists.relevant_n.astype(np.int32)))


def write(run: Path, split: str, lists: Lists, user_ids: np.ndarray, ks: Sequence[int]) -> None:
    """Write RUN/per_user.parquet with one row per ranked user.

    The columns are user, relevant (number of held-out items) and each metric.

    Raises:
      InputError: the file cannot be written.
    """
    import polars as pl

    columns: dict[str, Any] = {
        "user": np.asarray(user_ids).astype(str)[lists.user_n],
        "relevant": lists.relevant_n.astype(np.int32),
    }
    frame = pl.DataFrame(columns | of_lists(lists, ks))
    with replacing(run / NAME) as partial_file:
        frame.write_parquet(partial_file, metadata={"split": split})


def read(run: Path) -> tuple[str, Any]:
    """Read RUN/per_user.parquet; return the name of the split, and the table (polars).

    Raises:
      InputError: the file is missing or damaged.
    """
    import polars as pl

    path = run / NAME
    if not path.is_file():
        raise InputError(
            f"{path}: is missing; `jaxrec evaluate {run} --per-user` writes it for a finished run"
        )
    try:
        return pl.read_parquet_metadata(path).get("split", "test"), pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as e:
        raise InputError(
            f"{path}: is damaged; `jaxrec evaluate {run} --per-user` writes it again"
        ) from e

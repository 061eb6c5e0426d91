"""Plant faults in the package, and check that the tests named for them fail.

    python tests/mutants.py [NUMBER ...]

Each mutant replaces one piece of source text in a copy of the repository and runs the tests that
must notice it. A mutant survives if these tests pass; the script then ends with status 1. It takes
some minutes, so pytest does not run it; ``test_mutants.py`` checks that each mutant still fits the
source and names tests that exist.
"""

import importlib
import os
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("flax.nnx", "hypothesis", "matplotlib.figure", "optax", "orbax.checkpoint", "polars")
"""Packages to import once, before the tests of each mutant run in a fork."""
TOLD = "told.txt"
"""The file for the output of pytest, in the copy of the repository."""
PARTS = ("jaxrec", "tests", "scripts", "bench", "pyproject.toml", "README.md")


class Mutant(NamedTuple):
    """A fault: ``old``, which occurs once in the file, becomes ``new``.

    Attributes:
      file: path of the source file in the package.
      killers: tests of which at least one must fail, as a file, or a file and a function.
    """

    file: str
    old: str
    new: str
    killers: tuple[str, ...]


MUTANTS = (
    # Masks and ties of evaluation.
    Mutant(
        "evaluation/topk.py",
        "score_BI = jnp.where(allowed_I, score_BI, -jnp.inf)",
        "score_BI = jnp.where(allowed_I, score_BI, 0.0)",
        ("evaluation/test_ranking.py::test_only_allowed_items_are_ranked",),
    ),
    Mutant(
        "evaluation/topk.py",
        'return jnp.searchsorted(seen.indptr_, m, side="right")',
        'return jnp.searchsorted(seen.indptr_, m, side="left")',
        ("evaluation/test_ranking.py::test_equals_the_oracle",),
    ),
    Mutant(
        "evaluation/topk.py",
        "counts_T = first + place_T >= begin",
        "counts_T = first + place_T >= first",
        ("evaluation/test_topk.py",),
    ),
    Mutant(
        "evaluation/topk.py",
        "both_B2K = jnp.concatenate([best.score_BK, score_BK], axis=1)\n"
        "    item_B2K = jnp.concatenate([best.item_BK, first + place_BK], axis=1)",
        "both_B2K = jnp.concatenate([score_BK, best.score_BK], axis=1)\n"
        "    item_B2K = jnp.concatenate([first + place_BK, best.item_BK], axis=1)",
        ("evaluation/test_topk.py::test_tiles_of_items_give_the_same_lists_to_the_last_tie",),
    ),
    Mutant(
        "evaluation/topk.py",
        "nan_users += int(nan_B[:here].sum())",
        "nan_users += int(nan_B.sum())",
        ("evaluation/test_topk.py::test_nan_is_named_and_padding_is_not_counted",),
    ),
    Mutant(
        "evaluation/ranking.py",
        "listed_BK = counted_B[:, None] & (ranked.item_BK >= 0)",
        "listed_BK = ranked.item_BK >= 0",
        ("evaluation/test_ranking.py",),
    ),
    Mutant(
        "evaluation/ranking.py",
        "nan_users = (ranked.nan_B & counted_B).sum(dtype=jnp.int32)",
        "nan_users = ranked.nan_B.sum(dtype=jnp.int32)",
        ("evaluation/test_ranking.py",),
    ),
    # Ties and rounding of splits.
    Mutant(
        "data/split.py",
        "rows = rows[np.lexsort((chance, data.time[rows]))]",
        'rows = rows[np.argsort(data.time[rows], kind="stable")]',
        ("data/test_split.py::test_of_equal_times_a_filter_takes_any_and_always_the_same",),
    ),
    Mutant(
        "data/split.py",
        "labels.by_time(seed if kept is None else kept.seed)",
        "labels.by_time(seed)",
        ("data/test_split.py",),
    ),
    Mutant(
        "data/split.py",
        "np.minimum(np.floor(pool_U * share + 0.5), pool_U - 1)",
        "np.minimum(np.floor(pool_U * share), pool_U - 1)",
        ("data/test_split.py",),
    ),
    Mutant(
        "data/split.py",
        "merged = data.take(order[last])",
        "merged = data.take(order[first])",
        ("data/test_split.py::test_other_splits_take_what_given_parts_repeat_once",),
    ),
    Mutant(
        "data/split.py",
        "(left == 1) & (degree >= 3)",
        "(left == 1) & (degree >= 2)",
        ("data/test_split.py::test_leave_last_out_takes_the_last_and_the_last_but_one",),
    ),
    # The stored split.
    Mutant(
        "data/saved_split.py",
        "key_P[at] |= np.uint64(_TRAINED)",
        "key_P[at] |= np.uint64(0)",
        ("data/test_saved_split.py",),
    ),
    Mutant(
        "data/saved_split.py",
        "trained_E |= part_E == VALIDATION",
        "trained_E |= part_E != TRAIN",
        ("training/test_start_leaks.py::test_what_a_refit_trained_on_is_counted_among_validation",),
    ),
    Mutant(
        "data/saved_split.py",
        "return pair_hashes(np.minimum(a, b), np.maximum(a, b))",
        "return pair_hashes(a, b)",
        ("data/test_saved_split.py",),
    ),
    Mutant(
        "data/saved_split.py",
        "part[again] = data.split[again]",
        "part[again] = part[again]",
        (
            "training/test_start_leaks.py"
            "::test_what_people_have_again_is_ranked_where_it_is_asked_for",
        ),
    ),
    # Limits of the server.
    Mutant(
        "serving/middleware.py",
        "int(length) > self._limits.body",
        "int(length) >= self._limits.body",
        ("serving/test_app.py::test_limits_of_requests",),
    ),
    Mutant(
        "serving/middleware.py",
        "size += len(parts[-1])",
        "size = len(parts[-1])",
        ("serving/test_app.py::test_limits_of_requests",),
    ),
    Mutant(
        "serving/app.py",
        "Field(min_length=1, max_length=limits.batch)",
        "Field(min_length=1, max_length=limits.batch + 1)",
        ("serving/test_app.py::test_limits_of_requests",),
    ),
    Mutant(
        "serving/batching.py",
        "if len(self._waiting) >= self._most:",
        "if len(self._waiting) > self._most:",
        ("serving/test_app.py::test_queries_beyond_the_limit_are_turned_away",),
    ),
    Mutant(
        "serving/loaded_run.py",
        "self._filters.popitem(last=False)",
        "self._filters.popitem(last=True)",
        ("serving/test_app.py::test_more_filters_than_are_kept_are_answered_alike",),
    ),
    # Filters of pairs, and graph filters.
    Mutant(
        "data/split.py",
        "keep &= data.time < config.until",
        "keep &= data.time <= config.until",
        ("data/test_split.py::test_filters_by_time_activity_and_cores_of_each_side",),
    ),
    Mutant(
        "data/split.py",
        'method="lower"',
        'method="higher"',
        ("data/test_split.py::test_filters_by_time_activity_and_cores_of_each_side",),
    ),
    Mutant(
        "training/filters.py",
        "return fitted._replace(weight_II=weight_II, weight_E=None)",
        "return fitted._replace(weight_II=weight_II)",
        (
            "training/test_filters.py"
            "::test_ease_leaves_the_weights_of_pairs_out_and_other_filters_do_not",
        ),
    ),
    # Batches of a sweep.
    Mutant(
        "sweep.py",
        "count = min(self.batch, trials - (len(begun) - waiting))",
        "count = self.batch * (trials > len(begun) - waiting)",
        ("test_sweep.py::test_a_batch_does_not_exceed_the_number_of_trials_asked_for",),
    ),
    Mutant(
        "sweep.py",
        "other.params == trial.params and other.state != TrialState.FAIL",
        "other.params == trial.params",
        ("test_sweep.py::test_values_whose_trial_failed_are_tried_again",),
    ),
    Mutant(
        "training/together.py",
        "return stepper.step(state, data._replace(key=inputs.key))",
        "return stepper.step(state, data)",
        ("training/test_together.py",),
    ),
    # Readers.
    Mutant(
        "data/times.py",
        'pl.when(sign == "-").then(-60).otherwise(60)',
        'pl.when(sign == "+").then(-60).otherwise(60)',
        ("data/test_times.py",),
    ),
    Mutant(
        "data/formats/lightgcn.py",
        "lone_users=users.filter(pl.Series(length[length > 0] == 1))",
        "lone_users=users.filter(pl.Series(length[length > 0] == 0))",
        ("data/formats/test_lightgcn.py::test_lone_users_of_an_unsplit_file_stay",),
    ),
    Mutant(
        "data/formats/text.py",
        'line = lines + chunk[: chunk.index(b"\\0")].count(b"\\n") + 1',
        'line = chunk[: chunk.index(b"\\0")].count(b"\\n") + 1',
        ("data/formats/test_tables.py::test_a_nul_byte_far_below_names_its_line",),
    ),
)


def is_killed(mutant: Mutant, folder: Path) -> bool:
    """Run the killers of a mutant in a copy of the repository; return whether one fails.

    Raises:
      RuntimeError: pytest ended for another reason than a failing test.
    """
    source = folder / "jaxrec" / mutant.file
    sound = source.read_text()
    if sound.count(mutant.old) != 1:
        raise RuntimeError(f"{mutant.file} has {mutant.old!r} {sound.count(mutant.old)} times")
    source.write_text(sound.replace(mutant.old, mutant.new))
    try:
        status = run(mutant.killers, folder)
    finally:
        source.write_text(sound)
    if status not in (0, 1):
        raise RuntimeError(f"pytest ended with status {status} at {mutant}")
    return status == 1


def run(tests: Sequence[str], folder: Path) -> int:
    """Run tests of the copy of the repository in ``folder``; return the status of pytest.

    The tests run in a fork of this process, which has imported most packages before.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 70  # unless pytest returns another
    try:
        told = os.open(folder / TOLD, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(told, 1)
        os.dup2(told, 2)
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        options = ["-n0", "-x", "-q", "-m", "", "-p", "no:cacheprovider"]
        options += [f"--basetemp={folder / 'made'}"]
        # Modules that were imported before are not rewritten, of which pytest would warn.
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        status = int(pytest.main([*options, *(str(folder / "tests" / test) for test in tests)]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)  # the child must not go on as the parent


def main(chosen: Sequence[int]) -> int:
    """Try the mutants with the given numbers, or all; return how many survive."""
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # JAX has no threads yet
    survivors = 0
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "jaxrec"
        folder.mkdir()
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{made}/programs")
        for package in ("conftest", *PACKAGES):
            importlib.import_module(package)
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copyfile
            copy(ROOT / part, folder / part)
        numbers = chosen or range(len(MUTANTS))
        killers = {test for number in numbers for test in MUTANTS[number].killers}
        if run(sorted(killers), folder):
            print((folder / TOLD).read_text())
            raise RuntimeError("the tests fail without a mutant")
        for number in numbers:
            mutant = MUTANTS[number]
            killed = is_killed(mutant, folder)
            survivors += not killed
            said = "killed" if killed else "SURVIVED"
            print(f"{number:2} {said:8} {mutant.file}: {mutant.new}", flush=True)
    return survivors


if __name__ == "__main__":
    sys.exit(main([int(number) for number in sys.argv[1:]]) > 0)

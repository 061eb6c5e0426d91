"""Group runs by configuration over seeds and folds, and test whether the groups differ."""

import hashlib
import itertools
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec import significance
from jaxrec.config import FOLDED, lower_is_better
from jaxrec.data import saved_split
from jaxrec.errors import InputError, nearest
from jaxrec.evaluation import per_user
from jaxrec.reporting.run_records import Run, flatten
from jaxrec.runfolder import SWEEP, runs_of_sweep

_APART = (
    *("data", "seed", "preset", "mesh.", "log.", "checkpoint.", "eval.block"),
    *("split.seed", "split.fold"),
)
"""Prefixes of fields that may differ within a group: seeds, folds, and fields that do not affect
the result. ``split.fold`` is also a prefix of ``split.folds``, the number of folds, but
:func:`check_comparable` requires that number to be equal in all compared runs."""
SUMMARY = ("mean", "sd", "min", "max")
_PAIRS = np.uint64(0xFFFFFFFFFFFFFFFB)  # a mask that clears the key's bit for "trained on"


@dataclass(frozen=True)
class Group:
    """Runs of one configuration with several seeds, or in several folds.

    Attributes:
      label: name in tables, with the fields that differ from other groups.
      runs: the runs in the order of their folds and seeds.
    """

    label: str
    runs: tuple[Run, ...]

    @property
    def folds(self) -> dict[int | None, list[Run]]:
        """The runs of each fold or window; runs of splits without folds are under None."""
        return {n: list(runs) for n, runs in itertools.groupby(self.runs, fold_of)}

    @property
    def over(self) -> str:
        """What the values vary over: "folds" if there are several folds, else "seeds"."""
        return "folds" if len(self.folds) > 1 else "seeds"

    def values(self, split: str, metric: str) -> list[float]:
        """Return the metric's value for each seed, or for each fold the mean over its seeds.

        Runs without the metric are left out.
        """
        by_fold = [
            [value for run in runs if (value := _value(run, split, metric)) is not None]
            for runs in self.folds.values()
        ]
        if self.over == "seeds":
            return by_fold[0]
        return [statistics.fmean(values) for values in by_fold if values]

    def mean(self, split: str, metric: str) -> float | None:
        values = self.values(split, metric)
        return statistics.fmean(values) if values else None

    def spread(self, split: str, metric: str) -> float | None:
        """Return the standard deviation over seeds or folds, or None if there is only one value."""
        values = self.values(split, metric)
        return statistics.stdev(values) if len(values) > 1 else None

    def summary(self, split: str, metric: str) -> dict[str, float | None]:
        """Return mean, standard deviation, lowest and highest value, by the names in SUMMARY."""
        values = self.values(split, metric)
        ends = (min(values), max(values)) if values else (None, None)
        numbers = (self.mean(split, metric), self.spread(split, metric), *ends)
        return dict(zip(SUMMARY, numbers, strict=True))


def fold_of(run: Run) -> int | None:
    """Return the fold or window of a run; None for splits without folds."""
    section = run.config.get("split", {})
    return section.get("fold", 0) if section.get("name") in FOLDED else None


def _value(run: Run, split: str, metric: str) -> float | None:
    return run.results.get(split, {}).get("metrics", {}).get(metric)


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Group runs by configuration, in the order of first appearance.

    Raises:
      InputError: two runs have the same configuration, fold and seed, or a group lacks a fold that
        another has.
    """
    kinds: dict[str, list[Run]] = {}
    for run in runs:
        kinds.setdefault(json.dumps(_kind(run), sort_keys=True), []).append(run)
    for same in kinds.values():
        same.sort(key=_fold_and_seed)
        for a, b in itertools.pairwise(same):
            if _fold_and_seed(a) == _fold_and_seed(b):
                raise InputError(
                    f"{a.label} and {b.label} have the same configuration and seed; name only one"
                )
    labels = _labels([json.loads(kind) for kind in kinds], list(kinds.values()))
    groups = [Group(label, tuple(same)) for label, same in zip(labels, kinds.values(), strict=True)]
    for group in groups[1:]:
        only = sorted(group.folds.keys() ^ groups[0].folds.keys(), key=str)
        if only:
            raise InputError(
                f"{groups[0].label} and {group.label} cannot be compared: only one of them has "
                f"fold {only[0]}; name runs of the same folds for both"
            )
    return groups


def _fold_and_seed(run: Run) -> tuple[int, int]:
    return fold_of(run) or 0, run.config.get("seed", 0)


def _kind(run: Run) -> dict[str, str | None]:
    return {n: value for n, value in flatten(run.config).items() if not n.startswith(_APART)}


def _labels(kinds: list[dict[str, str | None]], runs: list[list[Run]]) -> list[str]:
    """Label groups by their presets, with up to three differing fields if presets are equal.

    If two labels would be equal, label each group by its first run instead.
    """
    presets = [group[0].preset for group in runs]
    if len(set(presets)) == len(presets):
        return presets
    fields = dict.fromkeys(name for kind in kinds for name in kind)
    differ = [name for name in fields if len({kind.get(name) for kind in kinds}) > 1]
    labels = []
    for kind, group in zip(kinds, runs, strict=True):
        shown = ", ".join(f"{name} {kind.get(name)}" for name in differ[:3])
        labels.append(f"{group[0].preset} ({shown})" if shown else group[0].preset)
    if len(set(labels)) < len(labels):
        return [group[0].label for group in runs]
    return labels


def check_comparable(runs: Sequence[Run]) -> None:
    """Raise InputError unless all runs used the same held-out pairs and evaluation protocol.

    Runs of different folds have different held-out pairs, but must divide the data into the same
    folds.
    """
    of_all, of_fold = _conditions(runs[0]), {}
    for run in runs:
        own = _conditions(run)
        before, theirs = of_fold.setdefault(fold_of(run), (run, own))
        _refuse_different(before, theirs, run, own)
        _refuse_different(runs[0], of_all, run, own | {"splits": of_all["splits"]})


def _refuse_different(first: Run, a: dict[str, str], run: Run, b: dict[str, str]) -> None:
    for name in a:
        if a[name] == b[name]:
            continue
        more = ""
        of_split = name in ("splits", "divisions into folds")
        if of_split and first.config.get("seed") != run.config.get("seed"):
            more = "; train with `--split.seed 0`, so that --seed does not change the split"
        raise InputError(
            f"{first.label} and {run.label} cannot be compared: they have different {name}"
            + (f" ({a[name]}; {b[name]})" if name not in ("data", "splits") else "")
            + more
        )


def _conditions(run: Run) -> dict[str, str]:
    """Return the conditions that must be equal in compared runs.

    "splits" must be equal only between runs of the same fold.
    """
    section = run.config.get("eval", {})
    known = "known items ranked" if section.get("repeatable") else "known items masked"
    cold = "cold items dropped" if section.get("cold") == "drop" else "cold items kept"
    split = saved_split.load(run.folder)
    return {
        "data": str(run.env.get("fingerprint")),
        "divisions into folds": _division(run, split),
        "splits": _split_of(run, split),
        "parts for selection": "test" if run.selected_on == "test" else "validation or none",
        "ranked items": f"{known}, {cold}",
    }


def _division(run: Run, split: saved_split.KeptSplit | None) -> str:
    """Return the settings that divide the pairs into folds or windows, or "none"."""
    if split is None or fold_of(run) is None:
        return "none"
    settings = {name: value for name, value in split.protocol.items() if name != "fold"}
    return ", ".join(f"{name} {value}" for name, value in settings.items()) + f", seed {split.seed}"


def _split_of(run: Run, split: saved_split.KeptSplit | None) -> str:
    """Return a text that identifies a run's split.

    It is a hash of the pairs and their parts if the split was saved, else the options of the split.
    """
    if split is not None:
        return hashlib.sha256((split.key_P & _PAIRS).tobytes()).hexdigest()
    fields = {n: v for n, v in flatten(run.config).items() if n.startswith(("split.", "filter."))}
    if fields.get("split.seed") is None:
        fields["split.seed"] = str(run.config.get("seed"))
    return json.dumps(fields, sort_keys=True)


@dataclass(frozen=True)
class Difference:
    """The difference of a metric between two groups, ``a`` minus ``b``, over users.

    Attributes:
      a, b: labels of the groups.
      users: number of users.
      mean: mean difference over users.
      low, high: 95 % bootstrap interval of the mean difference.
      better, worse: shares of users with a higher and with a lower value in ``a``.
      effect: Cohen's d of the paired values.
      p: p-values by test, adjusted over all pairs of groups by Holm's correction.
      seeds: p-value of Welch's test over seeds, adjusted in the same way; None if a group has only
        one seed, or several folds.
      folds: p-value of the corrected t-test over folds, adjusted in the same way; None if there are
        not several folds.
      verdict: the conclusion in words.
    """

    a: str
    b: str
    users: int
    mean: float
    low: float
    high: float
    better: float
    worse: float
    effect: float
    p: dict[str, float]
    seeds: float | None
    folds: float | None
    verdict: str

    @property
    def over_runs(self) -> float | None:
        """The p-value over folds if there are several, else over seeds."""
        return self.seeds if self.folds is None else self.folds


TESTS = ("paired t", "Wilcoxon", "bootstrap")


def differences(groups: Sequence[Group], metric: str, level: float = 0.05) -> list[Difference]:
    """Compare every pair of groups by paired tests over users.

    A user's value in a group is the mean over the group's seeds, and then over the folds in which
    the user has held-out pairs, so each user counts once. The verdict is "different" if two tests
    reject at ``level`` after Holm's correction: the paired t-test over users, and the test over
    seeds or folds. If a group has too few seeds or folds for the second test, the verdict is
    "different for these seeds".

    Raises:
      InputError: a run has no per-user metrics or lacks the metric, or the users differ.
    """
    split, values = _by_user(groups, metric)
    pairs = list(itertools.combinations(range(len(groups)), 2))
    raw: dict[str, list[float]] = {name: [] for name in TESTS}
    intervals, runs_p = [], []
    for i, j in pairs:
        diff_N = values[i] - values[j]
        resampled = significance.bootstrap(diff_N)
        raw["paired t"].append(float(significance.paired_t(diff_N)[0]))
        raw["Wilcoxon"].append(float(significance.wilcoxon(diff_N)[0]))
        raw["bootstrap"].append(float(resampled.p_R[0]))
        a, b = groups[i].values(split, metric), groups[j].values(split, metric)
        if groups[i].over == "folds":
            diff_F = [x - y for x, y in zip(a, b, strict=True)]
            ratio = statistics.fmean(run.data[split] / run.data["train"] for run in groups[i].runs)
            runs_p.append(significance.corrected_t(diff_F, ratio))
        else:
            runs_p.append(significance.welch(a, b))
        intervals.append((diff_N, float(resampled.low_R[0]), float(resampled.high_R[0])))
    adjusted = {name: significance.holm(p) for name, p in raw.items()}
    tested = [n for n, p in enumerate(runs_p) if p is not None]
    over_runs = significance.holm([p for p in runs_p if p is not None])
    results = []
    for n, ((i, j), (diff_N, low, high)) in enumerate(zip(pairs, intervals, strict=True)):
        p = {name: float(adjusted[name][n]) for name in TESTS}
        run_p = float(over_runs[tested.index(n)]) if n in tested else None
        over = groups[i].over
        results.append(
            Difference(
                a=groups[i].label,
                b=groups[j].label,
                users=len(diff_N),
                mean=float(diff_N.mean()),
                low=low,
                high=high,
                better=float((diff_N > 0).mean()),
                worse=float((diff_N < 0).mean()),
                effect=significance.effect_size(diff_N),
                p=p,
                seeds=run_p if over == "seeds" else None,
                folds=run_p if over == "folds" else None,
                verdict=_verdict(p["paired t"], run_p, over, level),
            )
        )
    return results


def _verdict(users_p: float, run_p: float | None, over: str, level: float) -> str:
    if users_p >= level:
        return "no difference shown"
    if run_p is None:
        return "different for these seeds"
    return "different" if run_p < level else f"within the variation over {over}"


def _by_user(groups: Sequence[Group], metric: str) -> tuple[str, list[np.ndarray]]:
    """Return the split, and each group's metric per user, averaged over its seeds and folds."""
    firsts: dict[int | None, tuple[np.ndarray, Run]] = {}
    values, split = [], None
    for group in groups:
        users, means = [], []
        for fold, runs in group.folds.items():
            total = 0.0
            for run in runs:
                part, frame = per_user.read(run.folder)
                split = split or part
                if metric not in frame.columns:
                    names = [name for name in frame.columns if "@" in name]
                    raise InputError(
                        f"{run.label}: has no {metric} per user{nearest(metric, names)}; choose "
                        f"--metric among {', '.join(names)}"
                    )
                frame = frame.sort("user")
                user_n = frame["user"].to_numpy()
                same, first = firsts.setdefault(fold, (user_n, run))
                if part != split or not np.array_equal(same, user_n):
                    raise InputError(
                        f"{first.label} and {run.label} cannot be compared: they ranked different "
                        "users; evaluate both on one split with `jaxrec evaluate RUN --per-user`"
                    )
                total = total + frame[metric].to_numpy().astype(np.float64)
            users.append(firsts[fold][0])
            means.append(np.asarray(total) / len(runs))
        _, row_n = np.unique(np.concatenate(users), return_inverse=True)
        values.append(np.bincount(row_n, np.concatenate(means)) / np.bincount(row_n))
    return split or "test", values


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, the split and metric by which they are compared, and their differences."""

    groups: list[Group]
    split: str
    metric: str
    differences: list[Difference]

    @property
    def over(self) -> str:
        """What a group's values vary over: "folds" or "seeds"."""
        return self.groups[0].over


def compare(runs: Sequence[Run], metric: str | None = None, level: float = 0.05) -> Comparison:
    """Compare runs by a ranking metric, by default the metric of the first run.

    Raises:
      InputError: a run has not finished or lacks the metric, or runs differ in data, split or
        protocol.
    """
    for run in runs:
        if run.on_everything:
            raise InputError(
                f"{run.label}: the run was trained on all pairs, so no pairs are held out for a "
                "comparison; compare the earlier run, which chose the number of steps"
            )
        if not run.final:
            raise InputError(
                f"{run.label}: the run has not finished; `jaxrec resume {run.folder}` finishes it"
            )
    check_comparable(runs)
    groups = grouped(runs)
    metric = metric or runs[0].metric
    if "@" not in metric:
        raise InputError(f"{metric} is not computed per user; give a --metric such as recall@20")
    split = "test" if all("test" in run.results for run in runs) else "validation"
    found = differences(groups, metric, level) if len(groups) > 1 else []
    return Comparison(groups, split, metric, found)


def order(groups: Sequence[Group], split: str, metric: str) -> list[Group]:
    """Sort groups by their mean metric, best first."""
    worst = float("inf") if lower_is_better(metric) else float("-inf")
    sign = 1 if lower_is_better(metric) else -1

    def key(group: Group) -> float:
        mean = group.mean(split, metric)
        return sign * (worst if mean is None else mean)

    return sorted(groups, key=key)


def to_json(found: Comparison) -> dict[str, Any]:
    """Convert a comparison to the content that ``jaxrec compare --out`` writes."""
    groups = [
        {
            "label": group.label,
            "runs": [str(run.folder) for run in group.runs],
            "values": group.values(found.split, found.metric),
            "over": group.over,
            **group.summary(found.split, found.metric),
        }
        for group in found.groups
    ]
    pairs = [vars(difference) for difference in found.differences]
    return {"split": found.split, "metric": found.metric, "groups": groups, "differences": pairs}


def folders(paths: Sequence[str]) -> list[Path]:
    """Return the distinct run folders; the folder of a sweep is replaced by those of its runs.

    Raises:
      InputError: there are fewer than two run folders.
    """
    distinct: dict[Path, None] = {}
    for path in map(Path, paths):
        sweep = (path / SWEEP).is_file()
        distinct |= dict.fromkeys(runs_of_sweep(path) if sweep else [path])
    found = list(distinct)
    if len(found) < 2:
        raise InputError("name at least two run folders: jaxrec compare RUN RUN")
    return found

"""Runs grouped by configuration, seeds apart, and whether the groups differ user by user."""

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
from jaxrec.config import lower_is_better
from jaxrec.data import saved_split
from jaxrec.errors import InputError, nearest
from jaxrec.evaluation import per_user
from jaxrec.reporting.run_records import Run, flatten

_APART = ("data", "seed", "preset", "mesh.", "log.", "checkpoint.", "eval.block", "split.seed")
"""Fields that do not make another configuration: where a run's results do not depend on them, or
are drawn anew with them."""
_PAIRS = np.uint64(0xFFFFFFFFFFFFFFFB)  # all of a pair's key but whether it has been trained on


@dataclass(frozen=True)
class Group:
    """Runs of one configuration by several seeds.

    Attributes:
      label: names it in tables, by what tells it from the others.
      runs: by seed, ascending.
    """

    label: str
    runs: tuple[Run, ...]

    def values(self, split: str, metric: str) -> list[float]:
        """The metric of each run that has it."""
        found = [run.results.get(split, {}).get("metrics", {}).get(metric) for run in self.runs]
        return [value for value in found if value is not None]

    def mean(self, split: str, metric: str) -> float | None:
        values = self.values(split, metric)
        return statistics.fmean(values) if values else None

    def spread(self, split: str, metric: str) -> float | None:
        """The standard deviation over the seeds; None of one seed."""
        values = self.values(split, metric)
        return statistics.stdev(values) if len(values) > 1 else None


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Runs by configuration, in the order in which configurations come first.

    Raises:
      InputError: two runs are of the same configuration and seed.
    """
    kinds: dict[str, list[Run]] = {}
    for run in runs:
        kinds.setdefault(json.dumps(_kind(run), sort_keys=True), []).append(run)
    for same in kinds.values():
        same.sort(key=lambda run: run.config.get("seed", 0))
        for a, b in itertools.pairwise(same):
            if a.config.get("seed") == b.config.get("seed"):
                raise InputError(
                    f"{a.label} and {b.label} have the same configuration and seed: name one"
                )
    labels = _labels([json.loads(kind) for kind in kinds], list(kinds.values()))
    return [Group(label, tuple(of)) for label, of in zip(labels, kinds.values(), strict=True)]


def _kind(run: Run) -> dict[str, str | None]:
    return {n: value for n, value in flatten(run.config).items() if not n.startswith(_APART)}


def _labels(kinds: list[dict[str, str | None]], runs: list[list[Run]]) -> list[str]:
    """The preset and up to three fields by which the configurations differ, or the first run."""
    fields = dict.fromkeys(name for kind in kinds for name in kind)
    differ = [name for name in fields if len({kind.get(name) for kind in kinds}) > 1]
    labels = []
    for kind, of in zip(kinds, runs, strict=True):
        told = ", ".join(f"{name} {kind.get(name)}" for name in differ[:3])
        labels.append(f"{of[0].preset} ({told})" if told else of[0].preset)
    if len(set(labels)) < len(labels):
        return [of[0].label for of in runs]
    return labels


def check_comparable(runs: Sequence[Run]) -> None:
    """Raise InputError unless all runs were judged on the same held-out pairs by one protocol."""
    first = runs[0]
    for run in runs[1:]:
        for what, a, b in zip(_ALIKE, _judged_by(first), _judged_by(run), strict=True):
            if a == b:
                continue
            more = ""
            if what == "split" and first.config.get("seed") != run.config.get("seed"):
                more = "; train with `--split.seed 0`, so that --seed leaves the split alone"
            raise InputError(
                f"{first.label} and {run.label} do not compare: not the same {what}"
                + (f" ({a} and {b})" if what not in ("data", "split") else "")
                + more
            )


_ALIKE = ("data", "split", "part for selection", "ranked items")


def _judged_by(run: Run) -> tuple[str, str, str, str]:
    """What must be alike for figures to compare, by the names of ``_ALIKE``."""
    section = run.config.get("eval", {})
    known = "known items ranked" if section.get("repeatable") else "known items masked"
    cold = "cold ones left out" if section.get("cold") == "drop" else "cold ones kept"
    on = "test" if run.selected_on == "test" else "validation or none"
    return str(run.env.get("fingerprint")), split_of(run), on, f"{known}, {cold}"


def split_of(run: Run) -> str:
    """What tells a run's split from others: a hash of the pairs and of their parts."""
    split = saved_split.load(run.folder)
    if split is not None:
        return hashlib.sha256((split.key_P & _PAIRS).tobytes()).hexdigest()
    fields = {n: v for n, v in flatten(run.config).items() if n.startswith(("split.", "filter."))}
    if fields.get("split.seed") is None:
        fields["split.seed"] = str(run.config.get("seed"))
    return json.dumps(fields, sort_keys=True)


@dataclass(frozen=True)
class Difference:
    """What the users say of two groups: the first's metric less the second's.

    Attributes:
      a, b: labels of the groups.
      users: how many there are.
      mean: the mean difference over users; low, high: its interval of 95 % by bootstrap.
      better, worse: shares of users with a higher and a lower value in ``a``.
      effect: Cohen's d of the paired values.
      p: p-values by test, each adjusted by Holm over all pairs of groups.
      seeds: p-value over seeds (Welch), adjusted alike; None with fewer than two seeds of either.
      verdict: in words.
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
    verdict: str


TESTS = ("paired t", "Wilcoxon", "bootstrap")


def differences(groups: Sequence[Group], metric: str, level: float = 0.05) -> list[Difference]:
    """Every pair of groups, by paired tests over users.

    A user's value under a configuration is the mean over its seeds. "Different" is said where the
    paired t-test rejects at ``level`` after Holm's correction and, where both configurations have
    several seeds, the test over seeds does too.

    Raises:
      InputError: a run lacks its users' metrics, or the metric; the users are not the same.
    """
    split, values = _by_user(groups, metric)
    pairs = list(itertools.combinations(range(len(groups)), 2))
    raw: dict[str, list[float]] = {name: [] for name in TESTS}
    found, seeds = [], []
    for i, j in pairs:
        diff_N = values[i] - values[j]
        resampled = significance.bootstrap(diff_N)
        raw["paired t"].append(float(significance.paired_t(diff_N)[0]))
        raw["Wilcoxon"].append(float(significance.wilcoxon(diff_N)[0]))
        raw["bootstrap"].append(float(resampled.p_R[0]))
        a, b = groups[i].values(split, metric), groups[j].values(split, metric)
        seeds.append(significance.welch(a, b))
        found.append((diff_N, float(resampled.low_R[0]), float(resampled.high_R[0])))
    adjusted = {name: significance.holm(p) for name, p in raw.items()}
    known = [n for n, p in enumerate(seeds) if p is not None]
    over_seeds = significance.holm([p for p in seeds if p is not None])
    told = []
    for n, ((i, j), (diff_N, low, high)) in enumerate(zip(pairs, found, strict=True)):
        p = {name: float(adjusted[name][n]) for name in TESTS}
        of_seeds = float(over_seeds[known.index(n)]) if n in known else None
        told.append(
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
                seeds=of_seeds,
                verdict=_verdict(p["paired t"], of_seeds, level),
            )
        )
    return told


def _verdict(users: float, seeds: float | None, level: float) -> str:
    if users >= level:
        return "no difference shown"
    if seeds is None:
        return "different, of these seeds"
    return "different" if seeds < level else "not beyond the seeds' spread"


def _by_user(groups: Sequence[Group], metric: str) -> tuple[str, list[np.ndarray]]:
    """The split, and each group's metric by user, the mean over its seeds."""
    split = users = first = None
    values = []
    for group in groups:
        total = 0.0
        for run in group.runs:
            part, frame = per_user.read(run.folder)
            if metric not in frame.columns:
                known = [name for name in frame.columns if "@" in name]
                raise InputError(
                    f"{run.label}: no {metric} of each user{nearest(metric, known)}; there are "
                    f"{', '.join(known)}"
                )
            frame = frame.sort("user")
            if users is None:
                split, users, first = part, frame["user"].to_numpy(), run
            elif part != split or not np.array_equal(users, frame["user"].to_numpy()):
                assert first is not None
                raise InputError(
                    f"{first.label} and {run.label} do not compare: other users were ranked"
                )
            total = total + frame[metric].to_numpy().astype(np.float64)
        values.append(np.asarray(total) / len(group.runs))
    return split or "test", values


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, the split and metric that they are compared by, and their differences."""

    groups: list[Group]
    split: str
    metric: str
    differences: list[Difference]


def compare(runs: Sequence[Run], metric: str | None = None, level: float = 0.05) -> Comparison:
    """Compare runs by a ranking metric: by the first run's own where none is given.

    Raises:
      InputError: they were judged on other pairs or by another protocol, or lack what is compared.
    """
    for run in runs:
        if not run.final:
            raise InputError(f"{run.label}: has not finished; `jaxrec resume` goes on with it")
    check_comparable(runs)
    groups = grouped(runs)
    metric = metric or runs[0].metric
    if "@" not in metric:
        raise InputError(f"{metric} is no metric of each user; give --metric, such as recall@20")
    split = "test" if all("test" in run.results for run in runs) else "validation"
    found = differences(groups, metric, level) if len(groups) > 1 else []
    return Comparison(groups, split, metric, found)


def order(groups: Sequence[Group], split: str, metric: str) -> list[Group]:
    """The groups by their mean, best first."""
    worst = float("inf") if lower_is_better(metric) else float("-inf")
    sign = 1 if lower_is_better(metric) else -1

    def key(group: Group) -> float:
        mean = group.mean(split, metric)
        return sign * (worst if mean is None else mean)

    return sorted(groups, key=key)


def to_json(found: Comparison) -> dict[str, Any]:
    """What ``jaxrec compare --out`` writes."""
    groups = [
        {
            "label": group.label,
            "runs": [str(run.folder) for run in group.runs],
            "values": group.values(found.split, found.metric),
            "mean": group.mean(found.split, found.metric),
            "sd": group.spread(found.split, found.metric),
        }
        for group in found.groups
    ]
    pairs = [vars(difference) for difference in found.differences]
    return {"split": found.split, "metric": found.metric, "groups": groups, "differences": pairs}


def folders(paths: Sequence[str]) -> list[Path]:
    """Run folders, each named once.

    Raises:
      InputError: fewer than two.
    """
    found = list(dict.fromkeys(Path(path) for path in paths))
    if len(found) < 2:
        raise InputError("name at least two run folders: jaxrec compare RUN RUN")
    return found

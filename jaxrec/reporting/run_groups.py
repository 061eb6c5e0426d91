"""Group runs by configuration over seeds, and test whether the groups differ."""

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
"""Prefixes of fields that may differ within a group: seeds, and fields that change no result."""
_PAIRS = np.uint64(0xFFFFFFFFFFFFFFFB)  # a mask that clears the key's bit for "trained on"


@dataclass(frozen=True)
class Group:
    """Runs of one configuration with several seeds.

    Attributes:
      label: name in tables, with the fields that differ from other groups.
      runs: the runs in the order of their seeds.
    """

    label: str
    runs: tuple[Run, ...]

    def values(self, split: str, metric: str) -> list[float]:
        """Return the values of the metric in the runs that have it."""
        values = [run.results.get(split, {}).get("metrics", {}).get(metric) for run in self.runs]
        return [value for value in values if value is not None]

    def mean(self, split: str, metric: str) -> float | None:
        values = self.values(split, metric)
        return statistics.fmean(values) if values else None

    def spread(self, split: str, metric: str) -> float | None:
        """Return the standard deviation over the seeds, or None with only one seed."""
        values = self.values(split, metric)
        return statistics.stdev(values) if len(values) > 1 else None


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Group runs by configuration, in the order of first appearance.

    Raises:
      InputError: two runs have the same configuration and seed.
    """
    kinds: dict[str, list[Run]] = {}
    for run in runs:
        kinds.setdefault(json.dumps(_kind(run), sort_keys=True), []).append(run)
    for same in kinds.values():
        same.sort(key=lambda run: run.config.get("seed", 0))
        for a, b in itertools.pairwise(same):
            if a.config.get("seed") == b.config.get("seed"):
                raise InputError(
                    f"{a.label} and {b.label} have the same configuration and seed; name only one"
                )
    labels = _labels([json.loads(kind) for kind in kinds], list(kinds.values()))
    return [Group(label, tuple(same)) for label, same in zip(labels, kinds.values(), strict=True)]


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
    """Raise InputError unless all runs used the same held-out pairs and evaluation protocol."""
    first = runs[0]
    for run in runs[1:]:
        for name, a, b in zip(_CONDITIONS, _conditions(first), _conditions(run), strict=True):
            if a == b:
                continue
            more = ""
            if name == "splits" and first.config.get("seed") != run.config.get("seed"):
                more = "; train with `--split.seed 0`, so that --seed does not change the split"
            raise InputError(
                f"{first.label} and {run.label} cannot be compared: they have different {name}"
                + (f" ({a}; {b})" if name not in ("data", "splits") else "")
                + more
            )


_CONDITIONS = ("data", "splits", "parts for selection", "ranked items")


def _conditions(run: Run) -> tuple[str, str, str, str]:
    """Return the values of ``_CONDITIONS``, which must be equal for runs to be compared."""
    section = run.config.get("eval", {})
    known = "known items ranked" if section.get("repeatable") else "known items masked"
    cold = "cold items dropped" if section.get("cold") == "drop" else "cold items kept"
    selection = "test" if run.selected_on == "test" else "validation or none"
    return str(run.env.get("fingerprint")), split_of(run), selection, f"{known}, {cold}"


def split_of(run: Run) -> str:
    """Return a text that identifies a run's split.

    It is a hash of the pairs and their parts if the split was saved, else the options of the split.
    """
    split = saved_split.load(run.folder)
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
        one seed.
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
    verdict: str


TESTS = ("paired t", "Wilcoxon", "bootstrap")


def differences(groups: Sequence[Group], metric: str, level: float = 0.05) -> list[Difference]:
    """Compare every pair of groups by paired tests over users.

    A user's value in a group is the mean over its seeds. The verdict is "different" if the paired
    t-test rejects at ``level`` after Holm's correction and, if both groups have several seeds, so
    does the test over seeds.

    Raises:
      InputError: a run has no per-user metrics or lacks the metric, or the users differ.
    """
    split, values = _by_user(groups, metric)
    pairs = list(itertools.combinations(range(len(groups)), 2))
    raw: dict[str, list[float]] = {name: [] for name in TESTS}
    intervals, seeds = [], []
    for i, j in pairs:
        diff_N = values[i] - values[j]
        resampled = significance.bootstrap(diff_N)
        raw["paired t"].append(float(significance.paired_t(diff_N)[0]))
        raw["Wilcoxon"].append(float(significance.wilcoxon(diff_N)[0]))
        raw["bootstrap"].append(float(resampled.p_R[0]))
        a, b = groups[i].values(split, metric), groups[j].values(split, metric)
        seeds.append(significance.welch(a, b))
        intervals.append((diff_N, float(resampled.low_R[0]), float(resampled.high_R[0])))
    adjusted = {name: significance.holm(p) for name, p in raw.items()}
    tested = [n for n, p in enumerate(seeds) if p is not None]
    over_seeds = significance.holm([p for p in seeds if p is not None])
    results = []
    for n, ((i, j), (diff_N, low, high)) in enumerate(zip(pairs, intervals, strict=True)):
        p = {name: float(adjusted[name][n]) for name in TESTS}
        seeds_p = float(over_seeds[tested.index(n)]) if n in tested else None
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
                seeds=seeds_p,
                verdict=_verdict(p["paired t"], seeds_p, level),
            )
        )
    return results


def _verdict(users_p: float, seeds_p: float | None, level: float) -> str:
    if users_p >= level:
        return "no difference shown"
    if seeds_p is None:
        return "different for these seeds"
    return "different" if seeds_p < level else "within the variation over seeds"


def _by_user(groups: Sequence[Group], metric: str) -> tuple[str, list[np.ndarray]]:
    """Return the split, and each group's metric per user, averaged over its seeds."""
    split = users = first = None
    values = []
    for group in groups:
        total = 0.0
        for run in group.runs:
            part, frame = per_user.read(run.folder)
            if metric not in frame.columns:
                names = [name for name in frame.columns if "@" in name]
                raise InputError(
                    f"{run.label}: has no {metric} per user{nearest(metric, names)}; choose "
                    f"--metric among {', '.join(names)}"
                )
            frame = frame.sort("user")
            if users is None:
                split, users, first = part, frame["user"].to_numpy(), run
            elif part != split or not np.array_equal(users, frame["user"].to_numpy()):
                assert first is not None
                raise InputError(
                    f"{first.label} and {run.label} cannot be compared: they ranked different "
                    "users; evaluate both on one split with `jaxrec evaluate RUN --per-user`"
                )
            total = total + frame[metric].to_numpy().astype(np.float64)
        values.append(np.asarray(total) / len(group.runs))
    return split or "test", values


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, the split and metric by which they are compared, and their differences."""

    groups: list[Group]
    split: str
    metric: str
    differences: list[Difference]


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
                "comparison; compare the run that chose its length"
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
            "mean": group.mean(found.split, found.metric),
            "sd": group.spread(found.split, found.metric),
        }
        for group in found.groups
    ]
    pairs = [vars(difference) for difference in found.differences]
    return {"split": found.split, "metric": found.metric, "groups": groups, "differences": pairs}


def folders(paths: Sequence[str]) -> list[Path]:
    """Return the distinct run folders.

    Raises:
      InputError: fewer than two folders are given.
    """
    found = list(dict.fromkeys(Path(path) for path in paths))
    if len(found) < 2:
        raise InputError("name at least two run folders: jaxrec compare RUN RUN")
    return found

"""``jaxrec compare``: test whether runs differ, over users and over seeds."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional

from jaxrec.cli.arguments import parse
from jaxrec.config.checks import Range


@dataclass(frozen=True)
class Compare:
    """Group runs by configuration, show mean and standard deviation over seeds or folds, and test
    the differences by paired tests over users with Holm's correction. All runs must have the same
    evaluation protocol, and either the same split or the same division into folds."""

    runs: Positional[tuple[str, ...]]
    """Run folders, two or more, or the folder of a sweep for all of its runs."""
    metric: str | None = None
    """Ranking metric such as ndcg@10; by default that of the first run."""
    level: Annotated[float, Range(1e-6, 0.5)] = 0.05
    """Significance level: the probability of any false alarm over all pairs of configurations."""
    out: str | None = None
    """JSON file to which the result is also written."""


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"


def compare(args: list[str]) -> None:
    """Compare runs: mean and deviation over seeds or folds, and paired tests over users."""
    parsed = parse(Compare, args, "jaxrec compare")
    from jaxrec.files import write_json
    from jaxrec.log import Reporter
    from jaxrec.reporting import run_groups
    from jaxrec.reporting.run_records import read_runs

    runs = read_runs(run_groups.folders(parsed.runs))
    found = run_groups.compare(runs, parsed.metric, parsed.level)
    reporter = Reporter()
    split, metric = found.split, found.metric
    rows = []
    for group in run_groups.order(found.groups, split, metric):
        count, summary = len(group.values(split, metric)), group.summary(split, metric)
        rows.append([group.label, str(count), *map(_shown, summary.values())])
    header = ["configuration", found.over, *run_groups.SUMMARY]
    reporter.table(f"{metric} on {split}", header, rows)
    names: dict[str, str] = {}
    tests = []
    for d in found.differences:
        for label in (d.a, d.b):
            names.setdefault(label, f"({len(names) + 1})")
        tests.append(
            [
                f"{names[d.a]} - {names[d.b]}",
                f"{d.mean:+.5f}",
                f"{d.low:+.5f} to {d.high:+.5f}",
                f"{d.effect:+.3f}",
                *(f"{p:.2g}" for p in d.p.values()),
                "" if d.over_runs is None else f"{d.over_runs:.2g}",
                d.verdict,
            ]
        )
    if tests:
        for label, name in names.items():
            reporter.say(f"{name} {label}")
        title = f"differences over {found.differences[0].users:,} users, p-values after Holm"
        header = ["", "mean", "95 %", "d", *run_groups.TESTS, found.over, "verdict"]
        reporter.table(title, header, tests)
    else:
        reporter.say("all runs have the same configuration, so there is no difference to test")
    if any(run.selected_on == "test" for run in runs):
        reporter.say("the parameters were selected on test, so these figures are too good")
    if any(len(group.runs) == 1 for group in found.groups):
        reporter.say("a configuration has only one seed, so its variation over seeds is unknown")
    if parsed.out is not None:
        write_json(parsed.out, run_groups.to_json(found))

"""``jaxrec compare``: whether runs differ, user by user and over seeds."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional

from jaxrec.cli.arguments import parse
from jaxrec.config.checks import Range


@dataclass(frozen=True)
class Compare:
    """Runs grouped by configuration, mean and standard deviation over seeds, and paired tests over
    users with Holm's correction. Runs of other splits or protocols are refused."""

    runs: Positional[tuple[str, ...]]
    """Run folders."""
    metric: str | None = None
    """A ranking metric such as ndcg@10; the first run's own where not given."""
    level: Annotated[float, Range(1e-6, 0.5)] = 0.05
    """The rate of false alarms over all pairs of configurations."""
    out: str | None = None
    """Also write the result as JSON."""


def compare(args: list[str]) -> None:
    """Compare runs: mean and spread over seeds, paired tests over users."""
    made = parse(Compare, args, "jaxrec compare")
    from jaxrec.files import write_json
    from jaxrec.log import Reporter
    from jaxrec.reporting import run_groups
    from jaxrec.reporting.run_records import read_runs

    runs = read_runs(run_groups.folders(made.runs))
    found = run_groups.compare(runs, made.metric, made.level)
    reporter = Reporter()
    split, metric = found.split, found.metric
    rows = []
    for group in run_groups.order(found.groups, split, metric):
        mean, spread = group.mean(split, metric), group.spread(split, metric)
        deviation = "" if spread is None else f"{spread:.5f}"
        shown = "" if mean is None else f"{mean:.5f}"
        rows.append([group.label, str(len(group.runs)), shown, deviation])
    reporter.table(f"{metric} on {split}", ["configuration", "seeds", "mean", "sd"], rows)
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
                "" if d.seeds is None else f"{d.seeds:.2g}",
                d.verdict,
            ]
        )
    if tests:
        for label, name in names.items():
            reporter.say(f"{name} {label}")
        title = f"differences over {found.differences[0].users:,} users, p-values by Holm"
        header = ["", "mean", "95 %", "d", *run_groups.TESTS, "seeds", "verdict"]
        reporter.table(title, header, tests)
    else:
        reporter.say("one configuration: there is nothing to test")
    if any(run.selected_on == "test" for run in runs):
        reporter.say("the parameters were chosen on test: these figures flatter all runs")
    if any(len(group.runs) == 1 for group in found.groups):
        reporter.say("a configuration has one seed: how far seeds move it is not known")
    if made.out is not None:
        write_json(made.out, run_groups.to_json(found))

"""The report's comparison of several runs: results over seeds, tests, curves and differences."""

from collections.abc import Sequence

from jaxrec.config import lower_is_better
from jaxrec.errors import InputError
from jaxrec.reporting import run_groups
from jaxrec.reporting.markup import Html, join, notice, number, table, tag
from jaxrec.reporting.pair_curves import overlaid
from jaxrec.reporting.plots import Line, curves
from jaxrec.reporting.run_records import Run, flatten
from jaxrec.reporting.sections import LOSS_UNIT, metric_names, throughput


def comparison(runs: Sequence[Run]) -> Html:
    """Build the first part of the report of several runs, which compares them."""
    parts = [
        tag("h1", f"{len(runs)} runs compared"),
        tag("p", ", ".join(run.label for run in runs), class_="lead"),
    ]
    prints = {run.env["fingerprint"] for run in runs if run.env.get("fingerprint")}
    if len(prints) > 1:
        parts.append(
            notice(
                "Different data.",
                "These runs were trained on different data, so their figures cannot be compared.",
            )
        )
    return join(
        (*parts, _by_configuration(runs), _results(runs), _curves(runs), _differences(runs))
    )


def _by_configuration(runs: Sequence[Run]) -> Html:
    """Show the mean and spread over seeds or folds, and tests of the differences."""
    if len(runs) < 2 or any(run.of_items for run in runs):
        return Html()
    try:
        found = run_groups.compare(runs)
    except InputError as e:
        return notice("The differences were not tested.", str(e))
    rows = []
    for group in found.groups:
        for metric in group.runs[0].metrics_shown:
            values = group.values(found.split, metric)
            summary = group.summary(found.split, metric).values()
            rows.append([group.label, metric, len(values), *map(number, summary)])
    head = ["configuration", "metric", found.over, *run_groups.SUMMARY]
    tables = [table(f"Configurations on {found.split}, over {found.over}", head, rows)]
    tests = [
        [
            f"{d.a} minus {d.b}",
            number(d.mean),
            f"{d.low:+.4f} to {d.high:+.4f}",
            f"{d.effect:+.3f}",
            *(f"{p:.2g}" for p in d.p.values()),
            None if d.over_runs is None else f"{d.over_runs:.2g}",
            d.verdict,
        ]
        for d in found.differences
    ]
    if tests:
        caption = (
            f"Differences of {found.metric} over {found.differences[0].users:,} users: 95 % "
            "bootstrap interval, Cohen's d, and p-values after Holm's correction"
        )
        head = ["", "mean", "95 %", "d", *run_groups.TESTS, found.over, "verdict"]
        tables.append(table(caption, head, tests))
    return join(tables)


def _results(runs: Sequence[Run]) -> Html:
    tables, full = [], []
    for split in ("test", "validation"):
        found = {_name(run): run.results[split]["metrics"] for run in runs if split in run.results}
        rows, shown = [], []
        for metric in metric_names(found.values()):
            values = [metrics.get(metric) for metrics in found.values()]
            numbers = [value for value in values if value is not None]
            best = min(numbers) if lower_is_better(metric) else max(numbers)
            # Do not mark the best value on test: a run that is chosen by its result on test has no
            # unbiased result.
            marked = split == "validation" and min(numbers) != max(numbers)
            rows.append([metric, *(_cell(value, marked and value == best) for value in values)])
            if metric.partition("@")[2] in ("", *(str(run.cutoff) for run in runs)):
                shown.append(rows[-1])
        if rows:
            caption = f"Results on {split}"
            if split == "validation" and len(found) > 1:
                caption += "; the best value of each row is marked"
            tables.append(table(caption, ["metric", *found], shown or rows))
            if shown and len(shown) < len(rows):
                full.append(table(caption, ["metric", *found], rows))
    # Narrow tables are shown side by side; many runs need the whole width.
    wide = "halves" if len(runs) <= 3 else None
    parts = [tag("div", *tables, class_=wide)]
    if full:
        full = tag("div", *full, class_=wide)
        parts.append(tag("details", tag("summary", "All cut-offs"), full))
    return join(parts)


def _name(run: Run) -> str:
    return f"{run.label} (selected on test)" if run.selected_on == "test" else run.label


def _cell(value: int | float | None, best: bool) -> Html:
    if best:
        return tag("strong", number(value), class_="best", title="best")
    return number(value)


def _curves(runs: Sequence[Run]) -> Html:
    metric = runs[0].metric
    loss, ranking, speed = [], [], []
    for color, run in enumerate(runs):
        loss.append(Line(run.label, *run.curve("train", "loss"), color))
        ranking.append(Line(run.label, *run.curve("validation", metric), color))
        speed.append(throughput(run, run.label, color))
    axes = {run.step_axis for run in runs}
    step = axes.pop() if len(axes) == 1 else "step"
    units = " or ".join(sorted({run.unit for run in runs}))
    figures = (
        curves("Loss of all runs", loss, x=step, y=LOSS_UNIT),
        curves(f"{metric} of all runs", ranking, x=step, y=f"{metric} on validation"),
        curves("Throughput of all runs", speed, x=step, y=f"{units} per second", zero=True),
        *overlaid(runs),
    )
    return tag("div", *figures, class_="plots") if any(figures) else Html()


def _differences(runs: Sequence[Run]) -> Html:
    """Show the fields of the configuration that differ between the runs."""
    flat = [flatten(run.config) for run in runs]
    fields = dict.fromkeys(name for fields in flat for name in fields)
    rows = [
        [name, *(fields.get(name) for fields in flat)]
        for name in fields
        if len({fields.get(name) for fields in flat}) > 1
    ]
    if not rows:
        return tag("p", "The runs have the same configuration.")
    head = ["field", *(run.label for run in runs)]
    return table("Differences between the configurations", head, rows)

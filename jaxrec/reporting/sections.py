"""The report's sections on a single run; a section without content is empty."""

from collections.abc import Iterable
from statistics import median
from typing import Any

from jaxrec import presets
from jaxrec.config import Config, to_dict
from jaxrec.data.saved_split import told
from jaxrec.errors import InputError
from jaxrec.evaluation.cold import sentence
from jaxrec.reporting.markup import Html, join, notice, number, table, tag, tiles
from jaxrec.reporting.plots import Line, bars, curves
from jaxrec.reporting.run_records import Run, setting

LOSS_UNIT = "mean loss per pair, with L2"


def metric_names(results: Iterable[dict[str, Any]]) -> list[str]:
    """List the metrics of several results in the order of appearance, with cut-offs ascending."""
    names = list(dict.fromkeys(name for metrics in results for name in metrics))
    kinds = [name.partition("@")[0] for name in names]

    def place(name: str) -> tuple[int, int]:
        kind, _, k = name.partition("@")
        return kinds.index(kind), int(k) if k.isdigit() else 0

    return sorted(names, key=place)


def summary(run: Run) -> str:
    """Summarise the model, the data and the seed in one sentence."""
    model, data = run.config.get("model", {}), run.data
    layers = "" if run.of_items else f"{model.get('layers', '?')} layers, "
    words = f"{model.get('name', 'a model')}, {layers}width "
    words += f"{model.get('dim', '?')}, preset {run.preset}, seed {run.config.get('seed', '?')}"
    if data:
        users = "" if run.of_items else f"{_count(data.get('users'))} users, "
        words += (
            f"; trained on {data.get('name', 'data')}: {users}"
            f"{_count(data.get('items'))} items, {_count(data.get('train'))} train pairs"
        )
    return words + "."


def notices(run: Run) -> Html:
    """Show what qualifies the run's figures, such as selection on test."""
    found = []
    if run.selected_on == "test":
        found.append(
            notice(
                "Selected on test.",
                'The parameters were chosen by their result on test (select_on="test"), as in some '
                "papers. The test figures are therefore too good, and can only be compared with "
                "figures selected on test as well.",
            )
        )
    for line in run.evaluation.get("unread", []):
        found.append(notice("Unused data.", f"{line}."))
    if run.start:
        lines = (line.removeprefix("WARNING: ") for line in told(run.start))
        text = ". ".join(f"{line[:1].upper()}{line[1:]}" for line in lines)
        found.append(notice("Started from another run.", f"{text}."))
    if not run.evaluation:
        found.append(
            notice(
                "Not finished.",
                "The run has no eval.json yet; the report shows how far it has come.",
            )
        )
    for split, result in run.results.items():
        cold = sentence(split, result, run.metric)
        if cold is not None:
            found.append(notice("No train pairs.", f"{cold[:1].upper()}{cold[1:]}."))
        ours = result["metrics"].get(run.metric)
        popular = result.get("baselines", {}).get("popularity", {}).get(run.metric)
        if ours is not None and popular is not None and ours <= popular:
            found.append(
                notice(
                    "No better than popularity.",
                    f"{run.metric} on {split} is {ours:.4f}, but ranking by the popularity of "
                    f"items alone gives {popular:.4f}.",
                )
            )
    return join(found)


def headline(run: Run) -> Html:
    """Show the headline figures: metrics, best step, wall time, speed and memory."""
    facts: list[tuple[str, object, object]] = []
    final = run.final
    split = "test" if "test" in run.results else "validation"
    metrics = final.get("metrics", {})
    popular = final.get("baselines", {}).get("popularity", {})
    shown = run.metrics_shown
    for name in shown if len(shown) > 1 else (*shown, "recall@20"):
        if name in metrics:
            times = _ratio(metrics[name], popular.get(name))
            facts.append(
                (f"{name}, {split}", number(metrics[name]), f"{times} popularity" if times else "")
            )
    evaluation = run.evaluation
    if "best_step" in evaluation:
        facts.append(
            ("best step", number(evaluation["best_step"]), f"of {_count(evaluation.get('steps'))}")
        )
    if run.seconds is not None:
        facts.append(("wall time", _duration(run.seconds), run.env.get("device") or ""))
    speed, memory = run.timed(f"{run.unit}_per_second"), run.timed("peak_memory_mb")
    if speed:
        facts.append((f"{run.unit} per second", f"{median(speed):,.0f}", "median over the run"))
    if memory:
        facts.append(("peak memory", f"{max(memory):,.0f} MB", ""))
    return tiles(facts) if facts else Html()


def result_table(run: Run) -> Html:
    """Compare the model with its baselines on each split that has a result."""
    if not run.results:
        return Html()
    results = dict(run.results)
    train = run.evaluation.get("train") or {}
    if train.get("metrics"):
        results["train"] = train
    groups, head, columns = [("", 1)], ["metric"], []
    for split, result in results.items():
        baselines: dict[str, Any] = result.get("baselines") or {}
        sizes = _sizes(run, result)
        shown = ["model", *baselines] + (["÷ popularity"] if "popularity" in baselines else [])
        groups.append((f"{split}{f' ({sizes})' if sizes else ''}", len(shown)))
        head += shown
        columns.append((result["metrics"], baselines))
    names = metric_names(metrics for metrics, _ in columns)
    rows = []
    for name in names:
        row: list[object] = [name]
        for metrics, baselines in columns:
            row.append(tag("span", number(metrics.get(name)), class_="ours"))
            row += [number(values.get(name)) for values in baselines.values()]
            if "popularity" in baselines:
                row.append(_ratio(metrics.get(name), baselines["popularity"].get(name)) or None)
        rows.append(row)
    evaluation = run.evaluation
    words = [str(evaluation["protocol"])] if evaluation.get("protocol") else []
    for split, rate in (evaluation.get("false_negative_rate") or {}).items():
        words.append(f"{100 * rate:.2g} % of the sampled negatives were {split} positives")
    lead = " ".join(f"{word[:1].upper()}{word[1:].rstrip('.')}." for word in words)
    shown = table("The model and its baselines", head, rows, groups=groups)
    return join((tag("h3", "Result"), tag("p", lead, class_="lead"), shown))


def _sizes(run: Run, result: dict[str, Any]) -> str:
    """Say over how many users, or pairs and items, a result was computed."""
    users, pairs = result.get("users"), result.get("pairs")
    sizes = [f"{_count(pairs)} pairs"] if pairs else []
    if users:
        sizes.append(f"{_count(users)} {'items ranked' if run.of_items else 'users'}")
    return ", ".join(sizes)


def course(run: Run) -> Html:
    """Plot loss, metrics and throughput over the steps, and list the events."""
    epoch = run.steps_per_epoch
    # The doctor's section plots the other values that steps record.
    loss = [
        Line("loss", *run.curve("train", "loss"), 0),
        Line("loss, refit", *run.curve("train", "loss", "refit"), 0, "--"),
    ]
    best = run.evaluation.get("best_step")
    figures = [curves("Loss", loss, x="step", y=LOSS_UNIT, epoch=epoch)]
    for metric in run.metrics_shown:
        figures.append(
            curves(
                metric,
                _metric_lines(run, metric),
                x="step",
                y=metric,
                mark=best,
                epoch=epoch,
                note="" if best is None else f"vertical line: best step, {_count(best)}",
            )
        )
    figures.append(
        curves(
            "Throughput",
            [throughput(run, f"{run.unit} per second", 0)],
            x="step",
            y=f"{run.unit} per second",
            zero=True,
            note="each process of a resumed run compiles again",
        )
    )
    if not any(figures):
        return Html()
    events = [
        (_count(line.get("step")), line["event"], number(line.get("seconds")), _duration_of(line))
        for line in run.timing
        if line.get("event")
    ]
    details = Html()
    if events:
        head = ("step", "event", "seconds since the start", "duration in seconds")
        listed = table("From timing.jsonl", head, events)
        details = tag("details", tag("summary", f"Events ({len(events)})"), listed)
    return join((tag("h3", "Course of the run"), tag("div", *figures, class_="plots"), details))


def _duration_of(line: dict[str, Any]) -> Html:
    """Show the duration of an event, if recorded: compile_seconds, save_seconds, ..."""
    return number(next((v for name, v in line.items() if name.endswith("_seconds")), None))


def _metric_lines(run: Run, metric: str) -> list[Line]:
    test = run.curve("test", metric)
    lines = [
        Line("validation", *run.curve("validation", metric), color=0),
        # Without selection on test, there is only the result at the end.
        Line("test", *(test if test[0] else run.curve("test", metric, "search_final")), color=3),
        Line("train", *run.curve("train_ranking", metric, "search_final"), color=2),
        Line("test, refit", *run.curve("test", metric, "refit_final"), 3, "--"),
        Line("train, refit", *run.curve("train_ranking", metric, "refit_final"), 2, "--"),
    ]
    steps = [step for line in lines for step in line.x]
    result = run.results.get("validation") or run.final
    popular = result.get("baselines", {}).get("popularity", {}).get(metric)
    if steps and popular is not None:
        lines.append(Line("popularity", [min(steps), max(steps)], [popular, popular], 1, ":"))
    return lines


def throughput(run: Run, label: str, color: int) -> Line:
    """Return the curve of pairs or walks per second over the steps."""
    name = f"{run.unit}_per_second"
    points = [
        (line["step"], line[name])
        for line in run.timing
        if isinstance(line.get(name), int | float) and "step" in line
    ]
    return Line(label, [step for step, _ in points], [speed for _, speed in points], color)


def served(run: Run) -> Html:
    """Plot recall by the popularity of items and by the activity of users."""
    if not run.slices:
        return Html()
    split = run.slices.get("split", "")
    metric = f"recall@{run.slices.get('k', '')}"
    figures, tables = [], []
    sides = {
        "items": (
            "item popularity",
            "train pairs of the item",
            "a bin's hits ÷ its held-out pairs",
        ),
        "users": ("user activity", "train pairs of the user", "mean over the bin's users"),
    }
    if run.of_items:
        sides["users"] = (
            "popularity of the query item",
            "train pairs of the query item",
            "mean over the bin's items",
        )
    for side, (slicing, axis, note) in sides.items():
        rows = run.slices.get(side) or []
        labels = [_span(row) for row in rows]
        recalls = [row["recall"] for row in rows]
        title = f"{metric} by {slicing}"
        figures.append(bars(title, labels, recalls, x=axis, y=metric, note=note))
        head = [axis, *(name for name in rows[0] if name not in ("from", "to"))] if rows else []
        cells = [
            [label, *(number(value) for name, value in row.items() if name not in ("from", "to"))]
            for label, row in zip(labels, rows, strict=True)
        ]
        tables.append(table(title, head, cells))
    return join(
        (
            tag("h3", f"Results by group on {split}" if split else "Results by group"),
            tag("div", *figures, class_="plots"),
            tag("details", tag("summary", "The same figures as tables"), *tables),
        )
    )


def origin(run: Run) -> Html:
    """Show the data, and the command, device and versions needed to repeat the run."""
    data, env = run.data, run.env
    rows: list[tuple[object, object]] = []
    for name in ("name", "users", "items", "train", "validation", "test"):
        if name in data:
            label = f"{name} pairs" if name in ("train", "validation", "test") else name
            rows.append((label, number(data[name])))
    cells = (data.get("users") or 0) * (data.get("items") or 0)
    if cells:
        rows.append(("density of train", f"{data.get('train', 0) / cells:.3g}"))
    rows += [(name, number(count)) for name, count in (data.get("notes") or {}).items()]
    if "fingerprint" in env:
        rows.append(("fingerprint", tag("code", env["fingerprint"])))
    process: list[tuple[object, object]] = []
    if env.get("command"):
        process.append(("command", tag("code", env["command"])))
    process += [(name, env[name]) for name in ("device", "commit") if env.get(name)]
    if env.get("versions"):
        process.append(("versions", ", ".join(f"{k} {v}" for k, v in env["versions"].items())))
    if not rows and not process:
        return Html()
    tables = [
        table(caption, (), facts, class_="facts")
        for caption, facts in (("Data", rows), ("Process", process))
        if facts
    ]
    return join((tag("h3", "Data and environment"), tag("div", *tables, class_="halves")))


def configuration(run: Run) -> Html:
    """Show every field of the configuration, in one table per section."""
    defaults = to_dict(Config())
    top_level = {name: value for name, value in run.config.items() if not isinstance(value, dict)}
    sections = {"run": (top_level, defaults)}
    for name, value in run.config.items():
        if isinstance(value, dict):
            sections[name] = (value, defaults.get(name, {}))
    tables = []
    for name, (values, default) in sections.items():
        rows = []
        for field, value in values.items():
            shown = setting(value)
            changed = field not in default or default[field] != value
            rows.append((field, tag("strong", shown) if changed else shown))
        tables.append(table(name, (), rows, class_="facts"))
    return join(
        (
            tag("h3", "Configuration"),
            _changes(run),
            tag(
                "details",
                tag("summary", "All fields"),
                tag("p", "Bold values differ from the defaults.", class_="lead"),
                tag("div", *tables, class_="config"),
            ),
        )
    )


def _changes(run: Run) -> Html:
    """Show the fields that differ from the preset, or from the defaults if it is unknown."""
    try:
        base, base_name = to_dict(presets.get(run.preset)), f"the preset {run.preset}"
    except InputError:
        base, base_name = to_dict(Config()), "the defaults"
    rows = []
    for section, values in run.config.items():
        base_values = base.get(section)
        if not isinstance(values, dict) or not isinstance(base_values, dict):
            values, base_values, prefix = {section: values}, {section: base_values}, ""
        else:
            prefix = f"{section}."
        rows += [
            (f"{prefix}{field}", setting(value), setting(base_values.get(field)))
            for field, value in values.items()
            if base_values.get(field) != value
        ]
    if not rows:
        return tag("p", f"All fields are those of {base_name}.")
    caption = f"Differences from {base_name}"
    return table(caption, ("field", "this run", base_name), rows, class_="facts")


def _ratio(ours: int | float | None, theirs: int | float | None) -> str:
    return f"{ours / theirs:.2f}×" if ours is not None and theirs else ""


def _span(row: dict[str, Any]) -> str:
    low, high = row["from"], row["to"]
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value if value is not None else "?")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"

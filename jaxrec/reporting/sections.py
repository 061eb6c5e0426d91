"""The report's sections on a single run; a section without content is empty."""

from collections.abc import Iterable, Sequence
from functools import partial
from statistics import median
from typing import Any

from jaxrec import presets
from jaxrec.config import Config, lower_is_better, to_dict
from jaxrec.data.saved_split import told
from jaxrec.errors import InputError
from jaxrec.evaluation.cold import sentence
from jaxrec.reporting.markup import Html, join, notice, number, table, tag, tiles
from jaxrec.reporting.plots import FALLS, RISES, Good, Line, bars, curves, levels
from jaxrec.reporting.run_records import Run, setting

LOSS_UNIT = "mean loss per pair, with L2"
_PICTURES = 3
_LOSS = Good(
    "Good: falls fast, then levels off. Flat from the start: nothing is learnt. Leaps upwards: the "
    "learning rate is too high.",
    (FALLS,),
)
_METRIC = Good(
    "Good: validation rises above popularity and levels off. Falling after its best while the loss "
    "still falls is memorising.",
    (RISES, (0.3,) * len(RISES)),
)
_UNITS = {
    "recall": "share of held-out items",
    "recall_capped": "share of what a list can hold",
    "precision": "share of the list",
    "hit_rate": "share of users",
    "coverage": "share of items",
    "ndcg": "0 to 1",
    "mrr": "0 to 1",
    "map": "0 to 1",
    "auc": "share of pairs",
    "average_precision": "0 to 1",
    "rmse": "rating points",
    "mae": "rating points",
}


def with_unit(metric: str) -> str:
    """Return the label of a metric's axis, with its unit."""
    unit = _UNITS.get(metric.partition("@")[0])
    return f"{metric} ({unit})" if unit else metric


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
    name = str(model.get("name", "a model"))
    layers = "" if run.of_items else f"{model.get('layers', '?')} layers, "
    if name == "filter":
        name, layers = f"filter {model.get('filter', '')}".rstrip(), ""
    words = f"{name}, {layers}width "
    words += f"{model.get('dim', '?')}, preset {run.preset}, seed {run.config.get('seed', '?')}"
    if data:
        users = "" if run.of_items else f"{_count(data.get('users'))} users, "
        words += (
            f"; trained on {data.get('name', 'data')}: {users}"
            f"{_count(data.get('items'))} items, {_count(data.get('train'))} train pairs"
        )
    return words + "."


def notices(run: Run) -> Html:
    """Show warnings that qualify the run's figures, such as selection on test."""
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
    elif run.on_everything:
        words = "Nothing is held out, so there is nothing to measure on; its lists are below."
        found.append(notice("Trained on all pairs.", words))
    for split, result in run.results.items():
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


def notes(run: Run) -> Html:
    """List remarks on the data and the metrics that need no warning."""
    lines = list(run.evaluation.get("unread", []))
    for split, result in run.results.items():
        unmet = sentence(split, result, run.metric)
        if unmet is not None:
            lines.append(unmet)
    listed = (tag("li", f"{line[:1].upper()}{line[1:]}.") for line in lines)
    return tag("ul", *listed, class_="notes") if lines else Html()


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
    if evaluation.get("steps") and run.on_everything:
        facts.append(("steps", number(evaluation["steps"]), ""))
    elif evaluation.get("steps"):
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


def pictures(run: Run, item_map: Html) -> tuple[Html, list[str]]:
    """Choose three figures for the head of the page; the map of items is the last if there is one.

    The other figures are the first available of: the model beside its baselines, the metric over
    the steps, the loss, and recall by popularity and by activity.

    Returns:
      The figures, and the titles of the figures other than the map.
    """
    metric, shown = run.metric, {}
    result = run.final
    if result.get("metrics"):
        name = metric if metric in result["metrics"] else next(iter(result["metrics"]))
        model = run.config.get("model", {}).get("name", "model")
        every = {model: result["metrics"], **(result.get("baselines") or {})}
        named = [(of, values[name]) for of, values in every.items() if name in values]
        split = "test" if "test" in run.results else "validation"
        less = "; less is better" if lower_is_better(name) else ""
        title = "The model beside its baselines"
        shown[title] = levels(title, named, x=with_unit(name), note=f"{name} on {split}{less}")
    shown[metric] = _over_steps(run, metric)
    shown["Loss"] = _loss(run)
    shown |= _slices(run)
    room = _PICTURES - bool(item_map)
    drawn = {title: figure for title, figure in shown.items() if figure}
    drawn = dict(list(drawn.items())[:room])
    figures = [*drawn.values(), *([item_map] if item_map else [])]
    if not figures:
        return Html(), []
    return tag("div", *figures, class_="plots three"), list(drawn)


def result_table(run: Run) -> Html:
    """Compare the model with its baselines, one table for each split that has a result."""
    if not run.results:
        return Html()
    results = dict(run.results)
    train = run.evaluation.get("train") or {}
    if train.get("metrics"):
        results["train"] = train
    names = metric_names(result["metrics"] for result in results.values())
    shown = [name for name in names if name.partition("@")[2] in ("", str(run.cutoff))]
    tables = [_split_table(run, split, of, shown or names) for split, of in results.items()]
    more = Html()
    if shown and len(shown) < len(names):
        full = [_split_table(run, split, of, names) for split, of in results.items()]
        summary = tag("summary", f"All {len(names)} metrics")
        more = tag("details", summary, tag("div", *full, class_="halves"))
    evaluation = run.evaluation
    words = [str(evaluation["protocol"])] if evaluation.get("protocol") else []
    for split, rate in (evaluation.get("false_negative_rate") or {}).items():
        words.append(f"{100 * rate:.2g} % of the sampled negatives were {split} positives")
    lead = " ".join(f"{word[:1].upper()}{word[1:].rstrip('.')}." for word in words)
    kinds = dict.fromkeys(name.partition("@")[0] for name in shown or names)
    units = "; ".join(f"{kind}: {_UNITS[kind]}" for kind in kinds if kind in _UNITS)
    return join(
        (
            tag("h3", "Result"),
            tag("p", lead, class_="lead"),
            tag("div", *tables, class_="halves"),
            tag("p", f"Units: {units}.", class_="notes") if units else Html(),
            more,
        )
    )


def _split_table(run: Run, split: str, result: dict[str, Any], names: Sequence[str]) -> Html:
    """Build the table of one split: the model, its baselines, and the ratio to popularity."""
    baselines: dict[str, Any] = result.get("baselines") or {}
    judged, rows = _sizes(run, result), []
    for name in names:
        value = result["metrics"].get(name)
        row: list[object] = [name, tag("span", number(value), class_="ours")]
        row += [number(values.get(name)) for values in baselines.values()]
        if "popularity" in baselines:
            row.append(_ratio(value, baselines["popularity"].get(name)) or None)
        rows.append(row)
    head = ["metric", "model", *baselines, *(["÷ popularity"] if "popularity" in baselines else [])]
    return table(f"{split}{f' ({judged})' if judged else ''}", head, rows)


def _sizes(run: Run, result: dict[str, Any]) -> str:
    """Return a text with the numbers of users, or of pairs and items, of a result."""
    users, pairs = result.get("users"), result.get("pairs")
    sizes = [f"{_count(pairs)} pairs"] if pairs else []
    if users:
        sizes.append(f"{_count(users)} {'items ranked' if run.of_items else 'users'}")
    return ", ".join(sizes)


def _loss(run: Run) -> Html:
    # Only the loss is plotted here: the doctor's section plots other values of train steps.
    loss = [
        Line("loss", *run.curve("train", "loss"), 0),
        Line("loss, refit", *run.curve("train", "loss", "refit"), 0, "--"),
    ]
    return curves("Loss", loss, x=run.step_axis, y=LOSS_UNIT, epoch=run.steps_per_epoch, good=_LOSS)


def _over_steps(run: Run, metric: str) -> Html:
    best, lines = run.evaluation.get("best_step"), _metric_lines(run, metric)
    # Draw no chart of a single point, which the tables show too. The line of popularity does not
    # count, since it always has two points.
    if not any(len(line.x) > 1 for line in lines if line.label != "popularity"):
        return Html()
    return curves(
        metric,
        lines,
        x=run.step_axis,
        y=with_unit(metric),
        mark=best,
        epoch=run.steps_per_epoch,
        note="" if best is None else f"vertical line: best step, {_count(best)}",
        good=None if lower_is_better(metric) else _METRIC,
    )


def course(run: Run, without: Sequence[str] = ()) -> Html:
    """Plot loss, metrics and throughput over the steps, and list the events.

    Args:
      without: titles of figures that are already on the page.
    """
    drawn = {"Loss": lambda: _loss(run)}
    drawn |= {metric: partial(_over_steps, run, metric) for metric in run.metrics_shown}
    figures = [draw() for title, draw in drawn.items() if title not in without]
    speed = throughput(run, f"{run.unit} per second", 0)
    if len(speed.x) > 1:
        figures.append(
            curves(
                "Throughput",
                [speed],
                x=run.step_axis,
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
        # Without selection on test, test is evaluated only at the end.
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


def _sides(run: Run) -> dict[str, tuple[str, str, str]]:
    """Return the title, axis label and note on recall of the plot for each key of slices.json."""
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
    return sides


def _slices(run: Run) -> dict[str, Html]:
    """Plot recall by popularity and by activity, and return the figures by title."""
    if not run.slices:
        return {}
    metric, made = f"recall@{run.slices.get('k', '')}", {}
    for side, (what, axis, note) in _sides(run).items():
        rows, title = run.slices.get(side) or [], f"{metric} by {what}"
        labels, recalls = [_span(row) for row in rows], [row["recall"] for row in rows]
        made[title] = bars(title, labels, recalls, x=axis, y=with_unit(metric), note=note)
    return made


def served(run: Run, without: Sequence[str] = ()) -> Html:
    """Plot recall by the popularity of items and by the activity of users.

    Args:
      without: titles of figures that are already on the page.
    """
    if not run.slices:
        return Html()
    split = run.slices.get("split", "")
    metric, tables = f"recall@{run.slices.get('k', '')}", []
    figures = [figure for title, figure in _slices(run).items() if title not in without]
    for side, (what, axis, _) in _sides(run).items():
        rows = run.slices.get(side) or []
        labels, title = [_span(row) for row in rows], f"{metric} by {what}"
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
    """Show the fields that differ from the preset, or from the defaults for an unknown preset."""
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
    return f"{hours}:{minutes:02d} h" if hours else f"{minutes}:{rest:02d} min"

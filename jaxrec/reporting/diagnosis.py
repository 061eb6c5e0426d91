"""The report's section on the doctor's diagnosis: its findings, and the curves behind them."""

from typing import NamedTuple

from jaxrec.config import from_dict
from jaxrec.diagnosis import thresholds
from jaxrec.diagnosis.diagnose import of_records
from jaxrec.diagnosis.finding import Finding
from jaxrec.errors import InputError
from jaxrec.reporting.markup import Html, join, notice, tag
from jaxrec.reporting.plots import FALLS, LOW, RISES, Good, Line, curves
from jaxrec.reporting.run_records import Run


class _Curves(NamedTuple):
    """A plot of values from metrics.jsonl, which are selected by name and split."""

    title: str
    unit: str
    names: tuple[str, ...]
    good: Good
    split: str = "doctor"


_GROWS = (0.05, 0.3, 0.5, 0.64, 0.74, 0.81, 0.86)
_LITTLE = (0.02, 0.2, 0.28, 0.31, 0.32, 0.32, 0.32)
_LESS = (0.02, 0.3, 0.42, 0.47, 0.5, 0.5, 0.5)
_NONE = (0.03,) * 7
_FLAT = (0.3, 0.32, 0.3, 0.31, 0.3, 0.31, 0.3)


_CURVES = (
    _Curves(
        "Cosines",
        "mean cosine of two vectors",
        ("user_cosine", "item_cosine", "pair_cosine"),
        Good(
            "Good: all rise and level off, far below 1. At 1 all vectors point the same way.",
            (_LITTLE, _LITTLE[:1] + tuple(0.7 * y for y in _LITTLE[1:]), _LESS),
        ),
    ),
    _Curves(
        "Effective rank",
        "directions that vectors spread over",
        ("user_rank", "item_rank"),
        Good(
            "Good: falls from the noise of the start and levels off; at "
            f"{thresholds.LOW_RANK:g} or less hardly anything tells rows apart.",
            (FALLS, tuple(0.93 * y + 0.12 for y in FALLS)),
        ),
    ),
    _Curves(
        "Lengths",
        "mean length of a vector",
        ("user_norm", "item_norm"),
        Good(
            "Good: grow and slow down. Shrinking to 0: L2 is too strong; growing without end: "
            "too weak.",
            (_GROWS, tuple(0.85 * y for y in _GROWS)),
        ),
    ),
    _Curves(
        "Embedding table",
        "mean length of a row ÷ √width",
        ("table_norm",),
        Good("Good: grows and slows down, as the lengths do.", (_GROWS,)),
    ),
    _Curves(
        "Lists",
        "share of a top-20 list",
        ("list_overlap", "list_popular"),
        Good(
            "Good: rise a little and stay low. Near 1 all users get the same list "
            "(overlap), or the most popular items (popular).",
            (_LITTLE, tuple(0.8 * y for y in _LITTLE)),
        ),
    ),
    _Curves(
        "Recommended items",
        "share of the items that fit into all lists",
        ("list_items",),
        Good(
            "Good: falls from the chance of the start and levels off well above 0. Near 0 a few "
            "items are all that anyone sees.",
            (tuple(0.7 * y + 0.25 for y in FALLS),),
        ),
    ),
    _Curves(
        "Correctly ranked pairs",
        "share of pairs above a random item",
        ("train_auc", "validation_auc"),
        Good(
            f"Good: both rise from 0.5 and stay within {thresholds.GAP:g} of each other. Train "
            "alone near 1 is memorising.",
            (RISES, tuple(0.9 * y for y in RISES)),
        ),
    ),
    _Curves(
        "Saturated pairs",
        "share of pairs without a gradient",
        ("train_saturated", "train_saturated_wrong"),
        Good(
            "Good: the first rises slowly or stays at 0; the second, pairs in the wrong order, "
            "stays at 0.",
            (tuple(0.5 * y for y in _GROWS), _NONE),
        ),
    ),
    _Curves(
        "Errors of ratings",
        "mean squared error (rating points²)",
        ("train_mse", "validation_mse"),
        Good(
            "Good: both fall. Validation that turns upwards while train falls is memorising.",
            (FALLS, tuple(0.8 * y + 0.15 for y in FALLS)),
        ),
    ),
    _Curves(
        "Gradients",
        "norm of the step's gradient",
        ("gradient", "fed_gradient"),
        Good(
            "Good: fall and level off above 0, both on one line. Apart, something between the "
            "gradient and the optimizer changes it.",
            (FALLS,),
        ),
        "train",
    ),
    _Curves(
        "Negatives",
        "share of the negatives",
        ("false_negatives", "identical_inputs"),
        Good(
            f"Good: flat and low. From {thresholds.FALSE:g} on every fifth negative is an item "
            "that the user has.",
            (LOW, _NONE),
        ),
        "train",
    ),
    _Curves(
        "Hard negatives",
        "hard negatives per pair",
        ("hard_negatives",),
        Good("Good: what was configured, from the step on that it begins.", (_FLAT,)),
        "train",
    ),
)


def _notice(finding: Finding) -> Html:
    return tag(
        "div",
        tag("strong", f"{finding.title[:1].upper()}{finding.title[1:]}."),
        f" Likely cause: {finding.cause}. Evidence:",
        tag("ul", *(tag("li", evidence) for evidence in finding.evidence)),
        "Suggested changes, the most promising first:",
        tag("ul", *(tag("li", change) for change in finding.changes)),
        class_="notice",
        role="note",
    )


def findings(run: Run) -> list[Finding] | None:
    """Return the doctor's findings, or None if the doctor cannot read the run or has no records."""
    if not any(line.get("split") == "doctor" for line in run.metrics):
        return None
    try:
        return list(of_records(run.label, from_dict(run.config), run.metrics, run.start).findings)
    except InputError:  # a configuration of another version: its curves can still be shown
        return None


def verdict(found: list[Finding] | None) -> Html:
    """Summarise the findings for the head of the page."""
    if found is None:
        return Html()
    if not found:
        return tag("p", "Doctor: healthy, no problem found.", class_="verdict")
    titles = "; ".join(finding.title for finding in found)
    return notice("The doctor:", f"{titles}. More under “Doctor” below.")


def doctor(run: Run, found: list[Finding] | None) -> Html:
    """Show the doctor's findings, or that the run is healthy, and the curves of its measures."""
    figures = []
    for title, unit, names, good, split in _CURVES:
        lines = [
            Line(
                f"{name.replace('_', ' ')}{'' if phase == 'search' else ', refit'}",
                *run.curve(split, name, phase),
                color,
                "-" if phase == "search" else "--",
            )
            for color, name in enumerate(names)
            for phase in ("search", "refit")
        ]
        figures.append(curves(title, lines, x=run.step_axis, y=unit, good=good))
    shown = [figure for figure in figures if figure]
    if not shown:
        return Html()
    told = join(map(_notice, found or []))
    if found == []:
        told = tag("p", "Healthy: the doctor found no problem.", class_="lead")
    summary = tag("summary", f"{len(shown)} curves, each beside what a good one looks like")
    plots = tag("details", summary, tag("div", *shown, class_="plots"), open="" if found else None)
    return join((tag("h3", "Doctor"), told, plots))

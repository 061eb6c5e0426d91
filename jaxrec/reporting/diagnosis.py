"""The report's section on the doctor's diagnosis: its findings, and the curves behind them."""

from typing import NamedTuple

from jaxrec.config import from_dict
from jaxrec.diagnosis.diagnose import of_records
from jaxrec.diagnosis.finding import Finding
from jaxrec.errors import InputError
from jaxrec.reporting.markup import Html, join, tag
from jaxrec.reporting.plots import Line, curves
from jaxrec.reporting.run_records import Run


class _Curves(NamedTuple):
    """A plot of values from metrics.jsonl: its unit, and the values' names and split."""

    title: str
    unit: str
    names: tuple[str, ...]
    split: str = "doctor"


_CURVES = (
    _Curves("Cosines", "mean cosine", ("user_cosine", "item_cosine", "pair_cosine")),
    _Curves("Effective rank", "effective rank", ("user_rank", "item_rank")),
    _Curves("Lengths", "mean length of the embeddings", ("user_norm", "item_norm")),
    _Curves("Embedding table", "mean length of a row ÷ √width", ("table_norm",)),
    _Curves("Lists", "share of a top-20 list", ("list_overlap", "list_popular")),
    _Curves("Recommended items", "share of the items that fit into all lists", ("list_items",)),
    _Curves("Correctly ranked pairs", "share of the pairs", ("train_auc", "validation_auc")),
    _Curves("Saturated pairs", "share of the pairs", ("train_saturated", "train_saturated_wrong")),
    _Curves("Errors of ratings", "mean squared error", ("train_mse", "validation_mse")),
    _Curves("Gradients", "norm", ("gradient", "fed_gradient"), "train"),
    _Curves(
        "Negatives", "share of the negatives", ("false_negatives", "identical_inputs"), "train"
    ),
    _Curves("Hard negatives", "hard negatives per pair", ("hard_negatives",), "train"),
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


def doctor(run: Run) -> Html:
    """Show the doctor's findings, or that the run is healthy, and the curves it looked at."""
    if not any(line.get("split") == "doctor" for line in run.metrics):
        return Html()
    try:
        found = of_records(run.label, from_dict(run.config), run.metrics, run.start).findings
    except InputError:  # a configuration of another version: its curves can still be shown
        findings = Html()
    else:
        findings = join(map(_notice, found))
        if not found:
            findings = tag("p", "Healthy: the doctor found no problem.", class_="lead")
    figures = []
    for title, unit, names, split in _CURVES:
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
        figures.append(curves(title, lines, x="step", y=unit))
    return join((tag("h3", "Doctor"), findings, tag("div", *figures, class_="plots")))

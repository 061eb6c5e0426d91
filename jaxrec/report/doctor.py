"""The doctor's panel: what it finds in a run, and the curves that it finds it by."""

from jaxrec.config import from_dict
from jaxrec.doctor.finding import Finding
from jaxrec.doctor.read import of_records
from jaxrec.errors import InputError
from jaxrec.report.markup import Html, join, tag
from jaxrec.report.plots import Line, curves
from jaxrec.report.records import Run

_CURVES = (
    ("Cosines", "mean cosine", ("user_cosine", "item_cosine", "pair_cosine"), "doctor"),
    ("Effective rank", "effective rank", ("user_rank", "item_rank"), "doctor"),
    ("Lengths", "mean length", ("user_norm", "item_norm", "table_norm"), "doctor"),
    ("Lists", "share", ("list_overlap", "list_popular", "list_items"), "doctor"),
    ("Pairs ranked right", "share", ("train_auc", "validation_auc", "train_saturated"), "doctor"),
    ("Gradients", "norm", ("gradient", "fed_gradient"), "train"),
)


def _told(finding: Finding) -> Html:
    return tag(
        "div",
        tag("strong", f"{finding.title[:1].upper()}{finding.title[1:]}."),
        f" Likely cause: {finding.cause}. Seen:",
        tag("ul", *(tag("li", what) for what in finding.evidence)),
        "To change, the likeliest first:",
        tag("ul", *(tag("li", what) for what in finding.changes)),
        class_="notice",
        role="note",
    )


def doctor(run: Run) -> Html:
    """Findings with their evidence and what to change, or that the run is healthy; and curves."""
    if not any(line.get("split") == "doctor" for line in run.metrics):
        return Html()
    try:
        found = of_records(run.label, from_dict(run.config), run.metrics, run.start).findings
    except InputError:  # a configuration of another version: its curves can still be shown
        told = Html()
    else:
        told = join(map(_told, found))
        if not found:
            told = tag("p", "Healthy: nothing that the doctor knows of is wrong.", class_="lead")
    figures = []
    for title, axis, names, split in _CURVES:
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
        figures.append(curves(title, lines, x="step", y=axis))
    return join((tag("h3", "Doctor"), told, tag("div", *figures, class_="plots")))

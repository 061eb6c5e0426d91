"""ROC and precision-recall curves of an item model, which classifies pairs of items."""

from collections.abc import Sequence

import numpy as np

from jaxrec.reporting.markup import Html, join, tag
from jaxrec.reporting.plots import Line, curves
from jaxrec.reporting.run_records import Run

_AXES = {
    "roc": ("ROC curve", "fpr", "tpr", "false positive rate", "true positive rate"),
    "pr": ("Precision and recall", "recall", "precision", "recall", "precision"),
}


def told_apart(run: Run) -> Html:
    """Plot the ROC and precision-recall curves of a run, each with thresholds on a second axis."""
    if not run.pair_curves:
        return Html()
    figures = []
    for kind, (title, across, up, x, y) in _AXES.items():
        points = {part: run.pair_curves[f"{kind}_{part}"] for part in (across, up, "threshold")}
        finite = np.isfinite(points["threshold"])
        threshold = Line(
            "threshold", points[across][finite].tolist(), points["threshold"][finite].tolist(), 1
        )
        line = Line(y, points[across].tolist(), points[up].tolist(), 0)
        note, dot = "", None
        if kind == "pr":
            note, dot = _best(points["recall"], points["precision"], points["threshold"])
        figures.append(
            curves(title, [line], x=x, y=y, right=threshold._replace(dash="--"), note=note, dot=dot)
        )
    split = run.evaluation.get("split", "")
    return join(
        (
            tag("h3", f"Classified pairs on {split}" if split else "Classified pairs"),
            tag("div", *figures, class_="plots"),
        )
    )


def overlaid(runs: Sequence[Run]) -> list[Html]:
    """Plot the curves of several runs, one figure per kind of curve."""
    figures = []
    for kind, (title, across, up, x, y) in _AXES.items():
        lines = [
            Line(
                run.label,
                run.pair_curves[f"{kind}_{across}"].tolist(),
                run.pair_curves[f"{kind}_{up}"].tolist(),
                color,
            )
            for color, run in enumerate(runs)
            if run.pair_curves
        ]
        figures.append(curves(f"{title} of all runs", lines, x=x, y=y))
    return figures


def _best(
    recall: np.ndarray, precision: np.ndarray, threshold: np.ndarray
) -> tuple[str, tuple[float, float]]:
    """Return the best F1, the harmonic mean of precision and recall, as a note and as a point."""
    total = recall + precision
    f1 = 2 * recall * precision / np.where(total > 0, total, 1)
    best = int(f1.argmax())
    note = f"best F1 {f1[best]:.4f} at threshold {threshold[best]:.4g}"
    return note, (float(recall[best]), float(precision[best]))

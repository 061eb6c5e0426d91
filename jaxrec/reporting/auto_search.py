"""What was tried before the run was chosen, of a run that `auto` found."""

from jaxrec.reporting.markup import Html, join, number, table, tag
from jaxrec.reporting.run_records import Run


def tried(run: Run) -> Html:
    """The trials of the search, the best first, and the candidates that were left out."""
    trials = run.search.get("trials") or []
    if not trials:
        return Html()
    metric = str(run.search.get("metric"))
    ranked = sorted(trials, key=lambda trial: -trial["value"])
    rows: list[tuple[object, ...]] = [
        (trial["name"], number(trial["value"]), number(trial["seconds"] + trial["rank_seconds"]))
        for trial in ranked
    ]
    if run.search.get("popularity") is not None:
        rows.append(("popularity", number(run.search["popularity"]), ""))
    lead = f"The best of {len(trials)} trials on validation. The search had "
    lead += f"{run.search.get('minutes')} minutes in all; test took no part in it."
    left = run.search.get("left_out") or {}
    listed = tag("ul", *(tag("li", f"{name}: {why}") for name, why in left.items()))
    more = join((tag("p", "Left out:"), listed)) if left else Html()
    shown = table("Trials", ("trial", f"validation {metric}", "seconds"), rows)
    return join((tag("h3", "What was tried"), tag("p", lead, class_="lead"), shown, more))

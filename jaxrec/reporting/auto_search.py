"""The report's section on the search of the preset `auto`."""

from jaxrec.reporting.markup import Html, join, number, table, tag
from jaxrec.reporting.run_records import Run


def tried(run: Run) -> Html:
    """Show the trials of the search, best first, and the candidates that were left out."""
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
    lead = f"This run is the best of {len(trials)} trials on validation. The search was given "
    lead += f"{run.search.get('minutes')} minutes; the test pairs were not used."
    left_out = run.search.get("left_out") or {}
    reasons = tag("ul", *(tag("li", f"{name}: {why}") for name, why in left_out.items()))
    more = join((tag("p", "These candidates were left out:"), reasons)) if left_out else Html()
    ranking = table("Trials", ("trial", f"validation {metric}", "seconds"), rows)
    return join((tag("h3", "Search"), tag("p", lead, class_="lead"), ranking, more))

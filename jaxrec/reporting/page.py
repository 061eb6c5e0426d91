"""The report of one run or several as an HTML page."""

from collections.abc import Sequence
from pathlib import Path

from jaxrec.errors import InputError
from jaxrec.files import replacing
from jaxrec.reporting.auto_search import tried
from jaxrec.reporting.compare import comparison
from jaxrec.reporting.diagnosis import doctor, findings, verdict
from jaxrec.reporting.item_map import Method, item_map
from jaxrec.reporting.learned import Learned
from jaxrec.reporting.lists import examples
from jaxrec.reporting.markup import Html, document, join, tag
from jaxrec.reporting.pair_curves import told_apart
from jaxrec.reporting.plots import require_matplotlib
from jaxrec.reporting.run_records import Run, read_runs
from jaxrec.reporting.sections import (
    configuration,
    course,
    headline,
    notes,
    notices,
    origin,
    pictures,
    result_table,
    served,
    summary,
)


def report(
    runs: Sequence[str | Path],
    out: str | Path,
    titles: str | Path | None = None,
    item_map: Method = "pca",
) -> Path:
    """Write a self-contained HTML page that reports one run or compares several.

    The page loads no other files, and uses light or dark colours as the reader's browser does. The
    report of an unfinished run has what was recorded so far.

    Args:
      runs: run folders, one or more.
      out: the page to write; an existing file is replaced.
      titles: a table keyed by item id, whose titles are shown instead of ids and whose categories
        colour the map of items; by default a table beside the data, such as movies.csv.
      item_map: method of the map of items: principal components, or UMAP by umap-learn.

    Returns:
      ``out``.

    Raises:
      InputError: no folder is given, one is not a run folder, a file in it is damaged, the page
        cannot be written, or matplotlib (the extra ``report``) or umap-learn is not installed.

    After ``jaxrec train --run runs/quickstart-1``:

    >>> import jaxrec
    >>> jaxrec.report(["runs/quickstart-1"], "report.html").name
    'report.html'
    """
    require_matplotlib()
    if not runs:
        raise InputError("a report needs at least one run folder")
    records = read_runs([Path(run) for run in runs])
    try:
        page = _page(records, titles, item_map)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
        # Records are not checked one by one, since jaxrec wrote them. A record that was changed by
        # hand can therefore cause any of these errors.
        raise InputError(
            f"{', '.join(map(str, runs))}: a file of the run has an invalid value ({e}); "
            "restore or remove the file that was changed, such as eval.json or slices.json"
        ) from e
    out = Path(out)
    with replacing(out) as partial:
        partial.write_text(page, encoding="utf-8")
    return out


def _page(records: list[Run], titles: str | Path | None, method: Method) -> str:
    if len(records) == 1:
        (run,) = records
        return document(f"{run.label} · jaxrec", tag("main", _run(run, "h1", titles, method)))
    several = join(_run(run, "h2", titles, method) for run in records)
    return document(f"{len(records)} runs · jaxrec", tag("main", comparison(records), several))


def _run(run: Run, heading: str, titles: str | Path | None, method: Method) -> Html:
    learned, found = Learned.read(run, titles), findings(run)
    head, shown = pictures(run, Html() if learned is None else item_map(learned, method))
    return tag(
        "section",
        tag(heading, run.label),
        tag("p", summary(run), class_="lead"),
        notices(run),
        verdict(found),
        headline(run),
        head,
        notes(run),
        Html() if learned is None else examples(learned),
        result_table(run),
        told_apart(run),
        tried(run),
        course(run, shown),
        doctor(run, found),
        served(run, shown),
        origin(run),
        configuration(run),
    )

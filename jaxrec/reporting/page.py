"""The report: what was trained on what, what came of it, and how it went."""

from collections.abc import Sequence
from pathlib import Path

from jaxrec.errors import InputError
from jaxrec.files import replacing
from jaxrec.reporting.auto_search import tried
from jaxrec.reporting.compare import comparison
from jaxrec.reporting.diagnosis import doctor
from jaxrec.reporting.lists import examples
from jaxrec.reporting.markup import Html, document, join, tag
from jaxrec.reporting.pair_curves import told_apart
from jaxrec.reporting.plots import require_matplotlib
from jaxrec.reporting.run_records import Run, read_runs
from jaxrec.reporting.sections import (
    configuration,
    course,
    headline,
    notices,
    origin,
    result_table,
    served,
    summary,
)


def report(runs: Sequence[str | Path], out: str | Path, titles: str | Path | None = None) -> Path:
    """Write one self-contained HTML page about one run, or about several side by side.

    The page fetches nothing, follows the reader's light or dark scheme, and shows what there
    is: a run that has not finished has a report too.

    Args:
      runs: run folders, one or more.
      out: the page to write; one that is there is replaced.
      titles: a table keyed by item id, whose titles stand for the ids in lists.

    Returns:
      ``out``.

    Raises:
      InputError: no folder is given, one is no run, a file in it is damaged, the page cannot
        be written, or matplotlib (the extra ``report``) is not installed.
    """
    require_matplotlib()
    if not runs:
        raise InputError("a report needs a run folder")
    records = read_runs([Path(run) for run in runs])
    try:
        page = _page(records, titles)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
        # Records are written by jaxrec, and not checked one by one.
        raise InputError(
            f"{', '.join(map(str, runs))}: a record is not as a run writes it ({e}); "
            "fix or remove eval.json, slices.json or the changed file"
        ) from e
    out = Path(out)
    with replacing(out) as partial:
        partial.write_text(page, encoding="utf-8")
    return out


def _page(records: list[Run], titles: str | Path | None) -> str:
    if len(records) == 1:
        (run,) = records
        return document(f"{run.label} · jaxrec", tag("main", _one(run, "h1", titles)))
    several = join(_one(run, "h2", titles) for run in records)
    return document(f"{len(records)} runs · jaxrec", tag("main", comparison(records), several))


def _one(run: Run, heading: str, titles: str | Path | None) -> Html:
    return tag(
        "section",
        tag(heading, run.label),
        tag("p", summary(run), class_="lead"),
        notices(run),
        headline(run),
        examples(run, titles),
        result_table(run),
        told_apart(run),
        tried(run),
        course(run),
        doctor(run),
        served(run),
        origin(run),
        configuration(run),
    )

"""A finished run as a Python object."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxrec import config as configs
from jaxrec.config import Config
from jaxrec.errors import InputError
from jaxrec.runfolder import check_run, read_json, read_metrics

if TYPE_CHECKING:
    import polars as pl

    from jaxrec.recommend import Recommender


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its configuration and the content of eval.json.

    :func:`jaxrec.train` returns it, and :meth:`load` reads it from a folder:

    >>> import jaxrec
    >>> run = jaxrec.Run.load("runs/quickstart-1")
    >>> run.config.model.name, "recall@20" in run.metrics
    ('lightgcn', True)
    >>> "train" in run.history["split"]
    True

    Attributes:
      folder: the run folder.
      config: the configuration, from config.json.
      evaluation: the content of eval.json: the split, and the metrics of model and baselines.
    """

    folder: Path
    config: Config
    evaluation: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Load a finished run. Raises InputError if the folder has no finished run."""
        folder = check_run(folder)
        evaluation = read_json(folder / "eval.json")
        if not evaluation:
            raise InputError(
                f"{folder}: the run has not finished; finish it with `jaxrec resume {folder}`"
            )
        return cls(folder, configs.load(folder / "config.json"), evaluation)

    @property
    def metrics(self) -> dict[str, float]:
        """The reported metrics, by name (``recall@20``)."""
        return self.evaluation["metrics"]

    @property
    def history(self) -> pl.DataFrame:
        """The records of metrics.jsonl as a table; values that a record lacks are null."""
        import polars as pl

        records = read_metrics(self.folder / "metrics.jsonl")
        return pl.DataFrame(records, infer_schema_length=None)

    def recommender(self) -> Recommender:
        """Return the run's recommender, which recommends items and finds similar ones."""
        from jaxrec.recommend import Recommender

        return Recommender.load(self.folder)

    def report(self, out: str | Path | None = None) -> Path:
        """Write the report, by default to RUN/report.html, and return its path.

        Raises:
          InputError: the extra ``report`` is not installed, or the page cannot be written.
        """
        from jaxrec.reporting.page import report

        return report([self.folder], self.folder / "report.html" if out is None else out)

    def next_commands(self) -> list[str]:
        """Return the commands that a user is likely to run next on this run."""
        if not self.config.objective.users:
            return [
                f"jaxrec similar {self.folder} --items ID",
                f"jaxrec serve {self.folder}",
                f"jaxrec export {self.folder} --to parquet --out vectors",
            ]
        commands = [
            f"jaxrec recommend {self.folder} --out recs.parquet",
            f"jaxrec serve {self.folder}",
            f"jaxrec doctor {self.folder}",
        ]
        held_out = bool(self.metrics) and not self.config.train.refit
        return [*commands, f"jaxrec refit {self.folder}"] if held_out else commands

    @property
    def _headline(self) -> tuple[str, float] | None:
        """The name and value of the selection metric; if it is missing, of the first metric."""
        name = self.config.metric
        if name in self.metrics:
            return name, self.metrics[name]
        return next(iter(self.metrics.items()), None)

    def __repr__(self) -> str:
        headline = self._headline
        text = ""
        if headline is not None:
            text = f", {self.evaluation['split']} {headline[0]} {headline[1]:.4f}"
        return f"Run({str(self.folder)!r}, {self.config.model.name}{text})"

    def _repr_html_(self) -> str:
        """Return a table of the metrics of model and baselines, which notebooks show."""
        columns = {self.config.model.name: self.metrics, **self.evaluation.get("baselines", {})}
        head = "".join(f"<th>{escape(str(name))}</th>" for name in columns)
        rows = [
            f"<tr><th>{escape(name)}</th>"
            + "".join(
                f"<td>{m[name]:.4f}</td>" if name in m else "<td></td>" for m in columns.values()
            )
            + "</tr>"
            for name in self.metrics
        ]
        return (
            f"<p><b>{escape(str(self.folder))}</b>: {escape(self.config.model.name)}, "
            f"{escape(str(self.evaluation.get('split', '')))}</p>"
            f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"
        )

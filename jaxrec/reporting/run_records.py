"""Read all records of a run folder; records that an unfinished run has not written are empty."""

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec.config import KINDS, OBJECTIVES, Objective, of_loss, shown_cutoff
from jaxrec.runfolder import check_run, read_curves, read_json, read_lines, read_metrics


@dataclass(frozen=True)
class Run:
    """The unchecked records of a run folder; ``label`` is the run's name in the report."""

    label: str
    folder: Path
    config: dict[str, Any]
    env: dict[str, Any]
    evaluation: dict[str, Any]
    slices: dict[str, Any]
    metrics: list[dict[str, Any]]
    timing: list[dict[str, Any]]
    pair_curves: dict[str, np.ndarray] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)

    @property
    def of_items(self) -> bool:
        """Whether the model is trained on pairs of items, without users."""
        return not self._objective.users

    @property
    def _objective(self) -> Objective:
        """The objective of the loss, or that of item models if the model has no users."""
        kind = KINDS.get(self.config.get("model", {}).get("name"))
        if kind is not None and not kind.users:
            return next(objective for objective in OBJECTIVES.values() if not objective.users)
        return of_loss(self.config.get("loss", {}).get("name", ""))

    @property
    def preset(self) -> str:
        return str(self.config.get("preset", "custom"))

    @property
    def data(self) -> dict[str, Any]:
        return self.env.get("data") or {}

    @property
    def start(self) -> list[dict[str, Any]]:
        """The records of the run's warm start, or an empty list if it had none."""
        return self.env.get("start") or []

    @property
    def metric(self) -> str:
        """The metric that selects the parameters; it is also the first headline figure."""
        chosen = self.config.get("eval", {}).get("metric")
        return str(chosen or self._objective.default_metric.format(k=self.cutoff))

    @property
    def cutoff(self) -> int:
        """The cut-off that is shown in figures and texts with a single cut-off."""
        listed = self.config.get("eval", {}).get("k")
        ks = [k for k in listed if isinstance(k, int)] if isinstance(listed, list) else []
        return shown_cutoff(ks or [20])

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """The results that exist, as ``{"test": {"metrics", "baselines", "users"}, ...}``."""
        main = self.evaluation
        results = {str(main.get("split", "test")): main} if main.get("metrics") else {}
        for split in ("validation", "test"):
            if main.get(split):
                results.setdefault(split, main[split])
        return results

    @property
    def selected_on(self) -> str | None:
        """The split whose result chose the parameters."""
        configured = self.config.get("eval", {}).get("select_on")
        return self.evaluation.get("selected_on", configured)

    @property
    def final(self) -> dict[str, Any]:
        """The result on test, or on validation if there is none on test, or an empty dict."""
        return self.results.get("test") or self.results.get("validation") or {}

    @property
    def on_everything(self) -> bool:
        """Whether the run has finished and was trained on all pairs, so that none are held out."""
        held_out = self.data.get("validation") or self.data.get("test")
        return bool(self.evaluation and self.data and not self.results and not held_out)

    @property
    def metrics_shown(self) -> list[str]:
        """The metrics with curves and headlines: the selection metric, then related metrics."""
        if not self.of_items:
            return list(dict.fromkeys((self.metric, self.metric.replace("recall", "ndcg"))))
        ks = [int(n[7:]) for n in self.final.get("metrics", {}) if n.startswith("recall@")]
        recall = [f"recall@{shown_cutoff(ks)}"] if ks else []
        return list(dict.fromkeys((self.metric, "auc", "average_precision", *recall)))

    @property
    def step_axis(self) -> str:
        """The label of an axis of steps, with its unit."""
        size = self.config.get("train", {}).get("batch_size")
        if not isinstance(size, int) or self.unit != "pairs":
            return "step"
        return f"step (batch of {size:,} pairs)"

    @property
    def steps_per_epoch(self) -> float | None:
        """The number of steps per epoch, or None if the records do not tell."""
        for line in reversed(self.metrics):
            step, epoch = line.get("step"), line.get("epoch")
            if line.get("phase", "search") != "search":
                continue
            if isinstance(step, int) and isinstance(epoch, int | float) and step and epoch:
                return step / epoch
        return None

    def curve(self, split: str, name: str, phase: str = "search") -> tuple[list, list]:
        """Return the steps at which ``name`` was recorded on ``split``, and its values."""
        points = [
            (line["step"], line[name])
            for line in self.metrics
            if line.get("split") == split
            and line.get("phase", "search") == phase
            and "step" in line
            and isinstance(line.get(name), int | float)
        ]
        return [step for step, _ in points], [value for _, value in points]

    @property
    def seconds(self) -> float | None:
        """The wall time, summed over the processes of a resumed run."""
        times = [line["seconds"] for line in self.timing if "seconds" in line]
        # Each process starts its clock at 0.
        ends = [a for a, b in itertools.pairwise(times) if b < a] + times[-1:]
        return float(sum(ends)) if times else None

    @property
    def unit(self) -> str:
        """The unit of the run's speed: "walks" or "pairs"."""
        return "walks" if any("walks_per_second" in line for line in self.timing) else "pairs"

    def timed(self, name: str) -> list[float]:
        """Return the values of ``name`` in timing.jsonl, in order."""
        return [line[name] for line in self.timing if isinstance(line.get(name), int | float)]


def read_runs(folders: list[Path]) -> list[Run]:
    """Read the records of run folders, labelled by name, or by path if names repeat.

    Raises:
      InputError: a folder is not a run folder, or a file in it is damaged.
    """
    names = [check_run(folder).resolve().name for folder in folders]
    runs = []
    for folder, name in zip(folders, names, strict=True):
        runs.append(
            Run(
                label=name if names.count(name) == 1 else str(folder),
                folder=folder,
                config=read_json(folder / "config.json"),
                env=read_json(folder / "env.json"),
                evaluation=read_json(folder / "eval.json"),
                slices=read_json(folder / "slices.json"),
                metrics=read_metrics(folder / "metrics.jsonl"),
                timing=read_lines(folder / "timing.jsonl"),
                pair_curves=read_curves(folder),
                search=read_json(folder / "auto.json"),
            )
        )
    return runs


def setting(value: object) -> str | None:
    """Format a value of the configuration; None stays None."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if value is None or isinstance(value, str) else json.dumps(value)


def flatten(config: dict[str, Any]) -> dict[str, str | None]:
    """Flatten a configuration to formatted values by dotted name."""
    flat: dict[str, str | None] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{field}": setting(v) for field, v in value.items()}
        else:
            flat[name] = setting(value)
    return flat

"""Adapters that send metrics to experiment trackers; each tracker is an optional extra.

A metric is called ``split/name`` in every tracker. Further slashes become dots, since trackers read
slashes as folders, and one path cannot be both a metric and a folder.
"""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxrec.config import LogConfig
from jaxrec.errors import InputError
from jaxrec.files import parse_json


@runtime_checkable
class Sink(Protocol):
    """An experiment tracker that receives a run's metrics."""

    def write(self, step: int, values: dict[str, float]) -> None: ...
    def close(self) -> None: ...


def metric_name(split: str, name: str) -> str:
    """Return ``split/name`` with further slashes replaced by dots."""
    return f"{split}/{name.replace('/', '.')}"


class _TensorBoard:
    def __init__(self, run: Path, _: str) -> None:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]

        self._writer = SummaryWriter(str(run / "tensorboard"))

    def write(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, run: Path, project: str) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self._run = wandb.init(
            project=project, name=run.name, dir=str(run), config=_config(run), reinit="create_new"
        )

    def write(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    """Log to the MLflow server at MLFLOW_TRACKING_URI, or else to SQLite in RUN/mlflow.db.

    A resumed run continues the same MLflow run. MLflow forbids @ in names, so recall@20 becomes
    recall_at_20.
    """

    def __init__(self, run: Path, experiment: str) -> None:
        from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

        local = f"sqlite:///{run.resolve() / 'mlflow.db'}"
        self._client = client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", local))
        found = client.get_experiment_by_name(experiment)
        number = client.create_experiment(experiment) if found is None else found.experiment_id
        tag = str(run.resolve()).replace("'", "")
        earlier = client.search_runs([number], f"tags.`jaxrec.run` = '{tag}'", max_results=1)
        if earlier:
            self._id = earlier[0].info.run_id
            client.update_run(self._id, "RUNNING")
            return
        tags = {"jaxrec.run": tag}
        self._id = client.create_run(number, tags=tags, run_name=run.name).info.run_id
        for name, value in _flat(_config(run)).items():
            client.log_param(self._id, name, str(value)[:500])

    def write(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._id, name.replace("@", "_at_"), value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._id)


class _Trackio:
    def __init__(self, run: Path, project: str) -> None:
        import trackio  # pyright: ignore[reportMissingImports]

        self._run = trackio.init(
            project=project, name=run.name, config=_config(run), resume="allow", embed=False
        )

    def write(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()


_KINDS: dict[str, tuple[str, Callable[[Path, str], Sink]]] = {
    "tensorboard": ("tensorboardX", _TensorBoard),
    "wandb": ("wandb", _Wandb),
    "mlflow": ("mlflow", _Mlflow),
    "trackio": ("trackio", _Trackio),
}
"""The module that each tracker needs, and the tracker's adapter. The keys are the names of the log
options, which are also the names of the extras."""


def check_extras(config: LogConfig) -> None:
    """Raise InputError if the package of a requested tracker is not installed."""
    needed = {name: module for name, (module, _) in _KINDS.items()} | {"energy": "codecarbon"}
    for extra, module in needed.items():
        if getattr(config, extra) and importlib.util.find_spec(module) is None:
            raise InputError(
                f"log.{extra} needs a package that is not installed: pip install 'jaxrec[{extra}]'"
            )


def sinks(run: Path, config: LogConfig) -> list[Sink]:
    """Open the trackers that the configuration requests."""
    options = ((getattr(config, name), adapter) for name, (_, adapter) in _KINDS.items())
    return [adapter(run, str(value)) for value, adapter in options if value]


class Energy:
    """Measure the energy that the process and its devices use, with CodeCarbon in offline mode.

    Args:
      country: three-letter ISO code of the country whose power mix determines the emissions.

    Raises:
      InputError: CodeCarbon does not know the country.
    """

    def __init__(self, country: str) -> None:
        from codecarbon import OfflineEmissionsTracker  # pyright: ignore[reportMissingImports]

        try:
            self._tracker = OfflineEmissionsTracker(
                country_iso_code=country,
                save_to_file=False,
                log_level="critical",
                allow_multiple_runs=True,
            )
        except Exception as e:
            raise InputError(
                f"log.energy {country!r}: {e}; give a three-letter code such as DEU"
            ) from e
        self._tracker.start()

    def stop(self) -> dict[str, float]:
        """Return the energy in kWh and the emissions in kg of CO2-equivalent since the start.

        The result is empty if CodeCarbon could not measure them.
        """
        emissions = self._tracker.stop()
        data = getattr(self._tracker, "final_emissions_data", None)
        if data is None:  # CodeCarbon logs why, and its failure must not end the run
            return {}
        return {"energy_kwh": float(data.energy_consumed), "emissions_kg": float(emissions or 0)}


def _config(run: Path) -> dict[str, Any]:
    """Read the run's config.json, without checking it."""
    path = run / "config.json"
    return parse_json(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested dictionaries to dotted names."""
    flat = {}
    for name, value in values.items():
        nested = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat

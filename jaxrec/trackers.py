"""Where metrics go besides metrics.jsonl: adapters to experiment trackers, each an extra.

A metric is ``split/name``, one level deep in every tracker: slashes of its own become dots, so that
no metric is a folder of another.
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
    """Where metrics go besides metrics.jsonl."""

    def write(self, step: int, values: dict[str, float]) -> None: ...
    def close(self) -> None: ...


def metric_name(split: str, name: str) -> str:
    """``split/name`` with no further slash."""
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
    """MLflow by MLFLOW_TRACKING_URI, or else SQLite in RUN/mlflow.db.

    A run that is resumed goes on in the same MLflow run. MLflow has no @ in names: recall@20 is
    recall_at_20 there.
    """

    def __init__(self, run: Path, experiment: str) -> None:
        from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

        own = f"sqlite:///{run.resolve() / 'mlflow.db'}"
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", own))
        found = self._client.get_experiment_by_name(experiment)
        where = self._client.create_experiment(experiment) if found is None else found.experiment_id
        tag = str(run.resolve()).replace("'", "")
        before = self._client.search_runs([where], f"tags.`jaxrec.run` = '{tag}'", max_results=1)
        if before:
            self._id = before[0].info.run_id
            self._client.update_run(self._id, "RUNNING")
            return
        tags = {"jaxrec.run": tag}
        self._id = self._client.create_run(where, tags=tags, run_name=run.name).info.run_id
        for name, value in _flat(_config(run)).items():
            self._client.log_param(self._id, name, str(value)[:500])

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
"""By the option of the log, which is also the extra: the module it brings, and the adapter."""


def check_extras(config: LogConfig) -> None:
    """Raise InputError where the log is to go where no installed package takes it."""
    needed = {name: module for name, (module, _) in _KINDS.items()} | {"energy": "codecarbon"}
    for extra, module in needed.items():
        if getattr(config, extra) and importlib.util.find_spec(module) is None:
            raise InputError(f"log.{extra} needs an extra: pip install 'jaxrec[{extra}]'")


def sinks(run: Path, config: LogConfig) -> list[Sink]:
    """Those that the configuration asks for, opened."""
    asked = ((getattr(config, name), make) for name, (_, make) in _KINDS.items())
    return [make(run, str(value)) for value, make in asked if value]


class Energy:
    """What the process and its devices use, as CodeCarbon estimates it without network.

    Args:
      country: ISO code of three letters, whose mix of power decides the emissions.

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
            raise InputError(f"log.energy {country!r}: {e}; give a code such as DEU") from e
        self._tracker.start()

    def stop(self) -> dict[str, float]:
        """Energy in kWh and emissions in kg of CO2-equivalent since the start, if measured."""
        emissions = self._tracker.stop()
        found = getattr(self._tracker, "final_emissions_data", None)
        if found is None:  # it tells of its own troubles, and no run should end by them
            return {}
        return {"energy_kwh": float(found.energy_consumed), "emissions_kg": float(emissions or 0)}


def _config(run: Path) -> dict[str, Any]:
    """The run's configuration, as it lies there."""
    path = run / "config.json"
    return parse_json(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    found = {}
    for name, value in values.items():
        inner = isinstance(value, dict)
        found |= _flat(value, f"{above}{name}.") if inner else {f"{above}{name}": value}
    return found

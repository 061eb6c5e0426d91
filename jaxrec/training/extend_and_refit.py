"""Continues a run for more epochs, and trains a finished run's model again on all data."""

import dataclasses
from pathlib import Path
from typing import Any

from jaxrec import config as configs
from jaxrec.config import Config, SplitConfig, lower_is_better
from jaxrec.errors import InputError
from jaxrec.files import remove, write_json
from jaxrec.parted.layout import is_parted
from jaxrec.runfolder import read_json, read_metrics
from jaxrec.training.checkpoint import Checkpoints
from jaxrec.training.finished_run import Run


def lengthened(run: Path, config: Config, epochs: int) -> Config:
    """Return the configuration of a run that continues to ``epochs`` epochs.

    The result is the same to the last bit as that of a run with this length from the start.
    Therefore, settings that make the first steps depend on the length are refused.

    Raises:
      InputError: the run would become shorter, or it cannot be continued to this length.
    """
    train, optim = config.train, config.optim
    if train.steps is not None:
        raise InputError(
            f"{run}: its length is set in steps (train.steps), so it cannot be given more epochs; "
            "train a new run with a higher --train.steps"
        )
    if epochs < train.epochs:
        raise InputError(
            f"{run}: it already has {train.epochs} epochs; set --train.epochs higher than that"
        )
    if epochs == train.epochs:
        return config
    if train.refit:
        raise InputError(
            f"{run}: train.refit has replaced the model that longer training would continue from; "
            f"train a new run with --train.epochs {epochs}"
        )
    if optim.schedule != "constant":
        raise InputError(
            f"{run}: the learning rate of optim.schedule {optim.schedule} depends on the run's "
            f"length, so {epochs} epochs would differ from the first step on; train a new run"
        )
    if optim.registered:
        raise InputError(
            f"{run}: your optimizer {optim.name} is built for a run's length, so {epochs} epochs "
            "may differ from the first step on; train a new run"
        )
    return dataclasses.replace(config, train=dataclasses.replace(train, epochs=epochs))


def begin(run: Path, config: Config) -> None:
    """Turn a finished run's folder into an interrupted run's folder with this configuration.

    env.json records the earlier lengths. embeddings.npz keeps the finished run's embeddings until
    the longer run ends.
    """
    before = configs.load(run / "config.json")
    if before.train.epochs == config.train.epochs:
        return
    every = before.eval.every
    off_schedule = every is not None and (every == 0 or before.train.epochs % every > 0)
    checkpoints = Checkpoints(run / "checkpoints", config.checkpoint.keep)
    try:
        steps = checkpoints.steps()
        if off_schedule and steps and steps[-1] == checkpoints.meta(steps[-1]).get("total"):
            # The last evaluation took place only because the run ended; a longer run lacks it.
            checkpoints.cut(steps[-1] - 1)
    finally:
        checkpoints.close()
    for name in ("eval.json", "report.html"):
        remove(run / name)
    env = read_json(run / "env.json")
    env["lengths"] = [*env.get("lengths", []), {"epochs": before.train.epochs}]
    write_json(run / "env.json", env)
    write_json(run / "config.json", configs.to_dict(config))


def on_everything(run: str | Path) -> Config:
    """Return the configuration that trains a finished run's model on all pairs, for production.

    The new run is as long as the finished run was at its best evaluation.

    Raises:
      InputError: there is no finished run, or its model cannot be trained on all pairs.
    """
    finished = Run.load(run)
    run, config = finished.folder, finished.config
    if not config.objective.users:
        raise InputError(
            f"{run}: a model of items is evaluated on pairs that it must not be trained on, so it "
            "cannot be trained on all pairs"
        )
    if is_parted(config.data):
        raise InputError(
            f"{run}: cannot be trained on all pairs, since its partitioned data has a fixed split; "
            "partition the data again with --split.test 0 --split.validation 0, and train on the "
            "new parts with --eval.select-on none"
        )
    train = dataclasses.replace(config.train, patience=0, refit=False, **_length(run, config))
    evaluation = dataclasses.replace(config.eval, select_on="none", cold="keep", repeatable=False)
    split = SplitConfig(name="random", test=0.0, validation=0.0)
    return dataclasses.replace(config, train=train, eval=evaluation, split=split)


def _length(run: Path, config: Config) -> dict[str, Any]:
    """Return the run's length at its best evaluation: in whole epochs, or otherwise in steps.

    The result is empty if the run has no evaluations; the new run then keeps the run's length.
    """
    select, metric = config.eval.select_on, config.metric
    records = read_metrics(run / "metrics.jsonl")
    evaluations = [
        r for r in records if r["phase"] == "search" and r["split"] == select and metric in r
    ]
    if not evaluations or config.model.kind.fitted:
        return {}
    sign = -1 if lower_is_better(metric) else 1
    best = max(evaluations, key=lambda r: (sign * r[metric], -r["step"]))
    if config.train.steps is None and best["epoch"] == int(best["epoch"]):
        return {"epochs": int(best["epoch"])}
    return {"steps": best["step"]}

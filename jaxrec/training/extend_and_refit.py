"""A run that goes on for longer than it was begun for, and one more on all of its data."""

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
    """The configuration of a run that goes on to so many epochs.

    Its bits are those of a run of that length from the start: so what depends on the length from
    the first step on is refused.

    Raises:
      InputError: it would be no longer, or other from the start.
    """
    train, optim = config.train, config.optim
    if train.steps is not None:
        raise InputError(f"{run}: its length is in steps (train.steps); it has no epochs to add to")
    if epochs < train.epochs:
        raise InputError(f"{run}: has {train.epochs} epochs already; give more of them")
    if epochs == train.epochs:
        return config
    if train.refit:
        raise InputError(
            f"{run}: train.refit has trained anew on validation, and the search before it is gone; "
            f"train anew with --train.epochs {epochs}"
        )
    if optim.schedule != "constant":
        raise InputError(
            f"{run}: optim.schedule {optim.schedule} falls over the length of the run, and over "
            f"{epochs} epochs would have been another from the first step on; train anew"
        )
    if optim.registered:
        raise InputError(
            f"{run}: optim.name {optim.name} is your own, and is made for a length: over {epochs} "
            "epochs it may be another from the first step on; train anew"
        )
    return dataclasses.replace(config, train=dataclasses.replace(train, epochs=epochs))


def begin(run: Path, config: Config) -> None:
    """Make a run folder one of a run of this configuration's length that was interrupted.

    env.json keeps the lengths that it had before. What it has learnt so far stays in
    embeddings.npz until it ends anew.
    """
    before = configs.load(run / "config.json")
    if before.train.epochs == config.train.epochs:
        return
    every = before.eval.every
    off = every is not None and (every == 0 or before.train.epochs % every > 0)
    checkpoints = Checkpoints(run / "checkpoints", config.checkpoint.keep)
    try:
        steps = checkpoints.steps()
        if off and steps and steps[-1] == checkpoints.meta(steps[-1]).get("total"):
            # It was evaluated at its end alone; the longer run is not evaluated there.
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
    """The configuration that trains a finished run's model for production: on all pairs, for the
    length that the run's validation has chosen.

    Raises:
      InputError: no run, one that has not finished, or one that cannot be trained so.
    """
    finished = Run.load(run)
    run, config = finished.folder, finished.config
    if not config.objective.users:
        raise InputError(f"{run}: a model of items is judged by pairs that it must not train on")
    if is_parted(config.data):
        raise InputError(f"{run}: data in parts has its split inside; write it anew without one")
    train = dataclasses.replace(config.train, patience=0, refit=False, **_length(run, config))
    evaluation = dataclasses.replace(config.eval, select_on="none", cold="keep", repeatable=False)
    split = SplitConfig(name="random", test=0.0, validation=0.0)
    return dataclasses.replace(config, train=train, eval=evaluation, split=split)


def _length(run: Path, config: Config) -> dict[str, Any]:
    """The epochs, or where they are not whole the steps, after which the run was at its best."""
    select, metric = config.eval.select_on, config.metric
    records = read_metrics(run / "metrics.jsonl")
    found = [r for r in records if r["phase"] == "search" and r["split"] == select and metric in r]
    if not found or config.model.kind.fitted:
        return {}
    sign = -1 if lower_is_better(metric) else 1
    best = max(found, key=lambda r: (sign * r[metric], -r["step"]))
    if config.train.steps is None and best["epoch"] == int(best["epoch"]):
        return {"epochs": int(best["epoch"])}
    return {"steps": best["step"]}

"""Objectives in training: batches, targets, losses, and the loss of a constant score."""

import importlib

from jaxrec.config import Config
from jaxrec.training.objectives.objective import UserObjective


def of(config: Config) -> UserObjective:
    """Return the objective of a configuration with users."""
    return importlib.import_module(config.objective.trains).OBJECTIVE

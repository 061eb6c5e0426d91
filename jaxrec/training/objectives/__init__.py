"""The training part of objectives: batches, targets, losses, and the loss of a constant."""

import importlib

from jaxrec.config import Config
from jaxrec.training.objectives.objective import UserObjective


def of(config: Config) -> UserObjective:
    """Return the objective of a configuration with users."""
    return importlib.import_module(config.objective.trains).OBJECTIVE

"""The half of an objective that trains: batches, targets, losses, and a constant's loss."""

import importlib

from jaxrec.config import Config
from jaxrec.training.objectives.objective import UserObjective


def of(config: Config) -> UserObjective:
    """What a configuration is trained towards, of those that learn from users and items."""
    return importlib.import_module(config.objective.trains).OBJECTIVE

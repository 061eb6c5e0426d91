"""The configuration of a run: frozen dataclasses that are checked on creation.

The package imports neither jax nor numpy, so that the command line can read, check and refuse a
configuration in milliseconds. ``config.json`` in a run folder is ``to_dict`` of a ``Config``;
``from_dict`` reads it back.
"""

from jaxrec.config.checks import (
    check_cutoffs,
    shown_cutoff,
)
from jaxrec.config.codec import from_dict, load, to_dict
from jaxrec.config.config import Config
from jaxrec.config.items import RELATIONS, PairsConfig, WalksConfig
from jaxrec.config.mesh import MeshConfig
from jaxrec.config.models import KINDS, MODEL_NAMES, ModelConfig
from jaxrec.config.objectives import (
    LOSS_NAMES,
    METRIC_NAMES,
    OBJECTIVES,
    OWN_METRICS,
    Objective,
    Table,
    lower_is_better,
    of_loss,
)
from jaxrec.config.sections import (
    FOLDED,
    IN_MEMORY,
    NEGATIVES_NAMES,
    OPTIMIZER_NAMES,
    CheckpointConfig,
    EvalConfig,
    FilterConfig,
    LogConfig,
    LossConfig,
    NegativesConfig,
    OptimConfig,
    SplitConfig,
    TrainConfig,
)

__all__ = [
    "FOLDED",
    "IN_MEMORY",
    "KINDS",
    "LOSS_NAMES",
    "METRIC_NAMES",
    "MODEL_NAMES",
    "NEGATIVES_NAMES",
    "OBJECTIVES",
    "OPTIMIZER_NAMES",
    "OWN_METRICS",
    "RELATIONS",
    "CheckpointConfig",
    "Config",
    "EvalConfig",
    "FilterConfig",
    "LogConfig",
    "LossConfig",
    "MeshConfig",
    "ModelConfig",
    "NegativesConfig",
    "Objective",
    "OptimConfig",
    "PairsConfig",
    "SplitConfig",
    "Table",
    "TrainConfig",
    "WalksConfig",
    "check_cutoffs",
    "from_dict",
    "load",
    "lower_is_better",
    "of_loss",
    "shown_cutoff",
    "to_dict",
]

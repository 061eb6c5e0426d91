"""The whole configuration of a run as frozen dataclasses, checked when they are made.

Imports neither jax nor numpy, so that the command line can read, check and refuse a
configuration in milliseconds. ``config.json`` in a run folder is ``to_dict`` of a
``Config``, and ``from_dict`` of it gives an equal ``Config`` back.
"""

from jaxrec.config.checks import (
    METRIC_NAMES,
    PAIR_METRICS,
    RATING_METRICS,
    check_cutoffs,
    lower_is_better,
    shown_cutoff,
)
from jaxrec.config.codec import from_dict, load, to_dict
from jaxrec.config.items import RELATIONS, PairsConfig, WalksConfig
from jaxrec.config.mesh import MeshConfig
from jaxrec.config.models import KINDS, MODEL_NAMES, ModelConfig
from jaxrec.config.sections import (
    IN_MEMORY,
    LOSS_NAMES,
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
from jaxrec.config.whole import Config

__all__ = [
    "IN_MEMORY",
    "KINDS",
    "LOSS_NAMES",
    "METRIC_NAMES",
    "MODEL_NAMES",
    "NEGATIVES_NAMES",
    "OPTIMIZER_NAMES",
    "PAIR_METRICS",
    "RATING_METRICS",
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
    "OptimConfig",
    "PairsConfig",
    "SplitConfig",
    "TrainConfig",
    "WalksConfig",
    "check_cutoffs",
    "from_dict",
    "load",
    "lower_is_better",
    "shown_cutoff",
    "to_dict",
]

"""jaxrec: graph recommenders on accelerators.

Public names are imported at their first use, so that ``import jaxrec`` is quick and loads no jax.

What is stable
--------------
Versions follow SemVer. The public interface consists of the names in ``jaxrec.__all__``, the names
in ``__all__`` of ``jaxrec.graph``, ``jaxrec.losses``, ``jaxrec.models`` and ``jaxrec.negatives``,
the commands and options of ``jaxrec``, the names of presets, and the files of a run folder. Other
modules may change in any release.

Within a major version, nothing in the public interface is removed or changes its meaning. A name
that is to be removed is first deprecated: for at least one minor release it works as before, but
gives a ``DeprecationWarning`` (on the command line, a line on stderr) that names its successor. The
next major version removes it. Run folders and prepared data of an older release stay readable
within its major version and the next one.

The exact results of training are not part of this promise. Equal seeds give results that are equal
to the last bit only with one release of jaxrec, one release of JAX and one kind of device; the
changelog names the presets whose results a release changes. Messages may be reworded in any
release, but the type and the exit status of an error do not change.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxrec import fork_check, host_settings

_POSIX = ("fcntl", "resource")  # modules for locking run folders and measuring memory
for _module in _POSIX:
    try:
        importlib.import_module(_module)
    except ImportError:
        raise ImportError(
            f"jaxrec needs Linux or macOS (on Windows use WSL): Python has no module {_module} here"
        ) from None

if TYPE_CHECKING:
    from jaxrec.config import Config
    from jaxrec.data.dataset import Dataset
    from jaxrec.data.formats import read
    from jaxrec.data.formats.in_memory import (
        from_arrow,
        from_numpy,
        from_pandas,
        from_polars,
        from_scipy,
    )
    from jaxrec.data.formats.item_graphs import read_items
    from jaxrec.data.itemgraph import ItemGraph
    from jaxrec.diagnosis.diagnose import diagnose as doctor
    from jaxrec.embedding import embed
    from jaxrec.errors import InputError, Interrupted, JaxrecError, RunError
    from jaxrec.estimator import GraphRecommender
    from jaxrec.evaluation.evaluator import Evaluator
    from jaxrec.evaluation.run import evaluate
    from jaxrec.exporting import export
    from jaxrec.presets import get as preset
    from jaxrec.recommend import Recommender
    from jaxrec.registry import (
        register_command,
        register_export,
        register_format,
        register_loss,
        register_metric,
        register_model,
        register_negatives,
        register_optimizer,
        register_preset,
        register_rule,
    )
    from jaxrec.reporting.page import report
    from jaxrec.training.finished_run import Run
    from jaxrec.training.run import refit, resume, train

__version__ = "1.0.0"

fork_check.watch()

_HOME = {
    "Config": "config",
    "Dataset": "data.dataset",
    "Evaluator": "evaluation.evaluator",
    "GraphRecommender": "estimator",
    "InputError": "errors",
    "Interrupted": "errors",
    "ItemGraph": "data.itemgraph",
    "JaxrecError": "errors",
    "Recommender": "recommend",
    "Run": "training.finished_run",
    "RunError": "errors",
    "doctor": "diagnosis.diagnose:diagnose",
    "embed": "embedding",
    "evaluate": "evaluation.run",
    "export": "exporting",
    "from_arrow": "data.formats.in_memory",
    "from_numpy": "data.formats.in_memory",
    "from_pandas": "data.formats.in_memory",
    "from_polars": "data.formats.in_memory",
    "from_scipy": "data.formats.in_memory",
    "preset": "presets:get",
    "read": "data.formats",
    "read_items": "data.formats.item_graphs",
    "register_format": "registry",
    "register_rule": "registry",
    "register_command": "registry",
    "register_export": "registry",
    "register_preset": "registry",
    "register_optimizer": "registry",
    "register_loss": "registry",
    "register_metric": "registry",
    "register_model": "registry",
    "register_negatives": "registry",
    "report": "reporting.page",
    "refit": "training.run",
    "resume": "training.run",
    "train": "training.run",
}

__all__ = [
    "Config",
    "Dataset",
    "Evaluator",
    "GraphRecommender",
    "InputError",
    "Interrupted",
    "ItemGraph",
    "JaxrecError",
    "Recommender",
    "Run",
    "RunError",
    "__version__",
    "doctor",
    "embed",
    "evaluate",
    "export",
    "from_arrow",
    "from_numpy",
    "from_pandas",
    "from_polars",
    "from_scipy",
    "preset",
    "read",
    "read_items",
    "refit",
    "register_command",
    "register_export",
    "register_format",
    "register_loss",
    "register_metric",
    "register_model",
    "register_negatives",
    "register_optimizer",
    "register_preset",
    "register_rule",
    "report",
    "resume",
    "train",
]


# Modules that are attributes of jaxrec, as in jaxrec.models.Encoder.
_MODULES = ("graph", "losses", "models", "negatives")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        with host_settings.importing():
            return importlib.import_module(f"jaxrec.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'jaxrec' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    with host_settings.importing():
        value = getattr(importlib.import_module(f"jaxrec.{module}"), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

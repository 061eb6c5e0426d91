"""Registries of the user's own models, losses, samplers, metrics, formats and commands, by name.

A run folder records names and options, never code. Only modules and entry points that the user
named are imported.
"""

import importlib
import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from jaxrec.config import (
    LOSS_NAMES,
    METRIC_NAMES,
    MODEL_NAMES,
    NEGATIVES_NAMES,
    OPTIMIZER_NAMES,
    OWN_METRICS,
    Config,
    planted_mistakes,
)
from jaxrec.config.checks import check
from jaxrec.errors import InputError, nearest

T = TypeVar("T")
ENTRY_POINTS = "jaxrec.plugins"
"""Entry point group of plugins; each entry point names a module that registers its objects."""


class Registry(Generic[T]):
    """Registered objects of one kind, by name.

    Args:
      kind: name of the kind in messages.
      builtin: names of jaxrec's own objects, which users cannot register.
      option: command-line option that selects an object.
      homes: modules of jaxrec that register objects, by the names of the objects. A module is
        imported when one of its objects is first looked up.
    """

    def __init__(
        self,
        kind: str,
        builtin: Iterable[str],
        option: str,
        homes: Mapping[str, str] | None = None,
    ) -> None:
        self.kind, self.builtin, self.option = kind, tuple(builtin), option
        self._found: dict[str, T] = {}
        self._homes, self._at_home = dict(homes or {}), dict[str, T]()

    def add(self, name: str, value: T) -> T:
        """Register a value. A rerun definition, as in a notebook cell, replaces the old value.

        Raises:
          ValueError: the name is invalid, reserved, or belongs to another value.
        """
        if not re.fullmatch(r"[A-Za-z_][\w.:<>-]*", name):
            raise ValueError(
                f"{self.kind} {name!r}: a name must begin with a letter or _, and may only have "
                "letters, digits and . : < > - _"
            )
        if name in self._homes:
            importlib.import_module(self._homes[name])  # register the built-in value first
            if name not in self._at_home:
                self._at_home[name] = value
                return value
        if name in self.builtin or name in self._homes:
            raise ValueError(f"{self.kind} {name!r} is one of jaxrec's own; choose another name")
        old = self._found.get(name)
        if old is not None and _home(old) != _home(value):
            raise ValueError(f"{self.kind} {name!r} is already registered by {_home(old)}")
        self._found[name] = value
        return value

    def decorator(self, name: str) -> Callable[[Any], Any]:
        """Return a decorator that registers an object under the name."""
        return lambda value: self.add(name, value)

    def names(self) -> list[str]:
        """Return all names, jaxrec's own first."""
        return [*self.builtin, *self._found]

    def registered(self) -> dict[str, T]:
        """Return the user-registered objects by name."""
        return dict(self._found)

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def get(self, name: str, shown: str = "") -> T:
        """Look up a registered value; ``shown`` is the name in messages, by default ``name``.

        Raises:
          InputError: the name is not registered; the message says how to load its module.
        """
        if name in self._homes:
            importlib.import_module(self._homes[name])
            return self._at_home[name]
        if name not in self._found:
            close, known = nearest(name, self.names()), ", ".join(self.names())
            raise InputError(
                f"{self.option} {shown or repr(name)} is not one of {known}{close}; to use your "
                f"own {self.kind}, give --plugin MODULE, or in Python import the module that "
                "registers it"
            )
        return self._found[name]

    def check(self, name: str, shown: str = "") -> None:
        """Raise InputError as :meth:`get` does, unless the name is jaxrec's own or registered."""
        if name not in self.builtin:
            self.get(name, shown)


def _home(value: Any) -> str:
    """Return where a value was defined."""
    return f"{getattr(value, '__module__', '?')}.{getattr(value, '__qualname__', value)}"


MODELS: Registry[Callable[..., Any]] = Registry("model", MODEL_NAMES, "--model.name")
_MISTAKES = "jaxrec.presets.mistakes"
LOSSES: Registry[Any] = Registry(
    "loss", LOSS_NAMES, "--loss.name", dict.fromkeys(planted_mistakes.LOSSES, _MISTAKES)
)
NEGATIVES: Registry[Callable[..., Any]] = Registry("negatives", NEGATIVES_NAMES, "--negatives.name")

METRICS: Registry[Callable[..., Any]] = Registry(
    "metric", (*METRIC_NAMES, *OWN_METRICS), "--eval.metric"
)
FORMATS: Registry[Callable[..., Any]] = Registry("format", (), "--format")
OPTIMIZERS: Registry[Callable[..., Any]] = Registry(
    "optimizer", OPTIMIZER_NAMES, "--optim.name", {planted_mistakes.ADDED: _MISTAKES}
)
PRESETS: Registry[Callable[[], Config]] = Registry("preset", (), "the preset")
EXPORTS: Registry[Callable[..., Any]] = Registry("export format", (), "--to")
COMMANDS: Registry[Callable[[list[str]], int | None]] = Registry("command", (), "the command")
RULES: Registry[Callable[..., Any]] = Registry("rule", (), "the rule")
CONSTANTS: dict[str, Callable[[int], float]] = {}
"""Functions by the name of a registered loss. Each maps the number of negatives per pair to the
loss at equal scores."""
OF_EMBEDDINGS: set[str] = set()
"""Registered losses that take a batch's embeddings instead of the scores of its pairs."""


def register_model(name: str) -> Callable[[Any], Any]:
    """Register a model under a name, as a decorator.

    The model is a subclass of ``jaxrec.models.Encoder``, or a function that returns one. It is
    called with ``(sizes, config, rngs, **options)``: a :class:`jaxrec.models.ModelSizes`, the
    ``model`` section of the configuration, ``nnx.Rngs`` with the stream ``params``, and
    ``model.options``.

    Raises:
      ValueError: the name is taken or invalid.

    >>> import jax
    >>> import jaxrec
    >>> from flax import nnx
    >>> @jaxrec.register_model("example-table")
    ... class Table(jaxrec.models.Encoder):
    ...     def __init__(self, sizes, config, rngs):
    ...         rows = jax.random.normal(rngs.params(), (sizes.n_nodes, config.dim))
    ...         self.embedding = nnx.Param(rows)
    ...
    ...     def embed(self, graph, key=None):
    ...         return self.embedding[...]
    >>> jaxrec.preset("mf").replace({"model.name": "example-table"}).model.name
    'example-table'
    """
    return MODELS.decorator(name)


def register_loss(
    name: str,
    *,
    constant: Callable[[int], float] | None = None,
    of: Literal["scores", "embeddings"] = "scores",
) -> Callable[[Any], Any]:
    """Register a loss under a name, as a decorator.

    A loss of scores is a pure function ``(pos_B, neg_BN, valid_BN)`` that returns one value per
    pair [B]. It takes the scores of positives [B] and of negatives [B, N], and which negatives
    count, [B, N] bool; None counts all.

    A loss of embeddings is a pure function ``(user_BD, pos_BD, neg, weight_B, valid_BN,
    temperature)`` that returns the value of the batch. It takes vectors [B, D] of the pairs' users
    and positives, negatives [B, N, D] or, if all pairs share them, [S, D], and the pairs' weights
    [B], 0 for padding.

    Args:
      constant: the loss at equal scores as a function of the number of negatives per pair, which
        the doctor compares with a run's loss; by default the loss at scores of 0.
      of: whether the loss takes scores or embeddings.

    Raises:
      ValueError: the name is taken or invalid.

    >>> import jax
    >>> import jaxrec
    >>> @jaxrec.register_loss("example-loss")
    ... def logistic(pos_B, neg_BN, valid_BN=None):
    ...     return jax.nn.softplus(neg_BN - pos_B[:, None]).mean(axis=1, where=valid_BN)
    >>> jaxrec.preset("mf").replace({"loss.name": "example-loss"}).loss.name
    'example-loss'
    """

    def register(loss: Any) -> Any:
        LOSSES.add(name, loss)
        CONSTANTS.pop(name, None)
        OF_EMBEDDINGS.discard(name)
        if of == "embeddings":
            OF_EMBEDDINGS.add(name)
        if constant is not None:
            CONSTANTS[name] = constant
        return loss

    return register


def register_negatives(name: str) -> Callable[[Any], Any]:
    """Register a sampler of negatives under a name, as a decorator.

    The sampler is a pure function ``(key, count, n_items, positives, known)`` that returns items
    [B, count] int32: ``positives`` has user_B, item_B and weight_B [B]; ``known`` holds every
    user's train items by row (``indptr`` [U + 1], ``indices`` [E]), or is None if
    negatives.reject_known is off.

    Raises:
      ValueError: the name is taken or invalid.

    >>> import jaxrec
    >>> from jaxrec import negatives
    >>> @jaxrec.register_negatives("example-negatives")
    ... def some(key, count, n_items, positives, known):
    ...     return negatives.uniform(key, count, n_items, positives.user_B, known)
    >>> jaxrec.preset("mf").replace({"negatives.name": "example-negatives"}).negatives.name
    'example-negatives'
    """
    return NEGATIVES.decorator(name)


def register_metric(name: str) -> Callable[[Any], Any]:
    """Register a ranking metric under a name, as a decorator; results then contain ``name@k``.

    The metric is a pure function ``(hit_BK, n_relevant_B, k)`` that returns one value per user [B].
    Its arguments are whether the item at each rank is relevant [B, K >= k] float32, the number of
    the user's relevant items, and the cut-off.

    Raises:
      ValueError: the name is taken or invalid.

    >>> import jaxrec
    >>> @jaxrec.register_metric("example-first")
    ... def first(hit_BK, n_relevant_B, k):
    ...     return hit_BK[:, 0]
    >>> jaxrec.preset("mf").replace({"eval.metric": "example-first@20"}).metric
    'example-first@20'
    """
    return METRICS.decorator(name)


def register_format(name: str) -> Callable[[Any], Any]:
    """Register a reader of interactions under a name, as a decorator; ``--format`` selects it.

    The reader maps a path to a ``jaxrec.Dataset``. For an unusable file it raises
    ``jaxrec.InputError`` with the file, the line and a fix.

    Raises:
      ValueError: the name is taken or invalid.

    >>> from pathlib import Path
    >>> import jaxrec
    >>> @jaxrec.register_format("example-lines")
    ... def lines(path):
    ...     rows = [line.split() for line in path.read_text().splitlines()]
    ...     return jaxrec.from_numpy([row[0] for row in rows], [row[1] for row in rows])
    >>> _ = Path("sales.lines").write_text("ann tea")
    >>> jaxrec.read("sales.lines", "example-lines").n_edges
    1
    """
    return FORMATS.decorator(name)


def register_optimizer(name: str) -> Callable[[Any], Any]:
    """Register an optimizer under a name, as a decorator; ``optim.name`` selects it.

    The optimizer is a function ``(rate, steps)`` of the learning rate schedule (an
    ``optax.Schedule``) and the length of the run. It returns an ``optax.GradientTransformation``,
    or a ``jaxrec.rowwise.RowOptimizer``, which updates only the rows of a batch.

    Raises:
      ValueError: the name is taken or invalid.

    >>> import jaxrec
    >>> import optax
    >>> @jaxrec.register_optimizer("example-lion")
    ... def lion(rate, steps):
    ...     return optax.lion(rate)
    >>> jaxrec.preset("mf").replace({"optim.name": "example-lion"}).optim.name
    'example-lion'
    """
    return OPTIMIZERS.decorator(name)


def register_preset(name: str) -> Callable[[Any], Any]:
    """Register a function without arguments that returns a ``jaxrec.Config``, as a decorator.

    ``jaxrec presets`` shows its docstring.

    Raises:
      ValueError: the name is taken or invalid.

    >>> import jaxrec
    >>> @jaxrec.register_preset("example-wide")
    ... def wide():
    ...     '''Matrix factorisation with wide embeddings.'''
    ...     return jaxrec.preset("mf").replace({"preset": "example-wide", "model.dim": 512})
    >>> jaxrec.preset("example-wide").model.dim
    512
    """
    return PRESETS.decorator(name)


def register_export(name: str) -> Callable[[Any], Any]:
    """Register a format of ``jaxrec export``, as a decorator.

    The format is a function of the run's embeddings (a ``jaxrec.runfolder.Embeddings``: user
    [U, D], item [I, D], their ids, biases or None) and of the path to write. If it fails, its
    partial output is removed.

    Raises:
      ValueError: the name is taken or invalid.

    >>> import jaxrec
    >>> @jaxrec.register_export("example-ids")
    ... def ids(embeddings, path):
    ...     path.write_text("\\n".join(embeddings.item_ids))
    >>> jaxrec.export("runs/quickstart-1", "example-ids", "ids.txt").name
    'ids.txt'
    """
    return EXPORTS.decorator(name)


def register_command(name: str) -> Callable[[Any], Any]:
    """Register a command of the command line, as a decorator.

    The command is a function of the list of its arguments that returns an exit status; None is 0.
    ``jaxrec --help`` shows the first line of the docstring. The command raises
    ``jaxrec.InputError`` for errors that a user can fix.

    Raises:
      ValueError: the name is taken or invalid.

    >>> import jaxrec
    >>> @jaxrec.register_command("example-hello")
    ... def hello(args):
    ...     '''Say hello.'''
    ...     print("hello", *args)
    >>> hello(["you"])
    hello you
    """
    return COMMANDS.decorator(name)


def register_rule(name: str) -> Callable[[Any], Any]:
    """Register a rule of the doctor, as a decorator; it runs after jaxrec's own rules.

    The rule maps a ``jaxrec.diagnosis.history.Course``, a run's configuration and records, to a
    ``jaxrec.diagnosis.finding.Finding`` or None.

    Raises:
      ValueError: the name is taken or invalid.

    >>> import jaxrec
    >>> from jaxrec.diagnosis.finding import Finding
    >>> @jaxrec.register_rule("example-rule")
    ... def rule(course):
    ...     if course.config.optim.learning_rate < 1:
    ...         return None
    ...     return Finding("example-rule", "the steps are huge", (), "optim", ("--lr 0.01",))
    """
    return RULES.decorator(name)


def named(kinds: Registry[Any], value: Any) -> str:
    """Resolve a registered name, class or function to its name.

    An unregistered class or function is registered as MODULE:NAME.

    Raises:
      InputError: the name is unknown, or the value is neither a name, a class nor a function.
    """
    if isinstance(value, str):
        kinds.check(value)
        return value
    inner = value.func if isinstance(value, partial) else value
    for name, known in kinds.registered().items():
        if known is inner:
            return name
    module, where = getattr(inner, "__module__", None), getattr(inner, "__qualname__", None)
    if not callable(value) or module is None or where is None:
        raise InputError(f"{kinds.kind} must be a name, a class or a function, not {value!r}")
    name = re.sub(r"[^\w.:<>-]", "_", f"{module}:{where}")
    kinds.add(name, inner)
    return name


def options_of(value: Any, given: dict[str, Any] | None) -> tuple[str, ...]:
    """Encode constructor options for config.json as ``name=JSON``, sorted by name.

    Args:
      value: a class or function, or a ``functools.partial`` with keywords.
      given: further options.

    Raises:
      InputError: JSON cannot represent an option.
    """
    keywords = dict(value.keywords) if isinstance(value, partial) else {}
    if isinstance(value, partial) and value.args:
        raise InputError(
            "model: config.json stores only the keyword arguments of a functools.partial; give all "
            "arguments by keyword"
        )
    texts = []
    for name, option in sorted((keywords | (given or {})).items()):
        try:
            texts.append(f"{name}={json.dumps(option, allow_nan=False)}")
        except (TypeError, ValueError) as e:
            raise InputError(
                f"model option {name}: {option!r} cannot be stored as JSON; give numbers, strings, "
                "booleans, None, or lists or dictionaries of them"
            ) from e
    return tuple(texts)


def parsed_options(options: Iterable[str]) -> dict[str, Any]:
    """Parse ``name=JSON`` texts to keyword arguments; a value that is not JSON becomes a string.

    Raises:
      InputError: a text has no "=", or its name is not an identifier.
    """
    found: dict[str, Any] = {}
    for text in options:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"model.options: {text!r} is not NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def load_plugins(plugins: Iterable[str]) -> None:
    """Import plugins by name: entry points of the group ``jaxrec.plugins``, or else modules.

    The current folder is searched last, so that its files cannot shadow installed modules.

    Raises:
      InputError: there is no such module, or it cannot be imported.
    """
    plugins = list(plugins)
    if plugins and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for name in plugins:
        points = importlib.metadata.entry_points(group=ENTRY_POINTS, name=name)
        try:
            if points:
                next(iter(points)).load()
            else:
                importlib.import_module(name)
        except ImportError as e:
            raise InputError(
                f"--plugin {name}: cannot be imported ({e}); give the name of a module on Python's "
                f"path, or of an entry point of the group {ENTRY_POINTS}"
            ) from e


def check_known(config: Config) -> None:
    """Raise InputError if the configuration names something that is not registered."""
    asked: list[tuple[Registry[Any], str]] = [
        (MODELS, config.model.name),
        (LOSSES, config.loss.name),
        (NEGATIVES, config.negatives.name),
        (OPTIMIZERS, config.optim.name),
    ]
    for kinds, name in asked:
        kinds.check(name)
    if config.loss.name in OF_EMBEDDINGS:
        alone = config.mesh.devices == 1 and not config.negatives.hard
        check(
            alone and config.model.score != "mlp",
            f"loss.name {config.loss.name} takes embeddings, which does not work on a mesh of "
            "devices, with negatives.hard or with model.score mlp",
        )
    if config.eval.select_on != "none":
        METRICS.check(config.metric.partition("@")[0], repr(config.metric))

"""The configuration of graph filters, which score in closed form, without training."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from jaxrec.config.checks import POSITIVE, Range, check
from jaxrec.config.models.kind import ModelKind

_ORDERS = {"cheby-cf": 8, "turbo-cf": 2, "gf-cf": 1}
_NEIGHBOURS = ("neighbour_weight", "neighbour_sharpness", "neighbour_power")
EASE = ("ease_l2", "ease_dropout", "ease_user_power", "ease_item_power")
SPARSE = ("cheby-cf", "gf-cf", "turbo-cf")
_SPECTRAL = {"cheby-cf": 0.2, "gf-cf": 0.3}

BLEND: dict[str, Any] = {
    "filter": "cheby-cf",
    "degree_power": 0.3,
    "flatness": 2.5,
    "spectral_weight": 0.3,
    "neighbour_weight": 1.0,
}
"""Options of the filter that improves most when the votes of similar users are added.

They were chosen on a slice of Gowalla's train pairs. On Gowalla's test pairs, the filter without
votes is better, so compare both on validation."""


@dataclass(frozen=True)
class FilterOptions:
    """Options of filter."""

    filter: Literal["cheby-cf", "gf-cf", "turbo-cf", "ease", "popularity"] = "cheby-cf"
    """filter: cheby-cf (a polynomial close to a plateau, plus the leading singular vectors), gf-cf
    (linear, plus the leading singular vectors), turbo-cf (polynomials of degree 1 to 3), ease (a
    dense matrix of items by items), popularity (the same list for all users)."""
    order: Annotated[int | None, Range(1, 64)] = None
    """filter: degree of the polynomial of cheby-cf (default 8) and turbo-cf (default 2)."""
    flatness: Annotated[float, Range(0.01, 100)] = 1.5
    """filter: how flat the plateau of cheby-cf is (phi)."""
    degree_power: Annotated[float, Range(0, 4)] = 0.4
    """filter: cheby-cf divides its input by the item's degree to this power, and multiplies its
    output by the same power (beta)."""
    spectral_weight: Annotated[float | None, Range(0, 1e6)] = None
    """filter: weight of the leading singular vectors of cheby-cf (default 0.2) and gf-cf (default
    0.3)."""
    user_power: Annotated[float, Range(0, 1)] = 0.5
    """filter: share of the normalisation that turbo-cf gives to the users' degrees (alpha)."""
    products: Annotated[int, Range(1, 64)] = 1
    """filter: degree of the polynomial that approximates cheby-cf's own polynomial. The result is
    exact for the model.dim leading singular vectors, and approximate beyond them. A ranking takes
    this many pairs of sparse products."""
    learned_steps: Annotated[int, Range(0, 100_000)] = 0
    """filter: number of gradient steps that learn a change of the filter's polynomial, of the
    weights of its singular vectors by singular value, and of its powers of the items' degrees, on
    train pairs that are hidden meanwhile; 0: no change. Not for ease."""
    ease_l2: Annotated[float, POSITIVE] = 80.0
    """filter: weight of ease's L2 penalty."""
    ease_dropout: Annotated[float, Range(0, 0.99)] = 0.0
    """filter: dropout rate of ease's input (EDLAE). In closed form, it is a penalty on the weights
    of an item in proportion to the item's degree."""
    ease_user_power: Annotated[float, Range(0, 2)] = 0.0
    """filter: ease weighs a user's row by the user's degree to minus this power."""
    ease_item_power: Annotated[float, Range(-1, 1)] = 0.0
    """filter: ease divides its input by the item's degree to this power, and multiplies its output
    by the same power, as degree_power does for cheby-cf."""
    ease_weight: Annotated[float, Range(0, 1e6)] = 0.0
    """filter: weight of ease's scores, which are added to those of another filter after both are
    divided by their standard deviations; 0: no such scores."""
    neighbour_weight: Annotated[float, Range(0, 1e6)] = 0.0
    """filter: weight of the votes of users with similar items, which are added to the filter's
    scores after both are divided by their standard deviations; 0: no votes. Not for ease."""
    neighbour_sharpness: Annotated[float, Range(0.01, 16)] = 1.5
    """filter: the vote of each user is weighted by the user's similarity to this power."""
    neighbour_power: Annotated[float, Range(-4, 4)] = 0.2
    """filter: the votes for an item are divided by its degree to this power."""


def order(model: Any) -> int:
    """Return ``model.order``, or the default of the filter if it is None."""
    return model.order or _ORDERS.get(model.filter, 1)


def spectral_weight(model: Any) -> float:
    """Return ``model.spectral_weight``, or the default of the filter if it is None."""
    given = model.spectral_weight
    return _SPECTRAL.get(model.filter, 0.0) if given is None else given


def _check(model: Any) -> None:
    kind, plain = model.filter, FilterOptions()
    kinds_of_option = {
        "order": ("cheby-cf", "turbo-cf"),
        "flatness": ("cheby-cf",),
        "degree_power": ("cheby-cf",),
        "spectral_weight": ("cheby-cf", "gf-cf"),
        "user_power": ("turbo-cf",),
        "products": ("cheby-cf",),
        **dict.fromkeys((*_NEIGHBOURS, "ease_weight", "learned_steps"), SPARSE),
    }
    if model.ease_weight == 0:
        kinds_of_option |= dict.fromkeys(EASE, ("ease",))
    for name, kinds in kinds_of_option.items():
        check(
            kind in kinds or getattr(model, name) == getattr(plain, name),
            f"model.{name} is for model.filter {' and '.join(kinds)}, not {kind}",
        )
    check(
        kind != "turbo-cf" or order(model) <= 3,
        f"model.order is at most 3 for model.filter turbo-cf, not {model.order}",
    )
    for name in _NEIGHBOURS[1:]:
        check(
            model.neighbour_weight > 0 or getattr(model, name) == getattr(plain, name),
            f"model.{name} needs a model.neighbour_weight above 0",
        )
    plain_options = {"score": "dot", "biases": False, "init": "normal", "init_std": 0.1}
    plain_options |= {"dtype": "float32", "kernel": "auto", "bases": 2, "score_width": 32}
    for name, value in plain_options.items():
        check(
            getattr(model, name) == value,
            f"model.{name} is for models that are trained, and filter is fitted in closed form",
        )


FILTER = ModelKind("filter", None, (FilterOptions,), _check, least_layers=None, fitted=True)

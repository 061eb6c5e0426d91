"""The configuration of PinSAGE, which trains on sampled blocks of the graph."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from jaxrec.config.checks import Range, check
from jaxrec.config.models.kind import ModelKind
from jaxrec.config.models.shared import (
    FeatureOptions,
    HiddenOptions,
    MatrixOptions,
    check_features,
    check_hidden,
    layer_weights,
)

_FAN_OUTS = (10, 5)  # neighbours in the first hop from the batch, and in each later hop


@dataclass(frozen=True)
class PinSAGEOptions:
    """Options of pinsage."""

    neighbors: Literal["importance", "uniform"] = "importance"
    """pinsage: importance takes the nodes that short random walks visit most, weighted by visits;
    uniform takes a uniform sample of the adjacent nodes. Both ignore event weights."""
    fan_outs: Annotated[tuple[int, ...], Range(1, 2**16)] = ()
    """pinsage: neighbours per node, by hop from the batch; by default 10, then 5."""
    walks: Annotated[int, Range(1, 2**16)] = 32
    """pinsage: random walks from each node, for importance neighbours."""
    walk_length: Annotated[int, Range(1, 2**16)] = 2
    """pinsage: steps of a walk; after an even number of steps a walk is on its starting side."""
    sampling: Literal["auto", "device", "host"] = "auto"
    """pinsage: where blocks are sampled; use the host if the graph does not fit on the device."""

    @property
    def hops(self) -> tuple[int, ...]:
        """Neighbours per node in each hop from the batch: ``fan_outs``, or its default."""
        first, other = _FAN_OUTS
        layers: int = self.layers  # type: ignore[attr-defined]  # every model has it
        return self.fan_outs or (first, *(other for _ in range(layers - 1)))


def _check(model: Any) -> None:
    check_hidden(model)
    check_features(model)
    listed = " ".join(map(str, model.fan_outs))
    check(
        len(model.fan_outs) in (0, model.layers),
        f"model.fan_outs needs one number per layer ({model.layers}), not ({listed})",
    )
    reached = model.walks * model.walk_length
    check(
        reached <= 2**16,
        f"model.walks times model.walk_length is {reached:,} steps from a node, and at most "
        f"{2**16:,} are supported; lower one of them",
    )
    check(
        model.neighbors == "uniform" or max(model.hops) <= reached,
        f"model.fan_outs asks for {max(model.hops, default=0)} neighbours, but "
        f"{model.walks} walks of {model.walk_length} visit at most {reached} nodes; raise "
        "model.walks",
    )


PINSAGE = ModelKind(
    "pinsage",
    "jaxrec.models.pinsage",
    (PinSAGEOptions, FeatureOptions, HiddenOptions, MatrixOptions),
    _check,
    sampled=True,
    embeds_new="without ids",
    feature_rows="without ids",
    matrix_weights=layer_weights,
)

"""What a finding is."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from jaxrec.config import Config


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a run, or with embeddings.

    Attributes:
      name: short and stable, for machines.
      title: what is wrong, in a line.
      evidence: figures.
      cause: what most likely leads to them.
      changes: what to change in the configuration, the likeliest first.
    """

    name: str
    title: str
    evidence: tuple[str, ...]
    cause: str
    changes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"evidence": list(self.evidence), "changes": list(self.changes)}

    def lines(self) -> list[str]:
        """As people read it."""
        return [
            f"{self.name}: {self.title}",
            *(f"  seen    {what}" for what in self.evidence),
            f"  cause   {self.cause}",
            *(f"  change  {what}" for what in self.changes),
        ]


Change = str | tuple[str, Callable[[Config], bool]]
"""What may be changed; with a condition, where only some configurations can."""


def changes(config: Config | None, *offered: Change) -> tuple[str, ...]:
    """Those of the changes that are open to a configuration.

    Of embeddings from elsewhere there is none: what depends on one is left out.
    """
    found = []
    for change in offered:
        text, applies = (change, None) if isinstance(change, str) else change
        if applies is None or (config is not None and applies(config)):
            found.append(text)
    return tuple(found)


def mistaken(name: str) -> Callable[[Config], bool]:
    """Whether a configuration makes this mistake on purpose."""
    return lambda config: name in config.mistakes
